/*
 * What an earlier connection left must not be taken for this one: an SSL that is
 * pooled and given another socket, an fd that was closed. And what is missing at the
 * end, where OpenSSL has moved both directions: the BIO can't be closed to it, or
 * memory is short.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "credentials.h"
#include "ktls.h"
#include "refused.h"
#include "suite.h"
#include "watch.h"

static bool has_keys(int fd, int option)
{
	struct tls_crypto_info info;
	socklen_t len = sizeof(info);

	return getsockopt(fd, SOL_TLS, option, &info, &len) == 0;
}

static void assert_no_keys(int fd)
{
	assert_false(has_keys(fd, TLS_RX));
	assert_false(has_keys(fd, TLS_TX));
}

static void assert_nothing_arrived(const struct end *e)
{
	char byte;

	assert_int_equal(recv(e->fd, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

/* ---- an SSL is pooled and given another socket ---- */

struct reuse {
	struct variant v;
	bool renumber; /* the other socket has another number, too */
};

/* Hands over, uses and ends a first connection; its SSL stays. */
static SSL *pooled(struct link *l)
{
	SSL *ssl = l->us.ssl;

	hand_over(l, VIA_FD);
	move(l, 1000, 1000);
	l->us.ssl = NULL;
	link_disconnect(l);
	return ssl;
}

static void renumber(struct end *e)
{
	int fd = fcntl(e->fd, F_DUPFD_CLOEXEC, e->fd + 20);

	assert_true(fd >= 0);
	close(e->fd);
	e->fd = e->write_fd = fd;
}

/* A second connection's sockets, ours with the SSL of the first. */
static struct link *given_another_socket(const struct reuse *how, bool clear)
{
	struct link *l = link_made(&how->v);
	int first_fd = l->us.fd;
	SSL *ssl = pooled(l);

	link_open(l);
	SSL_free(l->us.ssl);
	l->us.ssl = ssl;
	if (how->renumber)
		renumber(&l->us);
	assert_int_equal(l->us.fd == first_fd, !how->renumber);
	if (clear)
		assert_int_equal(SSL_clear(ssl), 1);
	assert_int_equal(SSL_set_fd(ssl, l->us.fd), 1);
	return l;
}

static void socket_only(void **state)
{
	struct link *l = given_another_socket(*state, false);

	assert_refused(l->us.ssl, -ENOTCONN, TLSFD_WHY_CLOSED);
	assert_no_keys(l->us.fd);
	assert_true(SSL_write(l->us.ssl, "plaintext", 9) <= 0);
	assert_nothing_arrived(&l->peer);
	link_free(l);
}

static void cleared(void **state)
{
	struct link *l = given_another_socket(*state, true);

	assert_refused(l->us.ssl, -ENOTCONN, TLSFD_WHY_HANDSHAKE);
	assert_no_keys(l->us.fd);
	assert_nothing_arrived(&l->peer);
	/* nothing is spoilt by that */
	link_handshake(l, NULL);
	assert_goes_on(l);
	assert_moves(l);
	link_free(l);
}

static void assert_refused_but_works(struct link *l, enum tlsfd_why why)
{
	assert_refused(l->us.ssl, -ENODATA, why);
	assert_no_keys(l->us.fd);
	assert_goes_on(l);
	assert_refused(l->us.ssl, -ENODATA, why);
	assert_no_keys(l->us.fd);
}

static void own_info(const SSL *ssl, int where, int ret)
{
	(void)ssl, (void)where, (void)ret;
}

/* TLS 1.3 has the key log to see where records begin to count. */
static void cleared_with_own_info_callback(void **state)
{
	struct link *l = given_another_socket(*state, true);

	SSL_set_info_callback(l->us.ssl, own_info);
	link_handshake(l, NULL);
	if (l->v.version == TLS1_2_VERSION)
		assert_refused_but_works(l, TLSFD_WHY_CALLBACK_REPLACED);
	else
		assert_moves(l);
	link_free(l);
}

static SSL_CTX *unprepared_context(struct link *l)
{
	SSL_CTX *ctx = SSL_CTX_new(l->v.server ? TLS_server_method() : TLS_client_method());

	SSL_CTX_set_app_data(ctx, &l->us);
	use_credentials(ctx, KEY_P256);
	trust_credentials(ctx, KEY_P256);
	return ctx;
}

