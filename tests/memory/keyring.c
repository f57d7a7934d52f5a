/*
 * Ticket keys that the program sets: which configs resume each other's sessions, and which
 * must not.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>

#include "meet.h"

enum { KEY = TLSFD_TICKET_KEY };

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
static uint8_t keys[TLSFD_TICKET_KEYS + 1][KEY];

static int make(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(keys); i++)
		for (size_t j = 0; j < KEY; j++)
			keys[i][j] = (uint8_t)(rand() ^ (int)i);
	return 0;
}

/* ---- connections of an OpenSSL client ---- */

static SSL_CTX *client_of(int version)
{
	SSL_CTX *ctx = peer_context(&pki.client);

	SSL_CTX_set_min_proto_version(ctx, version);
	SSL_CTX_set_max_proto_version(ctx, version);
	return ctx;
}

/* Is it resumed? *session: what to resume, or NULL; then what the server gave. */
static bool connects(struct tlsfd_config *server, int version, const char *name,
		     SSL_SESSION **session)
{
	SSL_CTX *ctx = client_of(version);
	SSL_SESSION *given;
	struct meeting m;
	bool resumed;

	meet_open(&m, server, true, ctx, NULL);
	if (name)
		assert_int_equal(SSL_set_tlsext_host_name(m.peer, name), 1);
	if (*session)
		assert_int_equal(SSL_set_session(m.peer, *session), 1);
	meet_shake(&m);
	assert_int_equal(m.err, 0);
	meet_talk(&m);
	given = SSL_get1_session(m.peer);
	/* each ticket of TLS 1.3 is for one connection */
	assert_true(version == TLS1_2_VERSION || given != *session);
	SSL_SESSION_free(*session);
	*session = given;
	resumed = SSL_session_reused(m.peer);
	assert_int_equal(resumed, tlsfd_resumed(m.c));
	SSL_set_shutdown(m.peer, SSL_SENT_SHUTDOWN); /* else OpenSSL gives the session up */
	meet_close(&m);
	SSL_CTX_free(ctx);
	return resumed;
}

/* The key that sealed the session's ticket. */
static const uint8_t *sealed_by(const SSL_SESSION *session)
{
	const uint8_t *ticket;
	size_t size;

	SSL_SESSION_get0_ticket(session, &ticket, &size);
	assert_true(size > 16);
	for (size_t i = 0; i < LENGTH(keys); i++)
		if (memcmp(keys[i], ticket, 16) == 0)
			return keys[i];
	return NULL;
}

static struct tlsfd_config *with_keys(struct tlsfd_config *config)
{
	assert_int_equal(tlsfd_config_set_ticket_keys(config, keys, 2), 0);
	return config;
}

/* Does `next` resume the sessions of `first`? Frees both. */
static bool goes_on_as(struct tlsfd_config *first, struct tlsfd_config *next, const char *name,
		       const char *next_name)
{
	int resumed = 0;

	for (size_t i = 0; i < LENGTH(versions); i++) {
		SSL_SESSION *session = NULL;

		assert_false(connects(first, versions[i], name, &session));
		assert_non_null(sealed_by(session));
		resumed += connects(next, versions[i], next_name, &session);
		SSL_SESSION_free(session);
	}
	tlsfd_config_free(first);
	tlsfd_config_free(next);
	assert_int_not_equal(resumed, 1);
	return resumed;
}

static bool goes_on(struct tlsfd_config *first, struct tlsfd_config *next)
{
	return goes_on_as(first, next, NULL, NULL);
}

/* ---- keys ---- */

static void test_same_keys(void **state)
{
	struct tlsfd_config *other;

	(void)state;
	assert_true(goes_on(with_keys(config_of(&pki.good)), with_keys(config_of(&pki.good))));
	other = config_of(&pki.good);
	assert_int_equal(tlsfd_config_set_ticket_keys(other, keys[2], 1), 0);
	assert_false(goes_on(with_keys(config_of(&pki.good)), other));
	assert_false(goes_on(with_keys(config_of(&pki.good)), config_of(&pki.good)));
}

/* A session of these keys, kept while they change under it. */
static void check_change(int version)
{
	struct tlsfd_config *config = with_keys(config_of(&pki.good));
	SSL_SESSION *session = NULL;

	assert_false(connects(config, version, NULL, &session));
	assert_ptr_equal(sealed_by(session), keys[0]);
	assert_true(connects(config, version, NULL, &session));
	/* the old one behind a new one opens, and the new one seals */
	assert_int_equal(tlsfd_config_set_ticket_keys(config, keys + 1, 2), 0);
	assert_false(connects(config, version, NULL, &session));
	assert_ptr_equal(sealed_by(session), keys[1]);
	assert_int_equal(tlsfd_config_set_ticket_keys(config, (uint8_t[2][KEY]){ { 0 } }, 1), 0);
	assert_false(connects(config, version, NULL, &session));
	assert_null(sealed_by(session));
	SSL_SESSION_free(session);
	tlsfd_config_free(config);
}

