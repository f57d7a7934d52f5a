/*
 * The calls on a connection beside plain reading and writing, and what threads and
 * signals make of them; in every place.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "link.h"
#include "place.h"
#include "suite.h"

struct setting {
	struct raw_variant v;
	enum place place;
};

static const struct setting *setting_of(void **state)
{
	return *state;
}

static void begin(struct tested *t, void **state)
{
	place_connect(t, &setting_of(state)->v, setting_of(state)->place);
}

static void expect_record(struct tested *t, int type, const void *data, size_t n)
{
	uint8_t got[16384], got_type = 0;

	assert_int_equal(raw_receive(&t->peer, &got_type, got), n);
	assert_int_equal(got_type, type);
	assert_memory_equal(got, data, n);
}

static void expect_goodbye(struct tested *t)
{
	uint8_t got[16384], type;

	expect_record(t, 21, "\1\0", 2);
	assert_int_equal(raw_receive(&t->peer, &type, got), -1);
}

/* ---- tlsfd_finish ---- */

static void test_finish(void **state)
{
	struct tested t;

	begin(&t, state);
	raw_send(&t.peer, 23, "unread", 6);
	raw_send_alert(&t.peer, 1, 0);
	assert_int_equal(tlsfd_finish(t.c, 5000), 0);
	expect_goodbye(&t);
	assert_int_equal(tlsfd_finish(t.c, 0), 0);
	place_close(&t);
}

static void test_finish_timeout(void **state)
{
	struct tested t;

	begin(&t, state);
	place_block(&t);
	raw_send(&t.peer, 23, "unread", 6);
	assert_int_equal(tlsfd_finish(t.c, 60), -ETIMEDOUT);
	expect_goodbye(&t);
	raw_fin(&t.peer);
	assert_int_equal(tlsfd_finish(t.c, 5000), -ECONNABORTED);
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
	assert_int_equal(tlsfd_finish(t.c, 5000), -EBADMSG);
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

			if (sent < 0 && (errno != EAGAIN || poll(&wait, 1, 1000) < 1))
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
	assert_int_equal(tlsfd_finish(t.c, 60000), -EFBIG);
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

			if (sent < 0 && (errno != EAGAIN || poll(&wait, 1, 5000) < 1))
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
	assert_true(to.tv_sec - from.tv_sec < 5);
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
	raw_send(&t.peer, 23, "still", 5);
	assert_int_equal(patient_read(&t, data, sizeof(data)), 5);
	place_close(&t);
}

/* ---- nothing, again and again ---- */

/* RFC 8446 section 5.1 allows data records without data, but they are no conversation:
 * OpenSSL takes some, the kernel passes over them, and we ask it how many they were. */
static void test_flood_of_nothing(void **state)
{
	uint8_t type, data[16384];
	struct tested t;
	ssize_t n;

	begin(&t, state);
	for (int i = 0; i < 5000; i++) {
		raw_send(&t.peer, 23, NULL, 0);
		n = tlsfd_read(t.c, data, sizeof(data));
		if (n != -EAGAIN)
			break;
	}
	assert_int_equal(n, -EPROTO);
	assert_int_equal(tlsfd_alert(t.c), -1);
	assert_int_equal(tlsfd_write(t.c, "x", 1), -EPIPE);
	assert_int_equal(raw_receive(&t.peer, &type, data), 2);
	assert_int_equal(type, 21);
	if (tlsfd_kernel(t.c, TLSFD_TX) || !tlsfd_kernel(t.c, TLSFD_RX) || t.peer.tls13)
		assert_memory_equal(data, "\2\12", 2);
	else /* as near as OpenSSL can be brought to it */
		assert_memory_equal(data, "\2\24", 2);
	place_close(&t);
}

/* Records with data are none of that, however small and whoever reads them. */
static void test_nothing_between_data(void **state)
{
	struct tested t;
	char byte, some[8];

	begin(&t, state);
	for (int i = 0; i < 1000; i++) {
		bool bare = i % 3 == 2 && tlsfd_kernel(t.c, TLSFD_RX);

		for (int j = 0; j < 3; j++)
			assert_int_equal(tlsfd_read(t.c, &byte, 1), -EAGAIN);
		for (int j = 0; j < 4; j++)
			raw_send(&t.peer, 23, "x", 1);
		if (bare)
			assert_int_equal(tlsfd_attend(t.c, TLSFD_RX, 0), 1);
		for (ssize_t have = 0; have < 4;) {
			ssize_t n = bare ? recv(t.fd, some, sizeof(some), 0) :
					   patient_read(&t, some, sizeof(some));

			assert_true(n > 0);
			have += n;
		}
	}
	place_close(&t);
}

