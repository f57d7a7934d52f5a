/*
 * A moment by which something must be done.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_DEADLINE_H
#define TLSFD_DEADLINE_H

#include <stdint.h>

struct deadline {
	int64_t at; /* CLOCK_MONOTONIC in milliseconds; -1: never */
};

/* In ms milliseconds from now; ms < 0: never. */
struct deadline deadline_in(int ms);

/* Milliseconds that are left, 0 when it has passed, -1: any number. As poll takes it. */
int deadline_left(const struct deadline *deadline);

/* Waits until fd has one of the events (or an error): 0, -ETIMEDOUT, or a negative errno.
 * After the deadline nothing is asked any more. */
int deadline_wait(const struct deadline *deadline, int fd, short events);

#endif
