/*
 * What both ends agree on: names, protocols, old sessions; or can't.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <errno.h>

#include "meet.h"

/* ---- ALPN ---- */

static const struct alpn_case {
	const char *ours;	     /* NULL: none */
	const unsigned char *theirs; /* as on the wire; NULL: none */
	unsigned theirs_size;
	const char *want; /* NULL: no_application_protocol */
} alpn_cases[] = {
	{ "h2,http/1.1", (const unsigned char *)"\x08http/1.1\x02h2", 12, "h2" },
	{ "http/1.1", (const unsigned char *)"\x02h2\x08http/1.1", 12, "http/1.1" },
	{ "h2", (const unsigned char *)"\x08http/1.1", 9, NULL },
	{ "h2", NULL, 0, "" },
	{ NULL, (const unsigned char *)"\x02h2", 3, "" },
};

static void check_alpn_server(const struct alpn_case *a)
{
	enum { NO_APPLICATION_PROTOCOL = 120 };
	struct tlsfd_config *config = config_of(&pki.good);
	SSL_CTX *peer = peer_context(NULL);
	struct meeting m;

	if (a->ours)
		assert_int_equal(tlsfd_config_set_alpn(config, a->ours), 0);
	if (a->theirs)
		assert_int_equal(SSL_CTX_set_alpn_protos(peer, a->theirs, a->theirs_size), 0);
	meet(&m, config, true, peer, NULL);
	if (a->want) {
		assert_int_equal(m.err, 0);
		assert_string_equal(tlsfd_alpn(m.c), a->want);
		meet_talk(&m);
	} else {
		assert_int_equal(m.err, -EPROTO);
		assert_int_equal(tlsfd_alert(m.c), NO_APPLICATION_PROTOCOL);
		assert_int_equal(m.peer_alert, NO_APPLICATION_PROTOCOL);
	}
	meet_close(&m);
}

static void test_alpn_server(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(alpn_cases); i++)
		check_alpn_server(&alpn_cases[i]);
}

static int choose_last(SSL *ssl, const unsigned char **out, unsigned char *out_size,
		       const unsigned char *in, unsigned in_size, void *arg)
{
	(void)ssl, (void)arg;
	*out_size = 8;
	*out = in + in_size - 8;
	return SSL_TLSEXT_ERR_OK;
}

static void test_alpn_client(void **state)
{
	struct tlsfd_config *config = config_of(NULL);
	SSL_CTX *peer = peer_context(&pki.good);
	struct meeting m;

	(void)state;
	assert_int_equal(tlsfd_config_set_alpn(config, "h2,http/1.1"), 0);
	SSL_CTX_set_alpn_select_cb(peer, choose_last, NULL);
	meet(&m, config, false, peer, "localhost");
	assert_int_equal(m.err, 0);
	assert_string_equal(tlsfd_alpn(m.c), "http/1.1");
	meet_close(&m);
}

/* ---- server names ---- */

/* The client's list is h2, then http/1.1. */
static void check_alpn_of_name(const char *ours, const char *names, const char *want)
{
	struct tlsfd_config *config = config_of(&pki.good), *elsewhere = config_of(&pki.elsewhere);
	SSL_CTX *peer = peer_context(NULL);
	struct meeting m;

	if (ours)
		assert_int_equal(tlsfd_config_set_alpn(config, ours), 0);
	if (names)
		assert_int_equal(tlsfd_config_set_alpn(elsewhere, names), 0);
	assert_int_equal(tlsfd_config_add_name(config, "elsewhere.test", elsewhere), 0);
	tlsfd_config_free(elsewhere);
	SSL_CTX_set_alpn_protos(peer, (const unsigned char *)"\x02h2\x08http/1.1", 12);
	meet_open(&m, config, true, peer, NULL);
	tlsfd_config_free(config);
	SSL_set_tlsext_host_name(m.peer, "elsewhere.test");
	meet_shake(&m);
	assert_int_equal(m.err, 0);
	assert_string_equal(tlsfd_alpn(m.c), want);
	meet_close(&m);
	SSL_CTX_free(peer);
}

static void test_alpn_of_name(void **state)
{
	(void)state;
	check_alpn_of_name("h2", "http/1.1", "http/1.1");
	check_alpn_of_name("h2", NULL, "h2");
	check_alpn_of_name(NULL, "http/1.1", "http/1.1");
}

