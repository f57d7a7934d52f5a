/*
 * The setters of struct tlsfd_config, good and bad, and what a config needs to be used.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "meet.h"

static struct tlsfd_config *fresh(void)
{
	struct tlsfd_config *config;

	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_null(tlsfd_config_error(config));
	return config;
}

static void use(struct tlsfd_config *config, const struct identity *id)
{
	assert_int_equal(tlsfd_config_set_certificate_mem(config, id->cert_pem,
							  strlen(id->cert_pem), id->key_pem,
							  strlen(id->key_pem)), 0);
}

/* ---- lists ---- */

static int set_ciphers(struct tlsfd_config *config, const char *list)
{
	return tlsfd_config_set_ciphers(config, list);
}

static int set_groups(struct tlsfd_config *config, const char *list)
{
	return tlsfd_config_set_groups(config, list);
}

static int set_alpn(struct tlsfd_config *config, const char *list)
{
	return tlsfd_config_set_alpn(config, list);
}

static const struct list_case {
	int (*set)(struct tlsfd_config *config, const char *list);
	const char *list;
	int want;
	const char *says;
} list_cases[] = {
	{ set_ciphers, "TLS_AES_256_GCM_SHA384", 0, NULL },
	{ set_ciphers, "ECDHE-RSA-AES128-GCM-SHA256", 0, NULL },
	{ set_ciphers, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:TLS_AES_128_GCM_SHA256", 0, NULL },
	{ set_ciphers, "TLS_AES_128_CCM_8_SHA256", 0, NULL },
	{ set_ciphers, "TLS_NO_SUCH_CIPHER", -EINVAL, "no \"TLS_NO_SUCH_CIPHER\"" },
	{ set_ciphers, "TLS_AES_128_GCM_SHA256:", -EINVAL, "no \"\"" },
	{ set_ciphers, "HIGH", -EINVAL, "no \"HIGH\"" },
	{ set_ciphers, "", -EINVAL, "no \"\"" },
	{ set_ciphers, NULL, -EINVAL, "no \"\"" },
	{ set_ciphers, "ADH-AES256-GCM-SHA384", -EINVAL, "no \"ADH-AES256-GCM-SHA384\"" },
	{ set_ciphers, "TLS_AES_128_GCM_SHA256:AECDH-AES128-SHA", -EINVAL, "no \"AECDH" },
	{ set_ciphers, "ECDHE-ECDSA-NULL-SHA", -EINVAL, "no \"ECDHE-ECDSA-NULL-SHA\"" },
	{ set_ciphers, "PSK-AES128-GCM-SHA256", -EINVAL, "no \"PSK-AES128-GCM-SHA256\"" },
	{ set_ciphers, "RSA-PSK-AES128-GCM-SHA256", -EINVAL, "no \"RSA-PSK" },
	{ set_ciphers, "SRP-RSA-AES-128-CBC-SHA", -EINVAL, "no \"SRP-RSA" },
	{ set_ciphers, "AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256", 0, NULL },
	{ set_groups, "X25519:P-256", 0, NULL },
	{ set_groups, "P-384", 0, NULL },
	{ set_groups, "P-999", -EINVAL, "P-999" },
	{ set_groups, NULL, -EINVAL, "groups" },
	{ set_alpn, "h2,http/1.1", 0, NULL },
	{ set_alpn, "h2,,http/1.1", -EINVAL, "alpn" },
	{ set_alpn, ",h2", -EINVAL, "alpn" },
	{ set_alpn, "h2,", -EINVAL, "alpn" },
	{ set_alpn, "", -EINVAL, "alpn" },
	{ set_alpn, NULL, -EINVAL, "alpn" },
};

static void test_lists(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(list_cases); i++) {
		const struct list_case *l = &list_cases[i];
		struct tlsfd_config *config = fresh();
		int got = l->set(config, l->list);

		if (got != l->want)
			fail_msg("\"%s\": %d, want %d", l->list, got, l->want);
		if (l->says)
			assert_says(tlsfd_config_error(config), l->says);
		tlsfd_config_free(config);
	}
}

static void test_long_name_of_protocol(void **state)
{
	struct tlsfd_config *config = fresh();
	char name[257];

	(void)state;
	memset(name, 'a', sizeof(name));
	name[256] = 0;
	assert_int_equal(tlsfd_config_set_alpn(config, name), -EINVAL);
	name[255] = 0;
	assert_int_equal(tlsfd_config_set_alpn(config, name), 0);
	tlsfd_config_free(config);
}

/* ---- values ---- */

