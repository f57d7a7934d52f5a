/*
 * New keys for what we send: by us, at the limit of a key, as an answer while somebody is
 * writing; and what is owed, refused, or fails half way.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tlsfd/openssl.h>
#include <unistd.h>

#include "place.h"
#include "probe.h"
#include "rekey.h"
#include "stats.h"
#include "suite.h"
#include "sys.h"

static bool kernel_can(void)
{
	return probe_kernel(PROBE_REKEY).verdict == PROBE_YES;
}

static const char *const suites[] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
				      "TLS_CHACHA20_POLY1305_SHA256" };

struct setting {
	struct raw_variant v;
	enum place place;
};

static void begin(struct tested *t, void **state)
{
	const struct setting *s = *state;

	if (s->place != USERSPACE && s->v.tls13 && !kernel_can())
		skip_because("this kernel can't change keys");
	place_connect(t, &s->v, s->place);
}

static void say(struct raw_peer *p, const char *text)
{
	raw_send(p, 23, text, strlen(text));
}

static void expect_text(struct tested *t, const char *want)
{
	char got[128];

	assert_int_equal(patient_read(t, got, sizeof(got)), strlen(want));
	assert_memory_equal(got, want, strlen(want));
}

/* ---- what the peer receives ---- */

struct received {
	uint64_t bytes, updates;
	unsigned requests;
	uint64_t under_key, most; /* records under this key; under any */
	unsigned records;
};

/* One record, which must open. Its type; -1: the end. */
static int receive(struct tested *t, struct received *r)
{
	uint8_t data[16384], type = 0;
	ssize_t n = raw_receive(&t->peer, &type, data);

	if (n < 0) {
		assert_int_equal(n, -1);
		return -1;
	}
	r->records++;
	r->most = ++r->under_key > r->most ? r->under_key : r->most;
	if (type == 23) {
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(data[i], (uint8_t)((r->bytes + (uint64_t)i) * 251 >> 8));
		r->bytes += (uint64_t)n;
	} else if (type == 22) {
		assert_int_equal(n, 5);
		assert_memory_equal(data, ((uint8_t[]){ 24, 0, 0, 1 }), 4);
		r->requests += data[4];
		r->updates++;
		r->under_key = 0;
		raw_next_in(&t->peer);
	}
	return type;
}

static void receive_bytes(struct tested *t, struct received *r, uint64_t bytes)
{
	while (r->bytes < bytes)
		assert_true(receive(t, r) >= 22);
}

/* What is sent: a pattern that knows its place. */
static uint8_t *pattern(size_t n)
{
	uint8_t *data = malloc(n);

	assert_non_null(data);
	for (size_t i = 0; i < n; i++)
		data[i] = (uint8_t)(i * 251 >> 8);
	return data;
}

/* ---- by us ---- */

static void test_by_us(void **state)
{
	uint8_t *data = pattern(1000);
	struct received r = { .bytes = 0 };
	struct tlsfd_counters n;
	struct stats before, now;
	struct tested t;

	begin(&t, state);
	before = stats_now();
	for (size_t i = 0; i < 100; i++) {
		bool request = i & 1;

		assert_int_equal(tlsfd_rekey(t.c, request), 0);
		assert_int_equal(tlsfd_write(t.c, data + 10 * i, 10), 10);
		receive_bytes(&t, &r, 10 * i + 10);
		assert_int_equal(r.updates, i + 1);
		assert_int_equal(r.requests, (i + 1) / 2);
		if (request)
			raw_update_keys(&t.peer, false);
		say(&t.peer, "pong");
		expect_text(&t, "pong");
	}
	assert_int_equal(tlsfd_counters(t.c, &n), 0);
	assert_int_equal(n.tx_rekeys, 100);
	assert_int_equal(n.rx_rekeys, 50);
	assert_int_equal(n.tx_records, 1);
	assert_int_equal(n.rx_records, 1);
	now = stats_now();
	assert_int_equal(now.tx_rekey_ok - before.tx_rekey_ok,
			 tlsfd_kernel(t.c, TLSFD_TX) ? 100 : 0);
	stats_no_errors(&before, &now);
	assert_int_equal(tlsfd_shutdown(t.c), 0);
	assert_int_equal(tlsfd_rekey(t.c, true), -EPIPE);
	free(data);
	place_close(&t);
}

