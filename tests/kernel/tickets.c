/*
 * Session tickets that come after the handover: in every place, cut in every way,
 * good and bad; and what it costs who wants none.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <malloc.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "connection.h"
#include "place.h"
#include "suite.h"

/* ---- a client that wants sessions, a raw server that makes tickets ---- */

enum { TICKET_ROOM = 70000, SESSIONS = 64 };

struct ticket {
	uint8_t bytes[TICKET_ROOM]; /* the message */
	size_t size;
};

static struct {
	SSL_SESSION *session[SESSIONS];
	int count;
	int freed; /* SSLs */
} got;

static int ssl_mark;

static int on_session(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	assert_true(got.count < SESSIONS);
	got.session[got.count++] = session;
	return 1;
}

static void forget_sessions(void)
{
	while (got.count)
		SSL_SESSION_free(got.session[--got.count]);
	got.freed = 0;
}

static void on_ssl_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	(void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
	got.freed += ptr != NULL;
}

static void on_message(int write, int version, int type, const void *data, size_t n, SSL *ssl,
		       void *arg)
{
	struct ticket *t = arg;

	(void)version, (void)ssl;
	if (write && type == SSL3_RT_HANDSHAKE) {
		assert_true(n <= sizeof(t->bytes));
		memcpy(t->bytes, data, n);
		t->size = n;
	}
}

/* The next NewSessionTicket of the raw peer, as OpenSSL would send it. */
static void make_ticket(struct raw_peer *p, struct ticket *t)
{
	t->size = 0;
	SSL_set_msg_callback(p->ssl, on_message);
	SSL_set_msg_callback_arg(p->ssl, t);
	assert_int_equal(SSL_new_session_ticket(p->ssl), 1);
	assert_int_equal(SSL_do_handshake(p->ssl), 1);
	SSL_set_msg_callback(p->ssl, NULL);
	assert_int_equal(t->bytes[0], 4);
}

struct setting {
	const char *suite;
	enum place place;
	int how;
};

struct test {
	struct tested t;
	SSL_CTX *client, *server;
};

static void open_client(struct test *x, const struct setting *s, bool wanted, SSL **ssl)
{
	struct raw_variant v = { .tls13 = true, .suite = s->suite, .keep = true };

	forget_sessions();
	*ssl = raw_connect(&x->t.peer, &v, &x->t.fd);
	SSL_set_ex_data(*ssl, ssl_mark, x);
	x->client = SSL_get_SSL_CTX(*ssl);
	x->server = SSL_get_SSL_CTX(x->t.peer.ssl);
	SSL_CTX_up_ref(x->client);
	SSL_CTX_up_ref(x->server);
	SSL_CTX_set_session_cache_mode(x->client,
				       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(x->client, wanted ? on_session : NULL);
}

static void begin(struct test *x, const struct setting *s, bool wanted)
{
	SSL *ssl;

	open_client(x, s, wanted, &ssl);
	x->t.c = place_put(ssl, x->t.fd, s->place);
}

static void end(struct test *x)
{
	place_close(&x->t);
	SSL_CTX_free(x->client);
	SSL_CTX_free(x->server);
	forget_sessions();
	ERR_clear_error();
}

/* Data both ways: the tickets before it have been dealt with. */
static void talk(struct test *x)
{
	uint8_t buf[64], type;

	raw_send(&x->t.peer, 23, "hither", 6);
	assert_int_equal(patient_read(&x->t, buf, sizeof(buf)), 6);
	assert_memory_equal(buf, "hither", 6);
	assert_int_equal(patient_write(&x->t, "thence", 6), 6);
	assert_int_equal(raw_receive(&x->t.peer, &type, buf), 6);
	assert_int_equal(type, 23);
	assert_memory_equal(buf, "thence", 6);
}

static bool step(SSL *ssl)
{
	int ret = SSL_do_handshake(ssl);

	assert_true(ret == 1 || SSL_get_error(ssl, ret) == SSL_ERROR_WANT_READ);
	return ret == 1;
}

/* In memory, by OpenSSL alone. */
static void assert_resumes(const struct test *x, SSL_SESSION *session)
{
	SSL *client = SSL_new(x->client), *server = SSL_new(x->server);
	BIO *a, *b;

	assert_int_equal(BIO_new_bio_pair(&a, 1 << 17, &b, 1 << 17), 1);
	SSL_set_bio(client, a, a);
	SSL_set_bio(server, b, b);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	assert_int_equal(SSL_set_session(client, session), 1);
	for (bool done = false; !done;) {
		bool first = step(client);

		done = step(server) && first;
	}
	assert_int_equal(SSL_session_reused(client), 1);
	assert_int_equal(SSL_session_reused(server), 1);
	SSL_set_shutdown(client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(client);
	SSL_free(server);
}

/* ---- cut in every way ---- */

/* The kernel takes a piece that begins with 24 for a KeyUpdate: that is another test's. */
static void send_pieces(struct raw_peer *p, const uint8_t *data, size_t n, size_t first,
			size_t rest)
{
	for (size_t piece = first; n; piece = rest) {
		piece = piece < n ? piece : n;
		raw_send(p, 22, data, piece);
		data += piece;
		n -= piece;
	}
}

static void send_joined(struct raw_peer *p, const struct ticket *t, size_t cut)
{
	static uint8_t both[2 * TICKET_ROOM];

	memcpy(both, t[0].bytes, t[0].size);
	memcpy(both + t[0].size, t[1].bytes, t[1].size);
	send_pieces(p, both, t[0].size + t[1].size, cut, 16384);
}

static int big_ticket(SSL *ssl, void *arg)
{
	static uint8_t data[40000];

	(void)arg;
	return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), data, sizeof(data));
}

