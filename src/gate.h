/*
 * The way out of a connection: a lock around everything that is sent, and what is owed
 * to the peer: an alert, an answer to KeyUpdate.
 *
 * The writer locks, and may block inside; the reader, who finds what is owed, only
 * tries. (The kernel would make it wait for as long as a blocked writer does:
 * tls_sw_sendmsg holds tx_lock.) Either the try succeeds or whoever is inside sees, as
 * it leaves, what the reader has posted before.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_GATE_H
#define TLSFD_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	GATE_SHUT = 1,	     /* no data any more */
	GATE_CLOSED = 2,     /* close_notify was sent: nothing any more */
	GATE_KEY_UPDATE = 4, /* owed: an answer to the peer's KeyUpdate */
	GATE_ALERT_SHIFT = 16,
};
#define GATE_ALERT (0xffffU << GATE_ALERT_SHIFT) /* owed: an alert, level and number */

struct gate {
	pthread_mutex_t lock;
	atomic_uint state;
};

void gate_init(struct gate *g);
void gate_free(struct gate *g);

/* What is owed: GATE_ALERT bits, GATE_KEY_UPDATE; nothing after close_notify, and only an
 * alert once the gate is shut. */
unsigned gate_owes(struct gate *g);

/* The writer's. Returns the state: 0, nothing stands in the way of data. */
static inline unsigned gate_enter(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	return atomic_load_explicit(&g->state, memory_order_relaxed);
}

/* Anybody's; gate_leave follows if it is true. */
static inline bool gate_try(struct gate *g)
{
	return pthread_mutex_trylock(&g->lock) == 0;
}

/* Returns what gate_owes does. It changes nothing in the state but has to be a
 * read-modify-write: whoever posts after it also tries after the unlocking. */
static inline unsigned gate_leave(struct gate *g)
{
	pthread_mutex_unlock(&g->lock);
	return atomic_fetch_or(&g->state, 0) ? gate_owes(g) : 0;
}

/* Fatal ones shut the gate; the first of them stays, a warning gives way. */
void gate_post_alert(struct gate *g, uint16_t alert, bool fatal);
void gate_post_key_update(struct gate *g);

/* For who is inside: the alert to send, 0: none; then that it was sent. */
uint16_t gate_alert(struct gate *g);
void gate_alert_sent(struct gate *g, uint16_t alert);
/* True: an answer is owed, and the caller sends it (or posts it again). */
bool gate_take_key_update(struct gate *g);

void gate_shut(struct gate *g);
void gate_close(struct gate *g); /* close_notify has been sent */
bool gate_is_owing(const struct gate *g);
bool gate_is_shut(const struct gate *g);
bool gate_is_closed(const struct gate *g);

#endif
