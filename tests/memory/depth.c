/*
 * tlsfd_config_set_verify_depth: how many intermediate authorities are let pass, of servers,
 * of clients, by server name, and in sessions that are loaded.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>

#include "meet.h"

enum { UNSET = -1 };

static struct tlsfd_config *config_to(int depth, const struct identity *id)
{
	struct tlsfd_config *config = config_of(id);

	if (depth != UNSET)
		assert_int_equal(tlsfd_config_set_verify_depth(config, (unsigned)depth), 0);
	return config;
}

/* A peer with the whole chain. */
static SSL_CTX *peer_of(const struct identity *id, int version)
{
	SSL_CTX *ctx = peer_context(id);

	SSL_CTX_set_min_proto_version(ctx, version);
	SSL_CTX_set_max_proto_version(ctx, version);
	if (id == &pki.deep) {
		assert_int_equal(SSL_CTX_add1_chain_cert(ctx, pki.middle[1].cert), 1);
		assert_int_equal(SSL_CTX_add1_chain_cert(ctx, pki.middle[0].cert), 1);
	}
	return ctx;
}

static void assert_let_in(struct meeting *m, bool want, const char *what, int depth)
{
	if (want && m->err)
		fail_msg("%s, depth %d: %s", what, depth, tlsfd_error(m->c));
	if (!want && m->err != -EKEYREJECTED)
		fail_msg("%s, depth %d: %d", what, depth, m->err);
	if (!want)
		assert_says(tlsfd_error(m->c), "chain too long");
	else
		meet_talk(m);
	meet_close(m);
}

/* ---- who is let in ---- */

static const struct depth_case {
	int depth;
	bool deep, good; /* are they let in, with 2 intermediates and with none? */
} cases[] = { { UNSET, true, true }, { 0, false, true }, { 1, false, true },
	      { 2, true, true },     { 3, true, true },	 { 100, true, true } };

static void check_server(const struct depth_case *d, int version)
{
	struct meeting m;

	meet(&m, config_to(d->depth, NULL), false, peer_of(&pki.deep, version), "localhost");
	assert_let_in(&m, d->deep, "server", d->depth);
	meet(&m, config_to(d->depth, NULL), false, peer_of(&pki.good, version), "localhost");
	assert_let_in(&m, d->good, "server without intermediates", d->depth);
}

static struct tlsfd_config *asking(struct tlsfd_config *config)
{
	assert_int_equal(tlsfd_config_set_client_auth(config, TLSFD_CLIENT_AUTH_REQUIRED), 0);
	return config;
}

static void check_client(const struct depth_case *d, int version)
{
	struct meeting m;

	meet(&m, asking(config_to(d->depth, &pki.good)), true, peer_of(&pki.deep, version), NULL);
	assert_let_in(&m, d->deep, "client", d->depth);
	meet(&m, asking(config_to(d->depth, &pki.good)), true, peer_of(&pki.client, version), NULL);
	assert_let_in(&m, d->good, "client without intermediates", d->depth);
}

static void test_depth(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++)
		for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
			check_server(&cases[i], version);
			check_client(&cases[i], version);
		}
}

/* Who takes any chain takes a long one. */
static void test_unverified(void **state)
{
	struct tlsfd_config *config = config_to(0, NULL);
	struct meeting m;

	(void)state;
	tlsfd_config_insecure_no_verify_chain(config);
	meet(&m, config, false, peer_of(&pki.deep, TLS1_3_VERSION), "localhost");
	assert_let_in(&m, true, "unverified", 0);
}

/* Each name's config has its own. */
static void check_name(int depth, int named_depth, int version)
{
	struct tlsfd_config *config = asking(config_to(depth, &pki.good)),
			    *named = asking(config_to(named_depth, &pki.elsewhere));
	SSL_CTX *peer = peer_of(&pki.deep, version);

	assert_int_equal(tlsfd_config_add_name(config, "elsewhere.test", named), 0);
	for (int i = 0; i < 2; i++) {
		char name[] = "elsewhere.test", base[] = "localhost";
		int with = i ? named_depth : depth;
		struct meeting m;

		meet_open(&m, config, true, peer, NULL);
		SSL_set_tlsext_host_name(m.peer, (i ? name : base));
		meet_shake(&m);
		assert_let_in(&m, with == UNSET || with >= 2, i ? "the name's" : "the base", with);
	}
	SSL_CTX_free(peer);
	tlsfd_config_free(named);
	tlsfd_config_free(config);
}

static void test_names(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		check_name(1, 2, version);
		check_name(2, 1, version);
		check_name(1, UNSET, version);
		check_name(UNSET, 1, version);
	}
}

/* ---- sessions ---- */

struct saved {
	uint8_t *data;
	size_t size;
};

static void on_session(void *arg, struct tlsfd *c, const void *session, size_t size)
{
	struct saved *s = arg;

	(void)c;
	free(s->data);
	s->data = malloc(size);
	memcpy(s->data, session, size);
	s->size = size;
}

/* A connection with a session; it resumes, or is as it would be without. */
static void check_session(const struct saved *s, SSL_CTX *server, int depth)
{
	struct tlsfd_config *config = config_to(depth, NULL);
	bool in = depth == UNSET || depth >= 2;
	struct meeting m;

	meet_open(&m, config, false, server, "localhost");
	assert_int_equal(tlsfd_set_session(m.c, s->data, s->size), 0);
	meet_shake(&m);
	assert_int_equal(tlsfd_resumed(m.c), in);
	assert_let_in(&m, in, "session", depth);
	tlsfd_config_free(config);
}

static void test_sessions(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		SSL_CTX *server = peer_of(&pki.deep, version);
		struct tlsfd_config *config = config_to(2, NULL);
		struct saved s = { NULL, 0 };
		struct meeting m;

		assert_int_equal(tlsfd_config_on_session(config, on_session, &s), 0);
		meet_open(&m, config, false, server, "localhost");
		meet_shake(&m);
		assert_let_in(&m, true, "first", 2);
		assert_non_null(s.data);
		for (int depth = UNSET; depth <= 3; depth++)
			check_session(&s, server, depth);
		free(s.data);
		tlsfd_config_free(config);
		SSL_CTX_free(server);
	}
}

/* ---- the setter ---- */

static void test_setter(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good);
	struct meeting m;

	(void)state;
	assert_int_equal(tlsfd_config_set_verify_depth(NULL, 1), -EINVAL);
	assert_int_equal(tlsfd_config_set_verify_depth(config, 101), -EINVAL);
	assert_says(tlsfd_config_error(config), "verify depth: 101 is more than 100");
	assert_int_equal(tlsfd_config_set_verify_depth(config, (unsigned)-1), -EINVAL);
	meet(&m, tlsfd_config_ref(config), true, peer_context(NULL), NULL);
	assert_int_equal(m.err, 0);
	assert_int_equal(tlsfd_config_set_verify_depth(config, 1), -EBUSY);
	meet_close(&m);
	tlsfd_config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_depth),	 cmocka_unit_test(test_unverified),
		cmocka_unit_test(test_names),	 cmocka_unit_test(test_sessions),
		cmocka_unit_test(test_setter),
	};

	return meet_run(tests, LENGTH(tests), NULL, NULL);
}
