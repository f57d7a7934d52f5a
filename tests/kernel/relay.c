/*
 * The relay of serve and connect: a TLS connection under test, its directions in the kernel
 * or not, between a peer that makes its records by hand (or OpenSSL) and a plain backend.
 * Every byte and every end is checked on both sides.
 *
 * SPDX-License-Identifier: MIT
 */
#include "relay/relay.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "link.h"
#include "place.h"
#include "probe.h"
#include "suite.h"

enum { COPIED = SSL_PLACES, HERE }; /* in the kernel, but no pipe is to be had */

struct state {
	bool tls13;
	int place;
};

struct rig {
	struct tested t; /* peer and fd; c is the relay's */
	struct link *link;
	struct loop loop;
	struct relays set;
	struct source stopper; /* an eventfd */
	struct relay *relay;
	struct relay_end end;
	int ended;
	int backend; /* our end of the plain side */
	int open_fds;
	unsigned updates; /* KeyUpdates that the peer received */
	pthread_t thread;
};

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
static void start(struct rig *g, struct tlsfd *c, const struct state *s, uint32_t idle_ms)
{
	int plain[2], size = 16384;

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
	assert_int_equal(relay_start(&g->relay, &g->set, c, plain[0], plain[0], ended, g), 0);
	assert_int_equal(g->set.count, 1);
	assert_int_equal(pthread_create(&g->thread, NULL, run, g), 0);
}

static enum place place_of(const struct state *s)
{
	return s->place == COPIED ? KERNEL : (enum place)s->place;
}

/* server: the end under test. */
static struct rig *rig_connected(const struct state *s, bool server)
{
	struct raw_variant v = { .tls13 = s->tls13, .server = server };
	struct rig *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	g->open_fds = count_fds();
	place_connect(&g->t, &v, place_of(s));
	return g;
}

static struct rig *rig_open_role(const struct state *s, bool server, uint32_t idle_ms)
{
	struct rig *g = rig_connected(s, server);

	start(g, g->t.c, s, idle_ms);
	return g;
}

static struct rig *rig_open(const struct state *s)
{
	return rig_open_role(s, true, 0);
}

/* The relay has ended, this way, and has let go of all that it had. */
static struct relay_end rig_close(struct rig *g, enum relay_how how)
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

/* ---- the backend ---- */

static void backend_send(struct rig *g, const void *data, size_t n)
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

static void backend_expects(struct rig *g, const void *data, size_t n)
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

/* FIN: 0; RST: -ECONNRESET. */
static void backend_expects_end(struct rig *g, int want)
{
	char byte;
	ssize_t n;

	wait_for(g->backend, POLLIN);
	n = recv(g->backend, &byte, 1, MSG_DONTWAIT);
	assert_int_equal(n < 0 ? -errno : n, want);
}

static void backend_reset(struct rig *g)
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

static void say(struct rig *g, const char *text)
{
	raw_send(&g->t.peer, 23, text, strlen(text));
}

static void bye(struct rig *g)
{
	raw_send_alert(&g->t.peer, 1, 0);
}

static void take_key_update(struct rig *g, const uint8_t *message, ssize_t n)
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
		take_key_update(g, record, n);
		n = raw_receive(&g->t.peer, &type, record);
	}
	assert_true(n > 0);
	assert_int_equal(type, 23);
	return (size_t)n;
}

static void peer_expects(struct rig *g, const void *data, size_t n)
{
	static uint8_t record[RAW_RECORD_MAX];

	for (size_t have = 0; have < n;) {
		size_t now = peer_takes(g, record);

		assert_true(have + now <= n);
		assert_memory_equal(record, (const uint8_t *)data + have, now);
		have += now;
	}
}

static void peer_expects_pattern(struct rig *g, size_t n)
{
	static uint8_t record[RAW_RECORD_MAX];

	for (size_t have = 0; have < n;) {
		size_t now = peer_takes(g, record);

		assert_memory_equal(record, pattern_at(have), now);
		have += now;
	}
}

