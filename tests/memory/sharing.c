/*
 * One config, many threads; what a connection costs in memory, and what it leaves there.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "meet.h"

enum { THREADS = 8, ROUNDS = 10, CONNECTIONS = 64, HEAP_MAX = 512, CHAIN_HEAD = 32 };

/* ---- threads ---- */

struct shared {
	struct tlsfd_config *server, *client;
};

struct end {
	struct tlsfd_config *config;
	int fd;
	bool server;
	const char *wrong;
};

/* Is this the i-th certificate of the peer's chain? NULL: there is none. */
static bool has_certificate(const struct tlsfd *c, unsigned i, const X509 *want)
{
	const uint8_t *der;
	size_t size;
	X509 *cert;
	bool has;

	if (tlsfd_peer_certificate(c, i, &der, &size))
		return !want;
	cert = d2i_X509(NULL, &der, (long)size);
	has = want && cert && X509_cmp(cert, want) == 0;
	X509_free(cert);
	return has;
}

static const char *run_end(const struct end *e)
{
	const char *wrong = NULL;
	struct tlsfd *c;
	char byte = 'x';

	if (e->server ? tlsfd_accept(&c, e->config, e->fd) :
			tlsfd_connect(&c, e->config, e->fd, "localhost"))
		return "start";
	if (tlsfd_handshake_within(c, 30000))
		wrong = "handshake";
	else if (e->server ? tlsfd_write(c, &byte, 1) != 1 : tlsfd_read(c, &byte, 1) != 1)
		wrong = "data";
	else if (!*tlsfd_report_sentence(tlsfd_report(c)))
		wrong = "report";
	else if (!e->server && !has_certificate(c, 0, pki.good.cert))
		wrong = "certificate";
	tlsfd_free(c);
	return wrong;
}

static void *run_server(void *arg)
{
	struct end *e = arg;

	e->wrong = run_end(e);
	return NULL;
}

static const char *run_round(const struct shared *s)
{
	struct end server = { .config = s->server, .server = true };
	struct end client = { .config = s->client };
	pthread_t thread;
	int fd[2];

	tcp_pair(fd);
	set_blocking(fd[0], true);
	set_blocking(fd[1], true);
	server.fd = fd[0];
	client.fd = fd[1];
	if (pthread_create(&thread, NULL, run_server, &server))
		return "thread";
	client.wrong = run_end(&client);
	pthread_join(thread, NULL);
	close(fd[0]);
	close(fd[1]);
	return server.wrong ? server.wrong : client.wrong;
}

static void *run_rounds(void *arg)
{
	const char *wrong = NULL;

	for (int i = 0; i < ROUNDS && !wrong; i++)
		wrong = run_round(arg);
	return (void *)wrong;
}

static void test_threads(void **state)
{
	struct shared s = { config_of(&pki.good), config_of(NULL) };
	struct tlsfd_config *name = config_of(&pki.good);
	pthread_t threads[THREADS];

	(void)state;
	assert_int_equal(tlsfd_config_add_name(s.server, "localhost", name), 0);
	assert_int_equal(tlsfd_config_set_session_cache(s.server, 4), 0);
	tlsfd_config_free(name);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_rounds, &s), 0);
	for (int i = 0; i < THREADS; i++) {
		void *wrong;

		pthread_join(threads[i], &wrong);
		if (wrong)
			fail_msg("%s", (char *)wrong);
	}
	tlsfd_config_free(s.server);
	tlsfd_config_free(s.client);
}

/* ---- memory ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool counted = false;
static long in_use;
#else
/* mallinfo2 takes what free has put aside for used: count here. */
static const bool counted = true;
static _Atomic long in_use;

/* And look for a traffic secret in what is freed. */
static uint8_t secret[32];
static bool looking;
static int found;

/* for OpenSSL's calls too */
#define EVERYWHERE __attribute__((visibility("default")))

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static void *count(void *p)
{
	if (p)
		in_use += (long)malloc_usable_size(p);
	return p;
}

EVERYWHERE void *malloc(size_t n)
{
	return count(__libc_malloc(n));
}

EVERYWHERE void *calloc(size_t k, size_t n)
{
	return count(__libc_calloc(k, n));
}

EVERYWHERE void *realloc(void *p, size_t n)
{
	long before = p ? (long)malloc_usable_size(p) : 0;
	void *q = __libc_realloc(p, n);

	if (q || !n)
		in_use -= before;
	return count(q);
}

EVERYWHERE void free(void *p)
{
	if (p)
		in_use -= (long)malloc_usable_size(p);
	if (p && looking && memmem(p, malloc_usable_size(p), secret, sizeof(secret)))
		found++;
	__libc_free(p);
}
#endif

static struct tlsfd *open_one(struct tlsfd_config *config, bool server, SSL_CTX *peer, int *fd)
{
	struct meeting m;

	meet_open(&m, config, server, peer, "www.wild.test");
	if (server)
		SSL_set_tlsext_host_name(m.peer, "www.wild.test");
	meet_shake(&m);
	assert_int_equal(m.err, 0);
	assert_string_equal(tlsfd_server_name(m.c), "www.wild.test");
	/* only our end is of interest */
	SSL_free(m.peer);
	close(m.fd[1]);
	*fd = m.fd[0];
	return m.c;
}

static long der_size(X509 *cert)
{
	return i2d_X509(cert, NULL);
}

static int choose_h2(SSL *ssl, const unsigned char **out, unsigned char *size,
		     const unsigned char *in, unsigned in_size, void *arg)
{
	(void)ssl, (void)in_size, (void)arg;
	*out = in + 1;
	*size = in[0];
	return SSL_TLSEXT_ERR_OK;
}

