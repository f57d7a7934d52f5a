/* SPDX-License-Identifier: MIT */
#include "meet.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "probe.h"

/* ---- the program ---- */

static CMFixtureFunction make_more, drop_more;

static int make(void **state)
{
	pki_make();
	return make_more ? make_more(state) : 0;
}

static int drop(void **state)
{
	int failed = drop_more ? drop_more(state) : 0;

	pki_free();
	return failed;
}

int meet_run(const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup,
	     CMFixtureFunction teardown)
{
	make_more = setup;
	drop_more = teardown;
	/* by name: the numbers differ between cmocka 1 and 2 */
	setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
	return _cmocka_run_group_tests("tests", tests, n, make, drop);
}

/* ---- connections ---- */

void set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL) & ~O_NONBLOCK;

	assert_int_equal(fcntl(fd, F_SETFL, blocking ? flags : flags | O_NONBLOCK), 0);
}

void tcp_pair(int fd[2])
{
	assert_int_equal(probe_pair(fd), 0);
	for (int i = 0; i < 2; i++)
		setsockopt(fd[i], SOL_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

bool kernel_has_tls(void)
{
	static int has = -1;

	if (has < 0)
		has = probe_kernel(PROBE_ULP).verdict == PROBE_YES;
	return has;
}

struct tlsfd_config *config_of(const struct identity *id)
{
	struct tlsfd_config *config;

	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_int_equal(tlsfd_config_set_ca_mem(config, pki.ca.cert_pem, strlen(pki.ca.cert_pem)),
			 0);
	if (id)
		assert_int_equal(tlsfd_config_set_certificate_mem(config, id->cert_pem,
								  strlen(id->cert_pem), id->key_pem,
								  strlen(id->key_pem)),
				 0);
	return config;
}

SSL_CTX *peer_context(const struct identity *id)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), pki.ca.cert);
	SSL_CTX_set_mode(ctx, SSL_MODE_NO_AUTO_CHAIN);
	if (id)
		pki_use(ctx, id);
	return ctx;
}

static void note_alert(const SSL *ssl, int where, int ret)
{
	struct meeting *m = SSL_get_app_data(ssl);

	if (where & SSL_CB_ALERT && ret >> 8 == SSL3_AL_FATAL)
		m->peer_alert = ret & 0xff;
}

void meet_open(struct meeting *m, struct tlsfd_config *config, bool server, SSL_CTX *peer_ctx,
	       const char *name)
{
	*m = (struct meeting){ .peer_alert = -1 };
	tcp_pair(m->fd);
	if (server)
		assert_int_equal(tlsfd_accept(&m->c, config, m->fd[0]), 0);
	else
		assert_int_equal(tlsfd_connect(&m->c, config, m->fd[0], name), 0);
	m->peer = SSL_new(peer_ctx);
	SSL_set_app_data(m->peer, m);
	SSL_set_info_callback(m->peer, note_alert);
	SSL_set_fd(m->peer, m->fd[1]);
	if (server)
		SSL_set_connect_state(m->peer);
	else
		SSL_set_accept_state(m->peer);
}

static bool wants_more(SSL *ssl, int ret)
{
	int error = SSL_get_error(ssl, ret);

	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

void meet_shake(struct meeting *m)
{
	bool peer_ended = false;
	int rounds = 0;

	m->err = -EAGAIN;
	while ((m->err == -EAGAIN || !peer_ended) && rounds++ < PATIENCE_MS) {
		if (m->err == -EAGAIN) {
			m->err = tlsfd_handshake(m->c);
			if (m->err && m->err != -EAGAIN)
				shutdown(m->fd[0], SHUT_WR);
		}
		if (!peer_ended) {
			int ret = SSL_do_handshake(m->peer);

			m->peer_done = ret == 1;
			if (m->peer_done && m->early)
				SSL_write(m->peer, m->early, (int)strlen(m->early));
			peer_ended = ret == 1 || !wants_more(m->peer, ret);
			if (peer_ended && ret != 1)
				shutdown(m->fd[1], SHUT_WR);
		}
		if (rounds > 50)
			poll(NULL, 0, 1);
	}
	assert_int_not_equal(m->err, -EAGAIN);
	assert_true(peer_ended);
}

static void read_ours(struct meeting *m, char *buf, size_t size)
{
	struct pollfd p = { .fd = m->fd[0], .events = POLLIN };
	ssize_t n;

	while ((n = tlsfd_read(m->c, buf, size)) == -EAGAIN)
		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
	assert_int_equal(n, size);
}

static void read_peer(struct meeting *m, char *buf, int size)
{
	struct pollfd p = { .fd = m->fd[1], .events = POLLIN };
	int n;

	while ((n = SSL_read(m->peer, buf, size)) <= 0) {
		assert_true(wants_more(m->peer, n));
		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
	}
	assert_int_equal(n, size);
}

void meet_talk(struct meeting *m)
{
	char buf[6];

	assert_int_equal(SSL_write(m->peer, "hither", 6), 6);
	read_ours(m, buf, sizeof(buf));
	assert_memory_equal(buf, "hither", 6);
	assert_int_equal(tlsfd_write(m->c, "thence", 6), 6);
	read_peer(m, buf, sizeof(buf));
	assert_memory_equal(buf, "thence", 6);
}

void meet_close(struct meeting *m)
{
	SSL_free(m->peer);
	tlsfd_free(m->c);
	close(m->fd[0]);
	close(m->fd[1]);
}

void meet(struct meeting *m, struct tlsfd_config *config, bool server, SSL_CTX *peer_ctx,
	  const char *name)
{
	meet_open(m, config, server, peer_ctx, name);
	SSL_CTX_free(peer_ctx);
	tlsfd_config_free(config);
	meet_shake(m);
}

void assert_says(const char *sentence, const char *needle)
{
	if (!sentence || !strstr(sentence, needle))
		fail_msg("\"%s\" does not say \"%s\"", sentence ? sentence : "(nothing)", needle);
}
