/* SPDX-License-Identifier: MIT */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "credentials.h"
#include "suite.h"

struct end *link_client(struct link *l)
{
	return l->v.server ? &l->peer : &l->us;
}

struct end *link_server(struct link *l)
{
	return l->v.server ? &l->us : &l->peer;
}

/* ---- contexts ---- */

static enum key_kind key_kind(const struct variant *v)
{
	bool rsa = v->version == TLS1_2_VERSION && v->suite && !strstr(v->suite, "ECDSA");

	return rsa ? KEY_RSA : KEY_P256;
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct end *e = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	SSL_SESSION_free(e->session);
	e->session = session;
	e->sessions++;
	return 1;
}

static void on_message(int write, int version, int type, const void *buf, size_t n, SSL *ssl,
		       void *arg)
{
	struct end *e = arg;

	(void)write, (void)version, (void)ssl;
	if (type == SSL3_RT_HANDSHAKE && n && *(const uint8_t *)buf == SSL3_MT_CLIENT_HELLO)
		e->hellos++;
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size,
		       const unsigned char *in, unsigned in_size, void *arg)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";

	(void)ssl, (void)arg;
	return SSL_select_next_proto((unsigned char **)out, out_size, ours, sizeof(ours) - 1, in,
				     in_size) == OPENSSL_NPN_NEGOTIATED ?
		       SSL_TLSEXT_ERR_OK :
		       SSL_TLSEXT_ERR_ALERT_FATAL;
}

static const char psk_name[] = "the test's";

static SSL_SESSION *psk_session(SSL *ssl)
{
	static const unsigned char key[48] = "not very secret";
	struct end *e = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	STACK_OF(SSL_CIPHER) *ciphers = SSL_CTX_get_ciphers(e->ctx);
	/* contexts of such links offer one TLS 1.3 suite, which comes first */
	const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(ciphers, 0);
	SSL_SESSION *session = SSL_SESSION_new();

	SSL_SESSION_set1_master_key(
		session, key, (size_t)EVP_MD_get_size(SSL_CIPHER_get_handshake_digest(cipher)));
	SSL_SESSION_set_cipher(session, cipher);
	SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION);
	return session;
}

static int psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_size,
		   SSL_SESSION **session)
{
	*session = NULL;
	*id = (const unsigned char *)psk_name;
	*id_size = sizeof(psk_name) - 1;
	*session = psk_session(ssl);
	if (md && md != SSL_CIPHER_get_handshake_digest(SSL_SESSION_get0_cipher(*session))) {
		SSL_SESSION_free(*session);
		*session = NULL;
	}
	return 1;
}

static int psk_find(SSL *ssl, const unsigned char *id, size_t id_size, SSL_SESSION **session)
{
	bool ours = id_size == sizeof(psk_name) - 1 && memcmp(id, psk_name, id_size) == 0;

	*session = ours ? psk_session(ssl) : NULL;
	return 1;
}

static void set_suite(SSL_CTX *ctx, const struct variant *v)
{
	SSL_CTX_set_min_proto_version(ctx, v->version);
	SSL_CTX_set_max_proto_version(ctx, v->version);
	if (!v->suite)
		return;
	if (v->version == TLS1_3_VERSION)
		assert_int_equal(SSL_CTX_set_ciphersuites(ctx, v->suite), 1);
	else
		assert_int_equal(SSL_CTX_set_cipher_list(ctx, v->suite), 1);
}

static SSL_CTX *context(struct end *e, const struct variant *v, const SSL_METHOD *method)
{
	SSL_CTX *ctx = e->ctx = SSL_CTX_new(method);

	SSL_CTX_set_app_data(ctx, e);
	set_suite(ctx, v);
	if (v->no_ems)
		SSL_CTX_set_options(ctx, SSL_OP_NO_EXTENDED_MASTER_SECRET);
	if (v->resume == RESUME_SESSION_ID)
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	return ctx;
}

static void server_context(struct link *l)
{
	const struct variant *v = &l->v;
	SSL_CTX *ctx = context(link_server(l), v, TLS_server_method());

	use_credentials(ctx, key_kind(v));
	SSL_CTX_set_num_tickets(ctx, (size_t)v->tickets);
	SSL_CTX_set_dh_auto(ctx, 1);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"t", 1);
	if (v->client_cert) {
		trust_credentials(ctx, key_kind(v));
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	}
	if (v->alpn)
		SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
	if (v->retry_request)
		SSL_CTX_set1_groups_list(ctx, "P-256");
	if (v->resume == RESUME_EXTERNAL_PSK)
		SSL_CTX_set_psk_find_session_callback(ctx, psk_find);
}

