/*
 * control_take: alerts and later messages, cut anywhere.
 *
 * SPDX-License-Identifier: MIT
 */
#include "control.h"

#include <string.h>

#include "ktls.h"
#include "suite.h"

enum { CLIENT12, SERVER12, CLIENT13, SERVER13 };

#define BYTES(...) { __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ })

struct row {
	const char *name;
	int end;
	uint8_t type;
	uint8_t data[32];
	size_t n;
	enum control_verdict verdict;
	uint8_t alert;
	uint32_t skipped;
};

#define TICKET 4, 0, 0, 5, 1, 2, 3, 4, 5
static const struct row rows[] = {
	/* alerts */
	{ "close_notify ends, client 1.3", CLIENT13, RECORD_ALERT, BYTES(1, 0), CONTROL_END, 0, 0 },
	{ "close_notify ends, server 1.3", SERVER13, RECORD_ALERT, BYTES(1, 0), CONTROL_END, 0, 0 },
	{ "close_notify ends, client 1.2", CLIENT12, RECORD_ALERT, BYTES(1, 0), CONTROL_END, 0, 0 },
	{ "close_notify ends, server 1.2", SERVER12, RECORD_ALERT, BYTES(1, 0), CONTROL_END, 0, 0 },
	{ "close_notify at level fatal ends", CLIENT13, RECORD_ALERT, BYTES(2, 0), CONTROL_END, 0, 0 },
	{ "fatal alert, 1.3", CLIENT13, RECORD_ALERT, BYTES(2, 20), CONTROL_ALERT, 20, 0 },
	{ "fatal alert, 1.2", SERVER12, RECORD_ALERT, BYTES(2, 40), CONTROL_ALERT, 40, 0 },
	{ "level warning is fatal in 1.3", SERVER13, RECORD_ALERT, BYTES(1, 40), CONTROL_ALERT, 40, 0 },
	{ "level warning is skipped in 1.2", SERVER12, RECORD_ALERT, BYTES(1, 40), CONTROL_GO_ON, 0, 1 },
	{ "no_renegotiation is skipped in 1.2", CLIENT12, RECORD_ALERT, BYTES(1, 100), CONTROL_GO_ON, 0, 1 },
	{ "user_canceled is skipped in 1.3", CLIENT13, RECORD_ALERT, BYTES(1, 90), CONTROL_GO_ON, 0, 1 },
	{ "user_canceled, then close_notify", SERVER13, RECORD_ALERT, BYTES(1, 90, 1, 0), CONTROL_END, 0, 1 },
	{ "half an alert waits", CLIENT13, RECORD_ALERT, BYTES(2), CONTROL_GO_ON, 0, 0 },
	{ "what follows a fatal alert is not read", CLIENT13, RECORD_ALERT, BYTES(2, 47, 1, 0),
	  CONTROL_ALERT, 47, 0 },

	/* messages */
	{ "ticket is skipped by a client 1.3", CLIENT13, RECORD_HANDSHAKE, BYTES(TICKET), CONTROL_GO_ON, 0, 1 },
	{ "two tickets in one record", CLIENT13, RECORD_HANDSHAKE, BYTES(TICKET, TICKET), CONTROL_GO_ON, 0, 2 },
	{ "ticket, then KeyUpdate", CLIENT13, RECORD_HANDSHAKE, BYTES(TICKET, 24, 0, 0, 1, 0),
	  CONTROL_KEY_UPDATE, 0, 1 },
	{ "empty ticket", CLIENT13, RECORD_HANDSHAKE, BYTES(4, 0, 0, 0), CONTROL_GO_ON, 0, 1 },
	{ "part of a header waits", CLIENT13, RECORD_HANDSHAKE, BYTES(4, 0, 0), CONTROL_GO_ON, 0, 0 },
	{ "ticket to a server 1.3", SERVER13, RECORD_HANDSHAKE, BYTES(TICKET), CONTROL_UNEXPECTED, 0, 0 },
	{ "ticket to a client 1.2", CLIENT12, RECORD_HANDSHAKE, BYTES(TICKET), CONTROL_UNEXPECTED, 0, 0 },
	{ "KeyUpdate to a client 1.3", CLIENT13, RECORD_HANDSHAKE, BYTES(24, 0, 0, 1, 1), CONTROL_KEY_UPDATE, 0, 0 },
	{ "KeyUpdate to a server 1.3", SERVER13, RECORD_HANDSHAKE, BYTES(24, 0, 0, 1, 0), CONTROL_KEY_UPDATE, 0, 0 },
	{ "KeyUpdate in 1.2", CLIENT12, RECORD_HANDSHAKE, BYTES(24, 0, 0, 1, 0), CONTROL_UNEXPECTED, 0, 0 },
	{ "HelloRequest to a client 1.2", CLIENT12, RECORD_HANDSHAKE, BYTES(0, 0, 0, 0), CONTROL_GO_ON, 0, 1 },
	{ "HelloRequest to a server 1.2", SERVER12, RECORD_HANDSHAKE, BYTES(0, 0, 0, 0), CONTROL_UNEXPECTED, 0, 0 },
	{ "HelloRequest in 1.3", CLIENT13, RECORD_HANDSHAKE, BYTES(0, 0, 0, 0), CONTROL_UNEXPECTED, 0, 0 },
	{ "ClientHello to a server 1.2", SERVER12, RECORD_HANDSHAKE, BYTES(1, 0, 0, 2, 3, 3), CONTROL_UNEXPECTED, 0, 0 },
	{ "CertificateRequest to a client 1.3", CLIENT13, RECORD_HANDSHAKE, BYTES(13, 0, 0, 0),
	  CONTROL_UNEXPECTED, 0, 0 },
	{ "Finished once more", SERVER13, RECORD_HANDSHAKE, BYTES(20, 0, 0, 1, 0), CONTROL_UNEXPECTED, 0, 0 },

	/* other records */
	{ "ChangeCipherSpec in 1.3", CLIENT13, RECORD_CHANGE_CIPHER_SPEC, BYTES(1), CONTROL_UNEXPECTED, 0, 0 },
	{ "ChangeCipherSpec in 1.2", SERVER12, RECORD_CHANGE_CIPHER_SPEC, BYTES(1), CONTROL_UNEXPECTED, 0, 0 },
	{ "type 24", CLIENT13, 24, BYTES(1), CONTROL_UNEXPECTED, 0, 0 },
	{ "type 0", SERVER12, 0, BYTES(0), CONTROL_UNEXPECTED, 0, 0 },
};

