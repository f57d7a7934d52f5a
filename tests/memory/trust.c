/*
 * Which config reads the system's trust store, and how often; which ones share their own.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "config.h"
#include "meet.h"

enum { THREADS = 8 };

/* ---- the system's store: pki.ca, in a file that is watched ---- */

static char path[] = "/tmp/tlsfd-trust-XXXXXX";
static int watch;

static int make_store(void **state)
{
	int fd = mkstemp(path);
	size_t size = strlen(pki.ca.cert_pem);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, pki.ca.cert_pem, size), size);
	close(fd);
	watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	assert_true(watch >= 0);
	assert_true(inotify_add_watch(watch, path, IN_OPEN | IN_CLOSE) >= 0);
	return setenv("SSL_CERT_FILE", path, 1);
}

static int drop_store(void **state)
{
	(void)state;
	close(watch);
	return unlink(path);
}

/* How often it was opened since the last time. */
static int opened(void)
{
	struct inotify_event event;
	ssize_t n;
	int count = 0;

	while ((n = read(watch, &event, sizeof(event))) == sizeof(event))
		count += !!(event.mask & IN_OPEN);
	assert_true(n < 0 && errno == EAGAIN);
	return count;
}

/* ---- servers ---- */

static struct tlsfd_config *server_with_names(void)
{
	static const char *const names[] = { "a.test", "b.test", "*.c.test" };
	struct tlsfd_config *config;

	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_int_equal(tlsfd_config_set_certificate_mem(
				 config, pki.good.cert_pem, strlen(pki.good.cert_pem),
				 pki.good.key_pem, strlen(pki.good.key_pem)),
			 0);
	for (size_t i = 0; i < LENGTH(names); i++) {
		struct tlsfd_config *name;

		assert_int_equal(tlsfd_config_new(&name), 0);
		assert_int_equal(tlsfd_config_set_certificate_mem(
					 name, pki.rsa.cert_pem, strlen(pki.rsa.cert_pem),
					 pki.rsa.key_pem, strlen(pki.rsa.key_pem)),
				 0);
		assert_int_equal(tlsfd_config_add_name(config, names[i], name), 0);
		tlsfd_config_free(name);
	}
	return config;
}

static void serve(struct tlsfd_config *config, const char *name)
{
	SSL_CTX *peer = peer_context(NULL);
	struct meeting m;

	meet_open(&m, config, true, peer, NULL);
	SSL_CTX_free(peer);
	assert_int_equal(SSL_set_tlsext_host_name(m.peer, name), 1);
	meet_shake(&m);
	assert_int_equal(m.err, 0);
	meet_talk(&m);
	meet_close(&m);
}

/* Nobody is verified: not even of the names' certificates is a chain made by the store. */
static void test_server(void **state)
{
	struct tlsfd_config *config = server_with_names();

	(void)state;
	serve(config, "localhost");
	serve(config, "a.test");
	assert_int_equal(opened(), 0);
	tlsfd_config_free(config);
}

/* ---- clients ---- */

static void reach(struct tlsfd_config *config, const struct identity *server, int err)
{
	struct meeting m;

	meet(&m, tlsfd_config_ref(config), false, peer_context(server), "localhost");
	assert_int_equal(m.err, err);
	meet_close(&m);
}

static void reach_one_of(struct tlsfd_config *config, const struct identity *trusted,
			 const struct identity *other, int reads)
{
	reach(config, trusted, 0);
	reach(config, other, -EKEYREJECTED);
	assert_int_equal(opened(), reads);
}

/* Also of a config that has been a server's. */
static void test_client(void **state)
{
	struct tlsfd_config *config = server_with_names();

	(void)state;
	serve(config, "localhost");
	for (int i = 0; i < 2; i++)
		reach_one_of(config, &pki.good, &pki.foreign, !i);
	serve(config, "b.test");
	assert_int_equal(opened(), 0);
	tlsfd_config_free(config);
}

static void test_own_trust(void **state)
{
	struct tlsfd_config *config;

	(void)state;
	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_int_equal(tlsfd_config_set_ca_mem(config, pki.other_ca.cert_pem,
						 strlen(pki.other_ca.cert_pem)),
			 0);
	reach_one_of(config, &pki.foreign, &pki.good, 0);
	tlsfd_config_free(config);
}

/* The lists are looked into, with the system's authorities. */
static void test_own_list(void **state)
{
	struct tlsfd_config *config;

	(void)state;
	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_int_equal(tlsfd_config_set_crl_mem(config, pki.crl_pem, strlen(pki.crl_pem)), 0);
	reach_one_of(config, &pki.good, &pki.revoked, 1);
	tlsfd_config_free(config);
}

/* Any chain will do; the name is looked at. */
static void test_no_verify(void **state)
{
	struct tlsfd_config *config;

	(void)state;
	assert_int_equal(tlsfd_config_new(&config), 0);
	tlsfd_config_insecure_no_verify_chain(config);
	reach(config, &pki.foreign, 0);
	reach_one_of(config, &pki.good, &pki.elsewhere, 0);
	tlsfd_config_free(config);
}

/* ---- configs that share ---- */

static struct tlsfd_config *asking(struct tlsfd_config *config)
{
	assert_int_equal(tlsfd_config_set_client_auth(config, TLSFD_CLIENT_AUTH_REQUIRED), 0);
	return config;
}

