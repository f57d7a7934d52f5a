/*
 * A TCP connection to the first of several addresses that answers: they are tried in
 * turn, a new one every 250 ms or as soon as one has failed (RFC 8305).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_DIAL_H
#define TLSFD_DIAL_H

#include "target.h"

struct dial;

/* The target's addresses; it must last as long as the dial. 0 or a negative errno. */
int dial_start(struct dial **dial, const struct target *target);

/* The connected socket (non-blocking, the caller's); -EAGAIN: call again when dial_fd
 * is readable or dial_wait is over; or the error of the first address that failed. */
int dial_step(struct dial *dial);

int dial_fd(const struct dial *dial);
int dial_wait(const struct dial *dial); /* milliseconds, as poll takes them */

/* Gives up what has not connected. Takes NULL. */
void dial_free(struct dial *dial);

#endif
