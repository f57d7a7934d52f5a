/* SPDX-License-Identifier: MIT */
#include "target.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the text ---- */

/* The size of the host's part, brackets included; or -EINVAL. */
static ssize_t host_size(const char *text)
{
	const char *end = text[0] == '[' ? strchr(text, ']') : strchr(text, ':');

	if (end && text[0] == '[')
		end++;
	/* a second colon: an IPv6 address without brackets, whose port nobody can tell */
	if (!end || end[0] != ':' || strchr(end + 1, ':') || !strncmp(text, "[]", 2))
		return -EINVAL;
	return end - text;
}

/* A number or the name of a service; getaddrinfo would take 65536 for 0. */
static bool is_port(const char *text)
{
	return *text && (text[strspn(text, "0123456789")] ||
			 (strlen(text) <= 5 && atoi(text) <= UINT16_MAX));
}

int target_parse(struct target *target, const char *text)
{
	size_t bracket = text[0] == '[';
	ssize_t size = host_size(text);

	*target = (struct target){ 0 };
	if (size < 0 || !is_port(text + size + 1))
		return -EINVAL;
	if (size)
		target->host = strndup(text + bracket, (size_t)size - 2 * bracket);
	target->port = strdup(text + size + 1);
	if ((target->host || !size) && target->port)
		return 0;
	target_free(target);
	return -ENOMEM;
}

void target_free(struct target *target)
{
	free(target->host);
	free(target->port);
	if (target->list)
		freeaddrinfo(target->list);
	*target = (struct target){ 0 };
}

/* ---- the order ---- */

/* Takes the next address of (or not of) a family out of the list. */
static struct addrinfo *take(struct addrinfo **list, int family, bool same)
{
	struct addrinfo *found;

	while (*list && ((*list)->ai_family == family) != same)
		list = &(*list)->ai_next;
	found = *list;
	if (found)
		*list = found->ai_next;
	return found;
}

/* RFC 8305 section 4: the families in turn, first that of the resolver's first choice
 * (RFC 6724), so that one of them being broken costs one delay. */
static struct addrinfo *interleave(struct addrinfo *list)
{
	struct addrinfo *ordered = NULL, **end = &ordered;
	int family = list->ai_family;

	for (bool same = true; list; same = !same) {
		struct addrinfo *next = take(&list, family, same);

		if (!next)
			next = take(&list, family, !same);
		*end = next;
		end = &next->ai_next;
		*end = NULL;
	}
	return ordered;
}

/* ---- the question ---- */

/* Belongs to the thread that asks; getaddrinfo knows no deadline. */
struct question {
	char *host, *port;
	int family;
	struct addrinfo *list;
	int status, err;
};

static void question_free(struct question *q)
{
	if (!q)
		return;
	free(q->host);
	free(q->port);
	if (q->list)
		freeaddrinfo(q->list);
	free(q);
}

static struct question *question_new(const struct target *target, int family)
{
	struct question *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->family = family;
	q->host = strdup(target->host);
	q->port = strdup(target->port);
	if (q->host && q->port)
		return q;
	question_free(q);
	return NULL;
}

static void *ask(void *arg)
{
	struct question *q = arg;
	const struct addrinfo want = { .ai_family = q->family, .ai_socktype = SOCK_STREAM };

	q->status = getaddrinfo(q->host, q->port, &want, &q->list);
	q->err = q->status == EAI_SYSTEM ? errno : 0;
	return q;
}

static int answer(struct target *target, struct question *q)
{
	if (!q->status) {
		target->list = interleave(q->list);
		q->list = NULL;
		return 0;
	}
	if (q->status == EAI_MEMORY)
		return -ENOMEM;
	target->error = q->err ? strerrordesc_np(q->err) : gai_strerror(q->status);
	return -ENOENT;
}

static int join(pthread_t thread, const struct deadline *deadline)
{
	struct timespec at = { deadline->at / 1000, deadline->at % 1000 * 1000000 };

	if (deadline->at < 0)
		return -pthread_join(thread, NULL);
	return -pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &at);
}

int target_resolve(struct target *target, int family, const struct deadline *deadline)
{
	struct question *q = question_new(target, family);
	pthread_t thread;
	int err;

	if (!q)
		return -ENOMEM;
	err = -pthread_create(&thread, NULL, ask, q);
	if (err) {
		question_free(q);
		return err;
	}
	err = join(thread, deadline);
	if (err) {
		pthread_detach(thread); /* q is the thread's, for good */
		return err;
	}
	err = answer(target, q);
	question_free(q);
	return err;
}
