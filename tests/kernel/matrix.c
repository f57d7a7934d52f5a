/*
 * The handover under every version, cipher suite and role, and after every kind of
 * handshake: both directions end in the kernel and carry data.
 *
 * SPDX-License-Identifier: MIT
 */
#include <openssl/err.h>
#include <string.h>

#include "link.h"
#include "suite.h"

static const char *const tls13_suites[] = {
	"TLS_AES_128_GCM_SHA256",
	"TLS_AES_256_GCM_SHA384",
	"TLS_CHACHA20_POLY1305_SHA256",
	"TLS_AES_128_CCM_SHA256",
};

static const char *const tls12_suites[] = {
	"ECDHE-ECDSA-AES128-GCM-SHA256",
	"ECDHE-ECDSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-CHACHA20-POLY1305",
	"ECDHE-ECDSA-AES128-CCM",
	"ECDHE-RSA-AES128-GCM-SHA256",
	"ECDHE-RSA-AES256-GCM-SHA384",
	"ECDHE-RSA-CHACHA20-POLY1305",
	"DHE-RSA-AES128-GCM-SHA256",
	"DHE-RSA-AES256-GCM-SHA384",
	"DHE-RSA-CHACHA20-POLY1305",
	"DHE-RSA-AES128-CCM",
	"AES128-GCM-SHA256",
	"AES256-GCM-SHA384",
	"AES128-CCM",
};

static const char *role(const struct variant *v)
{
	return v->server ? "server" : "client";
}

static const char *version(const struct variant *v)
{
	return v->version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2";
}

/* ---- what every test does ---- */

static void move_all_sizes(struct link *l, size_t largest)
{
	static const size_t sizes[] = { 1, 16384, 100000, 1 << 20 };

	for (size_t i = 0; i < LENGTH(sizes) && sizes[i] <= largest; i++)
		move(l, sizes[i], sizes[i]);
}

static void check_negotiated(const struct link *l)
{
	const char *suite = SSL_CIPHER_get_name(SSL_get_current_cipher(l->us.ssl));

	assert_int_equal(SSL_version(l->us.ssl), l->v.version);
	if (l->v.suite)
		assert_string_equal(suite, l->v.suite);
}

static void hand_over_and_move(struct link *l, size_t largest)
{
	check_negotiated(l);
	hand_over_and_leave(l);
	move_all_sizes(l, largest);
	link_free(l);
}

/* ---- version x suite x role x OpenSSL's kTLS x tickets or master secret ---- */

static void test_matrix(void **state)
{
	const struct variant *v = *state;
	/* the plainest of each suite moves the most */
	bool plainest = !v->ktls && !v->no_ems && v->tickets == 2 * (v->version == TLS1_3_VERSION);
	struct link *l = link_made(v);

	if (v->version == TLS1_2_VERSION)
		assert_int_equal(SSL_get_extms_support(l->us.ssl), !v->no_ems);
	hand_over_and_move(l, plainest ? 1 << 20 : 100000);
}

static void add_tls13(struct variant v)
{
	static const int tickets[] = { 0, 1, 2, 8 };

	for (size_t i = 0; i < LENGTH(tickets); i++) {
		v.tickets = tickets[i];
		suite_add(test_matrix, &v, sizeof(v), "TLSv1.3/%s/%s/ktls-%s/tickets-%d", v.suite,
			  role(&v), v.ktls ? "on" : "off", v.tickets);
	}
}

static void add_tls12(struct variant v)
{
	for (int no_ems = 0; no_ems <= 1; no_ems++) {
		v.no_ems = no_ems;
		suite_add(test_matrix, &v, sizeof(v), "TLSv1.2/%s/%s/ktls-%s/ems-%s", v.suite,
			  role(&v), v.ktls ? "on" : "off", no_ems ? "off" : "on");
	}
}

static void add_suite(int number, const char *suite)
{
	for (int bits = 0; bits < 4; bits++) {
		struct variant v = {
			.version = number, .suite = suite, .server = bits & 1, .ktls = bits & 2
		};

		if (number == TLS1_3_VERSION)
			add_tls13(v);
		else
			add_tls12(v);
	}
}

static void add_matrix(void)
{
	suite_slice(11);
	for (size_t i = 0; i < LENGTH(tls13_suites); i++)
		add_suite(TLS1_3_VERSION, tls13_suites[i]);
	for (size_t i = 0; i < LENGTH(tls12_suites); i++)
		add_suite(TLS1_2_VERSION, tls12_suites[i]);
}

/* ---- kinds of handshakes and sockets ---- */

