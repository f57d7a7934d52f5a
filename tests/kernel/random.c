/*
 * Many connections of random kinds, random chunks both ways at once, and the handover
 * at some moment while data is under way: every byte arrives, in order, once.
 *
 *	TLSFD_SEED=N   the same again
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "link.h"
#include "suite.h"

enum { CONNECTIONS = 200, LONGEST = 300000, BIGGEST_CHUNK = 40000 };

static const struct {
	int version;
	const char *suite;
} suites[] = {
	{ TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256" },
	{ TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384" },
	{ TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256" },
	{ TLS1_3_VERSION, "TLS_AES_128_CCM_SHA256" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305" },
	{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-CCM" },
};

static unsigned retries; /* handovers that had to wait, over all connections */

static size_t below(uint64_t *random, size_t n)
{
	return (size_t)(random_next(random) >> 11) % n;
}

static struct variant random_variant(uint64_t *random)
{
	size_t i = below(random, LENGTH(suites));
	struct variant v = {
		.version = suites[i].version,
		.suite = suites[i].suite,
		.server = below(random, 2),
		.ktls = below(random, 2),
		.tickets = (int)below(random, 4),
		.no_ems = below(random, 2),
		.ipv6 = below(random, 2),
		.two_bios = below(random, 4) == 0,
		.client_cert = below(random, 4) == 0,
	};

	if (below(random, 4) == 0 && v.tickets)
		v.resume = RESUME_TICKET;
	return v;
}

struct peer {
	pthread_t thread;
	uint64_t random;
	struct flow flows[2];
	char trouble[160];
};

static void *run_peer(void *arg)
{
	struct peer *p = arg;
	const char *text = run_flows(p->flows, 2);

	if (text)
		snprintf(p->trouble, sizeof(p->trouble), "%s", text);
	return NULL;
}

static void start_peer(struct peer *p, struct link *l, size_t from_us, size_t from_peer)
{
	*p = (struct peer){
		.random = 1 + random_next(&(uint64_t){ from_us + 7 }),
		.flows = { { .end = &l->peer, .out = true, .left = from_peer },
			   { .end = &l->peer, .left = from_us } },
	};
	for (size_t i = 0; i < 2; i++) {
		p->flows[i].chunk = BIGGEST_CHUNK;
		p->flows[i].random = &p->random;
	}
	assert_int_equal(pthread_create(&p->thread, NULL, run_peer, p), 0);
}

/* A step of both our flows. False: something went wrong. */
static bool step(struct flow flows[2])
{
	bool moved = false;

	for (size_t i = 0; i < 2; i++) {
		const char *text = flow_step(&flows[i], &moved);

		if (text)
			printf("# %s\n", text);
		if (text)
			return false;
	}
	return moved || wait_for_flows(flows, 2);
}

static void maybe_update_keys(struct link *l, uint64_t *random)
{
	/* refused while a write is under way: then not */
	if (l->v.version == TLS1_3_VERSION && !l->v.ktls && below(random, 20) == 0)
		SSL_key_update(l->us.ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
}

/* In user space until so many bytes have passed. */
static bool first_part(struct link *l, struct flow flows[2], uint64_t bytes, uint64_t *random)
{
	while (l->us.sent + l->us.received < bytes) {
		maybe_update_keys(l, random);
		if (!step(flows))
			return false;
	}
	return true;
}

static bool hand_over_in_flight(struct link *l, struct flow flows[2])
{
	bool may_meet_tickets = l->v.version == TLS1_3_VERSION && !l->v.server;
	enum via via = may_meet_tickets ? VIA_CONN : VIA_FD;
	int err;

	while ((err = try_hand_over(l, via)) == -EAGAIN) {
		retries++;
		if (!step(flows))
			return false;
	}
	if (err == 0)
		leave_openssl(l);
	flows[0].again = flows[1].again = 0;
	return err == 0;
}

/* No assertion while the peer's thread runs. */
static bool run_ours(struct link *l, struct flow flows[2], uint64_t early, uint64_t *random)
{
	const char *text;

	if (!first_part(l, flows, early, random) || !hand_over_in_flight(l, flows))
		return false;
	text = run_flows(flows, 2);
	if (text)
		printf("# %s\n", text);
	return !text;
}

static void test_connection(void **state)
{
	uint64_t random = *(uint64_t *)*state;
	struct variant v = random_variant(&random);
	struct link *l = link_made(&v);
	size_t from_us = 1 + below(&random, LONGEST), from_peer = 1 + below(&random, LONGEST);
	uint64_t early = below(&random, from_us + from_peer);
	struct flow flows[2] = { { .end = &l->us, .out = true, .left = from_us },
				 { .end = &l->us, .left = from_peer } };
	struct peer *peer = malloc(sizeof(*peer)); /* outlives a failed assertion */
	bool ok;

	if (below(&random, 4) == 0)
		early = 0;
	flows[0].chunk = flows[1].chunk = 1 + below(&random, BIGGEST_CHUNK);
	flows[0].random = flows[1].random = &random;
	start_peer(peer, l, from_us, from_peer);
	ok = run_ours(l, flows, early, &random);
	if (!ok)
		shutdown(l->us.fd, SHUT_RDWR);
	pthread_join(peer->thread, NULL);
	if (!ok || peer->trouble[0])
		fail_msg("%s %s %s ktls-%s tickets %d: peer: %s", v.suite,
			 SSL_get_version(l->peer.ssl), v.server ? "server" : "client",
			 v.ktls ? "on" : "off", v.tickets, peer->trouble);
	free(peer);
	link_free(l);
}

/* The moments are random, but some of 200 must have been awkward ones. */
static void test_retries(void **state)
{
	(void)state;
	printf("# %u handovers had to wait for OpenSSL's bytes\n", retries);
	assert_true(retries > 0);
}

int main(int argc, char **argv)
{
	const char *text = getenv("TLSFD_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
	uint64_t state = seed * 2 + 1;

	printf("# TLSFD_SEED=%llu\n", (unsigned long long)seed);
	for (int i = 0; i < CONNECTIONS; i++) {
		uint64_t random = random_next(&state) | 1;

		suite_add(test_connection, &random, sizeof(random), "connection %d", i);
	}
	if (argc == 1)
		suite_add(test_retries, NULL, 0, "some handovers had to wait");
	return suite_run(argc, argv);
}
