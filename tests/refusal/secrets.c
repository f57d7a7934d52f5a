/*
 * Secrets have an end: after the handover and SSL_free the process's own memory is
 * searched for the traffic secrets, the keys, the master secret. The peer is another process.
 * What a refusal leaves behind: leftovers.c.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cipher.h"
#include "elsewhere.h"
#include "keys.h"
#include "needle.h"
#include "probe.h"
#include "refused.h"
#include "suite.h"
#include "watch.h"

enum { SECRET_RX, SECRET_TX, KEY_RX, KEY_TX, MASTER, NEEDLES };

struct needles {
	struct needle n[NEEDLES];
};

/* ---- collecting, in a child: its memory goes with it ---- */

static void collect(SSL *ssl, struct needles *all)
{
	const SSL_CIPHER *suite = SSL_get_current_cipher(ssl);
	const struct cipher *cipher =
		cipher_find(SSL_CIPHER_get_cipher_nid(suite), SSL_CIPHER_get_name(suite));
	const struct watch *w = watch_of(ssl);
	uint8_t master[SSL_MAX_MASTER_KEY_LENGTH];

	for (enum way way = RX; way < WAYS; way++) {
		struct crypto_info info;

		if (keys_derive(ssl, w, way, cipher, &info) < 0)
			_exit(1);
		needle_make(&all->n[KEY_RX + way], "key", cipher_key(cipher, &info),
			    cipher->key_size);
		needle_make(&all->n[SECRET_RX + way], "traffic secret", w->way[way].secret,
			    w->way[way].secret_size);
	}
	if (SSL_version(ssl) == TLS1_2_VERSION)
		needle_make(
			&all->n[MASTER], "master secret", master,
			SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof(master)));
}

static void collect_masked(SSL *ssl, struct needles *all)
{
	static const char *const names[NEEDLES] = { "RX traffic secret", "TX traffic secret",
						    "RX key", "TX key", "master secret" };
	int out[2], status;
	pid_t child;

	assert_int_equal(pipe(out), 0);
	fflush(stdout);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		memset(all, 0, sizeof(*all));
		collect(ssl, all);
		_exit(write(out[1], all, sizeof(*all)) != sizeof(*all));
	}
	close(out[1]);
	assert_int_equal(read(out[0], all, sizeof(*all)), sizeof(*all));
	close(out[0]);
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	for (size_t i = 0; i < NEEDLES; i++)
		all->n[i].name = names[i];
}

/* ---- searching ---- */

static void assert_nowhere(const struct needles *all, size_t from, size_t to)
{
	int hits = 0;

	for (size_t i = from; i < to; i++)
		hits += needle_tell(&all->n[i]);
	assert_int_equal(hits, 0);
}

/* The search finds what is there: before the handover everything is, but the keys that
 * OpenSSL gave to the kernel. */
static void assert_everything_is_found(const struct link *l, const struct needles *all)
{
	for (size_t i = 0; i < NEEDLES; i++) {
		int hits = needle_count(&all->n[i]);

		if (all->n[i].size && !hits && !(l->v.ktls && (i == KEY_RX || i == KEY_TX)))
			fail_msg("the %s is not found where it must be", all->n[i].name);
	}
}

/* ---- tests ---- */

static void hand_over_and_forget(struct link *l)
{
	/* nobody to change keys later; see kept_until_the_next for one who does */
	bool reads_tickets = !l->v.server && l->v.tickets;

	hand_over(l, reads_tickets ? VIA_CONN : VIA_FD);
	if (reads_tickets)
		assert_int_equal(tlsfd_set_rekey(l->us.conn, TLSFD_REKEY_CLOSE, 0), 0);
	leave_openssl(l);
	say_and_hear(l, 1000);
}

/* Sessions that OpenSSL and the program keep hold the master secret of TLS 1.2. */
static void forget_sessions(struct link *l)
{
	SSL_SESSION_free(l->us.session);
	l->us.session = NULL;
	SSL_CTX_flush_sessions(l->us.ctx, 0x7fffffff);
}

/* A TLS 1.2 server encodes the session for the ticket, and OpenSSL frees that without
 * wiping it (ssl/statem/statem_srvr.c:construct_stateless_ticket); out of our reach. */
static bool makes_ticket(const struct link *l)
{
	return l->v.server && l->v.version == TLS1_2_VERSION && l->v.resume != RESUME_SESSION_ID;
}

static void gone_after_the_handover(void **state)
{
	struct needles all;
	pid_t peer;
	struct link *l = link_elsewhere(*state, false, &peer);

	say_and_hear(l, 100);
	collect_masked(l->us.ssl, &all);
	assert_everything_is_found(l, &all);
	hand_over_and_forget(l);
	assert_nowhere(&all, SECRET_RX, MASTER);
	forget_sessions(l);
	if (makes_ticket(l))
		printf("# the master secret is found %d times: OpenSSL's work on the ticket\n",
		       needle_count(&all.n[MASTER]));
	else
		assert_nowhere(&all, MASTER, NEEDLES);
	say_and_hear(l, 1000);
	end_elsewhere(l, peer);
}