static void test_impossible(void **state)
{
	struct tested t;

	begin(&t, state);
	assert_int_equal(tlsfd_rekey(t.c, false), -EOPNOTSUPP);
	assert_int_equal(tlsfd_set_rekey(t.c, TLSFD_REKEY, 1), -EINVAL);
	assert_int_equal(tlsfd_set_rekey(t.c, (enum tlsfd_rekey)3, 0), -EINVAL);
	assert_null(tlsfd_report_warning(tlsfd_report(t.c)));
	assert_int_equal(tlsfd_write(t.c, "on", 2), 2);
	place_close(&t);
}

/* ---- limits ---- */

enum { LIMIT = 50 };

static ssize_t write_pieces(struct tested *t, const uint8_t *data, size_t n)
{
	size_t done = 0;

	for (size_t i = 0; done < n; i++) {
		size_t piece = 1 + i * 37 % 2000;
		ssize_t sent = patient_write(t, data + done, piece < n - done ? piece : n - done);

		if (sent < 0)
			return done ? (ssize_t)done : sent;
		done += (size_t)sent;
	}
	return (ssize_t)done;
}

static ssize_t write_at_once(struct tested *t, const uint8_t *data, size_t n)
{
	return tlsfd_write(t->c, data, n);
}

static ssize_t write_vectors(struct tested *t, const uint8_t *data, size_t n)
{
	struct iovec iov[100];
	size_t part = n / 100;

	for (int i = 0; i < 100; i++)
		iov[i] = (struct iovec){ (void *)(data + part * (size_t)i),
					 i == 99 ? n - 99 * part : part };
	return tlsfd_writev(t->c, iov, 100);
}

static ssize_t write_file(struct tested *t, const uint8_t *data, size_t n)
{
	int file = memfd_create("data", MFD_CLOEXEC);
	off_t at = 0;
	ssize_t sent;

	assert_int_equal(write(file, data, n), n);
	sent = tlsfd_sendfile(t->c, file, &at, 2 * n);
	assert_int_equal(at, sent);
	close(file);
	return sent;
}

struct limited {
	struct setting s;
	ssize_t (*write)(struct tested *t, const uint8_t *data, size_t n);
	const char *name;
	size_t n;
};

struct job {
	struct tested *t;
	const struct limited *l;
	const uint8_t *data;
	size_t n;
	ssize_t result;
};

static void *do_job(void *arg)
{
	struct job *j = arg;

	j->result = j->l->write(j->t, j->data, j->n);
	return NULL;
}

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

	begin(&t, state);
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

	begin(&t, state);
	assert_int_equal(tlsfd_set_rekey(t.c, TLSFD_REKEY_CLOSE, LIMIT), 0);
	for (at = 0; at < LIMIT && (sent = tlsfd_write(t.c, data + at, 1)) == 1; at++)
		;
	assert_int_equal(sent, -EKEYEXPIRED);
	assert_non_null(tlsfd_error(t.c));
	assert_int_equal(tlsfd_counters(t.c, &n), 0);
	assert_int_equal(n.tx_records, LIMIT - 1);
	assert_int_equal(tlsfd_write(t.c, "x", 1), -EKEYEXPIRED);
	say(&t.peer, "still");
	expect_text(&t, "still");
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

	begin(&t, state);
	tls13 = t.peer.tls13;
	assert_int_equal(tlsfd_set_rekey(t.c, tls13 ? TLSFD_REKEY_CONTINUE : TLSFD_REKEY, LIMIT), 0);
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

/* Without secrets, by policy or by kernel: what came before, the reason, the alert. */
static void clear_end(struct tested *t)
{
	bool tx = tlsfd_kernel(t->c, TLSFD_TX);
	uint8_t data[16384], type = 0;
	char got[64];

	say(&t->peer, "before");
	raw_update_keys(&t->peer, true);
	say(&t->peer, "after");
	expect_text(t, "before");
	assert_int_equal(patient_read(t, got, 2), -EKEYEXPIRED);
	assert_int_equal(tlsfd_read(t->c, got, sizeof(got)), -EKEYEXPIRED);
	assert_int_equal(tlsfd_write(t->c, "x", 1), -EPIPE);
	assert_non_null(tlsfd_error(t->c));
	assert_int_equal(raw_receive(&t->peer, &type, data), 2);
	assert_int_equal(type, 21);
	assert_int_equal(data[1], tx ? 80 : 20); /* OpenSSL has no way to send the former */
}

