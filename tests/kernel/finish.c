/*
 * tlsfd_finish, and an end that comes from elsewhere: shutdown(2) behind our back, or
 * before all is read; in every place.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "everywhere.h"
#include "expect.h"

static void begin(struct tested *t, void **state)
{
	place_connect(t, &setting_of(state)->v, setting_of(state)->place);
}

static void test_finish(void **state)
{
	struct tested t;

	begin(&t, state);
	say(&t.peer, "unread");
	raw_send_alert(&t.peer, 1, 0);
	assert_int_equal(tlsfd_finish(t.c, PATIENCE_MS), 0);
	expect_goodbye(&t);
	assert_int_equal(tlsfd_finish(t.c, 0), 0);
	place_close(&t);
}

static void test_finish_timeout(void **state)
{
	struct tested t;

	begin(&t, state);
	place_block(&t);
	say(&t.peer, "unread");
	assert_int_equal(tlsfd_finish(t.c, 60), -ETIMEDOUT);
	expect_goodbye(&t);
	raw_fin(&t.peer);
	assert_int_equal(tlsfd_finish(t.c, PATIENCE_MS), -ECONNABORTED);
	place_close(&t);
}

static void test_finish_after_error(void **state)
{
	struct tested t;
	uint8_t record[RAW_RECORD_MAX], type, data[16384];
	size_t n;

	begin(&t, state);
	n = raw_seal(&t.peer, 23, "forged", 6, record);
	record[n - 1] ^= 1;
	raw_send_bytes(&t.peer, record, n);
	raw_send_bytes(&t.peer, record, n);
	assert_int_equal(patient_read(&t, data, sizeof(data)), -EBADMSG);
	assert_int_equal(tlsfd_finish(t.c, PATIENCE_MS), -EBADMSG);
	close(t.fd); /* with unread data: a reset, but the alert is there before it */
	t.fd = -1;
	assert_int_equal(raw_receive(&t.peer, &type, data), 2);
	assert_int_equal(type, 21);
	assert_int_equal(data[1], 20);
	place_close(&t);
}

static void *flood(void *arg)
{
	static const uint8_t data[16384];
	struct raw_peer *p = arg;
	uint8_t record[RAW_RECORD_MAX];

	for (int i = 0; i < 1100; i++) {
		size_t n = raw_seal(p, 23, data, sizeof(data), record), at = 0;

		while (at < n) {
			struct pollfd wait = { .fd = p->fd, .events = POLLOUT };
			ssize_t sent = send(p->fd, record + at, n - at, MSG_NOSIGNAL);

			if (sent < 0 && (errno != EAGAIN || poll(&wait, 1, PATIENCE_MS) < 1))
				return NULL;
			at += sent > 0 ? (size_t)sent : 0;
		}
	}
	return NULL;
}

static void test_finish_limit(void **state)
{
	pthread_t thread;
	struct tested t;

	begin(&t, state);
	pthread_create(&thread, NULL, flood, &t.peer);
	assert_int_equal(tlsfd_finish(t.c, 2 * PATIENCE_MS), -EFBIG);
	close(t.fd); /* with unread data: a reset, for which the thread waits */
	t.fd = -1;
	pthread_join(thread, NULL);
	place_close(&t);
}

/* Small records, without an end: 16 MiB of them would take minutes. */
static void *chatter(void *arg)
{
	struct raw_peer *p = arg;
	uint8_t records[64 * 64];

	for (;;) {
		size_t n = 0, at = 0;

		for (int i = 0; i < 64; i++)
			n += raw_seal(p, 23, "x", 1, records + n);
		while (at < n) {
			struct pollfd wait = { .fd = p->fd, .events = POLLOUT };
			ssize_t sent = send(p->fd, records + at, n - at, MSG_NOSIGNAL);

			if (sent < 0 && (errno != EAGAIN || poll(&wait, 1, PATIENCE_MS) < 1))
				return NULL;
			at += sent > 0 ? (size_t)sent : 0;
		}
	}
}

static void test_finish_endless(void **state)
{
	struct timespec from, to;
	pthread_t thread;
	struct tested t;

	begin(&t, state);
	pthread_create(&thread, NULL, chatter, &t.peer);
	clock_gettime(CLOCK_MONOTONIC, &from);
	assert_int_equal(tlsfd_finish(t.c, 100), -ETIMEDOUT);
	clock_gettime(CLOCK_MONOTONIC, &to);
	assert_true(to.tv_sec - from.tv_sec < PATIENCE_MS / 1000);
	close(t.fd); /* with unread data: a reset, for which the thread waits */
	t.fd = -1;
	pthread_join(thread, NULL);
	place_close(&t);
}

