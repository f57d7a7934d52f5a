/*
 * The relay of serve and connect: data, much of it, and at once.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ktls.h"
#include "rig.h"

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
	peer_says_bye(g);
	shutdown(g->backend, SHUT_WR);
	backend_expects_end(g, 0);
	peer_expects_close(g);
	rig_close(g, RELAY_CLOSED);
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

/* ---- at once ---- */

/* What TCP holds back goes after 200 ms by itself (include/net/tcp.h: tcp_check_probe_timer). */
enum { SOON_MS = 120, TRIES = 20, FULL_RECORD = 16384 };

static uint64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void peer_sends(struct rig *g, size_t n, size_t record)
{
	const uint8_t *data = pattern_at(0);

	for (size_t now; n; data += now, n -= now) {
		now = n < record ? n : record;
		raw_send(&g->t.peer, 23, data, now);
	}
}

static void up(struct rig *g, size_t n)
{
	peer_sends(g, n, FULL_RECORD);
	backend_expects(g, pattern_at(0), n);
}

static void up_in_bits(struct rig *g, size_t n)
{
	peer_sends(g, n, 1000);
	backend_expects(g, pattern_at(0), n);
}

static void down(struct rig *g, size_t n)
{
	backend_send(g, pattern_at(0), n);
	peer_expects(g, pattern_at(0), n);
}

/* The best of some tries: a machine may be slow, but not each time. */
static void comes_soon(struct rig *g, void (*way)(struct rig *g, size_t n), size_t n)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < TRIES && least >= SOON_MS; i++) {
		uint64_t from = clock_ms(), took;

		way(g, n);
		took = clock_ms() - from;
		least = took < least ? took : least;
	}
	if (least >= SOON_MS)
		fail_msg("%zu bytes took %u ms", n, (unsigned)least);
}

/* Nobody closes, and nothing follows. */
static void test_soon(void **state)
{
	struct rig *g = rig_open(*state);

	for (size_t full = FULL_RECORD; full <= PATTERN_RUN; full += FULL_RECORD)
		for (size_t n = full - 1; n <= full + 1 && n <= PATTERN_RUN; n++) {
			comes_soon(g, up, n);
			comes_soon(g, up_in_bits, n);
			comes_soon(g, down, n);
		}
	comes_soon(g, up, 1);
	comes_soon(g, down, 1);
	rig_end_both(g);
}

/* A record and a half: the half has to wait for its other one, the record has not. */
static void up_and_a_half(struct rig *g, size_t n)
{
	static uint8_t record[RAW_RECORD_MAX];
	size_t size;

	peer_sends(g, n, FULL_RECORD);
	size = raw_seal(&g->t.peer, 23, pattern_at(0), FULL_RECORD, record);
	raw_send_bytes(&g->t.peer, record, size / 2);
	backend_expects(g, pattern_at(0), n);
	raw_send_bytes(&g->t.peer, record + size / 2, size - size / 2);
	backend_expects(g, pattern_at(0), FULL_RECORD);
}

static void test_soon_in_pauses(void **state)
{
	struct rig *g = rig_open(*state);

	for (size_t n = FULL_RECORD; n <= PATTERN_RUN; n += FULL_RECORD)
		comes_soon(g, up_and_a_half, n);
	rig_end_both(g);
}

/* Records of a size that 16384 is no multiple of. Nothing is lost where there is no more
 * room, and a KeyUpdate that has to be answered then is. */
static void test_record_sizes(void **state)
{
	static const uint16_t sizes[] = { 16383, 10000, 7001 };
	struct state *s = *state;

	if (s->place != KERNEL)
		return;
	for (size_t i = 0; i < LENGTH(sizes); i++) {
		struct rig *g = rig_connected(s, true);
		size_t sent;

		setsockopt(g->t.fd, SOL_TLS, TLS_TX_MAX_PAYLOAD_LEN, &sizes[i], sizeof(sizes[i]));
		rig_start(g, g->t.c, s, 0);
		sent = backend_stuffs(g);
		if (s->tls13 && rig_can_rekey(s))
			raw_update_keys(&g->t.peer, true);
		peer_says(g, "meanwhile");
		backend_expects(g, "meanwhile", 9);
		peer_expects_pattern(g, sent);
		backend_send(g, "behind", 6);
		peer_expects(g, "behind", 6);
		assert_int_equal(g->updates, s->tls13 && rig_can_rekey(s));
		rig_end_both(g);
	}
}

/* ---- all of them ---- */

int main(int argc, char **argv)
{
	rig_add("full records", test_full_records, false);
	rig_add("both ways", test_both_ways, false);
	rig_add("slow backend", test_backend_slow, false);
	rig_add("slow peer", test_peer_slow, false);
	rig_add("record sizes", test_record_sizes, false);
	for (int local = 0; local < 2; local++) {
		rig_add("soon", test_soon, local);
		rig_add("soon, in pauses", test_soon_in_pauses, local);
	}
	return suite_run(argc, argv);
}
