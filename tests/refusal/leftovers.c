/*
 * What OpenSSL leaves behind of the secrets by itself, after a refusal or a handshake that
 * failed, is not more with tlsfd: the memory of two processes is searched, with it and without.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "elsewhere.h"
#include "needle.h"
#include "suite.h"

static struct needle logged[2]; /* the client's traffic secret, the server's */

static void log_masked(const SSL *ssl, const char *line)
{
	static const char *const labels[] = { "CLIENT_TRAFFIC_SECRET_0 ",
					      "SERVER_TRAFFIC_SECRET_0 " };

	(void)ssl;
	for (size_t i = 0; i < LENGTH(labels); i++)
		if (strncmp(line, labels[i], strlen(labels[i])) == 0)
			needle_read(&logged[i], labels[i], strrchr(line, ' ') + 1);
}

/* How often the secrets are found after SSL_free. */
static int search_logged(struct link *l, pid_t peer, bool tell)
{
	int hits = 0;

	leave_openssl(l);
	for (size_t i = 0; i < 2; i++)
		hits += tell ? needle_tell(&logged[i]) : needle_count(&logged[i]);
	end_elsewhere(l, peer);
	return hits;
}

static struct link *link_logged(const struct variant *v, bool prepared)
{
	struct variant with = *v;
	struct link *l;

	with.unprepared = true;
	l = link_new(&with);
	SSL_CTX_set_keylog_callback(l->us.ctx, log_masked);
	if (prepared)
		assert_int_equal(tlsfd_prepare(l->us.ctx), 0);
	return l;
}

static int hits_after_refusal(const struct variant *v, bool prepared)
{
	struct link *l = link_logged(v, prepared);
	pid_t peer;

	link_open(l);
	peer = peer_goes(l);
	assert_int_equal(shake_hands(l), 1);
	SSL_set_shutdown(l->us.ssl, SSL_SENT_SHUTDOWN); /* -ENOTCONN, closed */
	if (prepared)
		assert_true(tlsfd_handover(l->us.ssl, NULL, NULL) < 0);
	assert_true(logged[0].size >= 32 && logged[1].size >= 32);
	return search_logged(l, peer, false);
}

static int refuse_certificate(int ok, X509_STORE_CTX *store)
{
	(void)ok;
	X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
	return 0;
}

/* We verify, and do not trust: we have seen all secrets by then or not; nothing of tlsfd's
 * keeps them. */
static int hits_after_failure(const struct variant *v, bool prepared)
{
	struct link *l = link_logged(v, prepared);
	pid_t peer;

	SSL_CTX_set_verify(l->us.ctx, SSL_VERIFY_PEER, refuse_certificate);
	SSL_CTX_set_keylog_callback(l->peer.ctx, NULL);
	link_open(l);
	peer = peer_goes(l);
	assert_int_not_equal(shake_hands(l), 1);
	assert_false(SSL_is_init_finished(l->us.ssl));
	if (prepared)
		assert_true(tlsfd_handover(l->us.ssl, NULL, NULL) < 0);
	return search_logged(l, peer, true);
}

/* Each in a child, whose memory is fresh. */
static int in_a_child(int (*hits)(const struct variant *v, bool prepared), const struct variant *v,
		      bool prepared)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		alarm(2 * PATIENCE_MS / 1000);
		_exit(hits(v, prepared));
	}
	waitpid(child, &status, 0);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void a_refusal_adds_nothing(void **state)
{
	int without = in_a_child(hits_after_refusal, *state, false);
	int with = in_a_child(hits_after_refusal, *state, true);

	printf("# refused and freed: secrets found %d times, without tlsfd %d\n", with, without);
	assert_true(with <= without);
}

static void a_failed_handshake_adds_nothing(void **state)
{
	int without = in_a_child(hits_after_failure, *state, false);
	int with = in_a_child(hits_after_failure, *state, true);

	printf("# failed and freed: secrets found %d times, without tlsfd %d\n", with, without);
	assert_true(with <= without);
}

static void not_under_a_sanitizer(void **state)
{
	(void)state;
	skip_because("a sanitizer has memory of its own");
}

int main(int argc, char **argv)
{
	static const char *const suites[] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
					      "TLS_CHACHA20_POLY1305_SHA256" };
	struct variant v = { .version = TLS1_3_VERSION };

	if (SANITIZED) {
		suite_add(not_under_a_sanitizer, NULL, 0, "the search of memory");
		return suite_run(argc, argv);
	}
	for (size_t i = 0; i < 2 * LENGTH(suites); i++) {
		v.suite = suites[i / 2];
		v.server = i & 1;
		v.tickets = i < 4 ? 2 : 0;
		suite_add(a_refusal_adds_nothing, &v, sizeof(v), "a refusal adds nothing, %s %s",
			  v.suite, v.server ? "server" : "client");
	}
	v = (struct variant){
		.version = TLS1_3_VERSION, .suite = suites[0], .server = true, .client_cert = true
	};
	suite_add(a_failed_handshake_adds_nothing, &v, sizeof(v),
		  "a failed handshake adds nothing");
	return suite_run(argc, argv);
}
