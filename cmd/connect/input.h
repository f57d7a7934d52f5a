/*
 * Standard input, or the like, into a TLS connection.
 *
 * The descriptor is shared with other programs, so it is left blocking and only read
 * when poll says that there is something.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_INPUT_H
#define TLSFD_INPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <tlsfd.h>

#include "kind.h"
#include "relay/splicer.h"

struct input {
	struct tlsfd *tls;
	struct splicer *splicer;
	int fd;
	enum kind kind;
	bool direct;	/* sendfile or splice, else by buf */
	bool blocked;	/* the connection takes no more now */
	bool ended;	/* nothing comes any more */
	uint64_t bytes; /* sent */
	size_t most;	/* bytes to be spliced next */
	size_t have, sent;
	char buf[16384];
};

void input_start(struct input *in, struct splicer *splicer, int fd);

/* What is there, when fd is readable. 0, or a negative errno; *own: it is fd's, not the
 * connection's. */
int input_move(struct input *in, bool *own);

/* The same, when the connection takes more. */
int input_unblock(struct input *in);

/* Nothing more is taken, and what was taken and not sent is dropped. */
void input_end(struct input *in);

#endif
