/*
 * The end of a connection whose send buffer is full. TCP has then taken a part of a record, the
 * kernel's TLS keeps the rest, and also keeps an alert behind it: a FIN that doesn't wait for
 * both cuts them off. In every place.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "everywhere.h"
#include "expect.h"

enum { RECORD = 16384, ATTEMPTS = 20, SIP = 512, MANY = 10000 };

static const uint8_t data[RECORD];

/* ---- full ---- */

/* How many bytes TCP was given. */
static uint64_t given(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	int waiting = 0;

	/* in this order: what is acknowledged meanwhile counts twice, and not never */
	assert_int_equal(ioctl(fd, SIOCOUTQ, &waiting), 0);
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info.tcpi_bytes_acked + (uint64_t)waiting;
}

/* Writes until there is no room: how many bytes of data. *held: TLS has bytes that TCP didn't
 * take. */
static size_t fill(struct tested *t, bool *held)
{
	const size_t overhead = t->peer.tls13 ? 5 + 1 + 16 : 5 + 8 + 16;
	uint64_t before = given(t->fd), records = 0;
	size_t sum = 0;
	ssize_t n;

	while ((n = tlsfd_write(t->c, data, sizeof(data))) > 0) {
		sum += (size_t)n;
		records += (size_t)n + overhead;
	}
	assert_int_equal(n, -EAGAIN);
	*held = given(t->fd) - before < records;
	return sum;
}

/* With a part of a record in the send buffer of about this size. How many bytes. */
static size_t begin_full(struct tested *t, void **state, int room, int window)
{
	const struct setting *s = setting_of(state);
	struct raw_variant v = s->v;
	bool held = false;
	size_t size = 0;

	v.window = window;
	for (int i = 0; i < ATTEMPTS && !held; i++, room += 999) {
		if (i)
			place_close(t);
		place_connect(t, &v, s->place);
		setsockopt(t->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
		size = fill(t, &held);
	}
	assert_true(held);
	return size;
}

static void receive_all(struct raw_peer *p, size_t left)
{
	uint8_t got[RECORD], type = 0;

	while (left) {
		ssize_t n = raw_receive(p, &type, got);

		assert_true(n > 0 && (size_t)n <= left);
		assert_int_equal(type, DATA);
		left -= (size_t)n;
	}
}

/* ---- at every moment ---- */

typedef int ender(struct tested *t);

static int shut_down(struct tested *t)
{
	return tlsfd_shutdown(t->c);
}

static int finish(struct tested *t)
{
	int err = tlsfd_finish(t->c, 0);

	return err == -ETIMEDOUT ? -EAGAIN : err;
}

/* Where an error is the end: 0 when it is told. */
static int finish_broken(struct tested *t)
{
	int err = finish(t);

	return err == -EBADMSG ? 0 : err;
}

/* What was read from the peer's socket is read again, by records. */
static void replay(struct raw_peer *p, const uint8_t *bytes, size_t n)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			 0);
	assert_int_equal(write(pair[0], bytes, n), n);
	close(pair[0]);
	close(p->fd);
	p->fd = pair[1];
}

/* Before the kernel's workers on this CPU, where that is allowed. */
static void run_first(bool first)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(sched_getcpu(), &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	sched_setscheduler(0, first ? SCHED_FIFO : SCHED_OTHER,
			   &(struct sched_param){ .sched_priority = first });
}

/*
 * The peer reads a little, and each time the end is tried at once: TCP has some room then,
 * and the worker has not yet brought it what TLS keeps (tls_write_space).
 */
