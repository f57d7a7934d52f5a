/* SPDX-License-Identifier: MIT */
#include "owed.h"

#include <errno.h>
#include <poll.h>

#include "deadline.h"
#include "met.h"
#include "sys.h"
#include "userspace.h"

int owed_send(struct tlsfd *c, uint8_t type, const void *data, size_t n, int flags)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(1)];
	} control = { .align = { .cmsg_len = CMSG_LEN(1),
				 .cmsg_level = SOL_TLS,
				 .cmsg_type = TLS_SET_RECORD_TYPE } };
	struct iovec iov = { (void *)data, n };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t sent;

	*CMSG_DATA(&control.align) = type;
	sent = sys_sendmsg(c->fd, &msg, MSG_NOSIGNAL | flags);
	if (met_sending(c, sent))
		sent = sys_sendmsg(c->fd, &msg, MSG_NOSIGNAL | flags);
	return sent < 0 ? (int)sent : 0;
}

/* ---- alerts ---- */

enum { ALERT_ROOM = 64 << 10 };

/*
 * The kernel also takes an alert behind a record of which TCP had room for a part
 * (net/tls/tls_sw.c: tls_sw_sendmsg_locked passes over -EAGAIN), and FIN would then cut
 * both off. A call that waits for ever leaves nothing behind; any other is made when there
 * is room for a record and the alert.
 */
static bool has_room(const struct tlsfd *c, int flags)
{
	int patience = flags & MSG_DONTWAIT ? 0 : sys_patience(c->fd, SO_SNDTIMEO);
	struct deadline deadline = deadline_in(patience);
	int size = 0, room = ALERT_ROOM;
	socklen_t len = sizeof(size);

	if (patience < 0)
		return true;
	if (sys_poll(c->fd, POLLOUT, 0) == 0 &&
	    deadline_wait(&deadline, c->fd, POLLOUT) == -ETIMEDOUT)
		return false;
	if (sys_getsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, &len) == 0 && size < 2 * room)
		sys_setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	return true;
}

int owed_send_alert(struct tlsfd *c, const uint8_t alert[2], int flags)
{
	return has_room(c, flags) ? owed_send(c, RECORD_ALERT, alert, 2, flags) : -EAGAIN;
}

static int pay_alert(struct tlsfd *c, int flags)
{
	uint16_t alert = gate_alert(&c->gate);
	uint8_t bytes[] = { (uint8_t)(alert >> 8), (uint8_t)alert };
	int err;

	if (!alert)
		return 0;
	err = c->kernel[TX] ? owed_send_alert(c, bytes, flags) : userspace_alert(c, alert, flags);
	if (err == -EAGAIN)
		return err;
	gate_alert_sent(&c->gate, alert);
	return 0;
}

/* ---- all that is owed ---- */

static int pay_key_update(struct tlsfd *c, int flags)
{
	int err;

	if (!gate_take_key_update(&c->gate))
		return 0;
	err = rekey_tx(c, false, flags);
	if (err == -EAGAIN) {
		gate_post_key_update(&c->gate);
	} else if (err) {
		connection_fail_tcp(c, TX, err);
		gate_shut(&c->gate);
	}
	return err;
}

int owed_pay(struct tlsfd *c, unsigned what, int flags)
{
	int err = pay_alert(c, flags);

	return err || !(what & GATE_KEY_UPDATE) ? err : pay_key_update(c, flags);
}

void owed_settle(struct tlsfd *c, unsigned what)
{
	while (gate_owes(&c->gate) & what && gate_try(&c->gate)) {
		int err = owed_pay(c, what, MSG_DONTWAIT);

		gate_leave(&c->gate);
		if (err)
			return;
	}
}

void owed_key_update(struct tlsfd *c)
{
	gate_post_key_update(&c->gate);
	owed_settle(c, c->reader_pays);
}

void owed_alert(struct tlsfd *c, enum alert_level level, enum alert alert)
{
	gate_post_alert(&c->gate, (uint16_t)(level << 8 | alert), level == ALERT_FATAL);
	owed_settle(c, c->reader_pays);
}
