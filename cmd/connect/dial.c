/* SPDX-License-Identifier: MIT */
#include "dial.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "deadline.h"
#include "sys.h"

enum {
	DELAY_MS = 250,	   /* RFC 8305 section 5, Connection Attempt Delay */
	ATTEMPTS_MAX = 16, /* at a time; a name can have any number of addresses */
};

struct dial {
	int epoll;
	const struct target *target;
	size_t next;	       /* of its addresses, to be tried */
	struct deadline pause; /* until then, unless an attempt fails before */
	int fd[ATTEMPTS_MAX];  /* attempts under way */
	int n;
	int err; /* the first */
};

static int fail(struct dial *d, int err)
{
	if (!d->err)
		d->err = err;
	return d->err;
}

/* ---- attempts ---- */

static int open_socket(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	/* what is to be sent is sent: the other end waits for it */
	if (fd >= 0) {
		sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		sys_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){ 1 }, sizeof(int));
	}
	return fd < 0 ? -errno : fd;
}

static int begin(struct dial *d, const struct address *address)
{
	int fd = open_socket(address->at.any.sa_family);
	struct epoll_event event = { .events = EPOLLOUT, .data.fd = fd };

	if (fd < 0)
		return fd;
	if ((connect(fd, &address->at.any, address->size) < 0 && errno != EINPROGRESS) ||
	    epoll_ctl(d->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	d->fd[d->n++] = fd;
	return 0;
}

static void forget(struct dial *d, int fd)
{
	for (int i = 0; i < d->n; i++)
		if (d->fd[i] == fd)
			d->fd[i] = d->fd[--d->n];
	epoll_ctl(d->epoll, EPOLL_CTL_DEL, fd, NULL);
}

static bool can_begin(const struct dial *d)
{
	return d->next < d->target->count && d->n < ATTEMPTS_MAX;
}

/* The next addresses until one is under way. */
static void begin_next(struct dial *d)
{
	while (can_begin(d)) {
		int err;

		d->pause = deadline_in(DELAY_MS);
		err = begin(d, &d->target->list[d->next++]);
		if (!err)
			return;
		fail(d, err);
	}
}

/* ---- answers ---- */

/* fd has connected or failed: 0 or a negative errno. */
static int result_of(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);
	int failed = sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);

	return failed ? failed : -err;
}

/* The socket that connected, or -EAGAIN. */
static int look(struct dial *d)
{
	struct epoll_event events[ATTEMPTS_MAX];
	int n = epoll_wait(d->epoll, events, ATTEMPTS_MAX, 0);

	for (int i = 0; i < n; i++) {
		int fd = events[i].data.fd;
		int err = result_of(fd);

		forget(d, fd);
		if (!err)
			return fd;
		close(fd);
		fail(d, err);
		d->pause = deadline_in(0); /* the next one at once */
	}
	return -EAGAIN;
}

int dial_step(struct dial *d)
{
	int fd = look(d);

	if (fd != -EAGAIN)
		return fd;
	if (!d->n || !deadline_left(&d->pause))
		begin_next(d);
	return d->n ? -EAGAIN : d->err;
}

int dial_fd(const struct dial *d)
{
	return d->epoll;
}

int dial_wait(const struct dial *d)
{
	return can_begin(d) ? deadline_left(&d->pause) : -1;
}

/* ---- from start to end ---- */

int dial_start(struct dial **dial, const struct target *target)
{
	struct dial *d = calloc(1, sizeof(*d));
	int err;

	*dial = d;
	if (!d)
		return -ENOMEM;
	d->target = target;
	d->err = target->count ? 0 : -ENOENT;
	d->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (d->epoll >= 0)
		return 0;
	err = -errno;
	free(d);
	*dial = NULL;
	return err;
}

void dial_free(struct dial *d)
{
	if (!d)
		return;
	for (int i = 0; i < d->n; i++)
		close(d->fd[i]);
	close(d->epoll);
	free(d);
}
