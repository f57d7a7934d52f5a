/*
 * Addresses that are listened on, and accepting.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_LISTENER_H
#define TLSFD_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "loop.h"
#include "peer.h"

/* One address: a socket for each worker, between which the kernel spreads connections
 * (SO_REUSEPORT). They outlive workers, so that no connection that waits is lost. */
struct listening {
	char *text;		    /* as it was asked for */
	char address[ADDRESS_TEXT]; /* as it is, with its port */
	struct sockaddr_storage at; /* the same */
	socklen_t size;
	bool both; /* IPv4 and IPv6 */
	int *fds;
	unsigned count;
	int room; /* SO_SNDBUF, of a new one */
};

/* 0, -EINVAL or -ENOMEM. */
int listening_check(const char *text);
/* text: "127.0.0.1:443", "[::1]:443", ":443" for all addresses. 0, or a negative errno
 * with a sentence in error. */
int listening_open(struct listening *l, const char *text, unsigned count, char *error, size_t size);
/* One of its sockets, the caller's from now on. */
int listening_take(struct listening *l, unsigned index);
/* Of those that are there: each listens and doesn't block, whatever a process that had it has
 * done to it. 0; 1: there is a new one, which those that had it have not; or a negative errno. */
int listening_mend(struct listening *l);
void listening_close(struct listening *l);
/* The exit status for what listening_open said. */
int listening_status(int err);
/* A line event=listening for each of n. */
void listening_announce(const struct listening *l, size_t n);

/* A socket that is accepted from. */
struct listener {
	struct source source;
	struct timer pause;
	struct loop *loop;
	bool held, pausing;
	bool took;	     /* a connection, since the last pause */
	unsigned pauses;     /* of this shortage; 0: nothing is short */
	uint64_t short_ms;   /* since when */
	uint64_t resumed_ms; /* when the last pause was over */
	/* fd, non-blocking, is the callee's, who may call listener_hold */
	void (*accepted)(void *arg, int fd, const struct peer *peer);
	void *arg;
};

/* source.fd, loop, accepted and arg are set. 0 or a negative errno. */
int listener_start(struct listener *l);
/* Connections wait in the kernel. */
void listener_hold(struct listener *l);
void listener_go_on(struct listener *l);
/* If err is that descriptors or memory are short: takes none for a moment, and says so. A
 * shortage is told when it begins and when it is over. */
void listener_rest(struct listener *l, int err);
/* Closes this process's socket. */
void listener_stop(struct listener *l);

#endif