static void test_values(void **state)
{
	struct tlsfd_config *config = fresh();

	(void)state;
	assert_int_equal(tlsfd_config_set_versions(config, TLSFD_TLS_1_2, TLSFD_TLS_1_2), 0);
	assert_int_equal(tlsfd_config_set_versions(config, TLSFD_TLS_1_3, TLSFD_TLS_1_2), -EINVAL);
	assert_int_equal(tlsfd_config_set_versions(config, 0x0301, TLSFD_TLS_1_3), -EINVAL);
	assert_says(tlsfd_config_error(config), "0x0301");
	assert_int_equal(tlsfd_config_set_client_auth(config, TLSFD_CLIENT_AUTH_REQUIRED), 0);
	assert_int_equal(tlsfd_config_set_client_auth(config, 7), -EINVAL);
	assert_int_equal(tlsfd_config_set_kernel(config, TLSFD_KERNEL_NEVER), 0);
	assert_int_equal(tlsfd_config_set_kernel(config, 7), -EINVAL);
	assert_int_equal(tlsfd_config_set_tickets(config, 0), 0);
	assert_int_equal(tlsfd_config_set_tickets(config, 8), 0);
	assert_int_equal(tlsfd_config_set_session_cache(config, 0), 0);
	assert_int_equal(tlsfd_config_set_session_cache(config, 100), 0);
	tlsfd_config_free(config);
}

static void test_no_config(void **state)
{
	struct tlsfd *c = (struct tlsfd *)&c;
	int fd[2];

	(void)state;
	assert_int_equal(tlsfd_config_new(NULL), -EINVAL);
	assert_int_equal(tlsfd_config_set_alpn(NULL, "h2"), -EINVAL);
	assert_null(tlsfd_config_error(NULL));
	tlsfd_config_free(NULL);
	tcp_pair(fd);
	assert_int_equal(tlsfd_accept(NULL, NULL, fd[0]), -EINVAL);
	assert_int_equal(tlsfd_accept(&c, NULL, fd[0]), -EINVAL);
	assert_int_equal(tlsfd_connect(&c, NULL, fd[0], "localhost"), -EINVAL);
	close(fd[0]);
	close(fd[1]);
}

static void test_versions_without_cipher(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good);
	struct tlsfd *c;
	int fd[2];

	(void)state;
	tcp_pair(fd);
	assert_int_equal(tlsfd_config_set_ciphers(config, "ECDHE-RSA-AES128-GCM-SHA256"), 0);
	assert_int_equal(tlsfd_config_set_versions(config, TLSFD_TLS_1_3, TLSFD_TLS_1_3), 0);
	assert_int_equal(tlsfd_accept(&c, config, fd[0]), -EINVAL);
	assert_null(c);
	assert_says(tlsfd_config_error(config), "no cipher of the list");
	/* not in use: it can be mended */
	assert_int_equal(tlsfd_config_set_versions(config, TLSFD_TLS_1_2, TLSFD_TLS_1_3), 0);
	assert_int_equal(tlsfd_accept(&c, config, fd[0]), 0);
	tlsfd_free(c);
	tlsfd_config_free(config);
	close(fd[0]);
	close(fd[1]);
}

static void test_start(void **state)
{
	struct tlsfd_config *config = config_of(NULL);
	struct tlsfd *c = NULL;
	int fd[2], pipes[2];

	(void)state;
	tcp_pair(fd);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(tlsfd_accept(&c, config, fd[0]), -EINVAL);
	assert_says(tlsfd_config_error(config), "a server needs a certificate");
	assert_int_equal(tlsfd_connect(&c, config, fd[0], NULL), -EINVAL);
	assert_says(tlsfd_config_error(config), "name is needed");
	assert_int_equal(tlsfd_connect(&c, config, fd[0], ""), -EINVAL);
	assert_int_equal(tlsfd_connect(&c, config, pipes[0], "localhost"), -ENOTSOCK);
	assert_int_equal(tlsfd_connect(&c, config, -1, "localhost"), -EBADF);
	assert_null(c);
	for (int i = 0; i < 2; i++) {
		close(fd[i]);
		close(pipes[i]);
	}
	tlsfd_config_free(config);
}

