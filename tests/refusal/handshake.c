/*
 * The handshake, and what could be seen of it: not finished, not prepared, the
 * callbacks of tlsfd_prepare replaced, another context chosen by server name.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "credentials.h"
#include "refused.h"
#include "suite.h"

static const struct variant tls13 = TLS13, tls12 = TLS12;

static struct variant server_of(struct variant v, bool server)
{
	v.server = server;
	return v;
}

/* ---- not finished ---- */

static void no_ssl(void **state)
{
	struct tlsfd *conn = (struct tlsfd *)1;
	struct tlsfd_report *r = (struct tlsfd_report *)1;

	(void)state;
	assert_int_equal(tlsfd_handover(NULL, &conn, &r), -EINVAL);
	assert_null(conn);
	assert_null(r);
}

static void no_or_wrong_directions(void **state)
{
	struct link *l = link_made(&tls13);
	struct tlsfd *conn;

	(void)state;
	assert_int_equal(tlsfd_handover_directions(l->us.ssl, 0, &conn, NULL), -EINVAL);
	assert_int_equal(tlsfd_handover_directions(l->us.ssl, 4, &conn, NULL), -EINVAL);
	assert_int_equal(tlsfd_handover_directions(l->us.ssl, TLSFD_RX, NULL, NULL), -EINVAL);
	assert_int_equal(tlsfd_handover_directions(l->us.ssl, TLSFD_TX, NULL, NULL), -EINVAL);
	assert_goes_on(l);
	link_free(l);
}

static void not_started(void **state)
{
	struct link *l = link_new(*state);

	link_open(l);
	assert_refused(l->us.ssl, -ENOTCONN, TLSFD_WHY_HANDSHAKE);
	link_handshake(l, NULL);
	assert_goes_on(l);
	assert_moves(l);
	link_free(l);
}

/* Between every two steps of the handshake. */
static void half_done(void **state)
{
	struct link *l = link_new(*state);
	int refusals = 0;

	link_open(l);
	for (int i = 0; i < 20 && SSL_do_handshake(l->us.ssl) != 1; i++) {
		assert_refused(l->us.ssl, -ENOTCONN, TLSFD_WHY_HANDSHAKE);
		refusals++;
		SSL_do_handshake(l->peer.ssl);
		link_wait(l);
	}
	assert_true(refusals >= 1);
	link_handshake(l, NULL);
	assert_goes_on(l);
	assert_moves(l);
	link_free(l);
}

/* ---- not prepared ---- */

static void not_prepared(void **state)
{
	struct variant v = *(const struct variant *)*state;
	struct link *l;

	v.unprepared = true;
	l = link_made(&v);
	move(l, 10, 10);
	assert_refused(l->us.ssl, -ENODATA, TLSFD_WHY_NOT_PREPARED);
	assert_goes_on(l);
	link_free(l);
}

static void prepared_too_late(void **state)
{
	struct variant v = *(const struct variant *)*state;
	struct link *l;

	v.unprepared = true;
	l = link_made(&v);
	assert_int_equal(tlsfd_prepare(l->us.ctx), 0);
	assert_refused(l->us.ssl, -ENODATA, TLSFD_WHY_NOT_PREPARED);
	assert_goes_on(l);
	link_free(l);
}

/* ---- a servername callback that switches ---- */

static SSL_CTX *other_context;

static int switch_context(SSL *ssl, int *alert, void *arg)
{
	(void)alert, (void)arg;
	assert_non_null(SSL_set_SSL_CTX(ssl, other_context));
	return SSL_TLSEXT_ERR_OK;
}

static struct link *switched(const struct variant *v, bool prepared)
{
	struct variant server = server_of(*v, true);
	struct link *l = link_new(&server);

	other_context = SSL_CTX_new(TLS_server_method());
	use_credentials(other_context, KEY_P256);
	if (prepared)
		assert_int_equal(tlsfd_prepare(other_context), 0);
	SSL_CTX_set_tlsext_servername_callback(l->us.ctx, switch_context);
	link_open(l);
	assert_int_equal(SSL_set_tlsext_host_name(l->peer.ssl, "other.example"), 1);
	link_handshake(l, NULL);
	assert_ptr_equal(SSL_get_SSL_CTX(l->us.ssl), other_context);
	return l;
}

static void end_switched(struct link *l)
{
	link_free(l);
	SSL_CTX_free(other_context);
}

static void to_a_prepared_context(void **state)
{
	struct link *l = switched(*state, true);

	assert_moves(l);
	end_switched(l);
}

/* The secrets of TLS 1.3 went to no callback; TLS 1.2 needs none. */
static void to_an_unprepared_context(void **state)
{
	struct link *l = switched(*state, false);

	if (l->v.version == TLS1_3_VERSION) {
		assert_refused(l->us.ssl, -ENODATA, TLSFD_WHY_NOT_PREPARED);
		assert_goes_on(l);
	} else {
		assert_moves(l);
	}
	end_switched(l);
}

/* ---- callbacks replaced ---- */

static void own_keylog(const SSL *ssl, const char *line)
{
	(void)ssl, (void)line;
}

static void own_info(const SSL *ssl, int where, int ret)
{
	(void)ssl, (void)where, (void)ret;
}

static long own_bio(BIO *bio, int oper, const char *argp, size_t len, int argi, long argl, int ret,
		    size_t *processed)
{
	(void)bio, (void)oper, (void)argp, (void)len, (void)argi, (void)argl, (void)processed;
	return ret;
}

static void keylog_replaced(void **state)
{
	struct link *l = link_new(*state);

	SSL_CTX_set_keylog_callback(l->us.ctx, own_keylog);
	link_connect(l);
	if (l->v.version == TLS1_3_VERSION) {
		assert_refused(l->us.ssl, -ENODATA, TLSFD_WHY_CALLBACK_REPLACED);
		assert_goes_on(l);
	} else {
		assert_moves(l);
	}
	link_free(l);
}

