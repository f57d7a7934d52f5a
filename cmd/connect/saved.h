/*
 * A session in a file, for the next tlsfd connect.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_SAVED_H
#define TLSFD_SAVED_H

#include "pool.h"

enum saved {
	SAVED_ABSENT, /* there is no file */
	SAVED_TAKEN,  /* its session is in the pool */
	SAVED_OPEN,   /* others than we could have written it: nothing was read */
	SAVED_ALIEN,  /* it holds something else, which is not ours to replace */
};

/* What is wrong, in a sentence; NULL: nothing. */
const char *saved_why(enum saved saved);

enum saved saved_read(const char *path, struct pool *pool);
/* Replaces the file by the newest session of the pool, which loses it. Without one: deletes it
 * if it is used up. 0 or a negative errno. */
int saved_write(const char *path, struct pool *pool, bool used_up);

#endif