static void check_renewal(int version)
{
	struct tlsfd_config *config = config_of(&pki.good);
	SSL_SESSION *session = NULL;

	assert_int_equal(tlsfd_config_set_ticket_keys(config, keys[1], 1), 0);
	assert_false(connects(config, version, NULL, &session));
	assert_int_equal(tlsfd_config_set_ticket_keys(config, keys, 2), 0);
	assert_true(connects(config, version, NULL, &session));
	assert_ptr_equal(sealed_by(session), keys[0]); /* of TLS 1.2 too: it got a new one */
	assert_true(connects(config, version, NULL, &session));
	SSL_SESSION_free(session);
	tlsfd_config_free(config);
}

static void test_keys_change(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(versions); i++) {
		check_change(versions[i]);
		check_renewal(versions[i]);
	}
}

/* ---- who may resume ---- */

static struct tlsfd_config *asking(enum tlsfd_client_auth auth, const struct identity *first,
				   const struct identity *second)
{
	struct tlsfd_config *config;
	const struct identity *trusted[] = { first, second };

	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_int_equal(tlsfd_config_set_certificate_mem(
				 config, pki.good.cert_pem, strlen(pki.good.cert_pem),
				 pki.good.key_pem, strlen(pki.good.key_pem)),
			 0);
	for (size_t i = 0; i < 2 && trusted[i]; i++)
		assert_int_equal(tlsfd_config_set_ca_mem(config, trusted[i]->cert_pem,
							 strlen(trusted[i]->cert_pem)),
				 0);
	assert_int_equal(tlsfd_config_set_client_auth(config, auth), 0);
	return with_keys(config);
}

/* As asking(auth, pki.ca), and the store is that of a config that is no more. */
static struct tlsfd_config *asking_by_shared(enum tlsfd_client_auth auth, bool crl)
{
	struct tlsfd_config *config = config_of(&pki.good), *with = config_of(NULL);

	if (crl)
		assert_int_equal(
			tlsfd_config_set_crl_mem(with, pki.crl_pem, strlen(pki.crl_pem)), 0);
	assert_int_equal(tlsfd_config_share_trust(config, with), 0);
	tlsfd_config_free(with);
	assert_int_equal(tlsfd_config_set_client_auth(config, auth), 0);
	return with_keys(config);
}

static void test_trust(void **state)
{
	enum tlsfd_client_auth none = TLSFD_CLIENT_AUTH_NONE, may = TLSFD_CLIENT_AUTH_OPTIONAL,
			       must = TLSFD_CLIENT_AUTH_REQUIRED;
	const struct identity *ca = &pki.ca, *more = &pki.other_ca;
	struct tlsfd_config *with_crl = asking(must, ca, NULL), *flat = asking(must, ca, NULL),
			    *flat_for_all = asking(none, ca, NULL);

	(void)state;
	assert_int_equal(tlsfd_config_set_verify_depth(flat, 0), 0);
	assert_int_equal(tlsfd_config_set_verify_depth(flat_for_all, 0), 0);
	assert_int_equal(tlsfd_config_set_crl_mem(with_crl, pki.crl_pem, strlen(pki.crl_pem)), 0);
	assert_true(goes_on(asking(must, ca, NULL), asking(must, ca, NULL)));
	assert_true(goes_on(asking(must, ca, more), asking(must, more, ca)));
	assert_false(goes_on(asking(must, ca, NULL), asking(must, ca, more)));
	assert_false(goes_on(asking(must, ca, more), asking(must, ca, NULL)));
	assert_false(goes_on(asking(must, ca, NULL), with_crl));
	assert_false(goes_on(asking(must, ca, NULL), flat));
	assert_false(goes_on(asking(may, ca, NULL), asking(must, ca, NULL)));
	assert_false(goes_on(asking(none, ca, NULL), asking(must, ca, NULL)));
	assert_false(goes_on(asking(must, ca, NULL), asking(none, ca, NULL)));
	assert_true(goes_on(asking(must, ca, NULL), asking_by_shared(must, false)));
	assert_false(goes_on(asking(must, ca, NULL), asking_by_shared(must, true)));
	/* nobody is asked, so it makes no difference who would be trusted */
	assert_true(goes_on(asking(none, ca, NULL), asking(none, more, NULL)));
	assert_true(goes_on(asking(none, ca, NULL), flat_for_all));
}

