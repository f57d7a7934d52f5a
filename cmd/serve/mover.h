/*
 * Data: a connection whose handshake is done, its backend, the relay between them, and the
 * log line at the end. It needs no key and no certificate.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_MOVER_H
#define TLSFD_MOVER_H

#include <tlsfd.h>

#include "backend.h"
#include "peer.h"
#include "relay/relay.h"

struct move;

struct mover {
	struct relays relays;
	struct backends backends;
	void (*left)(void *arg); /* one less */
	void *arg;
	unsigned count;
	struct move *first;
};

/* c and its fd are the mover's. */
void mover_take(struct mover *m, struct tlsfd *c, const struct peer *peer);
/* Ends all of them, as cuts. */
void mover_stop(struct mover *m);

#endif