static void check_alpn(const struct link *l)
{
	const unsigned char *name;
	unsigned n;

	SSL_get0_alpn_selected(l->us.ssl, &name, &n);
	assert_int_equal(n, l->v.alpn ? 8 : 0);
	if (n)
		assert_memory_equal(name, "http/1.1", 8);
}

static void check_peer_cert(struct link *l)
{
	X509 *cert = SSL_get1_peer_certificate(link_server(l)->ssl);

	assert_int_equal(cert != NULL, l->v.client_cert); /* sessions keep it */
	X509_free(cert);
}

static void check_retry(struct link *l)
{
	/* the peer's log has what it sent or got */
	assert_int_equal(l->peer.hellos, l->v.retry_request ? 2 : 1);
}

static void test_kind(void **state)
{
	struct link *l = link_made(*state);

	check_alpn(l);
	check_peer_cert(l);
	if (!l->v.resume)
		check_retry(l);
	hand_over_and_move(l, 100000);
}

struct kind {
	const char *name;
	int only_version; /* 0: both */
	int only_role;	  /* 's', 'c', 0: both */
	struct variant v;
};

static const struct kind kinds[] = {
	{ "resumed by ticket", 0, 0, { .resume = RESUME_TICKET, .tickets = 2 } },
	{ "resumed by session id", 0, 0, { .resume = RESUME_SESSION_ID, .tickets = 1 } },
	{ "external PSK", TLS1_3_VERSION, 0, { .resume = RESUME_EXTERNAL_PSK } },
	{ "HelloRetryRequest", TLS1_3_VERSION, 0, { .retry_request = true } },
	{ "HelloRetryRequest, resumed",
	  TLS1_3_VERSION,
	  0,
	  { .retry_request = true, .resume = RESUME_TICKET, .tickets = 1 } },
	{ "client certificate", 0, 0, { .client_cert = true, .tickets = 2 } },
	{ "client certificate, resumed",
	  0,
	  0,
	  { .client_cert = true, .resume = RESUME_TICKET, .tickets = 1 } },
	{ "ALPN", 0, 0, { .alpn = true } },
	{ "blocking socket", 0, 0, { .blocking = true } },
	{ "blocking socket, tickets", TLS1_3_VERSION, 0, { .blocking = true, .tickets = 2 } },
	{ "IPv6", 0, 0, { .ipv6 = true } },
	{ "rfd and wfd", 0, 0, { .two_bios = true, .tickets = 2 } },
	{ "BIO_s_connect", 0, 'c', { .bio_connect = true, .tickets = 2 } },
	{ "1 of 8 tickets read", TLS1_3_VERSION, 'c', { .tickets = 8, .tickets_read = 1 } },
	{ "3 of 8 tickets read", TLS1_3_VERSION, 'c', { .tickets = 8, .tickets_read = 3 } },
	{ "8 of 8 tickets read", TLS1_3_VERSION, 'c', { .tickets = 8, .tickets_read = 8 } },
	{ "1 of 2 tickets read", TLS1_3_VERSION, 'c', { .tickets = 2, .tickets_read = 1 } },
	{ "2 of 2 tickets read", TLS1_3_VERSION, 'c', { .tickets = 2, .tickets_read = 2 } },
	{ "all at once",
	  0,
	  0,
	  { .ipv6 = true,
	    .blocking = true,
	    .two_bios = true,
	    .client_cert = true,
	    .alpn = true,
	    .resume = RESUME_TICKET,
	    .tickets = 8 } },
};

/* test, once per version, role and OpenSSL's kTLS that k is for */
static void add_kind(CMUnitTestFunction test, const struct kind *k, bool with_ktls)
{
	static const int versions[] = { TLS1_3_VERSION, TLS1_2_VERSION };

	for (int bits = 0; bits < 8; bits++) {
		struct kind one = *k;

		one.v.version = versions[bits & 1];
		one.v.server = bits & 2;
		one.v.ktls = bits & 4;
		if (k->only_version && k->only_version != one.v.version)
			continue;
		if ((k->only_role && k->only_role != role(&one.v)[0]) || (one.v.ktls && !with_ktls))
			continue;
		if (one.v.version == TLS1_2_VERSION)
			one.v.suite = "ECDHE-ECDSA-AES128-GCM-SHA256";
		else
			one.v.suite = "TLS_AES_256_GCM_SHA384";
		suite_add(test, &one.v, sizeof(one.v), "%s/%s/ktls-%s/%s", version(&one.v),
			  role(&one.v), one.v.ktls ? "on" : "off", k->name);
	}
}

static void add_kinds(void)
{
	suite_slice(7);
	for (size_t i = 0; i < LENGTH(kinds); i++)
		add_kind(test_kind, &kinds[i], true);
}

