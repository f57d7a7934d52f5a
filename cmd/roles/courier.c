/* SPDX-License-Identifier: MIT */
#include "courier.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

enum {
	EVENTS = EPOLLIN | EPOLLET,
	RETRY_MS = 20,
	PATIENCE_MS = 10000, /* then a connection is given up */
};

struct parcel {
	struct parcel *next;
	struct tlsfd *c;
	struct passed passed;
	uint64_t until_ms;
};

static void append(struct courier *k, struct parcel *p)
{
	p->next = NULL;
	*k->last = p;
	k->last = &p->next;
	k->waiting++;
}

static struct parcel *remove_first(struct courier *k)
{
	struct parcel *p = k->first;

	k->first = p->next;
	if (!k->first)
		k->last = &k->first;
	k->waiting--;
	return p;
}

/* Passes with time: room in the channel, pipes, file descriptors in flight (unix(7)). */
static bool will_pass(int err)
{
	switch (err) {
	case -EAGAIN:
	case -ENOBUFS:
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
	case -ETOOMANYREFS:
		return true;
	default:
		return false;
	}
}

/* The socket of a connection that was passed is still open here. */
static int send_parcel(struct courier *k, struct parcel *p)
{
	int err, fd = tlsfd_fd(p->c);
	bool announced = k->announced == p;

	p->passed.number = k->sent == UINT32_MAX ? 1 : k->sent + 1; /* 0: none */
	err = channel_pass(k->source.fd, &p->c, &p->passed, &announced);
	if (announced)
		k->announced = p;
	if (err)
		return err;
	close(fd);
	k->sent = p->passed.number;
	return 0;
}

static void free_parcel(struct courier *k, struct parcel *p)
{
	if (k->announced == p)
		k->announced = NULL;
	free(p);
}

static void keep(struct courier *k, const struct parcel *p, int err)
{
	k->kept(k->arg, p->c, &p->passed.peer, err);
}

static bool channel_has_room(const struct courier *k)
{
	struct pollfd p = { .fd = k->source.fd, .events = POLLOUT };

	return poll(&p, 1, 0) == 1 && p.revents & POLLOUT;
}

/* Each message that the other side takes makes room: that wakes us only while we want it. */
static void want_room(struct courier *k)
{
	bool want = k->waiting > 0;

	if (want != k->wants_room)
		loop_change(k->loop, &k->source, want ? EVENTS | EPOLLOUT : EVENTS);
	k->wants_room = want;
}

/* Each of them once: one that waits for its own peer doesn't hold up the others. */
static void send_waiting(struct courier *k)
{
	for (unsigned n = k->waiting; n && k->first; n--) {
		struct parcel *p = k->first;
		int err = send_parcel(k, p);

		if (will_pass(err) && p->until_ms > k->loop->now_ms) {
			if (!channel_has_room(k))
				break;
			append(k, remove_first(k));
			continue;
		}
		remove_first(k);
		if (err)
			keep(k, p, err);
		free_parcel(k, p);
	}
	if (k->waiting)
		loop_at(k->loop, &k->retry, k->loop->now_ms + RETRY_MS);
	want_room(k);
}

static void on_retry(struct timer *timer)
{
	struct courier *k = owner_of(timer, struct courier, retry);

	send_waiting(k);
	k->changed(k->arg);
}

static int hear(struct courier *k)
{
	int err = channel_hear(k->source.fd, &k->tally);

	/* it has just begun: nothing is known of what is on the way */
	if (err >= 0 && !k->tally.seen)
		k->tally.seen = k->sent;
	if (err > 0)
		loop_at(k->loop, &k->more, k->loop->now_ms);
	return err;
}

static void on_more(struct timer *timer)
{
	struct courier *k = owner_of(timer, struct courier, more);

	hear(k);
	k->changed(k->arg);
}

static void on_channel(struct source *source, uint32_t events)
{
	struct courier *k = owner_of(source, struct courier, source);
	int err = hear(k);

	if (events & (EPOLLHUP | EPOLLERR) && err == -EPIPE)
		loop_remove(k->loop, &k->source);
	if (events & EPOLLOUT)
		send_waiting(k);
	k->changed(k->arg);
}

/* Somewhere: what the data process says of numbers of those before is not of ours. */
int courier_start(struct courier *k, int channel)
{
	(void)!getrandom(&k->base, sizeof(k->base), GRND_NONBLOCK);
	k->sent = k->base;
	k->last = &k->first;
	k->retry.due = on_retry;
	k->more.due = on_more;
	k->source = (struct source){ channel, on_channel };
	return loop_add(k->loop, &k->source, EVENTS);
}

void courier_bring(struct courier *k, struct tlsfd *c, const struct peer *peer)
{
	struct parcel *p = calloc(1, sizeof(*p));
	struct parcel local = { .c = c, .passed.peer = *peer };

	if (!p) {
		keep(k, &local, -ENOMEM);
		return;
	}
	*p = local;
	p->until_ms = k->loop->now_ms + PATIENCE_MS;
	append(k, p);
	send_waiting(k);
}

void courier_stop(struct courier *k)
{
	while (k->first) {
		struct parcel *p = remove_first(k);

		keep(k, p, -ECANCELED);
		free_parcel(k, p);
	}
}

unsigned courier_load(const struct courier *k)
{
	uint32_t sent = k->sent - k->base, seen = k->tally.seen - k->base;

	return k->tally.held + (seen <= sent ? sent - seen : sent);
}
