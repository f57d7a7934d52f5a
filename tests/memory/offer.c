/*
 * What is offered and taken by default, by either role: Mozilla's "intermediate".
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdlib.h>

#include "meet.h"

static int make(void **state)
{
	(void)state;
	pki_make();
	return 0;
}

static int drop(void **state)
{
	(void)state;
	pki_free();
	return 0;
}

/* The other end of a connection: what it has, nothing else. NULL: what OpenSSL has. */
struct other {
	int version;
	const char *suites, *groups;
};

static SSL_CTX *context_of(const struct other *o, const struct identity *id)
{
	SSL_CTX *ctx = peer_context(id);

	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_min_proto_version(ctx, o->version);
	SSL_CTX_set_max_proto_version(ctx, o->version);
	SSL_CTX_set_dh_auto(ctx, 1);
	if (o->groups)
		assert_int_equal(SSL_CTX_set1_groups_list(ctx, o->groups), 1);
	if (o->suites && o->version == TLS1_3_VERSION)
		assert_int_equal(SSL_CTX_set_ciphersuites(ctx, o->suites), 1);
	else if (o->suites)
		assert_int_equal(SSL_CTX_set_cipher_list(ctx, o->suites), 1);
	return ctx;
}

/* They meet, and our end is a server or a client. chosen: the suite, if not NULL. */
static void check(const struct other *o, bool server, const char *ours, const struct identity *id,
		  bool agree, const char *chosen)
{
	struct tlsfd_config *config = config_of(server ? id : NULL);
	SSL_CTX *ctx = context_of(o, server ? NULL : id);
	struct meeting m;

	if (ours)
		assert_int_equal(tlsfd_config_set_ciphers(config, ours), 0);
	meet(&m, config, server, ctx, "localhost");
	if ((m.err == 0) != agree)
		print_message("%s, %s: %s %s\n", server ? "server" : "client",
			      o->suites ? o->suites : o->groups, agree ? "refused:" : "taken",
			      agree ? tlsfd_error(m.c) : "");
	assert_int_equal(m.err, agree ? 0 : -EPROTO);
	if (agree)
		meet_talk(&m);
	else
		assert_true(m.peer_alert > 0); /* and neither is left to guess */
	if (chosen)
		assert_string_equal(SSL_get_cipher_name(m.peer), chosen);
	meet_close(&m);
}

static void check_both(const struct other *o, const struct identity *id, bool agree)
{
	check(o, true, NULL, id, agree, NULL);
	check(o, false, NULL, id, agree, NULL);
}

/* ---- groups ---- */

static const char *const taken_groups[] = { "X25519", "P-256", "P-384" };
static const char *const other_groups[] = { "P-521",	 "X448",      "ffdhe2048", "ffdhe3072",
					    "ffdhe4096", "ffdhe6144", "ffdhe8192" };
static const char *const curves_only[] = { "P-521", "X448" };

static void check_groups(int version, const char *const *groups, size_t n, bool agree)
{
	for (size_t i = 0; i < n; i++) {
		struct other o = { .version = version, .groups = groups[i] };

		check_both(&o, &pki.rsa, agree);
	}
}

static void test_groups(void **state)
{
	(void)state;
	for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++)
		check_groups(v, taken_groups, LENGTH(taken_groups), true);
	check_groups(TLS1_3_VERSION, other_groups, LENGTH(other_groups), false);
	/* groups are curves there, and the suites with DHE are asked for below */
	check_groups(TLS1_2_VERSION, curves_only, LENGTH(curves_only), false);
}

/* Where there is X25519MLKEM768 we have it, and share keys with servers that don't. */
static void test_hybrid(void **state)
{
	struct other o = { .version = TLS1_3_VERSION, .groups = "X25519MLKEM768" };
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	bool has = SSL_CTX_set1_groups_list(ctx, o.groups) == 1;

	(void)state;
	SSL_CTX_free(ctx);
	assert_int_equal(has, OpenSSL_version_num() >= 0x30500000L);
	if (has)
		check_both(&o, &pki.good, true);
}

static int hellos;

static void count_hellos(int write, int version, int type, const void *data, size_t n, SSL *ssl,
			 void *arg)
{
	(void)version, (void)ssl, (void)arg;
	if (!write && type == SSL3_RT_HANDSHAKE && n &&
	    *(const uint8_t *)data == SSL3_MT_CLIENT_HELLO)
		hellos++;
}

/* A client of ours: a server that has X25519 and no more needs no second ClientHello. */
static void test_key_share(void **state)
{
	struct other o = { .version = TLS1_3_VERSION, .groups = "X25519" };
	struct tlsfd_config *config = config_of(NULL);
	SSL_CTX *ctx = context_of(&o, &pki.good);
	struct meeting m;

	(void)state;
	SSL_CTX_set_msg_callback(ctx, count_hellos);
	hellos = 0;
	meet(&m, config, false, ctx, "localhost");
	assert_int_equal(m.err, 0);
	assert_int_equal(hellos, 1);
	meet_close(&m);
}

/* ---- ciphers ---- */

static const struct suite_case {
	int version;
	const char *suite;
	bool agree;
} suite_cases[] = {
	{ TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", true },
	{ TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", true },
	{ TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", true },
	{ TLS1_3_VERSION, "TLS_AES_128_CCM_SHA256", false },
	{ TLS1_3_VERSION, "TLS_AES_128_CCM_8_SHA256", false },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", true },
	{ TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", true },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", true },
	{ TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384", true },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", true },
	{ TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305", true },
	{ TLS1_2_VERSION, "DHE-RSA-AES128-GCM-SHA256", false }, /* it has these, we haven't */
	{ TLS1_2_VERSION, "DHE-RSA-AES256-GCM-SHA384", false },
	{ TLS1_2_VERSION, "DHE-RSA-CHACHA20-POLY1305", false },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-CCM", false },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES256-CCM", false },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256", false },
	{ TLS1_2_VERSION, "ECDHE-RSA-AES128-SHA", false },
	{ TLS1_2_VERSION, "AES128-GCM-SHA256", false },
};

static void test_suites(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(suite_cases); i++) {
		const struct suite_case *c = &suite_cases[i];
		struct other o = { .version = c->version, .suites = c->suite };
		bool ecdsa = c->version == TLS1_3_VERSION || strstr(c->suite, "ECDSA");

		check_both(&o, ecdsa ? &pki.good : &pki.rsa, c->agree);
	}
}

/* ---- who chooses ---- */

static void check_choice(int version, const char *first, const char *second)
{
	char list[128], reverse[128];
	struct other o = { .version = version, .suites = list };

	snprintf(list, sizeof(list), "%s:%s", first, second);
	snprintf(reverse, sizeof(reverse), "%s:%s", second, first);
	check(&o, true, NULL, &pki.good, true, first);
	check(&o, true, reverse, &pki.good, true, second);
	o.suites = reverse;
	check(&o, true, NULL, &pki.good, true, second);
	check(&o, true, list, &pki.good, true, first);
}

/* By default the client; a list that was given is the server's order. */
static void test_choice(void **state)
{
	(void)state;
	check_choice(TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256");
	check_choice(TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256");
	check_choice(TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305",
		     "ECDHE-ECDSA-AES128-GCM-SHA256");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_groups),	  cmocka_unit_test(test_hybrid),
		cmocka_unit_test(test_key_share), cmocka_unit_test(test_suites),
		cmocka_unit_test(test_choice),
	};

	setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0); /* the numbers differ between cmocka 1 and 2 */
	return cmocka_run_group_tests(tests, make, drop);
}
