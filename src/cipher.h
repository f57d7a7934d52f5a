/*
 * All facts about the ciphers that both TLS and the kernel have.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_CIPHER_H
#define TLSFD_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ktls.h"

struct cipher {
	const char *name;   /* of the AEAD, RFC 5116 spelling */
	int nid;            /* OpenSSL's number of it (SSL_CIPHER_get_cipher_nid) */
	uint16_t type;      /* TLS_CIPHER_* of the kernel */
	uint8_t key_size;   /* in bytes, as all sizes here */
	uint8_t salt_size;  /* the part of the IV that the kernel calls salt */
	uint8_t iv_size;    /* the part that it calls iv */
	bool explicit_nonce;/* in TLS 1.2 iv is sent with each record (RFC 5288 section 3) */
	uint32_t limit;     /* records under one key; 0: the sequence number's */
};

enum {
	CIPHER_KEY_MAX = 32,
	CIPHER_IV_MAX = 12, /* salt and iv together */
	CIPHER_TAG = 16,
	SEQUENCE_SIZE = 8,
};

extern const struct cipher ciphers[];
extern const size_t n_ciphers;

/* The cipher with this OpenSSL number and suite name; NULL: the kernel has none. */
const struct cipher *cipher_find(int nid, const char *suite);

/* The one with this kernel number, TLS_CIPHER_*; NULL. */
const struct cipher *cipher_of_type(uint16_t type);

/* What the kernel needs for one direction: the argument of TLS_TX and TLS_RX. */
struct crypto_info {
	union {
		struct tls_crypto_info head;
		struct tls12_crypto_info_aes_gcm_128 aes_gcm_128;
		struct tls12_crypto_info_aes_gcm_256 aes_gcm_256;
		struct tls12_crypto_info_aes_ccm_128 aes_ccm_128;
		struct tls12_crypto_info_chacha20_poly1305 chacha20_poly1305;
		uint8_t bytes[64];
	};
	uint8_t size;
};

/*
 * Fills in info: key of cipher->key_size bytes; salt of salt_size; iv of iv_size;
 * sequence: the number of the next record.
 */
void cipher_pack(const struct cipher *cipher, uint16_t version, const uint8_t *key,
		 const uint8_t *salt, const uint8_t *iv, uint64_t sequence,
		 struct crypto_info *info);

/* The key inside info, cipher->key_size bytes. */
const uint8_t *cipher_key(const struct cipher *cipher, const struct crypto_info *info);

#endif
