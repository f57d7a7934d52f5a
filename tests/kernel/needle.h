/*
 * A secret that this process's memory is searched for. It is kept masked, so that the search
 * doesn't find the needle itself. Not under a sanitizer, whose allocator isn't malloc and
 * whose shadow is terabytes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef NEEDLE_H
#define NEEDLE_H

#include <stddef.h>
#include <stdint.h>

struct needle {
	const char *name;
	size_t size; /* 0: nothing to be searched for */
	uint8_t masked[48];
};

void needle_make(struct needle *n, const char *name, const uint8_t *bytes, size_t size);
/* Of hex digits, as in a key log; masked as they are read: no copy is made. */
void needle_read(struct needle *n, const char *name, const char *digits);

/* How often it is in all writable memory; the latter says where, as it should be nowhere. */
int needle_count(const struct needle *n);
int needle_tell(const struct needle *n);

#endif
