/* SPDX-License-Identifier: MIT */
#include "userspace.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "deadline.h"
#include "openssl_side.h"
#include "sys.h"

enum { LOOK_AGAIN_MS = 10 };

/* ---- the BIO under the SSL ---- */

static int bio_fed(struct userspace *u, char *data, int size)
{
	size_t n = (size_t)size < u->feed_left ? (size_t)size : u->feed_left;

	memcpy(data, u->feed, n);
	u->feed += n;
	u->feed_left -= n;
	return (int)n;
}

static int bio_read(BIO *bio, char *data, int size)
{
	struct userspace *u = BIO_get_data(bio);
	ssize_t n;

	BIO_clear_retry_flags(bio);
	if (!u)
		return -1;
	if (u->feed_left)
		return bio_fed(u, data, size);
	if (u->c->control.spent > CONTROL_BUDGET || u->expired)
		return -1;
	n = u->c->kernel[RX] ? -EAGAIN : sys_recv(u->c->fd, data, (size_t)size, MSG_DONTWAIT);
	if (n > 0) {
		record_flow_feed(&u->flow[RX], (const uint8_t *)data, (size_t)n);
		return (int)n;
	}
	u->fin = n == 0;
	u->err = n < 0 && n != -EAGAIN ? (int)n : 0;
	BIO_set_retry_read(bio); /* so that OpenSSL goes on working for the other direction */
	return -1;
}

static int bio_write(BIO *bio, const char *data, int size)
{
	struct userspace *u = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (!u)
		return -1;
	record_flow_feed(&u->flow[TX], (const uint8_t *)data, (size_t)size);
	if (u->key_update_made)
		u->flow[TX].records = 0;
	u->key_update_made = false;
	if (!u->c->kernel[TX])
		outbox_put(&u->out, u->c, data, (size_t)size);
	return size;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	const struct userspace *u = BIO_get_data(bio);

	(void)num;
	if (cmd == BIO_CTRL_FLUSH)
		return 1;
	if (cmd == BIO_CTRL_WPENDING && u)
		return (long)(u->out.end - u->out.at);
	if (cmd != BIO_C_GET_FD || !u)
		return 0;
	if (ptr)
		*(int *)ptr = u->c->fd;
	return u->c->fd;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;

static void make_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOCKET, "tlsfd connection");

	if (m && BIO_meth_set_read(m, bio_read) && BIO_meth_set_write(m, bio_write) &&
	    BIO_meth_set_ctrl(m, bio_ctrl))
		method = m;
	else
		BIO_meth_free(m);
}

static BIO *bio_new(struct userspace *u)
{
	BIO *bio = pthread_once(&once, make_method) == 0 && method ? BIO_new(method) : NULL;

	if (bio) {
		BIO_set_data(bio, u);
		BIO_set_init(bio, 1);
	}
	return bio;
}

/* ---- what OpenSSL tells of what it meets ---- */

static void skip(struct userspace *u)
{
	atomic_fetch_add_explicit(&u->c->control.skipped, 1, memory_order_relaxed);
}

static void see_alert(struct userspace *u, enum way way, uint8_t level, uint8_t number)
{
	struct control *control = &u->c->control;

	if (way == TX)
		u->alert_made = (uint16_t)(level << 8 | number);
	else if (control_is_warning(control->tls13, level, number))
		skip(u);
	else if (number == ALERT_CLOSE_NOTIFY && (control->tls13 || level == ALERT_WARNING))
		u->bye = true;
	else if (control->tls13 || level == ALERT_FATAL)
		connection_note_alert(u->c, number);
}

static bool may_follow(const struct tlsfd *c, bool answer_requested)
{
	return rekey_can(c, RX) && (!answer_requested || rekey_can(c, TX));
}

static void see_key_update(struct userspace *u, enum way way, bool answer_requested)
{
	if (u->c->kernel[way])
		return; /* what it makes of a direction that it no longer has */
	if (way == RX && !may_follow(u->c, answer_requested)) {
		u->expired = true;
		return;
	}
	if (way == RX)
		control_pay_records(&u->c->control, u->flow[RX].records);
	u->flow[way].records = 0;
	u->key_update_made = way == TX; /* OpenSSL tells, and then sends */
	atomic_fetch_add_explicit(&u->c->rekey.done[way], 1, memory_order_relaxed);
	if (way == RX && u->c->kernel[TX] && answer_requested)
		u->key_update = true;
}

