/*
 * Messages and letters that tlsfd_pass did not write: each is refused or understood, none
 * costs more than itself.
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
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "connection.h"
#include "parcel.h"
#include "place.h"
#include "probe.h"
#include "suite.h"

struct opened {
	struct tested t;
	int pair[2];
	struct parcel p;
};

/* A connection whose parcel has been opened. */
static void begin(struct opened *o, void **state)
{
	place_connect(&o->t, *state, KERNEL);
	open_pair(SOCK_STREAM, o->pair);
	assert_int_equal(tlsfd_pass(&o->t.c, o->pair[0]), 0);
	parcel_open(&o->p, o->pair[1]);
}

static void end(struct opened *o)
{
	parcel_close(&o->p);
	close_pair(o->pair);
	place_close(&o->t);
}

/* What the other end makes of this letter and socket. */
static int try_letter(struct opened *o, const void *letter, size_t size, int socket,
		      struct tlsfd **c)
{
	int fd[2] = { socket, pipe_of(letter, size) };

	parcel_announce(&o->p, size);
	send_message(o->pair[0], o->p.text, sizeof(o->p.text), fd, 2);
	close(fd[1]);
	return tlsfd_take(c, o->pair[1]);
}

/* All that can be asked of it. */
static void use(const struct tlsfd *c)
{
	struct tlsfd_counters n;
	const uint8_t *der;
	uint8_t buf[64];
	size_t size, sum = 0;

	for (unsigned i = 0; tlsfd_peer_certificate(c, i, &der, &size) == 0; i++)
		while (size--)
			sum += der[size];
	sum += strlen(tlsfd_cipher(c)) + strlen(tlsfd_alpn(c)) + strlen(tlsfd_server_name(c)) +
	       strlen(tlsfd_report_sentence(tlsfd_report(c)));
	sum += tlsfd_error(c) ? strlen(tlsfd_error(c)) : 0;
	for (int b = 0; b < 2; b++)
		sum += tlsfd_channel_binding(c, (enum tlsfd_binding)b, buf, sizeof(buf)) > 0;
	assert_true(sum > 0);
	assert_true(tlsfd_alert(c) >= -1);
	assert_int_equal(tlsfd_counters(c, &n), 0);
}

static void expect_letter(struct opened *o, const void *letter, size_t size, bool whole)
{
	struct tlsfd *c;
	int err = try_letter(o, letter, size, o->p.fd[0], &c);

	if (err == 0 && whole) {
		use(c);
		close(tlsfd_fd(c));
		tlsfd_free(c);
		return;
	}
	assert_null(c);
	if (err != -EPROTO && err != -ESTALE && (err != -EPROTONOSUPPORT || !whole))
		fail_msg("%d", err);
}

static void test_truncated(void **state)
{
	struct opened o;
	size_t fds;

	begin(&o, state);
	fds = count_fds();
	for (size_t size = 1; size < o.p.size; size++)
		expect_letter(&o, o.p.letter, size, false);
	assert_int_equal(count_fds(), fds);
	expect_letter(&o, o.p.letter, o.p.size, true);
	assert_int_equal(count_fds(), fds);
	end(&o);
}

static void test_garbled(void **state)
{
	static const uint8_t changes[] = { 1, 0x80, (uint8_t)-1 };
	struct opened o;
	size_t fds;

	begin(&o, state);
	fds = count_fds();
	for (size_t i = 0; i < o.p.size * sizeof(changes); i++) {
		uint8_t change = changes[i % sizeof(changes)];

		o.p.letter[i / sizeof(changes)] += change;
		expect_letter(&o, o.p.letter, o.p.size, true);
		o.p.letter[i / sizeof(changes)] -= change;
	}
	assert_int_equal(count_fds(), fds);
	end(&o);
}

/* The size in the message is for memory: it isn't believed. */
static void test_announced(void **state)
{
	struct opened o;
	struct tlsfd *c;
	int fd[2];

	begin(&o, state);
	fd[0] = o.p.fd[0];
	for (int i = 0; i < 3; i++) {
		const size_t sizes[] = { 0, o.p.size - 1, (1 << 20) + 1 };

		fd[1] = pipe_of(o.p.letter, o.p.size);
		parcel_announce(&o.p, sizes[i]);
		send_message(o.pair[0], o.p.text, sizeof(o.p.text), fd, 2);
		close(fd[1]);
		assert_int_equal(tlsfd_take(&c, o.pair[1]), -EPROTO);
	}
	expect_letter(&o, o.p.letter, o.p.size, true);
	end(&o);
}

