/*
 * What the kernel does on a bare fd with both directions in it: the facts that the
 * library lives with. Where one of them changes, the library may have to.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"
#include "link.h"
#include "suite.h"

enum { FOR_EVER = 50 };

static void begin(struct tested *t, void **state)
{
	place_connect(t, *state, KERNEL);
}

/* 0 and up, or a negative errno. */
static ssize_t bare_send(struct tested *t, const void *data, size_t n, int flags)
{
	ssize_t sent = send(t->fd, data, n, flags | MSG_NOSIGNAL);

	return sent < 0 ? -errno : sent;
}

static ssize_t bare_recv(struct tested *t, void *buf, size_t n)
{
	ssize_t got = recv(t->fd, buf, n, MSG_DONTWAIT);

	return got < 0 ? -errno : got;
}

/* recvmsg; *type: what the cmsg says, -1: there is none. */
static ssize_t bare_recvmsg(struct tested *t, void *buf, size_t n, int *type)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(1)];
	} control;
	struct iovec iov = { buf, n };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t got = recvmsg(t->fd, &msg, MSG_DONTWAIT);
	struct cmsghdr *cmsg = got < 0 ? NULL : CMSG_FIRSTHDR(&msg);

	*type = -1;
	if (got < 0)
		return -errno;
	if (cmsg) {
		assert_int_equal(cmsg->cmsg_level, SOL_TLS);
		assert_int_equal(cmsg->cmsg_type, TLS_GET_RECORD_TYPE);
		*type = *CMSG_DATA(cmsg);
	}
	return got;
}

static int take_error(struct tested *t)
{
	socklen_t size = sizeof(int);
	int err = -1;

	assert_int_equal(getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &err, &size), 0);
	return err;
}

/* ---- reading ---- */

/* 0 isn't the end of the file if a cmsg comes with it. */
static void test_empty_control(void **state)
{
	struct tested t;
	char buf[64];
	int type;

	begin(&t, state);
	raw_send(&t.peer, ALERT, NULL, 0);
	wait_for(t.fd, POLLIN);
	assert_int_equal(bare_recv(&t, buf, sizeof(buf)), -EIO);
	assert_int_equal(bare_recvmsg(&t, buf, sizeof(buf), &type), 0);
	assert_int_equal(type, ALERT);
	say(&t.peer, "goes on");
	wait_for(t.fd, POLLIN);
	assert_int_equal(bare_recvmsg(&t, buf, sizeof(buf), &type), 7);
	assert_int_equal(type, DATA);
	raw_fin(&t.peer);
	wait_for(t.fd, POLLIN);
	assert_int_equal(bare_recvmsg(&t, buf, sizeof(buf), &type), 0);
	assert_int_equal(type, -1);
	place_close(&t);
}

/* What was read wrong stops the writer, until somebody asks for the error. */
static void test_bad_record(void **state)
{
	uint8_t record[RAW_RECORD_MAX];
	struct tested t;
	char buf[64];
	size_t n;

	begin(&t, state);
	n = raw_seal(&t.peer, DATA, "forged", 6, record);
	record[n - 1] ^= 1;
	raw_send_bytes(&t.peer, record, n);
	wait_for(t.fd, POLLIN);
	assert_int_equal(bare_recv(&t, buf, sizeof(buf)), -EBADMSG);
	for (int i = 0; i < 3; i++)
		assert_int_equal(bare_send(&t, "stopped", 7, 0), -EBADMSG);
	assert_int_equal(take_error(&t), EBADMSG);
	assert_int_equal(take_error(&t), 0);
	assert_int_equal(bare_send(&t, "works", 5, 0), 5);
	expect_record(&t, DATA, "works", 5);
	assert_int_equal(bare_recv(&t, buf, sizeof(buf)), -EBADMSG);
	place_close(&t);
}

/* Said once, and then it looks as if nothing had come. */
static void test_bad_header(void **state)
{
	static const uint8_t oversized[64] = { DATA, 3, 3, 0xff, 0xff };
	struct tested t;
	char buf[64];

	begin(&t, state);
	raw_send_bytes(&t.peer, oversized, sizeof(oversized));
	poll(&(struct pollfd){ .fd = t.fd, .events = POLLIN }, 1, PATIENCE_MS);
	assert_int_equal(bare_recv(&t, buf, sizeof(buf)), -EMSGSIZE);
	for (int i = 0; i < FOR_EVER; i++)
		assert_int_equal(bare_recv(&t, buf, sizeof(buf)), -EAGAIN);
	assert_int_equal(bare_send(&t, "works", 5, 0), 5);
	expect_record(&t, DATA, "works", 5);
	place_close(&t);
}

