/*
 * Bytes on their way inside OpenSSL: part of a record read, a record not read to
 * its end, read-ahead, part of a record written, a KeyUpdate to answer. Refused for
 * the moment; once they have passed the handover works and every byte is right.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "refused.h"
#include "suite.h"

static const char *expect(const char *trouble)
{
	if (trouble)
		fail_msg("%s", trouble);
	return trouble;
}

static void peer_sends(struct link *l, size_t n)
{
	struct flow f = { .end = &l->peer, .out = true, .left = n };

	expect(run_flows(&f, 1));
}

static void we_receive(struct link *l, size_t n)
{
	struct flow f = { .end = &l->us, .left = n };

	expect(run_flows(&f, 1));
}

/* Lets n bytes of what the peer has written go, and waits until they are here. */
static void let_go(struct link *l, size_t n)
{
	l->peer.wire->allowed = n;
	if (wire_carry(&l->peer))
		wait_for(l->us.fd, POLLIN);
}

static void let_all_go(struct link *l)
{
	let_go(l, SIZE_MAX);
}

static size_t held(struct link *l)
{
	return BIO_pending(l->peer.wire->out);
}

/* OpenSSL takes what is there, which is no whole record. */
static void read_in_vain(struct link *l)
{
	uint8_t buf[16];

	assert_int_equal(end_read(&l->us, buf, sizeof(buf)), -EAGAIN);
}

static struct link *wired(const struct variant *base)
{
	struct variant v = *base;

	v.wire = true;
	return link_made(&v);
}

/* ---- every byte offset of a record ---- */

enum { DATA = 64 };

static bool cut_at(const struct variant *v, size_t k)
{
	struct link *l = wired(v);
	size_t size;

	l->peer.wire->allowed = 0;
	peer_sends(l, DATA);
	size = held(l);
	assert_true(size >= DATA + 5 + 16 && size <= DATA + 5 + 8 + 17);
	let_go(l, k);
	if (k < size) {
		if (k)
			read_in_vain(l);
	} else {
		uint8_t byte;

		assert_int_equal(SSL_peek(l->us.ssl, &byte, 1), 1);
	}
	if (k)
		assert_refused_rx(l->us.ssl, -EAGAIN, TLSFD_WHY_RECORD_READ);
	let_all_go(l);
	we_receive(l, DATA);
	assert_moves(l);
	link_free(l);
	return k < size;
}

static void every_offset_of_a_record(void **state)
{
	size_t k = 0;

	while (cut_at(*state, k))
		k++;
	assert_true(k >= DATA + 5 + 16 && k <= DATA + 5 + 8 + 17);
}

/* Cut, refused, and the connection goes on in user space for good. */
static void cut_and_stays_in_user_space(void **state)
{
	for (size_t k = 1; k < 8; k++) {
		struct link *l = wired(*state);

		l->peer.wire->allowed = 0;
		peer_sends(l, DATA);
		let_go(l, k);
		read_in_vain(l);
		assert_refused_rx(l->us.ssl, -EAGAIN, TLSFD_WHY_RECORD_READ);
		let_all_go(l);
		we_receive(l, DATA);
		assert_goes_on(l);
		link_free(l);
	}
}

/* ---- a record that the program has not read to its end ---- */

static void peeked(void **state)
{
	struct link *l = link_made(*state);
	uint8_t byte;

	peer_sends(l, 1000);
	wait_for(l->us.fd, POLLIN);
	while (SSL_peek(l->us.ssl, &byte, 1) != 1)
		wait_for(l->us.fd, POLLIN);
	assert_refused_rx(l->us.ssl, -EAGAIN, TLSFD_WHY_RECORD_READ);
	we_receive(l, 1000);
	assert_moves(l);
	link_free(l);
}

static void read_in_part(void **state)
{
	struct link *l = link_made(*state);

	peer_sends(l, 1000);
	we_receive(l, 1);
	assert_refused_rx(l->us.ssl, -EAGAIN, TLSFD_WHY_RECORD_READ);
	we_receive(l, 998);
	assert_refused_rx(l->us.ssl, -EAGAIN, TLSFD_WHY_RECORD_READ);
	we_receive(l, 1);
	assert_moves(l);
	link_free(l);
}

