/*
 * The master of `tlsfd serve`: what it has, and the processes that it starts and replaces. It
 * meets no peer.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_MASTER_H
#define TLSFD_MASTER_H

#include "generation.h"
#include "identities.h"
#include "listener.h"
#include "loop.h"
#include "metrics.h"
#include "roles/confine.h"
#include "roles/role.h"
#include "service.h"
#include "teams.h"

struct master {
	/* of its start, for good */
	int argc;
	char **argv;
	struct service start; /* listen, workers, metrics, user and group are its */
	unsigned workers;
	char user[sizeof(((struct confinement *)0)->user)];
	uid_t uid;
	gid_t gid;
	pid_t pid;
	int image;  /* this program, for the processes that aren't forks */
	int root;   /* empty, for all of them */
	bool wipes; /* what OpenSSL frees */
	/* what its processes have from it */
	struct generation now, next;
	struct self_signed self;
	struct timer renewal; /* of ticket keys */
	struct listening *listening;
	size_t n_listening;
	struct timer ports; /* one of them is new: processes that have the old one are renewed */
	/* of the reload */
	bool reloading; /* the addresses of the next one are asked for */
	struct source answers;
	bool changing; /* till the processes of now have begun: next is the one before it */
	bool again;    /* SIGHUP came meanwhile */
	bool new_port; /* those of before don't have it */
	/* its processes */
	struct loop loop;
	struct source signals;
	struct teams teams;
	struct ledger ledger;
	struct metrics metrics;
};

/* It has nothing yet. */
void master_set_up(struct master *m, int argc, char **argv);
/* For a process of this role, by these settings. */
struct role_plan master_plan(const struct master *m, const struct generation *g, enum role role);
/* Starts the processes of now: teams_renew. */
int master_begin(struct master *m);
/* All that have died (SIGCHLD). */
void master_bury_all(struct master *m);

/* The dead, and those that end, have had the sockets that others get. True: one is new. */
bool master_mend_ports(struct master *m);
/* Those that live accept from one that is no good. Not more often than once a second, as one of
 * them may do it again and again. */
void master_renew_for_ports(struct master *m);
void master_close_ports(struct master *m);

#endif