static SSL_TICKET_RETURN take_big_ticket(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
					 size_t size, SSL_TICKET_STATUS status, void *arg)
{
	(void)ssl, (void)session, (void)name, (void)size, (void)arg;
	return status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW ?
		       SSL_TICKET_RETURN_USE :
		       SSL_TICKET_RETURN_IGNORE;
}

enum how { ONE_RECORD, THREE, BYTES, TWO_IN_ONE, ONE_AND_A_HALF, BIG, BEHIND_DATA, HOWS };
static const char *const how_names[HOWS] = { "one record",
					     "three records",
					     "byte by byte",
					     "two in a record",
					     "one and a half in a record",
					     "three records full",
					     "behind data" };

static int send_tickets(struct raw_peer *p, enum how how)
{
	static struct ticket t[2];

	make_ticket(p, &t[0]);
	make_ticket(p, &t[1]);
	switch (how) {
	case TWO_IN_ONE:
		send_joined(p, t, 16384);
		return 2;
	case ONE_AND_A_HALF:
		send_joined(p, t, t[0].size + t[1].size / 2);
		return 2;
	default:
		break;
	}
	send_pieces(p, t[0].bytes, t[0].size,
		    how == THREE ? 2 :
		    how == BYTES ? 1 :
				   16384,
		    how == THREE ? t[0].size / 2 :
		    how == BYTES ? 1 :
				   16384);
	return 1;
}

static void test_cut(void **state)
{
	const struct setting *s = *state;
	struct test x;
	int sent;

	begin(&x, s, true);
	if (s->how == BIG)
		SSL_CTX_set_session_ticket_cb(x.server, big_ticket, take_big_ticket, NULL);
	if (s->how == BEHIND_DATA)
		talk(&x);
	/* three times: the number of the record goes on */
	for (int i = 0, all = 0; i < 3; i++) {
		sent = send_tickets(&x.t.peer, (enum how)s->how);
		talk(&x);
		all += sent;
		assert_int_equal(got.count, all);
		assert_int_equal(x.t.c->control.skipped, all);
	}
	for (int i = 0; i < got.count; i++)
		assert_resumes(&x, got.session[i]);
	assert_int_equal(ERR_peek_error(), 0);
	end(&x);
}

/* ---- bad ones ---- */

struct bad {
	const char *name;
	size_t at; /* byte that is changed */
	int add;
};

/* Type, length (3), lifetime (4), age_add (4), nonce length, nonce (8), ticket length ... */
static const struct bad bads[] = {
	{ "nonce too long", 12, 100 },
	{ "ticket too long", 22, 100 },
	{ "ticket too short", 22, -1 },
	{ "extensions cut", 0, 0 },
};

/* The alert that it ends in; -1: none. */
static int alert_for(const struct setting *s, enum place place, const struct bad *bad)
{
	static struct ticket t;
	struct setting with = *s;
	uint8_t type, alert[64], buf[64];
	ssize_t n;
	struct test x;

	with.place = place;
	begin(&x, &with, true);
	make_ticket(&x.t.peer, &t);
	t.bytes[bad->at] = (uint8_t)(t.bytes[bad->at] + bad->add);
	if (!bad->at) {
		t.size--;
		t.bytes[3]--;
	}
	raw_send(&x.t.peer, 22, t.bytes, t.size);
	raw_send(&x.t.peer, 23, "no", 2);
	n = patient_read(&x.t, buf, sizeof(buf));
	assert_int_equal(n, -EPROTO);
	assert_int_equal(got.count, 0);
	assert_int_equal(tlsfd_read(x.t.c, buf, 1), -EPROTO);
	assert_int_equal(tlsfd_write(x.t.c, buf, 1), -EPIPE);
	assert_int_equal(raw_receive(&x.t.peer, &type, alert), 2);
	assert_int_equal(type, 21);
	assert_int_equal(alert[0], 2);
	if (tlsfd_kernel(x.t.c, TLSFD_RX))
		assert_null(x.t.c->control.tickets);
	assert_int_equal(ERR_peek_error(), 0);
	end(&x);
	return alert[1];
}