/* Names that no server has: two would let any server below wild.test in, or all of them. */
static void test_name_of_server(void **state)
{
	struct tlsfd_config *config = config_of(NULL);
	char long_name[257];
	struct tlsfd *c;
	int fd[2];

	(void)state;
	tcp_pair(fd);
	for (int unverified = 0; unverified < 2; unverified++) {
		if (unverified)
			tlsfd_config_insecure_no_verify_name(config);
		assert_int_equal(tlsfd_connect(&c, config, fd[0], "*.wild.test"), -EINVAL);
		assert_null(c);
		assert_says(tlsfd_config_error(config), "\"*.wild.test\" is no name of a server");
		assert_int_equal(tlsfd_connect(&c, config, fd[0], ".wild.test"), -EINVAL);
		assert_null(c);
		assert_says(tlsfd_config_error(config), "\".wild.test\" is no name of a server");
		memset(long_name, 'a', sizeof(long_name));
		long_name[256] = 0;
		assert_int_equal(tlsfd_connect(&c, config, fd[0], long_name), -EINVAL);
		assert_int_equal(tlsfd_connect(&c, config, fd[0], ""), -EINVAL);
	}
	long_name[255] = 0;
	assert_int_equal(tlsfd_connect(&c, config, fd[0], long_name), 0);
	tlsfd_free(c);
	tlsfd_config_free(config);
	close(fd[0]);
	close(fd[1]);
}

/* Who is to be trusted must be said where clients are asked for certificates. */
static void test_client_auth_without_trust(void **state)
{
	enum tlsfd_client_auth auth;
	int fd[2];

	(void)state;
	tcp_pair(fd);
	for (auth = TLSFD_CLIENT_AUTH_OPTIONAL; auth <= TLSFD_CLIENT_AUTH_REQUIRED; auth++) {
		struct tlsfd_config *config = fresh(), *top = config_of(&pki.good);
		struct tlsfd *c;

		use(config, &pki.good);
		assert_int_equal(tlsfd_config_set_client_auth(config, auth), 0);
		assert_int_equal(tlsfd_accept(&c, config, fd[0]), -EINVAL);
		assert_null(c);
		assert_says(tlsfd_config_error(config), "client auth: no authority");
		assert_int_equal(tlsfd_config_add_name(top, "a.test", config), -EINVAL);
		assert_says(tlsfd_config_error(top), "\"a.test\": client auth: no authority");
		/* a client isn't concerned */
		assert_int_equal(tlsfd_connect(&c, config, fd[0], "localhost"), 0);
		tlsfd_free(c);
		assert_int_equal(tlsfd_accept(&c, config, fd[0]), -EINVAL);
		tlsfd_config_free(config);
		tlsfd_config_free(top);
	}
	close(fd[0]);
	close(fd[1]);
}

/* The config for a name is looked at again when it is used. */
static void test_client_auth_added_to_name(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good), *other = fresh();
	struct tlsfd *c;
	int fd[2];

	(void)state;
	tcp_pair(fd);
	use(other, &pki.good);
	assert_int_equal(tlsfd_config_add_name(config, "a.test", other), 0);
	assert_int_equal(tlsfd_config_set_client_auth(other, TLSFD_CLIENT_AUTH_REQUIRED), 0);
	assert_int_equal(tlsfd_accept(&c, config, fd[0]), -EINVAL);
	assert_says(tlsfd_config_error(config), "\"a.test\": client auth: no authority");
	assert_int_equal(tlsfd_config_set_ca_mem(other, pki.ca.cert_pem, strlen(pki.ca.cert_pem)),
			 0);
	assert_int_equal(tlsfd_accept(&c, config, fd[0]), 0);
	tlsfd_free(c);
	tlsfd_config_free(config);
	tlsfd_config_free(other);
	close(fd[0]);
	close(fd[1]);
}

static void test_frozen(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good), *other = config_of(&pki.good);
	struct tlsfd *c, *unnamed;
	int fd[2];

	(void)state;
	tcp_pair(fd);
	assert_int_equal(tlsfd_accept(&c, config, fd[0]), 0);
	assert_int_equal(tlsfd_config_set_alpn(config, "h2"), -EBUSY);
	assert_int_equal(tlsfd_config_set_groups(config, "P-256"), -EBUSY);
	assert_int_equal(tlsfd_config_set_ciphers(config, "TLS_AES_128_GCM_SHA256"), -EBUSY);
	assert_int_equal(tlsfd_config_set_versions(config, TLSFD_TLS_1_2, TLSFD_TLS_1_3), -EBUSY);
	assert_int_equal(tlsfd_config_set_tickets(config, 1), -EBUSY);
	assert_int_equal(tlsfd_config_set_session_cache(config, 1), -EBUSY);
	assert_int_equal(tlsfd_config_set_kernel(config, TLSFD_KERNEL_NEVER), -EBUSY);
	assert_int_equal(tlsfd_config_set_client_auth(config, TLSFD_CLIENT_AUTH_NONE), -EBUSY);
	assert_int_equal(tlsfd_config_add_name(config, "a.test", other), -EBUSY);
	assert_int_equal(tlsfd_config_set_ca_mem(config, "", 0), -EBUSY);
	assert_int_equal(tlsfd_config_set_ca_file(config, ""), -EBUSY);
	assert_int_equal(tlsfd_config_set_crl_mem(config, "", 0), -EBUSY);
	assert_int_equal(tlsfd_config_set_crl_file(config, ""), -EBUSY);
	assert_int_equal(tlsfd_config_set_certificate_mem(config, "", 0, "", 0), -EBUSY);
	assert_int_equal(tlsfd_config_set_certificate_file(config, "", ""), -EBUSY);
	/* what can't fail does nothing */
	tlsfd_config_insecure_no_verify_name(config);
	assert_int_equal(tlsfd_connect(&unnamed, config, fd[1], NULL), -EINVAL);
	/* the connection has a reference of its own */
	tlsfd_config_free(config);
	tlsfd_free(c);
	tlsfd_config_free(other);
	close(fd[0]);
	close(fd[1]);
}