static void cleared_with_unprepared_context(void **state)
{
	struct link *l = given_another_socket(*state, true);
	SSL_CTX *other = unprepared_context(l);

	assert_ptr_equal(SSL_set_SSL_CTX(l->us.ssl, other), other);
	link_handshake(l, NULL);
	assert_refused_but_works(l, TLSFD_WHY_NOT_PREPARED);
	link_free(l);
	SSL_CTX_free(other);
}

/* As it should be done. */
static void cleared_and_connected(void **state)
{
	struct link *l = given_another_socket(*state, true);

	link_handshake(l, NULL);
	assert_goes_on(l);
	hand_over(l, VIA_FD);
	assert_true(has_keys(l->us.fd, TLS_RX));
	assert_true(has_keys(l->us.fd, TLS_TX));
	assert_goes_on(l);
	link_free(l);
}

/* OpenSSL moves what it can of either connection. */
static void cleared_and_connected_with_openssl_ktls(void **state)
{
	struct reuse how = *(const struct reuse *)*state;
	void *with_ktls = &how;

	how.v.ktls = true;
	cleared_and_connected(&with_ktls);
}

/* ---- the fd was closed ---- */

static void hand_over_and_close(struct link *l)
{
	hand_over(l, VIA_FD);
	move(l, 1000, 1000);
	assert_int_equal(close(l->us.fd), 0);
	l->us.fd = l->us.write_fd = -1;
}

static void fd_closed(void **state)
{
	const struct reuse *how = *state;
	struct link *l = link_made(&how->v);

	hand_over_and_close(l);
	assert_refused(l->us.ssl, -ENOTCONN, TLSFD_WHY_CLOSED);
	link_free(l);
}

/* The number is another socket's by now. */
static void fd_closed_and_taken(void **state)
{
	const struct reuse *how = *state;
	struct link *l = link_made(&how->v), *other = link_new(&how->v);
	int fd = l->us.fd;

	link_open(other);
	hand_over_and_close(l);
	assert_int_equal(dup2(other->us.fd, fd), fd);
	assert_refused(l->us.ssl, -ENOTCONN, TLSFD_WHY_CLOSED);
	assert_no_keys(fd);
	assert_nothing_arrived(&other->peer);
	close(fd);
	link_handshake(other, NULL);
	assert_moves(other);
	link_free(l);
	link_free(other);
}

/* ---- OpenSSL has moved both directions, the BIO can't be closed to it ---- */

static void need_both_moved(const struct link *l)
{
	if (!BIO_get_ktls_send(SSL_get_wbio(l->us.ssl)) ||
	    !BIO_get_ktls_recv(SSL_get_rbio(l->us.ssl)))
		skip_because("this OpenSSL was built without kTLS");
}

#if OPENSSL_VERSION_NUMBER < 0x40000000L
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static long old_bio(BIO *bio, int oper, const char *argp, int argi, long argl, long ret)
{
	(void)bio, (void)oper, (void)argp, (void)argi, (void)argl;
	return ret;
}

static void old_bio_callback(const struct variant *v)
{
	struct link *l = link_new(v);

	link_open(l);
	BIO_set_callback(SSL_get_rbio(l->us.ssl), old_bio);
	link_handshake(l, NULL);
	need_both_moved(l);
	assert_refused(l->us.ssl, -ENODATA, TLSFD_WHY_CALLBACK_REPLACED);
	assert_true(BIO_get_callback(SSL_get_rbio(l->us.ssl)) == old_bio);
	assert_goes_on(l);
	/* the program takes it away */
	BIO_set_callback(SSL_get_rbio(l->us.ssl), NULL);
	assert_moves(l);
	link_free(l);
}
#pragma GCC diagnostic pop

static void old_callback_prepared(void **state)
{
	struct variant v = ((const struct reuse *)*state)->v;

	v.ktls = true;
	old_bio_callback(&v);
}

static void old_callback_unprepared(void **state)
{
	struct variant v = ((const struct reuse *)*state)->v;

	v.ktls = v.unprepared = true;
	old_bio_callback(&v);
}
#endif

/* ---- memory is short ---- */

/* A sanitizer has a calloc of its own. */
#if !SANITIZED
/* The calls of this program, so of the library in it; not OpenSSL's. */
static unsigned fails_after;

void *__libc_calloc(size_t n, size_t size);
void *calloc(size_t n, size_t size);