/* Sizes and numbers anywhere. */
static void test_random(void **state)
{
	uint64_t seed = 4;
	struct opened o;
	uint8_t *copy;

	begin(&o, state);
	copy = malloc(o.p.size);
	for (int i = 0; i < 3000; i++) {
		memcpy(copy, o.p.letter, o.p.size);
		for (int n = 0; n < 1 + i % 4; n++) {
			uint64_t bits = seed = seed * 6364136223846793005 + 1442695040888963407;
			uint32_t number = (uint32_t)(bits >> 32) >> (bits >> 27 & 31);

			memcpy(copy + 16 + (bits >> 16) % (o.p.size - 16 - 4), &number, 4);
		}
		expect_letter(&o, copy, o.p.size, true);
	}
	free(copy);
	end(&o);
}

static void test_longer(void **state)
{
	size_t size = (1 << 20) + 1;
	uint8_t *longer;
	struct opened o;

	begin(&o, state);
	longer = calloc(1, size);
	memcpy(longer, o.p.letter, o.p.size);
	expect_letter(&o, longer, o.p.size + 1, false);
	expect_letter(&o, longer, size - 1, false);
	expect_letter(&o, longer, size, false);
	free(longer);
	end(&o);
}

/* State that can't be, byte for byte in its place. */
static void test_state(void **state)
{
	int pair[2];

	open_pair(SOCK_STREAM, pair);
	for (int i = 0; i < 10; i++) {
		struct tested t;
		struct tlsfd *c;
		struct control *k;

		place_connect(&t, *state, KERNEL);
		k = &t.c->control;
		k->head_have = i == 0 ? 4 : 3;
		k->alert_have = i == 1 ? 3 : 2;
		k->body_left = i == 2 ? 1 << 24 : (1 << 24) - 1;
		t.c->err[RX] = i == 3 ? 1 : i == 4 ? -4096 : -4095;
		t.c->alert = i == 5 ? -1 : i == 6 ? 257 : 256;
		t.c->report.mover[RX] = i == 7 ? TLSFD_MOVER_NONE : TLSFD_MOVER_OPENSSL;
		t.c->report.mover[TX] = i == 8 ? TLSFD_MOVER_TLSFD + 1 : TLSFD_MOVER_TLSFD;
		assert_int_equal(tlsfd_pass(&t.c, pair[0]), 0);
		assert_int_equal(tlsfd_take(&c, pair[1]), i < 9 ? -EPROTO : 0);
		if (c)
			close(tlsfd_fd(c));
		t.c = c;
		place_close(&t);
	}
	close_pair(pair);
}

/* A newer program's: it is said why. */
static void test_format(void **state)
{
	struct tlsfd *c;
	struct opened o;

	begin(&o, state);
	o.p.letter[8]++;
	assert_int_equal(try_letter(&o, o.p.letter, o.p.size, o.p.fd[0], &c), -EPROTONOSUPPORT);
	assert_int_equal(try_letter(&o, o.p.letter, 16, o.p.fd[0], &c), -EPROTONOSUPPORT);
	end(&o);
}

/* ---- messages ---- */

static void expect_refused(struct opened *o, size_t n, const int *fd, size_t fds)
{
	size_t before = count_fds();
	struct tlsfd *c;

	send_message(o->pair[0], o->p.text, n, fd, fds);
	assert_int_equal(tlsfd_take(&c, o->pair[1]), -EPROTO);
	assert_int_equal(count_fds(), before);
	assert_int_equal(tlsfd_take(&c, o->pair[1]), -EAGAIN);
}

