/*
 * The event loop: one per process, epoll and timers.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_LOOP_H
#define TLSFD_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

/* The struct of this type whose member ptr points to. */
#define owner_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* A file descriptor that is watched; part of its owner. */
struct source {
	int fd;
	void (*ready)(struct source *source, uint32_t events);
};

/* A moment; part of its owner. All zero but due: not set. */
struct timer {
	void (*due)(struct timer *timer);
	uint64_t at_ms;
	uint32_t place; /* in the heap, from 1; 0: not set */
	uint32_t turn;	/* of the loop, when it was last due */
};

struct loop {
	int epoll;
	bool stopped;
	uint64_t now_ms; /* CLOCK_MONOTONIC when the last wait was over */
	uint32_t turn;
	struct timer **timers;
	uint32_t n_timers, room;
	struct epoll_event batch[64];
	int batch_size;
};

/* 0 or a negative errno. */
int loop_open(struct loop *loop);
/* Sources and timers stay their owners'. */
void loop_close(struct loop *loop);

/* events: of epoll(7), EPOLLET too. 0 or a negative errno; -EPERM: a regular file. */
int loop_add(struct loop *loop, struct source *source, uint32_t events);
int loop_change(struct loop *loop, struct source *source, uint32_t events);
/* Before the fd is closed. ready isn't called any more, and the owner may be freed. */
void loop_remove(struct loop *loop, struct source *source);

/* Sets the timer, or moves it; a moment that has passed is the loop's next turn. 0 or
 * -ENOMEM (never for a timer that is set). */
int loop_at(struct loop *loop, struct timer *timer, uint64_t at_ms);
void loop_cancel(struct loop *loop, struct timer *timer);

/* Until loop_stop: 0, or the negative errno of epoll_wait. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

#endif
