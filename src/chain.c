/* SPDX-License-Identifier: MIT */
#include "chain.h"

#include <errno.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

struct chain {
	int refs;
	size_t size;
	uint8_t bytes[]; /* for each certificate its size (uint32_t) and its DER */
};

/* Appends cert behind *at if at isn't NULL; its size in the chain, 0: no memory. */
static size_t put_certificate(X509 *cert, uint8_t **at)
{
	int size = i2d_X509(cert, NULL);
	uint32_t prefix = (uint32_t)size;

	if (size <= 0)
		return 0;
	if (at) {
		memcpy(*at, &prefix, sizeof(prefix));
		*at += sizeof(prefix);
		i2d_X509(cert, at);
	}
	return sizeof(prefix) + prefix;
}

/* OpenSSL leaves the leaf out of the chain that a server sees, and has only the leaf of
 * a session that was saved and loaded. */
static X509 *peer_certificate(SSL *ssl, STACK_OF(X509) *chain, int i)
{
	X509 *leaf = SSL_get0_peer_certificate(ssl);

	if (leaf && (SSL_is_server(ssl) || !chain)) {
		if (i == 0)
			return leaf;
		i--;
	}
	return chain && i < sk_X509_num(chain) ? sk_X509_value(chain, i) : NULL;
}

static int copy(struct chain **chain, SSL *ssl, STACK_OF(X509) *certs)
{
	size_t size = 0;
	uint8_t *at;
	X509 *cert;

	if (!certs)
		certs = SSL_get_peer_cert_chain(ssl);
	for (int i = 0; (cert = peer_certificate(ssl, certs, i)); i++) {
		size_t n = put_certificate(cert, NULL);

		if (!n)
			return -ENOMEM;
		size += n;
	}
	if (!size)
		return 0;
	*chain = malloc(sizeof(**chain) + size);
	if (!*chain)
		return -ENOMEM;
	**chain = (struct chain){ .refs = 1, .size = size };
	at = (*chain)->bytes;
	for (int i = 0; (cert = peer_certificate(ssl, certs, i)); i++)
		put_certificate(cert, &at);
	return 0;
}

static struct chain *chain_ref(struct chain *chain)
{
	__atomic_add_fetch(&chain->refs, 1, __ATOMIC_RELAXED);
	return chain;
}

void chain_free(struct chain *chain)
{
	if (chain && __atomic_sub_fetch(&chain->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(chain);
}

/* Whoever has taken *last out owns it; threads that meet find NULL, and don't share. */
static struct chain *share(struct chain *chain, struct chain **last)
{
	struct chain *other = __atomic_exchange_n(last, NULL, __ATOMIC_ACQ_REL);

	if (other && other->size == chain->size &&
	    memcmp(other->bytes, chain->bytes, chain->size) == 0) {
		chain_free(chain);
		chain = chain_ref(other);
	} else {
		chain_free(other);
		other = chain_ref(chain);
	}
	chain_free(__atomic_exchange_n(last, other, __ATOMIC_ACQ_REL));
	return chain;
}

int chain_take(struct chain **chain, SSL *ssl, STACK_OF(X509) *certs, struct chain **last)
{
	int err = copy(chain, ssl, certs);

	if (*chain && last)
		*chain = share(*chain, last);
	return err;
}

int chain_get(const struct chain *chain, unsigned i, const uint8_t **der, size_t *size)
{
	uint32_t prefix;

	for (size_t at = 0; chain && at < chain->size; at += prefix) {
		memcpy(&prefix, chain->bytes + at, sizeof(prefix));
		at += sizeof(prefix);
		if (i-- == 0) {
			*der = chain->bytes + at;
			*size = prefix;
			return 0;
		}
	}
	return -ENOENT;
}

/* ---- moving to another process ---- */

struct block chain_bytes(const struct chain *chain)
{
	return chain ? (struct block){ chain->bytes, (uint32_t)chain->size } :
		       (struct block){ NULL, 0 };
}

/* Do the sizes in it lead to its end? */
bool chain_is_valid(const struct block *bytes)
{
	const uint8_t *at = bytes->data;
	size_t left = bytes->size;
	uint32_t prefix;

	while (left > sizeof(prefix)) {
		memcpy(&prefix, at, sizeof(prefix));
		if (prefix > left - sizeof(prefix))
			return false;
		at += sizeof(prefix) + prefix;
		left -= sizeof(prefix) + prefix;
	}
	return left == 0;
}

struct chain *chain_of_bytes(struct fields *f, const struct block *bytes)
{
	struct chain *chain = NULL;

	if (bytes->size)
		chain = fields_memory(f, sizeof(*chain) + bytes->size);
	if (!chain)
		return NULL;
	*chain = (struct chain){ .refs = 1, .size = bytes->size };
	memcpy(chain->bytes, bytes->data, bytes->size);
	return chain;
}
