/*
 * What is seen of the handshake of one SSL: the traffic secrets, and the records
 * that went through its BIOs under them. OpenSSL tells neither afterwards.
 *
 * The key log callback and the info callback of the SSL_CTX are the sources; a
 * BIO callback follows the bytes, and later closes the BIO to OpenSSL.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_WATCH_H
#define TLSFD_WATCH_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "record.h"

/* Index of a direction, here and everywhere inside. */
enum way { RX, TX, WAYS };

struct watched_way {
	struct record_flow flow;
	uint64_t bio_bytes;    /* the BIO's own count when we began to look */
	uint8_t secret[EVP_MAX_MD_SIZE];
	size_t secret_size;    /* 0: not seen */
	bool rekeyed;          /* by KeyUpdate: the secret is not the first one */
	bool behind;           /* at the key change OpenSSL held records of the old keys */
	bool short_write;      /* the BIO did not take all that it was given */
	bool moved;            /* by tlsfd_handover */
	bool closed;           /* the BIO refuses OpenSSL's bytes */
};

struct watch {
	int refs;              /* the SSL's and each BIO's */
	bool from_start;       /* since before the first record */
	bool padded;           /* our Finished was longer than it is */
	struct watched_way way[WAYS];
};

/* Puts the callbacks on ctx. 0; -ENOMEM; -EBUSY: there already, but covered. */
int watch_context(SSL_CTX *ctx);

/* The watch on the BIOs that ssl has; NULL if its handshake wasn't seen. */
struct watch *watch_of(const SSL *ssl);

/* Makes one now if there is none: it knows nothing, but can be closed. 0; -ENOMEM;
 * -EBUSY: a BIO of ssl can't be followed. */
int watch_ensure(SSL *ssl);

/* False: bio has a callback by BIO_set_callback, which can't be chained. */
bool watch_can_follow(BIO *bio);

/* ssl is about to go on with bio, both ways, in place of the BIOs that were followed.
 * If that fails, a later handover says that records were not followed. */
void watch_follow(SSL *ssl, BIO *bio);

/* Is bio the one that w looked at, and did every byte pass by? */
bool watch_saw_all(const struct watch *w, BIO *bio, enum way way);

/* Is one of our callbacks missing on the context that ssl uses now? */
bool watch_callback_replaced(const SSL *ssl);
bool watch_context_prepared(const SSL *ssl);

/* From now on OpenSSL can neither read nor write (as way says) through bio. */
void watch_close(struct watch *w, BIO *bio, enum way way);

#endif