void *calloc(size_t n, size_t size)
{
	if (fails_after && --fails_after == 0) {
		errno = ENOMEM;
		return NULL;
	}
	return __libc_calloc(n, size);
}

enum { MOST_CALLOCS = 8 };

struct shortage {
	struct variant v;
	unsigned nth; /* call of calloc that fails */
};

/* True: it was not called that often. */
static bool survived(void)
{
	bool left = fails_after != 0;

	fails_after = 0;
	return left;
}

static void assert_no_memory(const struct tlsfd_report *r)
{
	if (!r)
		return;
	assert_int_equal(tlsfd_report_why(r, TLSFD_RX), TLSFD_WHY_MEMORY);
	assert_int_equal(tlsfd_report_why(r, TLSFD_TX), TLSFD_WHY_MEMORY);
	assert_words(r, TLSFD_WHY_MEMORY, 0);
}

static void short_in_the_handover(void **state)
{
	const struct shortage *s = *state;
	struct link *l = link_made(&s->v);
	struct tlsfd_report *r = NULL;
	int err;

	if (s->v.ktls)
		need_both_moved(l);
	fails_after = s->nth;
	err = tlsfd_handover(l->us.ssl, &l->us.conn, &r);
	if (survived()) {
		assert_int_equal(err, 0);
		l->us.via = VIA_CONN;
		assert_goes_on(l);
	} else {
		assert_int_equal(err, -ENOMEM);
		assert_null(l->us.conn);
		assert_no_memory(r);
		assert_goes_on(l);
		assert_moves(l);
	}
	tlsfd_report_free(r);
	link_free(l);
}

/* What could not be seen for that is missing later, and no more. */
static void short_in_the_handshake(void **state)
{
	const struct shortage *s = *state;
	struct link *l = link_new(&s->v);
	bool plenty;

	link_open(l);
	fails_after = s->nth;
	link_handshake(l, NULL);
	plenty = survived();
	/* TLS 1.3 begins to look once more, with the key log */
	if (plenty || s->v.version == TLS1_3_VERSION) {
		assert_goes_on(l);
		assert_moves(l);
	} else {
		assert_refused_but_works(l, TLSFD_WHY_NOT_PREPARED);
	}
	link_free(l);
}

static void add_shortages(const struct variant *v, const char *name)
{
	struct shortage s = { .v = *v };

	for (s.nth = 1; s.nth <= MOST_CALLOCS; s.nth++) {
		suite_add(short_in_the_handover, &s, sizeof(s), "calloc %u of the handover fails, %s",
			  s.nth, name);
		suite_add(short_in_the_handshake, &s, sizeof(s),
			  "calloc %u of the handshake fails, %s", s.nth, name);
		if (v->version == TLS1_3_VERSION)
			continue;
		/* unprepared: the handover itself must make what closes the BIO */
		s.v.ktls = s.v.unprepared = true;
		suite_add(short_in_the_handover, &s, sizeof(s),
			  "calloc %u of the handover fails, OpenSSL has moved both, %s", s.nth, name);
		s.v = *v;
	}
}
#endif

/* ---- records that could not be counted ---- */

static struct link *lost(void **state, bool rx, bool tx)
{
	const struct reuse *how = *state;
	struct link *l = link_made(&how->v);
	struct watch *w = watch_of(l->us.ssl);

	move(l, 10, 10);
	assert_non_null(w);
	w->way[RX].flow.lost = rx;
	w->way[TX].flow.lost = tx;
	return l;
}

static void lost_rx(void **state)
{
	struct link *l = lost(state, true, false);

	assert_refused_rx(l->us.ssl, -ENODATA, TLSFD_WHY_NOT_FOLLOWED);
	assert_goes_on(l);
	link_free(l);
}

static void lost_tx(void **state)
{
	struct link *l = lost(state, false, true);

	assert_refused_tx(l->us.ssl, -ENODATA, TLSFD_WHY_NOT_FOLLOWED);
	assert_goes_on(l);
	link_free(l);
}

static void lost_both(void **state)
{
	struct link *l = lost(state, true, true);

	assert_refused(l->us.ssl, -ENODATA, TLSFD_WHY_NOT_FOLLOWED);
	assert_goes_on(l);
	assert_refused(l->us.ssl, -ENODATA, TLSFD_WHY_NOT_FOLLOWED);
	link_free(l);
}

