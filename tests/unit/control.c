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
	{ "no_renegotiation, unasked", CLIENT12, RECORD_ALERT, BYTES(1, 100), CONTROL_WRONG, 40, 0 },
	{ "level 3 in 1.2", CLIENT12, RECORD_ALERT, BYTES(3, 40), CONTROL_WRONG, 47, 0 },
	{ "close_notify at level fatal in 1.2", SERVER12, RECORD_ALERT, BYTES(2, 0), CONTROL_ALERT, 0, 0 },
	{ "user_canceled is skipped in 1.3", CLIENT13, RECORD_ALERT, BYTES(1, 90), CONTROL_GO_ON, 0, 1 },
	{ "two alerts in a record", SERVER13, RECORD_ALERT, BYTES(1, 90, 1, 0), CONTROL_WRONG, 10, 0 },
	{ "half an alert", CLIENT13, RECORD_ALERT, BYTES(2), CONTROL_WRONG, 10, 0 },
	{ "three bytes of alert", CLIENT12, RECORD_ALERT, BYTES(2, 47, 1), CONTROL_WRONG, 10, 0 },

	/* messages */
	{ "ticket is skipped by a client 1.3", CLIENT13, RECORD_HANDSHAKE, BYTES(TICKET), CONTROL_GO_ON, 0, 1 },
	{ "two tickets in one record", CLIENT13, RECORD_HANDSHAKE, BYTES(TICKET, TICKET), CONTROL_GO_ON, 0, 2 },
	{ "ticket, then KeyUpdate", CLIENT13, RECORD_HANDSHAKE, BYTES(TICKET, 24, 0, 0, 1, 0),
	  CONTROL_KEY_UPDATE, 0, 1 },
	{ "empty ticket", CLIENT13, RECORD_HANDSHAKE, BYTES(4, 0, 0, 0), CONTROL_GO_ON, 0, 1 },
	{ "part of a header waits", CLIENT13, RECORD_HANDSHAKE, BYTES(4, 0, 0), CONTROL_GO_ON, 0, 0 },
	{ "ticket to a server 1.3", SERVER13, RECORD_HANDSHAKE, BYTES(TICKET), CONTROL_WRONG, 10, 0 },
	{ "ticket to a client 1.2", CLIENT12, RECORD_HANDSHAKE, BYTES(TICKET), CONTROL_WRONG, 10, 0 },
	{ "KeyUpdate to a client 1.3", CLIENT13, RECORD_HANDSHAKE, BYTES(24, 0, 0, 1, 1), CONTROL_KEY_UPDATE, 0, 0 },
	{ "KeyUpdate to a server 1.3", SERVER13, RECORD_HANDSHAKE, BYTES(24, 0, 0, 1, 0), CONTROL_KEY_UPDATE, 0, 0 },
	{ "KeyUpdate without a body", CLIENT13, RECORD_HANDSHAKE, BYTES(24, 0, 0, 0), CONTROL_WRONG, 50, 0 },
	{ "KeyUpdate of two bytes", SERVER13, RECORD_HANDSHAKE, BYTES(24, 0, 0, 2, 0, 0), CONTROL_WRONG, 50, 0 },
	{ "KeyUpdate of value 2", CLIENT13, RECORD_HANDSHAKE, BYTES(24, 0, 0, 1, 2), CONTROL_WRONG, 47, 0 },
	{ "ticket behind KeyUpdate", CLIENT13, RECORD_HANDSHAKE, BYTES(24, 0, 0, 1, 0, TICKET),
	  CONTROL_WRONG, 10, 0 },
	{ "part of a message behind KeyUpdate", CLIENT13, RECORD_HANDSHAKE, BYTES(24, 0, 0, 1, 1, 4),
	  CONTROL_WRONG, 10, 0 },
	{ "two KeyUpdates in one record", SERVER13, RECORD_HANDSHAKE,
	  BYTES(24, 0, 0, 1, 0, 24, 0, 0, 1, 0), CONTROL_WRONG, 10, 0 },
	{ "part of a KeyUpdate waits", SERVER13, RECORD_HANDSHAKE, BYTES(24, 0, 0, 1), CONTROL_GO_ON, 0, 0 },
	{ "KeyUpdate in 1.2", CLIENT12, RECORD_HANDSHAKE, BYTES(24, 0, 0, 1, 0), CONTROL_WRONG, 10, 0 },
	{ "HelloRequest to a client 1.2", CLIENT12, RECORD_HANDSHAKE, BYTES(0, 0, 0, 0), CONTROL_GO_ON, 0, 1 },
	{ "HelloRequest to a server 1.2", SERVER12, RECORD_HANDSHAKE, BYTES(0, 0, 0, 0), CONTROL_WRONG, 10, 0 },
	{ "HelloRequest in 1.3", CLIENT13, RECORD_HANDSHAKE, BYTES(0, 0, 0, 0), CONTROL_WRONG, 10, 0 },
	{ "ClientHello to a server 1.2", SERVER12, RECORD_HANDSHAKE, BYTES(1, 0, 0, 2, 3, 3), CONTROL_GO_ON, 0, 1 },
	{ "ClientHello to a client 1.2", CLIENT12, RECORD_HANDSHAKE, BYTES(1, 0, 0, 2, 3, 3), CONTROL_WRONG, 10, 0 },
	{ "ticket that is too long", CLIENT13, RECORD_HANDSHAKE, BYTES(4, 3, 0, 0), CONTROL_WRONG, 47, 0 },
	{ "CertificateRequest to a client 1.3", CLIENT13, RECORD_HANDSHAKE, BYTES(13, 0, 0, 0),
	  CONTROL_WRONG, 10, 0 },
	{ "Finished once more", SERVER13, RECORD_HANDSHAKE, BYTES(20, 0, 0, 1, 0), CONTROL_WRONG, 10, 0 },

	/* other records */
	{ "ChangeCipherSpec in 1.3", CLIENT13, RECORD_CHANGE_CIPHER_SPEC, BYTES(1), CONTROL_WRONG, 10, 0 },
	{ "ChangeCipherSpec in 1.2", SERVER12, RECORD_CHANGE_CIPHER_SPEC, BYTES(1), CONTROL_WRONG, 10, 0 },
	{ "type 24", CLIENT13, 24, BYTES(1), CONTROL_WRONG, 10, 0 },
	{ "type 0", SERVER12, 0, BYTES(0), CONTROL_WRONG, 10, 0 },
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

		v = cut ? control_take(&c, r->type, r->data, cut, cut == r->n) : CONTROL_GO_ON;
		if (v == CONTROL_GO_ON && cut < r->n)
			v = control_take(&c, r->type, r->data + cut, r->n - cut, true);
		assert_outcome(r, &c, v);
	}
	v = CONTROL_GO_ON;
	for (size_t i = 0; i < r->n && v == CONTROL_GO_ON; i++)
		v = control_take(&bytewise, r->type, r->data + i, 1, i + 1 == r->n);
	assert_outcome(r, &bytewise, v);
}

