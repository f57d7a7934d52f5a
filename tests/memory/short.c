/*
 * Memory is short: each allocation of the library and of OpenSSL fails once, in the
 * setters of a config, at its first use, and in the handshake. Nothing crashes or is
 * lost, the error says what it is, and the same call then succeeds.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "meet.h"

/* ---- the hooks: --wrap for the library (see meson.build), OpenSSL's own for it ---- */

static unsigned countdown; /* to the one that fails; 0: none will */
static long blocks;        /* that are there */

static bool fails(void)
{
	return countdown && --countdown == 0;
}

static void *count(void *p)
{
	blocks += p != NULL;
	return p;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t k, size_t n);
char *__real_strdup(const char *s);
void __real_free(void *p);
int __real_vasprintf(char **text, const char *format, va_list args);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t k, size_t n);
char *__wrap_strdup(const char *s);
void __wrap_free(void *p);
int __wrap_vasprintf(char **text, const char *format, va_list args);

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : count(__real_malloc(n));
}

void *__wrap_calloc(size_t k, size_t n)
{
	return fails() ? NULL : count(__real_calloc(k, n));
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : count(__real_strdup(s));
}

int __wrap_vasprintf(char **text, const char *format, va_list args)
{
	int n = fails() ? -1 : __real_vasprintf(text, format, args);

	blocks += n >= 0;
	return n;
}

void __wrap_free(void *p)
{
	blocks -= p != NULL;
	__real_free(p);
}

static void *openssl_malloc(size_t n, const char *file, int line)
{
	(void)file, (void)line;
	return __wrap_malloc(n);
}

static void *openssl_realloc(void *p, size_t n, const char *file, int line)
{
	(void)file, (void)line;
	if (fails())
		return NULL;
	return p ? realloc(p, n) : count(__real_malloc(n));
}

static void openssl_free(void *p, const char *file, int line)
{
	(void)file, (void)line;
	__wrap_free(p);
}

/* TLSFD_SLICE=1: a part of them, for slow kernels. */
static unsigned step(void)
{
	const char *slice = getenv("TLSFD_SLICE");

	return slice && strcmp(slice, "1") == 0 ? 13 : 1;
}

/* ---- setters ---- */

static struct tlsfd_config *other;
static uint8_t *ocsp; /* of pki.good */
static size_t ocsp_size;

static int set_new(struct tlsfd_config *config)
{
	struct tlsfd_config *made;
	int err = tlsfd_config_new(&made);

	(void)config;
	assert_int_equal(made == NULL, err < 0);
	tlsfd_config_free(made);
	return err;
}

static int set_certificate(struct tlsfd_config *config)
{
	return tlsfd_config_set_certificate_mem(config, pki.good.cert_pem,
						strlen(pki.good.cert_pem), pki.good.key_pem,
						strlen(pki.good.key_pem));
}

static int set_ca(struct tlsfd_config *config)
{
	return tlsfd_config_set_ca_mem(config, pki.ca.cert_pem, strlen(pki.ca.cert_pem));
}

static int set_crl(struct tlsfd_config *config)
{
	return tlsfd_config_set_crl_mem(config, pki.crl_pem, strlen(pki.crl_pem));
}

static int set_ocsp(struct tlsfd_config *config)
{
	return tlsfd_config_set_ocsp_mem(config, ocsp, ocsp_size);
}

static int set_ciphers(struct tlsfd_config *config)
{
	return tlsfd_config_set_ciphers(config,
					"TLS_AES_128_GCM_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256");
}

static int set_groups(struct tlsfd_config *config)
{
	return tlsfd_config_set_groups(config, "X25519:P-256");
}

static int set_alpn(struct tlsfd_config *config)
{
	return tlsfd_config_set_alpn(config, "h2,http/1.1");
}

static int set_ticket_keys(struct tlsfd_config *config)
{
	static const uint8_t key[TLSFD_TICKET_KEY] = { 1 };

	return tlsfd_config_set_ticket_keys(config, key, 1);
}

