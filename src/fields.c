/* SPDX-License-Identifier: MIT */
#include "fields.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

enum { BLOCKS = sizeof(((struct reserve *)0)->block) / sizeof(void *), EXTRA = 256 };

int reserve_make(struct reserve *r, size_t n)
{
	for (r->left = 0; r->left < BLOCKS; r->left++) {
		r->block[r->left] = malloc(n + EXTRA);
		if (!r->block[r->left])
			return -ENOMEM;
	}
	return 0;
}

void reserve_free(struct reserve *r)
{
	while (r->left)
		free(r->block[--r->left]);
}

void *fields_memory(struct fields *f, size_t n)
{
	struct reserve *r = f->reserve;
	void *block, *smaller;

	if (!r->left || n > f->size + EXTRA) {
		fields_fail(f, -EPROTO);
		return NULL;
	}
	block = r->block[--r->left];
	smaller = realloc(block, n);
	return smaller ? smaller : block;
}

/* ---- fields ---- */

void fields_fail(struct fields *f, int err)
{
	if (!f->err)
		f->err = err;
}

bool fields_require(struct fields *f, bool holds)
{
	if (f->pass == READ && !holds)
		fields_fail(f, -EPROTO);
	return !f->err;
}

/* Room for n more bytes, NULL: there are none to move. */
static uint8_t *pass_over(struct fields *f, size_t n)
{
	uint8_t *at;

	if (f->pass == MEASURE) {
		f->at += n;
		return NULL;
	}
	if (n > f->size - f->at)
		fields_fail(f, -EPROTO);
	if (f->err)
		return NULL;
	at = f->data + f->at;
	f->at += n;
	return at;
}

void fields_bytes(struct fields *f, void *p, size_t n)
{
	uint8_t *at = pass_over(f, n);

	if (at && f->pass == WRITE)
		memcpy(at, p, n);
	else if (at)
		memcpy(p, at, n);
	else if (f->pass == READ)
		memset(p, 0, n);
}

void fields_flag(struct fields *f, bool *flag)
{
	uint8_t byte = *flag;

	fields_bytes(f, &byte, sizeof(byte));
	*flag = fields_require(f, byte <= 1) && byte;
}

void fields_block(struct fields *f, struct block *block)
{
	uint8_t *at;

	fields_bytes(f, &block->size, sizeof(block->size));
	at = pass_over(f, block->size);
	if (f->pass == READ)
		*block = (struct block){ at, at ? block->size : 0 };
	else if (at && block->data)
		memcpy(at, block->data, block->size);
}

char *fields_text(struct fields *f, const char *text)
{
	struct block block = { text, text ? (uint32_t)strlen(text) + 1 : 0 };
	char *copy;

	fields_block(f, &block);
	if (f->pass != READ)
		return (char *)text;
	if (!block.size || !fields_require(f, strnlen(block.data, block.size) == block.size - 1))
		return NULL;
	copy = fields_memory(f, block.size);
	return copy ? memcpy(copy, block.data, block.size) : NULL;
}
