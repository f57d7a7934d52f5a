/*
 * Connections with random writes, half-closes and ends, both ends ours, in random
 * places: every byte that was taken arrives, or the reader is told that it may not.
 *
 *	random_ends [SUBSTRING]   TLSFD_SEED=N repeats a run
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "place.h"
#include "suite.h"

enum { RUN = 1 << 16, PERIOD = 65521 };

/* How an end says goodbye when it has written all. */
enum goodbye { CLEANLY, BY_FIN, BY_CLOSE, GOODBYES };

struct end {
	struct tlsfd *c;
	int fd;
	enum place place;
	enum goodbye goodbye;
	size_t to_send, sent, received, chunk;
	bool finished; /* said goodbye */
	bool ended;    /* reading: */
	ssize_t result;
};

static uint64_t seed;

static uint64_t rnd(uint64_t below)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (seed * 0x2545f4914f6cdd1d >> 20) % below;
}

static uint8_t pattern[PERIOD + RUN];

static void make_pattern(void)
{
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)((i % PERIOD) * 2654435761u >> 13);
}

static bool step_out(struct end *e)
{
	size_t left = e->to_send - e->sent, n = 1 + rnd(e->chunk);
	struct iovec iov[2];
	ssize_t sent;

	n = n < left ? n : left;
	iov[0] = (struct iovec){ pattern + e->sent % PERIOD, n / 3 };
	iov[1] = (struct iovec){ pattern + e->sent % PERIOD + n / 3, n - n / 3 };
	sent = rnd(2) ? tlsfd_write(e->c, pattern + e->sent % PERIOD, n) :
			tlsfd_writev(e->c, iov, 2);
	if (sent == -EAGAIN)
		return false;
	if (sent < 0) { /* the other end has gone: allowed for those that reset */
		e->finished = true;
		return true;
	}
	e->sent += (size_t)sent;
	return true;
}

static bool step_goodbye(struct end *e)
{
	int err = 0;

	if (e->goodbye == CLEANLY)
		err = tlsfd_shutdown(e->c);
	else if (e->goodbye == BY_FIN)
		shutdown(e->fd, SHUT_WR);
	e->finished = err != -EAGAIN;
	return e->finished;
}

static bool step_in(struct end *e)
{
	static uint8_t buf[RUN];
	size_t n = 1 + rnd(e->chunk);
	ssize_t got = tlsfd_read(e->c, buf, n);

	if (got == -EAGAIN)
		return false;
	if (got <= 0) {
		e->ended = true;
		e->result = got;
		return true;
	}
	if (memcmp(buf, pattern + e->received % PERIOD, (size_t)got))
		fail_msg("wrong data after %zu bytes at %s", e->received, place_names[e->place]);
	e->received += (size_t)got;
	return true;
}

static bool step(struct end *e)
{
	bool moved = false;

	if (e->goodbye == BY_CLOSE && e->sent == e->to_send)
		return false;
	if (e->sent < e->to_send && !e->finished)
		moved = step_out(e);
	else if (!e->finished)
		moved = step_goodbye(e);
	if (!e->ended && step_in(e))
		moved = true;
	return moved;
}

static bool through(const struct end *e)
{
	return (e->finished && e->ended) || (e->goodbye == BY_CLOSE && e->sent == e->to_send);
}

static void wait_both(struct end ends[2])
{
	struct pollfd p[2];

	for (int i = 0; i < 2; i++) {
		p[i] = (struct pollfd){ .fd = through(&ends[i]) ? -1 : ends[i].fd };
		if (!ends[i].ended)
			p[i].events |= tlsfd_wants(ends[i].c, TLSFD_RX);
		if (!ends[i].finished)
			p[i].events |= tlsfd_wants(ends[i].c, TLSFD_TX);
	}
	if (poll(p, 2, PATIENCE_MS) < 1)
		fail_msg(
			"stuck: %s %zu of %zu sent, %zu of %zu received; %s %zu of %zu, %zu of %zu",
			place_names[ends[0].place], ends[0].sent, ends[0].to_send, ends[0].received,
			ends[1].sent, place_names[ends[1].place], ends[1].sent, ends[1].to_send,
			ends[1].received, ends[0].sent);
}

