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

struct fields {
	enum fields_pass pass;
	uint8_t *data;
	size_t size, at;
	int err; /* the first one: -EPROTO, what was read makes no sense; -ENOMEM */
};

/* Of any size. What was read points into fields->data. */
struct block {
	const void *data;
	uint32_t size;
};

/* n bytes: a number, or an array. After an error what is read is zero. */
void fields_bytes(struct fields *f, void *p, size_t n);
void fields_flag(struct fields *f, bool *flag);
void fields_block(struct fields *f, struct block *block);

/* Or NULL. Returns text itself, or what was read, to be freed. */
char *fields_text(struct fields *f, const char *text);

void fields_fail(struct fields *f, int err);

/* What must hold of what was read. True: go on. */
bool fields_require(struct fields *f, bool holds);

#endif
