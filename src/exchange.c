/*
 * Data through OpenSSL: userspace_read, userspace_write.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "ending.h"
#include "met.h"
#include "openssl_side.h"
#include "owed.h"
#include "session.h"

/* ---- reading ---- */

/* What a read comes to when it is neither data nor -EAGAIN. */
struct end {
	int err;	  /* 0: end of file */
	enum alert alert; /* that is still to be sent */
	const char *sentence;
};

static bool no_record(const struct userspace *u, struct end *e)
{
	const struct control *control = &u->c->control;
	const uint8_t *head = u->flow[RX].head; /* of the record read last */
	size_t length = (size_t)(head[3] << 8 | head[4]);
	size_t most = 16384 + 16 + (control->tls13 ? 1 : 8);

	/* in the order and with the answers of net/tls/tls_sw.c: tls_rx_msg_size */
	if (length > most)
		*e = (struct end){ -EMSGSIZE, ALERT_NONE,
				   "the peer sent a record that is too long" };
	else if (length < 16)
		*e = (struct end){ -EBADMSG, ALERT_NONE, "a record did not decrypt" };
	else if (head[1] != 3 || head[2] != 3)
		*e = (struct end){ -EINVAL, ALERT_NONE,
				   "the peer sent something that is no TLS record" };
	else
		return false;
	return true;
}

/* Anywhere in OpenSSL's queue: versions differ in what they put around it. */
static bool did_not_decrypt(void)
{
	unsigned long error;

	while ((error = ERR_get_error()))
		if (ERR_GET_LIB(error) == ERR_LIB_SSL &&
		    ERR_GET_REASON(error) == SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC)
			return true;
	return false;
}

/* OpenSSL >= 3.2 passes over a ChangeCipherSpec that comes after the handshake, which
 * RFC 8446 section 5 forbids. */
static bool passed_unsealed(const struct userspace *u)
{
	return u->c->control.tls13 && u->flow[RX].change_cipher_specs > u->change_cipher_specs;
}

static struct end protocol_end(const struct userspace *u)
{
	struct end e = { -EPROTO, ALERT_NONE, "the peer sent a record that has no place here" };

	if (tlsfd_alert(u->c) >= 0) {
		e.sentence = "the peer sent a fatal alert";
		return e;
	}
	if (!no_record(u, &e) && did_not_decrypt())
		e = (struct end){ -EBADMSG, ALERT_NONE, "a record did not decrypt" };
	/* OpenSSL's alert went where TX no longer is */
	if (u->c->kernel[TX] && u->alert_made)
		e.alert = (enum alert)(u->alert_made & 0xff);
	return e;
}

