/*
 * A connection under test against a raw peer, its directions in the kernel or not.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef PLACE_H
#define PLACE_H

#include <tlsfd.h>

#include "raw_peer.h"

/* Where the records of the end under test are made. OPENED: by tlsfd_accept or
 * tlsfd_connect, the others by the handover of an SSL. */
enum place {
	KERNEL,
	USERSPACE,
	RX_KERNEL,
	TX_KERNEL,
	SSL_PLACES,
	OPENED_KERNEL = SSL_PLACES,
	OPENED_USERSPACE,
	PLACES
};

extern const char *const place_names[PLACES];

/* Can this run have it? TLSFD_EXPECT_TLS=0: nothing is in the kernel. */
bool place_expected(enum place place);

struct tested {
	struct raw_peer peer;
	int fd;
	struct tlsfd *c;
};

/* Is this direction in the kernel there? */
bool place_in_kernel(enum place place, enum tlsfd_direction dir);

/* Skips the test where the kernel has no TLS and place needs it. Before there is anything
 * to be closed: skipped tests don't come to that. */
void place_need(enum place place);

/* ssl (freed) goes to its place, one of SSL_PLACES. */
struct tlsfd *place_put(SSL *ssl, int fd, enum place place);

/* Connects; skips as place_need. */
void place_connect(struct tested *t, const struct raw_variant *v, enum place place);
void place_close(struct tested *t);

/* Blocking, with a time limit for reading. */
void place_block(struct tested *t);

/* Until a writer in another thread is stuck: TCP has no room, and gets none for a while. */
void place_wait_until_full(int fd);

/* tlsfd_read and tlsfd_write on a non-blocking fd, waiting as tlsfd_wants says. */
ssize_t patient_read(struct tested *t, void *buf, size_t n);
ssize_t patient_write(struct tested *t, const void *buf, size_t n);

#endif