static enum control_verdict take(struct control *c, uint8_t type, const void *data, size_t n)
{
	return control_take(c, type, data, n, true);
}

static void key_update_asks(void **state)
{
	struct control c = { .tls13 = true };

	(void)state;
	for (uint8_t asks = 2; asks--;) {
		assert_int_equal(take(&c, RECORD_HANDSHAKE, "\x18\0", 2), CONTROL_GO_ON);
		assert_int_equal(take(&c, RECORD_HANDSHAKE, (uint8_t[]){ 0, 1, asks }, 3),
				 CONTROL_KEY_UPDATE);
		assert_int_equal(c.update_requested, asks);
		assert_int_equal(control_data(&c, 1), CONTROL_GO_ON);
	}
}

/* RFC 8446 section 5.1 forbids them; TLS 1.2 bears some of handshake. */
static void empty_records(void **state)
{
	struct control tls13 = { .client = true, .tls13 = true }, tls12 = { .client = true };

	(void)state;
	assert_int_equal(take(&tls13, RECORD_ALERT, NULL, 0), CONTROL_WRONG);
	assert_int_equal(take(&tls13, RECORD_HANDSHAKE, NULL, 0), CONTROL_WRONG);
	for (int i = 0; i < CONTROL_MAX_EMPTY; i++)
		assert_int_equal(take(&tls12, RECORD_HANDSHAKE, NULL, 0), CONTROL_GO_ON);
	assert_int_equal(take(&tls12, RECORD_HANDSHAKE, NULL, 0), CONTROL_WRONG);
	assert_int_equal(take(&tls12, RECORD_ALERT, NULL, 0), CONTROL_WRONG);
	assert_int_equal(tls12.skipped, 0);
}