static void test_clear_end(void **state)
{
	const struct setting *s = *state;
	bool can = s->place == USERSPACE || kernel_can();
	struct tested t;

	for (enum tlsfd_rekey policy = TLSFD_REKEY; policy <= TLSFD_REKEY_CONTINUE; policy++) {
		if (policy == TLSFD_REKEY && can)
			continue;
		place_connect(&t, &s->v, s->place);
		assert_int_equal(tlsfd_report_warning(tlsfd_report(t.c)) != NULL, !can);
		assert_int_equal(tlsfd_set_rekey(t.c, policy, 0), 0);
		if (policy != TLSFD_REKEY || tlsfd_kernel(t.c, TLSFD_TX))
			assert_int_equal(tlsfd_rekey(t.c, false), -EOPNOTSUPP);
		clear_end(&t);
		place_close(&t);
	}
}

/* OpenSSL has "after" already when it comes to the KeyUpdate. */
static void test_read_ahead(void **state)
{
	const struct setting *s = *state;
	struct tested t;
	SSL *ssl;

	for (enum tlsfd_rekey policy = TLSFD_REKEY_CLOSE; policy <= TLSFD_REKEY_CONTINUE; policy++) {
		ssl = raw_connect(&t.peer, &s->v, &t.fd);
		SSL_set_read_ahead(ssl, 1);
		t.c = place_put(ssl, t.fd, s->place);
		assert_int_equal(tlsfd_set_rekey(t.c, policy, 0), 0);
		clear_end(&t);
		place_close(&t);
	}
}

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

	begin(&t, state);
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

	begin(&t, state);
	run_stream(&t, false, 4 << 20, 40);
	place_close(&t);
}

static void test_splice(void **state)
{
	struct tested t;

	begin(&t, state);
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

	begin(&t, state);
	little_room(&t);
	for (asked = 0; asked < 30 && tlsfd_wants(t.c, TLSFD_RX) == POLLIN; asked++) {
		fill(&t, &n);
		raw_update_keys(&t.peer, true);
		say(&t.peer, "one");
		expect_text(&t, "one");
	}
	assert_int_equal(tlsfd_wants(t.c, TLSFD_RX), POLLIN | POLLOUT);
	raw_update_keys(&t.peer, true);
	say(&t.peer, "two");
	expect_text(&t, "two");
	assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -EAGAIN);
	receive_bytes(&t, &r, n);
	wait = (struct pollfd){ .fd = t.fd, .events = tlsfd_wants(t.c, TLSFD_RX) };
	assert_int_equal(poll(&wait, 1, 5000), 1);
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

	begin(&t, state);
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

/* ---- failures ---- */

static int failing_name, failing_with;

static int fault(int fd, int level, int name)
{
	(void)fd;
	return level == SOL_TLS && name == failing_name ? failing_with : 0;
}

static void fail_at(int name, int err)
{
	failing_name = name;
	failing_with = err;
	sys_fault = name ? fault : NULL;
}

/* The record is out, the key is not: nothing more is sent, least of all under the old one. */
static void test_tx_fails(void **state)
{
	uint8_t data[16384], type;
	struct received r = { .bytes = 0 };
	struct tested t;

	begin(&t, state);
	fail_at(TLS_TX, -ENOMEM);
	assert_int_equal(tlsfd_rekey(t.c, false), -ENOMEM);
	fail_at(0, 0);
	assert_int_equal(tlsfd_write(t.c, "x", 1), -ENOMEM);
	assert_int_equal(tlsfd_rekey(t.c, false), -ENOMEM);
	assert_int_equal(tlsfd_attend(t.c, TLSFD_TX, 0), -ENOMEM);
	assert_int_equal(tlsfd_shutdown(t.c), -ENOMEM);
	say(&t.peer, "still");
	expect_text(&t, "still");
	assert_int_equal(receive(&t, &r), 22);
	shutdown(t.fd, SHUT_WR);
	assert_int_equal(raw_receive(&t.peer, &type, data), -1);
	place_close(&t);
}

