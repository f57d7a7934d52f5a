/*
 * tlsfd_attend and tlsfd_release: programs that read and write the fd themselves; in every
 * place.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "everywhere.h"
#include "expect.h"
#include "link.h"

static void begin(struct tested *t, void **state)
{
	place_connect(t, &setting_of(state)->v, setting_of(state)->place);
}

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
		if (next == -EAGAIN && poll(&wait, 1, PATIENCE_MS) == 1)
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
		say(&t.peer, "one ");
		raw_send_alert(&t.peer, 1, 90);
		raw_send(&t.peer, 23, NULL, 0);
		raw_send_alert(&t.peer, 1, 90);
		say(&t.peer, "two");
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
	say(&t.peer, "cut");
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
		say(&t.peer, "good");
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
	say(&t.peer, "gone");
	if (tlsfd_kernel(t.c, TLSFD_RX)) {
		wait_for(t.fd, POLLIN);
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

int main(int argc, char **argv)
{
	static const struct everywhere tests[] = {
		{ test_attend, "attend", BOTH, ANYWHERE },
		{ test_attend_truncated, "attend: truncated", BOTH, ANYWHERE },
		{ test_attend_header, "attend: bad header", BOTH, ANYWHERE },
		{ test_attend_reset, "attend: reset", BOTH, ANYWHERE },
		{ test_attend_rest, "attend: the rest of a record", BOTH, ANYWHERE },
		{ test_release, "release", BOTH, ANYWHERE },
	};

	everywhere_add(tests, LENGTH(tests), NULL);
	return suite_run(argc, argv);
}
