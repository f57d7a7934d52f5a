/* SPDX-License-Identifier: MIT */
#include "keys.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/sha.h>
#include <string.h>

enum { TLS12_KEY_BLOCK_MAX = 2 * (CIPHER_KEY_MAX + CIPHER_IV_MAX) };

static int kdf_run(const char *algorithm, const OSSL_PARAM *params, uint8_t *out, size_t size)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, algorithm, NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	int ok = ctx && EVP_KDF_derive(ctx, out, size, params) > 0;

	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return ok ? 0 : -EIO;
}

static const EVP_MD *handshake_digest(const SSL *ssl)
{
	return SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(ssl));
}

/* ---- TLS 1.3: HKDF-Expand-Label with an empty context, RFC 8446 section 7.1 ---- */

static int expand_label(const EVP_MD *md, const uint8_t *secret, size_t secret_size,
			const char *label, uint8_t *out, size_t size)
{
	uint8_t info[32] = { 0, (uint8_t)size, (uint8_t)(6 + strlen(label)) };
	size_t info_size = 3;
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;

	memcpy(info + info_size, "tls13 ", 6);
	memcpy(info + info_size + 6, label, strlen(label));
	info_size += 6 + strlen(label) + 1; /* and the context's length, 0 */

	return kdf_run("HKDF",
		       (const OSSL_PARAM[]){
			       OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
			       OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
								(char *)EVP_MD_get0_name(md), 0),
			       OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY,
								 (void *)secret, secret_size),
			       OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info,
								 info_size),
			       OSSL_PARAM_construct_end(),
		       },
		       out, size);
}

/* RFC 8446 section 7.3 */
static int derive_tls13(const EVP_MD *md, const uint8_t *secret, size_t secret_size,
			const struct cipher *cipher, uint64_t records, struct crypto_info *info)
{
	uint8_t key[CIPHER_KEY_MAX], iv[CIPHER_IV_MAX];
	int err = expand_label(md, secret, secret_size, "key", key, cipher->key_size);

	if (!err)
		err = expand_label(md, secret, secret_size, "iv", iv, CIPHER_IV_MAX);
	if (!err)
		cipher_pack(cipher, TLS1_3_VERSION, key, iv, iv + cipher->salt_size, records,
			    info);
	OPENSSL_cleanse(key, sizeof(key));
	OPENSSL_cleanse(iv, sizeof(iv));
	return err;
}

/* The hash of the suite: its length is the secret's. */
static const EVP_MD *digest_of_secret(size_t size)
{
	return size == SHA384_DIGEST_LENGTH ? EVP_sha384() : EVP_sha256();
}

int keys_of_secret(const struct cipher *cipher, const uint8_t *secret, size_t size,
		   struct crypto_info *info)
{
	return derive_tls13(digest_of_secret(size), secret, size, cipher, 0, info);
}

int keys_update(const struct cipher *cipher, const uint8_t *secret, size_t size, uint8_t *next,
		struct crypto_info *info)
{
	int err = expand_label(digest_of_secret(size), secret, size, "traffic upd", next, size);

	return err ? err : keys_of_secret(cipher, next, size, info);
}

/* ---- TLS 1.2 ---- */

/* client key, server key, client IV, server IV: RFC 5246 section 6.3 */
static int key_block(SSL *ssl, uint8_t *block, size_t size)
{
	static const char label[] = "key expansion";
	uint8_t master[SSL_MAX_MASTER_KEY_LENGTH], seed[2 * SSL3_RANDOM_SIZE];
	size_t master_size = SSL_SESSION_get_master_key(SSL_get_session(ssl), master,
							sizeof(master));
	int err;

	SSL_get_server_random(ssl, seed, SSL3_RANDOM_SIZE);
	SSL_get_client_random(ssl, seed + SSL3_RANDOM_SIZE, SSL3_RANDOM_SIZE);
	err = kdf_run("TLS1-PRF",
		      (const OSSL_PARAM[]){
			      OSSL_PARAM_construct_utf8_string(
				      OSSL_KDF_PARAM_DIGEST,
				      (char *)EVP_MD_get0_name(handshake_digest(ssl)), 0),
			      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master,
								master_size),
			      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED,
								(void *)label, strlen(label)),
			      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed,
								sizeof(seed)),
			      OSSL_PARAM_construct_end(),
		      },
		      block, size);
	OPENSSL_cleanse(master, sizeof(master));
	return err;
}

/* The explicit nonce after the last one that was sent; OpenSSL counts from a
 * random start, which only the wire shows. */
static void next_nonce(const struct record_flow *flow, uint8_t *nonce)
{
	memcpy(nonce, flow->last_nonce, RECORD_NONCE);
	for (int i = RECORD_NONCE; i-- && ++nonce[i] == 0;)
		;
}

static int derive_tls12(SSL *ssl, const struct watched_way *ww, enum way way,
			const struct cipher *cipher, struct crypto_info *info)
{
	/* the part of the IV that the key block gives, RFC 5288 section 3, RFC 7905 section 2 */
	size_t fixed_iv = cipher->explicit_nonce ? cipher->salt_size : CIPHER_IV_MAX;
	size_t key_size = cipher->key_size;
	bool ours_is_server = SSL_is_server(ssl) == (way == TX);
	uint8_t block[TLS12_KEY_BLOCK_MAX], nonce[RECORD_NONCE];
	const uint8_t *key = block + (ours_is_server ? key_size : 0);
	const uint8_t *iv = block + 2 * key_size + (ours_is_server ? fixed_iv : 0);
	int err = key_block(ssl, block, 2 * (key_size + fixed_iv));

	next_nonce(&ww->flow, nonce);
	if (!err)
		cipher_pack(cipher, TLS1_2_VERSION, key, iv,
			    cipher->explicit_nonce ? nonce : iv + cipher->salt_size,
			    ww->flow.records, info);
	OPENSSL_cleanse(block, sizeof(block));
	return err;
}

int keys_derive(SSL *ssl, const struct watch *w, enum way way, const struct cipher *cipher,
		struct crypto_info *info)
{
	const struct watched_way *ww = &w->way[way];
	int err = SSL_version(ssl) == TLS1_3_VERSION ?
			  derive_tls13(handshake_digest(ssl), ww->secret, ww->secret_size,
				       cipher, ww->flow.records, info) :
			  derive_tls12(ssl, ww, way, cipher, info);

	if (err)
		OPENSSL_cleanse(info, sizeof(*info));
	return err;
}
