/* SPDX-License-Identifier: MIT */
#include "decrypt.h"

#include <openssl/hmac.h>
#include <string.h>

enum { HEADER = 5, TAG = 16, EXPLICIT = 8 };

static const EVP_MD *digest(SSL *ssl)
{
	return SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(ssl));
}

/* HKDF-Expand-Label of at most one block */
static void expand(const EVP_MD *md, const uint8_t *secret, size_t secret_size, const char *label,
		   uint8_t *out, size_t size)
{
	uint8_t info[64] = { 0, (uint8_t)size, (uint8_t)(6 + strlen(label)) }, block[64];
	size_t n = 3;

	n += (size_t)sprintf((char *)info + n, "tls13 %s", label);
	info[n++] = 0; /* no context */
	info[n++] = 1; /* first block */
	HMAC(md, secret, (int)secret_size, info, n, block, NULL);
	memcpy(out, block, size);
}

/* P_hash */
static void prf(const EVP_MD *md, const uint8_t *secret, size_t secret_size, const uint8_t *seed,
		size_t seed_size, uint8_t *out, size_t size)
{
	uint8_t a[64 + 128], block[64];
	unsigned n;

	HMAC(md, secret, (int)secret_size, seed, seed_size, a, &n);
	while (size) {
		size_t part = size < n ? size : n;

		memcpy(a + n, seed, seed_size);
		HMAC(md, secret, (int)secret_size, a, n + seed_size, block, NULL);
		memcpy(out, block, part);
		out += part;
		size -= part;
		HMAC(md, secret, (int)secret_size, a, n, block, NULL);
		memcpy(a, block, n);
	}
}

static void init_tls12(struct opener *o, SSL *ssl, bool server, const uint8_t *secret, size_t size)
{
	size_t key = (size_t)EVP_CIPHER_get_key_length(o->cipher);
	size_t iv = o->explicit_nonce ? 4 : 12;
	uint8_t seed[13 + 64] = "key expansion", block[2 * (32 + 12)];

	SSL_get_server_random(ssl, seed + 13, 32);
	SSL_get_client_random(ssl, seed + 45, 32);
	prf(digest(ssl), secret, size, seed, sizeof(seed), block, 2 * (key + iv));
	memcpy(o->key, block + (server ? key : 0), key);
	memcpy(o->iv, block + 2 * key + (server ? iv : 0), iv);
}

static const EVP_CIPHER *cipher(const SSL *ssl)
{
	switch (SSL_CIPHER_get_cipher_nid(SSL_get_current_cipher(ssl))) {
	case NID_aes_128_gcm:
		return EVP_aes_128_gcm();
	case NID_aes_256_gcm:
		return EVP_aes_256_gcm();
	case NID_aes_128_ccm:
		return EVP_aes_128_ccm();
	default:
		return EVP_chacha20_poly1305();
	}
}

void opener_init(struct opener *o, SSL *ssl, bool server, const uint8_t *secret, size_t size)
{
	memset(o, 0, sizeof(*o));
	o->cipher = cipher(ssl);
	o->tls13 = SSL_version(ssl) == TLS1_3_VERSION;
	o->explicit_nonce = !o->tls13 && o->cipher != EVP_chacha20_poly1305();
	if (!o->tls13) {
		init_tls12(o, ssl, server, secret, size);
		return;
	}
	expand(digest(ssl), secret, size, "key", o->key,
	       (size_t)EVP_CIPHER_get_key_length(o->cipher));
	expand(digest(ssl), secret, size, "iv", o->iv, 12);
}

static void put_sequence(uint8_t *out, uint64_t sequence)
{
	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t)(sequence >> (56 - 8 * i));
}

static void make_nonce(struct opener *o, const uint8_t *record)
{
	uint8_t sequence[8];

	memcpy(o->nonce, o->iv, 12);
	put_sequence(sequence, o->sequence);
	if (o->explicit_nonce)
		memcpy(o->nonce + 4, record + HEADER, EXPLICIT);
	for (int i = 0; i < 8 && !o->explicit_nonce; i++)
		o->nonce[4 + i] ^= sequence[i];
}

/* What is authenticated besides the content, n bytes of it; returns its size. */
static int make_aad(const struct opener *o, const uint8_t *record, size_t n, uint8_t aad[13])
{
	if (o->tls13) {
		memcpy(aad, record, HEADER);
		return HEADER;
	}
	put_sequence(aad, o->sequence);
	memcpy(aad + 8, record, 3);
	aad[11] = (uint8_t)(n >> 8);
	aad[12] = (uint8_t)n;
	return 13;
}

/* CCM wants to know the sizes, and checks the tag, before it opens anything. */
static bool start_ccm(EVP_CIPHER_CTX *ctx, const struct opener *o, const uint8_t *text, size_t n)
{
	int size;

	return EVP_DecryptInit_ex(ctx, o->cipher, NULL, NULL, NULL) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, 12, NULL) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(text + n)) == 1 &&
	       EVP_DecryptInit_ex(ctx, NULL, NULL, o->key, o->nonce) == 1 &&
	       EVP_DecryptUpdate(ctx, NULL, &size, NULL, (int)n) == 1;
}

static bool start(EVP_CIPHER_CTX *ctx, const struct opener *o, const uint8_t *text, size_t n)
{
	return EVP_DecryptInit_ex(ctx, o->cipher, NULL, o->key, o->nonce) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(text + n)) == 1;
}

static bool aead_open(const struct opener *o, const uint8_t *aad, int aad_size, const uint8_t *text,
		      size_t n, uint8_t *out)
{
	bool ccm = EVP_CIPHER_get_mode(o->cipher) == EVP_CIPH_CCM_MODE;
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int size;
	bool ok = (ccm ? start_ccm : start)(ctx, o, text, n) &&
		  EVP_DecryptUpdate(ctx, NULL, &size, aad, aad_size) == 1 &&
		  EVP_DecryptUpdate(ctx, out, &size, text, (int)n) == 1 &&
		  (ccm || EVP_DecryptFinal_ex(ctx, out + size, &size) == 1);

	EVP_CIPHER_CTX_free(ctx);
	return ok;
}

int opener_open(struct opener *o, const uint8_t *record, size_t n, uint8_t *out, uint8_t *type)
{
	size_t start = HEADER + (o->explicit_nonce ? EXPLICIT : 0);
	uint8_t aad[13];
	int aad_size;

	if (n < start + TAG)
		return -1;
	n -= start + TAG;
	make_nonce(o, record);
	aad_size = make_aad(o, record, n, aad);
	if (!aead_open(o, aad, aad_size, record + start, n, out))
		return -1;
	o->sequence++;
	*type = record[0];
	if (o->tls13) {
		while (n && !out[n - 1])
			n--;
		*type = n ? out[--n] : 0;
	}
	return (int)n;
}
