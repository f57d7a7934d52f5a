/* SPDX-License-Identifier: MIT */
#include "entrance.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "endpoint.h"
#include "logfmt.h"
#include "target.h"

enum {
	TAKE_MAX = 32, /* of one entrance, before others have their turn */
	PAUSE_MS = 100,
};

/* ---- taking ---- */

static bool is_shortage(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

void entrances_rest(struct entrances *set, int err)
{
	if (set->closed || !is_shortage(-err))
		return;
	log_error("accept", "%s; none are taken for %d ms", strerrordesc_np(-err), PAUSE_MS);
	entrances_close(set);
	loop_at(set->loop, &set->pause, set->loop->now_ms + PAUSE_MS);
}

static void take(struct source *source, uint32_t events)
{
	struct entrances *set = owner_of(source, struct entrance, source)->set;

	(void)events;
	for (int i = 0; i < TAKE_MAX && !set->closed; i++) {
		int fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
			set->taken(set, fd);
		else if (is_shortage(errno))
			entrances_rest(set, -errno);
		else if (errno == EAGAIN)
			return;
		/* else it went away while it waited (ECONNABORTED, accept(2)) */
	}
}

static void rested(struct timer *timer)
{
	entrances_open(owner_of(timer, struct entrances, pause));
}

int entrances_open(struct entrances *set)
{
	int err = 0;

	loop_cancel(set->loop, &set->pause);
	set->pause.due = rested;
	for (unsigned i = 0; i < set->n && !err && set->closed; i++)
		err = loop_add(set->loop, &set->at[i].source, EPOLLIN);
	set->closed = set->closed && err;
	return err;
}

void entrances_close(struct entrances *set)
{
	loop_cancel(set->loop, &set->pause);
	for (unsigned i = 0; i < set->n && !set->closed; i++)
		loop_remove(set->loop, &set->at[i].source);
	set->closed = true;
}

void entrances_free(struct entrances *set)
{
	entrances_close(set);
	while (set->n)
		close(set->at[--set->n].source.fd);
}

/* ---- addresses ---- */

static int open_socket(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (a->ai_family == AF_INET6) /* IPv4 has a socket of its own */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 1 }, sizeof(int));
	if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static int add_one(struct entrances *set, const struct addrinfo *a)
{
	int fd = set->n < ENTRANCES_MAX ? open_socket(a) : -E2BIG;

	if (fd < 0)
		return fd;
	set->closed = true;
	set->at[set->n++] = (struct entrance){ { fd, take }, set };
	return 0;
}

/* A machine without IPv6 still has ":8080". */
static int add_all(struct entrances *set, const struct addrinfo *list)
{
	int added = 0, err = 0;

	for (; list; list = list->ai_next) {
		int one = add_one(set, list);

		added += !one;
		if (one && one != -EAFNOSUPPORT && one != -EADDRNOTAVAIL)
			return one;
		err = one ? one : err;
	}
	return added ? 0 : err;
}

static int fail(struct entrances *set, int err, const char *address, const char *why)
{
	snprintf(set->error, sizeof(set->error), "%.150s: %s", address, why);
	return err;
}

int entrances_add(struct entrances *set, const char *address)
{
	const struct addrinfo want = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	struct target target;
	struct addrinfo *list;
	int err = target_parse(&target, address);

	if (err)
		return fail(set, err, address, "ADDRESS:PORT is wanted, or :PORT");
	err = getaddrinfo(target.host, target.port, &want, &list);
	target_free(&target);
	if (err)
		return fail(set, -EINVAL, address, gai_strerror(err));
	err = add_all(set, list);
	freeaddrinfo(list);
	return err ? fail(set, err, address, strerrordesc_np(-err)) : 0;
}

void entrances_announce(const struct entrances *set)
{
	char text[ENDPOINT_SIZE];

	for (unsigned i = 0; i < set->n; i++) {
		struct logline line;

		log_begin(&line, "listening");
		log_text(&line, "addr", endpoint_local(set->at[i].source.fd, text));
		log_end(&line);
	}
}
