/* SPDX-License-Identifier: MIT */
#include "keyring.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "connection.h"

enum { NAME = 16, CIPHER = 32, MAC = 32 };

/* RFC 5077 section 4: AES-CBC, and HMAC-SHA-256 over it. */
struct key {
	uint8_t name[NAME]; /* in the ticket, for all to read */
	uint8_t cipher[CIPHER], mac[MAC];
};

_Static_assert(sizeof(struct key) == TLSFD_TICKET_KEY, "a key is its three parts");

struct keyring {
	pthread_mutex_t lock;
	unsigned count;
	struct key keys[TLSFD_TICKET_KEYS];
};

static void set(struct keyring *ring, const void *keys, unsigned count)
{
	pthread_mutex_lock(&ring->lock);
	OPENSSL_cleanse(ring->keys, sizeof(ring->keys));
	memcpy(ring->keys, keys, count * sizeof(struct key));
	ring->count = count;
	pthread_mutex_unlock(&ring->lock);
}

/* Its place, 0: it seals; or -1. name NULL: the one that seals. */
static int find(struct keyring *ring, const uint8_t *name, struct key *key)
{
	int at = -1;

	pthread_mutex_lock(&ring->lock);
	for (unsigned i = 0; i < ring->count && at < 0; i++)
		if (!name || memcmp(ring->keys[i].name, name, NAME) == 0) {
			*key = ring->keys[i];
			at = (int)i;
		}
	pthread_mutex_unlock(&ring->lock);
	return at;
}

/* ---- OpenSSL's callback ---- */

static bool set_mac(EVP_MAC_CTX *mac, struct key *key)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, MAC),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, params) == 1;
}

static bool seal(struct key *key, uint8_t *name, uint8_t *iv, EVP_CIPHER_CTX *cipher,
		 EVP_MAC_CTX *mac)
{
	memcpy(name, key->name, NAME);
	return RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 &&
	       EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv) == 1 &&
	       set_mac(mac, key);
}

static bool open_with(struct key *key, const uint8_t *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
	return EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv) == 1 &&
	       set_mac(mac, key);
}

/* 1: done; 2: done, and a new ticket is due, as always in TLS 1.3, where each is used once;
 * 0: not our key; -1: it failed. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
		     EVP_MAC_CTX *mac, int enc)
{
	const struct tlsfd *c = SSL_get_app_data(ssl);
	struct keyring *ring = c && c->config ? c->config->keyring : NULL;
	struct key key;
	int at = ring ? find(ring, enc ? NULL : name, &key) : -1;
	bool done;

	if (at < 0)
		return 0;
	done = enc ? seal(&key, name, iv, cipher, mac) : open_with(&key, iv, cipher, mac);
	OPENSSL_cleanse(&key, sizeof(key));
	if (!done)
		return -1;
	return at || SSL_version(ssl) == TLS1_3_VERSION ? 2 : 1;
}

/* ---- the config's ---- */

static int start(struct tlsfd_config *config)
{
	int err = config_change_common(config, "ticket keys");
	struct keyring *ring = err ? NULL : calloc(1, sizeof(*ring));

	if (!ring)
		return err ? err : -ENOMEM;
	pthread_mutex_init(&ring->lock, NULL);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(config->ctx, on_ticket);
	config->keyring = ring;
	config->common = "ticket keys";
	return 0;
}

int tlsfd_config_set_ticket_keys(struct tlsfd_config *config, const void *keys, unsigned count)
{
	int err = 0;

	if (!config || !keys || !count || count > TLSFD_TICKET_KEYS)
		return -EINVAL;
	if (!config->keyring)
		err = start(config);
	if (!err)
		set(config->keyring, keys, count);
	return err;
}

void keyring_free(struct keyring *ring)
{
	if (!ring)
		return;
	pthread_mutex_destroy(&ring->lock);
	OPENSSL_cleanse(ring, sizeof(*ring));
	free(ring);
}