/* The same in an answer, by the reader: reading goes on. */
static void test_answer_fails(void **state)
{
	uint8_t data[16384], type;
	struct received r = { .bytes = 0 };
	struct tested t;

	begin(&t, state);
	raw_update_keys(&t.peer, true);
	say(&t.peer, "on");
	fail_at(TLS_TX, -ENOMEM);
	expect_text(&t, "on");
	fail_at(0, 0);
	assert_int_equal(tlsfd_write(t.c, "x", 1), -ENOMEM);
	assert_int_equal(receive(&t, &r), 22);
	shutdown(t.fd, SHUT_WR);
	assert_int_equal(raw_receive(&t.peer, &type, data), -1);
	place_close(&t);
}

static void test_rx_fails(void **state)
{
	uint8_t data[16384], type;
	struct tested t;
	char got[8];

	begin(&t, state);
	raw_update_keys(&t.peer, true);
	say(&t.peer, "lost");
	fail_at(TLS_RX, -ENOMEM);
	assert_int_equal(patient_read(&t, got, sizeof(got)), -ENOMEM);
	fail_at(0, 0);
	assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -ENOMEM);
	assert_int_equal(raw_receive(&t.peer, &type, data), 2);
	assert_int_equal(data[1], 80);
	place_close(&t);
}

/* ---- what a peer may not do ---- */

static void expect_end(struct tested *t, int alert)
{
	uint8_t data[16384], type = 0;
	ssize_t n;
	char got[64];

	while ((n = patient_read(t, got, sizeof(got))) > 0)
		;
	assert_int_equal(n, -EPROTO);
	while (raw_receive(&t->peer, &type, data) == 5 && type == 22)
		raw_next_in(&t->peer);
	assert_int_equal(type, 21);
	assert_int_equal(data[1], alert);
}

static void test_malformed(void **state)
{
	static const struct {
		uint8_t bytes[12];
		size_t n;
		int alert;
	} rows[] = {
		{ { 24, 0, 0, 0 }, 4, 50 },
		{ { 24, 0, 0, 2, 0, 0 }, 6, 50 },
		{ { 24, 0, 0, 1, 2 }, 5, 47 },
		{ { 24, 0, 0, 1, 0, 24, 0, 0, 1, 0 }, 10, 10 },
		{ { 24, 0, 0, 1, 0, 4 }, 6, 10 },
	};

	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct tested t;

		begin(&t, state);
		raw_send(&t.peer, 22, rows[i].bytes, rows[i].n);
		expect_end(&t, rows[i].alert);
		place_close(&t);
	}
}

static void flood_updates(struct raw_peer *p)
{
	raw_update_keys(p, true);
}

/* Each part of a ticket stops the kernel as a KeyUpdate does. */
static void test_stops(void **state)
{
	struct tested t;

	begin(&t, state);
	raw_send(&t.peer, 22, "\4\1\xff\xff", 4);
	for (int i = 0; i < 100; i++)
		raw_send(&t.peer, 22, "\x18", 1);
	expect_end(&t, 10);
	place_close(&t);
}

static void flood_trickle(struct raw_peer *p)
{
	raw_update_keys(p, true);
	say(p, "x");
}

static void test_flood(void **state)
{
	static void (*const floods[])(struct raw_peer *) = { flood_updates, flood_trickle };

	for (size_t i = 0; i < LENGTH(floods); i++) {
		struct tlsfd_counters n;
		struct tested t;

		begin(&t, state);
		for (int k = 0; k < 200; k++)
			floods[i](&t.peer);
		expect_end(&t, 10);
		assert_int_equal(tlsfd_counters(t.c, &n), 0);
		assert_true(n.rx_rekeys >= 70 && n.rx_rekeys <= 160);
		place_close(&t);
	}
}