/* What stands behind the data is the reader's to tell, also if we end first. */
static void test_end_before_reading(void **state)
{
	static const uint8_t too_long[64] = { 23, 3, 3, 255, 255 };
	char text[16] = "";
	struct tested t;

	begin(&t, state);
	raw_send(&t.peer, 23, "good", 4);
	raw_send_bytes(&t.peer, too_long, sizeof(too_long));
	assert_int_equal(tlsfd_shutdown(t.c), 0);
	assert_int_equal(patient_read(&t, text, sizeof(text)), 4);
	assert_string_equal(text, "good");
	assert_int_equal(patient_read(&t, text, sizeof(text)), -EMSGSIZE);
	place_close(&t);

	begin(&t, state);
	raw_send_bytes(&t.peer, too_long, sizeof(too_long));
	assert_int_equal(tlsfd_finish(t.c, 5000), -EMSGSIZE);
	place_close(&t);
}

/* ---- half a message ---- */

static const uint8_t ticket[] = { 4, 0, 0, 14, 0, 0, 14, 16, 1, 2, 3, 4, 0, 0, 1, 9, 0, 0 };

enum { HALF = 10 };

/* OpenSSL has to read the other half before it can send. False: no tickets come here. */
static bool begin_half(struct tested *t, void **state)
{
	char byte;

	begin(t, state);
	if (!t->peer.tls13 || !t->peer.server)
		return false;
	raw_send(&t->peer, 22, ticket, HALF);
	poll(&(struct pollfd){ t->fd, POLLIN, 0 }, 1, 5000);
	assert_int_equal(tlsfd_read(t->c, &byte, 1), -EAGAIN);
	return true;
}

static void other_half(struct tested *t)
{
	raw_send(&t->peer, 22, ticket + HALF, sizeof(ticket) - HALF);
}

static void test_half_ticket(void **state)
{
	struct tested t;
	char got[8];
	bool half = begin_half(&t, state);

	if (half && !tlsfd_kernel(t.c, TLSFD_RX) && !tlsfd_kernel(t.c, TLSFD_TX)) {
		assert_int_equal(tlsfd_write(t.c, "hello", 5), -EAGAIN);
		assert_int_equal(tlsfd_rekey(t.c, false), -EAGAIN);
		assert_int_equal(tlsfd_shutdown(t.c), -EAGAIN);
		assert_int_equal(tlsfd_wants(t.c, TLSFD_TX), POLLIN);
	}
	if (half)
		other_half(&t);
	assert_int_equal(patient_write(&t, "hello", 5), 5);
	expect_record(&t, 23, "hello", 5);
	assert_int_equal(tlsfd_wants(t.c, TLSFD_TX), POLLOUT);
	raw_send(&t.peer, 23, "world", 5);
	assert_int_equal(patient_read(&t, got, sizeof(got)), 5);
	assert_int_equal(tlsfd_shutdown(t.c), 0);
	expect_goodbye(&t);
	place_close(&t);
}

/* No more is to come: neither wait nor spin. */
static void test_half_ticket_and_end(void **state)
{
	struct tested t;
	char got[8];

	if (begin_half(&t, state) && !tlsfd_kernel(t.c, TLSFD_RX) && !tlsfd_kernel(t.c, TLSFD_TX)) {
		place_block(&t);
		raw_fin(&t.peer);
		assert_int_equal(tlsfd_write(t.c, "hello", 5), -EPIPE);
		assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -ECONNABORTED);
	}
	place_close(&t);
}

static void *write_hello(void *arg)
{
	struct tested *t = arg;

	return (void *)(intptr_t)tlsfd_write(t->c, "hello", 5);
}

/* A writer that waits while the reader takes what it waits for: poll(2) tells only one. */
static void test_half_ticket_in_threads(void **state)
{
	struct timespec from, to;
	pthread_t thread;
	struct tested t;
	void *sent;
	char got[8];

	if (begin_half(&t, state)) {
		place_block(&t);
		pthread_create(&thread, NULL, write_hello, &t);
		poll(NULL, 0, 30);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
		poll(NULL, 0, 500);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
		assert_true(to.tv_sec * 1000 + to.tv_nsec / 1000000 - from.tv_sec * 1000 -
				    from.tv_nsec / 1000000 <
			    200);
		other_half(&t);
		raw_send(&t.peer, 23, "world", 5);
		assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), 5);
		expect_record(&t, 23, "hello", 5);
		pthread_join(thread, &sent);
		assert_int_equal((intptr_t)sent, 5);
	}
	place_close(&t);
}