/* A connection that can change its keys keeps the secrets, and each until the next only. */
static void kept_until_the_next(void **state)
{
	struct needles all;
	pid_t peer;
	struct link *l = link_elsewhere(*state, false, &peer);

	if (probe_kernel(PROBE_REKEY).verdict != PROBE_YES)
		skip_because("this kernel can't change keys");
	collect_masked(l->us.ssl, &all);
	hand_over(l, VIA_CONN);
	leave_openssl(l);
	say_and_hear(l, 1000);
	assert_int_equal(needle_count(&all.n[SECRET_RX]), 1);
	assert_int_equal(needle_count(&all.n[SECRET_TX]), 1);
	assert_int_equal(tlsfd_rekey(l->us.conn, true), 0);
	assert_nowhere(&all, SECRET_TX, KEY_RX);
	say_and_hear(l, 1000); /* and the peer's answer */
	say_and_hear(l, 1000);
	assert_nowhere(&all, SECRET_RX, MASTER);
	end_elsewhere(l, peer);
}

/* Any other policy keeps none. */
static void wiped_by_policy(void **state)
{
	struct needles all;
	pid_t peer;
	struct link *l = link_elsewhere(*state, false, &peer);

	collect_masked(l->us.ssl, &all);
	hand_over(l, VIA_CONN);
	leave_openssl(l);
	assert_int_equal(tlsfd_set_rekey(l->us.conn, TLSFD_REKEY_CONTINUE, 0), 0);
	say_and_hear(l, 1000);
	assert_nowhere(&all, SECRET_RX, MASTER);
	end_elsewhere(l, peer);
}

/* Nor is anything left of a connection that kept them. */
static void wiped_in_the_end(void **state)
{
	struct needles all;
	pid_t peer;
	struct link *l = link_elsewhere(*state, true, &peer);

	collect_masked(l->us.ssl, &all);
	hand_over(l, VIA_CONN);
	leave_openssl(l);
	say_and_hear(l, 1000);
	tlsfd_free(l->us.conn);
	l->us.conn = NULL;
	assert_nowhere(&all, SECRET_RX, MASTER);
	end_elsewhere(l, peer);
}

/* One direction after the other. */
static void gone_after_two_steps(void **state)
{
	struct needles all;
	pid_t peer;
	struct link *l = link_elsewhere(*state, false, &peer);
	struct tlsfd *half = NULL;

	collect_masked(l->us.ssl, &all);
	assert_int_equal(tlsfd_handover_directions(l->us.ssl, TLSFD_RX, &half, NULL), 0);
	assert_int_equal(tlsfd_handover(l->us.ssl, &l->us.conn, NULL), 0);
	tlsfd_free(half);
	assert_int_equal(tlsfd_set_rekey(l->us.conn, TLSFD_REKEY_CLOSE, 0), 0);
	l->us.via = VIA_CONN;
	leave_openssl(l);
	say_and_hear(l, 1000);
	forget_sessions(l);
	assert_nowhere(&all, SECRET_RX, makes_ticket(l) ? MASTER : NEEDLES);
	end_elsewhere(l, peer);
}

/* For a client's tickets OpenSSL stays, with the keys of both directions; the secrets that
 * the next keys come from go as ever, and the rest with the connection. */
static void kept_for_tickets(void **state)
{
	struct needles all;
	pid_t peer;
	struct link *l = link_elsewhere(*state, true, &peer);

	collect_masked(l->us.ssl, &all);
	hand_over_and_forget(l);
	assert_nowhere(&all, SECRET_RX, KEY_RX);
	assert_true(l->v.ktls || needle_count(&all.n[KEY_RX]) > 0);
	say_and_hear(l, 1000);
	assert_int_equal(l->us.sessions, l->v.tickets);
	assert_nowhere(&all, SECRET_RX, KEY_RX);
	tlsfd_free(l->us.conn);
	l->us.conn = NULL;
	assert_nowhere(&all, SECRET_RX, NEEDLES);
	end_elsewhere(l, peer);
}

/* ---- saved and loaded: the bytes are the program's, what is made of them is not ---- */

struct saved {
	uint8_t *data; /* NULL: none */
	size_t size;
	struct needle key;
};

/* Magic, then name, own certificate, key: see src/session.c. */
static void on_session(void *arg, struct tlsfd *c, const void *session, size_t size)
{
	const uint8_t *at = (const uint8_t *)session + 8;
	struct saved *s = arg;

	(void)c;
	for (int i = 0; i < 2; i++)
		at += 4 + (at[2] << 8 | at[3]);
	needle_make(&s->key, "the session's key", at + 4, (size_t)(at[2] << 8 | at[3]));
	OPENSSL_clear_free(s->data, s->size);
	s->data = OPENSSL_memdup(session, size);
	s->size = size;
}

