/*
 * What the processes of tlsfd serve have done so far, in numbers.
 *
 * Each writes a page of shared memory of its own, and sees no other's; the master adds the
 * page of one that has died to its own; the metrics process reads them all.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_COUNTS_H
#define TLSFD_COUNTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <tlsfd.h>

#include "peer.h"
#include "roles/channel.h"

enum {
	COUNTED_WHYS = 64, /* enum tlsfd_why */
	COUNTED_ENDS = 11,
	PAGES = 8192,
	PAGE_BYTES = 4096,
};

/* Of the log's end=. */
extern const char *const counted_ends[COUNTED_ENDS];

typedef _Atomic uint64_t counter;

struct counts {
	/* these only grow */
	counter handshakes[2][2]; /* done: [tx is in the kernel][rx is] */
	counter why[COUNTED_WHYS];
	counter ended[COUNTED_ENDS];
	counter in, out;	 /* bytes, of connections that have ended */
	counter replaced[ROLES]; /* processes, by the master */
	counter reloads[2];	 /* failed, done */
	/* these are what is so now */
	counter connections, connecting;
	counter before; /* told by the master: connections of those that had its place before */
};

/* ---- a process's own; without counts_use it counts for nobody ---- */

/* From now on into this page of a ledger; closes its fd. 0 or a negative errno. */
int counts_use(int fd, unsigned page);
void count_handshake(const struct tlsfd *c);
/* Writes the line of the log, too. */
void count_end(const struct peer *peer, const struct tlsfd *c, const struct account *account);
void count_connections(unsigned now);
void count_connecting(unsigned now);
void count_replaced(enum role role);
void count_reload(bool done);
uint64_t counted_before(void);

/* ---- all of them ---- */

struct ledger {
	int fd; /* -1: nobody counts */
	struct counts *first;
	bool used[PAGES];
};

/* The master's, whose page is the first. 0 or a negative errno. */
int ledger_open(struct ledger *ledger);
void ledger_close(struct ledger *ledger);
/* In a new process: closes the ledger, but for this page, which is its own now. 0 or a
 * negative errno. */
int ledger_leave(struct ledger *ledger, unsigned page);
/* A page for a new process; 0: there is none. */
unsigned ledger_take(struct ledger *ledger);
/* Of the process that has this page: its connections; 0: nobody has it. */
uint32_t ledger_connections(const struct ledger *ledger, unsigned page);
/* To the process that has this page: counted_before. */
void ledger_tell_before(struct ledger *ledger, unsigned page, uint64_t connections);
/* Of a process that has died: its page is free again, and nothing is forgotten. */
void ledger_settle(struct ledger *ledger, unsigned page);

/* For the reader: maps what a ledger's fd has, and closes it. NULL, with errno, if it can't. */
const struct counts *ledger_read(int fd);
/* The sum of all pages as they are at one moment. */
void ledger_sum(const struct counts *first, struct counts *sum);

#endif