/* TLS 1.3 has the key log to see where records begin to count. */
static void info_of_the_ssl(void **state)
{
	struct link *l = link_new(*state);

	link_open(l);
	SSL_set_info_callback(l->us.ssl, own_info);
	link_handshake(l, NULL);
	if (l->v.version == TLS1_2_VERSION) {
		assert_refused(l->us.ssl, -ENODATA, TLSFD_WHY_CALLBACK_REPLACED);
		assert_goes_on(l);
	} else {
		assert_moves(l);
	}
	link_free(l);
}

static void info_of_the_context(void **state)
{
	struct link *l = link_new(*state);

	SSL_CTX_set_info_callback(l->us.ctx, own_info);
	link_connect(l);
	if (l->v.version == TLS1_2_VERSION) {
		assert_refused(l->us.ssl, -ENODATA, TLSFD_WHY_CALLBACK_REPLACED);
		assert_goes_on(l);
	} else {
		assert_moves(l);
	}
	link_free(l);
}

/* Replaced when the handshake is over: what was needed has been seen. */
static void context_callbacks_replaced_afterwards(void **state)
{
	struct link *l = link_made(*state);

	SSL_CTX_set_keylog_callback(l->us.ctx, own_keylog);
	SSL_CTX_set_info_callback(l->us.ctx, own_info);
	assert_moves(l);
	link_free(l);
}

/* A BIO callback of the program over ours: bytes pass unseen. */
static void bio_callback_replaced(void **state)
{
	struct link *l = link_made(*state);

	move(l, 10, 10);
	BIO_set_callback_ex(SSL_get_rbio(l->us.ssl), own_bio);
	move(l, 10, 10);
	assert_refused(l->us.ssl, -ENODATA, TLSFD_WHY_CALLBACK_REPLACED);
	assert_goes_on(l);
	link_free(l);
}

/* One that was there before the handshake goes on being called. */
static void bio_callback_before(void **state)
{
	struct link *l = link_new(*state);

	link_open(l);
	BIO_set_callback_ex(SSL_get_rbio(l->us.ssl), own_bio);
	link_handshake(l, NULL);
	assert_moves(l);
	link_free(l);
}

#if OPENSSL_VERSION_NUMBER < 0x40000000L
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static long old_bio(BIO *bio, int oper, const char *argp, int argi, long argl, long ret)
{
	(void)bio, (void)oper, (void)argp, (void)argi, (void)argl;
	return ret;
}

static void old_bio_callback(void **state)
{
	struct link *l = link_new(*state);

	link_open(l);
	BIO_set_callback(SSL_get_rbio(l->us.ssl), old_bio);
	link_handshake(l, NULL);
	assert_refused(l->us.ssl, -ENODATA, TLSFD_WHY_CALLBACK_REPLACED);
	assert_true(BIO_get_callback(SSL_get_rbio(l->us.ssl)) == old_bio);
	assert_goes_on(l);
	link_free(l);
}
#endif

/* ---- closed ---- */

static void close_notify_sent(void **state)
{
	struct link *l = link_made(*state);

	assert_int_equal(SSL_shutdown(l->us.ssl), 0);
	assert_refused(l->us.ssl, -ENOTCONN, TLSFD_WHY_CLOSED);
	move(l, 0, 0);
	link_free(l);
}

static void close_notify_received(void **state)
{
	struct link *l = link_made(*state);
	char byte;

	assert_int_equal(SSL_shutdown(l->peer.ssl), 0);
	while (!(SSL_get_shutdown(l->us.ssl) & SSL_RECEIVED_SHUTDOWN)) {
		wait_for(l->us.fd, POLLIN);
		assert_true(SSL_read(l->us.ssl, &byte, 1) <= 0);
	}
	assert_refused(l->us.ssl, -ENOTCONN, TLSFD_WHY_CLOSED);
	/* our direction is still open */
	move(l, 70000, 0);
	link_free(l);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		CMUnitTestFunction test;
	} tests[] = {
		{ "handshake not started", not_started },
		{ "handshake half done", half_done },
		{ "not prepared", not_prepared },
		{ "prepared after the handshake", prepared_too_late },
		{ "key log callback replaced", keylog_replaced },
		{ "info callback of the SSL", info_of_the_ssl },
		{ "info callback of the context replaced", info_of_the_context },
		{ "context callbacks replaced afterwards", context_callbacks_replaced_afterwards },
		{ "BIO callback replaced", bio_callback_replaced },
		{ "BIO callback before the handshake", bio_callback_before },
		{ "BIO callback of the old kind", old_bio_callback },
		{ "close_notify sent", close_notify_sent },
		{ "close_notify received", close_notify_received },
		{ "servername switches to a prepared context", to_a_prepared_context },
		{ "servername switches to an unprepared context", to_an_unprepared_context },
	};

	suite_add(no_ssl, NULL, 0, "no SSL");
	suite_add(no_or_wrong_directions, NULL, 0, "no directions, or unknown ones");
	for (size_t i = 0; i < LENGTH(tests); i++) {
		for (int k = 0; k < 4; k++) {
			struct variant v = server_of(k & 2 ? tls12 : tls13, k & 1);
			bool by_name = strstr(tests[i].name, "servername") != NULL;

			if (!by_name || v.server)
				suite_add(tests[i].test, &v, sizeof(v), "%s, TLS 1.%d %s",
					  tests[i].name, k & 2 ? 2 : 3, v.server ? "server" : "client");
		}
	}
	return suite_run(argc, argv);
}
