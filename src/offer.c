/* SPDX-License-Identifier: MIT */
#include "offer.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/obj_mac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cipher.h"
#include "probe.h"

enum { ASK_AGAIN_SECONDS = 60, LIST_MAX = 1024 };

/* ---- the default ---- */

/*
 * Mozilla's "intermediate" (wiki.mozilla.org/Security/Server_Side_TLS), without its DHE suites:
 * these are left to those who ask for them (RFC 9325 section 4.1). All are good, so that a
 * server lets its clients choose: they know whether they have AES in hardware.
 */
static const struct suite {
	const char *name;
	int version, nid;
} suites[] = {
	{ "TLS_AES_128_GCM_SHA256", TLS1_3_VERSION, NID_aes_128_gcm },
	{ "TLS_AES_256_GCM_SHA384", TLS1_3_VERSION, NID_aes_256_gcm },
	{ "TLS_CHACHA20_POLY1305_SHA256", TLS1_3_VERSION, NID_chacha20_poly1305 },
	{ "ECDHE-ECDSA-AES128-GCM-SHA256", TLS1_2_VERSION, NID_aes_128_gcm },
	{ "ECDHE-RSA-AES128-GCM-SHA256", TLS1_2_VERSION, NID_aes_128_gcm },
	{ "ECDHE-ECDSA-AES256-GCM-SHA384", TLS1_2_VERSION, NID_aes_256_gcm },
	{ "ECDHE-RSA-AES256-GCM-SHA384", TLS1_2_VERSION, NID_aes_256_gcm },
	{ "ECDHE-ECDSA-CHACHA20-POLY1305", TLS1_2_VERSION, NID_chacha20_poly1305 },
	{ "ECDHE-RSA-CHACHA20-POLY1305", TLS1_2_VERSION, NID_chacha20_poly1305 },
};

enum { N_SUITES = sizeof(suites) / sizeof(suites[0]) };

/* Of the other groups that OpenSSL has ffdhe8192 costs a server 100 times as much as it costs a
 * client, who can send the same key share again and again. */
bool offer_default_groups(SSL_CTX *ctx)
{
	static const char *const lists[] = {
		/* key shares of both that come first: not every server has the first */
		"?*X25519MLKEM768 / *X25519:P-256 / P-384",
		"X25519:P-256:P-384",
		"P-256:P-384", /* what a FIPS provider has */
	};
	unsigned i = OpenSSL_version_num() < 0x30500000L; /* whose lists have no such signs */

	while (i < sizeof(lists) / sizeof(lists[0]) &&
	       SSL_CTX_set1_groups_list(ctx, lists[i]) != 1)
		i++;
	ERR_clear_error();
	return i < sizeof(lists) / sizeof(lists[0]);
}

static uint64_t all_of(int version, int nid)
{
	uint64_t set = 0;

	for (int i = 0; i < N_SUITES; i++)
		if (suites[i].version == version && (!nid || suites[i].nid == nid))
			set |= UINT64_C(1) << i;
	return set;
}

static int64_t now(void)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec;
}

static uint64_t everything(void)
{
	return all_of(TLS1_3_VERSION, 0) | all_of(TLS1_2_VERSION, 0);
}

/* The suites of this version that the kernel takes both ways. Where a question could not be
 * asked it is as it was before; where all are no, the version is worth more than the kernel's
 * help. */
static uint64_t ask_version(int version, uint64_t before, bool *no)
{
	uint64_t set = 0;

	for (size_t i = 0; i < n_ciphers; i++) {
		uint64_t those = all_of(version, ciphers[i].nid);
		enum probe_verdict verdict;

		if (!those)
			continue;
		verdict = probe_cipher(&ciphers[i], (uint16_t)version).verdict;
		*no |= verdict == PROBE_NO;
		set |= verdict == PROBE_YES ? those : verdict == PROBE_NO ? 0 : those & before;
	}
	return set ? set : all_of(version, 0);
}

/* before: what is right as long as nobody knows better. A process that may not make sockets
 * any more never will. */
static void ask(struct offer *o, uint64_t before)
{
	/* one that fails makes the kernel look for its module: once is enough */
	enum probe_verdict ulp = probe_kernel(PROBE_ULP).verdict;
	bool no = ulp != PROBE_YES;
	uint64_t taken = ulp == PROBE_NO ? everything() : before;

	if (ulp == PROBE_YES)
		taken = ask_version(TLS1_3_VERSION, before, &no) |
			ask_version(TLS1_2_VERSION, before, &no);
	__atomic_store_n(&o->taken, taken, __ATOMIC_RELAXED);
	__atomic_store_n(&o->ask_again, no, __ATOMIC_RELAXED);
	__atomic_store_n(&o->asked_at, now(), __ATOMIC_RELAXED);
}

static void write_list(char list[LIST_MAX], uint64_t set, int version)
{
	size_t at = 0;

	list[0] = 0;
	for (int i = 0; i < N_SUITES; i++)
		if (set >> i & 1 && suites[i].version == version)
			at += (size_t)snprintf(list + at, LIST_MAX - at, "%s%s", at ? ":" : "",
					       suites[i].name);
}

int offer_settle(struct tlsfd_config *config)
{
	struct offer *o = &config->offer;
	char tls13[LIST_MAX], tls12[LIST_MAX];

	if (o->given)
		return 0;
	if (config->kernel == TLSFD_KERNEL_NEVER || config->absent.why)
		o->taken = everything();
	else
		ask(o, everything());
	o->in_ctx = o->taken;
	o->tls13 = o->tls12 = true;
	write_list(tls13, o->in_ctx, TLS1_3_VERSION);
	write_list(tls12, o->in_ctx, TLS1_2_VERSION);
	if (SSL_CTX_set_ciphersuites(config->ctx, tls13) != 1 ||
	    SSL_CTX_set_cipher_list(config->ctx, tls12) != 1)
		return config_fail_openssl(config, "the default ciphers");
	return 0;
}

