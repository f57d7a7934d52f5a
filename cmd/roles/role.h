/*
 * How a process of `tlsfd serve` begins and ends, whatever its role.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_ROLE_H
#define TLSFD_ROLE_H

#include <stdbool.h>
#include <sys/types.h>

#include "channel.h"
#include "confine.h"
#include "loop.h"

/* What the master tells each of its processes; plain bytes, for another program image too. */
struct role_plan {
	struct confinement confinement;
	pid_t master;
	unsigned grace_ms;
	bool speaks;	 /* for all: which steps of confinement can't be had */
	bool self_check; /* try what is forbidden, and log what came of it */
};

enum { ROLE_STEP = 96, ROLE_END = 64 };

/* A process in its role. */
struct role_run {
	const struct role_plan *plan;
	char step[ROLE_STEP];  /* of its beginning, that it is at */
	char missing[MISSING]; /* of its confinement */
	struct loop loop;
	struct source signals;
	struct timer grace;
	void (*accept)(void *arg); /* SIGUSR1: all others are ready; NULL: it doesn't matter */
	void (*drain)(void *arg);  /* SIGHUP: end with the last connection */
	void (*term)(void *arg);   /* SIGTERM: the same, or less, and stop is called in time */
	void (*stop)(void *arg);   /* the grace time is over: end all of them */
	void *arg;
};

/* Becomes the user, follows the master, opens the loop, confines itself. plan, drain, term,
 * stop and arg are set. 0, or a negative errno, and step says what failed. */
int role_start(struct role_run *run);

/* How a process has ended; status: of waitpid(2). */
void role_end_text(int status, char text[ROLE_END]);
/* The master's line for a process that has ended: event=worker. */
void role_log_death(enum role role, pid_t pid, int status, bool replaced);

#endif
