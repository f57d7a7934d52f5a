/*
 * What was negotiated and no kernel can do: versions, ciphers, early data,
 * renegotiation, padding, compression, max_fragment_length.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <openssl/comp.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "credentials.h"
#include "refused.h"
#include "suite.h"

/* Old versions and short tags are below OpenSSL's default level. */
static void anything_goes(struct link *l)
{
	SSL_CTX_set_security_level(l->us.ctx, 0);
	SSL_CTX_set_security_level(l->peer.ctx, 0);
}

static struct link *open_link(const struct variant *v)
{
	struct link *l = link_new(v);

	anything_goes(l);
	link_open(l);
	return l;
}

static struct link *lax_link(const struct variant *v)
{
	struct link *l = open_link(v);

	link_handshake(l, NULL);
	return l;
}

static void assert_names(SSL *ssl, const char *what)
{
	struct tlsfd_report *r;

	assert_true(tlsfd_handover(ssl, NULL, &r) < 0);
	if (!strstr(tlsfd_report_sentence(r), what))
		fail_msg("\"%s\" lacks \"%s\"", tlsfd_report_sentence(r), what);
	tlsfd_report_free(r);
}

/* ---- versions and ciphers ---- */

struct row {
	const char *name;
	struct variant v;
	enum tlsfd_why why;
	const char *sentence_has;
};

#define CIPHER(version_, suite_) \
	{ suite_, { .version = version_, .suite = suite_ }, TLSFD_WHY_CIPHER, suite_ }

static const struct row rows[] = {
	CIPHER(TLS1_2_VERSION, "ECDHE-ECDSA-AES256-CCM"),
	CIPHER(TLS1_2_VERSION, "ECDHE-ECDSA-AES128-CCM8"),
	CIPHER(TLS1_2_VERSION, "ECDHE-ECDSA-AES256-CCM8"),
	CIPHER(TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256"),
	CIPHER(TLS1_2_VERSION, "ECDHE-ECDSA-AES256-SHA"),
	CIPHER(TLS1_2_VERSION, "ECDHE-ECDSA-CAMELLIA128-SHA256"),
	CIPHER(TLS1_2_VERSION, "ECDHE-ECDSA-ARIA128-GCM-SHA256"),
	CIPHER(TLS1_2_VERSION, "ECDHE-ECDSA-NULL-SHA"),
	CIPHER(TLS1_3_VERSION, "TLS_AES_128_CCM_8_SHA256"),
	{ "TLS 1.1", { .version = TLS1_1_VERSION, .suite = "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0" },
	  TLSFD_WHY_VERSION, "TLSv1.1" },
	{ "TLS 1.0", { .version = TLS1_VERSION, .suite = "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0" },
	  TLSFD_WHY_VERSION, "TLSv1 " },
};

static void refused_by_name(void **state)
{
	const struct row *row = *state;
	struct link *l = lax_link(&row->v);

	assert_refused(l->us.ssl, -EOPNOTSUPP, row->why);
	assert_names(l->us.ssl, row->sentence_has);
	assert_goes_on(l);
	link_free(l);
}

/* ---- DTLS ---- */

static int udp_socket(struct sockaddr_in *address)
{
	socklen_t len = sizeof(*address);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	*address = (struct sockaddr_in){ .sin_family = AF_INET,
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_int_equal(bind(fd, (struct sockaddr *)address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)address, &len), 0);
	return fd;
}

static SSL *dtls_end(SSL_CTX *ctx, int fd, const struct sockaddr_in *peer)
{
	SSL *ssl = SSL_new(ctx);
	BIO *bio = BIO_new_dgram(fd, BIO_CLOSE);
	union {
		struct sockaddr_in in;
		char room[256]; /* BIO_ADDR */
	} address = { *peer };

	assert_non_null(ssl);
	assert_int_equal(connect(fd, (const struct sockaddr *)peer, sizeof(*peer)), 0);
	BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_CONNECTED, 0, &address);
	SSL_set_bio(ssl, bio, bio);
	return ssl;
}

static void say(SSL *from, SSL *to, const char *text)
{
	char heard[32] = "";
	int n = (int)strlen(text);

	assert_int_equal(SSL_write(from, text, n), n);
	for (int i = 0; i < 10 && SSL_read(to, heard, sizeof(heard)) != n; i++)
		wait_for(SSL_get_fd(to), POLLIN);
	assert_string_equal(heard, text);
}