static void client_context(struct link *l)
{
	const struct variant *v = &l->v;
	SSL_CTX *ctx = context(link_client(l), v, TLS_client_method());

	trust_credentials(ctx, key_kind(v));
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	if (v->client_cert)
		use_credentials(ctx, key_kind(v));
	if (v->alpn)
		SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x08http/1.1", 9);
	if (v->retry_request)
		SSL_CTX_set1_groups_list(ctx, "X25519:P-256");
	if (v->resume == RESUME_EXTERNAL_PSK)
		SSL_CTX_set_psk_use_session_callback(ctx, psk_use);
}

struct link *link_new(const struct variant *v)
{
	struct link *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	l->v = *v;
	l->us.fd = l->us.write_fd = l->peer.fd = l->peer.write_fd = -1;
	server_context(l);
	client_context(l);
	SSL_CTX_set_msg_callback(l->peer.ctx, on_message);
	SSL_CTX_set_msg_callback_arg(l->peer.ctx, &l->peer);
	if (v->ktls)
		SSL_CTX_set_options(l->us.ctx, SSL_OP_ENABLE_KTLS);
	if (!v->unprepared)
		assert_int_equal(tlsfd_prepare(l->us.ctx), 0);
	return l;
}

/* ---- sockets ---- */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static socklen_t loopback(union address *a, bool ipv6)
{
	memset(a, 0, sizeof(*a));
	if (ipv6) {
		a->v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6,
					       .sin6_addr = IN6ADDR_LOOPBACK_INIT };
		return sizeof(a->v6);
	}
	a->v4 = (struct sockaddr_in){ .sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	return sizeof(a->v4);
}

static int listen_at(union address *a, socklen_t len)
{
	int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, &a->any, len), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, &a->any, &len), 0);
	return fd;
}

static int connect_to(const union address *a, socklen_t len)
{
	int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, &a->any, len), 0);
	return fd;
}

void set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);
	struct timeval limit = { .tv_sec = blocking ? PATIENCE_MS / 1000 : 0 };

	assert_int_equal(fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK),
			 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

/* Tests that wait for Nagle's algorithm take twice as long. */
static void no_delay(int fd)
{
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), 0);
}

void wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
}

static void use_wire(struct end *e)
{
	struct wire *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->allowed = SIZE_MAX;
	w->in = BIO_new(BIO_s_mem());
	w->out = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(w->in, -1);
	BIO_set_mem_eof_return(w->out, -1);
	SSL_set_bio(e->ssl, w->in, w->out);
	e->wire = w;
}

static void use_fd(struct end *e, bool two_bios)
{
	e->write_fd = two_bios ? fcntl(e->fd, F_DUPFD_CLOEXEC, 0) : e->fd;
	if (two_bios) {
		assert_int_equal(SSL_set_rfd(e->ssl, e->fd), 1);
		assert_int_equal(SSL_set_wfd(e->ssl, e->write_fd), 1);
	} else {
		assert_int_equal(SSL_set_fd(e->ssl, e->fd), 1);
	}
}

/* The client's BIO connects by itself, with the first step of its handshake. Freed with
 * BIO_CLOSE it would shut the socket down, with BIO_NOCLOSE OpenSSL (3.0 to 3.6) leaks
 * what it holds: so it stays until the socket is closed. */
static void connect_by_bio(struct link *l, const union address *a)
{
	BIO *bio = BIO_new(BIO_s_connect());
	char port[8];

	snprintf(port, sizeof(port), "%u", ntohs(a->v4.sin_port));
	BIO_set_conn_hostname(bio, "127.0.0.1");
	BIO_set_conn_port(bio, port);
	BIO_set_nbio(bio, 1);
	BIO_set_close(bio, BIO_NOCLOSE);
	BIO_up_ref(bio);
	l->us.connector = bio;
	SSL_set_bio(l->us.ssl, bio, bio);
	SSL_do_handshake(l->us.ssl);
	l->us.fd = l->us.write_fd = SSL_get_fd(l->us.ssl);
}

static void new_ssl(struct end *e, bool server)
{
	e->ssl = SSL_new(e->ctx);
	assert_non_null(e->ssl);
	e->via = VIA_SSL;
	e->sent = e->received = 0;
	if (server)
		SSL_set_accept_state(e->ssl);
	else
		SSL_set_connect_state(e->ssl);
}

