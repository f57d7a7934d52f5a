/*
 * No pair of key and nonce twice: the peer writes down those of every record, over writes
 * of all sizes, new keys by both ends and at the limit, moves between owners, and the end.
 * A record that it can't open under the key that is due is an error.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parcel.h"
#include "place.h"
#include "probe.h"
#include "suite.h"

enum { TURNS = 400, MOST = 30000, LIMIT = 40, ALERT = 21, HANDSHAKE = 22, DATA = 23 };

struct pair {
	uint8_t key[32], nonce[12];
};

struct book {
	struct tested t;
	bool rekey; /* KeyUpdate can be had */
	size_t sent, received;
	unsigned updates;
	size_t count;
	struct pair pairs[10000];
};

static void write_down(struct book *b, const uint8_t key[32])
{
	struct pair *p = &b->pairs[b->count++];

	assert_true(b->count < LENGTH(b->pairs));
	memcpy(p->key, key, sizeof(p->key));
	memcpy(p->nonce, b->t.peer.nonce, sizeof(p->nonce));
}

/* The next record: its type. */
static uint8_t receive(struct book *b)
{
	uint8_t data[16384], key[32], type;
	ssize_t n;

	memcpy(key, b->t.peer.in.key, sizeof(key));
	n = raw_receive(&b->t.peer, &type, data);
	assert_true(n >= 0);
	write_down(b, key);
	if (type == DATA)
		b->received += (size_t)n;
	if (type == HANDSHAKE) {
		assert_int_equal(data[0], 24);
		raw_next_in(&b->t.peer);
		b->updates++;
	}
	return type;
}

static void write_some(struct book *b, size_t n)
{
	static const uint8_t zero[MOST];

	while (n) {
		ssize_t done = patient_write(&b->t, zero, n);

		assert_true(done > 0);
		n -= (size_t)done;
		b->sent += (size_t)done;
	}
	while (b->received < b->sent)
		assert_int_not_equal(receive(b), ALERT);
}

static void peer_updates(struct book *b)
{
	char got;

	raw_update_keys(&b->t.peer, rand() % 2);
	raw_send(&b->t.peer, DATA, "x", 1);
	assert_int_equal(patient_read(&b->t, &got, 1), 1);
}

static void turn(struct book *b)
{
	switch (rand() % 6) {
	case 0:
		move_on(&b->t.c, &b->t.fd);
		break;
	case 1:
		if (b->rekey)
			assert_int_equal(tlsfd_rekey(b->t.c, rand() % 2), 0);
		break;
	case 2:
		if (b->rekey)
			peer_updates(b);
		break;
	default:
		write_some(b, rand() % 3 ? 1 + (size_t)rand() % 100 : (size_t)rand() % MOST);
	}
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct pair));
}

static void test_pairs(void **state)
{
	const struct raw_variant *v = *state;
	struct book *b = calloc(1, sizeof(*b));

	place_connect(&b->t, v, KERNEL);
	b->rekey = v->tls13 && probe_kernel(PROBE_REKEY).verdict == PROBE_YES;
	if (b->rekey)
		assert_int_equal(tlsfd_set_rekey(b->t.c, TLSFD_REKEY, LIMIT), 0);
	srand(1);
	for (int i = 0; i < TURNS; i++)
		turn(b);
	assert_int_equal(tlsfd_shutdown(b->t.c), 0);
	while (receive(b) != ALERT)
		;
	assert_true(b->count > TURNS / 2 && b->updates >= (b->rekey ? TURNS / 6 : 0));
	qsort(b->pairs, b->count, sizeof(*b->pairs), compare);
	for (size_t i = 1; i < b->count; i++)
		assert_int_not_equal(compare(&b->pairs[i - 1], &b->pairs[i]), 0);
	printf("# %zu records, %u KeyUpdates\n", b->count, b->updates);
	place_close(&b->t);
	free(b);
}

int main(int argc, char **argv)
{
	static const char *const suites[] = {
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
		"ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_AES_128_GCM_SHA256",
		"TLS_AES_256_GCM_SHA384",	 "TLS_CHACHA20_POLY1305_SHA256",
	};

	for (size_t i = 0; i < 2 * LENGTH(suites); i++) {
		struct raw_variant v = { .tls13 = i / 2 >= 3,
					 .server = i & 1,
					 .suite = suites[i / 2] };

		suite_add(test_pairs, &v, sizeof(v), "no pair twice: %s %s", v.suite,
			  v.server ? "server" : "client");
	}
	return suite_run(argc, argv);
}
