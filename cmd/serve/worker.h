/*
 * A handshake process: it accepts, shakes hands and passes the connection to its data
 * process, or moves the data itself where the kernel can't. It has the private keys.
 *
 * SIGHUP: it accepts no more and ends with its last connection; SIGTERM: the same, but
 * within the grace time.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_WORKER_H
#define TLSFD_WORKER_H

#include "backend.h"
#include "listener.h"
#include "ratchet.h"
#include "roles/role.h"
#include "service.h"

struct worker_plan {
	struct role_plan role;
	const struct service *service;
	struct tlsfd_config *config;
	struct ratchet *ratchet; /* config's; this process's own copy */
	struct backends backends;
	const struct listening *listening; /* the worker's own socket of each is at [index] */
	size_t n_listening;
	unsigned index, workers;
	int channel;   /* to its data process */
	uint32_t held; /* connections that this one has already */
	int begin;     /* of the teams */
};

/* In a process of its own, just forked, its signals blocked. Returns its exit status. */
int worker_run(struct worker_plan *plan);

#endif
