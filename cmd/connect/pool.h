/*
 * Sessions that servers gave, kept in memory for connections to come. A ticket of TLS 1.3
 * is used once (RFC 8446 appendix C.4), so several are kept; the newest goes first.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_POOL_H
#define TLSFD_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tlsfd.h>

enum { POOL_MAX = 32 };

/* As secret as a key; its bytes are wiped when they are freed. */
struct session {
	void *data;
	size_t size;
	int64_t since; /* CLOCK_BOOTTIME, seconds */
};

/* Of one server and name. All zero: empty. */
struct pool {
	struct session at[POOL_MAX]; /* the newest is the last */
	unsigned count;
	void (*kept)(void *arg, struct tlsfd *c); /* this connection gave one; NULL: not told */
	void *arg;
};

/* A tlsfd_session_fn. Without memory nothing is kept. */
void pool_keep(void *pool, struct tlsfd *c, const void *data, size_t size);
/* The newest, the caller's from now on; false: there is none. */
bool pool_take(struct pool *pool, struct session *session);
/* *session becomes the newest one, and empty. */
void pool_put(struct pool *pool, struct session *session);
/* All sessions of from become to's, which has none yet. */
void pool_move(struct pool *to, struct pool *from);
void pool_clear(struct pool *pool);

void session_clear(struct session *session);

#endif
