/*
 * The certificates that the peer sent, in DER.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_CHAIN_H
#define TLSFD_CHAIN_H

#include <openssl/ssl.h>
#include <stdint.h>

#include "fields.h"

struct chain;

/*
 * The chain of ssl's peer, certs or, NULL, as OpenSSL knows it; *chain stays NULL if there
 * is none. One that is the same as
 * *last is shared with it, and *last becomes this one: a client sees one chain again
 * and again. last: any thread's too, or NULL. 0 or -ENOMEM.
 */
int chain_take(struct chain **chain, SSL *ssl, STACK_OF(X509) *certs, struct chain **last);

/* As it goes to another process, in chain's own bytes; the other way NULL if there are
 * none. */
struct block chain_bytes(const struct chain *chain);
bool chain_is_valid(const struct block *bytes);
struct chain *chain_of_bytes(struct fields *f, const struct block *bytes);

/* Drops a reference. */
void chain_free(struct chain *chain);

/* The i-th certificate, leaf first: 0 or -ENOENT. */
int chain_get(const struct chain *chain, unsigned i, const uint8_t **der, size_t *size);

#endif
