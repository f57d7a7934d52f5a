/*
 * Addresses where plain connections are taken.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_ENTRANCE_H
#define TLSFD_ENTRANCE_H

#include <stdbool.h>

#include "loop.h"

enum { ENTRANCES_MAX = 32 };

struct entrances;

struct entrance {
	struct source source;
	struct entrances *set;
};

struct entrances {
	struct loop *loop;
	void (*taken)(struct entrances *set, int fd); /* fd: non-blocking, the callee's */
	struct timer pause; /* after a shortage of descriptors or memory */
	bool closed;	    /* nothing is taken: paused, or entrances_close */
	struct entrance at[ENTRANCES_MAX];
	unsigned n;
	char error[256];
};

/* address: "127.0.0.1:8080", "[::1]:0", ":8080" (all addresses), "localhost:8080" (each of
 * its own). Listens, takes nothing yet. 0, or a negative errno with set->error. */
int entrances_add(struct entrances *set, const char *address);

/* Begins, or goes on, to take. 0 or a negative errno. */
int entrances_open(struct entrances *set);
/* If err is that descriptors or memory are short: takes none for a moment, and says so. */
void entrances_rest(struct entrances *set, int err);
/* Takes no more; connections that come wait. */
void entrances_close(struct entrances *set);
/* No connection can come any more. */
void entrances_free(struct entrances *set);

/* A line event=listening for each address. */
void entrances_announce(const struct entrances *set);

#endif
