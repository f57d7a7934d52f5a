/* SPDX-License-Identifier: MIT */
#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "logfmt.h"
#include "sys.h"
#include "target.h"

enum {
	BACKLOG = 4096,
	PAUSE_MS = 100,
	CALM_MS = 1000,
};

static const uint64_t NEVER = UINT64_MAX;

/* ---- addresses ---- */

static int parse(const char *text, struct addrinfo **found, bool *any)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC,
					.ai_socktype = SOCK_STREAM,
					.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV };
	struct target target;
	int err = target_parse(&target, text);

	if (err)
		return err;
	*any = !target.host || !strcmp(target.host, "*");
	if (getaddrinfo(*any ? "::" : target.host, target.port, &hints, found))
		err = -EINVAL;
	target_free(&target);
	return err;
}

int listening_check(const char *text)
{
	struct addrinfo *found;
	bool any;
	int err = parse(text, &found, &any);

	if (!err)
		freeaddrinfo(found);
	return err;
}

/* What connections inherit. */
static void set_options(int fd)
{
	/* a peer that has vanished is noticed some time */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){ 1 }, sizeof(int));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 0 }, sizeof(int));
}

static int try_bind(const struct sockaddr *address, socklen_t len, bool both, bool share)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const int on = 1, only_ipv6 = !both;
	const struct timeval least = { .tv_usec = 1 };
	int err;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (share)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	/* another process that has it can make it block: not for long */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &least, sizeof(least));
	if (address->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_ipv6, sizeof(only_ipv6));
	set_options(fd);
	if (bind(fd, address, len) == 0 && (!share || listen(fd, BACKLOG) == 0))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* With SO_REUSEPORT somebody else's socket of the same user would not be noticed. */
static int claim(struct sockaddr *address, socklen_t len, bool both)
{
	int fd = try_bind(address, len, both, false);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int room_of(int fd)
{
	int room = 0;
	socklen_t size = sizeof(room);

	(void)!getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &size);
	return room;
}

static int open_all(struct listening *l, struct sockaddr *address, socklen_t len, unsigned count)
{
	int err = claim(address, len, l->both);

	for (unsigned i = 0; i < count && !err; i++) {
		l->fds[i] = try_bind(address, len, l->both, true);
		if (l->fds[i] < 0)
			return l->fds[i];
		l->count++;
		l->room = room_of(l->fds[i]);
		/* port 0: the others take the port that the first was given */
		if (getsockname(l->fds[i], address, &len) < 0)
			err = -errno;
	}
	memcpy(&l->at, address, len);
	l->size = len;
	return err;
}

static const char *bind_error(int err)
{
	switch (err) {
	case -EADDRINUSE:
		return "the port is in use";
	case -EADDRNOTAVAIL:
		return "no such address on this machine";
	case -EACCES:
		return "ports below 1024 are for root (CAP_NET_BIND_SERVICE)";
	case -EINVAL:
		return "a link-local address wants its interface: [fe80::1%eth0]:PORT";
	default:
		return strerror(-err);
	}
}

int listening_open(struct listening *l, const char *text, unsigned count, char *error, size_t size)
{
	struct sockaddr_in all = { .sin_family = AF_INET };
	struct sockaddr *address;
	struct addrinfo *found;
	bool any;
	int err = parse(text, &found, &any);

	if (err) {
		snprintf(error, size, "listen %s: ADDRESS:PORT is wanted, the address in digits",
			 text);
		return err;
	}
	*l = (struct listening){ .text = strdup(text),
				 .fds = calloc(count, sizeof(int)),
				 .both = any };
	address = found->ai_addr;
	err = l->text && l->fds ? open_all(l, address, found->ai_addrlen, count) : -ENOMEM;
	if (any && (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL)) { /* no IPv6 here */
		all.sin_port = ((struct sockaddr_in6 *)(void *)address)->sin6_port;
		address = (struct sockaddr *)&all;
		err = open_all(l, address, sizeof(all), count);
	}
	address_text(address, l->address);
	freeaddrinfo(found);
	if (err) {
		snprintf(error, size, "listen %s: %s", text, bind_error(err));
		listening_close(l);
	}
	return err;
}

int listening_status(int err)
{
	return err == -EINVAL ? EXIT_USAGE : err == -ENOMEM ? EXIT_FAILED : EXIT_LISTEN;
}

void listening_announce(const struct listening *l, size_t n)
{
	for (; n; l++, n--) {
		struct logline line;

		log_begin(&line, "listening");
		log_text(&line, "addr", l->address);
		log_end(&line);
	}
}

int listening_take(struct listening *l, unsigned index)
{
	int fd = l->fds[index];

	l->fds[index] = -1;
	return fd;
}

/* A port that the kernel had chosen is another one after shutdown(2). */
static bool is_there(const struct listening *l, int fd)
{
	struct sockaddr_storage at;
	socklen_t size = sizeof(at);

	return getsockname(fd, (struct sockaddr *)&at, &size) == 0 && size == l->size &&
	       !memcmp(&at, &l->at, size);
}

