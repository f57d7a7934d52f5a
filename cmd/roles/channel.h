/*
 * Between a handshake process and its data process: finished connections go one way, the
 * count of those that still live comes back. A pair of SOCK_SEQPACKET, which outlives both:
 * what is in it when one of them dies is for who replaces it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_CHANNEL_H
#define TLSFD_CHANNEL_H

#include <stdint.h>
#include <tlsfd.h>

#include "peer.h"

/* Those of a team, and the one that there is once. */
enum role { ROLE_HANDSHAKE, ROLE_DATA, ROLES, ROLE_METRICS = ROLES };

/* "handshake", "data", "metrics" */
const char *role_name(enum role role);

/* A message of its own, before the connection's. */
struct passed {
	struct peer peer;
	uint32_t number; /* counted by the sender; 0: none */
};

/* What the data process has: the last number that it took, and how many connections. */
struct tally {
	uint32_t seen, held;
};

/* ends[role]; small buffers: some dozens of connections. 0 or a negative errno. */
int channel_open(int ends[ROLES]);

/* Whoever had the end of this role has died, and another gets it: as it was at first. False: it
 * can't be, as somebody has shut it down. */
bool channel_mend(const int ends[ROLES], enum role role);

/* -EAGAIN: no room; others as tlsfd_pass. *announced: the first message has been sent. */
int channel_pass(int fd, struct tlsfd **c, const struct passed *passed, bool *announced);
/* Without a sound first message number is 0, and the peer is whom the socket names. Errors
 * are those of tlsfd_take; -EPROTO, too, after many first messages. */
int channel_take(int fd, struct tlsfd **c, struct passed *passed);

/* 0, -EAGAIN, -EPIPE: nobody is there, ... */
int channel_tell(int fd, const struct tally *tally);
/* The last one told; 1: so far, there may be more. */
int channel_hear(int fd, struct tally *tally);

#endif