static void peer_expects_alert(struct rig *g, uint8_t level, int number)
{
	uint8_t type, record[RAW_RECORD_MAX];

	assert_int_equal(raw_receive(&g->t.peer, &type, record), 2);
	assert_int_equal(type, 21);
	assert_int_equal(record[0], level);
	if (number >= 0)
		assert_int_equal(record[1], number);
}

/* FIN (-1) or RST (-2), and nothing before it: above all no close_notify. */
static void peer_expects_cut(struct rig *g)
{
	uint8_t type, record[RAW_RECORD_MAX];
	ssize_t got = raw_receive(&g->t.peer, &type, record);

	assert_true(got == -1 || got == -2);
}

static void peer_expects_close(struct rig *g)
{
	uint8_t type, record[RAW_RECORD_MAX];

	peer_expects_alert(g, 1, 0);
	assert_int_equal(raw_receive(&g->t.peer, &type, record), -1);
}

/* ---- clean ends ---- */

static void test_tls_ends_first(void **state)
{
	struct rig *g = rig_open(*state);

	say(g, "the question");
	bye(g);
	backend_expects(g, "the question", 12);
	backend_expects_end(g, 0);
	backend_send(g, "the answer, later", 17);
	shutdown(g->backend, SHUT_WR);
	peer_expects(g, "the answer, later", 17);
	peer_expects_close(g);
	raw_fin(&g->t.peer);
	rig_close(g, RELAY_CLOSED);
}

static void test_plain_ends_first(void **state)
{
	struct rig *g = rig_open(*state);

	backend_send(g, "greeting", 8);
	shutdown(g->backend, SHUT_WR);
	peer_expects(g, "greeting", 8);
	peer_expects_close(g);
	for (int i = 0; i < 3; i++) {
		say(g, "still talking");
		backend_expects(g, "still talking", 13);
	}
	bye(g);
	raw_fin(&g->t.peer);
	backend_expects_end(g, 0);
	rig_close(g, RELAY_CLOSED);
}

/* As many clients do: close_notify and close(2), without a look at what still comes. */
static void test_peer_is_gone(void **state)
{
	struct rig *g = rig_open(*state);

	bye(g);
	raw_reset(&g->t.peer);
	backend_expects_end(g, 0);
	shutdown(g->backend, SHUT_WR);
	rig_close(g, RELAY_CLOSED);
}

static void test_counts(void **state)
{
	struct rig *g = rig_open(*state);
	struct relay_end end;

	say(g, "12345");
	backend_send(g, "123", 3);
	shutdown(g->backend, SHUT_WR);
	bye(g);
	peer_expects(g, "123", 3);
	peer_expects_close(g);
	backend_expects(g, "12345", 5);
	end = rig_close(g, RELAY_CLOSED);
	assert_int_equal(end.in, 5);
	assert_int_equal(end.out, 3);
	assert_int_equal(end.err, 0);
}

/* ---- cuts ---- */

static void test_truncated(void **state)
{
	struct rig *g = rig_open(*state);

	say(g, "half of it");
	backend_expects(g, "half of it", 10);
	raw_fin(&g->t.peer);
	backend_expects_end(g, -ECONNRESET);
	peer_expects_cut(g);
	rig_close(g, RELAY_TRUNCATED);
}

static void test_half_record(void **state)
{
	struct rig *g = rig_open(*state);
	uint8_t record[RAW_RECORD_MAX];

	raw_seal(&g->t.peer, 23, "never whole", 11, record);
	raw_send_bytes(&g->t.peer, record, 17);
	raw_fin(&g->t.peer);
	backend_expects_end(g, -ECONNRESET);
	rig_close(g, RELAY_TRUNCATED);
}

static void test_alert(void **state)
{
	struct rig *g = rig_open(*state);

	raw_send_alert(&g->t.peer, 2, 40);
	backend_expects_end(g, -ECONNRESET);
	peer_expects_cut(g);
	rig_close(g, RELAY_ALERT);
}

static void test_reset(void **state)
{
	struct rig *g = rig_open(*state);

	raw_reset(&g->t.peer);
	backend_expects_end(g, -ECONNRESET);
	rig_close(g, RELAY_RESET);
}