/* ---- a client's tickets, cut anywhere; each ticket in two records ---- */

/* Data of the program makes the ticket longer than the shortest fragment. */
static int add_to_ticket(SSL *ssl, void *arg)
{
	static const char data[600];

	(void)arg;
	return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), data, sizeof(data));
}

static struct link *before_tickets(void)
{
	const struct variant v = { .version = TLS1_3_VERSION, .suite = "TLS_AES_128_GCM_SHA256",
				   .tickets = 1, .wire = true };
	struct link *l = link_new(&v);

	SSL_CTX_set_session_ticket_cb(l->peer.ctx, add_to_ticket, NULL, NULL);
	SSL_CTX_set_max_send_fragment(l->peer.ctx, 512);
	link_open(l);
	for (int i = 0; i < 10 && SSL_do_handshake(l->us.ssl) != 1; i++) {
		wait_for(l->peer.fd, POLLIN);
		wire_carry(&l->peer);
		SSL_do_handshake(l->peer.ssl);
		wire_carry(&l->peer);
		wait_for(l->us.fd, POLLIN);
	}
	assert_true(SSL_is_init_finished(l->us.ssl));
	l->peer.wire->allowed = 0;
	wait_for(l->peer.fd, POLLIN);
	while (!wire_carry(&l->peer) || SSL_do_handshake(l->peer.ssl) != 1)
		wait_for(l->peer.fd, POLLIN);
	return l;
}

static bool ticket_cut_at(size_t k)
{
	struct link *l = before_tickets();
	size_t size = held(l);

	if (k > size)
		k = size;
	assert_true(size >= 600 && size <= 3000);
	let_go(l, k);
	if (k)
		read_in_vain(l);
	/* in the middle of the message OpenSSL is as if in a handshake */
	if (k && k < size && SSL_is_init_finished(l->us.ssl))
		assert_refused_rx(l->us.ssl, -EAGAIN, TLSFD_WHY_RECORD_READ);
	else if (k && k < size)
		assert_refused(l->us.ssl, -EAGAIN, TLSFD_WHY_RECORD_READ);
	let_all_go(l);
	if (k < size)
		read_in_vain(l); /* finishes the ticket */
	assert_int_equal(l->us.sessions, 1);
	assert_moves(l);
	link_free(l);
	return k < size;
}

static void every_offset_of_a_ticket(void **state)
{
	(void)state;
	/* each of the first 40, then those around where the first record ends (534) */
	for (size_t k = 0; k < 40; k++)
		assert_true(ticket_cut_at(k));
	for (size_t k = 525; k < 545; k++)
		assert_true(ticket_cut_at(k));
	for (size_t k = 551; ticket_cut_at(k); k += 13)
		;
}

/* ---- read-ahead ---- */

/* The last flight of the peer's handshake and data, in one segment. */
static void read_ahead(void **state)
{
	struct variant v = *(const struct variant *)*state;
	struct link *l;
	int err = -EAGAIN;
	struct tlsfd_report *r = NULL;

	v.wire = true;
	v.tickets = v.server ? 0 : 2;
	l = link_new(&v);
	SSL_CTX_set_read_ahead(l->us.ctx, 1);
	link_open(l);
	for (int i = 0; i < 10 && !SSL_is_init_finished(l->us.ssl); i++) {
		wire_carry(&l->peer);
		l->peer.wire->allowed = SSL_get_state(l->peer.ssl) == TLS_ST_BEFORE ? SIZE_MAX : 0;
		SSL_do_handshake(l->peer.ssl);
		if (SSL_is_init_finished(l->peer.ssl) && l->peer.sent == 0)
			peer_sends(l, 3000);
		let_all_go(l);
		SSL_do_handshake(l->us.ssl);
		wire_carry(&l->peer);
	}
	link_handshake(l, NULL);
	if (l->peer.sent == 0)
		peer_sends(l, 3000);
	err = tlsfd_handover(l->us.ssl, &l->us.conn, &r);
	printf("# read-ahead: %s\n", tlsfd_report_sentence(r));
	if (err == -EAGAIN) {
		assert_int_equal(tlsfd_report_why(r, TLSFD_RX), TLSFD_WHY_RECORD_READ);
		we_receive(l, 3000);
		assert_moves(l);
	} else if (err == 0) {
		l->us.via = VIA_CONN;
		we_receive(l, 3000);
		assert_goes_on(l);
	} else {
		assert_int_equal(err, -ENODATA);
		assert_int_equal(tlsfd_report_why(r, TLSFD_RX), TLSFD_WHY_READ_AHEAD);
		assert_refused_rx(l->us.ssl, -ENODATA, TLSFD_WHY_READ_AHEAD);
		we_receive(l, 3000);
		assert_goes_on(l);
		/* it stays so: the number of the next record can't be known any more */
		assert_refused_rx(l->us.ssl, -ENODATA, TLSFD_WHY_READ_AHEAD);
	}
	tlsfd_report_free(r);
	link_free(l);
}