static struct end end_of(struct userspace *u, int ret)
{
	if (u->expired && u->alert_made >> 8 != ALERT_FATAL)
		return (struct end){ -EKEYEXPIRED, ALERT_INTERNAL_ERROR,
				     "the peer changed its keys (KeyUpdate)" };
	if (u->bye) /* after user_canceled OpenSSL 3.6 does not say ZERO_RETURN */
		return (struct end){ 0, ALERT_NONE, NULL };
	if (passed_unsealed(u))
		return (struct end){ -EBADMSG, ALERT_BAD_RECORD_MAC, "a record did not decrypt" };
	switch (SSL_get_error(u->c->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		if (u->fin && met(u->c)) /* a writer was told of the reset */
			return (struct end){ met(u->c), ALERT_NONE, NULL };
		if (u->fin)
			return (struct end){ -ECONNABORTED, ALERT_NONE,
					     "the peer ended TCP without close_notify" };
		return (struct end){ u->err ? u->err : -EAGAIN, ALERT_NONE, NULL };
	default:
		break;
	}
	if (u->c->control.spent > CONTROL_BUDGET)
		return (struct end){ -EPROTO, ALERT_UNEXPECTED_MESSAGE,
				     "the peer sent a record that has no place here" };
	return protocol_end(u);
}

/* OpenSSL gives one record at most: on as long as it has more of it. */
static ssize_t read_locked(struct userspace *u, const struct iovec *iov, int count, struct end *e)
{
	ssize_t total = 0;

	outbox_flush(&u->out, u->c);
	ERR_clear_error();
	for (; count; iov++, count--) {
		size_t got = 0;
		int ret;

		if (iov->iov_len == 0)
			continue;
		if (total && !SSL_pending(u->c->ssl))
			break;
		ret = SSL_read_ex(u->c->ssl, iov->iov_base, iov->iov_len, &got);
		if (u->expired || ret <= 0) { /* data from behind the KeyUpdate is none */
			*e = end_of(u, ret);
			break;
		}
		control_pay_back(&u->c->control, got);
		total += (ssize_t)got;
		if (got < iov->iov_len)
			break;
	}
	return total;
}

/* The kernel has TX: what OpenSSL answers goes nowhere. */
static bool take_key_update(struct userspace *u)
{
	bool any = u->key_update;

	u->key_update = false;
	return any;
}

/* A warning of OpenSSL's that has to take the kernel's way. */
static bool take_warning(struct userspace *u)
{
	bool any = u->c->kernel[TX] && u->alert_made >> 8 == ALERT_WARNING;

	if (any)
		u->alert_made = 0;
	return any;
}

static ssize_t finish_read(struct tlsfd *c, const struct end *e)
{
	if (e->err == 0) {
		c->eof = true;
		return 0;
	}
	if (e->err == -ECONNABORTED)
		return connection_fail(c, RX, e->err, e->sentence);
	if (e->sentence)
		return ending_abort(c, e->err, e->alert, e->sentence);
	connection_fail(c, TX, -EPIPE, NULL);
	gate_shut(&c->gate);
	return connection_fail_tcp(c, RX, e->err == -EPIPE ? -ECONNRESET : e->err);
}

ssize_t userspace_read(struct tlsfd *c, const struct iovec *iov, int count, int flags)
{
	struct userspace *u = c->user;
	struct end e = { -ENOTCONN, ALERT_NONE, NULL };

	if (!u)
		return -ENOTCONN;
	do {
		bool warning, key_update;
		short events;
		ssize_t got;

		pthread_mutex_lock(&u->lock);
		got = read_locked(u, iov, count, &e);
		warning = take_warning(u);
		key_update = take_key_update(u);
		events = outbox_is_empty(&u->out) ? POLLIN : POLLIN | POLLOUT;
		pthread_mutex_unlock(&u->lock);
		if (c->sessions)
			sessions_tell(c);
		if (warning)
			ending_refuse_renegotiation(c);
		if (key_update)
			owed_key_update(c);
		if (got)
			return got;
		if (e.err != -EAGAIN)
			return finish_read(c, &e);
		owed_settle(c, c->reader_pays);
		if (userspace_wait_to_read(c, events, flags))
			return -EAGAIN;
	} while (true);
}

/* ---- writing ---- */

/* Where a write is in its iovec. */
struct cursor {
	const struct iovec *iov;
	int count;
	size_t at; /* in *iov */
};

enum { RECORD_MAX = 16384 };

static void advance(struct cursor *k, size_t n)
{
	k->at += n;
	while (k->count && k->at >= k->iov->iov_len) {
		k->at -= k->iov->iov_len;
		k->iov++;
		k->count--;
	}
}

/* The bytes of the next record: where they are, or gathered in scratch. */
static const uint8_t *next_record(const struct cursor *k, uint8_t *scratch, size_t *n)
{
	struct cursor rest = *k;
	const uint8_t *here = (const uint8_t *)k->iov->iov_base + k->at;

	*n = k->iov->iov_len - k->at;
	if (*n >= RECORD_MAX || k->count == 1) {
		*n = *n < RECORD_MAX ? *n : RECORD_MAX;
		return here;
	}
	for (*n = 0; rest.count && *n < RECORD_MAX;) {
		size_t part = rest.iov->iov_len - rest.at;

		part = part < RECORD_MAX - *n ? part : RECORD_MAX - *n;
		memcpy(scratch + *n, (const uint8_t *)rest.iov->iov_base + rest.at, part);
		*n += part;
		advance(&rest, part);
	}
	return scratch;
}

/* One record, if there is room. How much it took, or a negative errno. */
static ssize_t write_locked(struct userspace *u, const uint8_t *data, size_t n)
{
	size_t sent = 0;
	int err = outbox_flush(&u->out, u->c);

	if (!err)
		err = userspace_end_message(u);
	if (err)
		return err;
	ERR_clear_error();
	if (SSL_write_ex(u->c->ssl, data, n, &sent) <= 0)
		return u->out.err ? u->out.err : -EPIPE;
	return u->out.err ? u->out.err : (ssize_t)sent;
}

static ssize_t write_records(struct tlsfd *c, struct cursor *k, size_t *total)
{
	uint8_t scratch[RECORD_MAX];

	while (k->count) {
		size_t n;
		const uint8_t *data = next_record(k, scratch, &n);
		ssize_t sent;

		pthread_mutex_lock(&c->user->lock);
		sent = write_locked(c->user, data, n);
		pthread_mutex_unlock(&c->user->lock);
		if (sent < 0)
			return sent;
		*total += (size_t)sent;
		advance(k, (size_t)sent);
	}
	return userspace_flush(c);
}

ssize_t userspace_write(struct tlsfd *c, const struct iovec *iov, int count, int flags)
{
	struct cursor k = { iov, count, 0 };
	size_t total = 0;
	ssize_t err;

	if (!c->user)
		return -ENOTCONN;
	advance(&k, 0);
	do
		err = k.count || total ? write_records(c, &k, &total) : 0;
	while (err == -EAGAIN && userspace_wait_to_write(c, flags) == 0);
	return total ? (ssize_t)total : err;
}
