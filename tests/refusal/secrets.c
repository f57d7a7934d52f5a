/*
 * Secrets have an end: after the handover and SSL_free the process's own memory is
 * searched for the traffic secrets, the keys, the master secret. The peer is another
 * process. What is searched for is kept here masked only, so that it isn't found.
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
#include "keys.h"
#include "probe.h"
#include "refused.h"
#include "suite.h"
#include "watch.h"

enum { MASK = 0xa5, LONGEST = 48 };

struct needle {
	const char *name;
	size_t size;
	uint8_t masked[LONGEST];
};

enum { SECRET_RX, SECRET_TX, KEY_RX, KEY_TX, MASTER, NEEDLES };

struct needles {
	struct needle n[NEEDLES];
};

static void mask(struct needle *n, const char *name, const uint8_t *bytes, size_t size)
{
	n->name = name;
	n->size = size;
	for (size_t i = 0; i < size; i++)
		n->masked[i] = bytes[i] ^ MASK;
}

/* ---- collecting, in a child: its memory goes with it ---- */

static void collect(SSL *ssl, struct needles *all)
{
	const SSL_CIPHER *suite = SSL_get_current_cipher(ssl);
	const struct cipher *cipher = cipher_find(SSL_CIPHER_get_cipher_nid(suite),
						  SSL_CIPHER_get_name(suite));
	const struct watch *w = watch_of(ssl);
	uint8_t master[LONGEST];

	for (enum way way = RX; way < WAYS; way++) {
		struct crypto_info info;

		if (keys_derive(ssl, w, way, cipher, &info) < 0)
			_exit(1);
		mask(&all->n[KEY_RX + way], "key", cipher_key(cipher, &info), cipher->key_size);
		mask(&all->n[SECRET_RX + way], "traffic secret", w->way[way].secret,
		     w->way[way].secret_size);
	}
	if (SSL_version(ssl) == TLS1_2_VERSION)
		mask(&all->n[MASTER], "master secret", master,
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

static bool tell_where; /* where nothing may be found */

__attribute__((no_sanitize("address", "thread"))) static bool
matches(const volatile uint8_t *at, const struct needle *n)
{
	for (size_t i = 0; i < n->size; i++)
		if ((uint8_t)(at[i] ^ MASK) != n->masked[i])
			return false;
	return true;
}

__attribute__((no_sanitize("address", "thread"))) static int
search_region(const uint8_t *from, const uint8_t *to, const struct needle *n, const char *line)
{
	const uint8_t first = n->masked[0];
	int hits = 0;

	for (const uint8_t *at = from; at + n->size <= to; at++) {
		if ((uint8_t)(*(const volatile uint8_t *)at ^ MASK) == first && matches(at, n)) {
			hits++;
			if (tell_where)
				printf("# %s at %p in %s", n->name, (const void *)at, line);
		}
	}
	return hits;
}

/* All writable memory of this process; how often n is there. */
static int search(const struct needle *n)
{
	static char maps[1 << 18];
	FILE *f = fopen("/proc/self/maps", "re");
	int hits = 0;
	size_t got;

	assert_non_null(f);
	got = fread(maps, 1, sizeof(maps) - 1, f);
	fclose(f);
	maps[got] = '\0';
	if (!n->size)
		return 0;
	for (char *line = maps, *next; *line; line = next) {
		char text[256];
		unsigned long from, to;
		char perms[8];

		next = strchr(line, '\n');
		next = next ? next + 1 : line + strlen(line);
		snprintf(text, sizeof(text), "%.*s", (int)(next - line), line);
		if (sscanf(text, "%lx-%lx %7s", &from, &to, perms) == 3 && perms[0] == 'r' &&
		    perms[1] == 'w' && !strstr(text, "[v"))
			hits += search_region((const uint8_t *)from, (const uint8_t *)to, n, text);
	}
	return hits;
}

static void assert_nowhere(const struct needles *all, size_t from, size_t to)
{
	int hits = 0;

	tell_where = true;
	for (size_t i = from; i < to; i++)
		hits += search(&all->n[i]);
	tell_where = false;
	assert_int_equal(hits, 0);
}

/* The search finds what is there: before the handover everything is, but the keys that
 * OpenSSL gave to the kernel. */
static void assert_everything_is_found(const struct link *l, const struct needles *all)
{
	for (size_t i = 0; i < NEEDLES; i++) {
		int hits = search(&all->n[i]);

		if (all->n[i].size && !hits && !(l->v.ktls && (i == KEY_RX || i == KEY_TX)))
			fail_msg("the %s is not found where it must be", all->n[i].name);
	}
}

/* ---- the peer, in a process of its own ---- */

static void echo(SSL *ssl, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char buf[4096];
	int done = 0;

	while (poll(&p, 1, 10000) == 1) {
		int n = done ? SSL_read(ssl, buf, sizeof(buf)) : SSL_do_handshake(ssl);

		if (!done && n == 1) {
			done = 1;
			continue;
		}
		if (n > 0 && done)
			SSL_write(ssl, buf, n);
		if (n <= 0 && SSL_get_error(ssl, n) != SSL_ERROR_WANT_READ)
			break;
	}
}

/* A link whose peer lives elsewhere; both handshakes are done. A client that waits for
 * sessions keeps something: see kept_for_tickets. */
static struct link *to_another_process(const struct variant *v, bool wants_sessions, pid_t *peer)
{
	struct link *l = link_new(v);
	int ret;

	if (!wants_sessions)
		SSL_CTX_sess_set_new_cb(l->us.ctx, NULL);
	link_open(l);
	fflush(stdout);
	*peer = fork();
	assert_true(*peer >= 0);
	if (*peer == 0) {
		close(l->us.fd);
		SSL_do_handshake(l->peer.ssl);
		echo(l->peer.ssl, l->peer.fd);
		_exit(0);
	}
	close(l->peer.fd);
	l->peer.fd = l->peer.write_fd = -1;
	SSL_free(l->peer.ssl);
	l->peer.ssl = NULL;
	while ((ret = SSL_do_handshake(l->us.ssl)) != 1 &&
	       SSL_get_error(l->us.ssl, ret) == SSL_ERROR_WANT_READ)
		wait_for(l->us.fd, POLLIN);
	assert_int_equal(ret, 1);
	return l;
}

static void say_and_hear(struct link *l, size_t n)
{
	struct flow out = { .end = &l->us, .out = true, .left = n }, in = { .end = &l->us, .left = n };

	assert_null(run_flows(&out, 1));
	assert_null(run_flows(&in, 1));
}

static void end(struct link *l, pid_t peer)
{
	link_free(l);
	waitpid(peer, NULL, 0);
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
	struct link *l = to_another_process(*state, false, &peer);

	say_and_hear(l, 100);
	collect_masked(l->us.ssl, &all);
	assert_everything_is_found(l, &all);
	hand_over_and_forget(l);
	assert_nowhere(&all, SECRET_RX, MASTER);
	forget_sessions(l);
	if (makes_ticket(l))
		printf("# the master secret is found %d times: OpenSSL's work on the ticket\n",
		       search(&all.n[MASTER]));
	else
		assert_nowhere(&all, MASTER, NEEDLES);
	say_and_hear(l, 1000);
	end(l, peer);
}

/* A connection that can change its keys keeps the secrets, and each until the next only. */
static void kept_until_the_next(void **state)
{
	struct needles all;
	pid_t peer;
	struct link *l = to_another_process(*state, false, &peer);

	if (probe_kernel(PROBE_REKEY).verdict != PROBE_YES)
		skip_because("this kernel can't change keys");
	collect_masked(l->us.ssl, &all);
	hand_over(l, VIA_CONN);
	leave_openssl(l);
	say_and_hear(l, 1000);
	assert_int_equal(search(&all.n[SECRET_RX]), 1);
	assert_int_equal(search(&all.n[SECRET_TX]), 1);
	assert_int_equal(tlsfd_rekey(l->us.conn, true), 0);
	assert_nowhere(&all, SECRET_TX, KEY_RX);
	say_and_hear(l, 1000); /* and the peer's answer */
	say_and_hear(l, 1000);
	assert_nowhere(&all, SECRET_RX, MASTER);
	end(l, peer);
}

/* Any other policy keeps none. */
static void wiped_by_policy(void **state)
{
	struct needles all;
	pid_t peer;
	struct link *l = to_another_process(*state, false, &peer);

	collect_masked(l->us.ssl, &all);
	hand_over(l, VIA_CONN);
	leave_openssl(l);
	assert_int_equal(tlsfd_set_rekey(l->us.conn, TLSFD_REKEY_CONTINUE, 0), 0);
	say_and_hear(l, 1000);
	assert_nowhere(&all, SECRET_RX, MASTER);
	end(l, peer);
}

/* Nor is anything left of a connection that kept them. */
static void wiped_in_the_end(void **state)
{
	struct needles all;
	pid_t peer;
	struct link *l = to_another_process(*state, true, &peer);

	collect_masked(l->us.ssl, &all);
	hand_over(l, VIA_CONN);
	leave_openssl(l);
	say_and_hear(l, 1000);
	tlsfd_free(l->us.conn);
	l->us.conn = NULL;
	assert_nowhere(&all, SECRET_RX, MASTER);
	end(l, peer);
}

/* One direction after the other. */
static void gone_after_two_steps(void **state)
{
	struct needles all;
	pid_t peer;
	struct link *l = to_another_process(*state, false, &peer);
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
	end(l, peer);
}

/* For a client's tickets OpenSSL stays, with the keys of both directions; the secrets that
 * the next keys come from go as ever, and the rest with the connection. */
static void kept_for_tickets(void **state)
{
	struct needles all;
	pid_t peer;
	struct link *l = to_another_process(*state, true, &peer);

	collect_masked(l->us.ssl, &all);
	hand_over_and_forget(l);
	assert_nowhere(&all, SECRET_RX, KEY_RX);
	assert_true(l->v.ktls || search(&all.n[KEY_RX]) > 0);
	say_and_hear(l, 1000);
	assert_int_equal(l->us.sessions, l->v.tickets);
	assert_nowhere(&all, SECRET_RX, KEY_RX);
	tlsfd_free(l->us.conn);
	l->us.conn = NULL;
	assert_nowhere(&all, SECRET_RX, NEEDLES);
	end(l, peer);
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
	mask(&s->key, "the session's key", at + 4, (size_t)(at[2] << 8 | at[3]));
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
	assert_int_equal(tlsfd_handshake_within(c, 5000), 0);
	assert_int_equal(tlsfd_write(c, "echo", 4), 4);
	while (tlsfd_read(c, buf, sizeof(buf)) != 4)
		assert_int_equal(poll(&p, 1, 5000), 1);
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
	assert_true(search(&s.key) > 0);
	close_connection(c, fd);
	assert_int_equal(search(&s.key), 1); /* the program's */
	c = connect_to(l, second, &s, &fd);
	assert_true(tlsfd_resumed(c));
	OPENSSL_clear_free(s.data, s.size);
	close_connection(c, fd);
	tell_where = true;
	assert_int_equal(search(&s.key), 0);
	tell_where = false;
	tlsfd_config_free(first);
	tlsfd_config_free(second);
	link_free(l);
}

/* ---- refused: what OpenSSL leaves behind by itself is not more with tlsfd ---- */

static struct needles logged;

static int hex(char c)
{
	return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

/* Masks as it reads: no copy is made. */
static void log_masked(const SSL *ssl, const char *line)
{
	static const char *const labels[] = { "CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 " };

	(void)ssl;
	for (size_t i = 0; i < LENGTH(labels); i++) {
		struct needle *n = &logged.n[i];
		const char *at = strrchr(line, ' ') + 1;

		if (strncmp(line, labels[i], strlen(labels[i])))
			continue;
		n->name = labels[i];
		for (n->size = 0; n->size < LONGEST && at[0] && at[1]; at += 2)
			n->masked[n->size++] = (uint8_t)(hex(at[0]) << 4 | hex(at[1])) ^ MASK;
	}
}

/* Exit status of a child: hits after SSL_free. */
static int hits_after(const struct variant *v, bool prepared, bool refuse)
{
	struct variant with = *v;
	struct link *l;
	int hits = 0, ret;
	pid_t peer;

	with.unprepared = true;
	l = link_new(&with);
	SSL_CTX_set_keylog_callback(l->us.ctx, log_masked);
	if (prepared)
		assert_int_equal(tlsfd_prepare(l->us.ctx), 0);
	link_open(l);
	peer = fork();
	if (peer == 0) {
		close(l->us.fd);
		SSL_do_handshake(l->peer.ssl);
		echo(l->peer.ssl, l->peer.fd);
		_exit(0);
	}
	close(l->peer.fd);
	l->peer.fd = l->peer.write_fd = -1;
	SSL_free(l->peer.ssl);
	l->peer.ssl = NULL;
	while ((ret = SSL_do_handshake(l->us.ssl)) != 1 &&
	       SSL_get_error(l->us.ssl, ret) == SSL_ERROR_WANT_READ)
		wait_for(l->us.fd, POLLIN);
	if (refuse)
		SSL_set_shutdown(l->us.ssl, SSL_SENT_SHUTDOWN); /* -ENOTCONN, closed */
	if (prepared)
		assert_true(tlsfd_handover(l->us.ssl, NULL, NULL) < 0);
	leave_openssl(l);
	for (size_t i = 0; i < 2; i++) {
		assert_true(logged.n[i].size >= 32);
		hits += search(&logged.n[i]);
	}
	end(l, peer);
	return hits;
}

static int in_a_child(const struct variant *v, bool prepared, bool refuse)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		alarm(30);
		_exit(hits_after(v, prepared, refuse));
	}
	waitpid(child, &status, 0);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void a_refusal_adds_nothing(void **state)
{
	int without = in_a_child(*state, false, true), with = in_a_child(*state, true, true);

	printf("# refused and freed: secrets found %d times, without tlsfd %d\n", with, without);
	assert_true(with <= without);
}

/* The client verifies, and does not trust: it has seen all secrets by then or not;
 * nothing of tlsfd's keeps them. */
static int refuse_certificate(int ok, X509_STORE_CTX *store)
{
	(void)ok;
	X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
	return 0;
}

static int hits_after_failure(bool prepared)
{
	struct variant v = TLS13;
	struct link *l;
	int hits = 0;

	v.server = true;
	v.unprepared = true;
	v.client_cert = true;
	l = link_new(&v);
	SSL_CTX_set_keylog_callback(l->us.ctx, log_masked);
	SSL_CTX_set_verify(l->us.ctx, SSL_VERIFY_PEER, refuse_certificate);
	if (prepared)
		assert_int_equal(tlsfd_prepare(l->us.ctx), 0);
	SSL_CTX_set_keylog_callback(l->peer.ctx, NULL);
	link_open(l);
	if (fork() == 0) {
		close(l->us.fd);
		SSL_do_handshake(l->peer.ssl);
		echo(l->peer.ssl, l->peer.fd);
		_exit(0);
	}
	close(l->peer.fd);
	l->peer.fd = l->peer.write_fd = -1;
	SSL_free(l->peer.ssl);
	l->peer.ssl = NULL;
	for (int ret = 0; (ret = SSL_do_handshake(l->us.ssl)) != 1;) {
		if (SSL_get_error(l->us.ssl, ret) != SSL_ERROR_WANT_READ)
			break;
		wait_for(l->us.fd, POLLIN);
	}
	assert_false(SSL_is_init_finished(l->us.ssl));
	if (prepared)
		assert_true(tlsfd_handover(l->us.ssl, NULL, NULL) < 0);
	leave_openssl(l);
	tell_where = true;
	for (size_t i = 0; i < 2; i++)
		hits += search(&logged.n[i]);
	tell_where = false;
	link_free(l);
	return hits;
}

static void a_failed_handshake_adds_nothing(void **state)
{
	int hits[2], status;

	(void)state;
	for (int prepared = 0; prepared < 2; prepared++) {
		fflush(stdout);
		if (fork() == 0) {
			alarm(30);
			_exit(hits_after_failure(prepared));
		}
		wait(&status);
		assert_true(WIFEXITED(status));
		hits[prepared] = WEXITSTATUS(status);
	}
	printf("# failed and freed: secrets found %d times, without tlsfd %d\n", hits[1], hits[0]);
	assert_true(hits[1] <= hits[0]);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Its allocator isn't malloc, and its shadow is terabytes. */
static void not_under_a_sanitizer(void **state)
{
	(void)state;
	skip_because("a sanitizer has memory of its own");
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
		suite_add(gone_after_the_handover, &v, sizeof(v), "gone after the handover, %s %s%s",
			  v.suite, v.server ? "server" : "client", v.ktls ? ", OpenSSL's kTLS on" : "");
		if (v.version == TLS1_2_VERSION) {
			struct variant id = v;

			id.resume = RESUME_SESSION_ID;
			suite_add(gone_after_the_handover, &id, sizeof(id),
				  "gone, no tickets, %s %s%s", v.suite, v.server ? "server" : "client",
				  v.ktls ? ", OpenSSL's kTLS on" : "");
		}
		if (!v.server && v.tickets)
			suite_add(kept_for_tickets, &v, sizeof(v), "kept for tickets, then gone, %s%s",
				  v.suite, v.ktls ? ", OpenSSL's kTLS on" : "");
		if (!v.server && (v.tickets || v.version == TLS1_2_VERSION))
			suite_add(sessions_leave_nothing, &v, sizeof(v), "sessions leave nothing, %s%s",
				  v.suite, v.ktls ? ", in user space" : "");
		if (!v.ktls)
			suite_add(gone_after_two_steps, &v, sizeof(v), "gone after two steps, %s %s",
				  v.suite, v.server ? "server" : "client");
		if (v.version == TLS1_3_VERSION) {
			suite_add(kept_until_the_next, &v, sizeof(v), "kept until the next, %s %s%s",
				  v.suite, v.server ? "server" : "client",
				  v.ktls ? ", OpenSSL's kTLS on" : "");
			suite_add(wiped_by_policy, &v, sizeof(v), "wiped by policy, %s %s%s",
				  v.suite, v.server ? "server" : "client",
				  v.ktls ? ", OpenSSL's kTLS on" : "");
			suite_add(wiped_in_the_end, &v, sizeof(v), "wiped in the end, %s %s%s",
				  v.suite, v.server ? "server" : "client",
				  v.ktls ? ", OpenSSL's kTLS on" : "");
		}
		if (!v.ktls && v.version == TLS1_3_VERSION)
			suite_add(a_refusal_adds_nothing, &v, sizeof(v), "a refusal adds nothing, %s %s",
				  v.suite, v.server ? "server" : "client");
	}
	suite_add(a_failed_handshake_adds_nothing, NULL, 0, "a failed handshake adds nothing");
	return suite_run(argc, argv);
}
