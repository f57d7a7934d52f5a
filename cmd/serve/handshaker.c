/* SPDX-License-Identifier: MIT */
#include "handshaker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "counts.h"

/* An honest peer needs a round trip or two, and its turn at both ends. */
enum { FAIR_MS = 500 };

struct handshake {
	struct handshaker *of;
	struct handshake *older, *newer;
	struct source source;
	struct timer deadline;
	struct tlsfd *c;
	struct peer peer;
	uint32_t waits_for;
};

static void unlink_handshake(struct handshake *s)
{
	*(s->newer ? &s->newer->older : &s->of->newest) = s->older;
	*(s->older ? &s->older->newer : &s->of->oldest) = s->newer;
	count_connecting(--s->of->count);
}

/* The connection goes on without it. */
static void forget(struct handshake *s)
{
	loop_remove(s->of->loop, &s->source);
	loop_cancel(s->of->loop, &s->deadline);
	unlink_handshake(s);
	free(s);
}

static void log_failure(const struct handshake *s, const char *error)
{
	struct account account = { .end = "handshake", .now_ms = s->of->loop->now_ms };

	/* how OpenSSL calls it */
	account.error = strstr(error, "http request") || strstr(error, "http proxy request") ?
				"HTTP request on the TLS port" :
				error;
	count_end(&s->peer, s->c, &account);
}

/* Bytes that nobody has read would make close(2) a reset, which can overtake our alert. */
static void part(int fd)
{
	char unread[4096];
	int turns = 16;

	shutdown(fd, SHUT_WR);
	while (turns-- && read(fd, unread, sizeof(unread)) > 0)
		;
	close(fd);
}

static void give_up(struct handshake *s, const char *error)
{
	struct handshaker *h = s->of;
	struct tlsfd *c = s->c;
	int fd = s->source.fd;

	log_failure(s, error);
	forget(s);
	tlsfd_free(c);
	part(fd);
	h->left(h->arg);
}

static void succeed(struct handshake *s)
{
	struct handshaker *h = s->of;
	struct tlsfd *c = s->c;
	struct peer peer = s->peer;

	forget(s);
	count_handshake(c);
	h->done(h->arg, c, &peer);
	h->left(h->arg);
}

static int wait_for(struct handshake *s)
{
	uint32_t events = tlsfd_wants(s->c, TLSFD_RX) & POLLOUT ? EPOLLOUT : EPOLLIN;

	if (events == s->waits_for)
		return 0;
	s->waits_for = events;
	return loop_change(s->of->loop, &s->source, events);
}

static void step(struct source *source, uint32_t events)
{
	struct handshake *s = owner_of(source, struct handshake, source);
	int err = tlsfd_handshake(s->c);
	const char *error;

	(void)events;
	if (err == 0) {
		succeed(s);
		return;
	}
	if (err == -EAGAIN)
		err = wait_for(s);
	if (err) {
		error = tlsfd_error(s->c);
		give_up(s, error ? error : strerror(-err));
	}
}

static void too_late(struct timer *timer)
{
	give_up(owner_of(timer, struct handshake, deadline), "the handshake was not done in time");
}

static int begin(struct handshake *s, int fd)
{
	struct handshaker *h = s->of;
	int err = tlsfd_accept(&s->c, h->config, fd);

	if (err)
		return err;
	s->source = (struct source){ fd, step };
	s->waits_for = EPOLLIN;
	s->deadline.due = too_late;
	err = loop_add(h->loop, &s->source, EPOLLIN);
	if (!err && h->timeout_ms)
		err = loop_at(h->loop, &s->deadline, s->peer.began_ms + h->timeout_ms);
	if (err) {
		loop_remove(h->loop, &s->source);
		tlsfd_free(s->c);
	}
	return err;
}

static void link_newest(struct handshake *s)
{
	struct handshaker *h = s->of;

	s->older = h->newest;
	*(s->older ? &s->older->newer : &h->oldest) = s;
	h->newest = s;
	count_connecting(++h->count);
}

static void refuse(struct handshaker *h, int fd, const struct peer *peer, int err)
{
	struct account account = { .end = "error",
				   .error = strerror(-err),
				   .now_ms = h->loop->now_ms };

	count_end(peer, NULL, &account);
	close(fd);
	h->left(h->arg);
}

void handshaker_start(struct handshaker *h, int fd, const struct peer *peer)
{
	struct handshake *s = calloc(1, sizeof(*s));
	int err = -ENOMEM;

	if (s) {
		s->of = h;
		s->peer = *peer;
		err = begin(s, fd);
	}
	if (err) {
		free(s);
		refuse(h, fd, peer, err);
		return;
	}
	link_newest(s);
	if (h->count > h->most)
		give_up(h->oldest, "too many handshakes at once, this was the oldest");
}

uint64_t handshaker_yields_ms(const struct handshaker *h)
{
	return h->oldest ? h->oldest->peer.began_ms + FAIR_MS : UINT64_MAX;
}

void handshaker_yield(struct handshaker *h)
{
	if (handshaker_yields_ms(h) <= h->loop->now_ms)
		give_up(h->oldest, "too many connections at once, this was the oldest handshake");
}

void handshaker_stop(struct handshaker *h)
{
	struct handshake *next;

	for (struct handshake *s = h->oldest; s; s = next) {
		next = s->newer;
		give_up(s, "stopped");
	}
}
