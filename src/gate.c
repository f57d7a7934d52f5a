/* SPDX-License-Identifier: MIT */
#include "gate.h"

bool gate_post_alert(struct gate *g, uint16_t alert, bool fatal)
{
	unsigned bits = GATE_ALERT | (fatal ? GATE_SHUT : 0);

	atomic_store(&g->alert, alert);
	return !(atomic_fetch_or(&g->state, bits) & GATE_INSIDE);
}

uint16_t gate_take_alert(struct gate *g)
{
	unsigned before = atomic_fetch_and(&g->state, ~(unsigned)GATE_ALERT);

	/* RFC 8446 section 6.1: nothing comes after close_notify */
	return before & GATE_ALERT && !(before & GATE_CLOSED) ? atomic_load(&g->alert) : 0;
}

void gate_put_back_alert(struct gate *g)
{
	atomic_fetch_or(&g->state, GATE_ALERT);
}

bool gate_has_alert(const struct gate *g)
{
	return atomic_load(&g->state) & GATE_ALERT;
}

void gate_shut(struct gate *g)
{
	atomic_fetch_or(&g->state, GATE_SHUT);
}

void gate_close(struct gate *g)
{
	atomic_fetch_or(&g->state, GATE_SHUT | GATE_CLOSED);
}

bool gate_is_closed(const struct gate *g)
{
	return atomic_load(&g->state) & GATE_CLOSED;
}
