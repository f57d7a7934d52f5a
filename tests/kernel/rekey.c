/*
 * KeyUpdate received: every shape in which a peer can send it, in every place; what was
 * read, what was answered, and what the kernel counted.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "expect.h"
#include "probe.h"
#include "stats.h"
#include "suite.h"

static bool kernel_can(void)
{
	return probe_kernel(PROBE_REKEY).verdict == PROBE_YES;
}

/* ---- what the peer does ---- */

static void one(struct raw_peer *p)
{
	raw_update_keys(p, false);
	say(p, "after");
}

static void one_requested(struct raw_peer *p)
{
	raw_update_keys(p, true);
	say(p, "after");
}

static void among_data(struct raw_peer *p)
{
	say(p, "a");
	raw_update_keys(p, false);
	say(p, "b");
	raw_update_keys(p, true);
	raw_update_keys(p, false);
	say(p, "c");
	say(p, "d");
	raw_update_keys(p, true);
	say(p, "e");
}

static void many(struct raw_peer *p)
{
	for (int i = 0; i < 60; i++)
		raw_update_keys(p, false);
	say(p, "after");
}

static void many_requested(struct raw_peer *p)
{
	for (int i = 0; i < 60; i++)
		raw_update_keys(p, true);
	say(p, "after");
}

static void many_with_data(struct raw_peer *p)
{
	char text[] = "0";

	for (int i = 0; i < 60; i++) {
		*text = (char)('0' + i);
		say(p, text);
		raw_update_keys(p, i & 1);
	}
	say(p, "$");
}

#define TICKET 4, 0, 0, 14, 0, 0, 14, 16, 1, 2, 3, 4, 0, 0, 1, 24, 0, 0 /* 24: see fragment_24 */

static void behind_ticket(struct raw_peer *p)
{
	raw_send(p, 22, (uint8_t[]){ TICKET, TICKET, 24, 0, 0, 1, 1 }, 41);
	raw_next_out(p);
	say(p, "after");
}

static void ticket_then_update(struct raw_peer *p)
{
	raw_send(p, 22, (uint8_t[]){ TICKET }, 18);
	raw_update_keys(p, true);
	raw_send(p, 22, (uint8_t[]){ TICKET }, 18);
	raw_update_keys(p, false);
	say(p, "after");
}

static void split_at(struct raw_peer *p, size_t cut, bool with_data)
{
	static const uint8_t message[] = { 24, 0, 0, 1, 1 };

	raw_send(p, 22, message, cut);
	raw_send(p, 22, message + cut, sizeof(message) - cut);
	raw_next_out(p);
	if (with_data)
		say(p, "x");
}

static void split(struct raw_peer *p)
{
	for (size_t cut = 1; cut < 5; cut++)
		split_at(p, cut, true);
	for (size_t cut = 1; cut < 5; cut++)
		split_at(p, cut, false);
	say(p, "y");
}

/* The kernel takes the second part for a KeyUpdate. */
static void fragment_24(struct raw_peer *p)
{
	static const uint8_t ticket[] = { TICKET };

	raw_send(p, 22, ticket, 15);
	raw_send(p, 22, ticket + 15, 3);
	say(p, "after");
	raw_send(p, 22, ticket, 15);
	raw_send(p, 22, ticket + 15, 3);
	raw_update_keys(p, true);
	say(p, ".");
}

struct shape {
	const char *name;
	void (*act)(struct raw_peer *p);
	const char *text;
	unsigned rx, tx, resumes;
	bool client_only;
};

static const struct shape shapes[] = {
	{ "one", one, "after", 1, 0, 0, false },
	{ "one, answered", one_requested, "after", 1, 1, 0, false },
	{ "among data", among_data, "abcde", 4, 2, 0, false },
	{ "many", many, "after", 60, 0, 0, false },
	{ "many, answered", many_requested, "after", 60, 60, 0, false },
	{ "many with data", many_with_data,
	  "0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijk$", 60, 30, 0, false },
	{ "split", split, "xxxxy", 8, 8, 8, false },
	{ "behind tickets in one record", behind_ticket, "after", 1, 1, 0, true },
	{ "tickets between", ticket_then_update, "after", 2, 1, 0, true },
	{ "ticket that looks like one", fragment_24, "after.", 1, 1, 2, true },
};

/* ---- how it is read ---- */

/* As an event loop does: never a read without poll, never two after one. */
static ssize_t polled_read(struct tested *t, void *buf, size_t n)
{
	struct pollfd wait = { .fd = t->fd, .events = POLLIN };
	ssize_t got;

	do {
		if (poll(&wait, 1, PATIENCE_MS) != 1)
			return -ETIMEDOUT;
		got = tlsfd_read(t->c, buf, n);
	} while (got == -EAGAIN);
	return got;
}

/* Through two vectors, the first of them short. */
static ssize_t vector_read(struct tested *t, void *buf, size_t n)
{
	size_t first = n < 3 ? n : 3;
	struct iovec iov[] = { { buf, first }, { buf, 0 }, { (char *)buf + first, n - first } };
	struct pollfd wait = { .fd = t->fd, .events = POLLIN };
	ssize_t got;

	while ((got = tlsfd_readv(t->c, iov, 3)) == -EAGAIN && poll(&wait, 1, PATIENCE_MS) == 1)
		;
	return got;
}