/* A connection of <tlsfd.h> to a server in another process, echo and all. */
static struct tlsfd *connect_to(const struct link *l, struct tlsfd_config *config,
				const struct saved *with, int *fd)
{
	struct pollfd p = { .events = POLLIN };
	struct tlsfd *c;
	char buf[16];
	int pair[2];

	assert_int_equal(probe_pair(pair), 0);
	*fd = p.fd = pair[0];
	fflush(stdout);
	if (fork() == 0) {
		SSL *ssl = SSL_new(l->peer.ctx);

		close(pair[0]);
		SSL_set_fd(ssl, pair[1]);
		SSL_set_accept_state(ssl);
		echo(ssl, pair[1]);
		_exit(0);
	}
	close(pair[1]);
	assert_int_equal(tlsfd_connect(&c, config, *fd, "localhost"), 0);
	if (with)
		assert_int_equal(tlsfd_set_session(c, with->data, with->size), 0);
	assert_int_equal(tlsfd_handshake_within(c, PATIENCE_MS), 0);
	assert_int_equal(tlsfd_write(c, "echo", 4), 4);
	while (tlsfd_read(c, buf, sizeof(buf)) != 4)
		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
	return c;
}

static struct tlsfd_config *any_server(struct saved *s, enum tlsfd_kernel kernel)
{
	struct tlsfd_config *config;

	assert_int_equal(tlsfd_config_new(&config), 0);
	tlsfd_config_insecure_no_verify_chain(config);
	tlsfd_config_insecure_no_verify_name(config);
	assert_int_equal(tlsfd_config_set_kernel(config, kernel), 0);
	if (s)
		assert_int_equal(tlsfd_config_on_session(config, on_session, s), 0);
	return config;
}

static void close_connection(struct tlsfd *c, int fd)
{
	tlsfd_free(c);
	close(fd);
	wait(NULL);
}

static void sessions_leave_nothing(void **state)
{
	const struct variant *v = *state;
	enum tlsfd_kernel kernel = v->ktls ? TLSFD_KERNEL_NEVER : TLSFD_KERNEL_REQUIRE;
	struct link *l = link_new(v);
	struct saved s = { NULL, 0, { 0 } };
	struct tlsfd_config *first = any_server(&s, kernel), *second = any_server(NULL, kernel);
	struct tlsfd *c;
	int fd;

	c = connect_to(l, first, NULL, &fd);
	assert_non_null(s.data);
	assert_true(needle_count(&s.key) > 0);
	close_connection(c, fd);
	assert_int_equal(needle_count(&s.key), 1); /* the program's */
	c = connect_to(l, second, &s, &fd);
	assert_true(tlsfd_resumed(c));
	OPENSSL_clear_free(s.data, s.size);
	close_connection(c, fd);
	assert_int_equal(needle_tell(&s.key), 0);
	tlsfd_config_free(first);
	tlsfd_config_free(second);
	link_free(l);
}

/* ---- all of them ---- */

static void not_under_a_sanitizer(void **state)
{
	(void)state;
	skip_because("a sanitizer has memory of its own");
}

static void add(CMUnitTestFunction test, const struct variant *v, const char *name)
{
	suite_add(test, v, sizeof(*v), "%s, %s %s%s", name, v->suite,
		  v->server ? "server" : "client", v->ktls ? ", OpenSSL's kTLS on" : "");
}

static void add_client(const struct variant *v)
{
	if (v->tickets)
		suite_add(kept_for_tickets, v, sizeof(*v), "kept for tickets, then gone, %s%s",
			  v->suite, v->ktls ? ", OpenSSL's kTLS on" : "");
	if (v->tickets || v->version == TLS1_2_VERSION)
		suite_add(sessions_leave_nothing, v, sizeof(*v), "sessions leave nothing, %s%s",
			  v->suite, v->ktls ? ", in user space" : "");
}

static void add_all(const struct variant *v)
{
	add(gone_after_the_handover, v, "gone after the handover");
	if (!v->ktls)
		add(gone_after_two_steps, v, "gone after two steps");
	if (v->version == TLS1_3_VERSION) {
		add(kept_until_the_next, v, "kept until the next");
		add(wiped_by_policy, v, "wiped by policy");
		add(wiped_in_the_end, v, "wiped in the end");
	} else {
		struct variant id = *v;

		id.resume = RESUME_SESSION_ID;
		add(gone_after_the_handover, &id, "gone, no tickets");
	}
	if (!v->server)
		add_client(v);
}

int main(int argc, char **argv)
{
	static const struct variant bases[] = {
		{ .version = TLS1_3_VERSION, .suite = "TLS_AES_128_GCM_SHA256", .tickets = 2 },
		{ .version = TLS1_3_VERSION, .suite = "TLS_AES_256_GCM_SHA384", .tickets = 2 },
		{ .version = TLS1_3_VERSION, .suite = "TLS_CHACHA20_POLY1305_SHA256" },
		{ .version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-AES128-GCM-SHA256" },
		{ .version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-AES256-GCM-SHA384" },
		{ .version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-CHACHA20-POLY1305" },
	};

	if (SANITIZED) {
		suite_add(not_under_a_sanitizer, NULL, 0, "the search of memory");
		return suite_run(argc, argv);
	}
	for (size_t i = 0; i < 4 * LENGTH(bases); i++) {
		struct variant v = bases[i / 4];

		v.server = i & 1;
		v.ktls = i & 2;
		add_all(&v);
	}
	return suite_run(argc, argv);
}
