/*
 * The cipher table: what is found, what is refused, and the bytes that the
 * kernel gets.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cipher.h"

#include <openssl/ssl.h>
#include <string.h>

#include "suite.h"

struct suite {
	const char *name;
	int nid;
	const char *aead; /* NULL: refused */
};

static const struct suite suites[] = {
	{ "TLS_AES_128_GCM_SHA256", NID_aes_128_gcm, "AES-128-GCM" },
	{ "TLS_AES_256_GCM_SHA384", NID_aes_256_gcm, "AES-256-GCM" },
	{ "TLS_CHACHA20_POLY1305_SHA256", NID_chacha20_poly1305, "CHACHA20-POLY1305" },
	{ "TLS_AES_128_CCM_SHA256", NID_aes_128_ccm, "AES-128-CCM" },
	{ "TLS_AES_128_CCM_8_SHA256", NID_aes_128_ccm, NULL },
	{ "ECDHE-RSA-AES128-GCM-SHA256", NID_aes_128_gcm, "AES-128-GCM" },
	{ "DHE-RSA-AES256-GCM-SHA384", NID_aes_256_gcm, "AES-256-GCM" },
	{ "ECDHE-ECDSA-CHACHA20-POLY1305", NID_chacha20_poly1305, "CHACHA20-POLY1305" },
	{ "AES128-CCM", NID_aes_128_ccm, "AES-128-CCM" },
	{ "ECDHE-ECDSA-AES128-CCM8", NID_aes_128_ccm, NULL },
	{ "ECDHE-ECDSA-AES256-CCM", NID_aes_256_ccm, NULL },
	{ "ECDHE-ECDSA-AES256-CCM8", NID_aes_256_ccm, NULL },
	{ "ECDHE-RSA-AES128-SHA256", NID_aes_128_cbc, NULL },
	{ "ARIA128-GCM-SHA256", NID_aria_128_gcm, NULL },
	{ "NULL-SHA256", NID_undef, NULL },
};

static void found_or_refused(void **state)
{
	const struct suite *s = *state;
	const struct cipher *c = cipher_find(s->nid, s->name);

	if (s->aead) {
		assert_non_null(c);
		assert_string_equal(c->name, s->aead);
	} else {
		assert_null(c);
	}
}

/* What SSL_CIPHER_description says it encrypts with; the column is OpenSSL's. */
static bool kernel_should_have(const SSL_CIPHER *suite)
{
	static const char *const good[] = { "Enc=AESGCM(128)", "Enc=AESGCM(256)",
					    "Enc=CHACHA20/POLY1305(256)", "Enc=AESCCM(128)" };
	char text[256];

	SSL_CIPHER_description(suite, text, sizeof(text));
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (strstr(text, good[i]))
			return true;
	return false;
}

/* Every suite that this OpenSSL has. */
static void all_suites_of_openssl(void **state)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	STACK_OF(SSL_CIPHER) *all;
	int found = 0;

	(void)state;
	assert_non_null(ctx);
	assert_int_equal(SSL_CTX_set_ciphersuites(
				 ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
				      "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256:"
				      "TLS_AES_128_CCM_8_SHA256"), 1);
	assert_int_equal(SSL_CTX_set_cipher_list(ctx, "ALL:COMPLEMENTOFALL:@SECLEVEL=0"), 1);
	all = SSL_CTX_get_ciphers(ctx);
	for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
		const SSL_CIPHER *suite = sk_SSL_CIPHER_value(all, i);
		const struct cipher *c = cipher_find(SSL_CIPHER_get_cipher_nid(suite),
						     SSL_CIPHER_get_name(suite));

		if (!!c != kernel_should_have(suite))
			fail_msg("%s: %s", SSL_CIPHER_get_name(suite), c ? c->name : "refused");
		found += c != NULL;
	}
	assert_true(found >= 20 && found <= 60);
	SSL_CTX_free(ctx);
}

/* ---- the structs of <linux/tls.h>, filled in by the names of their fields ---- */