static void datagrams(void **state)
{
	SSL_CTX *client_ctx = SSL_CTX_new(DTLS_client_method());
	SSL_CTX *server_ctx = SSL_CTX_new(DTLS_server_method());
	struct sockaddr_in ca, sa;
	int cfd = udp_socket(&ca), sfd = udp_socket(&sa);
	SSL *client, *server;
	bool done = false;

	(void)state;
	use_credentials(server_ctx, KEY_P256);
	assert_int_equal(tlsfd_prepare(client_ctx), 0);
	assert_int_equal(tlsfd_prepare(server_ctx), 0);
	client = dtls_end(client_ctx, cfd, &sa);
	server = dtls_end(server_ctx, sfd, &ca);
	assert_refused(client, -EOPNOTSUPP, TLSFD_WHY_VERSION);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	for (int i = 0; i < 20 && !done; i++) {
		int a = SSL_do_handshake(client), b = SSL_do_handshake(server);

		done = a == 1 && b == 1;
		if (!done)
			assert_true(poll((struct pollfd[]){ { cfd, POLLIN, 0 }, { sfd, POLLIN, 0 } }, 2,
					 PATIENCE_MS) > 0);
	}
	assert_true(done);
	assert_refused(client, -EOPNOTSUPP, TLSFD_WHY_VERSION);
	assert_refused(server, -EOPNOTSUPP, TLSFD_WHY_VERSION);
	say(client, server, "a question");
	say(server, client, "an answer");
	SSL_free(client);
	SSL_free(server);
	SSL_CTX_free(client_ctx);
	SSL_CTX_free(server_ctx);
}

/* ---- QUIC, where this OpenSSL has it ---- */

static void quic(void **state)
{
	const SSL_METHOD *(*method)(void);
	SSL_CTX *ctx;
	SSL *ssl;

	(void)state;
	*(void **)&method = dlsym(RTLD_DEFAULT, "OSSL_QUIC_client_method");
	if (!method)
		skip_because("this OpenSSL has no QUIC");
	ctx = SSL_CTX_new(method());
	assert_non_null(ctx);
	assert_int_equal(tlsfd_prepare(ctx), 0);
	ssl = SSL_new(ctx);
	assert_non_null(ssl);
	assert_refused(ssl, -EOPNOTSUPP, TLSFD_WHY_VERSION);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
}

/* ---- early data ---- */

static struct link *second_connection(const struct variant *base, bool accepted)
{
	struct variant v = *base;
	struct link *l;

	v.tickets = 1;
	v.resume = RESUME_TICKET;
	l = link_new(&v);
	SSL_CTX_set_max_early_data(link_server(l)->ctx, 16384);
	link_open(l);
	link_handshake(l, NULL);
	move(l, 100, 100);
	link_disconnect(l);
	assert_non_null(link_client(l)->session);
	if (!accepted)
		SSL_CTX_set_max_early_data(link_server(l)->ctx, 0);
	link_open(l);
	return l;
}

static void early_data(struct link *l, bool accepted)
{
	SSL *client = link_client(l)->ssl, *server = link_server(l)->ssl;
	char heard[16] = "";
	size_t n = 0;
	int ret = SSL_READ_EARLY_DATA_ERROR;

	assert_int_equal(SSL_write_early_data(client, "early", 6, &n), 1);
	for (int i = 0; i < 20 && ret != SSL_READ_EARLY_DATA_FINISH; i++) {
		if (ret == SSL_READ_EARLY_DATA_SUCCESS)
			SSL_do_handshake(client); /* EndOfEarlyData */
		ret = SSL_read_early_data(server, heard, sizeof(heard), &n);
		if (ret == SSL_READ_EARLY_DATA_SUCCESS)
			assert_string_equal(heard, "early");
		if (ret == SSL_READ_EARLY_DATA_ERROR) {
			assert_int_equal(SSL_get_error(server, 0), SSL_ERROR_WANT_READ);
			wait_for(SSL_get_fd(server), POLLIN);
		}
	}
	assert_int_equal(ret, SSL_READ_EARLY_DATA_FINISH);
	link_handshake(l, NULL);
	assert_int_equal(SSL_get_early_data_status(l->us.ssl),
			 accepted ? SSL_EARLY_DATA_ACCEPTED : SSL_EARLY_DATA_REJECTED);
}

