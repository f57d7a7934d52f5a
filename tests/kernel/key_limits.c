/*
 * New keys at the limit of a key, or the end of the connection, or neither, as it was wished;
 * whatever is written at a time, and with a million records.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stats.h"
#include "updates.h"

enum { LIMIT = 50 };

/* No key is used for more records than it may be, whatever is written at a time; on a
 * blocking fd all of it is taken. */
static void test_limit(void **state)
{
	const struct limited *l = *state;
	uint8_t *data = pattern(l->n);
	struct received r = { .bytes = 0 };
	struct tested t;
	struct job j = { &t, l, data, l->n, 0 };
	pthread_t thread;

	begin_keys(&t, state);
	assert_int_equal(tlsfd_set_rekey(t.c, TLSFD_REKEY, LIMIT), 0);
	place_block(&t);
	pthread_create(&thread, NULL, do_job, &j);
	receive_bytes(&t, &r, l->n);
	pthread_join(thread, NULL);
	assert_int_equal(j.result, l->n);
	assert_true(r.most <= LIMIT);
	assert_true(r.updates >= r.records / LIMIT - 1 && r.updates > 1);
	assert_int_equal(r.requests, 0);
	assert_null(tlsfd_report_warning(tlsfd_report(t.c)));
	free(data);
	place_close(&t);
}

/* TLS 1.2 can only end, or go on. */
static void test_close(void **state)
{
	uint8_t *data = pattern(10 * LIMIT);
	struct received r = { .bytes = 0 };
	struct tlsfd_counters n;
	struct tested t;
	ssize_t sent = 0;
	uint64_t at;

	begin_keys(&t, state);
	assert_int_equal(tlsfd_set_rekey(t.c, TLSFD_REKEY_CLOSE, LIMIT), 0);
	for (at = 0; at < LIMIT && (sent = tlsfd_write(t.c, data + at, 1)) == 1; at++)
		;
	assert_int_equal(sent, -EKEYEXPIRED);
	assert_non_null(tlsfd_error(t.c));
	assert_int_equal(tlsfd_counters(t.c, &n), 0);
	assert_int_equal(n.tx_records, LIMIT - 1);
	assert_int_equal(tlsfd_write(t.c, "x", 1), -EKEYEXPIRED);
	say(&t.peer, "still");
	expect_read(&t, "still");
	assert_int_equal(tlsfd_shutdown(t.c), 0);
	receive_bytes(&t, &r, at);
	assert_int_equal(receive(&t, &r), 21);
	assert_int_equal(receive(&t, &r), -1);
	free(data);
	place_close(&t);
}

static void test_continue(void **state)
{
	uint8_t *data = pattern(10 * LIMIT);
	struct received r = { .bytes = 0 };
	struct tested t;
	bool tls13;

	begin_keys(&t, state);
	tls13 = t.peer.tls13;
	assert_int_equal(tlsfd_set_rekey(t.c, tls13 ? TLSFD_REKEY_CONTINUE : TLSFD_REKEY, LIMIT),
			 0);
	assert_null(tlsfd_report_warning(tlsfd_report(t.c)));
	for (int i = 0; i < 10 * LIMIT; i++)
		assert_int_equal(tlsfd_write(t.c, data + i, 1), 1);
	receive_bytes(&t, &r, 10 * LIMIT);
	assert_int_equal(r.updates, 0);
	assert_non_null(tlsfd_report_warning(tlsfd_report(t.c)));
	assert_null(tlsfd_error(t.c));
	free(data);
	place_close(&t);
}

/* ---- a million records ---- */

struct side {
	struct tlsfd *c;
	unsigned writes;
	uint64_t sent_sum, got_sum, got;
	unsigned failed; /* the line */
};

enum { PIECE = 64 };

static void *write_million(void *arg)
{
	struct side *s = arg;
	uint8_t data[PIECE];

	for (unsigned i = 0; i < s->writes; i++) {
		for (unsigned k = 0; k < PIECE; k++)
			data[k] = (uint8_t)(i * 7 + k);
		s->sent_sum = s->sent_sum * 31 + i % 251;
		if (tlsfd_write(s->c, data, PIECE) != PIECE) {
			s->failed = __LINE__;
			return NULL;
		}
		if (i % 5000 == 4999 && tlsfd_rekey(s->c, true)) {
			s->failed = __LINE__;
			return NULL;
		}
	}
	return NULL;
}

