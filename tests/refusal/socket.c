/*
 * What an SSL can stand on that no kernel TLS can: other BIOs, other sockets, a
 * socket that others have been at.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ktls.h"
#include "refused.h"
#include "suite.h"
#include "sys.h"

/* ---- BIOs ---- */

/* A link whose end under test stands on what `put` puts there. */
static struct link *standing_on(const struct variant *v, void (*put)(struct link *l))
{
	struct link *l = link_new(v);

	link_open(l);
	put(l);
	return l;
}

/* A BIO of a program's own: a socket BIO's methods under another type. */
static int own_write(BIO *bio, const char *data, int n)
{
	int fd = (int)(intptr_t)BIO_get_data(bio);
	ssize_t sent = send(fd, data, (size_t)n, MSG_NOSIGNAL);

	BIO_clear_retry_flags(bio);
	if (sent < 0 && errno == EAGAIN)
		BIO_set_retry_write(bio);
	return (int)sent;
}

static int own_read(BIO *bio, char *data, int n)
{
	int fd = (int)(intptr_t)BIO_get_data(bio);
	ssize_t got = recv(fd, data, (size_t)n, 0);

	BIO_clear_retry_flags(bio);
	if (got < 0 && errno == EAGAIN)
		BIO_set_retry_read(bio);
	return (int)got;
}

static long own_ctrl(BIO *bio, int cmd, long larg, void *parg)
{
	(void)larg;
	if (cmd == BIO_C_GET_FD) {
		if (parg)
			*(int *)parg = (int)(intptr_t)BIO_get_data(bio);
		return (int)(intptr_t)BIO_get_data(bio);
	}
	return cmd == BIO_CTRL_FLUSH;
}

static void put_own_bio(struct link *l)
{
	static BIO_METHOD *method;
	BIO *bio;

	if (!method) {
		method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK |
					      BIO_TYPE_DESCRIPTOR, "own");
		BIO_meth_set_write(method, own_write);
		BIO_meth_set_read(method, own_read);
		BIO_meth_set_ctrl(method, own_ctrl);
	}
	bio = BIO_new(method);
	BIO_set_data(bio, (void *)(intptr_t)l->us.fd);
	BIO_set_init(bio, 1);
	SSL_set_bio(l->us.ssl, bio, bio);
}

static void put_buffer_in_front(struct link *l)
{
	BIO *socket = BIO_new_socket(l->us.fd, BIO_NOCLOSE), *buffer = BIO_new(BIO_f_buffer());

	BIO_up_ref(socket);
	SSL_set_bio(l->us.ssl, socket, BIO_push(buffer, socket));
}

static void put_fd_bio(struct link *l)
{
	BIO *bio = BIO_new_fd(l->us.fd, BIO_NOCLOSE);

	SSL_set_bio(l->us.ssl, bio, bio);
}

static struct link *bio_is_refused(const struct variant *v, void (*put)(struct link *l))
{
	struct link *l = standing_on(v, put);

	assert_refused(l->us.ssl, -ENOTCONN, TLSFD_WHY_HANDSHAKE);
	link_handshake(l, NULL);
	assert_refused(l->us.ssl, -EOPNOTSUPP, TLSFD_WHY_BIO);
	return l;
}

static void own_bio(void **state)
{
	struct link *l = bio_is_refused(*state, put_own_bio);

	assert_goes_on(l);
	link_free(l);
}

/* What is written stays in the buffer until the program flushes it. */
static void buffer_in_front(void **state)
{
	struct link *l = bio_is_refused(*state, put_buffer_in_front);
	struct flow in = { .end = &l->peer, .left = 100 };

	assert_int_equal(SSL_write(l->us.ssl, pattern_at(0), 100), 100);
	assert_int_equal(BIO_flush(SSL_get_wbio(l->us.ssl)), 1);
	assert_null(run_flows(&in, 1));
	move(l, 0, 70000);
	link_free(l);
}

/* read(2) and write(2) on a descriptor: OpenSSL doesn't know that it is a socket. */
static void fd_bio(void **state)
{
	struct link *l = bio_is_refused(*state, put_fd_bio);

	assert_goes_on(l);
	link_free(l);
}

/* The peer of a wire stands on memory: hand that one over. */
static void memory_bio(void **state)
{
	struct variant v = *(const struct variant *)*state;
	struct link *l;

	v.wire = true;
	l = link_new(&v);
	assert_int_equal(tlsfd_prepare(l->peer.ctx), 0);
	link_connect(l);
	assert_refused(l->peer.ssl, -EOPNOTSUPP, TLSFD_WHY_BIO);
	assert_goes_on(l);
	link_free(l);
}