/* The way it comes about: a ClientHello in the format of SSL 2.0, RFC 5246 appendix
 * E.2. OpenSSL answers it with TLS 1.2. */
static void hello_of_ssl2(void **state)
{
	static const uint8_t hello[2 + 9 + 3 + 32] = { 0x80, sizeof(hello) - 2, 1, 3, 3, 0, 3, 0,
						       0, 0, 32, 0, 0x00, 0x9c };
	struct variant v = { .version = TLS1_2_VERSION, .suite = "AES128-GCM-SHA256",
			     .server = true };
	struct link *l = link_new(&v);
	uint8_t answer = 0;

	(void)state;
	link_open(l);
	SSL_set_security_level(l->us.ssl, 0); /* such a hello stands for SHA-1 */
	assert_int_equal(send(l->peer.fd, hello, sizeof(hello), 0), sizeof(hello));
	wait_for(l->us.fd, POLLIN);
	assert_int_equal(SSL_do_handshake(l->us.ssl), -1);
	assert_int_equal(SSL_get_error(l->us.ssl, -1), SSL_ERROR_WANT_READ);
	wait_for(l->peer.fd, POLLIN);
	assert_int_equal(recv(l->peer.fd, &answer, 1, MSG_PEEK), 1);
	assert_int_equal(answer, SSL3_RT_HANDSHAKE);
	assert_true(watch_of(l->us.ssl)->way[RX].flow.lost);
	assert_false(watch_of(l->us.ssl)->way[TX].flow.lost);
	assert_refused(l->us.ssl, -ENOTCONN, TLSFD_WHY_HANDSHAKE);
	link_free(l);
}

/* ---- */

enum { IN_12 = 1, IN_13 = 2, BOTH = 3 };

static const struct {
	const char *name;
	CMUnitTestFunction test;
	unsigned versions;
	bool renumbered; /* also with another number of the socket */
} tests[] = {
	{ "pooled, another socket only", socket_only, BOTH, true },
	{ "pooled, cleared, no handshake yet", cleared, BOTH, true },
	{ "pooled, cleared, info callback of the SSL", cleared_with_own_info_callback, BOTH, true },
	{ "pooled, cleared, unprepared context", cleared_with_unprepared_context, BOTH, true },
	{ "pooled, cleared, connected", cleared_and_connected, BOTH, true },
	{ "pooled, cleared, connected, OpenSSL's kTLS", cleared_and_connected_with_openssl_ktls,
	  BOTH, true },
	{ "fd closed", fd_closed, BOTH, false },
	{ "fd closed, its number taken", fd_closed_and_taken, BOTH, false },
#if OPENSSL_VERSION_NUMBER < 0x40000000L
	{ "OpenSSL has moved both, BIO callback of the old kind", old_callback_prepared, IN_12,
	  false },
	{ "OpenSSL has moved both, BIO callback of the old kind, unprepared",
	  old_callback_unprepared, IN_12, false },
#endif
	{ "records not followed, rx", lost_rx, IN_12, false },
	{ "records not followed, tx", lost_tx, IN_12, false },
	{ "records not followed, both", lost_both, IN_12, false },
};

static void add_tests(const struct variant *v, unsigned version, const char *name)
{
	for (size_t i = 0; i < LENGTH(tests); i++) {
		struct reuse how = { *v, false };

		if (!(tests[i].versions & version))
			continue;
		suite_add(tests[i].test, &how, sizeof(how), "%s, %s", tests[i].name, name);
		how.renumber = true;
		if (tests[i].renumbered)
			suite_add(tests[i].test, &how, sizeof(how), "%s, another number, %s",
				  tests[i].name, name);
	}
}

int main(int argc, char **argv)
{
	static const struct variant versions[] = { TLS12, TLS13 };

	for (int k = 0; k < 4; k++) {
		struct variant v = versions[k / 2];
		char name[32];

		v.server = k & 1;
		snprintf(name, sizeof(name), "TLS 1.%d %s", k / 2 ? 3 : 2,
			 v.server ? "server" : "client");
		add_tests(&v, k / 2 ? IN_13 : IN_12, name);
#if !SANITIZED
		add_shortages(&v, name);
#endif
	}
	suite_add(hello_of_ssl2, NULL, 0, "records not followed, ClientHello of SSL 2.0");
	return suite_run(argc, argv);
}