static int add_name(struct tlsfd_config *config)
{
	return tlsfd_config_add_name(config, "a.test", other);
}

static int use_it(struct tlsfd_config *config, bool server)
{
	struct tlsfd *c = NULL;
	int fd[2], err;

	tcp_pair(fd);
	err = server ? tlsfd_accept(&c, config, fd[0]) :
		       tlsfd_connect(&c, config, fd[0], "localhost");
	assert_int_equal(c == NULL, err < 0);
	tlsfd_free(c);
	close(fd[0]);
	close(fd[1]);
	return err;
}

static int do_accept(struct tlsfd_config *config)
{
	return use_it(config, true);
}

static int do_connect(struct tlsfd_config *config)
{
	return use_it(config, false);
}

static const struct call {
	const char *name;
	int (*run)(struct tlsfd_config *config);
} calls[] = {
	{ "new", set_new },	    { "certificate", set_certificate },
	{ "ca", set_ca },	    { "crl", set_crl },
	{ "ocsp", set_ocsp },	    { "ciphers", set_ciphers },
	{ "groups", set_groups },   { "alpn", set_alpn },
	{ "name", add_name },	    { "ticket keys", set_ticket_keys },
	{ "accept", do_accept },    { "connect", do_connect },
};

/* OpenSSL forgets here and there why it couldn't. */
static bool is_misjudged(const struct tlsfd_config *config)
{
	static const char *const known[] = { "key can't be read", "ee key too small", "ASN1 lib",
					     "nested asn1 error",
					     "does not take \"X25519:P-256\"",
					     "OCSP response: no ",
					     "digests in the OCSP response" };
	const char *sentence = tlsfd_config_error(config);

	for (size_t i = 0; i < LENGTH(known); i++)
		if (sentence && strstr(sentence, known[i]))
			return true;
	return false;
}

/* call with the nth allocation failing, then again. True: there are more. */
static bool check_call(const struct call *call, unsigned n)
{
	struct tlsfd_config *config = config_of(&pki.good);
	bool fired;
	int err;

	other = config_of(&pki.elsewhere);
	countdown = n;
	err = call->run(config);
	fired = !countdown;
	countdown = 0;
	if (err && err != -ENOMEM && !(err == -EINVAL && is_misjudged(config)))
		fail_msg("%s, allocation %u: %d, %s", call->name, n, err,
			 tlsfd_config_error(config));
	if (err && (err = call->run(config)))
		fail_msg("%s again, after allocation %u: %d", call->name, n, err);
	tlsfd_config_free(other);
	tlsfd_config_free(config);
	return fired;
}

static void test_calls(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(calls); i++) {
		unsigned n = 1;
		long before;

		check_call(&calls[i], 0); /* what is made once is made */
		before = blocks;
		while (check_call(&calls[i], n))
			n += step();
		print_message("# %s: %u allocations, %ld blocks left\n", calls[i].name, n - 1,
			      blocks - before);
		assert_true(blocks - before < 16);
	}
}

/* ---- the handshake ---- */

/* Both ends are ours. */
static void open_both(struct tlsfd_config *config, struct tlsfd *c[2], int fd[2])
{
	tcp_pair(fd);
	assert_int_equal(tlsfd_accept(&c[0], config, fd[0]), 0);
	assert_int_equal(tlsfd_connect(&c[1], config, fd[1], "localhost"), 0);
}

/* The nth allocation of both fails. */
static bool check_handshake(struct tlsfd_config *config, unsigned n)
{
	int fd[2], err[2] = { -EAGAIN, -EAGAIN };
	struct tlsfd *c[2];
	bool fired;

	open_both(config, c, fd);
	countdown = n;
	for (int i = 0; i < PATIENCE_MS && (err[0] == -EAGAIN || err[1] == -EAGAIN); i++) {
		struct pollfd waits = { fd[i & 1], tlsfd_wants(c[i & 1], TLSFD_RX), 0 };

		if (i > 10) /* loopback can be slow */
			poll(&waits, 1, 100);
		err[i & 1] = tlsfd_handshake(c[i & 1]);
		if (err[i & 1] && err[i & 1] != -EAGAIN)
			shutdown(fd[i & 1], SHUT_WR);
	}
	fired = !countdown;
	countdown = 0;
	for (int i = 0; i < 2; i++) {
		assert_int_not_equal(err[i], -EAGAIN);
		assert_int_equal(err[i] < 0, tlsfd_error(c[i]) != NULL);
		tlsfd_free(c[i]);
		close(fd[i]);
	}
	return fired;
}

