/*
 * Where connections are forwarded to: in turn, past those that don't answer.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_BACKEND_H
#define TLSFD_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "lookup.h"
#include "loop.h"
#include "settings.h"

struct backend {
	char *text; /* "HOST:PORT" or "unix:PATH" */
	struct sockaddr_storage address;
	socklen_t size;
	uint64_t down_until_ms; /* 0: it is up, as far as is known */
	bool on_trial;		/* a connection finds out whether it is up again */
};

struct backends {
	struct backend *at;
	size_t count, next;
};

/* Checks the targets; the lookup is to ask for those that are names. 0, or a negative errno with
 * a sentence in error. */
int backends_ask(struct lookup *lookup, const struct texts *targets, char *error, size_t size);
/* When it is over, by looked: a name with several addresses is several backends. As above. */
int backends_open(struct backends *b, const struct texts *targets, const struct lookup *lookup,
		  int looked, char *error, size_t size);
/* One more, resolved. 0 or a negative errno. */
int backends_add(struct backends *b, const char *text, const void *address, socklen_t size);
/* The TCP port of each that has one, to be freed, and their number in *n; NULL: memory is
 * short. */
uint16_t *backends_ports(const struct backends *b, size_t *n);
void backends_close(struct backends *b);

/* A connection to one of them that is being made. */
struct attempt {
	struct source source;
	struct timer limit; /* or, without a socket, the end of a pause */
	struct loop *loop;
	struct backends *backends;
	struct backend *backend; /* that it is with */
	size_t at, looks;	 /* the next to be looked at; looks of this round */
	uint64_t round_ms, until_ms;
	uint32_t pause_ms;
	int err; /* the round's last, 0: none was tried */
	bool on_trial, busy;
	/* fd: connected, the callee's, who may free the attempt; or a negative errno, when each
	 * of them has been tried. Can be called before attempt_start returns. */
	void (*done)(struct attempt *attempt, int fd);
};

/* loop, backends and done are set. */
void attempt_start(struct attempt *a);
/* done isn't called any more. */
void attempt_stop(struct attempt *a);

#endif