/* With a certificate and its authority's. */
static SSL_CTX *chain_peer(bool server, const struct identity *id)
{
	SSL_CTX *peer = peer_context(id);

	if (id)
		SSL_CTX_add1_chain_cert(peer, pki.ca.cert);
	if (server)
		SSL_CTX_set_alpn_select_cb(peer, choose_h2, NULL);
	else
		SSL_CTX_set_alpn_protos(peer, (const unsigned char *)"\x02h2", 3);
	SSL_CTX_set_num_tickets(peer, 0);
	return peer;
}

/* Each connection has its own peer's chain, whatever others of the config see. */
static void test_chains(void **state)
{
	static const unsigned order[] = { 0, 0, 1, 0, 2, 2, 1, 1 };
	const struct identity *ids[] = { &pki.client, &pki.rsa, NULL };
	struct tlsfd_config *config = config_of(&pki.good);
	struct tlsfd *c[LENGTH(order)];
	int fd[LENGTH(order)];

	(void)state;
	assert_int_equal(tlsfd_config_set_client_auth(config, TLSFD_CLIENT_AUTH_OPTIONAL), 0);
	for (size_t i = 0; i < LENGTH(order); i++) {
		SSL_CTX *peer = chain_peer(false, ids[order[i]]);

		c[i] = open_one(config, true, peer, &fd[i]);
		SSL_CTX_free(peer);
	}
	tlsfd_config_free(config);
	for (size_t i = 0; i < LENGTH(order); i++) {
		const struct identity *id = ids[order[i]];

		assert_true(has_certificate(c[i], 0, id ? id->cert : NULL));
		assert_true(has_certificate(c[i], 1, id ? pki.ca.cert : NULL));
		assert_true(has_certificate(c[i], 2, NULL));
		tlsfd_free(c[i]);
		close(fd[i]);
	}
}

/* Heap per connection, while CONNECTIONS of them are there; peers take turns. */
static long measure(struct tlsfd_config *config, bool server, SSL_CTX *peers[2])
{
	struct tlsfd *c[CONNECTIONS];
	int fd[CONNECTIONS];
	long before = in_use, each;

	for (int i = 0; i < CONNECTIONS; i++)
		c[i] = open_one(config, server, peers[i % 2], &fd[i]);
	each = (in_use - before) / CONNECTIONS;
	for (int i = 0; i < CONNECTIONS; i++) {
		tlsfd_free(c[i]);
		close(fd[i]);
	}
	return each;
}

/* ids: the peers', NULL: none. The limit is that of tlsfd_connect(3). */
static void check_heap(bool server, const struct identity *ids[2], long chains)
{
	SSL_CTX *peers[] = { chain_peer(!server, ids[0]), chain_peer(!server, ids[1]) };
	struct tlsfd_config *config = config_of(server ? &pki.good : NULL);
	long each, after;

	assert_int_equal(tlsfd_config_set_alpn(config, "h2"), 0);
	if (server)
		assert_int_equal(tlsfd_config_set_client_auth(config, TLSFD_CLIENT_AUTH_OPTIONAL),
				 0);
	measure(config, server, peers); /* what is made once is made */
	after = in_use;
	each = measure(config, server, peers);
	print_message("# heap of a %s's connection in the kernel: %ld bytes, %ld of chains\n",
		      server ? "server" : "client", each, chains);
	assert_true(each > 0 && each <= HEAP_MAX + chains + CHAIN_HEAD);
	assert_true(in_use < after + CONNECTIONS); /* nothing stays of each */
	SSL_CTX_free(peers[0]);
	SSL_CTX_free(peers[1]);
	tlsfd_config_free(config);
}

static void test_heap(void **state)
{
	long ca = der_size(pki.ca.cert), good = ca + der_size(pki.good.cert),
	     rsa = ca + der_size(pki.rsa.cert), client = ca + der_size(pki.client.cert);

	(void)state;
	if (!kernel_has_tls() || !counted)
		skip();
	check_heap(true, (const struct identity *[]){ NULL, NULL }, 0);
	check_heap(true, (const struct identity *[]){ NULL, &pki.client }, client / 2);
	/* a chain that comes again and again is there once */
	check_heap(true, (const struct identity *[]){ &pki.client, &pki.client },
		   client / CONNECTIONS);
	check_heap(false, (const struct identity *[]){ &pki.good, &pki.good }, good / CONNECTIONS);
	check_heap(false, (const struct identity *[]){ &pki.good, &pki.rsa }, (good + rsa) / 2);
}

/* ---- secrets of a connection that stayed in user space ---- */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void keep_secret(const SSL *ssl, const char *line)
{
	static const char label[] = "SERVER_TRAFFIC_SECRET_0 ";
	const char *hex = strrchr(line, ' ') + 1;

	(void)ssl;
	if (strncmp(line, label, sizeof(label) - 1) == 0)
		for (size_t i = 0; i < sizeof(secret); i++)
			assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &secret[i]), 1);
}

static void test_secrets(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good);
	SSL_CTX *peer = peer_context(NULL);
	struct meeting m;

	(void)state;
	SSL_CTX_set_ciphersuites(peer, "TLS_AES_128_GCM_SHA256");
	SSL_CTX_set_keylog_callback(peer, keep_secret);
	assert_int_equal(tlsfd_config_set_kernel(config, TLSFD_KERNEL_NEVER), 0);
	meet(&m, config, true, peer, NULL);
	assert_int_equal(m.err, 0);
	meet_talk(&m);
	SSL_free(m.peer);
	m.peer = NULL;
	looking = true;
	meet_close(&m);
	looking = false;
	assert_int_equal(found, 0);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_heap),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		cmocka_unit_test(test_secrets),
#endif
	};

	return meet_run(tests, LENGTH(tests), NULL, NULL);
}
