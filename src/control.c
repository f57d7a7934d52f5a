/* SPDX-License-Identifier: MIT */
#include "control.h"

#include <time.h>

#include "ktls.h"
#include "tickets.h"

enum {
	MESSAGE_HELLO_REQUEST = 0,
	MESSAGE_CLIENT_HELLO = 1,
	MESSAGE_NEW_SESSION_TICKET = 4,
};
enum { TICKET_MAX = 131338 }; /* as far as its fields go, and OpenSSL */

static enum control_verdict wrong(struct control *c, enum alert answer)
{
	c->alert = answer;
	return CONTROL_WRONG;
}

/* ---- the budget ---- */

static void give_back(struct control *c, uint64_t units)
{
	c->spent -= units < c->spent ? (uint32_t)units : c->spent;
}

bool control_spend(struct control *c, uint32_t cost)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	give_back(c, (uint64_t)((uint32_t)now.tv_sec - c->paid_at) * CONTROL_SECOND_PAYS);
	c->paid_at = (uint32_t)now.tv_sec;
	c->unsettled = true;
	if (c->spent <= CONTROL_BUDGET)
		c->spent += cost;
	return c->spent <= CONTROL_BUDGET;
}

void control_pay_back(struct control *c, size_t n)
{
	give_back(c, 1 + n / CONTROL_DATA_PAYS);
}

void control_pay_records(struct control *c, uint64_t records)
{
	give_back(c, records < CONTROL_BUDGET ? records * CONTROL_RECORD_PAYS : UINT32_MAX);
}

void control_request(struct control *c)
{
	uint8_t n = atomic_load(&c->requested);

	while (n < CONTROL_MAX_REQUESTED && !atomic_compare_exchange_weak(&c->requested, &n, n + 1))
		;
}

bool control_was_requested(struct control *c)
{
	uint8_t n = atomic_load(&c->requested);

	while (n && !atomic_compare_exchange_weak(&c->requested, &n, n - 1))
		;
	return n;
}

static void skip(struct control *c)
{
	atomic_fetch_add_explicit(&c->skipped, 1, memory_order_relaxed);
}

/* ---- alerts ---- */

bool control_is_warning(bool tls13, uint8_t level, uint8_t number)
{
	/* RFC 8446 section 6: in TLS 1.3 the level says nothing, all but these two are
	 * fatal; RFC 5246 section 7.2: the level says it */
	if (tls13)
		return number == ALERT_USER_CANCELED;
	return level == ALERT_WARNING && number != ALERT_CLOSE_NOTIFY &&
	       number != ALERT_NO_RENEGOTIATION;
}

static enum control_verdict end_alert(struct control *c)
{
	uint8_t level = c->alert_bytes[0], number = c->alert_bytes[1];

	if (number == ALERT_CLOSE_NOTIFY && (c->tls13 || level == ALERT_WARNING))
		return CONTROL_END;
	if (control_is_warning(c->tls13, level, number)) {
		skip(c);
		return ++c->warnings > CONTROL_MAX_WARNINGS ? wrong(c, ALERT_UNEXPECTED_MESSAGE) :
							      CONTROL_GO_ON;
	}
	if (!c->tls13 && level == ALERT_WARNING)
		/* no_renegotiation: we never ask for one */
		return wrong(c, ALERT_HANDSHAKE_FAILURE);
	if (!c->tls13 && level != ALERT_FATAL)
		return wrong(c, ALERT_ILLEGAL_PARAMETER);
	c->alert = number;
	return CONTROL_ALERT;
}

/* RFC 8446 section 5.1: one record, one alert. */
static enum control_verdict take_alert(struct control *c, const uint8_t *data, size_t n, bool whole)
{
	for (; n; n--) {
		if (c->alert_have == sizeof(c->alert_bytes))
			return wrong(c, ALERT_UNEXPECTED_MESSAGE);
		c->alert_bytes[c->alert_have++] = *data++;
	}
	if (!whole)
		return CONTROL_GO_ON;
	if (c->alert_have < sizeof(c->alert_bytes))
		return wrong(c, ALERT_UNEXPECTED_MESSAGE);
	c->alert_have = 0;
	return end_alert(c);
}

/* ---- messages ---- */

static bool is_ticket(const struct control *c)
{
	return c->head[0] == MESSAGE_NEW_SESSION_TICKET && c->tickets;
}

static enum control_verdict begin_ticket(struct control *c)
{
	if (c->body_left > TICKET_MAX)
		return wrong(c, ALERT_ILLEGAL_PARAMETER);
	if (c->tickets) {
		tickets_begin(c->tickets, sizeof(c->head) + c->body_left);
		tickets_put(c->tickets, c->head, sizeof(c->head));
	}
	return CONTROL_GO_ON;
}