/* ---- tlsfd_attend, tlsfd_release ---- */

/* What a program does that reads the fd itself. */
static int read_bare(struct tested *t, char *text, size_t n)
{
	unsigned directions = TLSFD_RX | (tlsfd_kernel(t->c, TLSFD_TX) ? TLSFD_TX : 0);
	size_t have = 0;

	for (;;) {
		ssize_t got = read(t->fd, text + have, n - have);
		struct pollfd wait = { .fd = t->fd, .events = POLLIN };
		int next;

		if (got > 0) {
			have += (size_t)got;
			continue;
		}
		next = tlsfd_attend(t->c, directions, got < 0 ? -errno : 0);
		if (next == -EAGAIN && poll(&wait, 1, 5000) == 1)
			continue;
		if (next != 1)
			return next;
	}
}

static void test_attend(void **state)
{
	static const struct {
		uint8_t level, number;
		int want;
	} ends[] = { { 1, 0, 0 }, { 2, 40, -EPROTO } };
	char text[64];

	for (size_t i = 0; i < LENGTH(ends); i++) {
		struct tested t;

		memset(text, 0, sizeof(text));
		begin(&t, state);
		raw_send(&t.peer, 23, "one ", 4);
		raw_send_alert(&t.peer, 1, 90);
		raw_send(&t.peer, 23, NULL, 0);
		raw_send_alert(&t.peer, 1, 90);
		raw_send(&t.peer, 23, "two", 3);
		raw_send_alert(&t.peer, ends[i].level, ends[i].number);
		if (!tlsfd_kernel(t.c, TLSFD_RX)) {
			assert_int_equal(tlsfd_attend(t.c, TLSFD_RX, 0), -EXDEV);
		} else {
			assert_int_equal(read_bare(&t, text, sizeof(text)), ends[i].want);
			assert_string_equal(text, "one two");
			assert_int_equal(tlsfd_attend(t.c, TLSFD_RX, 0), ends[i].want);
		}
		place_close(&t);
	}
}

static void test_attend_truncated(void **state)
{
	char text[64] = "";
	struct tested t;

	begin(&t, state);
	raw_send(&t.peer, 23, "cut", 3);
	raw_fin(&t.peer);
	if (tlsfd_kernel(t.c, TLSFD_RX)) {
		assert_int_equal(read_bare(&t, text, sizeof(text)), -ECONNABORTED);
		assert_string_equal(text, "cut");
	}
	place_close(&t);
}

/* The kernel tells of a bad header once, to a bare read. */
static void test_attend_header(void **state)
{
	static const struct {
		uint8_t header[5];
		int want;
	} headers[] = { { { 23, 3, 3, 255, 255 }, -EMSGSIZE },
			{ { 23, 3, 3, 0, 3 }, -EBADMSG },
			{ { 23, 3, 1, 0, 64 }, -EINVAL } };

	for (size_t i = 0; i < LENGTH(headers); i++) {
		char text[64] = "";
		struct tested t;

		begin(&t, state);
		raw_send(&t.peer, 23, "good", 4);
		raw_send_bytes(&t.peer, headers[i].header, 5);
		raw_send_bytes(&t.peer, text, sizeof(text));
		if (tlsfd_kernel(t.c, TLSFD_RX)) {
			assert_int_equal(read_bare(&t, text, sizeof(text)), headers[i].want);
			assert_string_equal(text, "good");
			assert_non_null(tlsfd_error(t.c));
			assert_int_equal(tlsfd_write(t.c, "x", 1), -EPIPE);
		}
		place_close(&t);
	}
}

static void test_attend_reset(void **state)
{
	char text[64] = "";
	struct tested t;

	begin(&t, state);
	raw_send(&t.peer, 23, "gone", 4);
	if (tlsfd_kernel(t.c, TLSFD_RX)) {
		assert_int_equal(read(t.fd, text, 4), 4);
		raw_reset(&t.peer);
		assert_int_equal(read_bare(&t, text, sizeof(text)), -ECONNRESET);
		assert_int_equal(tlsfd_write(t.c, "x", 1), -EPIPE);
	}
	place_close(&t);
}