static void test_bad_record(void **state)
{
	struct rig *g = rig_open(*state);
	uint8_t record[RAW_RECORD_MAX];
	size_t n = raw_seal(&g->t.peer, 23, "changed on its way", 18, record);

	record[n - 1] ^= 1;
	raw_send_bytes(&g->t.peer, record, n);
	peer_expects_alert(g, 2, 20);
	backend_expects_end(g, -ECONNRESET);
	rig_close(g, RELAY_BAD_RECORD);
}

/* The alert must come through although behind the record there is what nobody reads. */
static void test_bad_record_and_more(void **state)
{
	enum { MORE = 50 };
	struct rig *g = rig_open(*state);
	static uint8_t records[(MORE + 1) * 128 + RAW_RECORD_MAX];
	size_t n = raw_seal(&g->t.peer, 23, "changed on its way", 18, records);

	records[n - 1] ^= 1;
	for (int i = 0; i < MORE; i++)
		n += raw_seal(&g->t.peer, 23, "on and on", 9, records + n);
	raw_send_bytes(&g->t.peer, records, n);
	peer_expects_alert(g, 2, 20);
	backend_expects_end(g, -ECONNRESET);
	rig_close(g, RELAY_BAD_RECORD);
}

/* The kernel tells of a header that can't be one only once, here to splice(2). */
static void test_bad_header(void **state)
{
	static const uint8_t too_long[64] = { 23, 3, 3, 255, 255 };
	struct rig *g = rig_open(*state);

	say(g, "good");
	backend_expects(g, "good", 4);
	raw_send_bytes(&g->t.peer, too_long, sizeof(too_long));
	peer_expects_alert(g, 2, 22);
	backend_expects_end(g, -ECONNRESET);
	rig_close(g, RELAY_BAD_RECORD);
}

static void test_backend_reset(void **state)
{
	struct rig *g = rig_open(*state);

	backend_send(g, "not all", 7);
	peer_expects(g, "not all", 7);
	backend_reset(g);
	peer_expects_cut(g);
	rig_close(g, RELAY_BACKEND_RESET);
}

/* A server that answers before it has read all, and closes: TCP resets, but the answer counts. */
static void test_answered_early(void **state)
{
	enum { ANSWER = 8000 };
	struct rig *g = rig_open(*state);

	say(g, "a long request");
	wait_for(g->backend, POLLIN); /* and isn't read */
	backend_send(g, pattern_at(0), ANSWER);
	close(g->backend);
	g->backend = -1;
	peer_expects(g, pattern_at(0), ANSWER);
	peer_expects_cut(g);
	rig_close(g, RELAY_BACKEND_RESET);
}

static void test_idle(void **state)
{
	struct rig *g = rig_open_role(*state, true, 50);

	say(g, "once");
	backend_expects(g, "once", 4);
	backend_expects_end(g, -ECONNRESET);
	peer_expects_cut(g);
	rig_close(g, RELAY_IDLE);
}

static void test_stopped(void **state)
{
	struct rig *g = rig_open(*state);

	say(g, "once");
	backend_expects(g, "once", 4);
	assert_int_equal(eventfd_write(g->stopper.fd, 1), 0);
	backend_expects_end(g, -ECONNRESET);
	peer_expects_cut(g);
	rig_close(g, RELAY_STOPPED);
}

/* ---- records that are not data ---- */

static void test_control_records(void **state)
{
	struct rig *g = rig_open(*state);

	for (int i = 0; i < 20; i++) {
		say(g, "data ");
		raw_send_alert(&g->t.peer, 1, 90); /* user_canceled */
		say(g, "more ");
		raw_send(&g->t.peer, 23, "", 0);
		backend_expects(g, "data more ", 10);
	}
	bye(g);
	backend_expects_end(g, 0);
	shutdown(g->backend, SHUT_WR);
	peer_expects_close(g);
	rig_close(g, RELAY_CLOSED);
}