static void see_message(struct userspace *u, enum way way, const uint8_t *message, size_t n)
{
	bool is_key_update = message[0] == SSL3_MT_KEY_UPDATE && n == 5;

	if (is_key_update)
		see_key_update(u, way, message[4] == SSL_KEY_UPDATE_REQUESTED);
	if (way == TX)
		return;
	if (is_key_update && !control_was_requested(&u->c->control))
		control_spend(&u->c->control, CONTROL_KEY_UPDATE_COST);
	if (control_spend(&u->c->control, CONTROL_RECORD_COST) && !is_key_update)
		skip(u);
}

static void on_message(int write, int version, int type, const void *data, size_t n, SSL *ssl,
		       void *arg)
{
	struct userspace *u = arg;

	(void)version, (void)ssl;
	if (type == SSL3_RT_ALERT && n == 2)
		see_alert(u, write ? TX : RX, ((const uint8_t *)data)[0],
			  ((const uint8_t *)data)[1]);
	/* else it is a ticket of tickets.c's, and counted */
	if (type == SSL3_RT_HANDSHAKE && n && (write || !u->c->kernel[RX]))
		see_message(u, write ? TX : RX, data, n);
}

/* ---- lifetime ---- */

static void see_earlier_records(struct userspace *u, const SSL *ssl)
{
	const struct watch *w = watch_of(ssl);

	for (enum way way = RX; w && way < WAYS; way++)
		if (!w->way[way].flow.lost)
			u->flow[way] = w->way[way].flow;
	u->change_cipher_specs = u->flow[RX].change_cipher_specs;
}

static void put_on(struct userspace *u, SSL *ssl, BIO *bio)
{
	u->before[RX] = SSL_get_rbio(ssl);
	u->before[TX] = SSL_get_wbio(ssl);
	BIO_up_ref(u->before[RX]);
	BIO_up_ref(u->before[TX]);
	BIO_up_ref(bio);
	u->bio = bio;
	watch_follow(ssl, bio);
	SSL_set_bio(ssl, bio, bio);
	SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				  SSL_MODE_AUTO_RETRY);
	SSL_set_options(ssl, SSL_OP_NO_RENEGOTIATION);
	SSL_set_msg_callback(ssl, on_message);
	SSL_set_msg_callback_arg(ssl, u);
}

int userspace_take(struct tlsfd *c, SSL *ssl)
{
	struct userspace *u = calloc(1, sizeof(*u));
	BIO *bio = u ? bio_new(u) : NULL;

	if (!bio) {
		free(u);
		return -ENOMEM;
	}
	pthread_mutex_init(&u->lock, NULL);
	u->c = c;
	see_earlier_records(u, ssl);
	put_on(u, ssl, bio);
	if (c->ssl != ssl) {
		SSL_up_ref(ssl);
		c->ssl = ssl;
	}
	c->user = u;
	return 0;
}

void userspace_free(struct tlsfd *c)
{
	struct userspace *u = c->user;

	if (!u)
		return;
	/* the SSL may have another owner, who must find nothing of ours */
	SSL_set_msg_callback(c->ssl, NULL);
	BIO_set_data(u->bio, NULL);
	BIO_free(u->bio);
	if (!c->err[RX]) /* without it the session could not be resumed */
		SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	for (enum way way = RX; way < WAYS; way++)
		BIO_free_all(u->before[way]);
	outbox_free(&u->out);
	pthread_mutex_destroy(&u->lock);
	free(u);
	c->user = NULL;
}

/* ---- waiting, outside of OpenSSL ---- */

static bool wait_for(const struct tlsfd *c, short events, int ms)
{
	int n;

	do
		n = sys_poll(c->fd, events, ms);
	while (n == -EINTR);
	return n > 0;
}

static int patience(const struct tlsfd *c, int option, int flags)
{
	return flags & MSG_DONTWAIT ? 0 : sys_patience(c->fd, option);
}

int userspace_wait_to_read(const struct tlsfd *c, short events, int flags)
{
	int ms = patience(c, SO_RCVTIMEO, flags);

	return ms && wait_for(c, events, ms) ? 0 : -EAGAIN;
}

/* The reader may take what the writer waits for, and poll(2) would not tell it. */
int userspace_wait_to_write(const struct tlsfd *c, int flags)
{
	struct deadline deadline = deadline_in(patience(c, SO_SNDTIMEO, flags));
	int ms;

	while ((ms = deadline_left(&deadline))) {
		short events = userspace_wants(c, TX);

		if (events == POLLIN && (ms < 0 || ms > LOOK_AGAIN_MS))
			ms = LOOK_AGAIN_MS;
		if (wait_for(c, events, ms))
			return 0;
	}
	return -EAGAIN;
}

