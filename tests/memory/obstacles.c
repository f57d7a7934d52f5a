/*
 * Handshakes that don't go the straight way: bytes that come one by one, peers that
 * are silent, rude or gone.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "meet.h"

/* ---- byte by byte ---- */

/* Bytes that a peer on memory BIOs has for us; at most one of them, to fd. */
static void carry_one(SSL *peer, int fd)
{
	char byte;

	if (BIO_read(SSL_get_wbio(peer), &byte, 1) == 1)
		assert_int_equal(write(fd, &byte, 1), 1);
}

static void take_one(SSL *peer, int fd)
{
	char byte;

	if (read(fd, &byte, 1) == 1)
		BIO_write(SSL_get_rbio(peer), &byte, 1);
}

struct waits {
	int in, out;
};

static void shake_byte_by_byte(struct tlsfd *c, SSL *peer, const int fd[2], struct waits *w)
{
	int err = -EAGAIN;

	for (int rounds = 0; (err || !SSL_is_init_finished(peer)) && rounds < 100000; rounds++) {
		if (err)
			err = tlsfd_handshake(c);
		if (err) {
			assert_int_equal(err, -EAGAIN);
			*(tlsfd_wants(c, TLSFD_RX) == POLLOUT ? &w->out : &w->in) += 1;
		}
		take_one(peer, fd[1]);
		SSL_do_handshake(peer);
		carry_one(peer, fd[1]);
	}
	assert_int_equal(err, 0);
	assert_true(SSL_is_init_finished(peer));
}

/* long_chain: more than the socket takes at once. */
static void check_byte_by_byte(bool server, bool unix_socket, int version)
{
	struct tlsfd_config *config = config_of(server ? &pki.good : NULL);
	SSL_CTX *ctx = peer_context(server ? NULL : &pki.good);
	struct waits waits = { 0, 0 };
	struct tlsfd *c;
	SSL *peer = SSL_new(ctx);
	int fd[2];

	if (unix_socket)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	else
		tcp_pair(fd);
	SSL_set_max_proto_version(peer, version);
	SSL_set_bio(peer, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	if (server) {
		char chain[32 * 1024] = "";
		size_t n = 0;

		/* a flight that the smallest buffer does not take */
		for (int i = 0; i < 20; i++)
			n += (size_t)snprintf(chain + n, sizeof(chain) - n, "%s",
					      i ? pki.rsa.cert_pem : pki.good.cert_pem);
		assert_int_equal(tlsfd_config_set_certificate_mem(config, chain, n,
								  pki.good.key_pem,
								  strlen(pki.good.key_pem)), 0);
		setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &(int){ 1 }, sizeof(int));
		assert_int_equal(tlsfd_accept(&c, config, fd[0]), 0);
		SSL_set_connect_state(peer);
	} else {
		assert_int_equal(tlsfd_connect(&c, config, fd[0], "localhost"), 0);
		SSL_set_accept_state(peer);
	}
	shake_byte_by_byte(c, peer, fd, &waits);
	assert_true(waits.in > 50);
	assert_true(!server || !unix_socket || waits.out > 0);
	assert_int_equal(tlsfd_kernel(c, TLSFD_RX), kernel_has_tls() && !unix_socket);
	tlsfd_free(c);
	tlsfd_config_free(config);
	SSL_free(peer);
	SSL_CTX_free(ctx);
	close(fd[0]);
	close(fd[1]);
}

static void test_byte_by_byte(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++)
		for (int i = 0; i < 4; i++)
			check_byte_by_byte(i & 1, i & 2, version);
}

/* ---- deadlines ---- */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void check_silence(bool server, bool blocking)
{
	struct tlsfd_config *config = config_of(&pki.good);
	struct tlsfd *c;
	int fd[2];
	int64_t from;

	tcp_pair(fd);
	set_blocking(fd[0], blocking);
	assert_int_equal(server ? tlsfd_accept(&c, config, fd[0]) :
				  tlsfd_connect(&c, config, fd[0], "localhost"), 0);
	from = now_ms();
	assert_int_equal(tlsfd_handshake_within(c, 100), -ETIMEDOUT);
	from = now_ms() - from;
	assert_true(from >= 99 && from < PATIENCE_MS);
	assert_int_equal(!(fcntl(fd[0], F_GETFL) & O_NONBLOCK), blocking);
	assert_says(tlsfd_error(c), "in time");
	assert_int_equal(tlsfd_handshake(c), -ETIMEDOUT);
	tlsfd_free(c);
	tlsfd_config_free(config);
	close(fd[0]);
	close(fd[1]);
}

static void test_silence(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		check_silence(i & 1, i & 2);
}

struct peer_thread {
	SSL *ssl;
	int fd, ret;
};

static void *run_peer(void *arg)
{
	struct peer_thread *p = arg;

	set_blocking(p->fd, true);
	p->ret = SSL_do_handshake(p->ssl);
	return NULL;
}

