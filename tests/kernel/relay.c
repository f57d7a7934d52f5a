/*
 * The relay of serve and connect: how it ends, and the records that are not data.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "probe.h"
#include "rig.h"

/* ---- clean ends ---- */

static void test_tls_ends_first(void **state)
{
	struct rig *g = rig_open(*state);

	peer_says(g, "the question");
	peer_says_bye(g);
	backend_expects(g, "the question", 12);
	backend_expects_end(g, 0);
	backend_send(g, "the answer, later", 17);
	shutdown(g->backend, SHUT_WR);
	peer_expects(g, "the answer, later", 17);
	peer_expects_close(g);
	raw_fin(&g->t.peer);
	rig_close(g, RELAY_CLOSED);
}

static void test_plain_ends_first(void **state)
{
	struct rig *g = rig_open(*state);

	backend_send(g, "greeting", 8);
	shutdown(g->backend, SHUT_WR);
	peer_expects(g, "greeting", 8);
	peer_expects_close(g);
	for (int i = 0; i < 3; i++) {
		peer_says(g, "still talking");
		backend_expects(g, "still talking", 13);
	}
	peer_says_bye(g);
	raw_fin(&g->t.peer);
	backend_expects_end(g, 0);
	rig_close(g, RELAY_CLOSED);
}

/* As many clients do: close_notify and close(2), without a look at what still comes. */
static void test_peer_is_gone(void **state)
{
	struct rig *g = rig_open(*state);

	peer_says_bye(g);
	raw_reset(&g->t.peer);
	backend_expects_end(g, 0);
	shutdown(g->backend, SHUT_WR);
	rig_close(g, RELAY_CLOSED);
}

static void test_counts(void **state)
{
	struct rig *g = rig_open(*state);
	struct relay_end end;

	peer_says(g, "12345");
	backend_send(g, "123", 3);
	shutdown(g->backend, SHUT_WR);
	peer_says_bye(g);
	peer_expects(g, "123", 3);
	peer_expects_close(g);
	backend_expects(g, "12345", 5);
	end = rig_close(g, RELAY_CLOSED);
	assert_int_equal(end.in, 5);
	assert_int_equal(end.out, 3);
	assert_int_equal(end.err, 0);
}

/* ---- cuts ---- */

static void test_truncated(void **state)
{
	struct rig *g = rig_open(*state);

	peer_says(g, "half of it");
	backend_expects(g, "half of it", 10);
	raw_fin(&g->t.peer);
	backend_expects_end(g, -ECONNRESET);
	peer_expects_cut(g);
	rig_close(g, RELAY_TRUNCATED);
}

static void test_half_record(void **state)
{
	struct rig *g = rig_open(*state);
	uint8_t record[RAW_RECORD_MAX];

	raw_seal(&g->t.peer, 23, "never whole", 11, record);
	raw_send_bytes(&g->t.peer, record, 17);
	raw_fin(&g->t.peer);
	backend_expects_end(g, -ECONNRESET);
	rig_close(g, RELAY_TRUNCATED);
}

static void test_alert(void **state)
{
	struct rig *g = rig_open(*state);

	raw_send_alert(&g->t.peer, 2, 40);
	backend_expects_end(g, -ECONNRESET);
	peer_expects_cut(g);
	rig_close(g, RELAY_ALERT);
}

static void test_reset(void **state)
{
	struct rig *g = rig_open(*state);

	raw_reset(&g->t.peer);
	backend_expects_end(g, -ECONNRESET);
	rig_close(g, RELAY_RESET);
}

static void test_bad_record(void **state)
{
	struct rig *g = rig_open(*state);
	uint8_t record[RAW_RECORD_MAX];
	size_t n = raw_seal(&g->t.peer, 23, "changed on its way", 18, record);

	record[n - 1] ^= 1;
	raw_send_bytes(&g->t.peer, record, n);
	peer_expects_alert(g, 2, 20);
	backend_expects_end(g, -ECONNRESET);
	rig_close(g, RELAY_BAD_RECORD);
}

/* The alert must come through although behind the record there is what nobody reads. */
static void test_bad_record_and_more(void **state)
{
	enum { MORE = 50 };
	struct rig *g = rig_open(*state);
	static uint8_t records[(MORE + 1) * 128 + RAW_RECORD_MAX];
	size_t n = raw_seal(&g->t.peer, 23, "changed on its way", 18, records);

	records[n - 1] ^= 1;
	for (int i = 0; i < MORE; i++)
		n += raw_seal(&g->t.peer, 23, "on and on", 9, records + n);
	raw_send_bytes(&g->t.peer, records, n);
	peer_expects_alert(g, 2, 20);
	backend_expects_end(g, -ECONNRESET);
	rig_close(g, RELAY_BAD_RECORD);
}

