/*
 * Bytes that one process writes and another one reads. A format is described once, by a
 * function that goes through its fields in order; this serves three passes: measuring,
 * writing, reading. Host byte order: both processes are on one machine.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_FIELDS_H
#define TLSFD_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fields_pass { MEASURE, WRITE, READ };

/* Memory that is got before anything can be lost: what READ makes of n bytes fits in. */
struct reserve {
	void *block[3];
	unsigned left;
};

struct fields {
	enum fields_pass pass;
	uint8_t *data;
	size_t size, at;
	struct reserve *reserve; /* READ */
	int err;		 /* the first one: -EPROTO, what was read makes no sense */
};

/* 0 or -ENOMEM; to be freed in any case. */
int reserve_make(struct reserve *r, size_t n);
void reserve_free(struct reserve *r);

/* Of any size. What was read points into fields->data. */
struct block {
	const void *data;
	uint32_t size;
};

/* n bytes: a number, or an array. After an error what is read is zero. */
void fields_bytes(struct fields *f, void *p, size_t n);
void fields_flag(struct fields *f, bool *flag);
void fields_block(struct fields *f, struct block *block);

/* READ: memory for something of what was read, at most 256 bytes more than its size; to be
 * freed. NULL, and an error: it was asked for too often. */
void *fields_memory(struct fields *f, size_t n);

/* Or NULL. Returns text itself, or what was read, to be freed. */
char *fields_text(struct fields *f, const char *text);

void fields_fail(struct fields *f, int err);

/* What must hold of what was read. True: go on. */
bool fields_require(struct fields *f, bool holds);

#endif
