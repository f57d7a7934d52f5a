/*
 * Brings finished connections from a handshake process to its data process. Those that find
 * no room in the channel wait; the handshake process accepts less meanwhile.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_COURIER_H
#define TLSFD_COURIER_H

#include <stdbool.h>
#include <tlsfd.h>

#include "channel.h"
#include "loop.h"

struct parcel;

struct courier {
	struct loop *loop;
	struct source source;
	struct timer retry;
	struct timer more; /* is to be heard */
	struct parcel *first, **last;
	struct parcel *announced; /* its first message is the channel's last */
	unsigned waiting;
	bool wants_room;     /* in the channel, for what waits */
	uint32_t base, sent; /* numbers: where this process begins, and the last one */
	struct tally tally;
	/* it can't be passed: err, -EXDEV where it isn't in the kernel; c is the callee's */
	void (*kept)(void *arg, struct tlsfd *c, const struct peer *peer, int err);
	void (*changed)(void *arg); /* what courier_load says */
	void *arg;
};

/* loop, kept, changed and arg are set; tally.held, too, if the data process is not new: it tells
 * only what changes. 0 or a negative errno. */
int courier_start(struct courier *courier, int channel);
/* c and its fd are the courier's. */
void courier_bring(struct courier *courier, struct tlsfd *c, const struct peer *peer);
/* Gives up what waits, with -ECANCELED. */
void courier_stop(struct courier *courier);
/* Connections on their way or in the data process. */
unsigned courier_load(const struct courier *courier);

#endif