/* The kernel tells of a header that can't be one only once, here to splice(2). */
static void test_bad_header(void **state)
{
	static const uint8_t too_long[64] = { 23, 3, 3, 255, 255 };
	struct rig *g = rig_open(*state);

	peer_says(g, "good");
	backend_expects(g, "good", 4);
	raw_send_bytes(&g->t.peer, too_long, sizeof(too_long));
	peer_expects_alert(g, 2, 22);
	backend_expects_end(g, -ECONNRESET);
	rig_close(g, RELAY_BAD_RECORD);
}

static void test_backend_reset(void **state)
{
	struct rig *g = rig_open(*state);

	backend_send(g, "not all", 7);
	peer_expects(g, "not all", 7);
	backend_reset(g);
	peer_expects_cut(g);
	rig_close(g, RELAY_BACKEND_RESET);
}

/* A server that answers before it has read all, and closes: TCP resets, but the answer counts. */
static void test_answered_early(void **state)
{
	enum { ANSWER = 8000 };
	struct rig *g = rig_open(*state);

	peer_says(g, "a long request");
	wait_for(g->backend, POLLIN); /* and isn't read */
	backend_send(g, pattern_at(0), ANSWER);
	close(g->backend);
	g->backend = -1;
	peer_expects(g, pattern_at(0), ANSWER);
	peer_expects_cut(g);
	rig_close(g, RELAY_BACKEND_RESET);
}

static void test_idle(void **state)
{
	struct rig *g = rig_open_role(*state, true, 50);

	peer_says(g, "once");
	backend_expects(g, "once", 4);
	backend_expects_end(g, -ECONNRESET);
	peer_expects_cut(g);
	rig_close(g, RELAY_IDLE);
}

static void test_stopped(void **state)
{
	struct rig *g = rig_open(*state);

	peer_says(g, "once");
	backend_expects(g, "once", 4);
	assert_int_equal(eventfd_write(g->stopper.fd, 1), 0);
	backend_expects_end(g, -ECONNRESET);
	peer_expects_cut(g);
	rig_close(g, RELAY_STOPPED);
}

/* ---- records that are not data ---- */

static void test_control_records(void **state)
{
	struct rig *g = rig_open(*state);

	for (int i = 0; i < 20; i++) {
		peer_says(g, "data ");
		raw_send_alert(&g->t.peer, 1, 90); /* user_canceled */
		peer_says(g, "more ");
		raw_send(&g->t.peer, 23, "", 0);
		backend_expects(g, "data more ", 10);
	}
	peer_says_bye(g);
	backend_expects_end(g, 0);
	shutdown(g->backend, SHUT_WR);
	peer_expects_close(g);
	rig_close(g, RELAY_CLOSED);
}

/* Warnings one by one, each seen alone, data between them: not five in a row. */
static void test_spaced_warnings(void **state)
{
	struct rig *g = rig_open(*state);

	for (int i = 0; i < 8; i++) {
		raw_send_alert(&g->t.peer, 1, 90);
		poll(NULL, 0, 20); /* the relay has seen it, and waits */
		peer_says(g, "data");
		backend_expects(g, "data", 4);
	}
	peer_says_bye(g);
	backend_expects_end(g, 0);
	shutdown(g->backend, SHUT_WR);
	peer_expects_close(g);
	rig_close(g, RELAY_CLOSED);
}

static void test_empty_records(void **state)
{
	struct rig *g = rig_open(*state);

	for (int i = 0; i < 20; i++) /* all wait in the socket at once */
		raw_send(&g->t.peer, 23, "", 0);
	peer_says(g, "behind them");
	backend_expects(g, "behind them", 11);
	peer_says_bye(g);
	shutdown(g->backend, SHUT_WR);
	backend_expects_end(g, 0);
	peer_expects_close(g);
	rig_close(g, RELAY_CLOSED);
}

/* NewSessionTicket, in two records with data before, between the records' bytes and behind. */
static void test_tickets(void **state)
{
	static const uint8_t ticket[] = { 4, 0, 0, 14, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1, 'x', 0, 0 };
	struct state *s = *state;
	struct rig *g;

	if (!s->tls13)
		return;
	g = rig_open_role(s, false, 0);
	peer_says(g, "before ");
	raw_send(&g->t.peer, 22, ticket, 7);
	raw_send(&g->t.peer, 22, ticket + 7, sizeof(ticket) - 7);
	peer_says(g, "behind");
	backend_expects(g, "before behind", 13);
	backend_send(g, "up", 2);
	peer_expects(g, "up", 2);
	peer_says_bye(g);
	shutdown(g->backend, SHUT_WR);
	backend_expects_end(g, 0);
	peer_expects_close(g);
	rig_close(g, RELAY_CLOSED);
}