/* In user space a record can be taken and not have gone out. */
static void test_attend_rest(void **state)
{
	static uint8_t data[16384], got[RAW_RECORD_MAX];
	size_t taken = 0;
	struct tested t;
	uint8_t type;
	ssize_t n;

	begin(&t, state);
	setsockopt(t.fd, SOL_SOCKET, SO_SNDBUF, &(int){ 4096 }, sizeof(int));
	while ((n = tlsfd_write(t.c, data, sizeof(data))) > 0)
		taken += (size_t)n;
	assert_int_equal(n, -EAGAIN);
	if (!tlsfd_kernel(t.c, TLSFD_TX)) {
		assert_int_equal(tlsfd_attend(t.c, TLSFD_TX, 0), -EAGAIN);
		for (; taken > sizeof(data); taken -= (size_t)n) {
			n = raw_receive(&t.peer, &type, got);
			assert_true(n > 0);
		}
		while ((n = tlsfd_attend(t.c, TLSFD_TX, 0)) == -EAGAIN)
			wait_for(t.fd, POLLOUT);
		assert_int_equal(n, 1);
		expect_record(&t, 23, data, sizeof(data));
	}
	place_close(&t);
}

static void test_release(void **state)
{
	struct tested t;

	begin(&t, state);
	if (tlsfd_kernel(t.c, TLSFD_RX) && tlsfd_kernel(t.c, TLSFD_TX)) {
		assert_int_equal(tlsfd_release(&t.c), t.fd);
		assert_null(t.c);
		assert_int_equal(write(t.fd, "bare", 4), 4);
		expect_record(&t, 23, "bare", 4);
	} else {
		assert_int_equal(tlsfd_release(&t.c), -EXDEV);
		assert_int_equal(patient_write(&t, "kept", 4), 4);
		expect_record(&t, 23, "kept", 4);
	}
	place_close(&t);
}

/* ---- vectors, files ---- */

static void test_vectors(void **state)
{
	char a[3], b[1], c[64];
	struct iovec out[] = { { (char *)"abc", 3 }, { NULL, 0 }, { (char *)"defg", 4 } };
	struct iovec in[] = { { NULL, 0 }, { a, 3 }, { b, 1 }, { c, sizeof(c) } };
	struct tested t;

	begin(&t, state);
	assert_int_equal(tlsfd_writev(t.c, out, 3), 7);
	expect_record(&t, 23, "abcdefg", 7);
	assert_int_equal(tlsfd_readv(t.c, in, 4), -EAGAIN);
	assert_int_equal(tlsfd_readv(t.c, in, 1), 0);
	assert_int_equal(tlsfd_readv(t.c, in, -1), -EINVAL);
	raw_send_alert(&t.peer, 1, 90);
	raw_send(&t.peer, 23, "ABCDEFG", 7);
	while (tlsfd_readv(t.c, in, 0) == 0 &&
	       poll(&(struct pollfd){ t.fd, POLLIN, 0 }, 1, 5000) != 1)
		;
	assert_int_equal(tlsfd_readv(t.c, in, 4), 7);
	assert_memory_equal(a, "ABC", 3);
	assert_memory_equal(b, "D", 1);
	assert_memory_equal(c, "EFG", 3);
	place_close(&t);
}

static void test_sendfile(void **state)
{
	static uint8_t data[20000], got[16384];
	int file = memfd_create("file", MFD_CLOEXEC);
	off_t offset = 1000;
	struct tested t;
	uint8_t type;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i % 251);
	assert_int_equal(write(file, data, sizeof(data)), sizeof(data));
	begin(&t, state);
	assert_int_equal(tlsfd_sendfile(t.c, file, &offset, 5000), 5000);
	assert_int_equal(offset, 6000);
	assert_int_equal(raw_receive(&t.peer, &type, got), 5000);
	assert_memory_equal(got, data + 1000, 5000);
	assert_int_equal(lseek(file, 0, SEEK_CUR), sizeof(data));
	lseek(file, 15000, SEEK_SET);
	assert_int_equal(tlsfd_sendfile(t.c, file, NULL, 10000), 5000);
	assert_int_equal(lseek(file, 0, SEEK_CUR), sizeof(data));
	assert_int_equal(raw_receive(&t.peer, &type, got), 5000);
	assert_memory_equal(got, data + 15000, 5000);
	assert_int_equal(tlsfd_sendfile(t.c, file, NULL, 10000), 0);
	close(file);
	place_close(&t);
}

