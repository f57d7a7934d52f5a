/* SPDX-License-Identifier: MIT */
#include "seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

enum { APPLICATION_DATA = 23 }; /* what every sealed record looks like from outside */

/* RFC 8446 section 5.3 */
static void make_nonce(const struct cipher *cipher, const struct crypto_info *info,
		       uint64_t sequence, uint8_t nonce[CIPHER_IV_MAX])
{
	const uint8_t *iv = info->bytes + sizeof(info->head);

	memcpy(nonce, iv + cipher->iv_size + cipher->key_size, cipher->salt_size);
	memcpy(nonce + cipher->salt_size, iv, cipher->iv_size);
	for (int i = 1; i <= SEQUENCE_SIZE; i++, sequence >>= 8)
		nonce[CIPHER_IV_MAX - i] ^= (uint8_t)sequence;
}

/* data: n bytes in place, the tag goes behind. CCM wants the sizes first. */
static bool encrypt(EVP_CIPHER_CTX *ctx, const struct cipher *cipher, const uint8_t *key,
		    const uint8_t *nonce, const uint8_t *header, uint8_t *data, int n)
{
	bool ccm = cipher->nid == NID_aes_128_ccm;
	int len;

	return EVP_EncryptInit_ex(ctx, EVP_get_cipherbynid(cipher->nid), NULL, NULL, NULL) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, CIPHER_IV_MAX, NULL) == 1 &&
	       (!ccm || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, CIPHER_TAG, NULL) == 1) &&
	       EVP_EncryptInit_ex(ctx, NULL, NULL, key, nonce) == 1 &&
	       (!ccm || EVP_EncryptUpdate(ctx, NULL, &len, NULL, n) == 1) &&
	       EVP_EncryptUpdate(ctx, NULL, &len, header, RECORD_HEADER) == 1 &&
	       EVP_EncryptUpdate(ctx, data, &len, data, n) == 1 &&
	       EVP_EncryptFinal_ex(ctx, data + n, &len) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, CIPHER_TAG, data + n) == 1;
}

size_t seal(const struct cipher *cipher, const struct crypto_info *info, uint64_t sequence,
	    uint8_t type, const uint8_t *data, size_t n, uint8_t *out)
{
	size_t length = n + 1 + CIPHER_TAG;
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t nonce[CIPHER_IV_MAX];
	bool ok;

	memcpy(out, (uint8_t[]){ APPLICATION_DATA, 3, 3, (uint8_t)(length >> 8), (uint8_t)length },
	       RECORD_HEADER);
	memcpy(out + RECORD_HEADER, data, n);
	out[RECORD_HEADER + n] = type;
	make_nonce(cipher, info, sequence, nonce);
	ok = ctx && encrypt(ctx, cipher, cipher_key(cipher, info), nonce, out, out + RECORD_HEADER,
			    (int)n + 1);
	EVP_CIPHER_CTX_free(ctx);
	OPENSSL_cleanse(nonce, sizeof(nonce)); /* it is the IV, almost */
	return ok ? RECORD_HEADER + length : 0;
}