/* ---- KeyUpdate ---- */

/* Both ways in the middle of the data: what comes is under the peer's next keys, and what
 * is asked for is answered before the next data. */
static void test_key_updates(void **state)
{
	struct state *s = *state;
	unsigned asked = 0;
	struct rig *g;

	if (!s->tls13 || !rig_can_rekey(s))
		return;
	g = rig_open(s);
	for (int i = 0; i < 40; i++) {
		peer_says(g, "before ");
		raw_update_keys(&g->t.peer, i % 3 == 0);
		if (i % 5 == 0)
			raw_update_keys(&g->t.peer, false);
		peer_says(g, "behind");
		backend_expects(g, "before behind", 13);
		backend_send(g, "answer", 6);
		asked += i % 3 == 0;
		peer_expects(g, "answer", 6);
		assert_int_equal(g->updates, asked);
	}
	rig_end_both(g);
}

/* Nothing else comes: the relay sleeps, and has to answer nevertheless. (OpenSSL answers
 * with its next data.) */
static void test_key_update_alone(void **state)
{
	struct state *s = *state;
	uint8_t type, record[RAW_RECORD_MAX];
	struct rig *g;

	if (!s->tls13 || !rig_can_rekey(s) || s->place == USERSPACE)
		return;
	g = rig_open(s);
	for (int i = 0; i < 5; i++) {
		ssize_t n;

		raw_update_keys(&g->t.peer, true);
		n = raw_receive(&g->t.peer, &type, record);
		assert_int_equal(type, 22);
		peer_took_update(g, record, n);
	}
	rig_end_both(g);
}

/* The answer waits until there is room for it, the data that comes meanwhile does not. */
static void test_key_update_without_room(void **state)
{
	struct state *s = *state;
	struct rig *g;
	size_t sent;

	if (!s->tls13 || !rig_can_rekey(s))
		return;
	g = rig_open(s);
	sent = backend_stuffs(g);
	raw_update_keys(&g->t.peer, true);
	peer_says(g, "meanwhile");
	backend_expects(g, "meanwhile", 9);
	peer_expects_pattern(g, sent);
	backend_send(g, "behind", 6);
	peer_expects(g, "behind", 6);
	assert_int_equal(g->updates, 1);
	rig_end_both(g);
}

/* At the limit of a key, though nobody counts what is spliced. */
static void test_key_limit(void **state)
{
	enum { RECORDS = 60, LIMIT = 20, LOOK = 4 };
	struct state *s = *state;
	struct rig *g;

	if (!s->tls13 || !rig_can_rekey(s))
		return;
	g = rig_connected(s, true);
	assert_int_equal(tlsfd_set_rekey(g->t.c, TLSFD_REKEY, LIMIT), 0);
	g->set.splices_per_look = LOOK;
	rig_start(g, g->t.c, s, 0);
	for (int i = 0; i < RECORDS; i++) {
		backend_send(g, "x", 1);
		peer_expects(g, "x", 1);
	}
	assert_true(g->updates >= RECORDS / LIMIT - 1);
	assert_true(g->updates <= RECORDS / LOOK);
	rig_end_both(g);
}

/* ---- all of them ---- */

int main(int argc, char **argv)
{
	rig_add("TLS ends first", test_tls_ends_first, false);
	rig_add("plain ends first", test_plain_ends_first, false);
	rig_add("peer is gone", test_peer_is_gone, false);
	rig_add("counts", test_counts, false);
	rig_add("truncated", test_truncated, false);
	rig_add("half a record", test_half_record, false);
	rig_add("alert", test_alert, false);
	rig_add("reset", test_reset, false);
	rig_add("bad record", test_bad_record, false);
	rig_add("bad record and more", test_bad_record_and_more, false);
	rig_add("bad header", test_bad_header, false);
	rig_add("backend reset", test_backend_reset, false);
	rig_add("answered early", test_answered_early, false);
	rig_add("idle", test_idle, false);
	rig_add("stopped", test_stopped, false);
	rig_add("control records", test_control_records, false);
	rig_add("spaced warnings", test_spaced_warnings, false);
	rig_add("empty records", test_empty_records, false);
	rig_add("tickets", test_tickets, false);
	rig_add("key updates", test_key_updates, false);
	rig_add("key update alone", test_key_update_alone, false);
	rig_add("key update without room", test_key_update_without_room, false);
	rig_add("key limit", test_key_limit, false);
	return suite_run(argc, argv);
}