/* Ciphers are the connection's, not the name's. */
static void test_ciphers_of_name(void **state)
{
	static const char *const suites[] = { "ECDHE-ECDSA-AES256-GCM-SHA384",
					      "ECDHE-ECDSA-AES128-SHA256" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct tlsfd_config *config = config_of(&pki.good);
		struct tlsfd_config *elsewhere = config_of(&pki.elsewhere);
		SSL_CTX *peer = peer_context(NULL);
		struct meeting m;

		assert_int_equal(tlsfd_config_set_versions(config, TLSFD_TLS_1_2, TLSFD_TLS_1_2),
				 0);
		assert_int_equal(tlsfd_config_set_ciphers(config, suites[i]), 0);
		assert_int_equal(tlsfd_config_add_name(config, "elsewhere.test", elsewhere), 0);
		meet_open(&m, config, true, peer, NULL);
		SSL_set_tlsext_host_name(m.peer, "elsewhere.test");
		meet_shake(&m);
		assert_int_equal(m.err, 0);
		assert_string_equal(SSL_get_cipher_name(m.peer), suites[i]);
		meet_close(&m);
		SSL_CTX_free(peer);
		tlsfd_config_free(elsewhere);
		tlsfd_config_free(config);
	}
}

/* A server with names: certificate `good` by default, `elsewhere` for a name, `rsa`
 * for a wildcard, which asks for client certificates. */
static struct tlsfd_config *server_with_names(bool with_default)
{
	struct tlsfd_config *config = config_of(with_default ? &pki.good : NULL);
	struct tlsfd_config *elsewhere = config_of(&pki.elsewhere), *wild = config_of(&pki.rsa);

	assert_int_equal(tlsfd_config_set_client_auth(wild, TLSFD_CLIENT_AUTH_REQUIRED), 0);
	assert_int_equal(tlsfd_config_add_name(config, "elsewhere.test", elsewhere), 0);
	assert_int_equal(tlsfd_config_add_name(config, "*.wild.test", wild), 0);
	tlsfd_config_free(elsewhere);
	tlsfd_config_free(wild);
	return config;
}

struct name_case {
	const char *name; /* that the client sends; NULL: none */
	const struct identity *want;
	const struct identity *client;
	int err;
};

static void check_name(const struct name_case *n, int version)
{
	struct tlsfd_config *config = server_with_names(true);
	SSL_CTX *peer = peer_context(n->client);
	struct meeting m;

	SSL_CTX_set_max_proto_version(peer, version);
	meet_open(&m, config, true, peer, NULL);
	tlsfd_config_free(config);
	SSL_set_tlsext_host_name(m.peer, n->name);
	meet_shake(&m);
	assert_int_equal(m.err, n->err);
	if (!m.err) {
		assert_int_equal(X509_cmp(SSL_get0_peer_certificate(m.peer), n->want->cert), 0);
		assert_int_equal(tlsfd_kernel(m.c, TLSFD_RX), kernel_has_tls());
		meet_talk(&m);
	}
	assert_string_equal(tlsfd_server_name(m.c), n->name ? n->name : "");
	assert_int_equal(tlsfd_version(m.c), version);
	meet_close(&m);
	SSL_CTX_free(peer);
}

static void test_names(void **state)
{
	const struct name_case cases[] = {
		{ NULL, &pki.good, NULL, 0 },
		{ "unknown.test", &pki.good, NULL, 0 },
		{ "elsewhere.test", &pki.elsewhere, NULL, 0 },
		{ "ELSEWHERE.Test", &pki.elsewhere, NULL, 0 },
		{ "a.elsewhere.test", &pki.good, NULL, 0 },
		{ "a.wild.test", &pki.rsa, &pki.client, 0 },
		{ "a.wild.test", NULL, NULL, -EKEYREJECTED },
		{ "wild.test", &pki.good, NULL, 0 },
		{ "a.b.wild.test", &pki.good, NULL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		check_name(&cases[i], TLS1_3_VERSION);
		check_name(&cases[i], TLS1_2_VERSION);
	}
}

/* The ClientHello comes twice. */
static void test_name_and_retry_request(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good), *elsewhere = config_of(&pki.elsewhere);
	SSL_CTX *peer = peer_context(NULL);
	struct meeting m;

	(void)state;
	assert_int_equal(tlsfd_config_set_groups(config, "P-256"), 0);
	assert_int_equal(tlsfd_config_add_name(config, "elsewhere.test", elsewhere), 0);
	SSL_CTX_set1_groups_list(peer, "X25519:P-256");
	meet_open(&m, config, true, peer, NULL);
	tlsfd_config_free(config);
	tlsfd_config_free(elsewhere);
	SSL_set_tlsext_host_name(m.peer, "elsewhere.test");
	meet_shake(&m);
	assert_int_equal(m.err, 0);
	assert_int_equal(X509_cmp(SSL_get0_peer_certificate(m.peer), pki.elsewhere.cert), 0);
	assert_string_equal(tlsfd_server_name(m.c), "elsewhere.test");
	assert_int_equal(tlsfd_kernel(m.c, TLSFD_TX), kernel_has_tls());
	meet_talk(&m);
	meet_close(&m);
	SSL_CTX_free(peer);
}