static void bio_pair(void **state)
{
	const struct variant *v = *state;
	struct link *l = link_new(v);
	SSL *a = SSL_new(l->us.ctx), *b = SSL_new(l->peer.ctx);
	SSL *client = v->server ? b : a;
	char heard[8] = "";
	BIO *x, *y;

	assert_int_equal(BIO_new_bio_pair(&x, 0, &y, 0), 1);
	SSL_set_bio(a, x, x);
	SSL_set_bio(b, y, y);
	SSL_set_connect_state(client);
	SSL_set_accept_state(client == a ? b : a);
	for (int i = 0; i < 10; i++) {
		SSL_do_handshake(a);
		SSL_do_handshake(b);
	}
	assert_true(SSL_is_init_finished(a) && SSL_is_init_finished(b));
	assert_refused(a, -EOPNOTSUPP, TLSFD_WHY_BIO);
	assert_int_equal(SSL_write(a, "there", 6), 6);
	assert_int_equal(SSL_read(b, heard, sizeof(heard)), 6);
	assert_int_equal(SSL_write(b, "back", 5), 5);
	assert_int_equal(SSL_read(a, heard, sizeof(heard)), 5);
	assert_string_equal(heard, "back");
	SSL_free(a);
	SSL_free(b);
	link_free(l);
}

/* ---- sockets ---- */

/* Instead of the link's own: both ends get the fds of `fd`. */
static struct link *over(const struct variant *v, const int fd[2])
{
	struct link *l = link_new(v);

	link_open(l);
	close(l->us.fd);
	close(l->peer.fd);
	l->us.fd = l->us.write_fd = fd[0];
	l->peer.fd = l->peer.write_fd = fd[1];
	set_blocking(fd[0], false);
	set_blocking(fd[1], false);
	assert_int_equal(SSL_set_fd(l->us.ssl, fd[0]), 1);
	assert_int_equal(SSL_set_fd(l->peer.ssl, fd[1]), 1);
	link_handshake(l, NULL);
	return l;
}

static void unix_socket(void **state)
{
	struct link *l;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	l = over(*state, fd);
	assert_refused(l->us.ssl, -EOPNOTSUPP, TLSFD_WHY_NOT_TCP);
	assert_goes_on(l);
	link_free(l);
}

