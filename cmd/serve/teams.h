/*
 * The processes that the master has: teams of a handshake process and a data process with a
 * channel between them. Who dies is replaced, not more often than once a second; but if one of
 * the first can't even begin, all of them end.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_TEAMS_H
#define TLSFD_TEAMS_H

#include <sys/types.h>

#include "counts.h"
#include "loop.h"
#include "roles/channel.h"

struct team {
	pid_t pid[ROLES];    /* 0: none; it may be started at the timer */
	int channel[ROLES];  /* stays while one of them lives */
	unsigned generation; /* of the settings of its handshake process */
	unsigned index;
	unsigned page[ROLES]; /* of the ledger */
	bool begun[ROLES];
	struct team *next;
};

enum { TROUBLE = 256 };

struct teams {
	struct loop *loop;
	struct ledger *ledger;
	unsigned generation; /* the newest */
	unsigned serving;    /* the newest that has begun; 0: none yet */
	unsigned grace_ms;   /* the longest that one of those that have served was given */
	struct source begun; /* a pipe: of words of processes that have begun, or can't */
	int begin;	     /* where they write theirs */
	bool awaited;	     /* not all of the newest generation have */
	bool stopping;
	char trouble[TROUBLE]; /* why it can't: a sentence */
	struct timer restart, census, patience, deadline;
	struct team *first;
	/* in a new process, by the present settings; does not return */
	void (*be)(void *arg, const struct team *team, enum role role);
	/* All of a generation have begun, and those before are told to end; or it can't begin, and
	 * those before go on. Both may call teams_renew. */
	void (*renewed)(void *arg);
	void (*refused)(void *arg, const char *why);
	void (*gone)(void *arg); /* stopping, and none is left */
	void *arg;
};

/* be, renewed, refused, gone and arg are set, and loop and ledger that will be opened. 0 or a
 * negative errno. */
int teams_open(struct teams *teams);
/* Starts a generation, unless one is awaited. Its handshake processes are told to accept
 * (SIGUSR1) when all of it has begun, and those before drain. 0, or a negative errno, and all is
 * as it was. If none has ever begun, trouble says why, and all end. */
int teams_renew(struct teams *teams, unsigned count);
/* Of waitpid(2). */
void teams_bury(struct teams *teams, pid_t pid, int status);
/* SIGTERM to all; the second time, or soon after the grace time, SIGKILL. */
void teams_stop(struct teams *teams);
/* In a process that is ready for connections; closes begin. 0 or a negative errno. */
int teams_say_begun(int begin);
/* Or it can't: what it was about to do, and the negative errno. */
void teams_say_failed(int begin, const char *step, int err);

#endif
