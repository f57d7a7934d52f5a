/*
 * Records that are not data: alerts and messages after the handshake.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_CONTROL_H
#define TLSFD_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Messages and alerts can be cut anywhere, so they are read byte by byte. */
struct control {
	bool client, tls13;
	uint8_t alert_level, alert; /* alert: the one that ended the connection */
	uint8_t alert_have;         /* bytes of the alert under way */
	uint8_t head[4], head_have; /* the header of the message under way */
	uint32_t body_left;         /* and what lacks of its body, in bytes */
	uint32_t skipped;           /* warnings, tickets */
};

enum control_verdict {
	CONTROL_GO_ON,
	CONTROL_END,         /* close_notify */
	CONTROL_ALERT,       /* a fatal alert: control->alert */
	CONTROL_KEY_UPDATE,
	CONTROL_UNEXPECTED,
};

/* n bytes of a record of this content type, not data. */
enum control_verdict control_take(struct control *c, uint8_t type, const uint8_t *data, size_t n);

#endif
