/*
 * New keys as an answer to the peer's: while somebody is writing, and where there is no room
 * for them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "updates.h"

/* ---- answers while somebody is writing ---- */

enum { LARGE = 8 << 20 };

/* TCP would find more by and by. */
static void little_room(const struct tested *t)
{
	const int size = 65536;

	setsockopt(t->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(t->peer.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

static void *keep_reading(void *arg)
{
	struct tested *t = arg;
	char got[64];
	ssize_t n;

	while ((n = tlsfd_read(t->c, got, sizeof(got))) > 0 && got[n - 1] != '.')
		;
	return n > 0 ? t : NULL;
}

/* The writer is stuck in one call when the KeyUpdate comes; the reader goes on. */
static void test_writer_is_stuck(void **state)
{
	const struct limited *l = *state;
	uint8_t *data = pattern(LARGE + 100);
	struct received r = { .bytes = 0 };
	struct tested t;
	struct job j = { &t, l, data, LARGE, 0 };
	pthread_t writer, reader;
	void *fine;

	begin_keys(&t, state);
	place_block(&t);
	pthread_create(&writer, NULL, do_job, &j);
	receive_bytes(&t, &r, 100000); /* it is inside */
	pthread_create(&reader, NULL, keep_reading, &t);
	say(&t.peer, "one");
	raw_update_keys(&t.peer, true);
	say(&t.peer, "two");
	raw_update_keys(&t.peer, true);
	say(&t.peer, ".");
	pthread_join(reader, &fine);
	assert_non_null(fine);
	receive_bytes(&t, &r, LARGE);
	pthread_join(writer, NULL);
	assert_int_equal(j.result, LARGE);
	assert_int_equal(tlsfd_write(t.c, data + LARGE, 100), 100);
	receive_bytes(&t, &r, LARGE + 100);
	assert_int_equal(r.updates, 1);
	free(data);
	place_close(&t);
}

struct stream {
	struct tested *t;
	const uint8_t *data;
	size_t n;
	bool bare;
	atomic_bool over;
};

static void *stream_out(void *arg)
{
	struct stream *s = arg;

	for (size_t at = 0; at < s->n;) {
		size_t piece = s->n - at < 999 ? s->n - at : 999;

		assert_int_equal(patient_write(s->t, s->data + at, piece), piece);
		at += piece;
	}
	atomic_store(&s->over, true);
	return NULL;
}

/* By splice, with a word between two of them that nobody writes just now. */
static void *splice_out(void *arg)
{
	struct stream *s = arg;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	for (size_t at = 0; at < s->n;) {
		size_t piece = s->n - at < 30000 ? s->n - at : 30000;
		int next = tlsfd_attend(s->t->c, TLSFD_TX, 0);

		assert_true(next == 1 || next == -EAGAIN);
		if (next == -EAGAIN)
			continue;
		assert_int_equal(write(ends[1], s->data + at, piece), piece);
		at += piece;
		while (piece) {
			ssize_t n = splice(ends[0], NULL, s->t->fd, NULL, piece, 0);

			assert_true(n > 0);
			piece -= (size_t)n;
		}
	}
	close(ends[0]);
	close(ends[1]);
	atomic_store(&s->over, true);
	return NULL;
}

/* As much of what the peer sends as there is, without writing in the reader's thread. */
static void attend_all(struct tested *t)
{
	char got[64];
	int next;

	while ((next = tlsfd_attend(t->c, TLSFD_RX, 0)) == 1)
		assert_true(recv(t->fd, got, sizeof(got), MSG_DONTWAIT) > 0);
	assert_int_equal(next, -EAGAIN);
}

static void *read_all(void *arg)
{
	struct stream *s = arg;
	struct pollfd wait = { .fd = s->t->fd, .events = POLLIN };
	char got[64];

	while (!atomic_load(&s->over)) {
		if (poll(&wait, 1, 20) != 1)
			continue;
		if (s->bare)
			attend_all(s->t);
		else
			assert_true(tlsfd_read(s->t->c, got, sizeof(got)) > 0);
	}
	return NULL;
}

/* A writer at full speed, and a peer that wants new keys all the time. */
static void run_stream(struct tested *t, bool bare, size_t n, unsigned every)
{
	uint8_t *data = pattern(n);
	struct stream s = { .t = t, .data = data, .n = n, .bare = bare };
	struct received r = { .bytes = 0 };
	pthread_t writer, reader;
	unsigned asked = 0;

	place_block(t);
	little_room(t); /* or the writer is through before the first question */
	pthread_create(&writer, NULL, bare ? splice_out : stream_out, &s);
	pthread_create(&reader, NULL, read_all, &s);
	while (r.bytes < n) {
		assert_true(receive(t, &r) >= 22);
		if (r.records % every || r.bytes >= n)
			continue;
		raw_update_keys(&t->peer, true);
		raw_send(&t->peer, 23, data, 16384);
		asked++;
	}
	pthread_join(writer, NULL);
	pthread_join(reader, NULL);
	assert_true(asked > 20);
	if (r.updates < 3 || r.updates > asked)
		fail_msg("asked %u times, answered %u", asked, (unsigned)r.updates);
	free(data);
}

static void test_full_speed(void **state)
{
	struct tested t;

	begin_keys(&t, state);
	run_stream(&t, false, 4 << 20, 40);
	place_close(&t);
}

static void test_splice(void **state)
{
	struct tested t;

	begin_keys(&t, state);
	run_stream(&t, true, 8 << 20, 16);
	place_close(&t);
}

/* ---- what is owed ---- */

/* Until TCP has no room for the smallest record, and for a while. */
static void fill(struct tested *t, uint64_t *n)
{
	struct pollfd wait = { .fd = t->fd, .events = POLLOUT };
	uint8_t data[8192];

	for (int refused = 0; refused < 4;) {
		size_t size = refused ? 1 : sizeof(data);
		ssize_t sent;

		for (size_t i = 0; i < size; i++)
			data[i] = (uint8_t)((*n + i) * 251 >> 8);
		sent = tlsfd_write(t->c, data, size);
		assert_true(sent > 0 || sent == -EAGAIN);
		*n += sent > 0 ? (uint64_t)sent : 0;
		if (sent > 0)
			refused = refused > 0;
		else if (++refused > 1)
			poll(&wait, 1, 30);
	}
}

static void test_no_room(void **state)
{
	struct received r = { .bytes = 0 };
	uint8_t data[16384], type;
	struct pollfd wait;
	struct tested t;
	unsigned asked;
	uint64_t n = 0;
	char got[8];

	begin_keys(&t, state);
	little_room(&t);
	for (asked = 0; asked < 30 && tlsfd_wants(t.c, TLSFD_RX) == POLLIN; asked++) {
		fill(&t, &n);
		raw_update_keys(&t.peer, true);
		say(&t.peer, "one");
		expect_read(&t, "one");
	}
	assert_int_equal(tlsfd_wants(t.c, TLSFD_RX), POLLIN | POLLOUT);
	raw_update_keys(&t.peer, true);
	say(&t.peer, "two");
	expect_read(&t, "two");
	assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -EAGAIN);
	receive_bytes(&t, &r, n);
	wait = (struct pollfd){ .fd = t.fd, .events = tlsfd_wants(t.c, TLSFD_RX) };
	assert_int_equal(poll(&wait, 1, PATIENCE_MS), 1);
	assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -EAGAIN);
	assert_int_equal(tlsfd_wants(t.c, TLSFD_RX), POLLIN);
	while (r.updates < asked)
		assert_int_equal(receive(&t, &r), 22);
	/* the last two were answered by one */
	assert_int_equal(tlsfd_write(t.c, "x", 1), 1);
	assert_int_equal(raw_receive(&t.peer, &type, data), 1);
	assert_int_equal(type, 23);
	place_close(&t);
}

static void test_attend(void **state)
{
	struct received r = { .bytes = 0 };
	uint8_t data[16384], type;
	struct tested t;
	char got[8];

	begin_keys(&t, state);
	assert_int_equal(tlsfd_attend(t.c, 0, 0), -EINVAL);
	assert_int_equal(tlsfd_attend(t.c, 4, 0), -EINVAL);
	raw_update_keys(&t.peer, true);
	say(&t.peer, "x");
	while (tlsfd_attend(t.c, TLSFD_RX, 0) == -EAGAIN)
		;
	assert_int_equal(read(t.fd, got, sizeof(got)), 1);
	assert_int_equal(tlsfd_attend(t.c, TLSFD_RX, 0), -EAGAIN);
	assert_int_equal(tlsfd_wants(t.c, TLSFD_RX), POLLIN | POLLOUT);
	assert_int_equal(write(t.fd, "\0", 1), 1); /* still under the old key */
	assert_int_equal(receive(&t, &r), 23);
	assert_int_equal(tlsfd_attend(t.c, TLSFD_TX, 0), 1);
	assert_int_equal(tlsfd_wants(t.c, TLSFD_RX), POLLIN);
	assert_int_equal(receive(&t, &r), 22);
	/* both: at once */
	raw_update_keys(&t.peer, true);
	say(&t.peer, "y");
	while (tlsfd_attend(t.c, TLSFD_RX | TLSFD_TX, 0) == -EAGAIN)
		;
	assert_int_equal(receive(&t, &r), 22);
	/* at half of the limit, as nobody counts the writes */
	assert_int_equal(tlsfd_set_rekey(t.c, TLSFD_REKEY, 20), 0);
	for (int i = 0; i < 9; i++)
		assert_int_equal(write(t.fd, "", 1), 1);
	assert_int_equal(tlsfd_attend(t.c, TLSFD_TX, 0), 1);
	for (int i = 0; i < 9; i++)
		assert_int_equal(raw_receive(&t.peer, &type, data), 1);
	assert_int_equal(receive(&t, &r), 22);
	assert_int_equal(r.updates, 3);
	/* and not before the key was used */
	assert_int_equal(tlsfd_set_rekey(t.c, TLSFD_REKEY, 2), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(tlsfd_attend(t.c, TLSFD_TX, 0), 1);
	assert_int_equal(write(t.fd, "", 1), 1);
	assert_int_equal(tlsfd_attend(t.c, TLSFD_TX, 0), 1);
	assert_int_equal(raw_receive(&t.peer, &type, data), 1);
	assert_int_equal(receive(&t, &r), 22);
	place_close(&t);
}

int main(int argc, char **argv)
{
	static const struct limited ways[] = {
		{ .write = write_at_once, .name = "one write" },
		{ .write = write_vectors, .name = "vectors" },
		{ .write = write_file, .name = "sendfile" },
	};
	static const struct everywhere tests[] = {
		{ test_full_speed, "at full speed", V13, HANDED_OVER },
		{ test_splice, "splice", V13, 1 << KERNEL },
		{ test_no_room, "no room for the answer", V13, 1 << KERNEL | 1 << TX_KERNEL },
		{ test_attend, "attend", V13, 1 << KERNEL },
	};

	everywhere_add(tests, LENGTH(tests), tls13_suites);
	for (unsigned i = 0; i < LENGTH(ways); i++) {
		struct limited l = ways[i];

		l.s = (struct setting){
			{ .tls13 = true, .server = !(i & 1), .suite = tls13_suites[(i + 1) % 3] },
			KERNEL
		};
		suite_add(test_writer_is_stuck, &l, sizeof(l), "stuck in %s", l.name);
	}
	return suite_run(argc, argv);
}
