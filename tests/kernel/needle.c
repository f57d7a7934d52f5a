/* SPDX-License-Identifier: MIT */
#include "needle.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "suite.h"

enum { MASK = 0xa5 };

void needle_make(struct needle *n, const char *name, const uint8_t *bytes, size_t size)
{
	assert_true(size <= sizeof(n->masked));
	n->name = name;
	n->size = size;
	for (size_t i = 0; i < size; i++)
		n->masked[i] = bytes[i] ^ MASK;
}

static int hex(char c)
{
	return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

void needle_read(struct needle *n, const char *name, const char *digits)
{
	n->name = name;
	n->size = 0;
	for (; n->size < sizeof(n->masked) && digits[0] && digits[1]; digits += 2)
		n->masked[n->size++] = (uint8_t)(hex(digits[0]) << 4 | hex(digits[1])) ^ MASK;
}

static bool matches(const volatile uint8_t *at, const struct needle *n)
{
	for (size_t i = 0; i < n->size; i++)
		if ((uint8_t)(at[i] ^ MASK) != n->masked[i])
			return false;
	return true;
}

static int search_region(const uint8_t *from, const uint8_t *to, const struct needle *n,
			 const char *tell)
{
	const uint8_t first = n->masked[0];
	int hits = 0;

	for (const uint8_t *at = from; at + n->size <= to; at++) {
		if ((uint8_t)(*(const volatile uint8_t *)at ^ MASK) == first && matches(at, n)) {
			hits++;
			if (tell)
				printf("# %s at %p in %s", n->name, (const void *)at, tell);
		}
	}
	return hits;
}

/* A line of /proc/self/maps; but for what the kernel puts there, [vvar] and the like. */
static int search_line(const char *line, const struct needle *n, bool tell)
{
	unsigned long from, to;
	char perms[8];

	if (sscanf(line, "%lx-%lx %7s", &from, &to, perms) != 3 || perms[0] != 'r' ||
	    perms[1] != 'w' || strstr(line, "[v"))
		return 0;
	return search_region((const uint8_t *)from, (const uint8_t *)to, n, tell ? line : NULL);
}

/* The lines are read first: the search must not change what it searches. */
static int search(const struct needle *n, bool tell)
{
	static char maps[1 << 18];
	FILE *f = fopen("/proc/self/maps", "re");
	int hits = 0;
	size_t got;

	assert_non_null(f);
	got = fread(maps, 1, sizeof(maps) - 1, f);
	fclose(f);
	maps[got] = '\0';
	if (!n->size)
		return 0;
	for (char *line = maps, *next; *line; line = next) {
		char text[256];

		next = strchr(line, '\n');
		next = next ? next + 1 : line + strlen(line);
		snprintf(text, sizeof(text), "%.*s", (int)(next - line), line);
		hits += search_line(text, n, tell);
	}
	return hits;
}

int needle_count(const struct needle *n)
{
	return search(n, false);
}

int needle_tell(const struct needle *n)
{
	return search(n, true);
}
