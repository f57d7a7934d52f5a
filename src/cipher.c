/* SPDX-License-Identifier: MIT */
#include "cipher.h"

#include <openssl/obj_mac.h>
#include <string.h>

/* 2^24.5 full records, RFC 8446 section 5.5; 2^23, RFC 9147 section 4.5.3 */
enum { GCM_LIMIT = 23726566, CCM_LIMIT = 8388608 };

const struct cipher ciphers[] = {
	/* name                NID                    kernel                        key salt iv explicit limit */
	{ "AES-128-GCM",       NID_aes_128_gcm,       TLS_CIPHER_AES_GCM_128,       16, 4,  8, true,  GCM_LIMIT },
	{ "AES-256-GCM",       NID_aes_256_gcm,       TLS_CIPHER_AES_GCM_256,       32, 4,  8, true,  GCM_LIMIT },
	{ "CHACHA20-POLY1305", NID_chacha20_poly1305, TLS_CIPHER_CHACHA20_POLY1305, 32, 0, 12, false, 0 },
	{ "AES-128-CCM",       NID_aes_128_ccm,       TLS_CIPHER_AES_CCM_128,       16, 4,  8, true,  CCM_LIMIT },
};
const size_t n_ciphers = sizeof(ciphers) / sizeof(ciphers[0]);

/* The kernel's structs differ in sizes only: head, iv, key, salt, rec_seq. */
#define SAME_LAYOUT(s, key_size, salt_size, iv_size)                                    \
	_Static_assert(offsetof(struct s, iv) == sizeof(struct tls_crypto_info) &&        \
		       offsetof(struct s, key) == offsetof(struct s, iv) + (iv_size) &&   \
		       offsetof(struct s, salt) == offsetof(struct s, key) + (key_size) &&\
		       offsetof(struct s, rec_seq) ==                                     \
			       offsetof(struct s, salt) + (salt_size) &&                  \
		       sizeof(struct s) == offsetof(struct s, rec_seq) + SEQUENCE_SIZE,   \
		       "layout of struct " #s)

SAME_LAYOUT(tls12_crypto_info_aes_gcm_128, 16, 4, 8);
SAME_LAYOUT(tls12_crypto_info_aes_gcm_256, 32, 4, 8);
SAME_LAYOUT(tls12_crypto_info_chacha20_poly1305, 32, 0, 12);
SAME_LAYOUT(tls12_crypto_info_aes_ccm_128, 16, 4, 8);

/* CCM_8 (RFC 6655) shares its NID with CCM; the kernel has the 16-byte tag only. */
static bool short_tag(const char *suite)
{
	return strstr(suite, "CCM8") || strstr(suite, "CCM_8");
}

const struct cipher *cipher_find(int nid, const char *suite)
{
	for (size_t i = 0; i < n_ciphers; i++)
		if (ciphers[i].nid == nid && !short_tag(suite))
			return &ciphers[i];
	return NULL;
}

const struct cipher *cipher_of_type(uint16_t type)
{
	for (size_t i = 0; i < n_ciphers; i++)
		if (ciphers[i].type == type)
			return &ciphers[i];
	return NULL;
}

void cipher_pack(const struct cipher *cipher, uint16_t version, const uint8_t *key,
		 const uint8_t *salt, const uint8_t *iv, uint64_t sequence,
		 struct crypto_info *info)
{
	uint8_t *p = info->bytes + sizeof(info->head);

	info->head.version = version;
	info->head.cipher_type = cipher->type;
	p = (uint8_t *)memcpy(p, iv, cipher->iv_size) + cipher->iv_size;
	p = (uint8_t *)memcpy(p, key, cipher->key_size) + cipher->key_size;
	p = (uint8_t *)memcpy(p, salt, cipher->salt_size) + cipher->salt_size;
	for (int shift = 56; shift >= 0; shift -= 8)
		*p++ = (uint8_t)(sequence >> shift);
	info->size = (uint8_t)(p - info->bytes);
}

const uint8_t *cipher_key(const struct cipher *cipher, const struct crypto_info *info)
{
	return info->bytes + sizeof(info->head) + cipher->iv_size;
}