/* The deadline counts though there is more to read all the time. */
static void test_finish_leaves_the_rest(void **state)
{
	static const uint8_t data[1000];
	struct tested t;
	char byte;

	begin(&t, state);
	for (int i = 0; i < 50; i++) /* several times what one read takes */
		raw_send(&t.peer, 23, data, sizeof(data));
	assert_int_equal(tlsfd_finish(t.c, 0), -ETIMEDOUT);
	assert_int_equal(patient_read(&t, &byte, 1), 1);
	place_close(&t);
}

/* ---- shutdown(2) behind our back ---- */

/* The kernel's TLS says of each record that it was sent, and there is nothing to tell
 * that from the truth but a system call more for every write. */
static void test_bare_shutdown(void **state)
{
	uint8_t type, data[16384];
	struct tested t;

	begin(&t, state);
	assert_int_equal(patient_write(&t, "before", 6), 6);
	assert_int_equal(shutdown(t.fd, SHUT_WR), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(tlsfd_write(t.c, "after", 5),
				 tlsfd_kernel(t.c, TLSFD_TX) ? 5 : -EPIPE);
	expect_record(&t, 23, "before", 6);
	assert_int_equal(raw_receive(&t.peer, &type, data), -1);
	say(&t.peer, "still");
	assert_int_equal(patient_read(&t, data, sizeof(data)), 5);
	place_close(&t);
}

/* What stands behind the data is the reader's to tell, also if we end first. */
static void test_end_before_reading(void **state)
{
	static const uint8_t too_long[64] = { 23, 3, 3, 255, 255 };
	char text[16] = "";
	struct tested t;

	begin(&t, state);
	say(&t.peer, "good");
	raw_send_bytes(&t.peer, too_long, sizeof(too_long));
	assert_int_equal(tlsfd_shutdown(t.c), 0);
	assert_int_equal(patient_read(&t, text, sizeof(text)), 4);
	assert_string_equal(text, "good");
	assert_int_equal(patient_read(&t, text, sizeof(text)), -EMSGSIZE);
	place_close(&t);

	begin(&t, state);
	raw_send_bytes(&t.peer, too_long, sizeof(too_long));
	assert_int_equal(tlsfd_finish(t.c, PATIENCE_MS), -EMSGSIZE);
	place_close(&t);
}

static unsigned segments(int fd)
{
	struct tcp_info info = { .tcpi_segs_out = 0 };
	socklen_t size = sizeof(info);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
	return info.tcpi_segs_out;
}

/* The kernel's own records can't wait for FIN. */
static void test_one_segment(void **state)
{
	struct tested t;
	unsigned before;

	begin(&t, state);
	/* no acknowledgement is left for later */
	assert_int_equal(setsockopt(t.fd, IPPROTO_TCP, TCP_QUICKACK, &(int){ 1 }, sizeof(int)), 0);
	before = segments(t.fd);
	assert_int_equal(tlsfd_shutdown(t.c), 0);
	assert_int_equal(segments(t.fd) - before, tlsfd_kernel(t.c, TLSFD_TX) ? 2 : 1);
	expect_goodbye(&t);
	place_close(&t);
}

int main(int argc, char **argv)
{
	static const struct everywhere tests[] = {
		{ test_finish, "finish", BOTH, ANYWHERE },
		{ test_finish_timeout, "finish: time is over", BOTH, ANYWHERE },
		{ test_finish_after_error, "finish after an error", BOTH, ANYWHERE },
		{ test_finish_limit, "finish: too much", BOTH, ANYWHERE },
		{ test_finish_endless, "finish: a peer that sends for ever", BOTH, ANYWHERE },
		{ test_finish_leaves_the_rest, "finish: no time for the rest", BOTH, ANYWHERE },
		{ test_bare_shutdown, "bare shutdown", BOTH, ANYWHERE },
		{ test_end_before_reading, "end before reading", BOTH, ANYWHERE },
		{ test_one_segment, "close_notify and FIN in a segment", BOTH, ANYWHERE },
	};

	everywhere_add(tests, LENGTH(tests), NULL);
	return suite_run(argc, argv);
}