static size_t end_while_reading(struct tested *t, ender *end, uint8_t *bytes, size_t room)
{
	struct pollfd wait[] = { { .fd = t->peer.fd, .events = POLLIN }, { .fd = t->fd } };
	int err = -EAGAIN, calls = 0;
	size_t n = 0;
	ssize_t got;

	while ((got = recv(t->peer.fd, bytes + n, room - n < SIP ? room - n : SIP, 0)) != 0) {
		assert_true(got > 0 || errno == EAGAIN);
		n += got > 0 ? (size_t)got : 0;
		if (err == -EAGAIN)
			err = end(t);
		assert_true(calls++ < MANY);
		assert_true(err == 0 || err == -EAGAIN);
		wait[1].events = err ? tlsfd_wants(t->c, TLSFD_TX) : 0;
		if (got < 0)
			assert_true(poll(wait, 2, PATIENCE_MS) > 0);
	}
	return n;
}

static void end_small(void **state, ender *end, const struct timeval *limit)
{
	static uint8_t bytes[1 << 17];
	struct tested t;
	size_t n, size = begin_full(&t, state, 1, 4096);

	if (limit) {
		fcntl(t.fd, F_SETFL, 0);
		setsockopt(t.fd, SOL_SOCKET, SO_SNDTIMEO, limit, sizeof(*limit));
	}
	run_first(true);
	n = end_while_reading(&t, end, bytes, sizeof(bytes));
	run_first(false);
	replay(&t.peer, bytes, n);
	receive_all(&t.peer, size);
	expect_goodbye(&t);
	place_close(&t);
}

static void test_shutdown(void **state)
{
	end_small(state, shut_down, NULL);
}

static void test_shutdown_timeout(void **state)
{
	end_small(state, shut_down, &(struct timeval){ .tv_usec = 20000 });
}

static void test_finish(void **state)
{
	end_small(state, finish, NULL);
}

/* Our alert must not be lost either. */
static void test_alert(void **state)
{
	static uint8_t bytes[1 << 17];
	uint8_t record[RAW_RECORD_MAX], got[RECORD], type = 0;
	struct tested t;
	size_t n, size = begin_full(&t, state, 1, 4096);

	n = raw_seal(&t.peer, DATA, "forged", 6, record);
	record[n - 1] ^= 1;
	raw_send_bytes(&t.peer, record, n);
	assert_int_equal(patient_read(&t, got, sizeof(got)), -EBADMSG);
	run_first(true);
	n = end_while_reading(&t, finish_broken, bytes, sizeof(bytes));
	run_first(false);
	replay(&t.peer, bytes, n);
	receive_all(&t.peer, size);
	assert_int_equal(raw_receive(&t.peer, &type, got), 2);
	assert_int_equal(type, ALERT);
	assert_int_equal(got[1], 20);
	place_close(&t);
}

/* ---- by a call that waits ---- */

static void *end_in_thread(void *arg)
{
	return (void *)(intptr_t)tlsfd_shutdown(((struct tested *)arg)->c);
}

static void test_shutdown_blocking(void **state)
{
	struct tested t;
	size_t size = begin_full(&t, state, 1 << 16, 0);
	pthread_t thread;
	void *result;

	assert_int_equal(tlsfd_shutdown(t.c), -EAGAIN);
	fcntl(t.fd, F_SETFL, 0);
	pthread_create(&thread, NULL, end_in_thread, &t);
	poll(NULL, 0, 20);
	receive_all(&t.peer, size);
	expect_goodbye(&t);
	pthread_join(thread, &result);
	assert_int_equal((intptr_t)result, 0);
	place_close(&t);
}

int main(int argc, char **argv)
{
	static const struct everywhere tests[] = {
		{ test_shutdown, "shutdown", BOTH, ANYWHERE },
		{ test_shutdown_timeout, "shutdown, time is over", BOTH, ANYWHERE },
		{ test_finish, "finish", BOTH, ANYWHERE },
		{ test_alert, "alert", BOTH, ANYWHERE },
		{ test_shutdown_blocking, "shutdown, blocking", BOTH, ANYWHERE },
	};

	everywhere_add(tests, LENGTH(tests), NULL);
	return suite_run(argc, argv);
}