/* Warnings one by one, each seen alone, data between them: not five in a row. */
static void test_spaced_warnings(void **state)
{
	struct rig *g = rig_open(*state);

	for (int i = 0; i < 8; i++) {
		raw_send_alert(&g->t.peer, 1, 90);
		poll(NULL, 0, 20); /* the relay has seen it, and waits */
		say(g, "data");
		backend_expects(g, "data", 4);
	}
	bye(g);
	backend_expects_end(g, 0);
	shutdown(g->backend, SHUT_WR);
	peer_expects_close(g);
	rig_close(g, RELAY_CLOSED);
}

static void test_empty_records(void **state)
{
	struct rig *g = rig_open(*state);

	for (int i = 0; i < 20; i++) /* all wait in the socket at once */
		raw_send(&g->t.peer, 23, "", 0);
	say(g, "behind them");
	backend_expects(g, "behind them", 11);
	bye(g);
	shutdown(g->backend, SHUT_WR);
	backend_expects_end(g, 0);
	peer_expects_close(g);
	rig_close(g, RELAY_CLOSED);
}

/* NewSessionTicket, in two records with data before, between the records' bytes and behind. */
static void test_tickets(void **state)
{
	static const uint8_t ticket[] = { 4, 0, 0, 14, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1, 'x', 0, 0 };
	struct state *s = *state;
	struct rig *g;

	if (!s->tls13)
		return;
	g = rig_open_role(s, false, 0);
	say(g, "before ");
	raw_send(&g->t.peer, 22, ticket, 7);
	raw_send(&g->t.peer, 22, ticket + 7, sizeof(ticket) - 7);
	say(g, "behind");
	backend_expects(g, "before behind", 13);
	backend_send(g, "up", 2);
	peer_expects(g, "up", 2);
	bye(g);
	shutdown(g->backend, SHUT_WR);
	backend_expects_end(g, 0);
	peer_expects_close(g);
	rig_close(g, RELAY_CLOSED);
}

/* ---- KeyUpdate ---- */

static bool can_rekey(const struct state *s)
{
	return place_of(s) == USERSPACE || probe_kernel(PROBE_REKEY).verdict == PROBE_YES;
}

static void end_both(struct rig *g)
{
	bye(g);
	shutdown(g->backend, SHUT_WR);
	backend_expects_end(g, 0);
	peer_expects_close(g);
	rig_close(g, RELAY_CLOSED);
}

/* Both ways in the middle of the data: what comes is under the peer's next keys, and what
 * is asked for is answered before the next data. */
static void test_key_updates(void **state)
{
	struct state *s = *state;
	unsigned asked = 0;
	struct rig *g;

	if (!s->tls13 || !can_rekey(s))
		return;
	g = rig_open(s);
	for (int i = 0; i < 40; i++) {
		say(g, "before ");
		raw_update_keys(&g->t.peer, i % 3 == 0);
		if (i % 5 == 0)
			raw_update_keys(&g->t.peer, false);
		say(g, "behind");
		backend_expects(g, "before behind", 13);
		backend_send(g, "answer", 6);
		asked += i % 3 == 0;
		peer_expects(g, "answer", 6);
		assert_int_equal(g->updates, asked);
	}
	end_both(g);
}

/* Nothing else comes: the relay sleeps, and has to answer nevertheless. (OpenSSL answers
 * with its next data.) */
static void test_key_update_alone(void **state)
{
	struct state *s = *state;
	uint8_t type, record[RAW_RECORD_MAX];
	struct rig *g;

	if (!s->tls13 || !can_rekey(s) || s->place == USERSPACE)
		return;
	g = rig_open(s);
	for (int i = 0; i < 5; i++) {
		ssize_t n;

		raw_update_keys(&g->t.peer, true);
		n = raw_receive(&g->t.peer, &type, record);
		assert_int_equal(type, 22);
		take_key_update(g, record, n);
	}
	end_both(g);
}