static uint8_t key[32], salt[4], iv[12];
static const uint8_t number[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
static const uint64_t sequence = 0x0102030405060708;

static const struct cipher *by_type(uint16_t type)
{
	for (size_t i = 0; i < n_ciphers; i++)
		if (ciphers[i].type == type)
			return &ciphers[i];
	return NULL;
}

static void assert_packed(uint16_t type, const void *expected, size_t size)
{
	struct crypto_info info;
	const struct cipher *c = by_type(type);

	assert_non_null(c);
	memset(&info, 0xee, sizeof(info));
	cipher_pack(c, TLS1_3_VERSION, key, salt, iv, sequence, &info);
	assert_int_equal(info.size, size);
	assert_memory_equal(info.bytes, expected, size);
	assert_memory_equal(cipher_key(c, &info), key, c->key_size);
	for (size_t i = size; i < sizeof(info.bytes); i++)
		assert_int_equal(info.bytes[i], 0xee);
}

#define EXPECTED(type, cipher_type)                                   \
	struct type e = { .info = { TLS_1_3_VERSION, cipher_type } };     \
	memcpy(e.iv, iv, sizeof(e.iv));                               \
	memcpy(e.key, key, sizeof(e.key));                            \
	memcpy(e.rec_seq, number, sizeof(e.rec_seq));

static void packs_aes_128_gcm(void **state)
{
	EXPECTED(tls12_crypto_info_aes_gcm_128, TLS_CIPHER_AES_GCM_128);
	(void)state;
	memcpy(e.salt, salt, sizeof(e.salt));
	assert_packed(TLS_CIPHER_AES_GCM_128, &e, sizeof(e));
}

static void packs_aes_256_gcm(void **state)
{
	EXPECTED(tls12_crypto_info_aes_gcm_256, TLS_CIPHER_AES_GCM_256);
	(void)state;
	memcpy(e.salt, salt, sizeof(e.salt));
	assert_packed(TLS_CIPHER_AES_GCM_256, &e, sizeof(e));
}

static void packs_aes_128_ccm(void **state)
{
	EXPECTED(tls12_crypto_info_aes_ccm_128, TLS_CIPHER_AES_CCM_128);
	(void)state;
	memcpy(e.salt, salt, sizeof(e.salt));
	assert_packed(TLS_CIPHER_AES_CCM_128, &e, sizeof(e));
}

static void packs_chacha20_poly1305(void **state)
{
	EXPECTED(tls12_crypto_info_chacha20_poly1305, TLS_CIPHER_CHACHA20_POLY1305);
	(void)state;
	assert_packed(TLS_CIPHER_CHACHA20_POLY1305, &e, sizeof(e));
}

/* What the table says of each cipher fits RFC 8446 section 5.3: 12 bytes of IV. */
static void ivs_have_12_bytes(void **state)
{
	(void)state;
	assert_int_equal(n_ciphers, 4);
	for (size_t i = 0; i < n_ciphers; i++)
		assert_int_equal(ciphers[i].salt_size + ciphers[i].iv_size, 12);
}

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(0x40 + i);
	for (size_t i = 0; i < sizeof(salt); i++)
		salt[i] = (uint8_t)(0x80 + i);
	for (size_t i = 0; i < sizeof(iv); i++)
		iv[i] = (uint8_t)(0xc0 + i);
	suite_add(all_suites_of_openssl, NULL, 0, "all suites of openssl");
	suite_add(packs_aes_128_gcm, NULL, 0, "packs aes 128 gcm");
	suite_add(packs_aes_256_gcm, NULL, 0, "packs aes 256 gcm");
	suite_add(packs_aes_128_ccm, NULL, 0, "packs aes 128 ccm");
	suite_add(packs_chacha20_poly1305, NULL, 0, "packs chacha20 poly1305");
	suite_add(ivs_have_12_bytes, NULL, 0, "ivs have 12 bytes");
	for (size_t i = 0; i < LENGTH(suites); i++)
		suite_add(found_or_refused, &suites[i], sizeof(suites[i]), "%s", suites[i].name);
	return suite_run(argc, argv);
}
