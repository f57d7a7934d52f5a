/*
 * A process that serves: it accepts, shakes hands and moves data, until it is told to end.
 *
 * SIGHUP: it accepts no more and ends with its last connection; SIGTERM: the same, but
 * within the grace time.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_WORKER_H
#define TLSFD_WORKER_H

#include <sys/types.h>

#include "backend.h"
#include "listener.h"
#include "service.h"

struct worker_plan {
	const struct service *service;
	struct tlsfd_config *config;
	struct backends backends;
	struct listening *listening; /* the worker's own socket of each is at [index] */
	size_t n_listening;
	unsigned index, workers;
	uid_t uid;
	gid_t gid;
	const char *user; /* for its other groups; NULL: stay who we are */
	pid_t master;
};

/* In a process of its own, just forked, its signals blocked. Returns its exit status. */
int worker_run(struct worker_plan *plan);

#endif