/* The header of a message is there. */
static enum control_verdict begin_message(struct control *c)
{
	c->body_left = (uint32_t)(c->head[1] << 16 | c->head[2] << 8 | c->head[3]);
	c->head_have = 0;
	switch (c->head[0]) {
	case CONTROL_MESSAGE_KEY_UPDATE:
		if (!c->tls13)
			break;
		c->key_update = true;
		return c->body_left == 1 ? CONTROL_GO_ON : wrong(c, ALERT_DECODE_ERROR);
	case MESSAGE_NEW_SESSION_TICKET:
		if (!c->tls13 || !c->client)
			break;
		return begin_ticket(c);
	case MESSAGE_HELLO_REQUEST:
	case MESSAGE_CLIENT_HELLO:
		if (c->tls13 || c->client != (c->head[0] == MESSAGE_HELLO_REQUEST))
			break;
		c->asked_renegotiation = true;
		return CONTROL_GO_ON;
	}
	return wrong(c, ALERT_UNEXPECTED_MESSAGE);
}

/* A message is complete; n bytes of its record come behind. RFC 8446 section 4.6.3 and,
 * that nothing may, section 5.1. */
static enum control_verdict end_message(struct control *c, uint8_t last, size_t n, bool whole)
{
	if (!c->key_update) {
		skip(c);
		return is_ticket(c) && !tickets_end(&c->tickets, &c->alert) ? CONTROL_WRONG :
									      CONTROL_GO_ON;
	}
	c->key_update = false;
	c->update_requested = last == 1;
	if (n || !whole)
		return wrong(c, ALERT_UNEXPECTED_MESSAGE);
	if (last > 1)
		return wrong(c, ALERT_ILLEGAL_PARAMETER);
	if (!control_was_requested(c) && !control_spend(c, CONTROL_KEY_UPDATE_COST))
		return wrong(c, ALERT_UNEXPECTED_MESSAGE);
	return CONTROL_KEY_UPDATE;
}

static enum control_verdict take_handshake(struct control *c, const uint8_t *data, size_t n,
					   bool whole)
{
	enum control_verdict verdict = CONTROL_GO_ON;

	while (n && verdict == CONTROL_GO_ON) {
		size_t passed = n < c->body_left ? n : c->body_left;

		if (passed) {
			if (is_ticket(c))
				tickets_put(c->tickets, data, passed);
			c->body_left -= (uint32_t)passed;
		} else {
			c->head[c->head_have++] = *data;
			passed = 1;
			if (c->head_have == sizeof(c->head))
				verdict = begin_message(c);
		}
		data += passed;
		n -= passed;
		if (!c->head_have && !c->body_left && verdict == CONTROL_GO_ON)
			verdict = end_message(c, data[-1], n, whole);
	}
	return verdict;
}

/* ---- records ---- */

/* RFC 8446 section 5.1 forbids them; RFC 5246 section 6.2.1 does for messages too,
 * but OpenSSL bears some. */
static enum control_verdict take_empty(struct control *c, uint8_t type)
{
	if (c->tls13 || type != RECORD_HANDSHAKE || ++c->empty > CONTROL_MAX_EMPTY)
		return wrong(c, ALERT_UNEXPECTED_MESSAGE);
	return CONTROL_GO_ON;
}

enum control_verdict control_take(struct control *c, uint8_t type, const uint8_t *data, size_t n,
				  bool whole)
{
	c->unsettled = true;
	if ((type != RECORD_ALERT && type != RECORD_HANDSHAKE) ||
	    (whole && !control_spend(c, CONTROL_RECORD_COST)))
		return wrong(c, ALERT_UNEXPECTED_MESSAGE);
	if (n == 0)
		return take_empty(c, type);
	if (type == RECORD_ALERT)
		return take_alert(c, data, n, whole);
	c->warnings = 0;
	return take_handshake(c, data, n, whole);
}

enum control_verdict control_empty_data(struct control *c)
{
	return control_spend(c, CONTROL_RECORD_COST) ? CONTROL_GO_ON :
						       wrong(c, ALERT_UNEXPECTED_MESSAGE);
}

enum control_verdict control_nothing(struct control *c, uint64_t number)
{
	uint32_t now = (uint32_t)number;
	/* new keys begin at 0 again: then it is less than it was, for once */
	uint32_t passed = c->quiet == 2 && now > c->number ? now - c->number : 0;

	c->quiet = 2;
	c->number = now;
	if (!passed || control_spend(c, passed <= CONTROL_BUDGET ? passed : CONTROL_BUDGET + 1))
		return CONTROL_GO_ON;
	return wrong(c, ALERT_UNEXPECTED_MESSAGE);
}

enum control_verdict control_stopped(struct control *c)
{
	return control_spend(c, CONTROL_KEY_UPDATE_COST) ? CONTROL_GO_ON :
							   wrong(c, ALERT_UNEXPECTED_MESSAGE);
}

enum control_verdict control_data(struct control *c, size_t n)
{
	if (c->head_have || c->body_left)
		return wrong(c, ALERT_UNEXPECTED_MESSAGE);
	c->warnings = c->empty = 0;
	control_pay_back(c, n);
	c->unsettled = c->spent;
	return CONTROL_GO_ON;
}
