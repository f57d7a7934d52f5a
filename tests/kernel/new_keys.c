/*
 * New keys for what we send: by us; what is refused or fails half way, and what a peer may
 * not do. At the limit of a key: key_limits.c; as an answer: key_answers.c.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "ktls.h"
#include "stats.h"
#include "sys.h"
#include "updates.h"

/* ---- by us ---- */

static void test_by_us(void **state)
{
	uint8_t *data = pattern(1000);
	struct received r = { .bytes = 0 };
	struct tlsfd_counters n;
	struct stats before, now;
	struct tested t;

	begin_keys(&t, state);
	before = stats_now();
	for (size_t i = 0; i < 100; i++) {
		bool request = i & 1;

		assert_int_equal(tlsfd_rekey(t.c, request), 0);
		assert_int_equal(tlsfd_write(t.c, data + 10 * i, 10), 10);
		receive_bytes(&t, &r, 10 * i + 10);
		assert_int_equal(r.updates, i + 1);
		assert_int_equal(r.requests, (i + 1) / 2);
		if (request)
			raw_update_keys(&t.peer, false);
		say(&t.peer, "pong");
		expect_read(&t, "pong");
	}
	assert_int_equal(tlsfd_counters(t.c, &n), 0);
	assert_int_equal(n.tx_rekeys, 100);
	assert_int_equal(n.rx_rekeys, 50);
	assert_int_equal(n.tx_records, 1);
	assert_int_equal(n.rx_records, 1);
	now = stats_now();
	assert_int_equal(now.tx_rekey_ok - before.tx_rekey_ok,
			 tlsfd_kernel(t.c, TLSFD_TX) ? 100 : 0);
	stats_no_errors(&before, &now);
	assert_int_equal(tlsfd_shutdown(t.c), 0);
	assert_int_equal(tlsfd_rekey(t.c, true), -EPIPE);
	free(data);
	place_close(&t);
}

static void test_impossible(void **state)
{
	struct tested t;

	begin_keys(&t, state);
	assert_int_equal(tlsfd_rekey(t.c, false), -EOPNOTSUPP);
	assert_int_equal(tlsfd_set_rekey(t.c, TLSFD_REKEY, 1), -EINVAL);
	assert_int_equal(tlsfd_set_rekey(t.c, (enum tlsfd_rekey)3, 0), -EINVAL);
	assert_null(tlsfd_report_warning(tlsfd_report(t.c)));
	assert_int_equal(tlsfd_write(t.c, "on", 2), 2);
	place_close(&t);
}

/* Without secrets, by policy or by kernel: what came before, the reason, the alert. */
static void clear_end(struct tested *t)
{
	bool tx = tlsfd_kernel(t->c, TLSFD_TX);
	uint8_t data[16384], type = 0;
	char got[64];

	say(&t->peer, "before");
	raw_update_keys(&t->peer, true);
	say(&t->peer, "after");
	expect_read(t, "before");
	assert_int_equal(patient_read(t, got, 2), -EKEYEXPIRED);
	assert_int_equal(tlsfd_read(t->c, got, sizeof(got)), -EKEYEXPIRED);
	assert_int_equal(tlsfd_write(t->c, "x", 1), -EPIPE);
	assert_non_null(tlsfd_error(t->c));
	assert_int_equal(raw_receive(&t->peer, &type, data), 2);
	assert_int_equal(type, 21);
	assert_int_equal(data[1], tx ? 80 : 20); /* OpenSSL has no way to send the former */
}

static void test_clear_end(void **state)
{
	const struct setting *s = *state;
	bool can = s->place == USERSPACE || kernel_can_rekey();
	struct tested t;

	for (enum tlsfd_rekey policy = TLSFD_REKEY; policy <= TLSFD_REKEY_CONTINUE; policy++) {
		if (policy == TLSFD_REKEY && can)
			continue;
		place_connect(&t, &s->v, s->place);
		assert_int_equal(tlsfd_report_warning(tlsfd_report(t.c)) != NULL, !can);
		assert_int_equal(tlsfd_set_rekey(t.c, policy, 0), 0);
		if (policy != TLSFD_REKEY || tlsfd_kernel(t.c, TLSFD_TX))
			assert_int_equal(tlsfd_rekey(t.c, false), -EOPNOTSUPP);
		clear_end(&t);
		place_close(&t);
	}
}

