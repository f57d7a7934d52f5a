/*
 * From secrets to keys: RFC 8448's vectors, and records of every version and
 * cipher opened with what keys_derive says.
 *
 * SPDX-License-Identifier: MIT
 */
#include "keys.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>
#include <tlsfd/openssl.h>

#include "pair.h"
#include "suite.h"

/* ---- RFC 8448 section 3: simple 1-RTT handshake, TLS_AES_128_GCM_SHA256 ---- */

struct vector {
	const char *name;
	uint8_t secret[32], key[16], iv[12];
};

static const struct vector vectors[] = {
	{ "RFC 8448 section 3: server application traffic",
	  { 0xa1, 0x1a, 0xf9, 0xf0, 0x55, 0x31, 0xf8, 0x56, 0xad, 0x47, 0x11, 0x6b, 0x45, 0xa9, 0x50, 0x32,
	    0x82, 0x04, 0xb4, 0xf4, 0x4b, 0xfb, 0x6b, 0x3a, 0x4b, 0x4f, 0x1f, 0x3f, 0xcb, 0x63, 0x16, 0x43 },
	  { 0x9f, 0x02, 0x28, 0x3b, 0x6c, 0x9c, 0x07, 0xef, 0xc2, 0x6b, 0xb9, 0xf2, 0xac, 0x92, 0xe3, 0x56 },
	  { 0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83, 0x54, 0x9a, 0xad, 0xf1, 0xe9, 0x84 } },
	{ "RFC 8448 section 3: client application traffic",
	  { 0x9e, 0x40, 0x64, 0x6c, 0xe7, 0x9a, 0x7f, 0x9d, 0xc0, 0x5a, 0xf8, 0x88, 0x9b, 0xce, 0x65, 0x52,
	    0x87, 0x5a, 0xfa, 0x0b, 0x06, 0xdf, 0x00, 0x87, 0xf7, 0x92, 0xeb, 0xb7, 0xc1, 0x75, 0x04, 0xa5 },
	  { 0x17, 0x42, 0x2d, 0xda, 0x59, 0x6e, 0xd5, 0xd9, 0xac, 0xd8, 0x90, 0xe3, 0xc6, 0x3f, 0x50, 0x51 },
	  { 0x5b, 0x78, 0x92, 0x3d, 0xee, 0x08, 0x57, 0x90, 0x33, 0xe5, 0x23, 0xd9 } },
};

struct suite {
	int version;
	const char *name;
	const EVP_CIPHER *(*evp)(void);
	bool ccm, no_ems;
};

static void set_suite(SSL_CTX *ctx, const struct suite *s)
{
	assert_int_equal(SSL_CTX_set_min_proto_version(ctx, s->version), 1);
	assert_int_equal(SSL_CTX_set_max_proto_version(ctx, s->version), 1);
	assert_int_equal(s->version == TLS1_3_VERSION ? SSL_CTX_set_ciphersuites(ctx, s->name) :
							SSL_CTX_set_cipher_list(ctx, s->name),
			 1);
	if (s->no_ems)
		SSL_CTX_set_options(ctx, SSL_OP_NO_EXTENDED_MASTER_SECRET);
}

/* A finished handshake of this suite, both contexts prepared. */
static void connect_pair_with(struct pair *p, const struct suite *s, SSL_CTX_keylog_cb_func keylog)
{
	SSL_CTX *client = pair_context(false), *server = pair_context(true);

	SSL_CTX_set_keylog_callback(client, keylog);
	set_suite(client, s);
	set_suite(server, s);
	assert_int_equal(tlsfd_prepare(client), 0);
	assert_int_equal(tlsfd_prepare(server), 0);
	pair_open(p, client, server);
	SSL_CTX_free(client);
	SSL_CTX_free(server);
	pair_handshake(p);
}

static void connect_pair(struct pair *p, const struct suite *s)
{
	connect_pair_with(p, s, NULL);
}

