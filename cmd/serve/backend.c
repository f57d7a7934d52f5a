/* SPDX-License-Identifier: MIT */
#include "backend.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "logfmt.h"

enum {
	CONNECT_MS = 5000,
	DOWN_MS = 5000,	     /* before it is tried again */
	FIRST_PAUSE_MS = 10, /* where all are busy */
	PAUSE_MS = 100,
};

/* ---- targets ---- */

int backends_add(struct backends *b, const char *text, const void *address, socklen_t size)
{
	struct backend *at;

	if (size > sizeof(at->address))
		return -EINVAL;
	at = reallocarray(b->at, b->count + 1, sizeof(*at));
	if (!at)
		return -ENOMEM;
	b->at = at;
	at += b->count;
	*at = (struct backend){ .text = strdup(text), .size = size };
	if (!at->text)
		return -ENOMEM;
	memcpy(&at->address, address, size);
	b->count++;
	return 0;
}

static bool is_path(const char *text)
{
	return !strncmp(text, "unix:", 5);
}

static int check_path(const char *path)
{
	const struct sockaddr_un *address = NULL;

	return *path && strlen(path) < sizeof(address->sun_path) ? 0 : -EINVAL;
}

int backends_ask(struct lookup *lookup, const struct texts *targets, char *error, size_t size)
{
	for (size_t i = 0; i < targets->count; i++) {
		const char *text = targets->at[i];
		int err = is_path(text) ? check_path(text + 5) : lookup_add(lookup, text);

		if (!err)
			continue;
		snprintf(error, size, "forward %s: %s", text,
			 err == -ENOMEM ? "memory is short" :
			 is_path(text)	? "unix:PATH is wanted" :
					  "HOST:PORT or unix:PATH is wanted");
		return err;
	}
	return 0;
}

static int add_path(struct backends *b, const char *text)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memcpy(address.sun_path, text + 5, strlen(text + 5));
	return backends_add(b, text, &address, sizeof(address));
}

static int add_found(struct backends *b, const char *text, const struct target *found)
{
	int err = 0;

	for (size_t i = 0; i < found->count && !err; i++)
		err = backends_add(b, text, &found->list[i].at, found->list[i].size);
	return err;
}

int backends_open(struct backends *b, const struct texts *targets, const struct lookup *lookup,
		  int looked, char *error, size_t size)
{
	const struct target *next = lookup->targets;
	const char *at = "";
	int err = 0;

	*b = (struct backends){ 0 };
	for (size_t i = 0; i < targets->count && !err; i++) {
		at = targets->at[i];
		if (is_path(at))
			err = add_path(b, at);
		else if (looked && (looked != -ENOENT || next->error))
			err = looked;
		else
			err = add_found(b, at, next++);
	}
	if (!err)
		return 0;
	snprintf(error, size, "forward %s: %s", at, lookup_error(lookup, err));
	backends_close(b);
	return err;
}

uint16_t *backends_ports(const struct backends *b, size_t *n)
{
	uint16_t *ports = calloc(b->count + 1, sizeof(*ports));

	*n = 0;
	for (size_t i = 0; ports && i < b->count; i++) {
		const struct sockaddr_storage *address = &b->at[i].address;

		/* sin6_port is at the same place */
		if (address->ss_family != AF_UNIX)
			ports[(*n)++] = ntohs(
				((const struct sockaddr_in *)(const void *)address)->sin_port);
	}
	return ports;
}

void backends_close(struct backends *b)
{
	while (b->count)
		free(b->at[--b->count].text);
	free(b->at);
	b->at = NULL;
}

/* ---- health: what connections tell ---- */

static void log_state(const struct backend *backend, const char *state, const char *error)
{
	struct logline line;

	log_begin(&line, "backend");
	log_text(&line, "target", backend->text);
	log_text(&line, "state", state);
	if (error)
		log_text(&line, "error", error);
	log_end(&line);
}

static void is_down(struct backend *backend, uint64_t now_ms, int err)
{
	if (!backend->down_until_ms)
		log_state(backend, "down", strerror(-err));
	backend->down_until_ms = now_ms + DOWN_MS;
}

static void is_up(struct backend *backend)
{
	if (backend->down_until_ms)
		log_state(backend, "up", NULL);
	backend->down_until_ms = 0;
	backend->on_trial = false;
}

/* Passes by itself, and doesn't say that nobody is there: a Unix socket's queue is full
 * (EAGAIN), or something is short here, ports perhaps (EADDRNOTAVAIL). */
static bool will_pass(int err)
{
	switch (err) {
	case -EADDRNOTAVAIL:
	case -EAGAIN:
	case -EMFILE:
	case -ENFILE:
	case -ENOBUFS:
	case -ENOMEM:
	case -ENOSPC: /* of epoll_ctl(2) */
		return true;
	default:
		return false;
	}
}

/* ---- whose turn it is ---- */