static struct control end_of(const struct row *r)
{
	return (struct control){
		.client = r->end == CLIENT12 || r->end == CLIENT13,
		.tls13 = r->end == CLIENT13 || r->end == SERVER13,
	};
}

static void assert_outcome(const struct row *r, const struct control *c, enum control_verdict v)
{
	assert_int_equal(v, r->verdict);
	assert_int_equal(c->alert, r->alert);
	assert_int_equal(c->skipped, r->skipped);
}

/* In one piece, in every two, and byte by byte: always the same. */
static void any_pieces(void **state)
{
	const struct row *r = *state;
	struct control bytewise = end_of(r);
	enum control_verdict v = CONTROL_GO_ON;

	for (size_t cut = 0; cut <= r->n; cut++) {
		struct control c = end_of(r);

		v = cut ? control_take(&c, r->type, r->data, cut) : CONTROL_GO_ON;
		if (v == CONTROL_GO_ON && cut < r->n)
			v = control_take(&c, r->type, r->data + cut, r->n - cut);
		assert_outcome(r, &c, v);
	}
	v = CONTROL_GO_ON;
	for (size_t i = 0; i < r->n && v == CONTROL_GO_ON; i++)
		v = control_take(&bytewise, r->type, r->data + i, 1);
	assert_outcome(r, &bytewise, v);
}

static void empty_record_is_nothing(void **state)
{
	struct control c = { .client = true, .tls13 = true };

	(void)state;
	assert_int_equal(control_take(&c, RECORD_ALERT, NULL, 0), CONTROL_GO_ON);
	assert_int_equal(control_take(&c, RECORD_HANDSHAKE, NULL, 0), CONTROL_GO_ON);
	assert_int_equal(c.skipped, 0);
}

/* A body of 16 MiB - 1, the longest there can be, in pieces of 16 KiB. */
static void longest_ticket(void **state)
{
	static uint8_t piece[16384];
	static const uint8_t head[] = { 4, 255, 255, 255 };
	struct control c = { .client = true, .tls13 = true };
	size_t left = 0xffffff;

	(void)state;
	assert_int_equal(control_take(&c, RECORD_HANDSHAKE, head, sizeof(head)), CONTROL_GO_ON);
	while (left) {
		size_t n = left < sizeof(piece) ? left : sizeof(piece);

		assert_int_equal(c.body_left, left);
		assert_int_equal(control_take(&c, RECORD_HANDSHAKE, piece, n), CONTROL_GO_ON);
		left -= n;
	}
	assert_int_equal(c.body_left, 0);
	/* and the next message is seen as one */
	assert_int_equal(control_take(&c, RECORD_HANDSHAKE, (uint8_t[]){ 24, 0, 0, 1, 0 }, 5),
			 CONTROL_KEY_UPDATE);
}

/* An alert that was skipped isn't the one that ended the connection. */
static void skipped_alert_is_forgotten(void **state)
{
	struct control c = { .client = true, .tls13 = true };

	(void)state;
	assert_int_equal(control_take(&c, RECORD_ALERT, (uint8_t[]){ 1, 90 }, 2), CONTROL_GO_ON);
	assert_int_equal(control_take(&c, RECORD_HANDSHAKE, (uint8_t[]){ 13, 0, 0, 0 }, 4),
			 CONTROL_UNEXPECTED);
	assert_int_equal(c.alert, 0);
}

int main(int argc, char **argv)
{
	suite_add(empty_record_is_nothing, NULL, 0, "empty record is nothing");
	suite_add(longest_ticket, NULL, 0, "longest ticket");
	suite_add(skipped_alert_is_forgotten, NULL, 0, "skipped alert is forgotten");
	for (size_t i = 0; i < LENGTH(rows); i++)
		suite_add(any_pieces, &rows[i], sizeof(rows[i]), "%s", rows[i].name);
	return suite_run(argc, argv);
}
