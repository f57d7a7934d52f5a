/*
 * How long a server's sessions are good: not longer than the client's chain and the revocation
 * lists, nor than one that is never resumed.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>

#include "clock.h"
#include "config.h"
#include "meet.h"

enum { SECONDS = 5, CERTIFICATE_EXPIRED = 45, HOUR = 3600 };

/* From whom, or where, the session comes back. */
static const struct way_back {
	const char *name;
	int version;
	bool cache;
} ways[] = {
	{ "ticket, TLS 1.2", TLS1_2_VERSION, false },
	{ "cache, TLS 1.2", TLS1_2_VERSION, true },
	{ "ticket, TLS 1.3", TLS1_3_VERSION, false },
};

enum { LEAF, MIDDLE, LIST, UNKNOWN, WHATS };

static const char *const whats[WHATS] = { "certificate", "intermediate", "list", "nobody" };

struct world {
	time_t end;
	struct identity leaf, middle, deep;
	char *list, *old_list;
};

/* One server, one client, and the client's session. */
struct pair {
	const struct way_back *way;
	int what; /* ends */
	struct tlsfd_config *server;
	SSL_CTX *client;
	SSL_SESSION *session;
	int resumed, refused;
};

/* ---- the ends ---- */

static void make_world(struct world *w)
{
	w->end = time(NULL) + SECONDS;
	pki_issue(&w->leaf, "brief", &pki.ca, SECONDS, false);
	pki_issue(&w->middle, "brief authority", &pki.ca, SECONDS, true);
	pki_issue(&w->deep, "lasting", &w->middle, HOUR, false);
	w->list = pki_list(&pki.ca, -HOUR, SECONDS);
	w->old_list = pki_list(&pki.other_ca, -HOUR, -1); /* of nobody who comes */
}

static void drop_world(struct world *w)
{
	pki_drop(&w->leaf);
	pki_drop(&w->middle);
	pki_drop(&w->deep);
	free(w->list);
	free(w->old_list);
}

static SSL_CTX *client_of(const struct world *w, int what, const struct way_back *way)
{
	const struct identity *who[WHATS] = { &w->leaf, &w->deep, &pki.client, NULL };
	SSL_CTX *ctx = peer_context(who[what]);

	if (what == MIDDLE)
		assert_int_equal(SSL_CTX_add1_chain_cert(ctx, w->middle.cert), 1);
	SSL_CTX_set_min_proto_version(ctx, way->version);
	SSL_CTX_set_max_proto_version(ctx, way->version);
	if (way->cache)
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	return ctx;
}

static struct tlsfd_config *server_of(const struct world *w, int what)
{
	struct tlsfd_config *config = config_of(&pki.good);

	assert_int_equal(tlsfd_config_set_session_cache(config, 10), 0);
	assert_int_equal(tlsfd_config_set_client_auth(config, TLSFD_CLIENT_AUTH_OPTIONAL), 0);
	if (what == LIST)
		for (int i = 0; i < 2; i++) {
			const char *list = i ? w->list : w->old_list;

			assert_int_equal(tlsfd_config_set_crl_mem(config, list, strlen(list)), 0);
		}
	if (what == UNKNOWN) /* in place of two hours */
		SSL_CTX_set_timeout(config->ctx, w->end - 1 - time(NULL));
	return config;
}

/* ---- connections ---- */

/* Was it resumed? Else it was a full handshake, or that was refused. */
static bool connects(struct pair *p)
{
	struct meeting m;
	SSL_SESSION *given;
	bool resumed;

	meet_open(&m, p->server, true, p->client, NULL);
	if (p->session) {
		SSL_SESSION_set_time(p->session, time(NULL)); /* it does not care how old it is */
		assert_int_equal(SSL_set_session(m.peer, p->session), 1);
	}
	meet_shake(&m);
	resumed = !m.err && tlsfd_resumed(m.c);
	if (m.err) {
		assert_int_equal(m.err, -EKEYREJECTED);
		assert_says(tlsfd_error(m.c), "expired");
		assert_int_equal(tlsfd_alert(m.c), CERTIFICATE_EXPIRED);
		p->refused++;
	} else if (resumed || !p->session) {
		meet_talk(&m);
		given = SSL_get1_session(m.peer);
		SSL_SESSION_free(p->session);
		p->session = given;
	}
	SSL_set_shutdown(m.peer, SSL_SENT_SHUTDOWN); /* else OpenSSL gives the session up */
	meet_close(&m);
	return resumed;
}

static void open_pair(struct pair *p, const struct world *w)
{
	p->server = server_of(w, p->what);
	p->client = client_of(w, p->what, p->way);
	assert_false(connects(p));
	assert_int_equal(p->refused, 0);
}