/* The answer waits until there is room for it, the data that comes meanwhile does not. */
static void test_key_update_without_room(void **state)
{
	struct state *s = *state;
	struct pollfd room;
	struct rig *g;
	size_t sent = 0;

	if (!s->tls13 || !can_rekey(s))
		return;
	g = rig_open(s);
	room = (struct pollfd){ .fd = g->backend, .events = POLLOUT };
	while (poll(&room, 1, 200) == 1) {
		ssize_t n = send(g->backend, pattern_at(sent), 16384, MSG_DONTWAIT);

		assert_true(n > 0);
		sent += (size_t)n;
	}
	raw_update_keys(&g->t.peer, true);
	say(g, "meanwhile");
	backend_expects(g, "meanwhile", 9);
	peer_expects_pattern(g, sent);
	backend_send(g, "behind", 6);
	peer_expects(g, "behind", 6);
	assert_int_equal(g->updates, 1);
	end_both(g);
}

/* At the limit of a key, though nobody counts what is spliced. */
static void test_key_limit(void **state)
{
	enum { RECORDS = 60, LIMIT = 20, LOOK = 4 };
	struct state *s = *state;
	struct rig *g;

	if (!s->tls13 || !can_rekey(s))
		return;
	g = rig_connected(s, true);
	assert_int_equal(tlsfd_set_rekey(g->t.c, TLSFD_REKEY, LIMIT), 0);
	g->set.splices_per_look = LOOK;
	start(g, g->t.c, s, 0);
	for (int i = 0; i < RECORDS; i++) {
		backend_send(g, "x", 1);
		peer_expects(g, "x", 1);
	}
	assert_true(g->updates >= RECORDS / LIMIT - 1);
	assert_true(g->updates <= RECORDS / LOOK);
	end_both(g);
}

/* ---- much data ---- */

/* Full records, in segments of any size, to a backend that reads odd numbers of bytes. */
static void test_full_records(void **state)
{
	enum { RECORDS = 40, FULL = 16384 };
	struct rig *g = rig_open(*state);
	uint8_t record[RAW_RECORD_MAX], buf[4099];
	uint64_t random = 7, sent = 0, got = 0;

	for (int i = 0; i < RECORDS; i++) {
		size_t n = raw_seal(&g->t.peer, 23, pattern_at(sent), FULL, record);

		sent += FULL;
		for (size_t at = 0; at < n;) {
			size_t part = 1 + random_next(&random) % 3000;

			part = part < n - at ? part : n - at;
			raw_send_bytes(&g->t.peer, record + at, part);
			at += part;
		}
		while (sent - got > 4 * FULL || (i == RECORDS - 1 && got < sent)) {
			ssize_t now;

			wait_for(g->backend, POLLIN);
			now = recv(g->backend, buf, 1 + random_next(&random) % sizeof(buf),
				   MSG_DONTWAIT);
			assert_true(now > 0);
			assert_memory_equal(buf, pattern_at(got), now);
			got += (uint64_t)now;
		}
	}
	bye(g);
	shutdown(g->backend, SHUT_WR);
	backend_expects_end(g, 0);
	peer_expects_close(g);
	rig_close(g, RELAY_CLOSED);
}

/* The relay between OpenSSL and a backend. */
static struct rig *rig_link(const struct state *s)
{
	struct variant v = { .version = s->tls13 ? TLS1_3_VERSION : TLS1_2_VERSION,
			     .server = true };
	struct rig *g = calloc(1, sizeof(*g));

	g->open_fds = count_fds();
	g->link = link_made(&v);
	SSL_up_ref(g->link->us.ssl); /* place_put frees one */
	g->t.c = place_put(g->link->us.ssl, g->link->us.fd, place_of(s));
	leave_openssl(g->link);
	start(g, g->t.c, s, 0);
	/* the relay closes it */
	g->link->us.fd = g->link->us.write_fd = -1;
	return g;
}

static void finish_link(struct rig *g, struct end *backend)
{
	char byte;

	SSL_shutdown(g->link->peer.ssl);
	backend_expects_end(g, 0);
	shutdown(backend->fd, SHUT_WR);
	wait_for(g->link->peer.fd, POLLIN);
	while (end_read(&g->link->peer, &byte, 1) == -EAGAIN)
		wait_for(g->link->peer.fd, POLLIN);
	rig_close(g, RELAY_CLOSED);
}