void link_open(struct link *l)
{
	struct end *client = link_client(l), *server = link_server(l);
	union address address;
	socklen_t len = loopback(&address, l->v.ipv6);
	int listener = listen_at(&address, len);

	new_ssl(client, false);
	new_ssl(server, true);
	if (client->session && l->v.resume)
		SSL_set_session(client->ssl, client->session);
	if (l->v.bio_connect)
		connect_by_bio(l, &address);
	else
		client->fd = connect_to(&address, len);
	server->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	assert_true(client->fd >= 0 && server->fd >= 0);
	set_blocking(l->peer.fd, false);
	set_blocking(l->us.fd, l->v.blocking);
	no_delay(l->peer.fd);
	no_delay(l->us.fd);
	if (!l->v.bio_connect)
		use_fd(&l->us, l->v.two_bios);
	l->peer.write_fd = l->peer.fd;
	if (l->v.wire)
		use_wire(&l->peer);
	else
		use_fd(&l->peer, false);
}

/* ---- handshake ---- */

static void complain(SSL *ssl, int ret)
{
	char text[256];
	unsigned long err = ERR_peek_error();

	ERR_error_string_n(err, text, sizeof(text));
	printf("# handshake: SSL error %d, errno %d, %s, %s\n", SSL_get_error(ssl, ret), errno,
	       err ? text : "", SSL_state_string_long(ssl));
}

/* 1: finished, 0: must wait, -1: failed. */
static int handshake_step(struct end *e)
{
	int ret, err;

	ERR_clear_error();
	wire_carry(e);
	ret = SSL_do_handshake(e->ssl);
	err = SSL_get_error(e->ssl, ret);
	if (ret != 1 && err != SSL_ERROR_WANT_READ && err != SSL_ERROR_WANT_WRITE &&
	    err != SSL_ERROR_WANT_CONNECT) {
		complain(e->ssl, ret);
		return -1;
	}
	wire_carry(e);
	return ret == 1;
}

static void *peer_handshake(void *arg)
{
	struct end *e = arg;
	struct pollfd p = { .fd = e->fd, .events = POLLIN };
	int done = 0;

	while (!done && poll(&p, 1, PATIENCE_MS) == 1)
		done = handshake_step(e);
	return done == 1 ? e : NULL;
}

/* A client that is the peer must speak first. */
static void handshake_blocking(struct link *l)
{
	pthread_t thread;
	void *peer_done;
	int done;

	assert_true(handshake_step(&l->peer) >= 0);
	assert_int_equal(pthread_create(&thread, NULL, peer_handshake, &l->peer), 0);
	done = handshake_step(&l->us);
	pthread_join(thread, &peer_done);
	assert_int_equal(done, 1);
	assert_non_null(peer_done);
}

static void wait_for_either(const struct link *l, bool us, bool peer)
{
	struct pollfd p[2] = { { .fd = us ? l->us.fd : -1, .events = POLLIN },
			       { .fd = peer ? l->peer.fd : -1, .events = POLLIN } };

	assert_true(poll(p, 2, PATIENCE_MS) > 0);
}

void link_wait(const struct link *l)
{
	wait_for_either(l, true, true);
}

static void handshake_stepping(struct link *l, void (*after_peer)(struct link *l))
{
	int us = 0, peer = 0;

	while (!us || !peer) {
		if (!peer) {
			peer = handshake_step(&l->peer);
			assert_true(peer >= 0);
			if (peer && after_peer)
				after_peer(l);
		}
		if (!us)
			us = handshake_step(&l->us);
		assert_true(us >= 0);
		if (!us || !peer)
			wait_for_either(l, !us, !peer);
	}
}

void link_handshake(struct link *l, void (*after_peer)(struct link *l))
{
	if (l->v.blocking)
		handshake_blocking(l);
	else
		handshake_stepping(l, after_peer);
}

void read_tickets(struct link *l, int count)
{
	int before = l->us.sessions;
	char byte;

	/* one record per SSL_read */
	SSL_clear_mode(l->us.ssl, SSL_MODE_AUTO_RETRY);
	while (l->us.sessions - before < count) {
		if (!SSL_has_pending(l->us.ssl))
			wait_for(l->us.fd, POLLIN);
		assert_int_equal(SSL_read(l->us.ssl, &byte, 1), -1);
		assert_int_equal(SSL_get_error(l->us.ssl, -1), SSL_ERROR_WANT_READ);
	}
	SSL_set_mode(l->us.ssl, SSL_MODE_AUTO_RETRY);
}

static void connect_once(struct link *l, void (*after_peer)(struct link *l))
{
	link_open(l);
	link_handshake(l, after_peer);
}

/* A first connection, all in user space, that leaves the client a session. */
static void earn_session(struct link *l)
{
	connect_once(l, NULL);
	move(l, 100, 100);
	link_disconnect(l);
	assert_non_null(link_client(l)->session);
}

void link_connect_then(struct link *l, void (*after_peer)(struct link *l))
{
	if (l->v.resume == RESUME_TICKET || l->v.resume == RESUME_SESSION_ID)
		earn_session(l);
	connect_once(l, after_peer);
	if (l->v.resume && !SSL_session_reused(l->us.ssl))
		fail_msg("the session was not resumed");
	if (l->v.tickets_read)
		read_tickets(l, l->v.tickets_read);
}

