/*
 * Standard input and output on one side, a TLS connection on the other, to the end of both.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_STANDARD_H
#define TLSFD_STANDARD_H

#include <stdbool.h>
#include <stdint.h>
#include <tlsfd.h>

enum ended {
	ENDED_CLOSED, /* both ends said so */
	ENDED_TLS,    /* an error of the connection */
	ENDED_IDLE,
	ENDED_STDIN, /* could not be read */
	ENDED_STDOUT,
	ENDED_HERE, /* no memory, no descriptors */
};

struct standard_end {
	enum ended ended;
	const char *sentence; /* the error; valid as long as the connection */
	uint64_t received, sent;
};

struct standard_limits {
	int idle_ms;	    /* less than 0: none */
	bool no_half_close; /* our end is told after the peer's only */
};

/* tls: its handshake is done, its socket does not block. */
void standard_run(struct tlsfd *tls, const struct standard_limits *limits,
		  struct standard_end *end);

#endif