static void test_both_ways(void **state)
{
	size_t much = getenv("TLSFD_SLICE") ? 1 << 20 : 8 << 20;
	uint64_t random = 11;
	struct rig *g = rig_link(*state);
	struct end backend = { .fd = g->backend, .write_fd = g->backend, .via = VIA_FD };
	struct flow flows[] = {
		{ .end = &g->link->peer, .out = true, .left = much, .random = &random },
		{ .end = &backend, .left = much, .random = &random },
		{ .end = &backend, .out = true, .left = much, .random = &random },
		{ .end = &g->link->peer, .left = much, .random = &random },
	};
	const char *wrong = run_flows(flows, LENGTH(flows));

	if (wrong)
		fail_msg("%s", wrong);
	finish_link(g, &backend);
}

/* Sends at one end until nothing moves any more: how much that was. */
static size_t fill(struct end *end)
{
	struct pollfd p = { .fd = end->fd, .events = POLLOUT };
	size_t before = end->sent;

	while (poll(&p, 1, 200) == 1) {
		ssize_t n = end_write(end, pattern_at(end->sent), 16384);

		assert_true(n > 0 || n == -EAGAIN);
		end->sent += n > 0 ? (uint64_t)n : 0;
	}
	return end->sent - before;
}

static void backpressure(const struct state *s, bool up)
{
	struct rig *g = rig_link(s);
	struct end backend = { .fd = g->backend, .write_fd = g->backend, .via = VIA_FD };
	struct end *from = up ? &g->link->peer : &backend, *to = up ? &backend : &g->link->peer;
	size_t held = fill(from);
	struct flow flow = { .end = to, .left = held };
	const char *wrong;

	/* the sockets' buffers, not the relay, hold it */
	assert_true(held > 16384 && held < 16 << 20);
	wrong = run_flows(&flow, 1);
	if (wrong)
		fail_msg("%s", wrong);
	finish_link(g, &backend);
}

static void test_backend_slow(void **state)
{
	backpressure(*state, true);
}

static void test_peer_slow(void **state)
{
	backpressure(*state, false);
}

/* ---- all of them ---- */

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		CMUnitTestFunction test;
	} tests[] = {
		{ "TLS ends first", test_tls_ends_first },
		{ "plain ends first", test_plain_ends_first },
		{ "peer is gone", test_peer_is_gone },
		{ "counts", test_counts },
		{ "truncated", test_truncated },
		{ "half a record", test_half_record },
		{ "alert", test_alert },
		{ "reset", test_reset },
		{ "bad record", test_bad_record },
		{ "bad record and more", test_bad_record_and_more },
		{ "bad header", test_bad_header },
		{ "backend reset", test_backend_reset },
		{ "answered early", test_answered_early },
		{ "idle", test_idle },
		{ "stopped", test_stopped },
		{ "control records", test_control_records },
		{ "spaced warnings", test_spaced_warnings },
		{ "empty records", test_empty_records },
		{ "tickets", test_tickets },
		{ "key updates", test_key_updates },
		{ "key update alone", test_key_update_alone },
		{ "key update without room", test_key_update_without_room },
		{ "key limit", test_key_limit },
		{ "full records", test_full_records },
		{ "both ways", test_both_ways },
		{ "slow backend", test_backend_slow },
		{ "slow peer", test_peer_slow },
	};
	static const char *const copied = "copied";

	signal(SIGPIPE, SIG_IGN); /* as the command does */
	for (size_t i = 0; i < LENGTH(tests); i++)
		for (int place = KERNEL; place < HERE; place++)
			for (int tls13 = 0; tls13 < 2; tls13++) {
				struct state s = { tls13, place };

				suite_add(tests[i].test, &s, sizeof(s), "%s, TLS 1.%d, %s",
					  tests[i].name, 2 + tls13,
					  place == COPIED ? copied : place_names[place]);
			}
	return suite_run(argc, argv);
}