static bool is_due(const struct backend *backend, uint64_t now_ms)
{
	return !backend->down_until_ms ||
	       (backend->down_until_ms <= now_ms && !backend->on_trial);
}

/* Down already when the round began; when none was tried, any of them will do. */
static bool is_last_hope(const struct backend *backend, const struct attempt *a)
{
	return backend->down_until_ms &&
	       (!a->err || backend->down_until_ms < a->round_ms + DOWN_MS);
}

/* Twice around: those that are up or due to be tried again, then those that are down. */
static struct backend *choose(struct attempt *a)
{
	struct backends *b = a->backends;

	while (a->looks < 2 * b->count) {
		bool again = a->looks++ >= b->count;
		struct backend *backend = &b->at[a->at];

		a->at = a->at + 1 < b->count ? a->at + 1 : 0;
		if (again ? is_last_hope(backend, a) : is_due(backend, a->loop->now_ms)) {
			b->next = a->at;
			return backend;
		}
	}
	return NULL;
}

/* ---- attempts ---- */

static void try_next(struct attempt *a);

/* One at a time finds out whether a backend is up again: the others would wait with it. */
static void put_on_trial(struct attempt *a)
{
	a->on_trial = a->backend->down_until_ms && !a->backend->on_trial;
	a->backend->on_trial |= a->on_trial;
}

static int forget_socket(struct attempt *a)
{
	int fd = a->source.fd;

	if (fd >= 0)
		loop_remove(a->loop, &a->source);
	loop_cancel(a->loop, &a->limit);
	a->source.fd = -1;
	if (a->on_trial)
		a->backend->on_trial = false;
	a->on_trial = false;
	return fd;
}

static void failed(struct attempt *a, int err)
{
	if (will_pass(err))
		a->busy = true;
	else
		is_down(a->backend, a->loop->now_ms, err);
	a->err = err;
}

static void connected(struct source *source, uint32_t events)
{
	struct attempt *a = owner_of(source, struct attempt, source);
	int err = 0, fd = forget_socket(a);
	socklen_t len = sizeof(err);

	(void)events;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err) {
		close(fd);
		failed(a, -err);
		try_next(a);
	} else {
		is_up(a->backend);
		a->done(a, fd);
	}
}

static void begin_round(struct attempt *a)
{
	a->at = a->backends->next;
	a->looks = 0;
	a->err = 0;
	a->busy = false;
	a->round_ms = a->loop->now_ms;
	try_next(a);
}

static void limit_is_over(struct timer *timer)
{
	struct attempt *a = owner_of(timer, struct attempt, limit);
	int fd = forget_socket(a);

	if (fd < 0) { /* it has waited for one that was busy */
		begin_round(a);
		return;
	}
	close(fd);
	failed(a, -ETIMEDOUT);
	try_next(a);
}

static int begin(struct attempt *a)
{
	const struct backend *to = a->backend;
	int err;

	a->source.fd = socket(to->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->source.fd < 0)
		return -errno;
	put_on_trial(a);
	setsockopt(a->source.fd, SOL_SOCKET, SO_KEEPALIVE, &(int){ 1 }, sizeof(int));
	if (connect(a->source.fd, (const struct sockaddr *)&to->address, to->size) < 0 &&
	    errno != EINPROGRESS)
		err = -errno;
	else
		err = loop_add(a->loop, &a->source, EPOLLOUT);
	if (!err)
		err = loop_at(a->loop, &a->limit, a->loop->now_ms + CONNECT_MS);
	if (err)
		close(forget_socket(a));
	return err;
}

/* None of them took it: again, if one was busy, after a little while, and each time after a
 * longer one. */
static void end_round(struct attempt *a)
{
	uint64_t now = a->loop->now_ms;

	if (!a->busy) {
		a->done(a, a->err ? a->err : -EAGAIN); /* 0 would be a socket */
		return;
	}
	if (!a->until_ms)
		a->until_ms = now + CONNECT_MS;
	a->pause_ms = a->pause_ms < PAUSE_MS ? a->pause_ms + FIRST_PAUSE_MS : PAUSE_MS;
	if (now + a->pause_ms > a->until_ms || loop_at(a->loop, &a->limit, now + a->pause_ms))
		a->done(a, a->err == -EAGAIN ? -ETIMEDOUT : a->err);
}

static void try_next(struct attempt *a)
{
	while ((a->backend = choose(a))) {
		int err = begin(a);

		if (!err)
			return;
		failed(a, err);
	}
	end_round(a);
}

void attempt_start(struct attempt *a)
{
	a->source = (struct source){ -1, connected };
	a->limit.due = limit_is_over;
	a->until_ms = 0;
	a->pause_ms = 0;
	begin_round(a);
}

void attempt_stop(struct attempt *a)
{
	int fd = forget_socket(a);

	if (fd >= 0)
		close(fd);
}