/* within: by tlsfd_handshake_within, else by one tlsfd_handshake on a blocking fd. */
static void check_blocking(bool server, bool blocking, bool within)
{
	SSL_CTX *peer = peer_context(server ? NULL : &pki.good);
	struct tlsfd_config *config = config_of(server ? &pki.good : NULL);
	struct peer_thread p;
	struct meeting m;
	pthread_t thread;

	meet_open(&m, config, server, peer, "localhost");
	set_blocking(m.fd[0], blocking);
	p = (struct peer_thread){ m.peer, m.fd[1], 0 };
	assert_int_equal(pthread_create(&thread, NULL, run_peer, &p), 0);
	assert_int_equal(within ? tlsfd_handshake_within(m.c, PATIENCE_MS) : tlsfd_handshake(m.c), 0);
	pthread_join(thread, NULL);
	assert_int_equal(p.ret, 1);
	meet_talk(&m);
	assert_int_equal(tlsfd_handshake_within(m.c, 0), 0);
	meet_close(&m);
	SSL_CTX_free(peer);
	tlsfd_config_free(config);
}

static void test_blocking(void **state)
{
	(void)state;
	for (int server = 0; server < 2; server++) {
		check_blocking(server, true, false);
		check_blocking(server, true, true);
		check_blocking(server, false, true);
	}
}

/* ---- peers that don't speak TLS, or stop ---- */

struct rude {
	const char *says; /* that the peer sends first */
	size_t size;
	bool reset;       /* then RST, else FIN */
	bool fin;
	int want;
	const char *sentence;
};

static void check_rude(const struct rude *r, bool server)
{
	struct tlsfd_config *config = config_of(&pki.good);
	struct tlsfd *c;
	int fd[2], err;

	tcp_pair(fd);
	if (server)
		assert_int_equal(tlsfd_accept(&c, config, fd[0]), 0);
	else
		assert_int_equal(tlsfd_connect(&c, config, fd[0], "localhost"), 0);
	assert_int_equal(tlsfd_handshake(c), -EAGAIN);
	assert_int_equal(write(fd[1], r->says, r->size), r->size);
	if (r->reset) {
		setsockopt(fd[1], SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 },
			   sizeof(struct linger));
		close(fd[1]);
	} else if (r->fin) {
		shutdown(fd[1], SHUT_WR);
	}
	err = tlsfd_handshake_within(c, PATIENCE_MS);
	if (err != r->want)
		fail_msg("\"%s\": %d, want %d: %s", r->says, err, r->want, tlsfd_error(c));
	assert_says(tlsfd_error(c), r->sentence);
	assert_int_equal(tlsfd_handshake(c), r->want);
	tlsfd_free(c);
	tlsfd_config_free(config);
	close(fd[0]);
	if (!r->reset)
		close(fd[1]);
}

#define SAYS(text) text, sizeof(text) - 1

static const struct rude rudes[] = {
	{ SAYS("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), false, false, -EPROTO, "" },
	{ SAYS("SSH-2.0-OpenSSH_9.2p1\r\n"), false, false, -EPROTO, "" },
	{ SAYS(""), false, true, -ECONNABORTED, "ended TCP during the handshake" },
	{ SAYS("\x16\x03\x01"), false, true, -ECONNABORTED, "ended TCP during the handshake" },
	{ SAYS(""), true, false, -ECONNRESET, "reset" },
	{ SAYS("\x15\x03\x03\0\x02\x02\x28"), false, true, -EPROTO, "" },
	{ SAYS("\x17\x03\x03\0\x05hello"), false, true, -EPROTO, "" },
};

static void test_rude_peers(void **state)
{
	(void)state;
	/* a write after the reset would raise it */
	signal(SIGPIPE, SIG_DFL);
	for (size_t i = 0; i < LENGTH(rudes); i++) {
		check_rude(&rudes[i], true);
		check_rude(&rudes[i], false);
	}
}

static void test_rudeness_is_named(void **state)
{
	const struct rude alert = { SAYS("\x15\x03\x03\0\x02\x02\x28"), false, true, -EPROTO,
				    "alert 40 (handshake failure)" };
	const struct rude http = { SAYS("GET / HTTP/1.1\r\n\r\n"), false, false, -EPROTO,
				   "http request" };

	const struct rude plain = { SAYS("220 mail.example ESMTP\r\n"), false, false, -EPROTO,
				    "does not speak TLS" };

	(void)state;
	check_rude(&http, true);
	check_rude(&alert, false);
	check_rude(&plain, true);
	check_rude(&plain, false);
}

/* Nothing but the handshake may come before it is done. */
static void test_too_early(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good);
	struct tlsfd *c;
	uint8_t byte;
	int fd[2];

	(void)state;
	tcp_pair(fd);
	assert_int_equal(tlsfd_accept(&c, config, fd[0]), 0);
	assert_int_equal(tlsfd_read(c, &byte, 1), -ENOTCONN);
	assert_int_equal(tlsfd_write(c, "x", 1), -ENOTCONN);
	assert_int_equal(tlsfd_release(&c), -EXDEV);
	assert_non_null(c);
	assert_int_equal(tlsfd_wants(c, TLSFD_RX), POLLIN);
	assert_int_equal(tlsfd_wants(c, TLSFD_TX), POLLIN);
	assert_int_equal(tlsfd_fd(c), fd[0]);
	assert_int_equal(tlsfd_channel_binding(c, TLSFD_TLS_EXPORTER, &byte, 1), -ENODATA);
	tlsfd_free(c);
	tlsfd_config_free(config);
	close(fd[0]);
	close(fd[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_silence),
		cmocka_unit_test(test_blocking),
		cmocka_unit_test(test_rude_peers),
		cmocka_unit_test(test_rudeness_is_named),
		cmocka_unit_test(test_too_early),
	};

	return meet_run(tests, LENGTH(tests), NULL, NULL);
}