short userspace_wants(const struct tlsfd *c, enum way way)
{
	struct userspace *u = c->user;
	bool empty, half_read;

	pthread_mutex_lock(&u->lock);
	empty = outbox_is_empty(&u->out);
	half_read = SSL_in_init(c->ssl) && !c->err[TX];
	pthread_mutex_unlock(&u->lock);
	if (way == RX)
		return empty ? POLLIN : POLLIN | POLLOUT;
	return empty && half_read ? POLLIN : POLLOUT;
}

void userspace_count(const struct tlsfd *c, enum way way, uint64_t *records)
{
	pthread_mutex_lock(&c->user->lock);
	*records = c->user->flow[way].records;
	pthread_mutex_unlock(&c->user->lock);
}

/* ---- sending ---- */

int userspace_end_message(struct userspace *u)
{
	SSL *ssl = u->c->ssl;
	int ret;

	if (!SSL_in_init(ssl))
		return 0;
	ERR_clear_error();
	ret = SSL_do_handshake(ssl);
	if (ret == 1)
		return 0;
	return SSL_get_error(ssl, ret) == SSL_ERROR_WANT_READ && !u->fin && !u->err ? -EAGAIN :
										      -EPIPE;
}

int userspace_flush(struct tlsfd *c)
{
	int err;

	pthread_mutex_lock(&c->user->lock);
	err = outbox_flush(&c->user->out, c);
	pthread_mutex_unlock(&c->user->lock);
	return err;
}

static int key_update(struct tlsfd *c, bool request)
{
	int type = request ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED;
	int err = outbox_flush(&c->user->out, c);

	if (!err)
		err = userspace_end_message(c->user);
	ERR_clear_error();
	if (!err && (SSL_key_update(c->ssl, type) != 1 || SSL_do_handshake(c->ssl) != 1))
		err = -EIO;
	return err;
}

int userspace_rekey(struct tlsfd *c, bool request, int flags)
{
	int err;

	do {
		pthread_mutex_lock(&c->user->lock);
		err = key_update(c, request);
		pthread_mutex_unlock(&c->user->lock);
	} while (err == -EAGAIN && userspace_wait_to_write(c, flags) == 0);
	return err;
}

/* ---- ending ---- */

static int flush_all(struct tlsfd *c, int flags)
{
	int err;

	do
		err = userspace_flush(c);
	while (err == -EAGAIN && userspace_wait_to_write(c, flags) == 0);
	return err;
}

static int close_notify(struct userspace *u)
{
	int err = u->closed ? 0 : userspace_end_message(u);

	u->out.fin_follows = !err; /* tcp_send_fin(): in one segment with close_notify */
	ERR_clear_error();
	if (!err && !u->closed && SSL_shutdown(u->c->ssl) < 0)
		err = -EPIPE;
	u->closed = u->closed || err == 0;
	return err;
}

int userspace_shutdown(struct tlsfd *c, int flags)
{
	struct userspace *u = c->user;
	int err;

	if (!u)
		return -ENOTCONN;
	do {
		pthread_mutex_lock(&u->lock);
		err = close_notify(u);
		pthread_mutex_unlock(&u->lock);
	} while (err == -EAGAIN && userspace_wait_to_write(c, flags) == 0);
	return err ? err : flush_all(c, flags);
}

/*
 * OpenSSL has no call that sends an alert, but sends one when it reads nonsense: a
 * type that does not exist, a length that can't be, a record that does not decrypt.
 * (In TLS 1.2 it decrypts before it looks at the type.)
 */
int userspace_alert(struct tlsfd *c, uint16_t alert, int flags)
{
	static const uint8_t nonsense[][RECORD_HEADER + 32] = {
		{ 23, 3, 3, 0, 32 },
		{ 99, 3, 3, 0, 32 },
		{ 23, 3, 3, 255, 255 },
	};
	struct userspace *u = c->user;
	uint8_t number = (uint8_t)alert, dropped[256];
	size_t n;

	if (!u)
		return 0;
	pthread_mutex_lock(&u->lock);
	u->feed = nonsense[number == ALERT_RECORD_OVERFLOW    ? 2 :
			   number == ALERT_UNEXPECTED_MESSAGE ? 1 :
								0];
	u->feed_left = sizeof(nonsense[0]);
	ERR_clear_error();
	while (alert >> 8 == ALERT_FATAL && SSL_read_ex(c->ssl, dropped, sizeof(dropped), &n) > 0)
		; /* data that OpenSSL had read before */
	u->feed_left = 0;
	pthread_mutex_unlock(&u->lock);
	return flush_all(c, flags) == -EAGAIN ? -EAGAIN : 0;
}