/* Read-ahead alone, with nothing sent ahead, is no reason. */
static void read_ahead_of_nothing(void **state)
{
	struct link *l = link_new(*state);

	SSL_CTX_set_read_ahead(l->us.ctx, 1);
	link_connect(l);
	move(l, 1000, 1000);
	assert_moves(l);
	link_free(l);
}

/* ---- a record partly written ---- */

enum { CHUNK = 16384 };

static void partly_written(void **state)
{
	struct link *l = link_made(*state);
	struct flow flows[2];
	size_t unread;
	ssize_t n;

	while ((n = end_write(&l->us, pattern_at(l->us.sent), CHUNK)) > 0)
		l->us.sent += (uint64_t)n;
	assert_int_equal(n, -EAGAIN);
	assert_true(SSL_want_write(l->us.ssl));
	/* the reason is tx's also where OpenSSL has moved tx, and rx too */
	assert_refused_as(l->us.ssl,
			  &(struct refusal_expected){
				  -EAGAIN,
				  { BIO_get_ktls_recv(SSL_get_rbio(l->us.ssl)) ?
					    TLSFD_WHY_NONE :
					    TLSFD_WHY_OTHER_DIRECTION, 0 },
				  { TLSFD_WHY_RECORD_WRITTEN, 0 } });
	/* the peer reads, the same chunk goes out */
	unread = (size_t)(l->us.sent - l->peer.received) + CHUNK;
	flows[0] = (struct flow){ .end = &l->us, .out = true, .left = CHUNK, .chunk = CHUNK };
	flows[1] = (struct flow){ .end = &l->peer, .left = unread };
	expect(run_flows(flows, 2));
	assert_moves(l);
	link_free(l);
}

static void partly_written_under_openssl_ktls(void **state)
{
	struct variant v = *(const struct variant *)*state;
	void *with_ktls = &v;

	v.ktls = true;
	partly_written(&with_ktls);
}

/* ---- KeyUpdate ---- */

