/*
 * Handshakes under way. What comes out of them, a struct tlsfd and its peer, is all that
 * the rest needs.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_HANDSHAKER_H
#define TLSFD_HANDSHAKER_H

#include <tlsfd.h>

#include "loop.h"
#include "peer.h"

struct handshake;

struct handshaker {
	struct loop *loop;
	struct tlsfd_config *config;
	unsigned most, timeout_ms;
	/* the connection is the callee's */
	void (*done)(void *arg, struct tlsfd *c, const struct peer *peer);
	void (*left)(void *arg); /* one less, whether done or failed */
	void *arg;
	unsigned count;
	struct handshake *oldest, *newest;
};

/* fd, non-blocking, is the handshaker's. Beyond `most` the oldest one has to go. */
void handshaker_start(struct handshaker *h, int fd, const struct peer *peer);
/* When, by the loop's clock, the oldest one has had its time, and is to give way where more
 * want to come than may; UINT64_MAX: there is none. */
uint64_t handshaker_yields_ms(const struct handshaker *h);
/* The oldest one goes, if it has had its time. */
void handshaker_yield(struct handshaker *h);
/* Ends all of them. */
void handshaker_stop(struct handshaker *h);

#endif
