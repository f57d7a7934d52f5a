/*
 * Bytes on their way to the socket of c, which had no room for all of them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_OUTBOX_H
#define TLSFD_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tlsfd;

struct outbox {
	uint8_t *data;
	size_t at, end, room;
	int err; /* the first error of the socket, or -ENOMEM: nothing is taken after it */
	bool fin_follows; /* right behind what is sent */
};

/* Sends what it can and keeps the rest. */
void outbox_put(struct outbox *o, struct tlsfd *c, const void *data, size_t n);

/* 0: it is empty; -EAGAIN; or o->err. Never waits. */
int outbox_flush(struct outbox *o, struct tlsfd *c);

static inline bool outbox_is_empty(const struct outbox *o)
{
	return o->at == o->end;
}

void outbox_free(struct outbox *o);

#endif
