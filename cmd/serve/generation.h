/*
 * All that a reload replaces: settings, certificates and keys, backends, and when the keys of
 * session tickets are renewed.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_GENERATION_H
#define TLSFD_GENERATION_H

#include "backend.h"
#include "identities.h"
#include "lookup.h"
#include "ratchet.h"
#include "service.h"

struct generation {
	struct service service;
	struct tlsfd_config *config;
	struct ratchet ratchet; /* config's */
	struct lookup lookup;	/* of the backends */
	struct backends backends;
	int data_plan; /* for data processes: data.h; -1: none */
};

extern const struct generation no_generation;

/* A sentence, and the exit status that its cause has. */
struct trouble {
	int status;
	char error[512];
};

/* By the command line: all but the backends' addresses. 0, or a negative errno, and g is empty.
 * self is made when it is first needed; ratchet: the one that goes on. */
int generation_load(struct generation *g, int argc, char **argv, struct self_signed *self,
		    const struct ratchet *ratchet, struct trouble *trouble);

/* looked: how the lookup has ended. 0 or a negative errno. */
int generation_find_backends(struct generation *g, int looked, struct trouble *trouble);

/* Its ratchet goes on from where the one before is now, with its own period. */
void generation_follow(struct generation *g, const struct generation *before, uint64_t now_ms);

/* g is empty then. */
void generation_free(struct generation *g);

#endif