/* What sendfile(2) says of the file and the range, and the connection goes on. */
static void test_sendfile_refused(void **state)
{
	int file = memfd_create("file", MFD_CLOEXEC), pipes[2];
	int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	off_t offset = 0, negative = -2;
	struct tested t;
	char data[8];

	begin(&t, state);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(write(file, "content", 7), 7);
	lseek(file, 0, SEEK_SET);
	assert_int_equal(tlsfd_sendfile(t.c, -1, NULL, 1), -EBADF);
	assert_int_equal(tlsfd_sendfile(t.c, pipes[1], NULL, 1), -EBADF);
	assert_int_equal(tlsfd_sendfile(t.c, pipes[0], NULL, 1), -EINVAL);
	assert_int_equal(tlsfd_sendfile(t.c, pipes[0], &offset, 1), -ESPIPE);
	assert_int_equal(tlsfd_sendfile(t.c, directory, NULL, 1), -EINVAL);
	assert_int_equal(tlsfd_sendfile(t.c, directory, &offset, 1), -EINVAL);
	assert_int_equal(tlsfd_sendfile(t.c, file, &offset, SIZE_MAX), -EINVAL);
	assert_int_equal(tlsfd_sendfile(t.c, file, &negative, 1), -EINVAL);
	assert_int_equal(negative, -2);
	assert_int_equal(offset, 0);
	assert_int_equal(lseek(file, 0, SEEK_CUR), 0);
	assert_int_equal(patient_write(&t, "still", 5), 5);
	expect_record(&t, 23, "still", 5);
	raw_send(&t.peer, 23, "there", 5);
	assert_int_equal(patient_read(&t, data, sizeof(data)), 5);
	close(pipes[0]), close(pipes[1]), close(file), close(directory);
	place_close(&t);
}

/* ---- signals ---- */

static atomic_int signals;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

struct disturber {
	struct raw_peer *peer;
	pthread_t whom;
};

static void *disturb_and_answer(void *arg)
{
	struct disturber *d = arg;

	for (int i = 0; i < 10; i++) {
		poll(NULL, 0, 10);
		pthread_kill(d->whom, SIGUSR1);
	}
	raw_send(d->peer, 23, "late", 4);
	return NULL;
}

/* A blocking read goes on after a signal. */
static void test_interrupted(void **state)
{
	struct sigaction act = { .sa_handler = on_signal }, before; /* no SA_RESTART */
	struct disturber d;
	pthread_t thread;
	struct tested t;
	char buf[8];

	begin(&t, state);
	place_block(&t);
	sigaction(SIGUSR1, &act, &before);
	signals = 0;
	d = (struct disturber){ &t.peer, pthread_self() };
	pthread_create(&thread, NULL, disturb_and_answer, &d);
	assert_int_equal(tlsfd_read(t.c, buf, sizeof(buf)), 4);
	pthread_join(thread, NULL);
	assert_true(signals > 0); /* two that wait are one */
	sigaction(SIGUSR1, &before, NULL);
	place_close(&t);
}

static void test_no_sigpipe(void **state)
{
	struct tested t;
	ssize_t n = 0;

	begin(&t, state);
	signals = 0;
	signal(SIGPIPE, on_signal);
	raw_send(&t.peer, 23, "x", 1);
	raw_reset(&t.peer);
	for (int i = 0; i < 5; i++)
		n = tlsfd_write(t.c, "anybody?", 8);
	assert_true(n == -EPIPE || n == -ECONNRESET);
	tlsfd_free(t.c);
	close(t.fd);
	assert_int_equal(signals, 0);
	signal(SIGPIPE, SIG_IGN);
}

/* ---- threads ---- */

struct writing {
	struct tlsfd *c;
	ssize_t result;
	size_t sent;
	atomic_bool stop;
};

static void *write_on(void *arg)
{
	static const uint8_t data[16384];
	struct writing *w = arg;

	while (!w->stop && (w->result = tlsfd_write(w->c, data, sizeof(data))) > 0)
		w->sent += (size_t)w->result;
	/* the reader's alert, if there was no room for it */
	return (void *)(intptr_t)tlsfd_shutdown(w->c);
}

static void send_forged(struct tested *t)
{
	uint8_t record[RAW_RECORD_MAX];
	size_t n = raw_seal(&t->peer, 23, "forged", 6, record);

	record[n - 1] ^= 1;
	raw_send_bytes(&t->peer, record, n);
}

/* The peer reads: data, and then the alert, each in records that open. */
static void expect_data_then_alert(struct tested *t, size_t least)
{
	uint8_t type = 23, data[16384];
	size_t total = 0;
	ssize_t n = 0;

	for (;;) {
		n = raw_receive(&t->peer, &type, data);
		assert_true(n > 0);
		if (type != 23)
			break;
		total += (size_t)n;
	}
	assert_true(total >= least);
	assert_int_equal(type, 21);
	assert_int_equal(data[0], 2);
}

