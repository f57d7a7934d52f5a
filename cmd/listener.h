/*
 * Addresses that are listened on, and accepting.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_LISTENER_H
#define TLSFD_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

#include "loop.h"
#include "peer.h"

/* One address: a socket for each worker, between which the kernel spreads connections
 * (SO_REUSEPORT). They outlive workers, so that no connection that waits is lost. */
struct listening {
	char *text;		    /* as it was asked for */
	char address[ADDRESS_TEXT]; /* as it is, with its port */
	int *fds;
	unsigned count;
};

/* text: "HOST:PORT", numeric, "[::1]:443", ":443" for all addresses. 0, or a negative errno
 * with a sentence in error. */
int listening_open(struct listening *l, const char *text, unsigned count, char *error, size_t size);
void listening_close(struct listening *l);

/* A socket that is accepted from. */
struct listener {
	struct source source;
	struct timer pause;
	struct loop *loop;
	bool held, pausing;
	/* fd, non-blocking, is the callee's, who may call listener_hold */
	void (*accepted)(void *arg, int fd, const struct peer *peer);
	void *arg;
};

/* source.fd, loop, accepted and arg are set. 0 or a negative errno. */
int listener_start(struct listener *l);
/* Connections wait in the kernel. */
void listener_hold(struct listener *l);
void listener_go_on(struct listener *l);
/* Closes this process's socket. */
void listener_stop(struct listener *l);

#endif