static void multipath(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
	struct link *l;
	int fd[2];

	if (listener < 0)
		skip_because("this kernel has no MPTCP");
	assert_int_equal(bind(listener, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
	assert_int_equal(connect(fd[0], (struct sockaddr *)&a, len), 0);
	fd[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	l = over(*state, fd);
	assert_refused(l->us.ssl, -EOPNOTSUPP, TLSFD_WHY_MPTCP);
	assert_goes_on(l);
	link_free(l);
}

/* rfd and wfd of two connections, each used one way. */
static void two_sockets(void **state)
{
	const struct variant *v = *state;
	struct link *l = link_new(v), *second = link_new(v);

	link_open(l);
	link_open(second);
	assert_int_equal(SSL_set_wfd(l->us.ssl, second->us.fd), 1);
	assert_int_equal(SSL_set_rfd(l->peer.ssl, second->peer.fd), 1);
	/* the harness polls l's fds only; both ends are here, so polling isn't needed */
	for (int i = 0; i < 20; i++) {
		SSL_do_handshake(l->us.ssl);
		SSL_do_handshake(l->peer.ssl);
	}
	assert_true(SSL_is_init_finished(l->us.ssl) && SSL_is_init_finished(l->peer.ssl));
	assert_refused(l->us.ssl, -EOPNOTSUPP, TLSFD_WHY_TWO_SOCKETS);
	assert_goes_on(l);
	link_free(second);
	link_free(l);
}

/* ---- not established ---- */

static int no_early_attach(int fd, int level, int name)
{
	(void)fd;
	return level == SOL_TCP && name == TCP_ULP ? -EAGAIN : 0;
}

/* As if tlsfd did not try before the handshake; afterwards the real socket answers. */
static struct link *attached_late(const struct variant *v)
{
	struct link *l;

	sys_fault = no_early_attach;
	l = link_made(v);
	sys_fault = NULL;
	return l;
}

/* The peer has sent its FIN by the time of the handover, after some data. */
static void peer_finished_early(struct link *l)
{
	assert_int_equal(SSL_write(l->peer.ssl, pattern_at(l->peer.sent), 100), 100);
	l->peer.sent += 100;
	assert_int_equal(shutdown(l->peer.fd, SHUT_WR), 0);
	for (struct pollfd p = { .fd = l->us.fd, .events = POLLRDHUP }; !(p.revents & POLLRDHUP);)
		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
}

static void peers_fin_before_the_handover(void **state)
{
	struct link *l = attached_late(*state);
	struct flow in = { .end = &l->us, .left = 100 };
	char byte;

	peer_finished_early(l);
	assert_refused_as(l->us.ssl, &(struct refusal_expected){
					     -ENOTCONN,
					     { TLSFD_WHY_NOT_ESTABLISHED, ENOTCONN },
					     { TLSFD_WHY_NOT_ESTABLISHED, ENOTCONN } });
	assert_null(run_flows(&in, 1));
	move(l, 70000, 0);
	assert_true(SSL_read(l->us.ssl, &byte, 1) <= 0);
	link_free(l);
}

/* With it, an early FIN does no harm. */
static void peers_fin_after_early_attach(void **state)
{
	struct link *l = link_made(*state);
	struct flow in = { .end = &l->us, .left = 100 };
	char byte;

	peer_finished_early(l);
	hand_over(l, VIA_CONN);
	assert_null(run_flows(&in, 1));
	move(l, 70000, 0);
	assert_int_equal(tlsfd_read(l->us.conn, &byte, 1), -ECONNABORTED);
	link_free(l);
}

static void own_shutdown(void **state)
{
	struct link *l = attached_late(*state);

	move(l, 100, 100);
	assert_int_equal(shutdown(l->us.fd, SHUT_WR), 0);
	assert_refused_as(l->us.ssl, &(struct refusal_expected){
					     -ENOTCONN,
					     { TLSFD_WHY_NOT_ESTABLISHED, ENOTCONN },
					     { TLSFD_WHY_NOT_ESTABLISHED, ENOTCONN } });
	move(l, 0, 70000);
	link_free(l);
}

static void fd_closed_by_the_program(void **state)
{
	struct link *l = link_made(*state);
	int fd = fcntl(l->us.fd, F_DUPFD_CLOEXEC, 0);

	close(l->us.fd);
	assert_refused_as(l->us.ssl, &(struct refusal_expected){ -EBADF,
								  { TLSFD_WHY_SOCKET, EBADF },
								  { TLSFD_WHY_SOCKET, EBADF } });
	assert_int_equal(dup2(fd, l->us.fd), l->us.fd);
	close(fd);
	assert_goes_on(l);
	assert_moves(l);
	link_free(l);
}

/* ---- sockets that others have been at ---- */

static void foreign_keys(struct link *l, int option)
{
	struct tls12_crypto_info_aes_gcm_128 info = {
		.info = { (uint16_t)l->v.version, TLS_CIPHER_AES_GCM_128 }
	};
	char ulp[16] = "";
	socklen_t len = sizeof(ulp);

	/* tlsfd has set it, before the handshake */
	assert_int_equal(getsockopt(l->us.fd, SOL_TCP, TCP_ULP, ulp, &len), 0);
	assert_string_equal(ulp, "tls");
	assert_int_equal(setsockopt(l->us.fd, SOL_TLS, option, &info, sizeof(info)), 0);
	assert_refused(l->us.ssl, -EEXIST, TLSFD_WHY_FOREIGN_KEYS);
}

/* Such a socket is no use for the direction that has the keys. */
static void foreign_tx_keys(void **state)
{
	struct link *l = link_made(*state);

	foreign_keys(l, TLS_TX);
	move(l, 0, 70000);
	link_free(l);
}

static void foreign_rx_keys(void **state)
{
	struct link *l = link_made(*state);

	foreign_keys(l, TLS_RX);
	move(l, 70000, 0);
	link_free(l);
}

/* An SSL of a second connection over a socket that a first has handed over. */
static void socket_used_before(void **state)
{
	struct link *l = link_made(*state);
	SSL *second;

	hand_over(l, VIA_CONN);
	second = SSL_new(l->us.ctx);
	assert_int_equal(SSL_set_fd(second, l->us.fd), 1);
	SSL_set_connect_state(second);
	assert_refused(second, -ENOTCONN, TLSFD_WHY_HANDSHAKE);
	SSL_free(second);
	assert_goes_on(l);
	link_free(l);
}

/* ---- */

static const struct {
	const char *name;
	CMUnitTestFunction test;
} tests[] = {
	{ "a BIO of the program's own", own_bio },
	{ "BIO_f_buffer in front", buffer_in_front },
	{ "BIO_s_fd", fd_bio },
	{ "memory BIOs", memory_bio },
	{ "BIO pair", bio_pair },
	{ "AF_UNIX", unix_socket },
	{ "MPTCP", multipath },
	{ "rfd and wfd of two sockets", two_sockets },
	{ "the peer's FIN, no early attach", peers_fin_before_the_handover },
	{ "the peer's FIN, early attach", peers_fin_after_early_attach },
	{ "own shutdown(SHUT_WR)", own_shutdown },
	{ "fd closed by the program", fd_closed_by_the_program },
	{ "foreign TX keys", foreign_tx_keys },
	{ "foreign RX keys", foreign_rx_keys },
	{ "a socket used before", socket_used_before },
};

int main(int argc, char **argv)
{
	static const struct variant versions[] = { TLS12, TLS13 };

	for (size_t i = 0; i < LENGTH(tests); i++) {
		for (int k = 0; k < 4; k++) {
			struct variant v = versions[k / 2];

			v.server = k & 1;
			suite_add(tests[i].test, &v, sizeof(v), "%s, TLS 1.%d %s", tests[i].name,
				  k / 2 ? 3 : 2, v.server ? "server" : "client");
		}
	}
	return suite_run(argc, argv);
}
