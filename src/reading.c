/* SPDX-License-Identifier: MIT */
#include "reading.h"

#include <errno.h>
#include <limits.h>

#include "ending.h"
#include "met.h"
#include "owed.h"
#include "session.h"
#include "sys.h"
#include "tickets.h"
#include "userspace.h"

static int fail_read(struct tlsfd *c, int err)
{
	switch (err) {
	case -EAGAIN:
		owed_settle(c, c->reader_pays);
		return err;
	case -EBADMSG:
		return ending_abort(c, err, ALERT_BAD_RECORD_MAC, "a record did not decrypt");
	case -EMSGSIZE:
		return ending_abort(c, err, ALERT_RECORD_OVERFLOW,
				    "the peer sent a record that is too long");
	case -EINVAL:
		return ending_abort(c, err,
				    c->control.tls13 ? ALERT_DECODE_ERROR : ALERT_PROTOCOL_VERSION,
				    "the peer sent something that is no TLS record");
	case -EKEYEXPIRED:
		return ending_abort(c, err, ALERT_INTERNAL_ERROR,
				    "the peer changed its keys (KeyUpdate)");
	case -EPIPE: /* how TCP calls a reset that came after the peer's FIN */
		err = -ECONNRESET;
		break;
	}
	connection_fail(c, TX, -EPIPE, NULL);
	gate_shut(&c->gate); /* or sends would "succeed" for ever */
	return connection_fail_tcp(c, RX, err);
}

/* FIN, or what the kernel says for ever behind an error that it has told. */
static int truncated(struct tlsfd *c)
{
	if (met(c))
		return fail_read(c, met(c));
	return connection_fail(c, RX, -ECONNABORTED, "the peer ended TCP without close_notify");
}

/* ---- records that are not data ---- */

static int next_rx_key(struct tlsfd *c)
{
	uint64_t records;

	if (!attach_count(c->fd, RX, &records))
		control_pay_records(&c->control, records);
	return rekey_rx(c);
}

/* RX first: what comes behind the KeyUpdate can't be read otherwise. */
static int follow_key_update(struct tlsfd *c)
{
	int err = c->control.update_requested && !rekey_can(c, TX) ? -EOPNOTSUPP : next_rx_key(c);

	if (err == -EOPNOTSUPP || err == -EBUSY)
		return fail_read(c, -EKEYEXPIRED);
	if (err)
		return ending_abort(c, err, ALERT_INTERNAL_ERROR,
				    "the peer's next key could not be set");
	if (c->control.update_requested)
		owed_key_update(c);
	return 0;
}

/* 0: go on, or the end of file (c->eof); else the error. */
static int obey(struct tlsfd *c, enum control_verdict verdict)
{
	if (c->sessions)
		sessions_tell(c);
	switch (verdict) {
	case CONTROL_GO_ON:
		if (c->control.asked_renegotiation)
			ending_refuse_renegotiation(c);
		c->control.asked_renegotiation = false;
		return 0;
	case CONTROL_END:
		c->eof = true;
		tickets_free(c->control.tickets);
		c->control.tickets = NULL;
		return 0;
	case CONTROL_ALERT:
		connection_note_alert(c, c->control.alert);
		return ending_abort(c, -EPROTO, ALERT_NONE, "the peer sent a fatal alert");
	case CONTROL_KEY_UPDATE:
		return follow_key_update(c);
	case CONTROL_WRONG:
		break;
	}
	return ending_abort(c, -EPROTO, c->control.alert,
			    "the peer sent a record that has no place here");
}

/* EKEYEXPIRED, and no KeyUpdate is complete. */
static int resume(struct tlsfd *c)
{
	int err = obey(c, control_stopped(&c->control));

	return !err && rekey_resume(c) ? fail_read(c, -EKEYEXPIRED) : err;
}