/* The hint is what clients go by. */
static void check_hint(const struct pair *p, time_t end)
{
	if (p->way->version == TLS1_3_VERSION)
		assert_int_equal(SSL_SESSION_get_ticket_lifetime_hint(p->session),
				 end - 1 - time(NULL) > 0 ? end - 1 - time(NULL) : 1);
}

/* OpenSSL from 3.2 on counts fractions of a second, but not in a ticket: that may end sooner. */
static void ask_again(struct pair *p, time_t end)
{
	bool resumed = connects(p);
	time_t left = end - time(NULL);

	if (resumed ? left <= 0 : left > 1)
		fail_msg("%s, %s: %sresumed %ld s from the end", whats[p->what], p->way->name,
			 resumed ? "" : "not ", (long)left);
	if (resumed)
		check_hint(p, end);
	p->resumed += resumed;
}

static void drop_pair(struct pair *p)
{
	SSL_SESSION_free(p->session);
	SSL_CTX_free(p->client);
	tlsfd_config_free(p->server);
}

static void close_pair(struct pair *p)
{
	assert_int_equal(p->refused != 0, p->what != UNKNOWN);
	drop_pair(p);
}

/* A client that resumes again and again, each time with what it got the time before. */
static void test_end(void **state)
{
	struct pair pairs[LENGTH(ways) * WHATS] = { { .way = NULL } };
	struct world w;

	(void)state;
	make_world(&w);
	for (size_t i = 0; i < LENGTH(pairs); i++) {
		pairs[i].way = &ways[i / WHATS];
		pairs[i].what = (int)(i % WHATS);
		open_pair(&pairs[i], &w);
	}
	for (time_t now = time(NULL); now <= w.end + 1; clock_set(++now))
		for (size_t i = 0; i < LENGTH(pairs); i++)
			ask_again(&pairs[i], w.end);
	for (size_t i = 0; i < LENGTH(pairs); i++)
		close_pair(&pairs[i]);
	drop_world(&w);
}

/* One that is given to a client whose Finished comes behind the end is good for nothing. */
static void test_late_ticket(void **state)
{
	struct pair p = { .way = &ways[2], .what = LEAF };
	struct meeting m;
	struct world w;

	(void)state;
	make_world(&w);
	open_pair(&p, &w);
	meet_open(&m, p.server, true, p.client, NULL);
	assert_int_equal(SSL_set_session(m.peer, p.session), 1);
	assert_int_equal(SSL_do_handshake(m.peer), -1);
	assert_int_equal(tlsfd_handshake(m.c), -EAGAIN);
	clock_set(w.end);
	meet_shake(&m);
	assert_int_equal(m.err, 0);
	assert_true(tlsfd_resumed(m.c));
	meet_talk(&m);
	SSL_SESSION_free(p.session);
	p.session = SSL_get1_session(m.peer);
	SSL_set_shutdown(m.peer, SSL_SENT_SHUTDOWN);
	meet_close(&m);
	assert_false(connects(&p));
	close_pair(&p);
	drop_world(&w);
}

/* OpenSSL looks at signatures behind the lists. */
static time_t list_end;

static int be_slow(int good, X509_STORE_CTX *store)
{
	(void)store;
	clock_set(list_end);
	return good;
}

/* Without another list it counts no longer than one that ends a moment later. */
static void test_list_ends_meanwhile(void **state)
{
	struct pair p = { .way = &ways[2], .what = LIST };
	struct world w;

	(void)state;
	make_world(&w);
	list_end = w.end;
	p.server = server_of(&w, p.what);
	p.client = client_of(&w, p.what, p.way);
	X509_STORE_set_verify_cb(SSL_CTX_get_cert_store(p.server->ctx), be_slow);
	assert_false(connects(&p));
	assert_int_equal(p.refused, 0);
	assert_int_equal(time(NULL), w.end);
	assert_false(connects(&p));
	close_pair(&p);
	drop_world(&w);
}

/* Where nothing else ends, it is OpenSSL's two hours. */
static void test_usual(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(ways); i++) {
		struct pair p = { .way = &ways[i], .what = LIST };
		struct world w = { .list = pki.crl_pem, .old_list = pki.crl_pem };

		open_pair(&p, &w);
		if (!p.way->cache)
			assert_int_equal(SSL_SESSION_get_ticket_lifetime_hint(p.session), 2 * HOUR);
		for (time_t now = time(NULL), end = now + 2 * HOUR + 1; now <= end;
		     clock_set(now += HOUR / 2))
			ask_again(&p, end);
		drop_pair(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usual),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_late_ticket),
		cmocka_unit_test(test_list_ends_meanwhile),
	};

	clock_set(time(NULL));
	return meet_run(tests, LENGTH(tests), NULL, NULL);
}