static void test_messages(void **state)
{
	int ends[2], fd[253];
	struct opened o;

	begin(&o, state);
	fd[0] = o.p.fd[0];
	fd[1] = pipe_of(o.p.letter, o.p.size);
	for (size_t i = 2; i < LENGTH(fd); i++)
		fd[i] = fd[1];
	expect_refused(&o, 8, NULL, 0);
	expect_refused(&o, 8, fd, 1);
	expect_refused(&o, 8, fd, 3);
	expect_refused(&o, 8, fd, LENGTH(fd));
	expect_refused(&o, 7, fd, 2);
	o.p.text[0] ^= 1;
	expect_refused(&o, 8, fd, 2);
	o.p.text[0] ^= 1;
	expect_refused(&o, 8, (int[]){ fd[1], fd[0] }, 2); /* what is a pipe isn't looked at */
	expect_refused(&o, 8, (int[]){ fd[0], fd[0] }, 2);
	fd[1] = memfd_create("letter", MFD_CLOEXEC);
	assert_int_equal(pwrite(fd[1], o.p.letter, o.p.size, 0), o.p.size);
	expect_refused(&o, 8, fd, 2);
	assert_int_equal(pipe(ends), 0); /* never ends, and would block */
	fd[1] = ends[0];
	expect_refused(&o, 8, fd, 2);
	end(&o);
}

/* ---- copies ---- */

/* The same message twice: peeked at and passed on, then read. */
static void test_copies(void **state)
{
	int pair[2], other[2], fd[2];
	struct tlsfd *first, *second;
	struct tested t;
	size_t fds;
	char text[8];

	place_connect(&t, *state, KERNEL);
	open_pair(SOCK_STREAM, pair);
	open_pair(SOCK_STREAM, other);
	fds = count_fds();
	assert_int_equal(tlsfd_pass(&t.c, pair[0]), 0);
	receive_message(pair[1], text, fd, MSG_PEEK);
	send_message(other[0], text, sizeof(text), fd, 2);
	close_pair(fd);
	assert_int_equal(tlsfd_take(&first, other[1]), 0);
	assert_int_equal(tlsfd_take(&second, pair[1]), -EALREADY);
	assert_null(second);
	assert_int_equal(count_fds(), fds + 1);
	use(first);
	close(tlsfd_fd(first));
	t.c = first;
	close_pair(pair);
	close_pair(other);
	place_close(&t);
}

enum { MANY = 40 };

static void *take_all(void *arg)
{
	const int *socket = arg;
	struct tlsfd *c;
	long taken = 0;
	int err;

	while ((err = tlsfd_take(&c, *socket)) != -EPIPE) {
		if (err == -EAGAIN)
			continue;
		if (err)
			return (void *)-1L;
		close(tlsfd_fd(c));
		tlsfd_free(c);
		taken++;
	}
	return (void *)taken;
}

/* Several takers at one socket: each connection goes to one of them. */
static void test_takers(void **state)
{
	pthread_t thread[3];
	struct tested t[MANY];
	long sum = 0;
	int pair[2];

	open_pair(SOCK_STREAM, pair);
	for (size_t i = 0; i < MANY; i++)
		place_connect(&t[i], *state, KERNEL);
	for (size_t i = 0; i < LENGTH(thread); i++)
		pthread_create(&thread[i], NULL, take_all, &pair[1]);
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(tlsfd_pass(&t[i].c, pair[0]), 0);
	close(pair[0]);
	for (size_t i = 0; i < LENGTH(thread); i++) {
		void *taken;

		pthread_join(thread[i], &taken);
		assert_true((long)taken >= 0);
		sum += (long)taken;
	}
	assert_int_equal(sum, MANY);
	close(pair[1]);
	for (size_t i = 0; i < MANY; i++)
		place_close(&t[i]);
}

/* ---- sockets ---- */

static void test_other_socket(void **state)
{
	struct opened o, other;
	struct tlsfd *c;
	int pair[2];

	begin(&o, state);
	begin(&other, state);
	assert_int_equal(probe_pair(pair), 0);
	assert_int_equal(try_letter(&o, o.p.letter, o.p.size, other.p.fd[0], &c), -ESTALE);
	assert_int_equal(try_letter(&o, o.p.letter, o.p.size, pair[0], &c), -ESTALE);
	assert_int_equal(try_letter(&o, o.p.letter, o.p.size, o.pair[0], &c), -ESTALE);
	close_pair(pair);
	end(&other);
	end(&o);
}

/* The numbers of a direction begin again. False: this kernel can't. */
static bool begin_again(int fd, int direction)
{
	struct tls12_crypto_info_aes_gcm_128 info;
	socklen_t size = sizeof(info);

	assert_int_equal(getsockopt(fd, SOL_TLS, direction, &info, &size), 0);
	memset(info.rec_seq, 0, sizeof(info.rec_seq));
	return setsockopt(fd, SOL_TLS, direction, &info, size) == 0;
}

