/*
 * What the files of user space share: the state of OpenSSL under a connection.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_OPENSSL_SIDE_H
#define TLSFD_OPENSSL_SIDE_H

#include <openssl/err.h>
#include <pthread.h>

#include "outbox.h"
#include "userspace.h"

struct userspace {
	pthread_mutex_t lock; /* an SSL is for one thread at a time; nobody waits in it */
	struct tlsfd *c;
	BIO *bio;	   /* ours, under the SSL */
	BIO *before[WAYS]; /* what the SSL was on: its owner may expect it to live */
	struct outbox out;
	int err; /* of TCP, reading */
	bool fin;
	bool bye;		    /* close_notify came */
	bool closed;		    /* close_notify was made */
	bool key_update_made;	    /* by OpenSSL: the next record is it */
	bool key_update;	    /* the peer wants an answer that OpenSSL can't give */
	bool expired;		    /* a KeyUpdate came that may not be followed */
	uint16_t alert_made;	    /* by OpenSSL: level and number; 0 */
	const uint8_t *feed;	    /* what OpenSSL reads instead, see userspace_alert */
	size_t feed_left;
	struct record_flow flow[WAYS]; /* OpenSSL >= 3.2 tells us of records no more */
	unsigned change_cipher_specs;  /* in flow[RX] from the handshake */
};

/* Wait, if the fd blocks, and outside of OpenSSL. 0: try again; -EAGAIN: the caller
 * doesn't wait, or has waited long enough. */
int userspace_wait_to_read(const struct tlsfd *c, short events, int flags);
int userspace_wait_to_write(const struct tlsfd *c, int flags);

/* For who has the lock and is about to send: OpenSSL can't while a message is half read.
 * 0; -EAGAIN: the peer has not sent the rest; -EPIPE: nor will it. */
int userspace_end_message(struct userspace *u);

#endif
