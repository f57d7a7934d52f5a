/* SPDX-License-Identifier: MIT */
#include "outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "met.h"
#include "sys.h"

static int fail(struct outbox *o, int err)
{
	o->err = err;
	o->at = o->end = 0;
	return err;
}

static ssize_t send_some(const struct outbox *o, struct tlsfd *c, const uint8_t *data, size_t n)
{
	int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (o->fin_follows ? MSG_MORE : 0);
	ssize_t sent = sys_send(c->fd, data, n, flags);

	return met_sending(c, sent) ? sys_send(c->fd, data, n, flags) : sent;
}

int outbox_flush(struct outbox *o, struct tlsfd *c)
{
	while (!o->err && o->at < o->end) {
		ssize_t n = send_some(o, c, o->data + o->at, o->end - o->at);

		if (n == -EAGAIN)
			return -EAGAIN;
		if (n < 0)
			return fail(o, (int)n);
		o->at += (size_t)n;
	}
	outbox_free(o);
	return o->err;
}

static void keep(struct outbox *o, const uint8_t *data, size_t n)
{
	if (o->room - o->end < n) {
		uint8_t *more = realloc(o->data, o->end + n);

		if (!more) {
			fail(o, -ENOMEM);
			return;
		}
		o->data = more;
		o->room = o->end + n;
	}
	memcpy(o->data + o->end, data, n);
	o->end += n;
}

void outbox_put(struct outbox *o, struct tlsfd *c, const void *data, size_t n)
{
	const uint8_t *p = data;

	outbox_flush(o, c);
	while (n && !o->err && outbox_is_empty(o)) {
		ssize_t sent = send_some(o, c, p, n);

		if (sent == -EAGAIN)
			break;
		if (sent < 0) {
			fail(o, (int)sent);
			return;
		}
		p += sent;
		n -= (size_t)sent;
	}
	if (n && !o->err)
		keep(o, p, n);
}

void outbox_free(struct outbox *o)
{
	free(o->data);
	o->data = NULL;
	o->at = o->end = o->room = 0;
}