static void test_names(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good), *other = config_of(&pki.good),
			    *bare = config_of(NULL);

	(void)state;
	assert_int_equal(tlsfd_config_add_name(config, "a.test", other), 0);
	assert_int_equal(tlsfd_config_add_name(config, "*.a.test", other), 0);
	assert_int_equal(tlsfd_config_add_name(config, "A.test", other), -EEXIST);
	assert_int_equal(tlsfd_config_add_name(config, "b..test", other), -EINVAL);
	assert_int_equal(tlsfd_config_add_name(config, "*", other), -EINVAL);
	assert_int_equal(tlsfd_config_add_name(config, "a.*.test", other), -EINVAL);
	assert_int_equal(tlsfd_config_add_name(config, "", other), -EINVAL);
	assert_int_equal(tlsfd_config_add_name(config, NULL, other), -EINVAL);
	assert_int_equal(tlsfd_config_add_name(config, "c.test", NULL), -EINVAL);
	assert_int_equal(tlsfd_config_add_name(config, "c.test", config), -EINVAL);
	assert_int_equal(tlsfd_config_add_name(other, "c.test", config), -EINVAL);
	assert_int_equal(tlsfd_config_add_name(config, "c.test", bare), -EINVAL);
	assert_says(tlsfd_config_error(config), "no certificate");
	tlsfd_config_free(config);
	tlsfd_config_free(other);
	tlsfd_config_free(bare);
}

/* What one name can't have of its own, by the word that the sentence has. */
static int set_common(struct tlsfd_config *config, const char *what)
{
	if (strcmp(what, "versions") == 0)
		return tlsfd_config_set_versions(config, TLSFD_TLS_1_3, TLSFD_TLS_1_3);
	if (strcmp(what, "ciphers") == 0)
		return tlsfd_config_set_ciphers(config, "TLS_AES_256_GCM_SHA384");
	if (strcmp(what, "groups") == 0)
		return tlsfd_config_set_groups(config, "P-256");
	if (strcmp(what, "tickets") == 0)
		return tlsfd_config_set_tickets(config, 0);
	if (strcmp(what, "session cache") == 0)
		return tlsfd_config_set_session_cache(config, 10);
	return tlsfd_config_set_kernel(config, TLSFD_KERNEL_NEVER);
}

static void test_common_settings(void **state)
{
	static const char *const common[] = { "versions", "ciphers",	   "groups",
					      "tickets",  "session cache", "kernel" };

	(void)state;
	for (size_t i = 0; i < LENGTH(common); i++) {
		struct tlsfd_config *config = config_of(&pki.good), *set = config_of(&pki.good),
				    *named = config_of(&pki.good);

		assert_int_equal(set_common(set, common[i]), 0);
		assert_int_equal(tlsfd_config_add_name(config, "a.test", set), -EINVAL);
		assert_says(tlsfd_config_error(config), common[i]);
		assert_int_equal(tlsfd_config_add_name(config, "a.test", named), 0);
		assert_int_equal(set_common(named, common[i]), -EINVAL);
		assert_says(tlsfd_config_error(named), common[i]);
		tlsfd_config_free(config);
		tlsfd_config_free(named);
		tlsfd_config_free(set);
	}
}

static void test_references(void **state)
{
	struct tlsfd_config *config = fresh();

	(void)state;
	assert_ptr_equal(tlsfd_config_ref(config), config);
	tlsfd_config_free(config);
	assert_int_equal(tlsfd_config_set_alpn(config, "h2"), 0);
	tlsfd_config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_long_name_of_protocol),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_no_config),
		cmocka_unit_test(test_versions_without_cipher),
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_name_of_server),
		cmocka_unit_test(test_client_auth_without_trust),
		cmocka_unit_test(test_client_auth_added_to_name),
		cmocka_unit_test(test_frozen),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_common_settings),
		cmocka_unit_test(test_references),
	};

	return meet_run(tests, LENGTH(tests), NULL, NULL);
}