/* In TLS 1.2 a header is looked at when the nonce is there too: 13 bytes. */
static void test_short_record(void **state)
{
	static const uint8_t records[13] = { 20, 3, 3, 0, 1, 1, 20, 3, 3, 0, 1, 1, 20 };
	struct tested t;
	char buf[64];

	begin(&t, state);
	raw_send_bytes(&t.peer, records, 12);
	if (!t.peer.tls13) {
		assert_int_equal(poll(&(struct pollfd){ t.fd, POLLRDHUP, 0 }, 1, 100), 0);
		assert_int_equal(bare_recv(&t, buf, sizeof(buf)), -EAGAIN);
		raw_send_bytes(&t.peer, records + 12, 1);
	}
	poll(&(struct pollfd){ .fd = t.fd, .events = POLLIN }, 1, PATIENCE_MS);
	assert_int_equal(bare_recv(&t, buf, sizeof(buf)), -EBADMSG);
	place_close(&t);
}

/* The mark is in bytes of TCP, and below it nobody looks for records. */
static void test_low_water(void **state)
{
	struct pollfd wait = { .events = POLLIN };
	struct tested t;
	char buf[64];
	ssize_t n;

	begin(&t, state);
	wait.fd = t.fd;
	assert_int_equal(setsockopt(t.fd, SOL_SOCKET, SO_RCVLOWAT, &(int){ 1000 }, sizeof(int)), 0);
	say(&t.peer, "small");
	assert_int_equal(poll(&wait, 1, 300), 0);
	for (int ms = 0; (n = bare_recv(&t, buf, sizeof(buf))) == -EAGAIN && ms < PATIENCE_MS; ms++)
		poll(NULL, 0, 1);
	assert_int_equal(n, 5);
	assert_memory_equal(buf, "small", 5);
	place_close(&t);
}

static void test_splice(void **state)
{
	struct tested t;
	int pipes[2], type;
	char buf[64];

	begin(&t, state);
	assert_int_equal(pipe(pipes), 0);
	say(&t.peer, "data");
	wait_for(t.fd, POLLIN);
	assert_int_equal(splice(t.fd, NULL, pipes[1], NULL, 100, SPLICE_F_NONBLOCK), 4);
	assert_int_equal(read(pipes[0], buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "data", 4);
	raw_send_alert(&t.peer, 1, 90);
	wait_for(t.fd, POLLIN);
	for (int i = 0; i < 3; i++) {
		errno = 0;
		assert_int_equal(splice(t.fd, NULL, pipes[1], NULL, 100, SPLICE_F_NONBLOCK), -1);
		assert_int_equal(errno, EINVAL);
	}
	assert_int_equal(bare_recvmsg(&t, buf, sizeof(buf), &type), 2);
	assert_int_equal(type, ALERT);
	assert_memory_equal(buf, "\1\x5a", 2);
	close(pipes[0]), close(pipes[1]);
	place_close(&t);
}

/* ---- writing ---- */

/* A reset stops sends until somebody has taken the error; then they "succeed". */
static void test_send_after_reset(void **state)
{
	struct tested t;

	begin(&t, state);
	raw_reset(&t.peer);
	wait_for(t.fd, POLLHUP);
	for (int i = 0; i < 3; i++)
		assert_int_equal(bare_send(&t, "anybody?", 8, 0), -ECONNRESET);
	assert_int_equal(take_error(&t), ECONNRESET);
	for (int i = 0; i < FOR_EVER; i++)
		assert_int_equal(bare_send(&t, "anybody?", 8, 0), 8);
	place_close(&t);
}

static void test_write_after_reset(void **state)
{
	struct tested t;
	ssize_t first;

	begin(&t, state);
	raw_reset(&t.peer);
	wait_for(t.fd, POLLHUP);
	first = tlsfd_write(t.c, "anybody?", 8);
	assert_true(first == -EPIPE || first == -ECONNRESET);
	(void)take_error(&t);
	for (int i = 0; i < FOR_EVER; i++)
		assert_int_equal(tlsfd_write(t.c, "anybody?", 8), first);
	place_close(&t);
}

static void test_send_after_shutdown(void **state)
{
	uint8_t type, data[16384];
	struct tested t;

	begin(&t, state);
	assert_int_equal(shutdown(t.fd, SHUT_WR), 0);
	for (int i = 0; i < FOR_EVER; i++)
		assert_int_equal(bare_send(&t, "anybody?", 8, 0), 8);
	/* and no close_notify */
	assert_int_equal(raw_receive(&t.peer, &type, data), -1);
	place_close(&t);
}

static void test_write_after_shutdown(void **state)
{
	uint8_t type, data[16384];
	struct tested t;

	begin(&t, state);
	assert_int_equal(tlsfd_shutdown(t.c), 0);
	for (int i = 0; i < FOR_EVER; i++)
		assert_int_equal(tlsfd_write(t.c, "anybody?", 8), -EPIPE);
	assert_int_equal(bare_send(&t, "anybody?", 8, 0), 8);
	expect_record(&t, ALERT, "\1\0", 2);
	assert_int_equal(raw_receive(&t.peer, &type, data), -1);
	place_close(&t);
}

static void test_flags(void **state)
{
	struct tested t;

	begin(&t, state);
	assert_int_equal(setsockopt(t.fd, SOL_SOCKET, SO_ZEROCOPY, &(int){ 1 }, sizeof(int)), 0);
	assert_int_equal(bare_send(&t, "no", 2, MSG_WAITALL), -EOPNOTSUPP);
	assert_int_equal(bare_send(&t, "no", 2, MSG_ZEROCOPY), -EOPNOTSUPP);
	assert_int_equal(bare_send(&t, "yes", 3, MSG_DONTWAIT), 3);
	expect_record(&t, DATA, "yes", 3);
	place_close(&t);
}

static void test_sendmmsg(void **state)
{
	struct iovec iov = { (char *)"message", 7 };
	struct mmsghdr two[2] = { { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } },
				  { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } } };
	struct tested t;

	begin(&t, state);
	errno = 0;
	assert_int_equal(sendmmsg(t.fd, two, 2, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EOPNOTSUPP);
	assert_int_equal(sendmmsg(t.fd, two, 1, MSG_NOSIGNAL), 1);
	assert_int_equal(two[0].msg_len, 7);
	expect_record(&t, DATA, "message", 7);
	place_close(&t);
}

