/*
 * The addresses of names, asked for in a child process: getaddrinfo(3) waits for as long as the
 * resolver is silent, knows no deadline, and can't be ended.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_LOOKUP_H
#define TLSFD_LOOKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "deadline.h"
#include "target.h"

/* All zero but family: nothing to be asked, and done. */
struct lookup {
	int family; /* AF_UNSPEC, AF_INET or AF_INET6 */
	struct target *targets;
	size_t count;
	pid_t child; /* 0: none, or somebody has waited for it */
	int pipe;    /* its answers come from here, only while lookup_step says -EAGAIN */
	bool asking;
};

/* One more HOST:PORT, before the first step. As target_parse; -EINVAL where there is no host,
 * too. */
int lookup_add(struct lookup *l, const char *text);

/* Asks, and takes what has come; never waits. 0: all targets have their addresses; -EAGAIN: call
 * again when pipe is readable; or the end: -ENOENT, with the error of a target; another negative
 * errno. */
int lookup_step(struct lookup *l);

/* All steps: as lookup_step, or -ETIMEDOUT. */
int lookup_finish(struct lookup *l, const struct deadline *deadline);

/* What they returned, in a sentence. */
const char *lookup_error(const struct lookup *l, int err);

/* For a program that waits for any child (waitpid(2)): was it this one? Its answers are still
 * to be read. */
bool lookup_bury(struct lookup *l, pid_t pid);

/* Ends what is under way. What has been found stays. */
void lookup_stop(struct lookup *l);
/* The same in another child of the program, whose business it isn't. */
void lookup_leave(struct lookup *l);
/* Stops, and frees the targets. */
void lookup_free(struct lookup *l);

#endif