static void *read_million(void *arg)
{
	struct side *s = arg;
	uint8_t data[4096];
	uint64_t left = (uint64_t)s->writes * PIECE;

	while (left) {
		ssize_t n = tlsfd_read(s->c, data, left < sizeof(data) ? left : sizeof(data));

		if (n <= 0) {
			s->failed = __LINE__;
			return NULL;
		}
		for (ssize_t i = 0; i < n; i++, s->got++)
			if (data[i] != (uint8_t)(s->got / PIECE * 7 + s->got % PIECE))
				s->failed = __LINE__;
		left -= (uint64_t)n;
	}
	return NULL;
}

static unsigned writes(const struct setting *s)
{
	const char *slice = getenv("TLSFD_SLICE");

	return strcmp(s->v.suite, tls13_suites[0]) != 0 || (slice && *slice == '1') ? 50000 :
										      500000;
}

/* What has come behind the data. */
static void drain(int fd, struct tlsfd *c)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	char byte;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	poll(&wait, 1, 10);
	assert_int_equal(tlsfd_read(c, &byte, 1), -EAGAIN);
}

/* Both ways at once, both ends ours, both asking the other for new keys. */
static void test_million(void **state)
{
	const struct setting *s = *state;
	struct side side[2] = { { .c = NULL } };
	struct tlsfd_counters n[2];
	struct stats before, now;
	pthread_t threads[4];
	SSL *ssl[2];
	int fd[2];

	if (!kernel_can_rekey())
		skip_because("this kernel can't change keys");
	raw_pair(&s->v, ssl, fd);
	before = stats_now();
	for (int i = 0; i < 2; i++) {
		side[i] =
			(struct side){ .c = place_put(ssl[i], fd[i], KERNEL), .writes = writes(s) };
		assert_int_equal(tlsfd_set_rekey(side[i].c, TLSFD_REKEY, 2000), 0);
		fcntl(fd[i], F_SETFL, 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, i & 1 ? read_million : write_million,
			       &side[i / 2]);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 6; i++)
		drain(fd[i & 1], side[i & 1].c);
	now = stats_now();
	for (int i = 0; i < 2; i++) {
		if (side[i].failed)
			fail_msg("line %u: %s", side[i].failed, tlsfd_error(side[i].c));
		assert_int_equal(tlsfd_counters(side[i].c, &n[i]), 0);
		assert_true(n[i].tx_rekeys >= writes(s) / 2000);
	}
	assert_int_equal(n[0].rx_rekeys, n[1].tx_rekeys);
	assert_int_equal(n[1].rx_rekeys, n[0].tx_rekeys);
	assert_int_equal(now.tx_rekey_ok - before.tx_rekey_ok, n[0].tx_rekeys + n[1].tx_rekeys);
	assert_int_equal(now.rx_rekey_ok - before.rx_rekey_ok, n[0].rx_rekeys + n[1].rx_rekeys);
	assert_int_equal(now.rx_rekey_received - before.rx_rekey_received,
			 now.rx_rekey_ok - before.rx_rekey_ok);
	stats_no_errors(&before, &now);
	printf("# %u records each way, %u and %u times new keys\n", writes(s),
	       (unsigned)n[0].tx_rekeys, (unsigned)n[1].tx_rekeys);
	for (int i = 0; i < 2; i++) {
		tlsfd_free(side[i].c);
		close(fd[i]);
	}
}

static void add_ways(void)
{
	static const struct limited ways[] = {
		{ .write = write_pieces, .name = "pieces", .n = 600000 },
		{ .write = write_at_once, .name = "one write", .n = 5000000 },
		{ .write = write_vectors, .name = "vectors", .n = 5000000 },
		{ .write = write_file, .name = "sendfile", .n = 5000000 },
	};

	for (unsigned i = 0; i < LENGTH(ways) * PLACES; i++) {
		struct limited l = ways[i % LENGTH(ways)];

		l.s = (struct setting){
			{ .tls13 = true, .server = i & 1, .suite = tls13_suites[i % 3] },
			(enum place)(i / LENGTH(ways))
		};
		suite_add(test_limit, &l, sizeof(l), "limit: %s, %s", l.name,
			  place_names[l.s.place]);
	}
}

int main(int argc, char **argv)
{
	static const struct everywhere tests[] = {
		{ test_close, "limit: close", BOTH, HANDED_OVER },
		{ test_continue, "limit: continue", BOTH, HANDED_OVER },
	};

	everywhere_add(tests, LENGTH(tests), tls13_suites);
	add_ways();
	suite_slice(1);
	for (size_t i = 0; i < 3; i += 2) {
		struct setting s = { { .tls13 = true, .suite = tls13_suites[i] }, KERNEL };

		suite_add(test_million, &s, sizeof(s), "a million records, %s", tls13_suites[i]);
	}
	return suite_run(argc, argv);
}