static void test_handshake(void **state)
{
	(void)state;
	for (int version = TLSFD_TLS_1_2; version <= TLSFD_TLS_1_3; version++) {
		struct tlsfd_config *config = config_of(&pki.good);
		unsigned n = 1;
		long before;

		assert_int_equal(tlsfd_config_set_versions(config, version, version), 0);
		assert_int_equal(set_ticket_keys(config), 0);
		check_handshake(config, 0);
		before = blocks;
		while (check_handshake(config, n))
			n += step();
		print_message("# TLS 1.%d: %u allocations, %ld blocks left\n",
			      version - TLSFD_TLS_1_2 + 2, n - 1, blocks - before);
		assert_true(blocks - before < 16);
		tlsfd_config_free(config);
	}
}

/* ---- moving ---- */

static void say(struct tlsfd *from, struct tlsfd *to)
{
	char got[8];

	assert_int_equal(tlsfd_write(from, "hello", 5), 5);
	assert_int_equal(tlsfd_read(to, got, sizeof(got)), 5);
}

static bool check_move(struct tlsfd_config *config, unsigned n)
{
	int fd[2], pair[2], err;
	struct tlsfd *c[2];
	bool fired;

	open_both(config, c, fd);
	for (int i = 0; tlsfd_handshake(c[i & 1]) == -EAGAIN || i < 4; i++)
		poll(&(struct pollfd){ fd[i & 1], POLLIN, 0 }, 1, 1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(tlsfd_pass(&c[0], pair[0]), 0);
	close(fd[0]);
	countdown = n;
	err = tlsfd_take(&c[0], pair[1]);
	fired = !countdown;
	countdown = 0;
	if (err) {
		assert_int_equal(err, -ENOMEM);
		assert_null(c[0]);
		assert_int_equal(tlsfd_take(&c[0], pair[1]), 0); /* nothing is lost */
	}
	fd[0] = tlsfd_fd(c[0]);
	set_blocking(fd[0], true);
	set_blocking(fd[1], true);
	say(c[0], c[1]);
	say(c[1], c[0]);
	err = tlsfd_rekey(c[0], false);
	assert_true(err == 0 || err == -EOPNOTSUPP);
	say(c[0], c[1]);
	err = tlsfd_rekey(c[1], false);
	assert_true(err == 0 || err == -EOPNOTSUPP);
	say(c[1], c[0]);
	for (int i = 0; i < 2; i++) {
		tlsfd_free(c[i]);
		close(fd[i]);
		close(pair[i]);
	}
	return fired;
}

static void test_move(void **state)
{
	struct tlsfd_config *config;
	unsigned n = 1;
	long before;

	(void)state;
	if (!kernel_has_tls())
		skip();
	config = config_of(&pki.good);
	check_move(config, 0);
	before = blocks;
	while (check_move(config, n))
		n++;
	print_message("# moving: %u allocations, %ld blocks left\n", n - 1, blocks - before);
	assert_true(n > 4 && blocks - before < 16);
	tlsfd_config_free(config);
}

static int make(void **state)
{
	const struct ocsp good = { .about = &pki.good, .issuer = &pki.ca, .from = -60, .to = 3600 };

	(void)state;
	ocsp = pki_ocsp(&good, &ocsp_size);
	return 0;
}

static int drop(void **state)
{
	(void)state;
	OPENSSL_free(ocsp);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_handshake),
		cmocka_unit_test(test_move),
	};

	if (CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) != 1)
		return 1;
	return meet_run(tests, LENGTH(tests), make, drop);
}
