/*
 * The callbacks of tlsfd_prepare: a program's own go on being called, and nothing
 * outlives what it belongs to.
 *
 * SPDX-License-Identifier: MIT
 */
#include "watch.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tlsfd/openssl.h>

#include "pair.h"
#include "suite.h"

/* ---- a program's own callbacks, which write down how they were called ---- */

struct diary {
	char info[8192], keylog[8192], bio[8192];
	size_t bio_read, bio_written; /* bytes */
	const SSL *ssl; /* the only one that they may be called for */
	bool wrong_ssl;
};

static struct diary diary;

static void note(char *page, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void note(char *page, size_t size, const char *format, ...)
{
	size_t n = strlen(page);
	va_list args;

	va_start(args, format);
	vsnprintf(page + n, size - n, format, args);
	va_end(args);
}

static void own_info(const SSL *ssl, int where, int ret)
{
	note(diary.info, sizeof(diary.info), "%x %d %s\n", where, ret, SSL_state_string(ssl));
	diary.wrong_ssl |= ssl != diary.ssl;
}

static void own_keylog(const SSL *ssl, const char *line)
{
	/* the label, and how long the rest is: client random and secret */
	note(diary.keylog, sizeof(diary.keylog), "%.*s %zu\n", (int)strcspn(line, " "), line,
	     strlen(line));
	diary.wrong_ssl |= ssl != diary.ssl;
}

static long own_bio(BIO *bio, int oper, const char *argp, size_t len, int argi, long argl, int ret,
		    size_t *processed)
{
	(void)bio, (void)len, (void)argi, (void)argl;
	/* controls are asked for by tlsfd too, so they differ */
	if ((oper & ~BIO_CB_RETURN) != BIO_CB_READ && (oper & ~BIO_CB_RETURN) != BIO_CB_WRITE)
		return ret;
	note(diary.bio, sizeof(diary.bio), "%x %d %d\n", oper, argp != NULL, ret);
	if (ret > 0 && oper == (BIO_CB_READ | BIO_CB_RETURN))
		diary.bio_read += *processed;
	if (ret > 0 && oper == (BIO_CB_WRITE | BIO_CB_RETURN))
		diary.bio_written += *processed;
	return ret;
}

static SSL_CTX *context(bool server, int version)
{
	SSL_CTX *ctx = pair_context(server);

	assert_int_equal(SSL_CTX_set_min_proto_version(ctx, version), 1);
	assert_int_equal(SSL_CTX_set_max_proto_version(ctx, version), 1);
	return ctx;
}

/* One connection whose `server` or client end has a program's callbacks; prepared so
 * many times. */
static void keep_diary(struct diary *out, int version, bool server, int times)
{
	SSL_CTX *c = context(false, version), *s = context(true, version);
	SSL_CTX *ours = server ? s : c;
	struct pair p;
	SSL *ssl;

	memset(&diary, 0, sizeof(diary));
	SSL_CTX_set_keylog_callback(ours, own_keylog);
	SSL_CTX_set_info_callback(ours, own_info);
	for (int i = 0; i < times; i++)
		assert_int_equal(tlsfd_prepare(ours), 0);
	pair_open(&p, c, s);
	ssl = server ? p.server : p.client;
	diary.ssl = ssl;
	BIO_set_callback_ex(SSL_get_rbio(ssl), own_bio);
	pair_handshake(&p);
	pair_talk(&p);
	assert_false(diary.wrong_ssl);
	assert_int_equal(diary.bio_read, BIO_number_read(SSL_get_rbio(ssl)));
	assert_int_equal(diary.bio_written, BIO_number_written(SSL_get_wbio(ssl)));
	*out = diary;
	BIO_set_callback_ex(SSL_get_rbio(ssl), NULL);
	pair_close(&p);
	SSL_CTX_free(c);
	SSL_CTX_free(s);
}

struct diary_case {
	const char *name;
	int version;
	bool server;
};

static const struct diary_case diary_cases[] = {
	{ "own callbacks are called as before: client 1.3", TLS1_3_VERSION, false },
	{ "own callbacks are called as before: server 1.3", TLS1_3_VERSION, true },
	{ "own callbacks are called as before: client 1.2", TLS1_2_VERSION, false },
	{ "own callbacks are called as before: server 1.2", TLS1_2_VERSION, true },
};

static void own_callbacks_are_called_as_before(void **state)
{
	const struct diary_case *d = *state;
	struct diary *without = calloc(3, sizeof(*without)), *once = without + 1, *twice = without + 2;

	assert_non_null(without);
	keep_diary(without, d->version, d->server, 0);
	keep_diary(once, d->version, d->server, 1);
	keep_diary(twice, d->version, d->server, 2);
	assert_true(strlen(without->info) >= 100 && strlen(without->info) <= 8000);
	assert_true(strlen(without->keylog) >= 10 && strlen(without->keylog) <= 8000);
	assert_string_equal(once->info, without->info);
	assert_string_equal(once->keylog, without->keylog);
	assert_string_equal(once->bio, without->bio);
	assert_string_equal(twice->info, without->info);
	assert_string_equal(twice->keylog, without->keylog);
	assert_string_equal(twice->bio, without->bio);
	free(without);
}

/* ---- tlsfd_prepare ---- */

static void prepare_without_a_context(void **state)
{
	(void)state;
	assert_int_equal(tlsfd_prepare(NULL), -EINVAL);
}

static void prepare_again_after_replacing(void **state)
{
	SSL_CTX *ctx;

	(void)state;
	ctx = pair_context(false);
	assert_int_equal(tlsfd_prepare(ctx), 0);
	SSL_CTX_set_keylog_callback(ctx, own_keylog);
	assert_int_equal(tlsfd_prepare(ctx), -EBUSY);
	assert_ptr_equal(SSL_CTX_get_keylog_callback(ctx), own_keylog);
	SSL_CTX_free(ctx);

	ctx = pair_context(false);
	assert_int_equal(tlsfd_prepare(ctx), 0);
	SSL_CTX_set_info_callback(ctx, own_info);
	assert_int_equal(tlsfd_prepare(ctx), -EBUSY);
	assert_ptr_equal(SSL_CTX_get_info_callback(ctx), own_info);
	SSL_CTX_free(ctx);
}

/* ---- counting ---- */

static void both_ends_count_the_same(void **state)
{
	int version = *(const int *)*state;
	SSL_CTX *c = context(false, version), *s = context(true, version);
	const struct watch *client, *server;
	struct pair p;

	assert_int_equal(tlsfd_prepare(c), 0);
	assert_int_equal(tlsfd_prepare(s), 0);
	pair_open(&p, c, s);
	pair_handshake(&p);
	for (int i = 0; i < 3; i++) {
		pair_talk(&p);
		client = watch_of(p.client);
		server = watch_of(p.server);
		assert_non_null(client);
		assert_non_null(server);
		assert_true(client->from_start && server->from_start);
		assert_int_equal(client->way[TX].flow.records, server->way[RX].flow.records);
		assert_int_equal(client->way[RX].flow.records, server->way[TX].flow.records);
		assert_int_equal(client->way[TX].flow.bytes, server->way[RX].flow.bytes);
		assert_true(record_flow_at_boundary(&client->way[RX].flow));
		assert_true(watch_saw_all(client, SSL_get_rbio(p.client), RX));
		assert_true(watch_saw_all(server, SSL_get_wbio(p.server), TX));
		/* TLS 1.2: and Finished; TLS 1.3: the server's two tickets */
		assert_int_equal(client->way[TX].flow.records,
				 i + 1 + (version == TLS1_2_VERSION));
		assert_int_equal(server->way[TX].flow.records,
				 i + 1 + (version == TLS1_2_VERSION ? 1 : 2));
	}
	pair_close(&p);
	SSL_CTX_free(c);
	SSL_CTX_free(s);
}

/* ---- lifetimes ---- */

static size_t heap(void)
{
	return mallinfo2().uordblks;
}

/* 0 where the allocator is a sanitizer's, which reports leaks by itself. */
static bool heap_is_counted(void)
{
	size_t before = heap();
	void *volatile p = malloc(100000);
	size_t after = heap();

	free(p);
	return after > before;
}

static void ten_thousand_leave_nothing(void **state)
{
	enum { ALL = 10000, STARTED_EVERY = 10, WARM_UP = 500 };
	SSL_CTX *ctx = context(false, TLS1_3_VERSION);
	size_t before = 0;

	(void)state;
	assert_int_equal(tlsfd_prepare(ctx), 0);
	for (int i = 0; i < ALL; i++) {
		SSL *ssl = SSL_new(ctx);

		assert_non_null(ssl);
		if (i == WARM_UP)
			before = heap();
		if (i % STARTED_EVERY == 0) {
			SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
			assert_int_equal(SSL_connect(ssl), -1);
			assert_non_null(watch_of(ssl));
		}
		SSL_free(ssl);
	}
	if (heap_is_counted())
		assert_true(heap() <= before + 65536);
	SSL_CTX_free(ctx);
}

static void prepared_pair(struct pair *p, SSL_CTX **c, SSL_CTX **s)
{
	*c = context(false, TLS1_3_VERSION);
	*s = context(true, TLS1_3_VERSION);
	assert_int_equal(tlsfd_prepare(*c), 0);
	assert_int_equal(tlsfd_prepare(*s), 0);
	pair_open_sockets(p, *c, *s);
}

/* SSL_clear, then new sockets: watched from the first record on, as if new. */
static void cleared_and_used_again(void **state)
{
	struct pair p, fresh;
	SSL_CTX *c, *s;
	BIO *rbio, *wbio;

	(void)state;
	prepared_pair(&p, &c, &s);
	for (int i = 0; i < 3; i++) {
		const struct watch *w;

		pair_handshake(&p);
		pair_talk(&p);
		w = watch_of(p.client);
		assert_non_null(w);
		assert_true(w->from_start);
		assert_int_equal(w->way[TX].flow.records, 1);
		assert_int_equal(w->way[RX].flow.records, 3); /* two tickets, one answer */
		assert_true(watch_saw_all(w, SSL_get_rbio(p.client), RX));
		assert_true(watch_saw_all(w, SSL_get_wbio(p.client), TX));
		assert_int_equal(SSL_clear(p.client), 1);
		assert_int_equal(SSL_clear(p.server), 1);
		assert_int_equal(SSL_set_session(p.client, NULL), 1);
		pair_open_sockets(&fresh, c, s);
		rbio = SSL_get_rbio(fresh.client);
		wbio = SSL_get_rbio(fresh.server);
		BIO_up_ref(rbio);
		BIO_up_ref(wbio);
		pair_close(&fresh);
		SSL_set_bio(p.client, rbio, rbio);
		SSL_set_bio(p.server, wbio, wbio);
	}
	pair_close(&p);
	SSL_CTX_free(c);
	SSL_CTX_free(s);
}

/* A BIO that a program holds on to works on after its SSL is gone. */
static void bio_outlives_its_ssl(void **state)
{
	struct pair p;
	SSL_CTX *c, *s;
	BIO *a, *b;
	char heard[8] = "";

	(void)state;
	prepared_pair(&p, &c, &s);
	pair_handshake(&p);
	pair_talk(&p);
	a = SSL_get_rbio(p.client);
	b = SSL_get_rbio(p.server);
	BIO_up_ref(a);
	BIO_up_ref(b);
	pair_close(&p);
	SSL_CTX_free(c);
	SSL_CTX_free(s);
	assert_int_equal(BIO_write(a, "plain", 6), 6);
	assert_int_equal(BIO_read(b, heard, sizeof(heard)), 6);
	assert_string_equal(heard, "plain");
	BIO_free(a);
	BIO_free(b);
}

/* Such a BIO under a second SSL can't be followed from the start: no watch that
 * would pretend so, and the second connection works. */
static void bio_serves_two_ssls(void **state)
{
	struct pair p, q;
	SSL_CTX *c, *s;
	BIO *a, *b;

	(void)state;
	prepared_pair(&p, &c, &s);
	pair_handshake(&p);
	pair_talk(&p);
	a = SSL_get_rbio(p.client);
	b = SSL_get_rbio(p.server);
	BIO_up_ref(a);
	BIO_up_ref(b);
	pair_close(&p);
	pair_open(&q, c, s);
	SSL_set_bio(q.client, a, a);
	SSL_set_bio(q.server, b, b);
	pair_handshake(&q);
	pair_talk(&q);
	assert_null(watch_of(q.client));
	pair_close(&q);
	SSL_CTX_free(c);
	SSL_CTX_free(s);
}

static void copies_of_bios_and_ssls(void **state)
{
	SSL_CTX *c, *s;
	struct pair p;
	SSL *copy;
	BIO *dup;

	(void)state;
	prepared_pair(&p, &c, &s);
	copy = SSL_dup(p.client); /* before the handshake a real copy */
	pair_handshake(&p);
	dup = BIO_dup_chain(SSL_get_rbio(p.client));
	if (dup) {
		(void)BIO_write(dup, "", 0);
		BIO_set_close(dup, BIO_NOCLOSE);
		BIO_free(dup);
	}
	pair_talk(&p);
	if (copy)
		assert_null(watch_of(copy));
	SSL_free(copy);
	pair_close(&p);
	SSL_CTX_free(c);
	SSL_CTX_free(s);
}

/* ---- threads ---- */

struct shared {
	SSL_CTX *client, *server;
};

static void *connect_many(void *arg)
{
	struct shared *shared = arg;

	for (int i = 0; i < 30; i++) {
		struct pair p;

		pair_open(&p, shared->client, shared->server);
		pair_handshake(&p);
		pair_talk(&p);
		pair_close(&p);
	}
	return NULL;
}

static void two_threads_one_context(void **state)
{
	struct shared shared = { context(false, TLS1_3_VERSION), context(true, TLS1_3_VERSION) };
	pthread_t other;

	(void)state;
	SSL_CTX_set_keylog_callback(shared.client, NULL);
	assert_int_equal(tlsfd_prepare(shared.client), 0);
	assert_int_equal(tlsfd_prepare(shared.server), 0);
	assert_int_equal(pthread_create(&other, NULL, connect_many, &shared), 0);
	connect_many(&shared);
	pthread_join(other, NULL);
	SSL_CTX_free(shared.client);
	SSL_CTX_free(shared.server);
}

static void *free_bio(void *arg)
{
	BIO_free(arg);
	return NULL;
}

/* The SSL ends in one thread, its BIO in another. */
static void ends_in_two_threads(void **state)
{
	(void)state;
	for (int i = 0; i < 50; i++) {
		struct pair p;
		SSL_CTX *c, *s;
		pthread_t other;
		BIO *bio;

		prepared_pair(&p, &c, &s);
		pair_handshake(&p);
		bio = SSL_get_rbio(p.client);
		BIO_up_ref(bio);
		assert_int_equal(pthread_create(&other, NULL, free_bio, bio), 0);
		pair_close(&p);
		pthread_join(other, NULL);
		SSL_CTX_free(c);
		SSL_CTX_free(s);
	}
}

int main(int argc, char **argv)
{
	const int versions[] = { TLS1_3_VERSION, TLS1_2_VERSION };

	for (size_t i = 0; i < LENGTH(diary_cases); i++)
		suite_add(own_callbacks_are_called_as_before, &diary_cases[i], sizeof(diary_cases[i]),
			  "%s", diary_cases[i].name);
	suite_add(prepare_without_a_context, NULL, 0, "prepare without a context");
	suite_add(prepare_again_after_replacing, NULL, 0, "prepare after a callback was replaced");
	for (size_t i = 0; i < LENGTH(versions); i++)
		suite_add(both_ends_count_the_same, &versions[i], sizeof(versions[i]),
			  "both ends count the same, TLS 1.%d", versions[i] == TLS1_2_VERSION ? 2 : 3);
	suite_add(ten_thousand_leave_nothing, NULL, 0, "10,000 SSLs leave nothing behind");
	suite_add(cleared_and_used_again, NULL, 0, "SSL_clear and another socket");
	suite_add(bio_outlives_its_ssl, NULL, 0, "a BIO outlives its SSL");
	suite_add(bio_serves_two_ssls, NULL, 0, "a BIO serves two SSLs");
	suite_add(copies_of_bios_and_ssls, NULL, 0, "copies of BIOs and SSLs");
	suite_add(two_threads_one_context, NULL, 0, "two threads, one context");
	suite_add(ends_in_two_threads, NULL, 0, "an SSL and its BIO end in two threads");
	return suite_run(argc, argv);
}