static void test_names(void **state)
{
	(void)state;
	/* another key, the same names */
	assert_true(goes_on(with_keys(config_of(&pki.good)), with_keys(config_of(&pki.revoked))));
	assert_false(
		goes_on(with_keys(config_of(&pki.good)), with_keys(config_of(&pki.elsewhere))));
	/* these have no subjectAltName */
	assert_true(goes_on(with_keys(config_of(&pki.client)), with_keys(config_of(&pki.client))));
	assert_false(goes_on(with_keys(config_of(&pki.client)), with_keys(config_of(&pki.good))));
}

/* A server of two names, a.test and b.test. */
static struct tlsfd_config *two_names(void)
{
	struct tlsfd_config *base = config_of(&pki.good), *a = config_of(&pki.address),
			    *b = config_of(&pki.elsewhere);

	assert_int_equal(tlsfd_config_add_name(base, "a.test", a), 0);
	assert_int_equal(tlsfd_config_add_name(base, "b.test", b), 0);
	tlsfd_config_free(a);
	tlsfd_config_free(b);
	return with_keys(base);
}

static void test_server_names(void **state)
{
	static const char *const names[] = { "a.test", "b.test", NULL };

	(void)state;
	for (size_t i = 0; i < LENGTH(names); i++)
		for (size_t j = 0; j < LENGTH(names); j++)
			assert_int_equal(goes_on_as(two_names(), two_names(), names[i], names[j]),
					 i == j);
}

/* ---- early data ---- */

/* No ticket allows it, and nothing is read of a client that sends it all the same. */
static void test_early_data(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good);
	SSL_CTX *ctx = client_of(TLS1_3_VERSION);
	SSL_SESSION *session = NULL;
	struct meeting m;
	size_t sent;

	(void)state;
	connects(config, TLS1_3_VERSION, NULL, &session);
	assert_int_equal(SSL_SESSION_get_max_early_data(session), 0);
	assert_int_equal(SSL_SESSION_set_max_early_data(session, 100), 1);
	meet_open(&m, config, true, ctx, NULL);
	assert_int_equal(SSL_set_session(m.peer, session), 1);
	assert_int_equal(SSL_write_early_data(m.peer, "early", 5, &sent), 1);
	meet_shake(&m);
	assert_int_equal(m.err, -EPROTO);
	assert_says(tlsfd_error(m.c), "early data");
	meet_close(&m);
	SSL_SESSION_free(session);
	SSL_CTX_free(ctx);
	tlsfd_config_free(config);
}

/* ---- the call ---- */

static void test_refusals(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good), *base = config_of(&pki.good);
	SSL_SESSION *session = NULL;

	(void)state;
	assert_int_equal(tlsfd_config_set_ticket_keys(NULL, keys, 1), -EINVAL);
	assert_int_equal(tlsfd_config_set_ticket_keys(config, NULL, 1), -EINVAL);
	assert_int_equal(tlsfd_config_set_ticket_keys(config, keys, 0), -EINVAL);
	assert_int_equal(tlsfd_config_set_ticket_keys(config, keys, TLSFD_TICKET_KEYS + 1),
			 -EINVAL);
	connects(config, TLS1_3_VERSION, NULL, &session);
	assert_int_equal(tlsfd_config_set_ticket_keys(config, keys, 1), -EBUSY);
	SSL_SESSION_free(session);
	tlsfd_config_free(config);
	config = with_keys(config_of(&pki.good));
	assert_int_equal(tlsfd_config_add_name(base, "a.test", config), -EINVAL);
	assert_says(tlsfd_config_error(base), "ticket keys");
	tlsfd_config_free(config);
	config = config_of(&pki.good);
	assert_int_equal(tlsfd_config_add_name(base, "a.test", config), 0);
	assert_int_equal(tlsfd_config_set_ticket_keys(config, keys, 1), -EINVAL);
	tlsfd_config_free(config);
	tlsfd_config_free(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_keys),    cmocka_unit_test(test_keys_change),
		cmocka_unit_test(test_trust),	     cmocka_unit_test(test_names),
		cmocka_unit_test(test_server_names), cmocka_unit_test(test_early_data),
		cmocka_unit_test(test_refusals),
	};

	return meet_run(tests, LENGTH(tests), make, NULL);
}