/* Records that went over the bare fd meanwhile change nothing, new keys do. */
static void went_on(void **state, int direction)
{
	struct tlsfd *c;
	struct opened o;
	char got[8];

	begin(&o, state);
	assert_int_equal(send(o.t.fd, "bare", 4, 0), 4);
	raw_send(&o.t.peer, 23, "bare", 4);
	assert_int_equal(poll(&(struct pollfd){ o.t.fd, POLLIN, 0 }, 1, PATIENCE_MS), 1);
	assert_int_equal(recv(o.t.fd, got, sizeof(got), 0), 4);
	expect_letter(&o, o.p.letter, o.p.size, true);
	assert_int_equal(try_letter(&o, o.p.letter, o.p.size, o.p.fd[0], &c), 0);
	assert_int_equal(tlsfd_pass(&c, o.pair[0]), 0);
	parcel_close(&o.p);
	parcel_open(&o.p, o.pair[1]);
	if (begin_again(o.t.fd, direction))
		assert_int_equal(try_letter(&o, o.p.letter, o.p.size, o.p.fd[0], &c), -ESTALE);
	end(&o);
}

static void test_tx_went_on(void **state)
{
	went_on(state, TLS_TX);
}

static void test_rx_went_on(void **state)
{
	went_on(state, TLS_RX);
}

/* ---- size ---- */

/* A letter of this many bytes and a bit, by its longest text. */
static int pass_large(struct tested *t, int *pair, size_t size)
{
	char *sentence = malloc(size);

	memset(sentence, 'x', size - 1);
	sentence[size - 1] = '\0';
	t->c->error = t->c->text = sentence;
	return tlsfd_pass(&t->c, pair[0]);
}

static void test_large(void **state)
{
	static const size_t sizes[] = { 5000, 60000, 65536, 200000, 1000000 };
	struct tested t;
	int pair[2];

	open_pair(SOCK_STREAM, pair);
	for (size_t i = 0; i < LENGTH(sizes); i++) {
		place_connect(&t, *state, KERNEL);
		assert_int_equal(pass_large(&t, pair, sizes[i]), 0);
		assert_int_equal(tlsfd_take(&t.c, pair[1]), 0);
		assert_int_equal(strlen(tlsfd_error(t.c)), sizes[i] - 1);
		close(tlsfd_fd(t.c));
		place_close(&t);
	}
	place_connect(&t, *state, KERNEL);
	assert_int_equal(pass_large(&t, pair, 1 << 20), -EMSGSIZE);
	assert_non_null(t.c);
	place_close(&t);
	close_pair(pair);
}

/* What it costs. */
static void test_time(void **state)
{
	enum { MOVES = 2000 };
	struct timespec from, to;
	struct tested t;
	double us;

	place_connect(&t, *state, KERNEL);
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < MOVES; i++) {
		int fd = t.fd;

		move_on(&t.c, &fd);
		t.fd = fd;
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	us = (double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) / 1e3;
	printf("# %.1f us per move\n", us / MOVES);
	place_close(&t);
}

int main(int argc, char **argv)
{
	static const struct {
		CMUnitTestFunction test;
		const char *name;
	} tests[] = {
		{ test_truncated, "truncated" },
		{ test_announced, "announced" },
		{ test_garbled, "garbled" },
		{ test_random, "random" },
		{ test_longer, "longer" },
		{ test_state, "impossible state" },
		{ test_format, "another format" },
		{ test_messages, "messages" },
		{ test_copies, "copies" },
		{ test_takers, "several takers" },
		{ test_other_socket, "another socket" },
		{ test_tx_went_on, "the socket went on, TX" },
		{ test_rx_went_on, "the socket went on, RX" },
		{ test_large, "large" },
		{ test_time, "time" },
	};

	for (size_t i = 0; i < LENGTH(tests); i++)
		for (int tls13 = 0; tls13 < 2; tls13++) {
			struct raw_variant v = { .tls13 = tls13, .server = !tls13 };

			suite_add(tests[i].test, &v, sizeof(v), "%s: TLS 1.%d", tests[i].name,
				  tls13 ? 3 : 2);
		}
	return suite_run(argc, argv);
}