/* A writer that is stuck, as the peer doesn't read: the reader meets a bad record. It
 * doesn't wait, and its alert goes out when the writer gets on. */
static void test_alert_behind_writer(void **state)
{
	struct timespec from, to;
	struct writing w = { 0 };
	pthread_t thread;
	struct tested t;
	char buf[100];

	begin(&t, state);
	place_block(&t);
	w.c = t.c;
	pthread_create(&thread, NULL, write_on, &w);
	poll(NULL, 0, 150);
	send_forged(&t);
	clock_gettime(CLOCK_MONOTONIC, &from);
	assert_int_equal(tlsfd_read(t.c, buf, sizeof(buf)), -EBADMSG);
	clock_gettime(CLOCK_MONOTONIC, &to);
	assert_true(to.tv_sec - from.tv_sec < 3);
	expect_data_then_alert(&t, 100000);
	pthread_join(thread, NULL);
	assert_int_equal(w.result, -EPIPE);
	place_close(&t);
}

/* Reader and writer at full speed, warnings among the data, a bad record in the end. */
static void test_reader_and_writer(void **state)
{
	struct writing w = { 0 };
	pthread_t thread;
	struct tested t;
	char buf[100];
	ssize_t n;

	for (int round = 0; round < 5; round++) {
		begin(&t, state);
		place_block(&t);
		w = (struct writing){ .c = t.c };
		pthread_create(&thread, NULL, write_on, &w);
		for (int i = 0; i < 50; i++) {
			raw_send(&t.peer, 23, "ping", 4);
			if (!t.peer.tls13 && !t.peer.server)
				raw_send(&t.peer, 22, "\1\0\0\0", 4);
			n = tlsfd_read(t.c, buf, sizeof(buf));
			assert_true(n > 0);
			(void)tlsfd_error(t.c);
		}
		send_forged(&t);
		while ((n = tlsfd_read(t.c, buf, sizeof(buf))) > 0)
			;
		assert_int_equal(n, -EBADMSG);
		shutdown(t.peer.fd, SHUT_RDWR);
		raw_close(&t.peer);
		pthread_join(thread, NULL);
		assert_true(w.result < 0);
		place_close(&t);
	}
}

int main(int argc, char **argv)
{
	static const struct {
		CMUnitTestFunction test;
		const char *name;
	} tests[] = {
		{ test_finish, "finish" },
		{ test_finish_timeout, "finish: time is over" },
		{ test_finish_after_error, "finish after an error" },
		{ test_finish_limit, "finish: too much" },
		{ test_finish_endless, "finish: a peer that sends for ever" },
		{ test_finish_leaves_the_rest, "finish: no time for the rest" },
		{ test_bare_shutdown, "bare shutdown" },
		{ test_flood_of_nothing, "flood of empty records" },
		{ test_nothing_between_data, "nothing between data" },
		{ test_end_before_reading, "end before reading" },
		{ test_half_ticket, "half a ticket" },
		{ test_half_ticket_and_end, "half a ticket, and FIN" },
		{ test_half_ticket_in_threads, "half a ticket, threads" },
		{ test_attend, "attend" },
		{ test_attend_truncated, "attend: truncated" },
		{ test_attend_header, "attend: bad header" },
		{ test_attend_reset, "attend: reset" },
		{ test_attend_rest, "attend: the rest of a record" },
		{ test_release, "release" },
		{ test_vectors, "vectors" },
		{ test_sendfile, "sendfile" },
		{ test_sendfile_refused, "sendfile: refused" },
		{ test_interrupted, "interrupted" },
		{ test_no_sigpipe, "no SIGPIPE" },
		{ test_alert_behind_writer, "alert behind a stuck writer" },
		{ test_reader_and_writer, "reader and writer" },
	};

	for (size_t i = 0; i < LENGTH(tests); i++)
		for (int kind = 0; kind < 4 * PLACES; kind++) {
			struct setting s = { { .tls13 = kind & 1, .server = kind & 2 },
					     (enum place)(kind / 4) };

			if (place_expected(s.place))
				suite_add(tests[i].test, &s, sizeof(s), "%s: TLS 1.%d %s %s",
					  tests[i].name, s.v.tls13 ? 3 : 2,
					  s.v.server ? "server" : "client", place_names[s.place]);
		}
	return suite_run(argc, argv);
}