/* A body of 16 MiB - 1, the longest there can be, in pieces of 16 KiB. */
static void longest_message(void **state)
{
	static uint8_t piece[16384];
	static const uint8_t head[] = { 1, 255, 255, 255 };
	struct control c = { .client = false, .tls13 = false };
	size_t left = 0xffffff;

	(void)state;
	assert_int_equal(take(&c, RECORD_HANDSHAKE, head, sizeof(head)), CONTROL_GO_ON);
	while (left) {
		size_t n = left < sizeof(piece) ? left : sizeof(piece);

		assert_int_equal(c.body_left, left);
		assert_int_equal(c.skipped, 0);
		assert_int_equal(control_take(&c, RECORD_HANDSHAKE, piece, n, false), CONTROL_GO_ON);
		left -= n;
	}
	assert_int_equal(c.skipped, 1);
	assert_true(c.asked_renegotiation);
	/* and the next message is seen as one */
	assert_int_equal(take(&c, RECORD_HANDSHAKE, (uint8_t[]){ 20, 0, 0, 1, 0 }, 5),
			 CONTROL_WRONG);
}

/* Warnings and records in a row are borne up to a number; data begins a new row. */
static void rows_are_bounded(void **state)
{
	struct control c = { .client = true, .tls13 = true };

	(void)state;
	for (int row = 0; row < 3; row++) {
		for (int i = 0; i < CONTROL_MAX_WARNINGS; i++)
			assert_int_equal(take(&c, RECORD_ALERT, "\1\x5a", 2), CONTROL_GO_ON);
		assert_int_equal(control_data(&c, 1), CONTROL_GO_ON);
		assert_true(c.unsettled); /* not all is paid back */
		assert_int_equal(control_data(&c, 2 * CONTROL_DATA_PAYS), CONTROL_GO_ON);
		assert_false(c.unsettled);
	}
	for (int i = 0; i < CONTROL_BUDGET; i++)
		assert_int_equal(take(&c, RECORD_HANDSHAKE, "\4\0\0\0", 4), CONTROL_GO_ON);
	assert_int_equal(take(&c, RECORD_HANDSHAKE, "\4\0\0\0", 4), CONTROL_WRONG);
	assert_int_equal(c.alert, ALERT_UNEXPECTED_MESSAGE);
}

static void empty_data_is_bounded(void **state)
{
	struct control c = { .client = false, .tls13 = true };
	enum control_verdict verdict = CONTROL_GO_ON;
	int borne = 0;

	(void)state;
	for (; borne < 100000 && verdict == CONTROL_GO_ON; borne++) {
		verdict = control_empty_data(&c);
		assert_true(c.unsettled);
	}
	assert_true(borne > 10);
	assert_int_equal(verdict, CONTROL_WRONG);
	assert_int_equal(c.alert, ALERT_UNEXPECTED_MESSAGE);
}