static void early_data_accepted(void **state)
{
	struct link *l = second_connection(*state, true);

	early_data(l, true);
	assert_refused(l->us.ssl, -EOPNOTSUPP, TLSFD_WHY_EARLY_DATA);
	assert_goes_on(l);
	link_free(l);
}

/* Rejected, it leaves nothing behind but skipped records. */
static void early_data_rejected(void **state)
{
	struct link *l = second_connection(*state, false);

	early_data(l, false);
	assert_moves(l);
	link_free(l);
}

/* ---- renegotiation ---- */

static void step(SSL *ssl)
{
	char byte;

	ERR_clear_error();
	SSL_do_handshake(ssl);
	/* reading is what lets an end see that the other wants to */
	assert_true(SSL_read(ssl, &byte, 1) <= 0);
	assert_int_equal(SSL_get_error(ssl, -1), SSL_ERROR_WANT_READ);
}

static bool renegotiated(const struct link *l)
{
	return SSL_get_state(l->us.ssl) == TLS_ST_OK && SSL_get_state(l->peer.ssl) == TLS_ST_OK &&
	       !SSL_renegotiate_pending(l->us.ssl) && !SSL_renegotiate_pending(l->peer.ssl);
}

struct renegotiation {
	struct variant v;
	bool by_us;
};