/* OpenSSL has "after" already when it comes to the KeyUpdate. */
static void test_read_ahead(void **state)
{
	const struct setting *s = *state;
	struct tested t;
	SSL *ssl;

	for (enum tlsfd_rekey policy = TLSFD_REKEY_CLOSE; policy <= TLSFD_REKEY_CONTINUE;
	     policy++) {
		ssl = raw_connect(&t.peer, &s->v, &t.fd);
		SSL_set_read_ahead(ssl, 1);
		t.c = place_put(ssl, t.fd, s->place);
		assert_int_equal(tlsfd_set_rekey(t.c, policy, 0), 0);
		clear_end(&t);
		place_close(&t);
	}
}

/* ---- failures ---- */

static int failing_name, failing_with;

static int fault(int fd, int level, int name)
{
	(void)fd;
	return level == SOL_TLS && name == failing_name ? failing_with : 0;
}

static void fail_at(int name, int err)
{
	failing_name = name;
	failing_with = err;
	sys_fault = name ? fault : NULL;
}

/* The record is out, the key is not: nothing more is sent, least of all under the old one. */
static void test_tx_fails(void **state)
{
	uint8_t data[16384], type;
	struct received r = { .bytes = 0 };
	struct tested t;

	begin_keys(&t, state);
	fail_at(TLS_TX, -ENOMEM);
	assert_int_equal(tlsfd_rekey(t.c, false), -ENOMEM);
	fail_at(0, 0);
	assert_int_equal(tlsfd_write(t.c, "x", 1), -ENOMEM);
	assert_int_equal(tlsfd_rekey(t.c, false), -ENOMEM);
	assert_int_equal(tlsfd_attend(t.c, TLSFD_TX, 0), -ENOMEM);
	assert_int_equal(tlsfd_shutdown(t.c), -ENOMEM);
	say(&t.peer, "still");
	expect_read(&t, "still");
	assert_int_equal(receive(&t, &r), 22);
	shutdown(t.fd, SHUT_WR);
	assert_int_equal(raw_receive(&t.peer, &type, data), -1);
	place_close(&t);
}

/* The same in an answer, by the reader: reading goes on. */
static void test_answer_fails(void **state)
{
	uint8_t data[16384], type;
	struct received r = { .bytes = 0 };
	struct tested t;

	begin_keys(&t, state);
	raw_update_keys(&t.peer, true);
	say(&t.peer, "on");
	fail_at(TLS_TX, -ENOMEM);
	expect_read(&t, "on");
	fail_at(0, 0);
	assert_int_equal(tlsfd_write(t.c, "x", 1), -ENOMEM);
	assert_int_equal(receive(&t, &r), 22);
	shutdown(t.fd, SHUT_WR);
	assert_int_equal(raw_receive(&t.peer, &type, data), -1);
	place_close(&t);
}

static void test_rx_fails(void **state)
{
	uint8_t data[16384], type;
	struct tested t;
	char got[8];

	begin_keys(&t, state);
	raw_update_keys(&t.peer, true);
	say(&t.peer, "lost");
	fail_at(TLS_RX, -ENOMEM);
	assert_int_equal(patient_read(&t, got, sizeof(got)), -ENOMEM);
	fail_at(0, 0);
	assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -ENOMEM);
	assert_int_equal(raw_receive(&t.peer, &type, data), 2);
	assert_int_equal(data[1], 80);
	place_close(&t);
}

/* ---- what a peer may not do ---- */

static void expect_end(struct tested *t, int alert)
{
	uint8_t data[16384], type = 0;
	ssize_t n;
	char got[64];

	while ((n = patient_read(t, got, sizeof(got))) > 0)
		;
	assert_int_equal(n, -EPROTO);
	while (raw_receive(&t->peer, &type, data) == 5 && type == 22)
		raw_next_in(&t->peer);
	assert_int_equal(type, 21);
	assert_int_equal(data[1], alert);
}