/* ---- two writers ---- */

enum { MUCH = 4 << 20, STUCK_MS = 300 };

struct stuck {
	int fd;
	ssize_t sent;
	atomic_bool done;
};

static void *send_much(void *arg)
{
	struct stuck *s = arg;
	void *data = calloc(1, MUCH);

	s->sent = send(s->fd, data, MUCH, MSG_NOSIGNAL);
	s->done = true;
	free(data);
	return NULL;
}

struct drain {
	int fd;
	atomic_bool stop;
};

static void *read_later(void *arg)
{
	static char sink[65536];
	struct drain *d = arg;

	poll(NULL, 0, STUCK_MS);
	while (!d->stop) {
		struct pollfd wait = { .fd = d->fd, .events = POLLIN };

		if (poll(&wait, 1, 20) == 1 && recv(d->fd, sink, sizeof(sink), MSG_DONTWAIT) == 0)
			break;
	}
	return NULL;
}

/* MSG_DONTWAIT waits for the writer who may wait. */
static void test_send_behind_writer(void **state)
{
	struct timespec from, to;
	pthread_t writer, reader;
	struct stuck s = { 0 };
	struct drain d = { 0 };
	struct tested t;
	bool was_stuck;
	ssize_t n;

	begin(&t, state);
	place_block(&t);
	setsockopt(t.fd, SOL_SOCKET, SO_SNDBUF, &(int){ 65536 }, sizeof(int));
	s.fd = t.fd;
	d.fd = t.peer.fd;
	pthread_create(&writer, NULL, send_much, &s);
	place_wait_until_full(t.fd); /* the writer is inside */
	was_stuck = !s.done;
	clock_gettime(CLOCK_MONOTONIC, &from);
	pthread_create(&reader, NULL, read_later, &d);
	n = bare_send(&t, "now", 3, MSG_DONTWAIT);
	clock_gettime(CLOCK_MONOTONIC, &to);
	pthread_join(writer, NULL);
	d.stop = true;
	pthread_join(reader, NULL);
	assert_true(was_stuck);
	assert_int_equal(s.sent, MUCH);
	assert_true(n == 3 || n == -EAGAIN);
	assert_true((to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000 > 100);
	place_close(&t);
}

int main(int argc, char **argv)
{
	static const struct {
		CMUnitTestFunction test;
		const char *name;
	} tests[] = {
		{ test_empty_control, "an empty control record reads as 0 with a cmsg" },
		{ test_bad_record, "a bad record stops sends until SO_ERROR is read" },
		{ test_bad_header, "a bad header is said once" },
		{ test_short_record, "a record too short is met at its nonce" },
		{ test_low_water, "SO_RCVLOWAT hides a small record from poll" },
		{ test_splice, "splice at a control record" },
		{ test_send_after_reset, "bare sends succeed once a reset has been read" },
		{ test_write_after_reset, "tlsfd_write fails after a reset" },
		{ test_send_after_shutdown, "bare sends succeed after SHUT_WR" },
		{ test_write_after_shutdown, "tlsfd_write fails after tlsfd_shutdown" },
		{ test_flags, "MSG_WAITALL and MSG_ZEROCOPY are refused" },
		{ test_sendmmsg, "sendmmsg takes one, not two" },
		{ test_send_behind_writer, "MSG_DONTWAIT waits for a blocked writer" },
	};

	for (size_t i = 0; i < LENGTH(tests); i++)
		for (int tls13 = 0; tls13 < 2; tls13++) {
			struct raw_variant v = { .tls13 = tls13 };

			suite_add(tests[i].test, &v, sizeof(v), "%s: TLS 1.%d", tests[i].name,
				  tls13 ? 3 : 2);
		}
	return suite_run(argc, argv);
}
