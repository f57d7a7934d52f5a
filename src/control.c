/* SPDX-License-Identifier: MIT */
#include "control.h"

#include "ktls.h"

enum { ALERT_CLOSE_NOTIFY = 0, ALERT_USER_CANCELED = 90, ALERT_NO_RENEGOTIATION = 100 };
enum { ALERT_WARNING = 1 };
enum { MESSAGE_HELLO_REQUEST = 0, MESSAGE_NEW_SESSION_TICKET = 4, MESSAGE_KEY_UPDATE = 24 };

/* In TLS 1.3 all alerts are fatal but these two (RFC 8446 section 6); in TLS 1.2
 * the level says (RFC 5246 section 7.2). */
static enum control_verdict end_alert(struct control *c)
{
	if (c->alert == ALERT_CLOSE_NOTIFY)
		return CONTROL_END;
	if (c->alert == ALERT_USER_CANCELED || (!c->tls13 && c->alert_level == ALERT_WARNING)) {
		c->alert = 0;
		c->skipped++;
		return CONTROL_GO_ON;
	}
	return CONTROL_ALERT;
}

static enum control_verdict take_alert(struct control *c, const uint8_t *data, size_t n)
{
	enum control_verdict verdict = CONTROL_GO_ON;

	for (; n && verdict == CONTROL_GO_ON; data++, n--) {
		if (c->alert_have++ == 0) {
			c->alert_level = *data;
			continue;
		}
		c->alert = *data;
		c->alert_have = 0;
		verdict = end_alert(c);
	}
	return verdict;
}

/* The header of a message is there. */
static enum control_verdict begin_message(struct control *c)
{
	c->body_left = (uint32_t)(c->head[1] << 16 | c->head[2] << 8 | c->head[3]);
	c->head_have = 0;
	if (c->tls13 && c->head[0] == MESSAGE_KEY_UPDATE)
		return CONTROL_KEY_UPDATE;
	if ((c->tls13 && c->client && c->head[0] == MESSAGE_NEW_SESSION_TICKET) ||
	    (!c->tls13 && c->client && c->head[0] == MESSAGE_HELLO_REQUEST)) {
		/* RFC 5246 section 7.4.1.1: a HelloRequest may be ignored */
		c->skipped++;
		return CONTROL_GO_ON;
	}
	return CONTROL_UNEXPECTED;
}

static enum control_verdict take_handshake(struct control *c, const uint8_t *data, size_t n)
{
	enum control_verdict verdict = CONTROL_GO_ON;

	while (n && verdict == CONTROL_GO_ON) {
		if (c->body_left) {
			size_t skip = n < c->body_left ? n : c->body_left;

			c->body_left -= (uint32_t)skip;
			data += skip;
			n -= skip;
			continue;
		}
		c->head[c->head_have++] = *data++;
		n--;
		if (c->head_have == sizeof(c->head))
			verdict = begin_message(c);
	}
	return verdict;
}

enum control_verdict control_take(struct control *c, uint8_t type, const uint8_t *data, size_t n)
{
	if (type == RECORD_ALERT)
		return take_alert(c, data, n);
	if (type == RECORD_HANDSHAKE)
		return take_handshake(c, data, n);
	return CONTROL_UNEXPECTED;
}