static void rfc_8448(void **state)
{
	static const struct suite aes = { TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", NULL, false, false };
	const struct vector *v = *state;
	struct watch w = { .way[TX] = { .secret_size = 32, .flow.records = 0x0102030405060708 } };
	struct crypto_info info = { .size = 0 };
	struct pair p;

	connect_pair(&p, &aes);
	memcpy(w.way[TX].secret, v->secret, sizeof(v->secret));
	assert_int_equal(keys_derive(p.client, &w, TX, cipher_find(NID_aes_128_gcm, ""), &info), 0);
	assert_memory_equal(info.aes_gcm_128.key, v->key, 16);
	assert_memory_equal(info.aes_gcm_128.salt, v->iv, 4);
	assert_memory_equal(info.aes_gcm_128.iv, v->iv + 4, 8);
	assert_memory_equal(info.aes_gcm_128.rec_seq, ((uint8_t[]){ 1, 2, 3, 4, 5, 6, 7, 8 }), 8);
	assert_int_equal(info.head.version, TLS_1_3_VERSION);
	pair_close(&p);
}

/* ---- an opener of records that knows the RFCs and nothing of src/ ---- */

struct opener {
	const struct suite *suite;
	uint8_t key[32], salt_iv[12], seq[8]; /* salt_iv: in the order in which TLS has them */
	size_t key_size;
};

/* From the fields of the kernel's structs. */
static void opener_set(struct opener *o, const struct suite *s, const struct crypto_info *i)
{
	o->suite = s;
	switch (i->head.cipher_type) {
#define FIELDS(name, with_salt)                                                         \
	o->key_size = sizeof(i->name.key);                                              \
	memcpy(o->key, i->name.key, sizeof(i->name.key));                               \
	memcpy(o->salt_iv, i->name.salt, with_salt);                                    \
	memcpy(o->salt_iv + (with_salt), i->name.iv, sizeof(i->name.iv));               \
	memcpy(o->seq, i->name.rec_seq, 8);                                             \
	break
	case TLS_CIPHER_AES_GCM_128: FIELDS(aes_gcm_128, 4);
	case TLS_CIPHER_AES_GCM_256: FIELDS(aes_gcm_256, 4);
	case TLS_CIPHER_AES_CCM_128: FIELDS(aes_ccm_128, 4);
	case TLS_CIPHER_CHACHA20_POLY1305: FIELDS(chacha20_poly1305, 0);
	default: fail_msg("cipher type %u", i->head.cipher_type);
	}
}

static bool aead_open(const struct opener *o, const uint8_t *nonce, const uint8_t *aad, int aad_size,
		      const uint8_t *in, int n, const uint8_t *tag, uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int len = 0;
	bool ok;

	assert_non_null(ctx);
	assert_int_equal(EVP_DecryptInit_ex(ctx, o->suite->evp(), NULL, NULL, NULL), 1);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, 12, NULL), 1);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, (void *)tag), 1);
	assert_int_equal(EVP_DecryptInit_ex(ctx, NULL, NULL, o->key, nonce), 1);
	if (o->suite->ccm)
		assert_int_equal(EVP_DecryptUpdate(ctx, NULL, &len, NULL, n), 1);
	assert_int_equal(EVP_DecryptUpdate(ctx, NULL, &len, aad, aad_size), 1);
	ok = EVP_DecryptUpdate(ctx, out, &len, in, n) == 1;
	if (!o->suite->ccm)
		ok = ok && EVP_DecryptFinal_ex(ctx, out + len, &len) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return ok;
}

/* RFC 8446 section 5.2, RFC 5246 section 6.2.3.3, RFC 5288, RFC 6655, RFC 7905. The
 * length of the plaintext, or -1. */
static int open_record(const struct opener *o, const uint8_t *rec, int size, uint8_t *out)
{
	bool tls13 = o->suite->version == TLS1_3_VERSION;
	bool explicit_nonce = !tls13 && o->suite->evp() != EVP_chacha20_poly1305();
	int at = 5 + (explicit_nonce ? 8 : 0), n = size - at - 16;
	uint8_t nonce[12], aad[13];

	memcpy(nonce, o->salt_iv, 12);
	if (explicit_nonce)
		memcpy(nonce + 4, rec + 5, 8);
	else
		for (int i = 0; i < 8; i++)
			nonce[4 + i] ^= o->seq[i];
	memcpy(aad, o->seq, 8);
	memcpy(aad + 8, rec, 3);
	aad[11] = (uint8_t)(n >> 8);
	aad[12] = (uint8_t)n;
	if (n < 0 || !aead_open(o, nonce, tls13 ? rec : aad, tls13 ? 5 : 13, rec + at, n,
				rec + size - 16, out))
		return -1;
	return tls13 ? n - 1 : n; /* the content type is in the last byte */
}

