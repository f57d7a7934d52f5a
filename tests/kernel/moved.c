/*
 * KeyUpdate before and after a connection has moved, and what becomes of the secrets.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "expect.h"
#include "link.h"
#include "needle.h"
#include "parcel.h"
#include "probe.h"
#include "stats.h"
#include "suite.h"

static void begin(struct tested *t, void **state)
{
	if (probe_kernel(PROBE_REKEY).verdict != PROBE_YES)
		skip_because("this kernel can't change keys");
	place_connect(t, *state, KERNEL);
}

static void expect_update(struct tested *t, uint8_t request)
{
	expect_record(t, HANDSHAKE, (uint8_t[]){ 24, 0, 0, 1, request }, 5);
	raw_next_in(&t->peer);
}

/* By both sides, between moves. */
static void test_key_updates(void **state)
{
	struct stats before = stats_now(), now;
	struct tlsfd_counters n;
	struct tested t;

	begin(&t, state);
	for (int i = 0; i < 10; i++) {
		raw_update_keys(&t.peer, true);
		say(&t.peer, "answered");
		if (i & 1) /* it waits in the kernel meanwhile */
			wait_for(t.fd, POLLIN);
		else
			expect_read(&t, "answered");
		move_on(&t.c, &t.fd);
		if (i & 1)
			expect_read(&t, "answered");
		expect_update(&t, 0);
		assert_int_equal(tlsfd_rekey(t.c, true), 0);
		expect_update(&t, 1);
		move_on(&t.c, &t.fd);
		expect_works(&t);
	}
	assert_int_equal(tlsfd_counters(t.c, &n), 0);
	assert_int_equal(n.rx_rekeys, 10);
	assert_int_equal(n.tx_rekeys, 20);
	now = stats_now();
	stats_no_errors(&before, &now);
	place_close(&t);
}

/* A KeyUpdate in two records, one for each owner. */
static void test_split(void **state)
{
	static const uint8_t message[] = { 24, 0, 0, 1, 1 };
	struct tested t;
	char got[8];

	begin(&t, state);
	for (size_t cut = 1; cut < sizeof(message); cut++) {
		raw_send(&t.peer, HANDSHAKE, message, cut);
		wait_for(t.fd, POLLIN);
		assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -EAGAIN);
		move_on(&t.c, &t.fd);
		raw_send(&t.peer, HANDSHAKE, message + cut, sizeof(message) - cut);
		raw_next_out(&t.peer);
		say(&t.peer, "whole");
		expect_read(&t, "whole");
		expect_update(&t, 0);
	}
	place_close(&t);
}

/* An answer that TCP has no room for has to go out first. */
static void test_answer_waits(void **state)
{
	static const uint8_t zero[16384];
	uint8_t type, data[16384];
	struct pollfd room;
	struct tested t;
	int pair[2];
	char got[8];

	begin(&t, state);
	open_pair(SOCK_STREAM, pair);
	room = (struct pollfd){ .fd = t.fd, .events = POLLOUT };
	do
		while (tlsfd_write(t.c, zero, sizeof(zero)) > 0)
			;
	while (poll(&room, 1, 100) == 1);
	while (tlsfd_write(t.c, zero, 1) > 0)
		;
	raw_update_keys(&t.peer, true);
	wait_for(t.fd, POLLIN);
	assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -EAGAIN);
	assert_int_equal(tlsfd_pass(&t.c, pair[0]), -EAGAIN);
	while (t.c && raw_receive(&t.peer, &type, data) > 0 && type == DATA)
		if (tlsfd_pass(&t.c, pair[0]) == 0)
			break;
	assert_null(t.c);
	while (raw_receive(&t.peer, &type, data) > 0 && type == DATA)
		;
	assert_int_equal(type, HANDSHAKE);
	raw_next_in(&t.peer);
	assert_int_equal(tlsfd_take(&t.c, pair[1]), 0);
	close(t.fd);
	t.fd = tlsfd_fd(t.c);
	expect_works(&t);
	close_pair(pair);
	place_close(&t);
}

/* ---- policy ---- */

/* The limit counts on where it was. */
static void test_limit(void **state)
{
	int updates = 0;
	struct tested t;

	begin(&t, state);
	assert_int_equal(tlsfd_set_rekey(t.c, TLSFD_REKEY, 10), 0);
	for (int i = 0; i < 100; i++) {
		uint8_t type, data[16384];

		assert_int_equal(tlsfd_write(t.c, "data", 4), 4);
		assert_true(raw_receive(&t.peer, &type, data) > 0);
		if (type == HANDSHAKE) {
			raw_next_in(&t.peer);
			updates++;
			expect_record(&t, DATA, "data", 4);
		}
		move_on(&t.c, &t.fd);
	}
	assert_true(updates >= 10 && updates <= 12);
	place_close(&t);
}

static void test_close(void **state)
{
	struct tested t;
	int sent = 0;

	begin(&t, state);
	assert_int_equal(tlsfd_set_rekey(t.c, TLSFD_REKEY_CLOSE, 10), 0);
	move_on(&t.c, &t.fd);
	while (tlsfd_write(t.c, "data", 4) == 4) {
		expect_record(&t, DATA, "data", 4);
		sent++;
		move_on(&t.c, &t.fd);
	}
	assert_int_equal(sent, 9);
	move_on(&t.c, &t.fd);
	assert_int_equal(tlsfd_write(t.c, "data", 4), -EKEYEXPIRED);
	assert_int_equal(tlsfd_shutdown(t.c), 0);
	expect_record(&t, 21, "\1\0", 2);
	place_close(&t);
}

