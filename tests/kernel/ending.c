/* SPDX-License-Identifier: MIT */
#include "ending.h"

#include <string.h>

#include "control.h"
#include "suite.h"

void bye(struct raw_peer *p)
{
	raw_send_alert(p, 1, 0);
}

void after(struct raw_peer *p)
{
	say(p, "after");
	bye(p);
}

/* ---- one connection ---- */

struct run {
	const struct ending *ending;
	struct raw_variant v;
	enum place place;
	size_t chunk; /* most per tlsfd_read */
	bool blocking;
	bool write_first; /* before anything is read */
};

static struct answer wanted(const struct run *r)
{
	bool openssl = !place_in_kernel(r->place, TLSFD_RX);
	struct answer want = r->ending->want;

	if (openssl && r->ending->want_openssl)
		want = *r->ending->want_openssl;
	if (r->place == RX_KERNEL) { /* see userspace_alert */
		want.refusals = 0;
		if (want.reply != NONE)
			want.reply = SOME;
	}
	return want;
}

/* The same wherever the records are read. */
static const char *sentence_of(const struct answer *want)
{
	switch (want->result) {
	case 0:
		return "(none)";
	case -ECONNABORTED:
		return "the peer ended TCP without close_notify";
	case -ECONNRESET:
		return "the peer reset the connection";
	case -EBADMSG:
		return "a record did not decrypt";
	case -EMSGSIZE:
		return "the peer sent a record that is too long";
	case -EINVAL:
		return "the peer sent something that is no TLS record";
	case -EKEYEXPIRED:
		return "the peer changed its keys (KeyUpdate)";
	default:
		return want->alert == NONE ? "the peer sent a record that has no place here" :
					     "the peer sent a fatal alert";
	}
}

static void check_reading(struct tested *t, const struct run *r, const struct answer *want)
{
	char data[256] = "", buf[16384];
	ssize_t n;

	while ((n = patient_read(t, buf, r->chunk)) > 0) {
		assert_true(strlen(data) + (size_t)n < sizeof(data));
		strncat(data, buf, (size_t)n);
	}
	assert_memory_equal(data, "before", 6);
	assert_string_equal(data + 6, want->data ? want->data : "");
	for (int again = 0; again < 3; again++) {
		assert_int_equal(n, want->result);
		n = tlsfd_read(t->c, buf, r->chunk);
	}
	assert_int_equal(tlsfd_alert(t->c), want->alert);
	assert_string_equal(tlsfd_error(t->c) ? tlsfd_error(t->c) : "(none)", sentence_of(want));
}

static void expect_alert(struct tested *t, int level, int number)
{
	uint8_t type = 0, data[16384];
	ssize_t n = raw_receive(&t->peer, &type, data);

	assert_int_equal(n, 2);
	assert_int_equal(type, 21);
	assert_int_equal(data[0], level);
	if (number != SOME)
		assert_int_equal(data[1], number);
}

static void check_writing(struct tested *t, const struct answer *want)
{
	uint8_t type = 0, data[16384];

	for (unsigned i = 0; i < want->refusals; i++)
		expect_alert(t, 1, 100);
	if (want->reply != NONE)
		expect_alert(t, 2, want->reply);
	if (want->dead) {
		for (int again = 0; again < 3; again++)
			assert_int_equal(tlsfd_write(t->c, "x", 1), -EPIPE);
		assert_int_equal(tlsfd_shutdown(t->c), -EPIPE);
		return;
	}
	assert_int_equal(patient_write(t, "answer", 6), 6);
	assert_int_equal(raw_receive(&t->peer, &type, data), 6);
	assert_int_equal(type, 23);
	assert_memory_equal(data, "answer", 6);
	assert_int_equal(tlsfd_shutdown(t->c), 0);
	assert_int_equal(tlsfd_shutdown(t->c), 0);
	expect_alert(t, 1, 0);
	assert_int_equal(raw_receive(&t->peer, &type, data), -1);
	assert_int_equal(tlsfd_write(t->c, "x", 1), -EPIPE);
}

/* A writer who comes upon what the reader has not read: what is wrong with it is for the
 * reader to tell. */
static void write_unread(struct tested *t, const struct answer *want)
{
	ssize_t sent = tlsfd_write(t->c, "early", 5);
	uint8_t type = 0, data[16384];

	assert_true(sent == 5 || (sent == -EPIPE && want->dead) ||
		    (sent == -ECONNRESET && want->result == -ECONNRESET));
	if (sent == 5 && want->result != -ECONNRESET) {
		assert_int_equal(raw_receive(&t->peer, &type, data), 5);
		assert_memory_equal(data, "early", 5);
	}
}

static void check_counters(struct tested *t, const struct answer *want)
{
	struct tlsfd_counters n;

	assert_int_equal(tlsfd_counters(t->c, &n), 0);
	if (want->skipped == CONTROL_BUDGET) /* each second pays some back */
		assert_true(n.skipped >= CONTROL_BUDGET && n.skipped < MANY);
	else
		assert_int_equal(n.skipped, want->skipped);
	assert_true(n.rx_records >= 1 || want->result); /* ChangeCipherSpec sets it back */
	assert_true(n.rx_bytes > 100 && n.tx_bytes > 100);
}

static void test_ending(void **state)
{
	const struct run *r = *state;
	struct answer want = wanted(r);
	struct tested t;

	place_connect(&t, &r->v, r->place);
	if (r->blocking)
		place_block(&t);
	say(&t.peer, "before");
	r->ending->act(&t.peer);
	if (r->write_first)
		write_unread(&t, &want);
	check_reading(&t, r, &want);
	check_counters(&t, &want);
	if (r->ending->one_end_only)
		assert_int_equal(tlsfd_write(t.c, "x", 1), r->write_first ? -ECONNRESET : -EPIPE);
	else
		check_writing(&t, &want);
	place_close(&t);
}

/* ---- all of them ---- */

static void add(const struct ending *e, bool tls13, bool server, enum place place)
{
	struct run r = { .ending = e, .v = { .tls13 = tls13, .server = server }, .place = place };
	static const struct {
		size_t chunk;
		bool blocking, write_first;
		const char *name;
	} ways[] = { { 16384, false, false, "" },
		     { 1, false, false, " by 1" },
		     { 4, true, false, " blocking" },
		     { 16384, false, true, " after a write" } };

	for (size_t i = 0; i < LENGTH(ways) && place_expected(place); i++) {
		r.chunk = ways[i].chunk;
		r.blocking = ways[i].blocking;
		r.write_first = ways[i].write_first;
		suite_add(test_ending, &r, sizeof(r), "%s: TLS 1.%d %s %s%s", e->name,
			  tls13 ? 3 : 2, server ? "server" : "client", place_names[place],
			  ways[i].name);
	}
}

int endings_run(const struct ending *endings, size_t n, int argc, char **argv)
{
	suite_slice(3);
	for (size_t i = 0; i < n; i++)
		for (int kind = 0; kind < 4 * PLACES; kind++) {
			const struct ending *e = &endings[i];
			bool tls13 = kind & 1, server = kind & 2;

			if (e->versions & (tls13 ? V13 : V12) &&
			    e->roles & (server ? SERVER : CLIENT))
				add(e, tls13, server, (enum place)(kind / 4));
		}
	return suite_run(argc, argv);
}