static void make_end(struct end *e, struct tlsfd *c, int fd, enum place place)
{
	static const size_t sizes[] = { 0, 1, 1000, 16384, 50000, 300000 };

	*e = (struct end){ .c = c, .fd = fd, .place = place };
	e->goodbye = rnd(4) ? CLEANLY : (enum goodbye)rnd(GOODBYES);
	e->to_send = rnd(1 + sizes[rnd(LENGTH(sizes))]);
	e->chunk = 1 + rnd(RUN - 1);
	if (rnd(2))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ 4096 + (int)rnd(60000) },
			   sizeof(int));
}

/* Of SSLs that are handed over, or by tlsfd_accept and tlsfd_connect. */
static void make_pair(struct end ends[2], bool kernel)
{
	struct raw_variant v = { .tls13 = rnd(2), .server = rnd(2) };
	bool opened = rnd(2);
	enum tlsfd_kernel where[2];
	enum place place[2];
	struct tlsfd *c[2];
	SSL *ssl[2];
	int fd[2];

	for (int i = 0; i < 2; i++) {
		place[i] = opened ? OPENED_USERSPACE : USERSPACE;
		if (kernel)
			place[i] = opened ? OPENED_KERNEL + (enum place)rnd(2) :
					    (enum place)rnd(SSL_PLACES);
		place_need(place[i]);
		where[i] = place[i] == OPENED_KERNEL ? TLSFD_KERNEL_REQUIRE : TLSFD_KERNEL_NEVER;
	}
	if (opened)
		raw_open_pair(&v, where, c, fd);
	else
		raw_pair(&v, ssl, fd);
	for (int i = 0; i < 2; i++)
		make_end(&ends[i], opened ? c[i] : place_put(ssl[i], fd[i], place[i]), fd[i],
			 place[i]);
}

/* reader has read to its end: what must have come of writer's bytes? */
static void check(const struct end *reader, const struct end *writer)
{
	bool reset = reader->goodbye != CLEANLY || writer->goodbye != CLEANLY;

	if (reader->goodbye == BY_CLOSE)
		return;
	assert_true(reader->received <= writer->sent);
	if (!reset || (writer->goodbye == CLEANLY && writer->sent == writer->to_send &&
		       reader->result == 0)) {
		assert_int_equal(reader->result, 0);
		assert_int_equal(reader->received, writer->to_send);
		return;
	}
	if (writer->goodbye != CLEANLY)
		assert_true(reader->result == -ECONNABORTED || reader->result == -ECONNRESET);
}

static void one_connection(bool kernel)
{
	struct end ends[2];

	make_pair(ends, kernel);
	while (!through(&ends[0]) || !through(&ends[1])) {
		bool moved = false;

		for (int i = 0; i < 2; i++) {
			if (!through(&ends[i]) && step(&ends[i]))
				moved = true;
			if (ends[i].goodbye == BY_CLOSE && through(&ends[i]) && ends[i].fd >= 0) {
				close(ends[i].fd);
				ends[i].fd = -1;
				moved = true;
			}
		}
		if (!moved)
			wait_both(ends);
	}
	check(&ends[0], &ends[1]);
	check(&ends[1], &ends[0]);
	for (int i = 0; i < 2; i++) {
		tlsfd_free(ends[i].c);
		if (ends[i].fd >= 0)
			close(ends[i].fd);
	}
}

static void test_random(void **state)
{
	enum { EACH = 100 };
	const bool *kernel = *state;

	printf("# TLSFD_SEED=%llu\n", (unsigned long long)seed);
	for (int i = 0; i < EACH; i++)
		one_connection(*kernel);
}

int main(int argc, char **argv)
{
	const char *given = getenv("TLSFD_SEED");

	seed = given ? strtoull(given, NULL, 10) : (uint64_t)getpid() * 1000003;
	make_pattern();
	suite_slice(4);
	for (int i = 0; i < 10; i++)
		suite_add(test_random, &(bool){ true }, sizeof(bool),
			  "100 connections in the kernel and out of it, %d", i);
	for (int i = 0; i < 2; i++)
		suite_add(test_random, &(bool){ false }, sizeof(bool),
			  "100 connections in user space, %d", i);
	return suite_run(argc, argv);
}