static void test_continue(void **state)
{
	struct tested t;

	begin(&t, state);
	assert_int_equal(tlsfd_set_rekey(t.c, TLSFD_REKEY_CONTINUE, 10), 0);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(tlsfd_write(t.c, "data", 4), 4);
		move_on(&t.c, &t.fd);
	}
	assert_non_null(tlsfd_report_warning(tlsfd_report(t.c)));
	assert_int_equal(tlsfd_rekey(t.c, false), -EOPNOTSUPP); /* no secret has moved */
	place_close(&t);
}

/* ---- secrets ---- */

/* The old owner changed keys after it had passed the connection on. */
static void test_stale_secret(void **state)
{
	int pair[2], fd[2];
	struct tlsfd *c, *late;
	struct parcel p;
	struct tested t;

	begin(&t, state);
	open_pair(SOCK_STREAM, pair);
	assert_int_equal(tlsfd_pass(&t.c, pair[0]), 0);
	parcel_open(&p, pair[1]);
	for (int turn = 0; turn < 2; turn++) {
		fd[0] = p.fd[0];
		fd[1] = pipe_of(p.letter, p.size);
		send_message(pair[0], p.text, sizeof(p.text), fd, 2);
		close(fd[1]);
		assert_int_equal(tlsfd_take(turn ? &late : &c, pair[1]), turn ? -ESTALE : 0);
		if (turn)
			break;
		assert_int_equal(tlsfd_rekey(c, false), 0);
		for (int i = 0; i < 9; i++) /* more records than before */
			assert_int_equal(tlsfd_write(c, "new key", 7), 7);
	}
	assert_null(late);
	close(tlsfd_fd(c));
	t.c = c;
	parcel_close(&p);
	close_pair(pair);
	place_close(&t);
}

/* Two owners, as after fork: the one who changes keys first has them alone, and no key is
 * set twice. */
static void test_two_owners(void **state)
{
	uint8_t byte;
	struct tlsfd *c[2];
	struct parcel p;
	struct tested t;
	int pair[2];

	begin(&t, state);
	open_pair(SOCK_STREAM, pair);
	assert_int_equal(tlsfd_pass(&t.c, pair[0]), 0);
	parcel_open(&p, pair[1]);
	for (int i = 0; i < 2; i++) {
		int fd[2] = { p.fd[0], pipe_of(p.letter, p.size) };

		send_message(pair[0], p.text, sizeof(p.text), fd, 2);
		close(fd[1]);
		assert_int_equal(tlsfd_take(&c[i], pair[1]), 0);
	}
	assert_int_equal(tlsfd_write(c[1], "both write", 10), 10);
	expect_record(&t, DATA, "both write", 10);
	assert_int_equal(tlsfd_rekey(c[0], false), 0);
	expect_record(&t, HANDSHAKE, "\30\0\0\1\0", 5);
	raw_next_in(&t.peer);
	assert_int_equal(tlsfd_rekey(c[1], false), -ESTALE);
	assert_non_null(tlsfd_error(c[1]));
	assert_int_equal(tlsfd_write(c[1], "x", 1), -ESTALE);
	assert_int_equal(tlsfd_write(c[0], "y", 1), 1);
	expect_record(&t, DATA, "y", 1);
	close(tlsfd_fd(c[1]));
	tlsfd_free(c[1]);
	assert_int_equal(recv(t.peer.fd, &byte, 1, MSG_DONTWAIT), -1);
	close(tlsfd_fd(c[0]));
	t.c = c[0];
	parcel_close(&p);
	close_pair(pair);
	place_close(&t);
}

/* The raw peer has both secrets in this process, too: one more is the connection's. */
static void test_no_secret_left(void **state)
{
	struct tested t;
	int pair[2];

	if (SANITIZED)
		skip_because("a sanitizer has memory of its own");
	begin(&t, state);
	open_pair(SOCK_STREAM, pair);
	for (int server = 0; server < 2; server++) {
		struct needle secret;
		int before;

		needle_make(&secret, "secret", t.peer.secret[server], t.peer.secret_size);
		before = needle_count(&secret);
		assert_int_equal(tlsfd_pass(&t.c, pair[0]), 0);
		assert_int_equal(needle_count(&secret), before - 1);
		assert_int_equal(tlsfd_take(&t.c, pair[1]), 0);
		assert_int_equal(needle_count(&secret), before);
		close(t.fd);
		t.fd = tlsfd_fd(t.c);
	}
	expect_works(&t);
	close_pair(pair);
	place_close(&t);
}

int main(int argc, char **argv)
{
	static const char *const suites[] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
					      "TLS_CHACHA20_POLY1305_SHA256" };
	static const struct {
		CMUnitTestFunction test;
		const char *name;
	} tests[] = {
		{ test_key_updates, "KeyUpdate by both" },
		{ test_split, "KeyUpdate split" },
		{ test_answer_waits, "an answer waits" },
		{ test_limit, "limit" },
		{ test_close, "close at the limit" },
		{ test_continue, "continue at the limit" },
		{ test_stale_secret, "a stale secret" },
		{ test_two_owners, "two owners" },
		{ test_no_secret_left, "no secret left" },
	};

	for (size_t i = 0; i < LENGTH(tests); i++)
		for (size_t k = 0; k < 2 * LENGTH(suites); k++) {
			struct raw_variant v = { .tls13 = true,
						 .server = k & 1,
						 .suite = suites[k / 2] };

			suite_add(tests[i].test, &v, sizeof(v), "%s: %s %s", tests[i].name, v.suite,
				  v.server ? "server" : "client");
		}
	return suite_run(argc, argv);
}