/* As if OpenSSL had read it from the socket. */
static void test_bad(void **state)
{
	const struct setting *s = *state;
	int alert = alert_for(s, s->place, &bads[s->how]);

	assert_int_equal(alert, alert_for(s, USERSPACE, &bads[s->how]));
	assert_int_not_equal(alert, 80); /* internal_error: nobody asked OpenSSL */
}

/* ---- who wants none, and when enough is enough ---- */

static void test_not_wanted(void **state)
{
	const struct setting *s = *state;
	static struct ticket t;
	struct test x;

	begin(&x, s, false);
	assert_null(x.t.c->control.tickets);
	assert_int_equal(got.freed, s->place == KERNEL); /* OpenSSL has gone */
	make_ticket(&x.t.peer, &t);
	raw_send(&x.t.peer, 22, t.bytes, t.size);
	talk(&x);
	end(&x);
}

static void test_enough(void **state)
{
	const struct setting *s = *state;
	static struct ticket t;
	struct test x;

	begin(&x, s, true);
	assert_non_null(x.t.c->control.tickets);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(x.t.c->control.tickets == NULL, i >= 32);
		make_ticket(&x.t.peer, &t);
		raw_send(&x.t.peer, 22, t.bytes, t.size);
		talk(&x);
	}
	assert_int_equal(got.count, 32);
	assert_int_equal(x.t.c->control.skipped, 40);
	assert_int_equal(got.freed, s->place == KERNEL);
	assert_resumes(&x, got.session[31]);
	end(&x);
}

/* After close_notify none can come. */
static void test_closed(void **state)
{
	const struct setting *s = *state;
	struct test x;
	uint8_t byte;

	begin(&x, s, true);
	raw_send_alert(&x.t.peer, 1, 0);
	assert_int_equal(patient_read(&x.t, &byte, 1), 0);
	assert_null(x.t.c->control.tickets);
	assert_int_equal(got.freed, s->place == KERNEL);
	end(&x);
}

/* A server's ticket that never ends is bounded, and freed. */
static void test_unfinished(void **state)
{
	const struct setting *s = *state;
	struct test x;

	begin(&x, s, true);
	raw_send(&x.t.peer, 22, "\4\2\0\0only the start", 18);
	assert_int_equal(tlsfd_read(x.t.c, (uint8_t[1]){ 0 }, 1), -EAGAIN);
	end(&x);
}

/* Also in the middle of one. */
static void test_no_more(void **state)
{
	const struct setting *s = *state;
	static struct ticket t;
	struct test x;

	begin(&x, s, true);
	make_ticket(&x.t.peer, &t);
	raw_send(&x.t.peer, 22, t.bytes, t.size);
	talk(&x);
	assert_int_equal(got.count, 1);
	make_ticket(&x.t.peer, &t);
	raw_send(&x.t.peer, 22, t.bytes, 30);
	assert_int_equal(tlsfd_read(x.t.c, (uint8_t[1]){ 0 }, 1), -EAGAIN);
	assert_int_equal(got.freed, 0);
	tlsfd_no_more_sessions(x.t.c);
	assert_int_equal(got.freed, s->place == KERNEL);
	raw_send(&x.t.peer, 22, t.bytes + 30, t.size - 30);
	talk(&x);
	make_ticket(&x.t.peer, &t);
	raw_send(&x.t.peer, 22, t.bytes, t.size);
	talk(&x);
	assert_int_equal(got.count, 1);
	end(&x);
}

/* ---- the SSL stays inert ---- */

static void assert_inert(SSL *ssl, struct test *x)
{
	struct pollfd p = { .fd = x->t.peer.fd, .events = POLLIN };
	char byte = 'x';

	assert_true(SSL_read(ssl, &byte, 1) <= 0);
	assert_true(SSL_write(ssl, &byte, 1) <= 0);
	SSL_shutdown(ssl);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(SSL_get_fd(ssl), x->t.fd);
}

static void test_inert(void **state)
{
	const struct setting *s = *state;
	static struct ticket t;
	struct test x;
	SSL *ssl;
	BIO *bio;

	open_client(&x, s, true, &ssl);
	bio = SSL_get_rbio(ssl);
	SSL_up_ref(ssl);
	x.t.c = place_put(ssl, x.t.fd, KERNEL);
	for (int i = 0; i < 2; i++) {
		make_ticket(&x.t.peer, &t);
		raw_send(&x.t.peer, 22, t.bytes, t.size);
		talk(&x);
		assert_ptr_equal(SSL_get_rbio(ssl), bio);
		assert_ptr_equal(SSL_get_wbio(ssl), bio);
		assert_null(SSL_get_info_callback(ssl));
		assert_inert(ssl, &x);
	}
	assert_int_equal(got.count, 2);
	SSL_free(ssl);
	talk(&x);
	assert_resumes(&x, got.session[0]);
	end(&x);
}