struct reading {
	const char *name;
	ssize_t (*read)(struct tested *t, void *buf, size_t n);
	size_t chunk;
	bool blocking;
};

static const struct reading readings[] = {
	{ "", patient_read, 16384, false },      { " by 1", patient_read, 1, false },
	{ " polled", polled_read, 16384, false }, { " by 4, polled", polled_read, 4, false },
	{ " blocking", patient_read, 16384, true }, { " vectors", vector_read, 16384, false },
};

struct run {
	const struct shape *shape;
	const struct reading *reading;
	struct raw_variant v;
	enum place place;
	bool at_once; /* all is there before the first read */
};

static void read_text(struct tested *t, const struct reading *how, const char *want)
{
	char got[128] = "";
	size_t have = 0, n = strlen(want);

	while (have < n) {
		size_t room = sizeof(got) - have < how->chunk ? sizeof(got) - have : how->chunk;
		ssize_t part = how->read(t, got + have, room);

		if (part <= 0)
			fail_msg("%zd (%s) after \"%.*s\"", part, tlsfd_error(t->c), (int)have,
				 got);
		have += (size_t)part;
	}
	assert_int_equal(have, n);
	assert_memory_equal(got, want, n);
}

/* The peer's next data, which must be `want`; returns how many KeyUpdates came before. */
static unsigned expect_data(struct tested *t, const char *want)
{
	uint8_t data[16384], type;

	for (unsigned updates = 0;; updates++) {
		ssize_t n = raw_receive(&t->peer, &type, data);

		if (n == (ssize_t)strlen(want) && type == 23) {
			assert_memory_equal(data, want, strlen(want));
			return updates;
		}
		assert_int_equal(n, 5);
		assert_int_equal(type, 22);
		assert_memory_equal(data, ((uint8_t[]){ 24, 0, 0, 1, 0 }), 5);
		raw_next_in(&t->peer);
	}
}

static void check_counts(struct tested *t, const struct run *r, unsigned answers,
			 const struct stats *before)
{
	struct stats now = stats_now();
	struct tlsfd_counters n;
	bool rx = place_in_kernel(r->place, TLSFD_RX), tx = place_in_kernel(r->place, TLSFD_TX);

	assert_int_equal(tlsfd_counters(t->c, &n), 0);
	assert_int_equal(n.rx_rekeys, r->shape->rx);
	assert_int_equal(n.tx_rekeys, answers);
	assert_int_equal(now.rx_rekey_ok - before->rx_rekey_ok,
			 rx ? r->shape->rx + r->shape->resumes : 0);
	assert_int_equal(now.tx_rekey_ok - before->tx_rekey_ok, tx ? answers : 0);
	if (rx && r->shape->act != behind_ticket && r->shape->act != split)
		assert_int_equal(now.rx_rekey_received - before->rx_rekey_received,
				 r->shape->rx + r->shape->resumes);
	stats_no_errors(before, &now);
}

static void test_received(void **state)
{
	const struct run *r = *state;
	struct tested t;
	struct stats before;
	unsigned answers;

	if (r->place != USERSPACE && !kernel_can())
		skip_because("this kernel can't change keys");
	place_connect(&t, &r->v, r->place);
	if (r->reading->blocking)
		place_block(&t);
	before = stats_now();
	r->shape->act(&t.peer);
	if (!r->at_once)
		say(&t.peer, "again");
	read_text(&t, r->reading, r->shape->text);
	if (!r->at_once)
		read_text(&t, r->reading, "again");
	assert_int_equal(patient_write(&t, "reply", 5), 5);
	answers = expect_data(&t, "reply");
	if (r->place == KERNEL)
		assert_int_equal(answers, r->shape->tx);
	else /* OpenSSL reads on before it tells: one answer for several */
		assert_int_equal(!answers, !r->shape->tx);
	if (r->place != USERSPACE)
		check_counts(&t, r, answers, &before);
	say(&t.peer, "bye");
	read_text(&t, r->reading, "bye");
	place_close(&t);
}

/* ---- all of them ---- */

static const char *const suites[] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
				      "TLS_CHACHA20_POLY1305_SHA256" };

static void add_received(const struct shape *s)
{
	for (unsigned kind = 0; kind < 2 * PLACES * LENGTH(readings); kind++) {
		struct run r = { .shape = s,
				 .reading = &readings[kind / 2 % LENGTH(readings)],
				 .v = { .tls13 = true, .server = kind & 1 },
				 .place = (enum place)(kind / 2 / LENGTH(readings)),
				 .at_once = true };

		r.v.suite = suites[kind % LENGTH(suites)];
		if (s->client_only && r.v.server)
			continue;
		/* OpenSSL holds the rest of a record */
		if (r.reading == &readings[3] && !place_in_kernel(r.place, TLSFD_RX))
			continue;
		suite_add(test_received, &r, sizeof(r), "%s: %s %s %s%s", s->name,
			  r.v.server ? "server" : "client", place_names[r.place], r.v.suite,
			  r.reading->name);
	}
}

int main(int argc, char **argv)
{
	for (size_t i = 0; i < LENGTH(shapes); i++)
		add_received(&shapes[i]);
	return suite_run(argc, argv);
}