static void count_up(uint8_t *n)
{
	for (int i = 8; i-- && ++n[i] == 0;)
		;
}

/* Takes the bytes that `to` would have read. */
static int intercept(SSL *to, uint8_t *buf, int size)
{
	int n = BIO_read(SSL_get_rbio(to), buf, size);

	assert_true(n >= 5 && n <= size);
	assert_int_equal(n, 5 + (buf[3] << 8 | buf[4]));
	return n;
}

static void derive(SSL *ssl, enum way way, struct crypto_info *info)
{
	const SSL_CIPHER *c = SSL_get_current_cipher(ssl);
	const struct cipher *cipher = cipher_find(SSL_CIPHER_get_cipher_nid(c), SSL_CIPHER_get_name(c));

	assert_non_null(watch_of(ssl));
	assert_non_null(cipher);
	assert_int_equal(keys_derive(ssl, watch_of(ssl), way, cipher, info), 0);
}

/* Everything that `from` says now opens with its own TX keys, and the nonces go on
 * from the number and iv that the kernel would have been given. */
static void assert_opens(const struct suite *s, SSL *from, SSL *to)
{
	static const char text[] = "nine words that only the right key can read";
	struct crypto_info tx, rx;
	struct opener o;
	uint8_t rec[512], plain[512];

	derive(from, TX, &tx);
	derive(to, RX, &rx);
	opener_set(&o, s, &tx);
	/* the other end reads with the same key, salt and number */
	{
		struct opener other;

		opener_set(&other, s, &rx);
		assert_memory_equal(other.key, o.key, o.key_size);
		assert_memory_equal(other.salt_iv, o.salt_iv, s->version == TLS1_3_VERSION ? 12 : 4);
		assert_memory_equal(other.seq, o.seq, 8);
	}
	for (int i = 0; i < 3; i++) {
		int n;

		assert_int_equal(SSL_write(from, text, sizeof(text)), sizeof(text));
		n = intercept(to, rec, sizeof(rec));
		assert_int_equal(open_record(&o, rec, n, plain), sizeof(text));
		assert_string_equal(plain, text);
		if (s->version == TLS1_2_VERSION && s->evp() != EVP_chacha20_poly1305()) {
			assert_memory_equal(rec + 5, o.salt_iv + 4, 8);
			count_up(o.salt_iv + 4);
		}
		/* the check can fail */
		rec[n - 1] ^= 1;
		assert_int_equal(open_record(&o, rec, n, plain), -1);
		count_up(o.seq);
	}
}

static const struct suite suites[] = {
	{ TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", EVP_aes_128_gcm, false, false },
	{ TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", EVP_aes_256_gcm, false, false },
	{ TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", EVP_chacha20_poly1305, false, false },
	{ TLS1_3_VERSION, "TLS_AES_128_CCM_SHA256", EVP_aes_128_ccm, true, false },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", EVP_aes_128_gcm, false, false },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", EVP_aes_256_gcm, false, false },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", EVP_chacha20_poly1305, false, false },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-CCM", EVP_aes_128_ccm, true, false },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", EVP_aes_128_gcm, false, true },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", EVP_aes_256_gcm, false, true },
};

static void records_open_both_ways(void **state)
{
	const struct suite *s = *state;
	struct pair p;

	connect_pair(&p, s);
	pair_talk(&p); /* the numbers aren't 0; tickets are read */
	assert_opens(s, p.client, p.server);
	assert_opens(s, p.server, p.client);
	pair_close(&p);
}

/* The explicit nonce after 00..00ff ff..ff: the carry, and back to 0. */
static void next_nonce_carries(void **state)
{
	static const struct suite gcm = { TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", NULL, false, false };
	static const struct {
		uint8_t last[8], next[8];
	} rows[] = {
		{ { 0, 0, 0, 0, 0, 0, 0, 0 }, { 0, 0, 0, 0, 0, 0, 0, 1 } },
		{ { 1, 2, 3, 4, 5, 6, 7, 255 }, { 1, 2, 3, 4, 5, 6, 8, 0 } },
		{ { 1, 2, 3, 255, 255, 255, 255, 255 }, { 1, 2, 4, 0, 0, 0, 0, 0 } },
		{ { 255, 255, 255, 255, 255, 255, 255, 255 }, { 0 } },
	};
	struct pair p;

	(void)state;
	connect_pair(&p, &gcm);
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct watch w = { .way[TX].flow.records = 1 };
		struct crypto_info info;

		memcpy(w.way[TX].flow.last_nonce, rows[i].last, 8);
		assert_int_equal(keys_derive(p.client, &w, TX, cipher_find(NID_aes_128_gcm, ""), &info), 0);
		assert_memory_equal(info.aes_gcm_128.iv, rows[i].next, 8);
	}
	pair_close(&p);
}

