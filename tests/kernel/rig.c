/* SPDX-License-Identifier: MIT */
#include "rig.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "probe.h"

/* ---- the rig ---- */

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void ended(void *arg, const struct relay_end *end)
{
	struct rig *g = arg;

	g->end = *end;
	g->ended++;
	loop_stop(&g->loop);
}

static void *run(void *arg)
{
	struct rig *g = arg;

	loop_run(&g->loop);
	return NULL;
}

static void stop(struct source *source, uint32_t events)
{
	(void)events;
	relays_stop(&owner_of(source, struct rig, stopper)->set);
}

/* A small buffer makes many writes of the relay partial ones. */
void rig_start(struct rig *g, struct tlsfd *c, const struct state *s, uint32_t idle_ms)
{
	int plain[2], size = 16384;

	if (s->local)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, plain), 0);
	else
		assert_int_equal(probe_pair(plain), 0);
	setsockopt(plain[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	g->backend = plain[1];
	assert_int_equal(loop_open(&g->loop), 0);
	g->stopper = (struct source){ eventfd(0, EFD_CLOEXEC), stop };
	assert_int_equal(loop_add(&g->loop, &g->stopper, EPOLLIN), 0);
	g->set.loop = &g->loop;
	g->set.idle_ms = idle_ms;
	if (s->place == COPIED)
		g->set.carriers.pipes.refused_until_ms = UINT64_MAX;
	assert_int_equal(relay_start(&g->relay, &g->set, c, plain[0], ended, g), 0);
	assert_int_equal(g->set.count, 1);
	assert_int_equal(pthread_create(&g->thread, NULL, run, g), 0);
}

enum place rig_place(const struct state *s)
{
	return s->place == COPIED ? KERNEL : (enum place)s->place;
}

struct rig *rig_connected(const struct state *s, bool server)
{
	struct raw_variant v = { .tls13 = s->tls13, .server = server };
	struct rig *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	g->open_fds = count_fds();
	place_connect(&g->t, &v, rig_place(s));
	return g;
}

struct rig *rig_open_role(const struct state *s, bool server, uint32_t idle_ms)
{
	struct rig *g = rig_connected(s, server);

	rig_start(g, g->t.c, s, idle_ms);
	return g;
}

struct rig *rig_link(const struct state *s)
{
	struct variant v = { .version = s->tls13 ? TLS1_3_VERSION : TLS1_2_VERSION,
			     .server = true };
	struct rig *g = calloc(1, sizeof(*g));

	g->open_fds = count_fds();
	g->link = link_made(&v);
	SSL_up_ref(g->link->us.ssl); /* place_put frees one */
	g->t.c = place_put(g->link->us.ssl, g->link->us.fd, rig_place(s));
	leave_openssl(g->link);
	rig_start(g, g->t.c, s, 0);
	/* the relay closes it */
	g->link->us.fd = g->link->us.write_fd = -1;
	return g;
}

struct rig *rig_open(const struct state *s)
{
	return rig_open_role(s, true, 0);
}

struct relay_end rig_close(struct rig *g, enum relay_how how)
{
	struct relay_end end;

	assert_int_equal(pthread_join(g->thread, NULL), 0);
	assert_int_equal(g->ended, 1);
	assert_string_equal(relay_how_name(g->end.how), relay_how_name(how));
	assert_int_equal(g->set.count, 0);
	assert_null(g->set.first);
	relays_close(&g->set);
	assert_int_equal(g->loop.n_timers, 0);
	loop_close(&g->loop);
	close(g->stopper.fd);
	if (g->backend >= 0)
		close(g->backend);
	if (g->link)
		link_free(g->link);
	else
		raw_close(&g->t.peer);
	assert_int_equal(count_fds(), g->open_fds);
	end = g->end;
	free(g);
	return end;
}

bool rig_can_rekey(const struct state *s)
{
	return rig_place(s) == USERSPACE || probe_kernel(PROBE_REKEY).verdict == PROBE_YES;
}

/* ---- the backend ---- */

void backend_send(struct rig *g, const void *data, size_t n)
{
	for (size_t sent = 0; sent < n;) {
		ssize_t now;

		wait_for(g->backend, POLLOUT);
		now = send(g->backend, (const char *)data + sent, n - sent,
			   MSG_NOSIGNAL | MSG_DONTWAIT);
		assert_true(now > 0);
		sent += (size_t)now;
	}
}

size_t backend_stuffs(struct rig *g)
{
	struct pollfd room = { .fd = g->backend, .events = POLLOUT };
	size_t sent = 0;

	while (poll(&room, 1, 200) == 1) {
		ssize_t n = send(g->backend, pattern_at(sent), 16384, MSG_DONTWAIT);

		assert_true(n > 0);
		sent += (size_t)n;
	}
	return sent;
}

void backend_expects(struct rig *g, const void *data, size_t n)
{
	static uint8_t buf[65536];

	for (size_t have = 0; have < n;) {
		size_t most = n - have < sizeof(buf) ? n - have : sizeof(buf);
		ssize_t now;

		wait_for(g->backend, POLLIN);
		now = recv(g->backend, buf, most, MSG_DONTWAIT);
		assert_true(now > 0);
		assert_memory_equal(buf, (const uint8_t *)data + have, now);
		have += (size_t)now;
	}
}

void backend_expects_end(struct rig *g, int want)
{
	char byte;
	ssize_t n;

	wait_for(g->backend, POLLIN);
	n = recv(g->backend, &byte, 1, MSG_DONTWAIT);
	assert_int_equal(n < 0 ? -errno : n, want);
}

void backend_reset(struct rig *g)
{
	const struct linger reset = { .l_onoff = 1 };
	int fd = dup(g->backend);

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	/* disconnects, but the number stays ours */
	assert_int_equal(
		connect(fd, &(struct sockaddr){ .sa_family = AF_UNSPEC }, sizeof(struct sockaddr)),
		0);
	close(fd);
}

/* ---- the peer ---- */

void peer_says(struct rig *g, const char *text)
{
	raw_send(&g->t.peer, 23, text, strlen(text));
}

void peer_says_bye(struct rig *g)
{
	raw_send_alert(&g->t.peer, 1, 0);
}

void peer_took_update(struct rig *g, const uint8_t *message, ssize_t n)
{
	assert_int_equal(n, 5);
	assert_int_equal(message[0], 24);
	raw_next_in(&g->t.peer);
	g->updates++;
}

/* The next record of data; KeyUpdates may come before it. */
static size_t peer_takes(struct rig *g, uint8_t *record)
{
	uint8_t type = 0;
	ssize_t n = raw_receive(&g->t.peer, &type, record);

	while (n > 0 && type == 22) {
		peer_took_update(g, record, n);
		n = raw_receive(&g->t.peer, &type, record);
	}
	assert_true(n > 0);
	assert_int_equal(type, 23);
	return (size_t)n;
}

void peer_expects(struct rig *g, const void *data, size_t n)
{
	static uint8_t record[RAW_RECORD_MAX];

	for (size_t have = 0; have < n;) {
		size_t now = peer_takes(g, record);

		assert_true(have + now <= n);
		assert_memory_equal(record, (const uint8_t *)data + have, now);
		have += now;
	}
}

void peer_expects_pattern(struct rig *g, size_t n)
{
	static uint8_t record[RAW_RECORD_MAX];

	for (size_t have = 0; have < n;) {
		size_t now = peer_takes(g, record);

		assert_memory_equal(record, pattern_at(have), now);
		have += now;
	}
}

void peer_expects_alert(struct rig *g, uint8_t level, int number)
{
	uint8_t type, record[RAW_RECORD_MAX];

	assert_int_equal(raw_receive(&g->t.peer, &type, record), 2);
	assert_int_equal(type, 21);
	assert_int_equal(record[0], level);
	if (number >= 0)
		assert_int_equal(record[1], number);
}

void peer_expects_cut(struct rig *g)
{
	uint8_t type, record[RAW_RECORD_MAX];
	ssize_t got = raw_receive(&g->t.peer, &type, record);

	assert_true(got == -1 || got == -2);
}

void peer_expects_close(struct rig *g)
{
	uint8_t type, record[RAW_RECORD_MAX];

	peer_expects_alert(g, 1, 0);
	assert_int_equal(raw_receive(&g->t.peer, &type, record), -1);
}

/* ---- both ---- */

void rig_end_both(struct rig *g)
{
	peer_says_bye(g);
	shutdown(g->backend, SHUT_WR);
	backend_expects_end(g, 0);
	peer_expects_close(g);
	rig_close(g, RELAY_CLOSED);
}

/* ---- the tests ---- */

void rig_add(const char *name, CMUnitTestFunction test, bool local)
{
	signal(SIGPIPE, SIG_IGN); /* as the command does */
	for (int place = KERNEL; place < RIG_PLACES; place++)
		for (int tls13 = 0; tls13 < 2; tls13++) {
			struct state s = { tls13, place, local };

			suite_add(test, &s, sizeof(s), "%s, TLS 1.%d, %s%s", name, 2 + tls13,
				  place == COPIED ? "copied" : place_names[place],
				  local ? ", Unix" : "");
		}
}
