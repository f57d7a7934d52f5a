/*
 * The EXAMPLES of tlsfd_read(3), as they stand there.
 *
 * SPDX-License-Identifier: MIT
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "place.h"
#include "suite.h"

int copy_to(struct tlsfd *c, int out);
int echo(struct tlsfd *c);
int copy_by_ring(struct tlsfd *c, struct io_uring *ring, int out);
int copy_by_splice(struct tlsfd *c, int out);

#include "read_examples.inc"

struct setting {
	struct raw_variant v;
	enum place place;
};

static void begin(struct tested *t, void **state)
{
	const struct setting *s = *state;

	place_connect(t, &s->v, s->place);
}

static void talk(struct raw_peer *p)
{
	raw_send(p, 23, "hello, ", 7);
	raw_send_alert(p, 1, 90);
	raw_send(p, 23, NULL, 0);
	raw_send(p, 23, "world", 5);
	raw_send_alert(p, 1, 0);
}

static void expect_file(int file, const char *text)
{
	char got[64] = "";

	assert_int_equal(pread(file, got, sizeof(got) - 1, 0), strlen(text));
	assert_string_equal(got, text);
	close(file);
}

static void test_blocking(void **state)
{
	int out = memfd_create("out", MFD_CLOEXEC);
	struct tested t;

	begin(&t, state);
	place_block(&t);
	talk(&t.peer);
	assert_int_equal(copy_to(t.c, out), 0);
	expect_file(out, "hello, world");
	place_close(&t);
}

static void *talk_slowly(void *arg)
{
	poll(NULL, 0, 30);
	talk(arg);
	return NULL;
}

static void test_poll(void **state)
{
	char got[64] = "";
	uint8_t type, data[16384];
	pthread_t thread;
	struct tested t;
	ssize_t n;

	begin(&t, state);
	pthread_create(&thread, NULL, talk_slowly, &t.peer);
	assert_int_equal(echo(t.c), 0);
	pthread_join(thread, NULL);
	while ((n = raw_receive(&t.peer, &type, data)) > 0 && type == 23)
		strncat(got, (char *)data, (size_t)n);
	assert_string_equal(got, "hello, world");
	assert_int_equal(type, 21);
	place_close(&t);
}

static void test_ring(void **state)
{
	int out = memfd_create("out", MFD_CLOEXEC);
	struct io_uring ring;
	struct tested t;

	if (io_uring_queue_init(4, &ring, 0) < 0)
		skip_because("this kernel has no io_uring");
	begin(&t, state);
	place_block(&t);
	talk(&t.peer);
	assert_int_equal(copy_by_ring(t.c, &ring, out), 0);
	expect_file(out, "hello, world");
	io_uring_queue_exit(&ring);
	place_close(&t);
}

static void test_splice(void **state)
{
	int out = memfd_create("out", MFD_CLOEXEC);
	pthread_t thread;
	struct tested t;

	begin(&t, state);
	pthread_create(&thread, NULL, talk_slowly, &t.peer);
	assert_int_equal(copy_by_splice(t.c, out), 0);
	pthread_join(thread, NULL);
	expect_file(out, "hello, world");
	place_close(&t);
}

static void test_splice_truncated(void **state)
{
	int out = memfd_create("out", MFD_CLOEXEC);
	struct tested t;

	begin(&t, state);
	place_block(&t);
	raw_send(&t.peer, 23, "cut", 3);
	raw_fin(&t.peer);
	assert_int_equal(copy_by_splice(t.c, out), -ECONNABORTED);
	expect_file(out, "cut");
	place_close(&t);
}

static void test_splice_forged(void **state)
{
	int out = memfd_create("out", MFD_CLOEXEC);
	uint8_t record[RAW_RECORD_MAX];
	struct tested t;
	size_t n;

	begin(&t, state);
	raw_send(&t.peer, 23, "true", 4);
	n = raw_seal(&t.peer, 23, "forged", 6, record);
	record[n - 1] ^= 1;
	raw_send_bytes(&t.peer, record, n);
	assert_int_equal(copy_by_splice(t.c, out), -EBADMSG);
	expect_file(out, "true");
	place_close(&t);
}

int main(int argc, char **argv)
{
	static const struct {
		CMUnitTestFunction test;
		const char *name;
		bool bare; /* reads the fd itself */
	} tests[] = {
		{ test_blocking, "blocking", false },
		{ test_poll, "poll", false },
		{ test_ring, "io_uring", true },
		{ test_splice, "splice", true },
		{ test_splice_truncated, "splice: truncated", true },
		{ test_splice_forged, "splice: forged", true },
	};

	for (size_t i = 0; i < LENGTH(tests); i++)
		for (int kind = 0; kind < 4 * PLACES; kind++) {
			struct setting s = { { .tls13 = kind & 1, .server = kind & 2 },
					     (enum place)(kind / 4) };

			if (!tests[i].bare || place_in_kernel(s.place, TLSFD_RX))
				suite_add(tests[i].test, &s, sizeof(s), "%s: TLS 1.%d %s %s",
					  tests[i].name, s.v.tls13 ? 3 : 2,
					  s.v.server ? "server" : "client", place_names[s.place]);
		}
	return suite_run(argc, argv);
}