void link_connect(struct link *l)
{
	link_connect_then(l, NULL);
}

struct link *link_made(const struct variant *v)
{
	struct link *l = link_new(v);

	link_connect(l);
	return l;
}

/* ---- ends ---- */

static void free_wire(struct wire *w)
{
	if (w) {
		free(w->sent.data);
		free(w->received.data);
	}
	free(w);
}

static void close_connector(struct end *e)
{
	BIO_set_close(e->connector, BIO_CLOSE);
	BIO_free(e->connector);
	e->connector = NULL;
	e->fd = e->write_fd = -1;
}

static void close_end(struct end *e)
{
	tlsfd_free(e->conn);
	SSL_free(e->ssl);
	free_wire(e->wire);
	if (e->connector)
		close_connector(e);
	if (e->write_fd >= 0 && e->write_fd != e->fd)
		close(e->write_fd);
	if (e->fd >= 0)
		close(e->fd);
	e->conn = NULL;
	e->ssl = NULL;
	e->wire = NULL;
	e->fd = e->write_fd = -1;
}

void link_disconnect(struct link *l)
{
	/* the session of a connection that wasn't shut down is not resumable */
	if (l->us.ssl && l->us.via == VIA_SSL && SSL_is_init_finished(l->us.ssl))
		SSL_shutdown(l->us.ssl);
	if (l->peer.ssl && SSL_is_init_finished(l->peer.ssl))
		SSL_shutdown(l->peer.ssl);
	close_end(&l->us);
	close_end(&l->peer);
	ERR_clear_error();
}

void link_free(struct link *l)
{
	link_disconnect(l);
	SSL_SESSION_free(l->us.session);
	SSL_SESSION_free(l->peer.session);
	SSL_CTX_free(l->us.ctx);
	SSL_CTX_free(l->peer.ctx);
	free(l);
}

/* ---- the handover ---- */

static void check_direction(const struct link *l, const struct tlsfd_report *r,
			    enum tlsfd_direction dir, bool openssl_did)
{
	BIO *bio = dir == TLSFD_TX ? SSL_get_wbio(l->us.ssl) : SSL_get_rbio(l->us.ssl);

	assert_true(tlsfd_report_kernel(r, dir));
	assert_int_equal(tlsfd_report_why(r, dir), TLSFD_WHY_NONE);
	assert_int_equal(tlsfd_report_errno(r, dir), 0);
	assert_int_equal(tlsfd_report_mover(r, dir),
			 openssl_did ? TLSFD_MOVER_OPENSSL : TLSFD_MOVER_TLSFD);
	assert_true(dir == TLSFD_TX ? BIO_get_ktls_send(bio) : BIO_get_ktls_recv(bio));
	if (l->us.conn)
		assert_true(tlsfd_kernel(l->us.conn, dir));
}

/* What was in the kernel before was moved by OpenSSL. */
static void check_success(struct link *l, enum via via, const struct tlsfd_report *r,
			  const bool openssl_did[2])
{
	assert_true(via == VIA_CONN ? l->us.conn != NULL : l->us.conn == NULL);
	check_direction(l, r, TLSFD_RX, openssl_did[0]);
	check_direction(l, r, TLSFD_TX, openssl_did[1]);
	assert_null(tlsfd_report_remedy(r));
	l->us.via = via;
}

int try_hand_over(struct link *l, enum via via)
{
	bool openssl_did[2] = { BIO_get_ktls_recv(SSL_get_rbio(l->us.ssl)),
				BIO_get_ktls_send(SSL_get_wbio(l->us.ssl)) };
	struct tlsfd_report *r = NULL;
	int err = tlsfd_handover(l->us.ssl, via == VIA_CONN ? &l->us.conn : NULL, &r);

	assert_non_null(r);
	if (err && err != -EAGAIN)
		printf("# %s; %s\n", tlsfd_report_sentence(r), tlsfd_report_remedy(r));
	if (err == 0)
		check_success(l, via, r, openssl_did);
	else
		assert_null(l->us.conn);
	tlsfd_report_free(r);
	return err;
}

void hand_over(struct link *l, enum via via)
{
	assert_int_equal(try_hand_over(l, via), 0);
}

void leave_openssl(struct link *l)
{
	SSL_free(l->us.ssl);
	l->us.ssl = NULL;
}

void hand_over_and_leave(struct link *l)
{
	bool tickets_wait =
		!l->v.server && l->v.version == TLS1_3_VERSION && l->v.tickets_read < l->v.tickets;

	hand_over(l, tickets_wait ? VIA_CONN : VIA_FD);
	leave_openssl(l);
}