static void be_asked(struct tlsfd_config *server, const char *name, const struct identity *client,
		     int err)
{
	SSL_CTX *peer = peer_context(client);
	struct meeting m;

	meet_open(&m, server, true, peer, NULL);
	SSL_CTX_free(peer);
	assert_int_equal(SSL_set_tlsext_host_name(m.peer, name), 1);
	meet_shake(&m);
	assert_int_equal(m.err, err);
	/* whom the server knows */
	assert_int_equal(sk_X509_NAME_num(SSL_get0_peer_CA_list(m.peer)), 1);
	meet_close(&m);
}

static void test_shared(void **state)
{
	struct tlsfd_config *first = asking(config_of(&pki.good)), *name = config_of(&pki.rsa),
			    *alone;

	(void)state;
	assert_int_equal(tlsfd_config_set_crl_mem(first, pki.crl_pem, strlen(pki.crl_pem)), 0);
	/* in the place of what it had */
	assert_int_equal(
		tlsfd_config_set_ca_mem(name, pki.other_ca.cert_pem, strlen(pki.other_ca.cert_pem)),
		0);
	assert_int_equal(tlsfd_config_share_trust(name, first), 0);
	assert_ptr_equal(SSL_CTX_get_cert_store(name->ctx), SSL_CTX_get_cert_store(first->ctx));
	assert_int_equal(tlsfd_config_add_name(first, "a.test", asking(name)), 0);
	tlsfd_config_free(name);
	for (int i = 0; i < 2; i++) {
		be_asked(first, i ? "a.test" : "localhost", &pki.client, 0);
		be_asked(first, i ? "a.test" : "localhost", &pki.revoked, -EKEYREJECTED);
		be_asked(first, i ? "a.test" : "localhost", &pki.foreign, -EKEYREJECTED);
	}
	/* with one in use, and after its end */
	alone = asking(config_of(&pki.good));
	assert_int_equal(tlsfd_config_share_trust(alone, first), 0);
	tlsfd_config_free(first);
	be_asked(alone, "localhost", &pki.client, 0);
	be_asked(alone, "localhost", &pki.revoked, -EKEYREJECTED);
	tlsfd_config_free(alone);
	assert_int_equal(opened(), 0);
}

static void assert_takes_no_more(struct tlsfd_config *config)
{
	const struct identity *ca = &pki.other_ca;

	assert_int_equal(tlsfd_config_set_ca_mem(config, ca->cert_pem, strlen(ca->cert_pem)),
			 -EBUSY);
	assert_says(tlsfd_config_error(config), "shares it");
	assert_int_equal(tlsfd_config_set_crl_mem(config, pki.crl_pem, strlen(pki.crl_pem)),
			 -EBUSY);
	assert_int_equal(tlsfd_config_set_ca_file(config, path), -EBUSY);
}

static void test_sharing_is_refused(void **state)
{
	struct tlsfd_config *config, *with = config_of(&pki.good);

	(void)state;
	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_int_equal(tlsfd_config_share_trust(NULL, with), -EINVAL);
	assert_int_equal(tlsfd_config_share_trust(config, NULL), -EINVAL);
	assert_int_equal(tlsfd_config_share_trust(with, with), -EINVAL);
	assert_int_equal(tlsfd_config_share_trust(with, config), -EINVAL);
	assert_says(tlsfd_config_error(with), "no authorities");
	assert_int_equal(tlsfd_config_share_trust(config, with), 0);
	assert_takes_no_more(config);
	assert_takes_no_more(with);
	serve(with, "localhost");
	assert_int_equal(tlsfd_config_share_trust(with, config), -EBUSY);
	tlsfd_config_free(config);
	tlsfd_config_free(with);
}

/* ---- threads ---- */

struct start {
	struct tlsfd_config *config;
	pthread_barrier_t *together;
	int err;
};

static void *start_client(void *arg)
{
	struct start *s = arg;
	struct tlsfd *c;
	int fd[2];

	tcp_pair(fd);
	pthread_barrier_wait(s->together);
	s->err = tlsfd_connect(&c, s->config, fd[0], "localhost");
	tlsfd_free(c);
	close(fd[0]);
	close(fd[1]);
	return NULL;
}

static void test_threads(void **state)
{
	pthread_barrier_t together;
	struct start starts[THREADS];
	pthread_t threads[THREADS];
	struct tlsfd_config *config;

	(void)state;
	assert_int_equal(tlsfd_config_new(&config), 0);
	pthread_barrier_init(&together, NULL, THREADS);
	for (int i = 0; i < THREADS; i++) {
		starts[i] = (struct start){ .config = config, .together = &together };
		assert_int_equal(pthread_create(&threads[i], NULL, start_client, &starts[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(starts[i].err, 0);
	}
	pthread_barrier_destroy(&together);
	assert_int_equal(opened(), 1);
	reach(config, &pki.good, 0);
	tlsfd_config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server),	  cmocka_unit_test(test_client),
		cmocka_unit_test(test_own_trust), cmocka_unit_test(test_own_list),
		cmocka_unit_test(test_no_verify), cmocka_unit_test(test_threads),
		cmocka_unit_test(test_shared),	  cmocka_unit_test(test_sharing_is_refused),
	};

	return meet_run(tests, LENGTH(tests), make_store, drop_store);
}