static void test_malformed(void **state)
{
	static const struct {
		uint8_t bytes[12];
		size_t n;
		int alert;
	} rows[] = {
		{ { 24, 0, 0, 0 }, 4, 50 },	  { { 24, 0, 0, 2, 0, 0 }, 6, 50 },
		{ { 24, 0, 0, 1, 2 }, 5, 47 },	  { { 24, 0, 0, 1, 0, 24, 0, 0, 1, 0 }, 10, 10 },
		{ { 24, 0, 0, 1, 0, 4 }, 6, 10 },
	};

	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct tested t;

		begin_keys(&t, state);
		raw_send(&t.peer, 22, rows[i].bytes, rows[i].n);
		expect_end(&t, rows[i].alert);
		place_close(&t);
	}
}

static void flood_updates(struct raw_peer *p)
{
	raw_update_keys(p, true);
}

/* Each part of a ticket stops the kernel as a KeyUpdate does. */
static void test_stops(void **state)
{
	struct tested t;

	begin_keys(&t, state);
	raw_send(&t.peer, 22, "\4\1\xff\xff", 4);
	for (int i = 0; i < 100; i++)
		raw_send(&t.peer, 22, "\x18", 1);
	expect_end(&t, 10);
	place_close(&t);
}

static void flood_trickle(struct raw_peer *p)
{
	raw_update_keys(p, true);
	say(p, "x");
}

static void test_flood(void **state)
{
	static void (*const floods[])(struct raw_peer *) = { flood_updates, flood_trickle };

	for (size_t i = 0; i < LENGTH(floods); i++) {
		struct tlsfd_counters n;
		struct tested t;

		begin_keys(&t, state);
		for (int k = 0; k < 200; k++)
			floods[i](&t.peer);
		expect_end(&t, 10);
		assert_int_equal(tlsfd_counters(t.c, &n), 0);
		assert_true(n.rx_rekeys >= 70 && n.rx_rekeys <= 160);
		place_close(&t);
	}
}

static uint64_t rekeys_of(const struct tested *t)
{
	struct tlsfd_counters n;

	assert_int_equal(tlsfd_counters(t->c, &n), 0);
	return n.rx_rekeys;
}

/* As often as a limit of 5 does it, however small the records: for ever, whoever reads. */
static void test_often(void **state)
{
	struct tested t;
	char got[8];

	begin_keys(&t, state);
	for (int i = 0; i < 500; i++) {
		bool bare = i >= 250 && tlsfd_kernel(t.c, TLSFD_RX);

		for (int k = 0; k < 4; k++)
			say(&t.peer, "x");
		raw_update_keys(&t.peer, false);
		for (ssize_t have = 0, n; have < 4; have += n) {
			n = bare ? recv(t.fd, got, sizeof(got), 0) :
				   patient_read(&t, got, sizeof(got));
			if (bare && n < 0 && errno == EAGAIN) { /* what is decrypted isn't polled */
				poll(NULL, 0, 1);
				n = 0;
			} else if (n <= 0) {
				fail_msg("%zd after %d: %s", n, i, tlsfd_error(t.c));
			}
		}
		while (bare && rekeys_of(&t) <= (uint64_t)i) {
			assert_int_equal(tlsfd_attend(t.c, TLSFD_RX | TLSFD_TX, 0), -EAGAIN);
			poll(NULL, 0, 1);
		}
	}
	place_close(&t);
}

int main(int argc, char **argv)
{
	static const struct everywhere tests[] = {
		{ test_by_us, "by us", V13, HANDED_OVER },
		{ test_impossible, "TLS 1.2", V12, HANDED_OVER },
		{ test_clear_end, "no new keys", V13, HANDED_OVER },
		{ test_read_ahead, "no new keys, read ahead", V13, 1 << USERSPACE },
		{ test_tx_fails, "TLS_TX fails", V13, 1 << KERNEL },
		{ test_answer_fails, "TLS_TX fails in an answer", V13,
		  1 << KERNEL | 1 << TX_KERNEL },
		{ test_rx_fails, "TLS_RX fails", V13, 1 << KERNEL },
		{ test_malformed, "malformed", V13, 1 << KERNEL },
		{ test_flood, "flood", V13, HANDED_OVER },
		{ test_often, "often", V13, HANDED_OVER },
	};
	struct setting client = { { .tls13 = true, .suite = tls13_suites[0] }, KERNEL };

	everywhere_add(tests, LENGTH(tests), tls13_suites);
	suite_add(test_stops, &client, sizeof(client), "flood of stops: TLS 1.3 client kernel");
	return suite_run(argc, argv);
}
