/* SPDX-License-Identifier: MIT */
#include "half.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { LARGE = 4096 };

/* ---- plain ---- */

static ssize_t plain_read(const struct sides *s, void *buf, size_t n)
{
	ssize_t got = recv(s->plain, buf, n, MSG_DONTWAIT);

	return got < 0 ? -errno : got;
}

static ssize_t plain_write(const struct sides *s, const void *buf, size_t n)
{
	ssize_t sent = send(s->plain, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	return sent < 0 ? -errno : sent;
}

static int plain_shutdown(const struct sides *s)
{
	return shutdown(s->plain, SHUT_WR) < 0 && errno != ENOTCONN ? -errno : 0;
}

/* ---- through memory ---- */

/* OpenSSL gives a record at a time: several make one write. Their end, or an error, is told
 * again. */
static ssize_t tls_read(struct half *h, const struct sides *s, uint8_t *buf, size_t n)
{
	size_t have = 0;
	ssize_t got = 1;

	while (have < n && got > 0) {
		got = tlsfd_read(s->tls, buf + have, n - have);
		have += got > 0 ? (size_t)got : 0;
	}
	if (have && got == -EAGAIN)
		h->can_take = false;
	return have ? (ssize_t)have : got;
}

static ssize_t sink_write(enum half_way way, const struct sides *s, const void *buf, size_t n)
{
	return way == HALF_IN ? plain_write(s, buf, n) : tlsfd_write(s->tls, buf, n);
}

static int keep(struct half *h, const uint8_t *data, size_t n)
{
	h->copy = malloc(n);
	if (!h->copy)
		return -ENOMEM;
	memcpy(h->copy, data, n);
	h->at = 0;
	h->held = (uint32_t)n;
	return 0;
}

/* What the other side doesn't take at once is kept; its error shows when it is given again. */
static int take_copy(struct half *h, enum half_way way, const struct sides *s, struct carriers *c)
{
	size_t room = sizeof(c->scratch);
	ssize_t got =
		way == HALF_IN ? tls_read(h, s, c->scratch, room) : plain_read(s, c->scratch, room);
	ssize_t sent;

	if (got <= 0) {
		h->eof = got == 0;
		return (int)got;
	}
	h->bytes += (uint64_t)got;
	sent = sink_write(way, s, c->scratch, (size_t)got);
	if (sent < 0)
		sent = 0;
	return sent == got ? 0 : keep(h, c->scratch + sent, (size_t)(got - sent));
}

static ssize_t give_copy(struct half *h, enum half_way way, const struct sides *s)
{
	return sink_write(way, s, h->copy + h->at, h->held);
}

/* ---- by splice ---- */

static int from_tls(struct half *h, struct sides *s)
{
	ssize_t n = splicer_take(&s->splicer, h->pipe->in);

	if (n < 0)
		return (int)n;
	h->held = (uint32_t)n;
	h->eof = n == 0;
	return 0;
}

static int from_plain(struct half *h, const struct sides *s)
{
	ssize_t n = splice(s->plain, NULL, h->pipe->in, NULL, PIPE_ROOM,
			   SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

	if (n < 0)
		return -errno;
	h->held = (uint32_t)n;
	h->eof = n == 0;
	return 0;
}

/* Only into an empty pipe: see pipes.c. */
static int take(struct half *h, enum half_way way, struct sides *s, struct carriers *c)
{
	int err;

	h->pipe = pipes_take(&c->pipes, c->now_ms);
	if (!h->pipe)
		return take_copy(h, way, s, c);
	err = way == HALF_IN ? from_tls(h, s) : from_plain(h, s);
	h->bytes += h->held;
	if (!h->held) {
		pipes_put(&c->pipes, h->pipe);
		h->pipe = NULL;
	}
	return err;
}

/* Behind a large record, or the second in a row, more is likely. TCP waits for it, or would
 * make a segment of each; where none comes half_push is next. */
static ssize_t give_plain(struct half *h, const struct sides *s)
{
	bool more = s->plain_tcp && (h->held >= LARGE || h->flows);
	ssize_t n = splice(h->pipe->out, NULL, s->plain, NULL, h->held,
			   SPLICE_F_NONBLOCK | SPLICE_F_MOVE | (more ? SPLICE_F_MORE : 0));

	if (n < 0)
		return -errno;
	h->waits = more;
	h->flows = true;
	return n;
}

static ssize_t give_pipe(struct half *h, enum half_way way, struct sides *s)
{
	return way == HALF_IN ? give_plain(h, s) : splicer_give(&s->splicer, h->pipe->out, h->held);
}

/* ---- both ---- */

static int give(struct half *h, enum half_way way, struct sides *s, struct carriers *c)
{
	ssize_t n = h->pipe ? give_pipe(h, way, s) : give_copy(h, way, s);

	if (n < 0)
		return (int)n;
	h->at += (uint32_t)n;
	h->held -= (uint32_t)n;
	if (h->held)
		return 0;
	if (h->pipe)
		pipes_put(&c->pipes, h->pipe);
	h->pipe = NULL;
	free(h->copy);
	h->copy = NULL;
	return 0;
}

static int finish(struct half *h, enum half_way way, const struct sides *s)
{
	int err = way == HALF_IN ? plain_shutdown(s) : tlsfd_shutdown(s->tls);

	h->done = err == 0;
	return err;
}

int half_step(struct half *h, enum half_way way, struct sides *s, struct carriers *c)
{
	if (h->held)
		return give(h, way, s, c);
	if (h->eof)
		return finish(h, way, s);
	if (s->kernel[way])
		return take(h, way, s, c);
	return take_copy(h, way, s, c);
}

void half_push(struct half *h, enum half_way way, struct sides *s)
{
	if (way == HALF_OUT)
		splicer_push(&s->splicer);
	if (h->waits)
		setsockopt(s->plain, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	h->waits = h->flows = false;
}

void half_drop(struct half *h)
{
	if (h->pipe)
		pipes_drop(h->pipe);
	free(h->copy);
	h->pipe = NULL;
	h->copy = NULL;
	h->held = 0;
}
