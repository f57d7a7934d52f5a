/*
 * The SSL after the handover: nothing that a program does with it puts a byte on the
 * wire or takes one from it, and freeing it leaves the session good.
 *
 * SPDX-License-Identifier: MIT
 */
#include <fcntl.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "link.h"
#include "suite.h"

enum { QUEUED = 1000 };

static const struct {
	const char *name;
	struct variant v;
} links[] = {
	{ "TLSv1.3/server", { .version = TLS1_3_VERSION, .server = true, .tickets = 2 } },
	{ "TLSv1.3/server/ktls-on",
	  { .version = TLS1_3_VERSION,
	    .server = true,
	    .ktls = true,
	    .suite = "TLS_AES_128_GCM_SHA256" } },
	{ "TLSv1.3/client", { .version = TLS1_3_VERSION, .tickets = 1, .tickets_read = 1 } },
	{ "TLSv1.3/client/ktls-on", { .version = TLS1_3_VERSION, .ktls = true } },
	{ "TLSv1.2/server",
	  { .version = TLS1_2_VERSION, .server = true, .suite = "ECDHE-ECDSA-AES128-GCM-SHA256" } },
	{ "TLSv1.2/server/ktls-on",
	  { .version = TLS1_2_VERSION,
	    .server = true,
	    .ktls = true,
	    .suite = "ECDHE-ECDSA-AES256-GCM-SHA384" } },
	{ "TLSv1.2/client",
	  { .version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-CHACHA20-POLY1305" } },
	{ "TLSv1.2/client/ktls-on",
	  { .version = TLS1_2_VERSION, .ktls = true, .suite = "ECDHE-ECDSA-AES128-GCM-SHA256" } },
	{ "TLSv1.3/server/two BIOs",
	  { .version = TLS1_3_VERSION, .server = true, .two_bios = true } },
	{ "TLSv1.3/client/BIO_s_connect", { .version = TLS1_3_VERSION, .bio_connect = true } },
};

/* ---- what programs do ---- */

static void ssl_write(SSL *ssl)
{
	assert_true(SSL_write(ssl, "plain text", 10) <= 0);
}

static void ssl_read(SSL *ssl)
{
	char buf[100];

	assert_true(SSL_read(ssl, buf, sizeof(buf)) <= 0);
	assert_true(SSL_peek(ssl, buf, sizeof(buf)) <= 0);
	assert_int_equal(SSL_pending(ssl), 0);
}

static void ssl_shutdown(SSL *ssl)
{
	SSL_shutdown(ssl);
	SSL_shutdown(ssl);
}

static void ssl_key_update(SSL *ssl)
{
	SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED);
	SSL_do_handshake(ssl);
	SSL_write(ssl, "x", 1);
}

static void ssl_renegotiate(SSL *ssl)
{
	SSL_renegotiate(ssl);
	SSL_do_handshake(ssl);
	SSL_read(ssl, &(char){ 0 }, 1);
}

static void ssl_new_session_ticket(SSL *ssl)
{
	SSL_new_session_ticket(ssl);
	SSL_do_handshake(ssl);
}

static void ssl_sendfile(SSL *ssl)
{
	int file = memfd_create("data", MFD_CLOEXEC);

	assert_int_equal(write(file, "plain text", 10), 10);
	assert_true(SSL_sendfile(ssl, file, 0, 10, 0) <= 0);
	close(file);
}

static void bio_write(SSL *ssl)
{
	assert_true(BIO_write(SSL_get_wbio(ssl), "plain text", 10) <= 0);
	assert_true(BIO_puts(SSL_get_wbio(ssl), "plain text") <= 0);
}

static void bio_read(SSL *ssl)
{
	char buf[100];

	assert_true(BIO_read(SSL_get_rbio(ssl), buf, sizeof(buf)) <= 0);
	assert_true(BIO_gets(SSL_get_rbio(ssl), buf, sizeof(buf)) <= 0);
}

/* A program that clears the flags which stop it early. */
static void clear_shutdown(SSL *ssl)
{
	SSL_set_shutdown(ssl, 0);
	ssl_write(ssl);
	ssl_read(ssl);
	ssl_shutdown(ssl);
	SSL_set_shutdown(ssl, 0);
	ssl_key_update(ssl);
	ssl_renegotiate(ssl);
	SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
}

/* An SSL is made for reuse by this. */
static void clear_and_handshake(SSL *ssl)
{
	SSL_clear(ssl);
	assert_true(SSL_do_handshake(ssl) <= 0);
	ssl_write(ssl);
}

static void nothing(SSL *ssl)
{
	(void)ssl;
}

static const struct attempt {
	const char *name;
	void (*call)(SSL *ssl);
} attempts[] = {
	{ "SSL_write", ssl_write },
	{ "SSL_read, SSL_peek", ssl_read },
	{ "SSL_shutdown", ssl_shutdown },
	{ "SSL_key_update", ssl_key_update },
	{ "SSL_renegotiate", ssl_renegotiate },
	{ "SSL_new_session_ticket", ssl_new_session_ticket },
	{ "SSL_sendfile", ssl_sendfile },
	{ "BIO_write", bio_write },
	{ "BIO_read", bio_read },
	{ "SSL_set_shutdown to nothing", clear_shutdown },
	{ "SSL_clear, SSL_do_handshake", clear_and_handshake },
	{ "SSL_free", nothing }, /* which every test ends with */
};

struct test {
	struct variant v;
	struct attempt attempt;
};

static void expect(const char *what_went_wrong)
{
	if (what_went_wrong)
		fail_msg("%s", what_went_wrong);
}

/* Bytes of the peer wait in the socket: they must still be there afterwards. */
static void queue_data(struct link *l)
{
	expect(run_flows(&(struct flow){ .end = &l->peer, .out = true, .left = QUEUED }, 1));
	wait_for(l->us.fd, POLLIN);
}

static void test_attempt(void **state)
{
	const struct test *t = *state;
	struct link *l = link_made(&t->v);
	uint64_t sent;

	hand_over(l, VIA_FD);
	move(l, 100, 100);
	queue_data(l);
	sent = tcp_bytes_sent(l->us.fd);
	t->attempt.call(l->us.ssl);
	assert_int_equal(tcp_bytes_sent(l->us.fd), sent);
	assert_int_equal(SSL_get_fd(l->us.ssl), l->us.fd);
	leave_openssl(l);
	assert_int_equal(tcp_bytes_sent(l->us.fd), sent);
	expect(run_flows(&(struct flow){ .end = &l->us, .left = QUEUED }, 1));
	/* the peer must see nothing but this */
	move(l, 20000, 30000);
	link_free(l);
	ERR_clear_error();
}

/* ---- again ---- */

static void test_again(void **state)
{
	struct link *l = link_made(*state);

	hand_over(l, VIA_FD);
	for (int i = 0; i < 3; i++) {
		struct tlsfd_report *r;
		struct tlsfd *c;
		uint64_t sent = tcp_bytes_sent(l->us.fd);

		assert_int_equal(tlsfd_handover(l->us.ssl, &c, &r), 0);
		assert_non_null(c);
		assert_int_equal(tlsfd_fd(c), l->us.fd);
		assert_true(tlsfd_kernel(c, TLSFD_RX) && tlsfd_kernel(c, TLSFD_TX));
		assert_true(tlsfd_report_kernel(r, TLSFD_RX) && tlsfd_report_kernel(r, TLSFD_TX));
		assert_int_equal(tcp_bytes_sent(l->us.fd), sent);
		tlsfd_report_free(r);
		tlsfd_free(c);
		move(l, 10, 10);
	}
	leave_openssl(l);
	move(l, 20000, 30000);
	link_free(l);
}

/* ---- the session ---- */

static void test_session(void **state)
{
	struct link *l = link_new(*state);

	for (int i = 0; i < 3; i++) {
		link_open(l);
		link_handshake(l, NULL);
		assert_int_equal(SSL_session_reused(l->us.ssl), i > 0);
		if (!l->v.server && l->v.version == TLS1_3_VERSION)
			read_tickets(l, 1); /* a resumed server sends one */
		hand_over(l, VIA_FD);
		leave_openssl(l);
		if (l->v.server || l->v.version == TLS1_2_VERSION || l->v.tickets == 1)
			move(l, 500, 600);
		link_disconnect(l);
		assert_non_null(link_client(l)->session);
	}
	link_free(l);
}

/* The server's cache has the session of a connection that was handed over. */
static void test_server_cache(void **state)
{
	struct link *l = link_new(*state);

	link_open(l);
	link_handshake(l, NULL);
	hand_over(l, VIA_FD);
	move(l, 500, 600);
	assert_int_equal(SSL_CTX_sess_number(l->us.ctx), 1);
	leave_openssl(l);
	assert_int_equal(SSL_CTX_sess_number(l->us.ctx), 1);
	link_free(l);
}

static void add_session(int version, bool server, bool ktls, enum resumption how)
{
	struct variant v = { .version = version,
			     .server = server,
			     .ktls = ktls,
			     .resume = how,
			     .tickets = 1,
			     .suite = version == TLS1_3_VERSION ? "TLS_AES_256_GCM_SHA384" :
								  "ECDHE-ECDSA-AES256-GCM-SHA384" };

	suite_add(test_session, &v, sizeof(v), "%s/%s/ktls-%s/session stays resumable by %s",
		  version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2", server ? "server" : "client",
		  ktls ? "on" : "off", how == RESUME_TICKET ? "ticket" : "session id");
	if (server && how == RESUME_SESSION_ID)
		suite_add(test_server_cache, &v, sizeof(v),
			  "%s/server/ktls-%s/session stays in the cache",
			  version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2", ktls ? "on" : "off");
}

static void add_sessions(void)
{
	for (int bits = 0; bits < 16; bits++)
		add_session(bits & 1 ? TLS1_3_VERSION : TLS1_2_VERSION, bits & 2, bits & 4,
			    bits & 8 ? RESUME_TICKET : RESUME_SESSION_ID);
}

int main(int argc, char **argv)
{
	suite_slice(7);
	for (size_t i = 0; i < LENGTH(links); i++) {
		for (size_t k = 0; k < LENGTH(attempts); k++) {
			struct test t = { links[i].v, attempts[k] };

			suite_add(test_attempt, &t, sizeof(t), "%s/%s", links[i].name,
				  attempts[k].name);
		}
		suite_add(test_again, &links[i].v, sizeof(links[i].v), "%s/handover again",
			  links[i].name);
	}
	add_sessions();
	return suite_run(argc, argv);
}