static void renegotiation(void **state)
{
	const struct renegotiation *how = *state;
	struct link *l = link_new(&how->v);
	int in_progress = 0;

	SSL_CTX_set_options(l->us.ctx, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	SSL_CTX_set_options(l->peer.ctx, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	link_connect(l);
	move(l, 100, 100);
	assert_int_equal(SSL_renegotiate(how->by_us ? l->us.ssl : l->peer.ssl), 1);
	if (how->by_us)
		assert_refused(l->us.ssl, -EOPNOTSUPP, TLSFD_WHY_RENEGOTIATION);
	for (int i = 0; i < 20 && (i == 0 || !renegotiated(l)); i++) {
		step(l->peer.ssl);
		step(l->us.ssl);
		if (SSL_get_state(l->us.ssl) != TLS_ST_OK) {
			assert_refused(l->us.ssl, -EOPNOTSUPP, TLSFD_WHY_RENEGOTIATION);
			in_progress++;
		}
		if (!renegotiated(l))
			link_wait(l);
	}
	assert_true(renegotiated(l));
	assert_true(in_progress > 0);
	assert_refused(l->us.ssl, -EOPNOTSUPP, TLSFD_WHY_RENEGOTIATION);
	assert_goes_on(l);
	link_free(l);
}

/* ---- padding ---- */

static size_t pad(SSL *ssl, int type, size_t n, void *arg)
{
	(void)ssl, (void)type, (void)n, (void)arg;
	return 100;
}

static void block_padding_of_the_context(struct link *l)
{
	SSL_CTX_set_block_padding(l->us.ctx, 512);
}

static void padding_callback_of_the_context(struct link *l)
{
	SSL_CTX_set_record_padding_callback(l->us.ctx, pad);
}

static void padding_is_refused(const struct variant *v, void (*set)(struct link *l))
{
	struct link *l = link_new(v);

	set(l);
	link_connect(l);
	assert_refused_tx(l->us.ssl, -EOPNOTSUPP, TLSFD_WHY_PADDING);
	assert_goes_on(l);
	link_free(l);
}

static void block_padding(void **state)
{
	padding_is_refused(*state, block_padding_of_the_context);
}

static void padding_callback(void **state)
{
	padding_is_refused(*state, padding_callback_of_the_context);
}

static void block_padding_of_the_ssl(void **state)
{
	struct link *l = link_new(*state);

	link_open(l);
	SSL_set_block_padding(l->us.ssl, 512);
	link_handshake(l, NULL);
	assert_refused_tx(l->us.ssl, -EOPNOTSUPP, TLSFD_WHY_PADDING);
	assert_goes_on(l);
	link_free(l);
}

/* What the peer pads is the kernel's to strip. */
static void peer_pads(void **state)
{
	struct link *l = link_new(*state);

	SSL_CTX_set_block_padding(l->peer.ctx, 512);
	link_connect(l);
	assert_moves(l);
	link_free(l);
}

/* ---- max_fragment_length, compression ---- */

static void max_fragment_length(void **state)
{
	struct link *l = link_new(*state);

	assert_int_equal(SSL_CTX_set_tlsext_max_fragment_length(link_client(l)->ctx,
								TLSEXT_max_fragment_length_512), 1);
	link_connect(l);
	assert_refused(l->us.ssl, -EOPNOTSUPP, TLSFD_WHY_MAX_FRAGMENT);
	assert_goes_on(l);
	link_free(l);
}

/*
 * No Debian OpenSSL compresses; a method of our own that copies lets it negotiate
 * compression all the same. The layout is crypto/comp/comp_local.h's.
 */
static int copy(COMP_CTX *ctx, unsigned char *out, size_t room, unsigned char *in, size_t n)
{
	(void)ctx;
	if (n > room)
		return -1;
	memcpy(out, in, n);
	return (int)n;
}

static int start_copying(COMP_CTX *ctx)
{
	(void)ctx;
	return 1;
}

static void stop_copying(COMP_CTX *ctx)
{
	(void)ctx;
}

static struct {
	int type;
	const char *name;
	int (*init)(COMP_CTX *ctx);
	void (*finish)(COMP_CTX *ctx);
	int (*compress)(COMP_CTX *, unsigned char *, size_t, unsigned char *, size_t);
	int (*expand)(COMP_CTX *, unsigned char *, size_t, unsigned char *, size_t);
} copying = { 1, "copy", start_copying, stop_copying, copy, copy };

static void compression(void **state)
{
	static bool added;
	struct link *l;

	added = added || SSL_COMP_add_compression_method(193, (COMP_METHOD *)&copying) == 0;
	if (!added)
		skip_because("this OpenSSL was built without TLS compression");
	l = link_new(*state);
	anything_goes(l);
	SSL_CTX_clear_options(l->us.ctx, SSL_OP_NO_COMPRESSION);
	SSL_CTX_clear_options(l->peer.ctx, SSL_OP_NO_COMPRESSION);
	link_connect(l);
	assert_non_null(SSL_get_current_compression(l->us.ssl));
	assert_refused(l->us.ssl, -EOPNOTSUPP, TLSFD_WHY_COMPRESSION);
	move(l, 1000, 1000);
	link_free(l);
}

/* ---- */

enum { IN_12 = 1, IN_13 = 2, BOTH = 3 };

static const struct {
	const char *name;
	CMUnitTestFunction test;
	unsigned versions;
} tests[] = {
	{ "early data accepted", early_data_accepted, IN_13 },
	{ "early data rejected", early_data_rejected, IN_13 },
	{ "block padding of the context", block_padding, IN_13 },
	{ "block padding of the SSL", block_padding_of_the_ssl, IN_13 },
	{ "padding callback", padding_callback, IN_13 },
	{ "the peer pads", peer_pads, IN_13 },
	{ "max_fragment_length", max_fragment_length, BOTH },
};

static const struct variant tls13 = TLS13, tls12 = TLS12;

static void add_both_roles(CMUnitTestFunction test, struct variant v, const char *name)
{
	for (int server = 0; server < 2; server++) {
		v.server = server;
		suite_add(test, &v, sizeof(v), "%s, TLS 1.%d %s", name,
			  v.version == TLS1_3_VERSION ? 3 : 2, server ? "server" : "client");
	}
}

static void add_all(void)
{
	for (size_t i = 0; i < 2 * LENGTH(rows); i++) {
		struct row row = rows[i / 2];

		row.v.server = i & 1;
		suite_add(refused_by_name, &row, sizeof(row), "%s, %s", row.name,
			  row.v.server ? "server" : "client");
	}
	for (int i = 0; i < 4; i++) {
		struct renegotiation r = { tls12, i & 2 };

		r.v.server = i & 1;
		suite_add(renegotiation, &r, sizeof(r), "renegotiation by the %s, %s under test",
			  r.by_us == r.v.server ? "server" : "client",
			  r.v.server ? "server" : "client");
	}
	for (size_t i = 0; i < LENGTH(tests); i++) {
		if (tests[i].versions & IN_13)
			add_both_roles(tests[i].test, tls13, tests[i].name);
		if (tests[i].versions & IN_12)
			add_both_roles(tests[i].test, tls12, tests[i].name);
	}
}

int main(int argc, char **argv)
{
	add_all();
	suite_add(datagrams, NULL, 0, "DTLS");
	suite_add(quic, NULL, 0, "QUIC");
	/* last: what is added to OpenSSL's methods stays */
	add_both_roles(compression, tls12, "compression");
	return suite_run(argc, argv);
}
