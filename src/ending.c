/* SPDX-License-Identifier: MIT */
#include "ending.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "deadline.h"
#include "owed.h"
#include "reading.h"
#include "sys.h"
#include "userspace.h"

enum {
	DRAIN_MAX = 16 << 20, /* bytes of data that tlsfd_finish throws away */
	PAUSE_MS = 2,
};

/* ---- alerts ---- */

int ending_abort(struct tlsfd *c, int err, enum alert alert, const char *sentence)
{
	err = connection_fail(c, RX, err, sentence);
	connection_fail(c, TX, -EPIPE, sentence);
	if (c->kernel[RX])
		sys_clear_error(c->fd); /* or our alert fails */
	if (alert == ALERT_NONE)
		gate_shut(&c->gate);
	else
		owed_alert(c, ALERT_FATAL, alert);
	return err;
}

void ending_refuse_renegotiation(struct tlsfd *c)
{
	owed_alert(c, ALERT_WARNING, ALERT_NO_RENEGOTIATION);
}

/* ---- close_notify and FIN ---- */

static int send_fin(struct tlsfd *c)
{
	int err = c->fin_sent ? 0 : sys_shutdown(c->fd, SHUT_WR);

	c->fin_sent = true;
	/* ENOTCONN: TCP has ended meanwhile */
	return err ? connection_fail(c, TX, err == -ENOTCONN ? -EPIPE : err,
				     "the connection is closed for writing") :
		     0;
}

/* close_notify, behind what is owed. An error that was there first stays. */
static int close_notify(struct tlsfd *c, int flags)
{
	static const uint8_t alert[] = { ALERT_WARNING, ALERT_CLOSE_NOTIFY };
	int err = owed_pay(c, OWED_ALL, flags);

	if (err == -EAGAIN)
		return err;
	if (gate_is_shut(&c->gate))
		return c->user && userspace_flush(c) == -EAGAIN ? -EAGAIN : c->err[TX];
	err = c->kernel[TX] ? owed_send_alert(c, alert, flags) : userspace_shutdown(c, flags);
	if (err == -EAGAIN)
		return err;
	if (err) {
		gate_shut(&c->gate);
		return connection_fail_tcp(c, TX, err);
	}
	gate_close(&c->gate);
	return 0;
}

static int shut_down(struct tlsfd *c, int flags)
{
	int err;

	if (!c->open)
		return -ENOTCONN;
	if (gate_is_closed(&c->gate))
		return send_fin(c);
	gate_enter(&c->gate);
	err = close_notify(c, flags);
	if (gate_leave(&c->gate))
		owed_settle(c, OWED_ALL);
	return err ? err : send_fin(c);
}

int tlsfd_shutdown(struct tlsfd *c)
{
	return shut_down(c, 0);
}

/* ---- both ways, to the end ---- */

struct finish {
	int sending, reading; /* -EAGAIN while they go on; else the result */
	size_t budget;
};

/* True if bytes came. */
static bool drain(struct tlsfd *c, struct finish *f, const struct deadline *deadline)
{
	uint8_t buf[16384];
	struct iovec iov = { buf, sizeof(buf) };
	size_t before = f->budget;
	ssize_t n;

	while ((n = reading_take(c, &iov, 1, MSG_DONTWAIT)) > 0 && deadline_left(deadline)) {
		if (f->budget < (size_t)n) {
			f->reading = -EFBIG;
			return true;
		}
		f->budget -= (size_t)n;
	}
	f->reading = n > 0 ? -EAGAIN : (int)n;
	return f->budget != before;
}

/* After an error: has the peer's TCP all that we sent (the alert, above all)? What is
 * unread can't be read, and close(2) will reset the connection. */
static bool delivered(const struct tlsfd *c)
{
	int left = 0;

	return ioctl(c->fd, SIOCOUTQ, &left) < 0 || left == 0;
}

static int linger(struct tlsfd *c, const struct deadline *deadline)
{
	c->fin_sent = sys_shutdown(c->fd, SHUT_WR) == 0 || c->fin_sent;
	while (!delivered(c) && deadline_left(deadline))
		sys_poll(-1, 0, PAUSE_MS);
	return atomic_load(&c->err[RX]);
}

static int finish(struct tlsfd *c, struct finish *f, const struct deadline *deadline)
{
	bool idle = false;

	for (;;) {
		short events = 0;
		int err;

		if (f->sending == -EAGAIN)
			f->sending = shut_down(c, MSG_DONTWAIT);
		if (f->reading == -EAGAIN && drain(c, f, deadline))
			idle = false;
		events |= f->sending == -EAGAIN ? POLLOUT : 0;
		events |= f->reading == -EAGAIN ? POLLIN : 0;
		if (!events)
			return 0;
		/* before Linux 6.5 poll says POLLIN for a part of a record */
		if (idle)
			sys_poll(-1, 0, PAUSE_MS);
		err = deadline_wait(deadline, c->fd, events);
		if (err)
			return err;
		idle = true;
	}
}

int tlsfd_finish(struct tlsfd *c, int timeout_ms)
{
	struct finish f = { -EAGAIN, -EAGAIN, DRAIN_MAX };
	struct deadline deadline = deadline_in(timeout_ms);
	int err = finish(c, &f, &deadline);

	if (err)
		return err;
	if (atomic_load(&c->err[RX]))
		return linger(c, &deadline);
	return f.reading ? f.reading : f.sending;
}