/* ---- keys_update: OpenSSL's own key log says what comes next ---- */

enum { GENERATIONS = 4 };

static struct {
	uint8_t secret[2][GENERATIONS][48]; /* the client's, the server's */
	unsigned count[2];
	size_t size;
} logged;

/* "SERVER_TRAFFIC_SECRET_0 random secret" in hexadecimal; later ones are all called _N. */
static void on_keylog(const SSL *ssl, const char *line)
{
	const char *hex = strrchr(line, ' ') + 1;
	bool server = *line == 'S';
	unsigned n = logged.count[server];

	(void)ssl;
	if (strncmp(line + 6, "_TRAFFIC_SECRET_", 16) || n == GENERATIONS)
		return;
	logged.size = strlen(hex) / 2;
	for (size_t i = 0; i < logged.size; i++)
		sscanf(hex + 2 * i, "%2hhx", &logged.secret[server][n][i]);
	logged.count[server]++;
}

static void update_both(struct pair *p)
{
	for (int i = 1; i < GENERATIONS; i++) {
		assert_int_equal(SSL_key_update(p->client, SSL_KEY_UPDATE_REQUESTED), 1);
		pair_talk(p);
	}
}

static void key_updates(void **state)
{
	const struct suite *s = *state;
	const struct cipher *cipher;
	struct pair p;

	memset(&logged, 0, sizeof(logged));
	connect_pair_with(&p, s, on_keylog);
	update_both(&p);
	cipher = cipher_find(SSL_CIPHER_get_cipher_nid(SSL_get_current_cipher(p.client)), s->name);
	for (int side = 0; side < 2; side++)
		for (int i = 1; i < GENERATIONS; i++) {
			struct crypto_info info = { .size = 0 }, want = { .size = 0 };
			struct watch w = { .way[TX].secret_size = logged.size };
			uint8_t next[48];

			assert_int_equal(keys_update(cipher, logged.secret[side][i - 1],
						     logged.size, next, &info),
					 0);
			assert_memory_equal(next, logged.secret[side][i], logged.size);
			memcpy(w.way[TX].secret, next, logged.size);
			assert_int_equal(keys_derive(p.client, &w, TX, cipher, &want), 0);
			assert_memory_equal(info.bytes, want.bytes, want.size);
			assert_int_equal(info.size, want.size);
		}
	pair_close(&p);
}

static void no_cipher_no_keys(void **state)
{
	/* a secret of no size, as if it had not been seen: an error, and nothing in info */
	static const struct suite aes = { TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", NULL, false, false };
	struct watch w = { 0 };
	struct crypto_info info, zero = { .size = 0 };
	struct pair p;

	(void)state;
	memset(&zero, 0, sizeof(zero));
	memset(&info, 0xee, sizeof(info));
	connect_pair(&p, &aes);
	if (keys_derive(p.client, &w, TX, cipher_find(NID_aes_128_gcm, ""), &info) < 0)
		assert_memory_equal(&info, &zero, sizeof(info));
	ERR_clear_error();
	pair_close(&p);
}

int main(int argc, char **argv)
{
	for (size_t i = 0; i < LENGTH(vectors); i++)
		suite_add(rfc_8448, &vectors[i], sizeof(vectors[i]), "%s", vectors[i].name);
	for (size_t i = 0; i < LENGTH(suites); i++)
		suite_add(records_open_both_ways, &suites[i], sizeof(suites[i]),
			  "records open, %s%s", suites[i].name, suites[i].no_ems ? ", no EMS" : "");
	for (size_t i = 0; i < LENGTH(suites); i++)
		if (suites[i].version == TLS1_3_VERSION)
			suite_add(key_updates, &suites[i], sizeof(suites[i]), "the next keys, %s",
				  suites[i].name);
	suite_add(next_nonce_carries, NULL, 0, "the next explicit nonce carries");
	suite_add(no_cipher_no_keys, NULL, 0, "an underivable key leaves nothing behind");
	return suite_run(argc, argv);
}