void offer_renew(struct tlsfd_config *config, SSL *ssl)
{
	struct offer *o = &config->offer;
	char list[LIST_MAX];
	uint64_t taken;

	/* one thread asks, the others go by the last answer */
	if (__atomic_load_n(&o->ask_again, __ATOMIC_RELAXED) &&
	    now() - __atomic_load_n(&o->asked_at, __ATOMIC_RELAXED) > ASK_AGAIN_SECONDS &&
	    pthread_mutex_trylock(&config->lock) == 0) {
		ask(o, __atomic_load_n(&o->taken, __ATOMIC_RELAXED));
		pthread_mutex_unlock(&config->lock);
	}
	taken = __atomic_load_n(&o->taken, __ATOMIC_RELAXED);
	if (taken == o->in_ctx)
		return;
	/* a failure leaves the ssl with the ctx's ciphers, which are as good */
	write_list(list, taken, TLS1_3_VERSION);
	SSL_set_ciphersuites(ssl, list);
	write_list(list, taken, TLS1_2_VERSION);
	SSL_set_cipher_list(ssl, list);
	ERR_clear_error();
}

/* ---- a list that was given ---- */

/* All that this OpenSSL has and a config can use, to look names up in: without
 * certificates, or encryption, there is nothing to shake hands with. */
static SSL_CTX *every_cipher(void)
{
	static const char tls13[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
				    "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256:"
				    "TLS_AES_128_CCM_8_SHA256";
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	if (ctx && SSL_CTX_set_cipher_list(ctx, "ALL:!aNULL:!PSK:!SRP:@SECLEVEL=0") == 1 &&
	    SSL_CTX_set_ciphersuites(ctx, tls13) == 1)
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

static const SSL_CIPHER *look_up(SSL_CTX *every, const char *name, size_t size)
{
	STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(every);

	for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
		const SSL_CIPHER *c = sk_SSL_CIPHER_value(all, i);
		const char *names[] = { SSL_CIPHER_get_name(c), SSL_CIPHER_standard_name(c) };

		for (int k = 0; k < 2; k++)
			if (names[k] && strlen(names[k]) == size &&
			    strncmp(names[k], name, size) == 0)
				return c;
	}
	return NULL;
}

static bool is_tls13(const SSL_CIPHER *c)
{
	return SSL_CIPHER_get_kx_nid(c) == NID_kx_any;
}

struct lists {
	char tls13[LIST_MAX], tls12[LIST_MAX];
	size_t size13, size12;
};

static bool append(char *list, size_t *size, const char *name)
{
	int n = snprintf(list + *size, LIST_MAX - *size, "%s%s", *size ? ":" : "", name);

	*size += (size_t)n;
	return *size < LIST_MAX;
}

static int sort(struct tlsfd_config *config, SSL_CTX *every, const char *list, struct lists *l)
{
	for (const char *at = list;; at++) {
		size_t n = strcspn(at, ":");
		const SSL_CIPHER *c = look_up(every, at, n);
		bool fits;

		if (!c)
			return config_fail(
				config, -EINVAL,
				"ciphers: OpenSSL has no \"%.*s\" with certificates and encryption",
				(int)(n < 64 ? n : 64), at);
		fits = is_tls13(c) ? append(l->tls13, &l->size13, SSL_CIPHER_get_name(c)) :
				     append(l->tls12, &l->size12, SSL_CIPHER_get_name(c));
		if (!fits)
			return config_fail(config, -E2BIG, "ciphers: the list is too long");
		at += n;
		if (!*at)
			return 0;
	}
}

/* The names are good: what fails now is memory. */
static int set(struct tlsfd_config *config, const struct lists *l)
{
	if (SSL_CTX_set_ciphersuites(config->ctx, l->tls13) != 1 ||
	    (l->size12 && SSL_CTX_set_cipher_list(config->ctx, l->tls12) != 1))
		return config_fail_openssl(config, "ciphers");
	SSL_CTX_set_options(config->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
	config->offer.given = true;
	config->common = "ciphers";
	config->offer.tls13 = l->size13;
	config->offer.tls12 = l->size12;
	return 0;
}

/* An SSL without a list of its own has its ctx's (of TLS 1.3 it has one). */
bool offer_keep(SSL *ssl)
{
	STACK_OF(SSL_CIPHER) *all = SSL_get_ciphers(ssl);
	char list[LIST_MAX] = "";
	size_t size = 0;

	for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
		const SSL_CIPHER *c = sk_SSL_CIPHER_value(all, i);

		if (!is_tls13(c) && !append(list, &size, SSL_CIPHER_get_name(c)))
			return false;
	}
	return !size || SSL_set_cipher_list(ssl, list) == 1;
}

int tlsfd_config_set_ciphers(struct tlsfd_config *config, const char *list)
{
	struct lists l = { .size13 = 0 };
	int err = config_change_common(config, "ciphers");
	SSL_CTX *every;

	if (err)
		return err;
	every = every_cipher();
	if (!every)
		return config_fail(config, -ENOMEM, "ciphers: memory is short");
	err = sort(config, every, list ? list : "", &l);
	SSL_CTX_free(every);
	return err ? err : set(config, &l);
}
