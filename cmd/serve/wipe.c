/* SPDX-License-Identifier: MIT */
#include "wipe.h"

#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool wiping;

static void *allocate(size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return malloc(size);
}

static void release(void *memory, const char *file, int line)
{
	(void)file;
	(void)line;
	if (memory && wiping)
		explicit_bzero(memory, malloc_usable_size(memory));
	free(memory);
}

/* realloc(3) would free the place that was too small as it is. */
static void *move(void *memory, size_t size, const char *file, int line)
{
	size_t had = memory ? malloc_usable_size(memory) : 0;
	void *more = NULL;

	if (!wiping || !memory)
		return realloc(memory, size);
	if (size) {
		more = malloc(size);
		if (!more)
			return NULL;
		memcpy(more, memory, had < size ? had : size);
	}
	release(memory, file, line);
	return more;
}

int wipe_start(void)
{
	wiping = CRYPTO_set_mem_functions(allocate, move, release) == 1;
	return wiping ? 0 : -EBUSY;
}

void wipe_stop(void)
{
	wiping = false;
}
