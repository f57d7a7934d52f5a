/*
 * The way out of a connection: for one writer, and for the reader, who has to answer
 * a bad record with an alert. Nobody waits: an alert that finds the writer inside is
 * left for it to send. (The kernel would make the reader wait for as long as a
 * blocked writer does: tls_sw_sendmsg holds tx_lock.)
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_GATE_H
#define TLSFD_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	GATE_INSIDE = 1, /* the writer is in a call */
	GATE_SHUT = 2,	 /* no data any more */
	GATE_ALERT = 4,	 /* an alert waits to be sent */
	GATE_CLOSED = 8, /* close_notify was sent: no alert any more either */
};

struct gate {
	atomic_uint state;
	_Atomic uint16_t alert; /* level and number */
};

/* Lets the writer in; false: the gate is shut. gate_leave follows either way. */
static inline bool gate_enter(struct gate *g)
{
	return !(atomic_fetch_or(&g->state, GATE_INSIDE) & GATE_SHUT);
}

/* True: an alert has come meanwhile, the writer sends it. */
static inline bool gate_leave(struct gate *g)
{
	return atomic_fetch_and(&g->state, ~(unsigned)GATE_INSIDE) & GATE_ALERT;
}

/* The reader's: an alert to send; fatal: and no data after it. True: the reader
 * sends it, false: the writer will. */
bool gate_post_alert(struct gate *g, uint16_t alert, bool fatal);

/* The alert to send, 0: none any more. Only one caller gets it. */
uint16_t gate_take_alert(struct gate *g);
void gate_put_back_alert(struct gate *g);
bool gate_has_alert(const struct gate *g);

void gate_shut(struct gate *g);
void gate_close(struct gate *g); /* close_notify has been sent */
bool gate_is_closed(const struct gate *g);

#endif
