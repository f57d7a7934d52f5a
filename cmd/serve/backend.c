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
	DOWN_MS = 5000, /* before it is tried again */
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
}

/* The next one in turn that is up, or, if none is, the next one. */
static size_t choose(struct backends *b, uint64_t now_ms)
{
	size_t chosen = b->next;

	for (size_t i = 0; i < b->count; i++) {
		size_t index = (b->next + i) % b->count;

		if (b->at[index].down_until_ms <= now_ms) {
			chosen = index;
			break;
		}
	}
	b->next = chosen + 1 < b->count ? chosen + 1 : 0;
	return chosen;
}

/* ---- attempts ---- */

static void try_next(struct attempt *a);

static int forget_socket(struct attempt *a)
{
	int fd = a->source.fd;

	if (fd >= 0)
		loop_remove(a->loop, &a->source);
	loop_cancel(a->loop, &a->limit);
	a->source.fd = -1;
	return fd;
}

static void failed(struct attempt *a, int err)
{
	is_down(&a->backends->at[a->index], a->loop->now_ms, err);
	if (++a->tries < a->backends->count)
		try_next(a);
	else
		a->done(a, err);
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
	} else {
		is_up(&a->backends->at[a->index]);
		a->done(a, fd);
	}
}

static void too_late(struct timer *timer)
{
	struct attempt *a = owner_of(timer, struct attempt, limit);

	close(forget_socket(a));
	failed(a, -ETIMEDOUT);
}

/* 0: connected or on the way. A Unix socket whose queue is full says EAGAIN. */
static int begin(struct attempt *a, const struct backend *backend)
{
	int err;

	a->source.fd =
		socket(backend->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->source.fd < 0)
		return -errno;
	if (connect(a->source.fd, (const struct sockaddr *)&backend->address, backend->size) < 0 &&
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

static void try_next(struct attempt *a)
{
	int err;

	a->index = choose(a->backends, a->loop->now_ms);
	err = begin(a, &a->backends->at[a->index]);
	if (err)
		failed(a, err);
}

void attempt_start(struct attempt *a)
{
	a->source = (struct source){ -1, connected };
	a->limit.due = too_late;
	a->tries = 0;
	try_next(a);
}

void attempt_stop(struct attempt *a)
{
	int fd = forget_socket(a);

	if (fd >= 0)
		close(fd);
}
