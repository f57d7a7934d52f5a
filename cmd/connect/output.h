/*
 * What a TLS connection brings, to standard output or the like.
 *
 * The descriptor is shared with other programs and left blocking; nothing is written
 * that could wait long, so that the other direction goes on meanwhile.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_OUTPUT_H
#define TLSFD_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <tlsfd.h>

#include "kind.h"
#include "relay/splicer.h"

struct output {
	struct tlsfd *tls;
	struct splicer *splicer;
	int fd;
	enum kind kind;
	bool direct;	/* splice by way of pipe, else by buf */
	bool ended;	/* the peer's close_notify came */
	uint64_t bytes; /* received */
	struct pipe *pipe;
	size_t in_pipe;
	size_t have, sent;
	char buf[16384];
};

void output_start(struct output *out, struct splicer *splicer, int fd);

/* Is there something that fd did not take yet? */
bool output_holds(const struct output *out);

/* What is there, until either side would wait or it was much. 0, or a negative errno;
 * *own: it is fd's, not the connection's. */
int output_move(struct output *out, bool *own);

/* Tells whoever reads fd that nothing comes any more. */
void output_finish(struct output *out);
/* Likewise, but that something is missing, where the kind of fd has a way to say it. */
void output_cut(struct output *out);

void output_stop(struct output *out);

#endif
