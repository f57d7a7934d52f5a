/*
 * The bytes of one direction of a relay: from where they come to where they go, by
 * splice(2), or through memory where a direction isn't in the kernel.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_HALF_H
#define TLSFD_HALF_H

#include <stdbool.h>
#include <stdint.h>
#include <tlsfd.h>

#include "pipes.h"
#include "splicer.h"

/* Seen from the TLS connection: what its peer sends, and what is sent to it. */
enum half_way { HALF_IN, HALF_OUT, HALVES };

/* The two sides of a relay. */
struct sides {
	struct tlsfd *tls;
	struct splicer splicer;
	int plain; /* a stream socket */
	bool plain_tcp;
	bool kernel[HALVES];
};

struct half {
	struct pipe *pipe; /* holds `held` bytes; or */
	uint8_t *copy;	   /* bytes from `at` to `at + held` */
	uint32_t at, held;
	uint64_t bytes; /* that were taken */
	bool eof;	/* nothing more comes */
	bool done;	/* and the other side knows it, or won't */
	bool flows;	/* a record was given, and no pause since */
	bool waits;	/* TCP of the plain side may hold back what it was given */
	/* false: until the next event there is nothing to take, or no room to give */
	bool can_take, can_give;
};

/* What all halves of a process share. */
struct carriers {
	struct pipes pipes;
	uint64_t now_ms;
	uint8_t scratch[PIPE_ROOM];
};

/*
 * The next step: takes bytes, or gives on those held, or tells the other side of the end of
 * file. 0; -EAGAIN; or the negative errno of the side that is being used: half_gives says
 * which that is.
 */
int half_step(struct half *half, enum half_way way, struct sides *sides, struct carriers *carriers);

/* Is the next step one that gives? */
static inline bool half_gives(const struct half *half)
{
	return half->held || half->eof;
}

/* There is no next step now: what TCP holds back goes out. */
void half_push(struct half *half, enum half_way way, struct sides *sides);

/* Lets go of what it holds. */
void half_drop(struct half *half);

#endif