static void check_no_default(const char *name, const char *why)
{
	enum { UNRECOGNIZED_NAME = 112 };
	struct tlsfd_config *config = server_with_names(false);
	SSL_CTX *peer = peer_context(NULL);
	struct meeting m;

	meet_open(&m, config, true, peer, NULL);
	tlsfd_config_free(config);
	SSL_set_tlsext_host_name(m.peer, name);
	meet_shake(&m);
	assert_int_equal(m.err, -EPROTO);
	assert_int_equal(m.peer_alert, UNRECOGNIZED_NAME);
	assert_says(tlsfd_error(m.c), why);
	assert_string_equal(tlsfd_server_name(m.c), name ? name : "");
	meet_close(&m);
	SSL_CTX_free(peer);
}

static void test_unknown_name_without_default(void **state)
{
	(void)state;
	check_no_default("unknown.test", "no certificate is for the name");
	check_no_default(NULL, "asks for no name");
}

/* ---- resumption ---- */

static SSL_SESSION *kept;

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(kept);
	kept = session;
	return 1;
}

static SSL_CTX *keeping_peer(int version, const struct identity *id)
{
	SSL_CTX *peer = peer_context(id);

	SSL_CTX_set_max_proto_version(peer, version);
	SSL_CTX_set_session_cache_mode(peer, SSL_SESS_CACHE_CLIENT);
	SSL_CTX_sess_set_new_cb(peer, keep_session);
	return peer;
}