static int record_type(struct msghdr *msg)
{
	const struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);

	if (!cmsg || cmsg->cmsg_level != SOL_TLS || cmsg->cmsg_type != TLS_GET_RECORD_TYPE)
		return -1;
	return *CMSG_DATA(cmsg);
}

/* One recvmsg: what came to iov, and the type of its record; -1 when none came. */
static ssize_t receive_typed(int fd, const struct iovec *iov, int flags, int *type, bool *whole)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(1)];
	} control;
	struct msghdr msg = {
		.msg_iov = (struct iovec *)iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t got = sys_recvmsg(fd, &msg, flags);

	*type = got < 0 ? -1 : record_type(&msg);
	*whole = got >= 0 && msg.msg_flags & MSG_EOR;
	return got;
}

/* Takes (a part of) the next record: 0 if it was no data, else as tlsfd_read; the end
 * of file is in c->eof. */
static ssize_t take_typed(struct tlsfd *c, const struct iovec *iov, int flags)
{
	bool whole;
	int type;
	ssize_t got = receive_typed(c->fd, iov, flags, &type, &whole);

	if (got == -EKEYEXPIRED)
		return resume(c);
	if (got < 0)
		return fail_read(c, (int)got);
	if (type < 0)
		return truncated(c);
	if (type == RECORD_DATA)
		return got ? got : obey(c, control_empty_data(&c->control));
	/* an empty record is whole, though the kernel may not say so */
	return obey(c, control_take(&c->control, (uint8_t)type, iov->iov_base, (size_t)got,
				    whole || got == 0));
}

/* ---- data ---- */

/* recv(2) takes data only: it leaves any other record where it is and says EIO
 * (net/tls/tls_sw.c: tls_record_content_type). This spares the data path recvmsg. */
static ssize_t receive_data(const struct tlsfd *c, const struct iovec *iov, int count, int flags)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count };

	if (count == 1)
		return sys_recv(c->fd, iov->iov_base, iov->iov_len, flags);
	return sys_recvmsg(c->fd, &msg, flags);
}

/* The first stretch of iov behind its first have bytes; false: there is none. */
static bool room_behind(const struct iovec *iov, int count, size_t have, struct iovec *room)
{
	for (; count; iov++, count--) {
		if (have < iov->iov_len) {
			room->iov_base = (uint8_t *)iov->iov_base + have;
			room->iov_len = iov->iov_len - have;
			return true;
		}
		have -= iov->iov_len;
	}
	return false;
}

/* got: what receive_data said, when it is not simply data. */
static ssize_t read_on(struct tlsfd *c, const struct iovec *iov, int count, int flags, ssize_t got)
{
	struct iovec first;
	int err;

	if (!room_behind(iov, count, 0, &first))
		return 0;
	/* 0 can be an empty data record with another one behind it */
	while (got == -EIO || got == 0 || got == -EKEYEXPIRED) {
		got = got == -EKEYEXPIRED ? resume(c) : take_typed(c, &first, flags);
		if (got || c->eof)
			break;
		got = receive_data(c, iov, count, flags);
	}
	if (c->eof || c->err[RX])
		return c->eof ? 0 : c->err[RX];
	if (got < 0)
		return fail_read(c, (int)got);
	err = c->control.unsettled ? obey(c, control_data(&c->control, (size_t)got)) : 0;
	return err ? err : got;
}

static ssize_t ended(const struct tlsfd *c)
{
	return atomic_load_explicit(&c->err[RX], memory_order_relaxed);
}

/*
 * The kernel decrypts what is behind the data until the buffer is full, and poll(2) then
 * doesn't tell of a KeyUpdate (net/tls/tls_main.c: tls_sk_poll). So nothing may be left
 * behind a short read. An end or an error that is met is kept for the next call.
 */
