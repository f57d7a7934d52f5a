/*
 * What takes a conversation no further: records without data, again and again, and one half
 * of a message; in every place.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>

#include "everywhere.h"
#include "expect.h"
#include "link.h"

static void begin(struct tested *t, void **state)
{
	place_connect(t, &setting_of(state)->v, setting_of(state)->place);
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
			say(&t.peer, "x");
		if (bare) {
			wait_for(t.fd, POLLIN);
			assert_int_equal(tlsfd_attend(t.c, TLSFD_RX, 0), 1);
		}
		for (ssize_t have = 0; have < 4;) {
			ssize_t n;

			if (bare)
				wait_for(t.fd, POLLIN);
			n = bare ? recv(t.fd, some, sizeof(some), 0) :
				   patient_read(&t, some, sizeof(some));

			assert_true(n > 0);
			have += n;
		}
	}
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
	poll(&(struct pollfd){ t->fd, POLLIN, 0 }, 1, PATIENCE_MS);
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
	say(&t.peer, "world");
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

static atomic_uint polls;

/* Takes libc's place for the library in this program: who spins calls it all the time. CPU time
 * would be the machine's load, too, in User-mode Linux. */
int poll(struct pollfd *fds, nfds_t n, int ms)
{
	struct timespec wait = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	polls++;
	return ppoll(fds, n, ms < 0 ? NULL : &wait, NULL);
}

static void *write_hello(void *arg)
{
	struct tested *t = arg;

	return (void *)(intptr_t)tlsfd_write(t->c, "hello", 5);
}

/* A writer that waits while the reader takes what it waits for: poll(2) tells only one. */
static void test_half_ticket_in_threads(void **state)
{
	pthread_t thread;
	struct tested t;
	void *sent;
	char got[8];

	if (begin_half(&t, state)) {
		place_block(&t);
		pthread_create(&thread, NULL, write_hello, &t);
		polls = 0;
		poll(NULL, 0, 500);
		assert_true(polls < 100);
		other_half(&t);
		say(&t.peer, "world");
		assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), 5);
		expect_record(&t, 23, "hello", 5);
		pthread_join(thread, &sent);
		assert_int_equal((intptr_t)sent, 5);
	}
	place_close(&t);
}

int main(int argc, char **argv)
{
	static const struct everywhere tests[] = {
		{ test_flood_of_nothing, "flood of empty records", BOTH, ANYWHERE },
		{ test_nothing_between_data, "nothing between data", BOTH, ANYWHERE },
		{ test_half_ticket, "half a ticket", BOTH, ANYWHERE },
		{ test_half_ticket_and_end, "half a ticket, and FIN", BOTH, ANYWHERE },
		{ test_half_ticket_in_threads, "half a ticket, threads", BOTH, ANYWHERE },
	};

	everywhere_add(tests, LENGTH(tests), NULL);
	return suite_run(argc, argv);
}
