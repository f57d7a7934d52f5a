/*
 * A pool of pipes, for splice(2): a connection holds one only while bytes are in it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_PIPES_H
#define TLSFD_PIPES_H

#include <stdint.h>

enum { PIPE_ROOM = 65536 };

struct pipe {
	int out, in; /* what pipe(2) calls 0 and 1 */
	struct pipe *next;
};

struct pipes {
	struct pipe *idle;
	unsigned n_idle;
	uint64_t refused_until_ms; /* the system gave none: it isn't asked before */
};

/* An empty pipe with room for PIPE_ROOM bytes; NULL: there is none to be had now. */
struct pipe *pipes_take(struct pipes *pool, uint64_t now_ms);
/* Gives an empty pipe back. */
void pipes_put(struct pipes *pool, struct pipe *pipe);
/* Ends a pipe that has bytes in it. */
void pipes_drop(struct pipe *pipe);
void pipes_close(struct pipes *pool);

#endif
