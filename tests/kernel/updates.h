/*
 * Data under keys that change: what is sent knows its place, and what the peer receives of it
 * is checked byte by byte and counted by keys.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef UPDATES_H
#define UPDATES_H

#include "everywhere.h"
#include "expect.h"

bool kernel_can_rekey(void);
/* Connects by the setting; skips where this kernel can't change the keys of its place. */
void begin_keys(struct tested *t, void **state);

/* n bytes of the pattern, malloc'ed. */
uint8_t *pattern(size_t n);

/* What the peer has received so far. */
struct received {
	uint64_t bytes, updates;
	unsigned requests;
	uint64_t under_key, most; /* records under this key; under any */
	unsigned records;
};

/* One record, which must open. Its type; -1: the end. */
int receive(struct tested *t, struct received *r);
/* Until they have come. */
void receive_bytes(struct tested *t, struct received *r, uint64_t bytes);

/* A way to write n bytes; fewer, or a negative errno, where it fails. */
typedef ssize_t write_way(struct tested *t, const uint8_t *data, size_t n);
write_way write_pieces, write_at_once, write_vectors, write_file;

/* A test's *state: a setting, and how is written. */
struct limited {
	struct setting s;
	write_way *write;
	const char *name;
	size_t n;
};

/* A write in a thread. */
struct job {
	struct tested *t;
	const struct limited *l;
	const uint8_t *data;
	size_t n;
	ssize_t result;
};

void *do_job(void *job);

#endif
