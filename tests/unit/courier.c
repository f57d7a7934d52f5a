/*
 * The channel between a handshake process and its data process: when the other one writes without
 * a pause, its messages are taken some at a time, and none is forgotten; and after 2^32 connections
 * their numbers begin again.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "roles/courier.h"
#include "suite.h"

/* Fills the channel with messages, numbered from 1: how many. */
static uint32_t fill(int fd, void *message, size_t size, uint32_t *number)
{
	for (*number = 1; send(fd, message, size, MSG_NOSIGNAL) == (ssize_t)size; ++*number)
		;
	assert_int_equal(errno, EAGAIN);
	return *number - 1;
}

/* ---- the data process tells and tells ---- */

struct scene {
	struct loop loop;
	struct courier courier;
	struct source other; /* who wants to be served, too */
	uint32_t told, served_at;
};

static void serve_other(struct source *source, uint32_t events)
{
	struct scene *s = owner_of(source, struct scene, other);

	(void)events;
	s->served_at = s->courier.tally.seen;
	loop_remove(&s->loop, source);
}

static void changed(void *arg)
{
	struct scene *s = arg;

	if (s->courier.tally.seen == s->told)
		loop_stop(&s->loop);
}

static void too_late(struct timer *timer)
{
	(void)timer;
	fail_msg("what was told last is not heard");
}

static void test_hear(void **state)
{
	struct timer deadline = { .due = too_late };
	struct scene s = { .courier = { .changed = changed } };
	struct tally tally = { .seen = 0 };
	int channel[ROLES], other[2];

	(void)state;
	assert_int_equal(channel_open(channel), 0);
	assert_int_equal(pipe2(other, O_CLOEXEC), 0);
	assert_int_equal(write(other[1], "x", 1), 1);
	assert_int_equal(loop_open(&s.loop), 0);
	assert_int_equal(loop_at(&s.loop, &deadline, s.loop.now_ms + 5000), 0);
	s.courier.loop = &s.loop;
	s.courier.arg = &s;
	s.told = fill(channel[ROLE_DATA], &tally, sizeof(tally), &tally.seen);
	assert_int_equal(courier_start(&s.courier, channel[ROLE_HANDSHAKE]), 0);
	s.other = (struct source){ other[0], serve_other };
	assert_int_equal(loop_add(&s.loop, &s.other, EPOLLIN), 0);
	assert_int_equal(loop_run(&s.loop), 0);
	assert_int_equal(s.courier.tally.seen, s.told);
	assert_true(s.served_at > 0 && s.served_at <= s.told / 2);
	loop_close(&s.loop);
	for (int i = 0; i < 2; i++) {
		close(channel[i]);
		close(other[i]);
	}
}

/* ---- the handshake process announces and announces ---- */

static void test_take(void **state)
{
	struct passed passed = { .number = 0 }, got = { .number = 0 };
	struct tlsfd *c;
	uint32_t sent, before = 0;
	int channel[ROLES], err;

	(void)state;
	assert_int_equal(channel_open(channel), 0);
	sent = fill(channel[ROLE_HANDSHAKE], &passed, sizeof(passed), &passed.number);
	while ((err = channel_take(channel[ROLE_DATA], &c, &got)) == -EPROTO) {
		assert_true(got.number > before && got.number < before + sent / 2);
		before = got.number;
	}
	assert_int_equal(err, -EAGAIN);
	assert_true(before > 0);
	close(channel[0]);
	close(channel[1]);
}

/* ---- 2^32 connections ---- */

/* Its handshake isn't done: it is announced, and can't be passed. */
static void bring(struct courier *k, struct tlsfd_config *config)
{
	const struct peer peer = { .began_ms = 1 };
	struct tlsfd *c;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(tlsfd_connect(&c, config, fd[0], "localhost"), 0);
	courier_bring(k, c, &peer);
	close(fd[1]);
}

static void take_back(void *arg, struct tlsfd *c, const struct peer *peer, int err)
{
	int fd = tlsfd_fd(c);

	(void)arg;
	(void)peer;
	assert_int_equal(err, -ENOTCONN);
	tlsfd_free(c);
	close(fd);
}

/* A number of 0 would be none, and a tally that has seen 0 that of a process that is new. */
static void test_numbers(void **state)
{
	static const struct {
		uint32_t sent, next;
	} steps[] = { { 0, 1 }, { UINT32_MAX - 1, UINT32_MAX }, { UINT32_MAX, 1 } };
	struct loop loop;
	struct courier k = { .loop = &loop, .kept = take_back };
	struct tlsfd_config *config;
	struct passed passed;
	int channel[ROLES];

	(void)state;
	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_int_equal(channel_open(channel), 0);
	assert_int_equal(loop_open(&loop), 0);
	assert_int_equal(courier_start(&k, channel[ROLE_HANDSHAKE]), 0);
	for (size_t i = 0; i < LENGTH(steps); i++) {
		k.sent = steps[i].sent;
		bring(&k, config);
		assert_int_equal(recv(channel[ROLE_DATA], &passed, sizeof(passed), 0),
				 sizeof(passed));
		assert_int_equal(passed.number, steps[i].next);
		assert_int_equal(k.sent, steps[i].sent);
	}
	loop_close(&loop);
	close(channel[0]);
	close(channel[1]);
	tlsfd_config_free(config);
}

/* What is on its way is counted over the end of the numbers, too; what the data process says of
 * numbers that are not of this process counts for nothing. */
static void test_load(void **state)
{
	static const struct {
		uint32_t base, sent, seen, load;
	} cases[] = { { 10, 14, 12, 2 },
		      { 10, 14, 9, 4 },
		      { UINT32_MAX - 4, UINT32_MAX, UINT32_MAX - 1, 1 },
		      { UINT32_MAX - 4, 2, 1, 1 },
		      { UINT32_MAX - 4, 2, 2, 0 },
		      { UINT32_MAX - 4, UINT32_MAX, 5, 4 } };

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		const struct courier k = { .base = cases[i].base,
					   .sent = cases[i].sent,
					   .tally = { .seen = cases[i].seen, .held = 3 } };

		assert_int_equal(courier_load(&k), 3 + cases[i].load);
	}
}

int main(int argc, char **argv)
{
	suite_add(test_hear, NULL, 0, "tallies without end");
	suite_add(test_take, NULL, 0, "announcements without end");
	suite_add(test_numbers, NULL, 0, "numbers begin again");
	suite_add(test_load, NULL, 0, "load over the end of the numbers");
	return suite_run(argc, argv);
}
