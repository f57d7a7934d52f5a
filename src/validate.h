/*
 * Everything that must hold before the first system call that changes something.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_VALIDATE_H
#define TLSFD_VALIDATE_H

#include <openssl/ssl.h>

#include "attach.h"
#include "cipher.h"
#include "watch.h"

struct rekey;
struct tickets;

/* One handover: what was asked, what is there, what stands against it. */
struct plan {
	SSL *ssl;
	struct watch *watch;          /* NULL: the handshake wasn't seen */
	unsigned want;                /* directions to move: bits of enum tlsfd_direction */
	int fd;
	BIO *bio[WAYS];
	const struct cipher *cipher;
	enum tlsfd_mover mover[WAYS]; /* who has moved it (so far) */
	struct refusal no[WAYS];
	struct crypto_info info[WAYS];
	struct rekey *rekey;          /* keeps the traffic secrets; NULL: nobody does */
	struct facts *facts;          /* what else must be had while OpenSSL is there, or NULL */
	struct tickets *tickets;      /* a client's that come later; NULL: not wanted */
};

/* The public name of a way, and back. */
static inline enum tlsfd_direction direction(enum way way)
{
	return way == RX ? TLSFD_RX : TLSFD_TX;
}

static inline enum way way_of(enum tlsfd_direction dir)
{
	return dir == TLSFD_RX ? RX : TX;
}

static inline bool wanted(const struct plan *plan, enum way way)
{
	return plan->want & direction(way) && plan->mover[way] == TLSFD_MOVER_NONE;
}

/* True: nothing stands against moving what is wanted; fills in fd, bio, cipher
 * and mover. False: no[] says why. Changes nothing. */
bool validate(struct plan *plan);

#endif