/* One connection of peer, resuming what is kept; true: it was resumed. */
static bool connect_again(struct tlsfd_config *config, SSL_CTX *peer, const char *name, int *err)
{
	struct meeting m;
	bool resumed;

	meet_open(&m, config, true, peer, NULL);
	SSL_set_tlsext_host_name(m.peer, name);
	if (kept)
		SSL_set_session(m.peer, kept);
	meet_shake(&m);
	resumed = tlsfd_resumed(m.c);
	*err = m.err;
	if (!m.err) {
		assert_int_equal(resumed, SSL_session_reused(m.peer));
		meet_talk(&m);
		SSL_set_shutdown(m.peer, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	}
	meet_close(&m);
	return resumed;
}

static void check_resumption(int version, unsigned tickets, unsigned cache, bool want)
{
	struct tlsfd_config *config = config_of(&pki.good);
	SSL_CTX *peer = keeping_peer(version, NULL);
	int err;

	assert_int_equal(tlsfd_config_set_tickets(config, tickets), 0);
	assert_int_equal(tlsfd_config_set_session_cache(config, cache), 0);
	assert_false(connect_again(config, peer, "localhost", &err));
	assert_int_equal(err, 0);
	assert_int_equal(connect_again(config, peer, "localhost", &err), want);
	assert_int_equal(err, 0);
	SSL_SESSION_free(kept);
	kept = NULL;
	SSL_CTX_free(peer);
	tlsfd_config_free(config);
}

static void test_resumption(void **state)
{
	(void)state;
	check_resumption(TLS1_3_VERSION, 2, 0, true);
	check_resumption(TLS1_3_VERSION, 1, 0, true);
	check_resumption(TLS1_3_VERSION, 0, 0, false);
	check_resumption(TLS1_2_VERSION, 2, 0, true);
	check_resumption(TLS1_2_VERSION, 0, 0, false);
	check_resumption(TLS1_2_VERSION, 0, 10, true);
}

/* A session made where no certificate was asked for is none where one is. */
static void test_resumption_across_names(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

	(void)state;
	for (size_t i = 0; i < LENGTH(versions); i++) {
		struct tlsfd_config *config = server_with_names(true);
		SSL_CTX *peer = keeping_peer(versions[i], NULL);
		int err;

		assert_false(connect_again(config, peer, "elsewhere.test", &err));
		assert_int_equal(err, 0);
		assert_false(connect_again(config, peer, "a.wild.test", &err));
		assert_int_equal(err, -EKEYREJECTED);
		SSL_SESSION_free(kept);
		kept = NULL;
		SSL_CTX_free(peer);
		tlsfd_config_free(config);
	}
}

/* Has the server the certificate that the client knows of, or (known: false) none? */
static void connect_bound(struct tlsfd_config *config, SSL_CTX *peer, bool known)
{
	uint8_t ours[EVP_MAX_MD_SIZE], theirs[EVP_MAX_MD_SIZE];
	bool again = kept;
	struct meeting m;
	unsigned size;
	ssize_t n;

	meet_open(&m, config, true, peer, NULL);
	if (again)
		SSL_set_session(m.peer, kept);
	meet_shake(&m);
	assert_int_equal(m.err, 0);
	assert_int_equal(tlsfd_resumed(m.c), again);
	meet_talk(&m);
	n = tlsfd_channel_binding(m.c, TLSFD_TLS_SERVER_END_POINT, ours, sizeof(ours));
	X509_digest(SSL_get0_peer_certificate(m.peer), EVP_sha256(), theirs, &size);
	assert_int_equal(n, known ? (ssize_t)size : -ENODATA);
	if (known)
		assert_memory_equal(ours, theirs, size);
	SSL_set_shutdown(m.peer, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	meet_close(&m);
}

/* ids: the server's certificates, the second one can be NULL. */
static void check_end_point(int version, const struct identity *ids[2], bool rsa)
{
	struct tlsfd_config *config = config_of(ids[0]);
	SSL_CTX *peer = keeping_peer(version, NULL);

	if (ids[1])
		assert_int_equal(tlsfd_config_set_certificate_mem(
					 config, ids[1]->cert_pem, strlen(ids[1]->cert_pem),
					 ids[1]->key_pem, strlen(ids[1]->key_pem)),
				 0);
	SSL_CTX_set1_sigalgs_list(peer, rsa ? "rsa_pss_rsae_sha256:RSA+SHA256" : "ECDSA+SHA256");
	connect_bound(config, peer, true);
	assert_non_null(kept);
	connect_bound(config, peer, !ids[1]);
	SSL_SESSION_free(kept);
	kept = NULL;
	SSL_CTX_free(peer);
	tlsfd_config_free(config);
}

/* Of several certificates nobody knows any more which one the client was shown. */
static void test_end_point_of_resumed(void **state)
{
	static const struct {
		const struct identity *ids[2];
		bool rsa;
	} cases[] = {
		{ { &pki.good, NULL }, false },	    { { &pki.rsa, NULL }, true },
		{ { &pki.good, &pki.rsa }, false }, { { &pki.good, &pki.rsa }, true },
		{ { &pki.rsa, &pki.good }, false }, { { &pki.rsa, &pki.good }, true },
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		const struct identity *ids[] = { cases[i].ids[0], cases[i].ids[1] };

		check_end_point(TLS1_2_VERSION, ids, cases[i].rsa);
		check_end_point(TLS1_3_VERSION, ids, cases[i].rsa);
	}
}

/* ---- nothing in common ---- */

static void check_nothing_in_common(bool server, const char *ciphers, const char *groups, int min,
				    int peer_max)
{
	struct tlsfd_config *config = config_of(server ? &pki.good : NULL);
	SSL_CTX *peer = peer_context(server ? NULL : &pki.good);
	struct meeting m;

	if (ciphers)
		assert_int_equal(tlsfd_config_set_ciphers(config, ciphers), 0);
	if (groups)
		assert_int_equal(tlsfd_config_set_groups(config, groups), 0);
	assert_int_equal(tlsfd_config_set_versions(config, min, TLSFD_TLS_1_3), 0);
	SSL_CTX_set_max_proto_version(peer, peer_max);
	SSL_CTX_set_ciphersuites(peer, "TLS_AES_256_GCM_SHA384");
	SSL_CTX_set1_groups_list(peer, "P-256");
	meet(&m, config, server, peer, "localhost");
	assert_int_equal(m.err, -EPROTO);
	assert_int_equal(tlsfd_alert(m.c), m.peer_alert);
	assert_true(m.peer_alert > 0);
	assert_non_null(tlsfd_error(m.c));
	assert_string_equal(tlsfd_server_name(m.c), server ? "" : "localhost");
	/* a server has agreed on a version, if that is not what was missing */
	if (server)
		assert_int_equal(tlsfd_version(m.c), peer_max >= min ? TLSFD_TLS_1_3 : 0);
	meet_close(&m);
}

static void test_nothing_in_common(void **state)
{
	(void)state;
	for (int server = 0; server < 2; server++) {
		check_nothing_in_common(server, "TLS_AES_128_GCM_SHA256", NULL, TLSFD_TLS_1_2,
					TLS1_3_VERSION);
		check_nothing_in_common(server, NULL, "X25519", TLSFD_TLS_1_3, TLS1_3_VERSION);
		check_nothing_in_common(server, NULL, NULL, TLSFD_TLS_1_3, TLS1_2_VERSION);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alpn_server),
		cmocka_unit_test(test_alpn_client),
		cmocka_unit_test(test_alpn_of_name),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_ciphers_of_name),
		cmocka_unit_test(test_name_and_retry_request),
		cmocka_unit_test(test_unknown_name_without_default),
		cmocka_unit_test(test_resumption),
		cmocka_unit_test(test_resumption_across_names),
		cmocka_unit_test(test_end_point_of_resumed),
		cmocka_unit_test(test_nothing_in_common),
	};

	return meet_run(tests, LENGTH(tests), NULL, NULL);
}