/* ---- beside a writer ---- */

static void *write_much(void *arg)
{
	struct test *x = arg;
	uint8_t data[1000] = { 0 };
	size_t left = 1000 * sizeof(data);

	while (left) {
		ssize_t n = patient_write(&x->t, data, left < sizeof(data) ? left : sizeof(data));

		if (n <= 0)
			return x;
		left -= (size_t)n;
	}
	return NULL;
}

static void test_writer(void **state)
{
	const struct setting *s = *state;
	size_t received = 0;
	static struct ticket t;
	uint8_t buf[16384], type;
	pthread_t thread;
	void *failed;
	struct test x;

	begin(&x, s, true);
	pthread_create(&thread, NULL, write_much, &x);
	for (int i = 0; i < 30 || received < 1000000;) {
		ssize_t n = raw_receive(&x.t.peer, &type, buf);

		assert_true(n > 0 && type == 23);
		received += (size_t)n;
		if (i++ >= 30)
			continue;
		make_ticket(&x.t.peer, &t);
		raw_send(&x.t.peer, 22, t.bytes, t.size);
		raw_send(&x.t.peer, 23, "x", 1);
		assert_int_equal(patient_read(&x.t, buf, sizeof(buf)), 1);
	}
	pthread_join(thread, &failed);
	assert_null(failed);
	assert_int_equal(received, 1000000);
	assert_int_equal(got.count, 30);
	end(&x);
}

/* ---- numbers ---- */

static size_t heap(void)
{
	return mallinfo2().uordblks;
}

static size_t heap_of_one(const struct setting *s, bool wanted, bool ticket)
{
	static struct ticket t;
	struct test x;
	size_t before, after;
	SSL *ssl;

	open_client(&x, s, wanted, &ssl);
	make_ticket(&x.t.peer, &t);
	before = heap();
	x.t.c = place_put(ssl, x.t.fd, KERNEL);
	if (ticket) {
		raw_send(&x.t.peer, 22, t.bytes, t.size);
		talk(&x);
		forget_sessions();
	}
	after = heap();
	printf("# a client after the handover%s, sessions %swanted: %+zd bytes to before\n",
	       ticket ? " and a ticket" : "", wanted ? "" : "not ", (ssize_t)(after - before));
	end(&x);
	return after - before;
}

static void test_memory(void **state)
{
	ssize_t none, idle, used;

	if (SANITIZED)
		skip_because("a sanitizer has memory of its own");
	heap_of_one(*state, true, true); /* what OpenSSL makes once */
	none = (ssize_t)heap_of_one(*state, false, false);
	idle = (ssize_t)heap_of_one(*state, true, false);
	used = (ssize_t)heap_of_one(*state, true, true);
	assert_true(none < 0);
	assert_true(idle - none < 40000);
	assert_true(used - idle < 2000);
}

static const char *const suites[] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
				      "TLS_CHACHA20_POLY1305_SHA256" };

static void add(CMUnitTestFunction test, struct setting s, const char *name, const char *more)
{
	suite_add(test, &s, sizeof(s), "%s: %s%s%s %s", name, more, *more ? ", " : "", s.suite,
		  place_names[s.place]);
}

int main(int argc, char **argv)
{
	ssl_mark = SSL_get_ex_new_index(0, NULL, NULL, NULL, on_ssl_free);
	for (int how = 0; how < HOWS; how++)
		for (enum place place = KERNEL; place < SSL_PLACES; place++)
			for (size_t i = 0; i < LENGTH(suites); i++)
				add(test_cut, (struct setting){ suites[i], place, how }, "cut",
				    how_names[how]);
	for (size_t i = 0; i < LENGTH(bads); i++)
		for (enum place place = KERNEL; place < SSL_PLACES; place++)
			add(test_bad, (struct setting){ suites[0], place, (int)i }, "bad",
			    bads[i].name);
	for (enum place place = KERNEL; place < SSL_PLACES; place++) {
		struct setting s = { suites[0], place, 0 };

		add(test_not_wanted, s, "not wanted", "");
		add(test_writer, s, "beside a writer", "");
		if (place != KERNEL && place != RX_KERNEL)
			continue;
		add(test_enough, s, "enough", "");
		add(test_closed, s, "closed", "");
		add(test_unfinished, s, "unfinished", "");
		add(test_no_more, s, "no more", "");
	}
	add(test_inert, (struct setting){ suites[0], KERNEL, 0 }, "inert", "");
	add(test_memory, (struct setting){ suites[0], KERNEL, 0 }, "memory", "");
	return suite_run(argc, argv);
}
