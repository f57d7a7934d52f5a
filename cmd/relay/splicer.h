/*
 * splice(2) between pipes and the bare fd of a TLS connection, as <tlsfd.h> wants it. Both
 * directions belong to one thread.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_SPLICER_H
#define TLSFD_SPLICER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <tlsfd.h>

#include "pipes.h"

enum { SPLICER_RECORD = 16384 }; /* more than that waits for splicer_push */

struct splicer {
	struct tlsfd *tls;
	int fd;
	uint32_t splices; /* into TLS, since the key's limit was looked at */
	uint32_t most;	  /* of them */
	bool corked;	  /* TCP waits for more */
	bool unsettled;	  /* the library counts control records and is to see what comes next */
};

void splicer_start(struct splicer *s, struct tlsfd *tls);

/* Into the pipe, which must be empty: before Linux 7.1 what has no room in it is lost. A
 * count; 0: end of file (close_notify); or as tlsfd_read. */
ssize_t splicer_take(struct splicer *s, int pipe);

/* n bytes of the pipe, PIPE_ROOM at most. A count, or as tlsfd_write; what fails can be the
 * reader's: splicer_reason. */
ssize_t splicer_give(struct splicer *s, int pipe, size_t n);
/* Nothing is given for now: what TCP holds back goes out. */
void splicer_push(struct splicer *s);

/* What a sender was told is told to the reader: its reason if it has one, else err. */
int splicer_reason(const struct splicer *s, int err);

/* The fd has room: sends what is owed to the peer, and in user space the rest of a record
 * that was taken. An error shows with the next call. */
void splicer_flush(const struct splicer *s);

#endif