/* The peer asks for one of ours; it is answered with our next write. */
static void key_update_to_answer(void **state)
{
	struct link *l = link_made(*state);

	move(l, 100, 100);
	assert_int_equal(SSL_key_update(l->peer.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
	peer_sends(l, 10);
	we_receive(l, 10);
	assert_int_equal(SSL_get_key_update_type(l->us.ssl), SSL_KEY_UPDATE_NOT_REQUESTED);
	assert_refused_tx(l->us.ssl, -EAGAIN, TLSFD_WHY_RECORD_WRITTEN);
	move(l, 10, 0);
	assert_moves(l);
	link_free(l);
}

static void key_update_scheduled(void **state)
{
	struct link *l = link_made(*state);

	assert_int_equal(SSL_key_update(l->us.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
	assert_refused(l->us.ssl, -EAGAIN, TLSFD_WHY_RECORD_WRITTEN);
	move(l, 10, 10);
	assert_moves(l);
	link_free(l);
}

static void many_key_updates(void **state)
{
	struct link *l = link_made(*state);

	for (int i = 0; i < 20; i++) {
		assert_int_equal(SSL_key_update(i & 1 ? l->peer.ssl : l->us.ssl,
						SSL_KEY_UPDATE_REQUESTED), 1);
		move(l, 100, 100);
		move(l, 100, 100);
	}
	assert_moves(l);
	link_free(l);
}

/* Cut in the middle of a KeyUpdate's record. */
static void key_update_cut(void **state)
{
	for (size_t k = 1; k < 27; k++) {
		struct link *l = wired(*state);

		l->peer.wire->allowed = 0;
		assert_int_equal(SSL_key_update(l->peer.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		assert_int_equal(SSL_do_handshake(l->peer.ssl), 1);
		assert_int_equal(held(l), 27);
		let_go(l, k);
		read_in_vain(l);
		assert_refused_rx(l->us.ssl, -EAGAIN, TLSFD_WHY_RECORD_READ);
		let_all_go(l);
		read_in_vain(l);
		assert_moves(l);
		link_free(l);
	}
}

/* OpenSSL 3.0 and 3.1 with kTLS of their own leave the kernel's keys as they were. */
static void key_update_under_openssl_ktls(void **state)
{
	struct variant v = *(const struct variant *)*state;
	struct tlsfd_report *r = NULL;
	struct link *l;
	int err;

	v.ktls = true;
	l = link_made(&v);
	if (!BIO_get_ktls_send(SSL_get_wbio(l->us.ssl)))
		skip_because("this OpenSSL was built without kTLS");
	if (SSL_key_update(l->us.ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1 ||
	    SSL_do_handshake(l->us.ssl) != 1) {
		/* this OpenSSL refuses, and has ended the connection */
		printf("# OpenSSL refuses KeyUpdate over its own kTLS\n");
		ERR_clear_error();
		link_free(l);
		return;
	}
	err = tlsfd_handover(l->us.ssl, NULL, &r);
	printf("# %s\n", tlsfd_report_sentence(r));
	if (err) {
		assert_int_equal(err, -EOPNOTSUPP);
		assert_int_equal(tlsfd_report_why(r, TLSFD_TX), TLSFD_WHY_OPENSSL_REKEYED);
		assert_words(r, TLSFD_WHY_OPENSSL_REKEYED, 0);
	} else {
		l->us.via = VIA_FD;
		assert_goes_on(l);
	}
	tlsfd_report_free(r);
	link_free(l);
}

/* ---- */

enum { IN_12 = 1, IN_13 = 2, BOTH = 3 };

static const struct {
	const char *name;
	CMUnitTestFunction test;
	unsigned versions;
} tests[] = {
	{ "every byte offset of a record", every_offset_of_a_record, BOTH },
	{ "cut, and stays in user space", cut_and_stays_in_user_space, BOTH },
	{ "a record peeked at", peeked, BOTH },
	{ "a record read in part", read_in_part, BOTH },
	{ "read-ahead over the handshake's end", read_ahead, BOTH },
	{ "read-ahead of nothing", read_ahead_of_nothing, BOTH },
	{ "a record partly written", partly_written, BOTH },
	{ "a record partly written under OpenSSL's kTLS", partly_written_under_openssl_ktls, BOTH },
	{ "KeyUpdate to answer", key_update_to_answer, IN_13 },
	{ "KeyUpdate scheduled", key_update_scheduled, IN_13 },
	{ "KeyUpdates, many", many_key_updates, IN_13 },
	{ "KeyUpdate cut anywhere", key_update_cut, IN_13 },
	{ "KeyUpdate under OpenSSL's kTLS", key_update_under_openssl_ktls, IN_13 },
};

int main(int argc, char **argv)
{
	static const struct variant versions[] = { TLS12, TLS13 };

	for (size_t i = 0; i < LENGTH(tests); i++) {
		for (int k = 0; k < 4; k++) {
			struct variant v = versions[k / 2];

			v.server = k & 1;
			if (tests[i].versions & (k / 2 ? IN_13 : IN_12))
				suite_add(tests[i].test, &v, sizeof(v), "%s, TLS 1.%d %s", tests[i].name,
					  k / 2 ? 3 : 2, v.server ? "server" : "client");
		}
	}
	suite_add(every_offset_of_a_ticket, NULL, 0, "a client's ticket cut anywhere");
	return suite_run(argc, argv);
}