/* ---- the servername callback ---- */

static int switch_context(SSL *ssl, int *alert, void *ctx)
{
	(void)alert;
	return SSL_set_SSL_CTX(ssl, ctx) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void test_servername(void **state)
{
	struct link *l = link_new(*state), *other = link_new(*state);

	SSL_CTX_set_tlsext_servername_callback(l->us.ctx, switch_context);
	SSL_CTX_set_tlsext_servername_arg(l->us.ctx, other->us.ctx);
	link_open(l);
	SSL_set_tlsext_host_name(l->peer.ssl, "localhost");
	link_handshake(l, NULL);
	assert_ptr_equal(SSL_get_SSL_CTX(l->us.ssl), other->us.ctx);
	hand_over_and_move(l, 100000);
	link_free(other);
}

static const struct kind switched = {
	"servername switches to another prepared context", 0, 's', { .tickets = 2 }
};

/* ---- data through OpenSSL before the handover ---- */

static const size_t before[][2] = { { 1, 0 },	   { 0, 1 },	     { 1, 1 },
				    { 100, 5000 }, { 16384, 16384 }, { 100000, 40000 } };

static void test_data_before(void **state)
{
	struct link *l = link_made(*state);

	for (size_t i = 0; i < LENGTH(before); i++)
		move(l, before[i][0], before[i][1]);
	/* which read what tickets there were */
	l->v.tickets_read = l->v.tickets;
	hand_over_and_move(l, 100000);
}

static void test_one_byte_before(void **state)
{
	struct link *l = link_made(*state);

	move(l, 1, 0);
	hand_over_and_move(l, 16384);
}

static void add_data_before(void)
{
	static const struct kind many = { "several records before", 0, 0, { .tickets = 2 } };
	static const struct kind many_blocking = {
		"several records before, blocking", 0, 0, { .tickets = 2, .blocking = true }
	};
	static const struct kind one = { "one byte sent before", 0, 0, { .tickets = 1 } };

	add_kind(test_data_before, &many, true);
	add_kind(test_data_before, &many_blocking, true);
	add_kind(test_one_byte_before, &one, true);
}

/* ---- KeyUpdate before the handover ---- */

enum { UPDATED_BY_US = 1, UPDATED_BY_PEER = 2 };

struct update {
	struct variant v;
	int by, type, times;
	bool then_move; /* data after the last one, else the handover follows at once */
};

static void update_keys(struct end *e, int type)
{
	assert_int_equal(SSL_key_update(e->ssl, type), 1);
	assert_int_equal(SSL_do_handshake(e->ssl), 1);
}

static void test_key_update(void **state)
{
	const struct update *u = *state;
	struct link *l = link_made(&u->v);

	move(l, 3, 5);
	for (int i = 0; i < u->times; i++) {
		if (u->by & UPDATED_BY_US)
			update_keys(&l->us, u->type);
		if (u->by & UPDATED_BY_PEER)
			update_keys(&l->peer, u->type);
		/* the answer to a request comes with the next data */
		if (u->then_move)
			move(l, 7, 11);
		if (u->then_move)
			move(l, 13, 17);
	}
	hand_over_and_move(l, 100000);
}

static void add_update(struct update u)
{
	static const char *const by[] = { "", "us", "the peer", "both" };

	for (int server = 0; server <= 1; server++) {
		u.v = (struct variant){ .version = TLS1_3_VERSION,
					.suite = tls13_suites[(u.times + server) % 4],
					.server = server };
		suite_add(test_key_update, &u, sizeof(u),
			  "TLSv1.3/%s/KeyUpdate by %s%s, %d times%s", role(&u.v), by[u.by],
			  u.type == SSL_KEY_UPDATE_REQUESTED ? ", requested" : "", u.times,
			  u.then_move ? "" : ", handover at once");
	}
}

static void add_updates(void)
{
	static const int types[] = { SSL_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_REQUESTED };

	for (size_t i = 0; i < LENGTH(types); i++)
		for (int by = UPDATED_BY_US; by <= (UPDATED_BY_US | UPDATED_BY_PEER); by++) {
			add_update((struct update){
				.by = by, .type = types[i], .times = 1, .then_move = true });
			add_update((struct update){
				.by = by, .type = types[i], .times = 3, .then_move = true });
		}
	add_update((struct update){ .by = UPDATED_BY_US, .type = types[0], .times = 1 });
	add_update((struct update){ .by = UPDATED_BY_US, .type = types[0], .times = 3 });
}

int main(int argc, char **argv)
{
	add_matrix();
	add_kinds();
	add_kind(test_servername, &switched, true);
	add_data_before();
	add_updates();
	return suite_run(argc, argv);
}