static ssize_t look_ahead(struct tlsfd *c, const struct iovec *iov, int count, ssize_t have)
{
	struct iovec room;

	while (!ended(c) && !c->eof && room_behind(iov, count, (size_t)have, &room)) {
		ssize_t got =
			read_on(c, &room, 1, MSG_DONTWAIT, receive_data(c, &room, 1, MSG_DONTWAIT));

		if (got <= 0)
			break;
		have += got;
	}
	return have;
}

/* The kernel passes over empty data records without a word; that it counts them is asked
 * for only where no data comes between two such answers. */
static ssize_t nothing(struct tlsfd *c)
{
	uint64_t number;
	int err;

	if (!c->control.quiet) {
		c->control.quiet = 1;
		return -EAGAIN;
	}
	err = attach_count(c->fd, RX, &number);
	if (!err)
		err = obey(c, control_nothing(&c->control, number));
	return c->err[RX] ? err : -EAGAIN;
}

/* got: what receive_data said. */
static ssize_t settle(struct tlsfd *c, const struct iovec *iov, int count, int flags, ssize_t got)
{
	if (got <= 0 || c->control.unsettled)
		got = read_on(c, iov, count, flags, got);
	if (got == -EAGAIN)
		return nothing(c);
	c->control.quiet = 0;
	return got > 0 && c->rekey.in_kernel ? look_ahead(c, iov, count, got) : got;
}

ssize_t tlsfd_read(struct tlsfd *c, void *buf, size_t n)
{
	struct iovec iov = { buf, n };
	ssize_t got = ended(c);

	if (got || n == 0 || c->eof)
		return got;
	if (!c->kernel[RX])
		return userspace_read(c, &iov, 1, 0);
	got = sys_recv(c->fd, buf, n, 0);
	if (got == (ssize_t)n && !c->control.unsettled) {
		c->control.quiet = 0;
		return got;
	}
	return settle(c, &iov, 1, 0, got);
}

static bool has_room(const struct iovec *iov, int count)
{
	while (count && iov->iov_len == 0)
		iov++, count--;
	return count;
}

ssize_t reading_take(struct tlsfd *c, const struct iovec *iov, int count, int flags)
{
	ssize_t got = ended(c);

	if (got || c->eof || !has_room(iov, count))
		return got;
	if (!c->kernel[RX])
		return userspace_read(c, iov, count, flags);
	return settle(c, iov, count, flags, receive_data(c, iov, count, flags));
}

ssize_t tlsfd_readv(struct tlsfd *c, const struct iovec *iov, int count)
{
	return count < 0 || count > IOV_MAX ? -EINVAL : reading_take(c, iov, count, 0);
}

/* ---- for those who read the fd themselves ---- */

/* The next record, untouched: 1 data, 0 another, or an error as tlsfd_read. */
static int peek(struct tlsfd *c)
{
	uint8_t byte;
	struct iovec iov = { &byte, 1 };
	bool whole;
	int type;
	ssize_t got;

	do
		got = receive_typed(c->fd, &iov, MSG_PEEK | MSG_DONTWAIT, &type, &whole);
	while (got == -EKEYEXPIRED && !resume(c));
	if (got < 0)
		return fail_read(c, (int)got);
	if (type < 0)
		return truncated(c);
	return type == RECORD_DATA && got > 0;
}

int reading_attend(struct tlsfd *c, int said)
{
	uint8_t buf[512];
	struct iovec iov = { buf, sizeof(buf) };
	int next;

	c->control.quiet = 0; /* others read here too */
	for (;; said = 0) {
		if (c->err[RX] || c->eof)
			return c->err[RX];
		next = peek(c);
		if (next == -EAGAIN && said == -EINVAL)
			return fail_read(c, said); /* nor was it splice(2) at a control record */
		if (next < 0)
			return next;
		if (next) {
			next = c->control.unsettled ? obey(c, control_data(&c->control, 1)) : 0;
			return next ? next : 1;
		}
		next = (int)take_typed(c, &iov, MSG_DONTWAIT);
		if (next < 0)
			return next;
	}
}
