/* SPDX-License-Identifier: MIT */
#include "gate.h"

enum { LEVEL_FATAL = 2 };

void gate_init(struct gate *g)
{
	pthread_mutex_init(&g->lock, NULL);
	atomic_init(&g->state, 0);
}

void gate_free(struct gate *g)
{
	pthread_mutex_destroy(&g->lock);
}

static unsigned owed(unsigned state)
{
	/* RFC 8446 section 6.1: nothing comes after close_notify */
	if (state & GATE_CLOSED)
		return 0;
	return state & (state & GATE_SHUT ? GATE_ALERT : GATE_ALERT | GATE_KEY_UPDATE);
}

unsigned gate_owes(struct gate *g)
{
	return owed(atomic_fetch_or(&g->state, 0)); /* see gate_leave */
}

bool gate_is_owing(const struct gate *g)
{
	return owed(atomic_load(&g->state));
}

/* ---- what is owed ---- */

static bool has_fatal(unsigned state)
{
	return state >> GATE_ALERT_SHIFT >> 8 == LEVEL_FATAL;
}

void gate_post_alert(struct gate *g, uint16_t alert, bool fatal)
{
	unsigned before = atomic_load(&g->state), after;

	do {
		after = before | (fatal ? GATE_SHUT : 0);
		if (!has_fatal(before))
			after = (after & ~GATE_ALERT) | (unsigned)alert << GATE_ALERT_SHIFT;
	} while (!atomic_compare_exchange_weak(&g->state, &before, after));
}

void gate_post_key_update(struct gate *g)
{
	atomic_fetch_or(&g->state, GATE_KEY_UPDATE);
}

uint16_t gate_alert(struct gate *g)
{
	return (uint16_t)(gate_owes(g) >> GATE_ALERT_SHIFT);
}

void gate_alert_sent(struct gate *g, uint16_t alert)
{
	unsigned before = atomic_load(&g->state);

	/* another one may have come meanwhile */
	while (before >> GATE_ALERT_SHIFT == alert &&
	       !atomic_compare_exchange_weak(&g->state, &before, before & ~GATE_ALERT))
		;
}

bool gate_take_key_update(struct gate *g)
{
	if (!(gate_owes(g) & GATE_KEY_UPDATE))
		return false;
	atomic_fetch_and(&g->state, ~(unsigned)GATE_KEY_UPDATE);
	return true;
}

/* ---- ends ---- */

void gate_shut(struct gate *g)
{
	atomic_fetch_or(&g->state, GATE_SHUT);
}

void gate_close(struct gate *g)
{
	atomic_fetch_or(&g->state, GATE_SHUT | GATE_CLOSED);
}

bool gate_is_shut(const struct gate *g)
{
	return atomic_load(&g->state) & GATE_SHUT;
}

bool gate_is_closed(const struct gate *g)
{
	return atomic_load(&g->state) & GATE_CLOSED;
}