/* What passed between two looks that found nothing. */
static void unseen_records_are_bounded(void **state)
{
	struct control c = { .tls13 = true };
	uint64_t number = 0;

	(void)state;
	for (int i = 0; i < 5; i++) { /* data between: nobody knows what they were */
		assert_int_equal(control_nothing(&c, number += 1000), CONTROL_GO_ON);
		assert_int_equal(c.spent, 0);
		c.quiet = 0;
	}
	assert_int_equal(control_nothing(&c, number), CONTROL_GO_ON);
	assert_int_equal(control_nothing(&c, number + 100), CONTROL_GO_ON);
	assert_int_equal(c.spent, 100);
	assert_true(c.unsettled);
	assert_int_equal(control_nothing(&c, 50), CONTROL_GO_ON); /* a new key */
	assert_int_equal(control_nothing(&c, 50), CONTROL_GO_ON);
	assert_int_equal(c.spent, 100);
	assert_int_equal(control_nothing(&c, UINT32_MAX), CONTROL_WRONG);
	assert_int_equal(c.alert, ALERT_UNEXPECTED_MESSAGE);
}

/* KeyUpdates that we asked for are free but for the record; the others are not. */
static void key_updates_are_paid(void **state)
{
	static const uint8_t message[] = { 24, 0, 0, 1, 0 };
	const int price = CONTROL_KEY_UPDATE_COST + CONTROL_RECORD_COST;
	const int free = CONTROL_MAX_REQUESTED;
	struct control c = { .tls13 = true };
	int taken = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) /* asked for and never answered */
		control_request(&c);
	while (take(&c, RECORD_HANDSHAKE, message, sizeof(message)) == CONTROL_KEY_UPDATE)
		taken++;
	assert_int_equal(c.alert, ALERT_UNEXPECTED_MESSAGE);
	assert_true(taken >= free + (CONTROL_BUDGET - free) / price);
	assert_true(taken <= free + (CONTROL_BUDGET - free) / price + 1); /* a second went by */
	assert_int_equal(c.requested, 0);
}

/* So much data, and a peer may change its keys for ever. */
static void data_pays(void **state)
{
	static const uint8_t message[] = { 24, 0, 0, 1, 0 };
	struct control c = { .tls13 = true };

	(void)state;
	for (int i = 0; i < 100000; i++) {
		assert_int_equal(take(&c, RECORD_HANDSHAKE, message, sizeof(message)),
				 CONTROL_KEY_UPDATE);
		assert_int_equal(control_data(&c, CONTROL_KEY_UPDATE_COST * CONTROL_DATA_PAYS),
				 CONTROL_GO_ON);
	}
}

/* And so does time: a KeyUpdate a second. */
static void time_pays(void **state)
{
	static const uint8_t message[] = { 24, 0, 0, 1, 0 };
	struct control c = { .tls13 = true };

	(void)state;
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(take(&c, RECORD_HANDSHAKE, message, sizeof(message)),
				 CONTROL_KEY_UPDATE);
		c.paid_at -= 2;
	}
}

static void data_inside_a_message(void **state)
{
	struct control c = { .client = true, .tls13 = true };

	(void)state;
	assert_int_equal(take(&c, RECORD_HANDSHAKE, "\4\0", 2), CONTROL_GO_ON);
	assert_int_equal(control_data(&c, 1), CONTROL_WRONG);
	assert_int_equal(c.alert, ALERT_UNEXPECTED_MESSAGE);
}

int main(int argc, char **argv)
{
	suite_add(empty_records, NULL, 0, "empty records");
	suite_add(key_update_asks, NULL, 0, "KeyUpdate asks or doesn't");
	suite_add(longest_message, NULL, 0, "longest message");
	suite_add(rows_are_bounded, NULL, 0, "rows are bounded");
	suite_add(empty_data_is_bounded, NULL, 0, "empty data is bounded");
	suite_add(unseen_records_are_bounded, NULL, 0, "unseen records are bounded");
	suite_add(key_updates_are_paid, NULL, 0, "KeyUpdates are paid for");
	suite_add(data_pays, NULL, 0, "data pays");
	suite_add(time_pays, NULL, 0, "time pays");
	suite_add(data_inside_a_message, NULL, 0, "data inside a message");
	for (size_t i = 0; i < LENGTH(rows); i++)
		suite_add(any_pieces, &rows[i], sizeof(rows[i]), "%s", rows[i].name);
	return suite_run(argc, argv);
}