static int mend(struct listening *l, unsigned index)
{
	int fd = l->fds[index], half = l->room / 2; /* the kernel doubles it: socket(7) */

	set_options(fd);
	if (room_of(fd) != l->room)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &half, sizeof(half));
	if (fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && listen(fd, BACKLOG) == 0 && is_there(l, fd))
		return 0;
	fd = try_bind((const struct sockaddr *)&l->at, l->size, l->both, true);
	if (fd < 0)
		return fd;
	close(l->fds[index]);
	l->fds[index] = fd;
	return 1;
}

int listening_mend(struct listening *l)
{
	int all = 0;

	for (unsigned i = 0; i < l->count; i++) {
		int one = l->fds[i] < 0 ? 0 : mend(l, i);

		if (!all || one < 0)
			all = one;
	}
	return all;
}

void listening_close(struct listening *l)
{
	while (l->count)
		if (l->fds[--l->count] >= 0)
			close(l->fds[l->count]);
	free(l->fds);
	free(l->text);
	*l = (struct listening){ 0 };
}

/* ---- accepting ---- */

/* That a socket was shut down is told whether one asks or not (epoll_ctl(2)); like this once. */
static void watch(struct listener *l)
{
	loop_change(l->loop, &l->source, l->held || l->pausing ? EPOLLET : EPOLLIN);
}

/* Its place in the loop is kept from the start: it can't fail. */
static void set_timer(struct listener *l, uint64_t at_ms)
{
	(void)!loop_at(l->loop, &l->pause, at_ms);
}

static void tell_shortage(int err)
{
	struct logline line;

	log_begin(&line, "accept");
	log_text(&line, "state", "short");
	log_text(&line, "error", strerror(-err));
	log_end(&line);
}

static void shortage_is_over(struct listener *l)
{
	struct logline line;

	log_begin(&line, "accept");
	log_text(&line, "state", "over");
	log_number(&line, "pauses", l->pauses);
	log_number(&line, "ms", l->resumed_ms - l->short_ms);
	log_end(&line);
	l->pauses = 0;
}

/* After a pause: it is over when somebody has come in and nothing was short for a while. */
static void pause_over(struct timer *timer)
{
	struct listener *l = owner_of(timer, struct listener, pause);
	bool over = !l->pausing && l->took;

	set_timer(l, over ? NEVER : l->loop->now_ms + CALM_MS);
	if (over)
		shortage_is_over(l);
	if (!l->pausing)
		return;
	l->pausing = false;
	l->resumed_ms = l->loop->now_ms;
	watch(l);
}

/* Nothing to accept with: EMFILE, ENFILE, ENOBUFS, ENOMEM. It passes. */
static void take_a_pause(struct listener *l, int err)
{
	if (!l->pauses++) {
		l->short_ms = l->loop->now_ms;
		tell_shortage(err);
	}
	l->took = false;
	l->pausing = true;
	set_timer(l, l->loop->now_ms + PAUSE_MS);
	watch(l);
}

void listener_rest(struct listener *l, int err)
{
	bool shortage = err == -EMFILE || err == -ENFILE || err == -ENOBUFS || err == -ENOMEM;

	if (shortage && !l->pausing && l->source.fd >= 0)
		take_a_pause(l, err);
}

/* accept(2): errors of the connection itself, which is gone. */
static bool is_of_connection(int err)
{
	switch (err) {
	case -EINTR:
	case -ECONNABORTED:
	case -EPROTO:
	case -EPERM:
	case -ENETDOWN:
	case -ENOPROTOOPT:
	case -EHOSTDOWN:
	case -ENONET:
	case -EHOSTUNREACH:
	case -EOPNOTSUPP:
	case -ENETUNREACH:
		return true;
	default:
		return false;
	}
}

/* One in a turn: the kernel makes a socket before it looks whether there is another. */
static void accept_one(struct source *source, uint32_t events)
{
	struct listener *l = owner_of(source, struct listener, source);
	struct peer peer = { .began_ms = l->loop->now_ms };
	socklen_t len = sizeof(peer.address);
	int fd;

	(void)events;
	if (l->held || l->pausing)
		return;
	fd = sys_accept(source->fd, &peer.address.any, &len);
	l->took |= fd >= 0;
	if (fd >= 0)
		l->accepted(l->arg, fd, &peer);
	else if (fd != -EAGAIN && !is_of_connection(fd))
		take_a_pause(l, fd);
}

int listener_start(struct listener *l)
{
	int err;

	l->source.ready = accept_one;
	l->pause.due = pause_over;
	err = loop_at(l->loop, &l->pause, NEVER);
	return err ? err : loop_add(l->loop, &l->source, EPOLLIN);
}

void listener_hold(struct listener *l)
{
	if (l->held || l->source.fd < 0)
		return;
	l->held = true;
	watch(l);
}

void listener_go_on(struct listener *l)
{
	if (!l->held || l->source.fd < 0)
		return;
	l->held = false;
	watch(l);
}

void listener_stop(struct listener *l)
{
	if (l->source.fd < 0)
		return;
	loop_cancel(l->loop, &l->pause);
	loop_remove(l->loop, &l->source);
	close(l->source.fd);
	l->source.fd = -1;
}
