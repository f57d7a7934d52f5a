/* SPDX-License-Identifier: MIT */
#include "loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "logfmt.h"

enum { LOG_MS = 20 }; /* until stderr is tried again */

static uint64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int loop_open(struct loop *loop)
{
	memset(loop, 0, sizeof(*loop));
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->now_ms = clock_ms();
	return loop->epoll < 0 ? -errno : 0;
}

void loop_close(struct loop *loop)
{
	close(loop->epoll);
	free(loop->timers);
	memset(loop, 0, sizeof(*loop));
	loop->epoll = -1;
}

/* ---- sources ---- */

static int control(struct loop *loop, int op, struct source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	return epoll_ctl(loop->epoll, op, source->fd, &event) < 0 ? -errno : 0;
}

int loop_add(struct loop *loop, struct source *source, uint32_t events)
{
	return control(loop, EPOLL_CTL_ADD, source, events);
}

int loop_change(struct loop *loop, struct source *source, uint32_t events)
{
	return control(loop, EPOLL_CTL_MOD, source, events);
}

void loop_remove(struct loop *loop, struct source *source)
{
	control(loop, EPOLL_CTL_DEL, source, 0);
	for (int i = 0; i < loop->batch_size; i++)
		if (loop->batch[i].data.ptr == source)
			loop->batch[i].data.ptr = NULL;
}

/* ---- timers: a binary heap, the next one at place 1 ---- */

static struct timer **slot(struct loop *loop, uint32_t place)
{
	return &loop->timers[place - 1];
}

static void put(struct loop *loop, uint32_t place, struct timer *timer)
{
	*slot(loop, place) = timer;
	timer->place = place;
}

static void rise(struct loop *loop, struct timer *timer)
{
	uint32_t place = timer->place;

	for (; place > 1 && (*slot(loop, place / 2))->at_ms > timer->at_ms; place /= 2)
		put(loop, place, *slot(loop, place / 2));
	put(loop, place, timer);
}

static void sink(struct loop *loop, struct timer *timer)
{
	uint32_t place = timer->place, child;

	for (; (child = 2 * place) <= loop->n_timers; place = child) {
		if (child < loop->n_timers &&
		    (*slot(loop, child + 1))->at_ms < (*slot(loop, child))->at_ms)
			child++;
		if ((*slot(loop, child))->at_ms >= timer->at_ms)
			break;
		put(loop, place, *slot(loop, child));
	}
	put(loop, place, timer);
}

static int make_room(struct loop *loop)
{
	uint32_t room = loop->room ? 2 * loop->room : 64;
	struct timer **timers;

	if (loop->n_timers < loop->room)
		return 0;
	timers = reallocarray(loop->timers, room, sizeof(struct timer *));
	if (!timers)
		return -ENOMEM;
	loop->timers = timers;
	loop->room = room;
	return 0;
}

int loop_at(struct loop *loop, struct timer *timer, uint64_t at_ms)
{
	timer->at_ms = at_ms;
	if (!timer->place) {
		if (make_room(loop))
			return -ENOMEM;
		put(loop, ++loop->n_timers, timer);
	}
	rise(loop, timer);
	sink(loop, timer);
	return 0;
}

void loop_cancel(struct loop *loop, struct timer *timer)
{
	uint32_t place = timer->place;
	struct timer *last;

	if (!place)
		return;
	timer->place = 0;
	last = *slot(loop, loop->n_timers--);
	if (last == timer)
		return;
	put(loop, place, last);
	rise(loop, last);
	sink(loop, last);
}

/* Each once: one that sets itself again waits for the sources' turn. */
static void run_timers(struct loop *loop)
{
	while (loop->n_timers && !loop->stopped) {
		struct timer *timer = *slot(loop, 1);

		if (timer->at_ms > loop->now_ms || timer->turn == loop->turn)
			break;
		loop_cancel(loop, timer);
		timer->turn = loop->turn;
		timer->due(timer);
	}
}

/* ---- running ---- */

static int patience(struct loop *loop)
{
	uint64_t most = log_flush() ? 3600000 : LOG_MS, at;

	if (!loop->n_timers)
		return (int)most;
	at = (*slot(loop, 1))->at_ms;
	if (at <= loop->now_ms)
		return 0;
	return at - loop->now_ms > most ? (int)most : (int)(at - loop->now_ms);
}

static void run_sources(struct loop *loop)
{
	for (int i = 0; i < loop->batch_size && !loop->stopped; i++) {
		struct source *source = loop->batch[i].data.ptr;

		if (source)
			source->ready(source, loop->batch[i].events);
	}
	loop->batch_size = 0;
}

int loop_run(struct loop *loop)
{
	const int most = sizeof(loop->batch) / sizeof(loop->batch[0]);

	loop->stopped = false;
	while (!loop->stopped) {
		int n = epoll_wait(loop->epoll, loop->batch, most, patience(loop));

		if (n < 0 && errno != EINTR)
			return -errno;
		loop->batch_size = n < 0 ? 0 : n;
		loop->now_ms = clock_ms();
		loop->turn++;
		run_sources(loop);
		run_timers(loop);
	}
	log_finish();
	return 0;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}
