/*
 * The second ClientHello, after HelloRetryRequest: it can't ask for another name, nor
 * so get round that name's client authentication.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdlib.h>

#include "meet.h"

static const char *second_name;

/* At the HelloRetryRequest (a ServerHello): the next ClientHello has another name. */
static void change_name(int write, int version, int type, const void *data, size_t n, SSL *ssl,
			void *arg)
{
	(void)version, (void)arg;
	if (!write && type == SSL3_RT_HANDSHAKE && n && *(const uint8_t *)data == SSL3_MT_SERVER_HELLO)
		SSL_set_tlsext_host_name(ssl, second_name);
}

/* A server that asks everybody for a certificate, but those who come for public.test;
 * it takes P-256 only, which the client's first key share is not. */
static struct tlsfd_config *guarded(void)
{
	struct tlsfd_config *config = config_of(&pki.good), *open = config_of(&pki.good);

	assert_int_equal(tlsfd_config_set_groups(config, "P-256"), 0);
	assert_int_equal(tlsfd_config_set_client_auth(config, TLSFD_CLIENT_AUTH_REQUIRED), 0);
	assert_int_equal(tlsfd_config_add_name(config, "public.test", open), 0);
	tlsfd_config_free(open);
	return config;
}

static void shake(struct meeting *m, const char *first, const char *second)
{
	struct tlsfd_config *config = guarded();
	SSL_CTX *ctx = peer_context(NULL);

	assert_int_equal(SSL_CTX_set1_groups_list(ctx, "X25519:P-256"), 1);
	meet_open(m, config, true, ctx, NULL);
	SSL_set_tlsext_host_name(m->peer, first);
	second_name = second;
	if (second)
		SSL_set_msg_callback(m->peer, change_name);
	meet_shake(m);
	SSL_CTX_free(ctx);
	tlsfd_config_free(config);
}

static void test_same_name(void **state)
{
	struct meeting m;

	(void)state;
	shake(&m, "public.test", NULL);
	assert_int_equal(m.err, 0);
	assert_string_equal(tlsfd_server_name(m.c), "public.test");
	meet_close(&m);
}

static void test_other_name_alone(void **state)
{
	struct meeting m;

	(void)state;
	shake(&m, "admin.test", NULL);
	assert_int_equal(m.err, -EKEYREJECTED);
	meet_close(&m);
}

static void test_name_changed(void **state)
{
	struct meeting m;

	(void)state;
	shake(&m, "public.test", "admin.test");
	assert_int_equal(m.err, -EPROTO);
	assert_int_equal(tlsfd_alert(m.c), SSL_AD_ILLEGAL_PARAMETER);
	meet_close(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_name),
		cmocka_unit_test(test_other_name_alone),
		cmocka_unit_test(test_name_changed),
	};

	return meet_run(tests, LENGTH(tests), NULL, NULL);
}
