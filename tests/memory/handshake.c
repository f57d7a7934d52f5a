/*
 * What a handshake comes to: who is let in, what is agreed, what is known of it
 * afterwards. The same on a kernel with TLS and on one without.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <sys/socket.h>

#include "meet.h"

/* A connection that works has its records where they should be. */
static void assert_place(const struct tlsfd *c)
{
	const struct tlsfd_report *r = tlsfd_report(c);

	assert_non_null(r);
	for (int dir = TLSFD_RX; dir <= TLSFD_TX; dir++) {
		assert_int_equal(tlsfd_kernel(c, dir), kernel_has_tls());
		assert_int_equal(tlsfd_report_kernel(r, dir), kernel_has_tls());
	}
	assert_says(tlsfd_report_sentence(r), kernel_has_tls() ? "both ways" : "in user space");
}

/* ---- facts ---- */

static void assert_exporter(const struct meeting *m)
{
	static const char label[] = "EXPORTER-Channel-Binding";
	uint8_t ours[32], theirs[32];

	assert_int_equal(SSL_export_keying_material(m->peer, theirs, 32, label, strlen(label), NULL,
						    0, 0), 1);
	assert_int_equal(tlsfd_channel_binding(m->c, TLSFD_TLS_EXPORTER, ours, 32), 32);
	assert_memory_equal(ours, theirs, 32);
	assert_int_equal(tlsfd_channel_binding(m->c, TLSFD_TLS_EXPORTER, ours, 31), -ENOBUFS);
	assert_int_equal(tlsfd_channel_binding(m->c, 9, ours, 32), -ENODATA);
}

static void assert_end_point(const struct meeting *m, X509 *server)
{
	const enum tlsfd_binding type = TLSFD_TLS_SERVER_END_POINT;
	uint8_t ours[64], theirs[EVP_MAX_MD_SIZE];
	unsigned n;

	assert_int_equal(X509_digest(server, EVP_sha256(), theirs, &n), 1);
	assert_int_equal(tlsfd_channel_binding(m->c, type, ours, sizeof(ours)), n);
	assert_memory_equal(ours, theirs, n);
	assert_int_equal(tlsfd_channel_binding(m->c, type, ours, 31), -ENOBUFS);
}

static void assert_peer(const struct tlsfd *c, X509 *want)
{
	const uint8_t *der;
	size_t size;
	X509 *cert;

	if (!want) {
		assert_int_equal(tlsfd_peer_certificate(c, 0, &der, &size), -ENOENT);
		return;
	}
	assert_int_equal(tlsfd_peer_certificate(c, 0, &der, &size), 0);
	cert = d2i_X509(NULL, &der, (long)size);
	assert_int_equal(X509_cmp(cert, want), 0);
	X509_free(cert);
	assert_int_equal(tlsfd_peer_certificate(c, 1, &der, &size), -ENOENT);
}

