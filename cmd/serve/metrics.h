/*
 * The metrics process: it sums up what all others have counted, and answers GET /metrics in
 * the text format of Prometheus. A program image of its own, as data processes are.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_METRICS_H
#define TLSFD_METRICS_H

#include <stdbool.h>
#include <sys/types.h>

#include "counts.h"
#include "listener.h"
#include "loop.h"
#include "roles/role.h"

/* The master's side. */
struct metrics {
	struct loop *loop;
	struct ledger *ledger;
	struct listening listening;
	struct role_plan plan;
	int image; /* of roles/image.h */
	int plan_fd;
	pid_t pid;
	struct timer restart;
};

/* Can a process like that be had here? 0, or a negative errno with a sentence in error. */
int metrics_possible(char *error, size_t size);
/* loop, ledger, listening, plan and image are set. 0 or a negative errno. */
int metrics_start(struct metrics *m);
/* Of waitpid(2): whether it was this process; it is replaced. */
bool metrics_bury(struct metrics *m, pid_t pid, int status);
void metrics_stop(struct metrics *m);

/* metrics_process, in cmd.h, is the hidden verb that it is. */

#endif