/* As often as a limit of 5 does it, however small the records: for ever, whoever reads. */
static void test_often(void **state)
{
	struct tested t;
	char got[8];

	begin(&t, state);
	for (int i = 0; i < 500; i++) {
		bool bare = i >= 250 && tlsfd_kernel(t.c, TLSFD_RX);

		for (int k = 0; k < 4; k++)
			say(&t.peer, "x");
		raw_update_keys(&t.peer, false);
		for (ssize_t have = 0, n; have < 4; have += n) {
			n = bare ? recv(t.fd, got, sizeof(got), 0) :
				   patient_read(&t, got, sizeof(got));
			if (n <= 0)
				fail_msg("%zd after %d: %s", n, i, tlsfd_error(t.c));
		}
		if (bare)
			assert_int_equal(tlsfd_attend(t.c, TLSFD_RX | TLSFD_TX, 0), -EAGAIN);
	}
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

	return s->v.suite != suites[0] || (slice && *slice == '1') ? 50000 : 500000;
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

	if (!kernel_can())
		skip_because("this kernel can't change keys");
	raw_pair(&s->v, ssl, fd);
	before = stats_now();
	for (int i = 0; i < 2; i++) {
		side[i] = (struct side){ .c = place_put(ssl[i], fd[i], KERNEL), .writes = writes(s) };
		assert_int_equal(tlsfd_set_rekey(side[i].c, TLSFD_REKEY, 2000), 0);
		fcntl(fd[i], F_SETFL, 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, i & 1 ? read_million : write_million, &side[i / 2]);
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

/* ---- all of them ---- */

enum { V12 = 1, V13 = 2 };

static const struct {
	CMUnitTestFunction test;
	const char *name;
	unsigned versions;
	unsigned places;
} tests[] = {
	{ test_by_us, "by us", V13, 15 },
	{ test_impossible, "TLS 1.2", V12, 15 },
	{ test_close, "limit: close", V12 | V13, 15 },
	{ test_continue, "limit: continue", V12 | V13, 15 },
	{ test_clear_end, "no new keys", V13, 15 },
	{ test_read_ahead, "no new keys, read ahead", V13, 1 << USERSPACE },
	{ test_full_speed, "at full speed", V13, 15 },
	{ test_splice, "splice", V13, 1 << KERNEL },
	{ test_no_room, "no room for the answer", V13, 1 << KERNEL | 1 << TX_KERNEL },
	{ test_attend, "attend", V13, 1 << KERNEL },
	{ test_tx_fails, "TLS_TX fails", V13, 1 << KERNEL },
	{ test_answer_fails, "TLS_TX fails in an answer", V13, 1 << KERNEL | 1 << TX_KERNEL },
	{ test_rx_fails, "TLS_RX fails", V13, 1 << KERNEL },
	{ test_malformed, "malformed", V13, 1 << KERNEL },
	{ test_flood, "flood", V13, 15 },
	{ test_often, "often", V13, 15 },
	{ test_stops, "flood of stops", V13, 1 << KERNEL },
};

static void add_limited(void)
{
	static const struct limited ways[] = {
		{ .write = write_pieces, .name = "pieces", .n = 600000 },
		{ .write = write_at_once, .name = "one write", .n = 5000000 },
		{ .write = write_vectors, .name = "vectors", .n = 5000000 },
		{ .write = write_file, .name = "sendfile", .n = 5000000 },
	};

	for (unsigned i = 0; i < LENGTH(ways) * PLACES; i++) {
		struct limited l = ways[i % LENGTH(ways)];

		l.s = (struct setting){ { .tls13 = true, .server = i & 1, .suite = suites[i % 3] },
					(enum place)(i / LENGTH(ways)) };
		suite_add(test_limit, &l, sizeof(l), "limit: %s, %s", l.name,
			  place_names[l.s.place]);
		if (l.write != write_pieces && l.s.place == KERNEL)
			suite_add(test_writer_is_stuck, &l, sizeof(l), "stuck in %s", l.name);
	}
}

int main(int argc, char **argv)
{
	for (size_t i = 0; i < LENGTH(tests); i++)
		for (unsigned kind = 0; kind < 4 * PLACES; kind++) {
			struct setting s = { { .tls13 = kind & 1, .server = kind & 2 },
					     (enum place)(kind / 4) };

			if (!(tests[i].versions & (s.v.tls13 ? V13 : V12)) ||
			    !(tests[i].places >> s.place & 1) ||
			    (tests[i].test == test_stops && s.v.server))
				continue;
			if (s.v.tls13)
				s.v.suite = suites[(kind / 2 + i) % 3];
			suite_add(tests[i].test, &s, sizeof(s), "%s: TLS 1.%d %s %s", tests[i].name,
				  s.v.tls13 ? 3 : 2, s.v.server ? "server" : "client",
				  place_names[s.place]);
		}
	add_limited();
	suite_slice(1);
	for (size_t i = 0; i < LENGTH(suites); i += 2) {
		struct setting s = { { .tls13 = true, .suite = suites[i] }, KERNEL };

		suite_add(test_million, &s, sizeof(s), "a million records, %s", suites[i]);
	}
	return suite_run(argc, argv);
}