static const struct facts_case {
	int version;
	const char *suite;
} facts_cases[] = {
	{ TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256" },
	{ TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384" },
	{ TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256" },
	{ TLS1_3_VERSION, "TLS_AES_128_CCM_SHA256" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-CCM" },
};

static void check_facts(const struct facts_case *f, bool server)
{
	struct tlsfd_config *config = config_of(server ? &pki.good : NULL);
	SSL_CTX *peer = peer_context(server ? NULL : &pki.good);
	struct meeting m;

	if (strstr(f->suite, "CCM")) /* not by default */
		assert_int_equal(tlsfd_config_set_ciphers(config, f->suite), 0);
	SSL_CTX_set_min_proto_version(peer, f->version);
	SSL_CTX_set_max_proto_version(peer, f->version);
	if (f->version == TLS1_3_VERSION)
		SSL_CTX_set_ciphersuites(peer, f->suite);
	else
		SSL_CTX_set_cipher_list(peer, f->suite);
	meet_open(&m, config, server, peer, "localhost");
	tlsfd_config_free(config);
	assert_null(tlsfd_report(m.c));
	assert_string_equal(tlsfd_alpn(m.c), "");
	if (server)
		SSL_set_tlsext_host_name(m.peer, "localhost");
	meet_shake(&m);
	assert_int_equal(m.err, 0);
	assert_place(m.c);
	assert_int_equal(tlsfd_version(m.c), f->version);
	assert_string_equal(tlsfd_cipher(m.c),
			    SSL_CIPHER_standard_name(SSL_get_current_cipher(m.peer)));
	assert_string_equal(tlsfd_server_name(m.c), "localhost");
	assert_string_equal(tlsfd_alpn(m.c), "");
	assert_false(tlsfd_resumed(m.c));
	assert_int_equal(tlsfd_alert(m.c), -1);
	assert_null(tlsfd_error(m.c));
	assert_exporter(&m);
	assert_end_point(&m, pki.good.cert);
	assert_peer(m.c, server ? NULL : pki.good.cert);
	meet_talk(&m);
	assert_int_equal(tlsfd_handshake(m.c), 0);
	meet_close(&m);
	SSL_CTX_free(peer);
}

/* A loop that begins with it learns the end. */
static void test_handshake_after_end(void **state)
{
	struct meeting m;

	(void)state;
	meet(&m, config_of(&pki.good), true, peer_context(NULL), NULL);
	assert_int_equal(m.err, 0);
	meet_talk(&m);
	shutdown(m.fd[1], SHUT_WR);
	set_blocking(m.fd[0], true);
	assert_int_equal(tlsfd_handshake(m.c), 0);
	assert_int_equal(tlsfd_read(m.c, &(char){ 0 }, 1), -ECONNABORTED);
	assert_int_equal(tlsfd_handshake(m.c), -ECONNABORTED);
	assert_int_equal(tlsfd_handshake_within(m.c, PATIENCE_MS), -ECONNABORTED);
	meet_close(&m);
}

static void test_facts(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(facts_cases); i++) {
		check_facts(&facts_cases[i], true);
		check_facts(&facts_cases[i], false);
	}
}

#ifdef SSL_OP_NO_EXTENDED_MASTER_SECRET
/* RFC 9266 section 3 */
static void test_no_exporter(void **state)
{
	SSL_CTX *peer = peer_context(NULL);
	struct meeting m;
	uint8_t buf[64];

	(void)state;
	SSL_CTX_set_max_proto_version(peer, TLS1_2_VERSION);
	SSL_CTX_set_options(peer, SSL_OP_NO_EXTENDED_MASTER_SECRET);
	meet(&m, config_of(&pki.good), true, peer, NULL);
	assert_int_equal(m.err, 0);
	assert_int_equal(tlsfd_channel_binding(m.c, TLSFD_TLS_EXPORTER, buf, sizeof(buf)),
			 -ENODATA);
	assert_end_point(&m, pki.good.cert);
	meet_close(&m);
}
#endif

/* ---- a client's verification ---- */

struct verify_case {
	const struct identity *server;
	const char *name;
	bool other_trust, any_chain, any_name;
	const char **crl;
	const char *says; /* NULL: accepted */
};

/* Nor in what was sent (RFC 6066 section 3). */
static void assert_no_dot(const struct meeting *m)
{
	const char *sent = SSL_get_servername(m->peer, TLSEXT_NAMETYPE_host_name);

	assert_true(!sent || sent[strlen(sent) - 1] != '.');
}

static void check_verify(const struct verify_case *v, int version)
{
	struct tlsfd_config *config;
	SSL_CTX *peer = peer_context(v->server);
	struct meeting m;

	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_int_equal(tlsfd_config_set_ca_mem(config,
		v->other_trust ? pki.other_ca.cert_pem : pki.ca.cert_pem,
		strlen(v->other_trust ? pki.other_ca.cert_pem : pki.ca.cert_pem)), 0);
	if (v->any_chain)
		tlsfd_config_insecure_no_verify_chain(config);
	if (v->any_name)
		tlsfd_config_insecure_no_verify_name(config);
	if (v->crl)
		assert_int_equal(tlsfd_config_set_crl_mem(config, *v->crl, strlen(*v->crl)), 0);
	SSL_CTX_set_max_proto_version(peer, version);
	meet(&m, config, false, peer, v->name);
	if (v->says) {
		assert_int_equal(m.err, -EKEYREJECTED);
		assert_says(tlsfd_error(m.c), v->says);
		assert_int_equal(tlsfd_handshake(m.c), -EKEYREJECTED);
		assert_int_equal(tlsfd_read(m.c, &(char){ 0 }, 1), -EKEYREJECTED);
		assert_int_equal(tlsfd_write(m.c, "x", 1), -EKEYREJECTED);
		assert_int_equal(tlsfd_alert(m.c), m.peer_alert);
	} else {
		if (m.err)
			fail_msg("%s", tlsfd_error(m.c));
		assert_place(m.c);
		assert_no_dot(&m);
		meet_talk(&m);
	}
	meet_close(&m);
}

static void test_verify(void **state)
{
	const char *crl = pki.crl_pem, *old = pki.old_crl_pem;
	const struct verify_case cases[] = {
		{ &pki.good, "localhost", .says = NULL },
		{ &pki.rsa, "localhost", .says = NULL },
		{ &pki.good, "LOCALHOST", .says = NULL },
		{ &pki.good, "localhost.", .says = NULL },
		{ &pki.good, "a.wild.test", .says = NULL },
		{ &pki.good, "a.wild.test.", .says = NULL },
		{ &pki.good, "a.wild.test..", .says = "ostname mismatch" },
		{ &pki.good, "a.b.wild.test", .says = "ostname mismatch" },
		{ &pki.good, "wild.test", .says = "ostname mismatch" },
		{ &pki.good, "127.0.0.1", .says = NULL },
		{ &pki.good, "::1", .says = NULL },
		{ &pki.good, "127.0.0.2", .says = "IP address mismatch" },
		{ &pki.elsewhere, "localhost", .says = "ostname mismatch" },
		/* the Common Name, in a certificate without subjectAltName, or without DNS names */
		{ &pki.client, "client", .says = "ostname mismatch" },
		{ &pki.address, "address", .says = "ostname mismatch" },
		{ &pki.address, "127.0.0.1", .says = NULL },
		{ &pki.address, "fe80::1%eth0", .says = "IP address mismatch" },
		{ &pki.address, "127.0.0.1%eth0", .says = "ostname mismatch" },
		{ &pki.link_local, "fe80::1%eth0", .says = NULL },
		{ &pki.link_local, "FE80:0::1%2", .says = NULL },
		{ &pki.link_local, "fe80::2%eth0", .says = "IP address mismatch" },
		{ &pki.elsewhere, "localhost", .any_name = true },
		{ &pki.elsewhere, "localhost", .any_chain = true, .says = "ostname mismatch" },
		{ &pki.expired, "localhost", .says = "expired" },
		{ &pki.expired, "localhost", .any_name = true, .says = "expired" },
		{ &pki.expired, "localhost", .any_chain = true },
		{ &pki.foreign, "localhost", .says = "issuer certificate" },
		{ &pki.foreign, "localhost", .any_chain = true },
		{ &pki.foreign, "elsewhere.test", .any_chain = true, .says = "ostname mismatch" },
		{ &pki.foreign, "nowhere.test", .any_chain = true, .any_name = true },
		{ &pki.foreign, NULL, .any_chain = true, .any_name = true },
		{ &pki.good, NULL, .any_name = true },
		{ &pki.foreign, NULL, .any_name = true, .says = "issuer certificate" },
		{ &pki.good, "localhost", .other_trust = true, .says = "issuer certificate" },
		{ &pki.foreign, "localhost", .other_trust = true },
		{ &pki.good, "localhost", .crl = &crl },
		{ &pki.revoked, "localhost", .crl = &crl, .says = "revoked" },
		{ &pki.revoked, "localhost", .says = NULL },
		{ &pki.good, "localhost", .crl = &old, .says = "CRL has expired" },
		{ &pki.foreign, "localhost", .other_trust = true, .crl = &crl,
		  .says = "unable to get certificate CRL" },
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		check_verify(&cases[i], TLS1_3_VERSION);
		check_verify(&cases[i], TLS1_2_VERSION);
	}
}

/* RFC 6066 section 3: no addresses */
static void test_address_is_not_sent(void **state)
{
	static const char *const names[] = { "127.0.0.1", "fe80::1", "fe80::1%eth0", "::" };

	(void)state;
	for (size_t i = 0; i < LENGTH(names); i++) {
		struct tlsfd_config *config = config_of(NULL);
		struct meeting m;

		tlsfd_config_insecure_no_verify_name(config);
		meet(&m, config, false, peer_context(&pki.good), names[i]);
		assert_int_equal(m.err, 0);
		assert_null(SSL_get_servername(m.peer, TLSEXT_NAMETYPE_host_name));
		assert_string_equal(tlsfd_server_name(m.c), "");
		meet_close(&m);
	}
}

/* Without a trust of one's own the system's is used, which doesn't have our CA. */
static void test_system_trust(void **state)
{
	struct tlsfd_config *config;
	struct meeting m;

	(void)state;
	assert_int_equal(tlsfd_config_new(&config), 0);
	meet(&m, config, false, peer_context(&pki.good), "localhost");
	assert_int_equal(m.err, -EKEYREJECTED);
	meet_close(&m);
}

/* ---- a server's client authentication ---- */

struct auth_case {
	enum tlsfd_client_auth auth;
	const struct identity *client;
	const char *crl;
	int want;
	bool known; /* tlsfd_peer_certificate has it */
};

static void check_auth(const struct auth_case *a, int version)
{
	struct tlsfd_config *config = config_of(&pki.good);
	SSL_CTX *peer = peer_context(a->client);
	struct meeting m;

	assert_int_equal(tlsfd_config_set_client_auth(config, a->auth), 0);
	if (a->crl)
		assert_int_equal(tlsfd_config_set_crl_mem(config, a->crl, strlen(a->crl)), 0);
	SSL_CTX_set_max_proto_version(peer, version);
	meet(&m, config, true, peer, NULL);
	assert_int_equal(m.err, a->want);
	if (m.err) {
		assert_non_null(tlsfd_error(m.c));
		assert_true(tlsfd_alert(m.c) > 0);
	} else {
		assert_place(m.c);
		assert_peer(m.c, a->known ? a->client->cert : NULL);
		assert_end_point(&m, pki.good.cert);
		meet_talk(&m);
	}
	meet_close(&m);
}

static void test_client_auth(void **state)
{
	const struct auth_case cases[] = {
		{ TLSFD_CLIENT_AUTH_NONE, NULL, NULL, 0, false },
		{ TLSFD_CLIENT_AUTH_NONE, &pki.client, NULL, 0, false },
		{ TLSFD_CLIENT_AUTH_OPTIONAL, NULL, NULL, 0, false },
		{ TLSFD_CLIENT_AUTH_OPTIONAL, &pki.client, NULL, 0, true },
		{ TLSFD_CLIENT_AUTH_OPTIONAL, &pki.foreign, NULL, -EKEYREJECTED, false },
		{ TLSFD_CLIENT_AUTH_OPTIONAL, &pki.expired, NULL, -EKEYREJECTED, false },
		{ TLSFD_CLIENT_AUTH_REQUIRED, NULL, NULL, -EKEYREJECTED, false },
		{ TLSFD_CLIENT_AUTH_REQUIRED, &pki.client, NULL, 0, true },
		{ TLSFD_CLIENT_AUTH_REQUIRED, &pki.foreign, NULL, -EKEYREJECTED, false },
		{ TLSFD_CLIENT_AUTH_REQUIRED, &pki.client, pki.crl_pem, 0, true },
		{ TLSFD_CLIENT_AUTH_REQUIRED, &pki.revoked, pki.crl_pem, -EKEYREJECTED, false },
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		check_auth(&cases[i], TLS1_3_VERSION);
		check_auth(&cases[i], TLS1_2_VERSION);
	}
}

/* Ours as the client, with a certificate. */
static void test_our_certificate(void **state)
{
	SSL_CTX *peer = peer_context(&pki.good);
	struct meeting m;

	(void)state;
	SSL_CTX_set_verify(peer, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	meet(&m, config_of(&pki.client), false, peer, "localhost");
	assert_int_equal(m.err, 0);
	assert_true(m.peer_done);
	assert_int_equal(X509_cmp(SSL_get0_peer_certificate(m.peer), pki.client.cert), 0);
	assert_end_point(&m, pki.good.cert);
	meet_talk(&m);
	meet_close(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_facts),
		cmocka_unit_test(test_handshake_after_end),
#ifdef SSL_OP_NO_EXTENDED_MASTER_SECRET
		cmocka_unit_test(test_no_exporter),
#endif
		cmocka_unit_test(test_verify),
		cmocka_unit_test(test_address_is_not_sent),
		cmocka_unit_test(test_system_trust),
		cmocka_unit_test(test_client_auth),
		cmocka_unit_test(test_our_certificate),
	};

	return meet_run(tests, LENGTH(tests), NULL, NULL);
}
