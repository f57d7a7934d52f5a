/*
 * Every way that a connection ends, and every record that is not data, against a peer
 * that makes its records by hand; in the kernel, in user space and half-moved: one
 * table of answers.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "control.h"
#include "place.h"
#include "suite.h"

enum { V12 = 1, V13 = 2, BOTH = V12 | V13 };
enum { CLIENT = 1, SERVER = 2, ANY = CLIENT | SERVER }; /* the end under test */
enum { NONE = -1, SOME = -2 };				/* alerts */

struct answer {
	const char *data; /* that is delivered, "before" in front */
	int result;	  /* of tlsfd_read in the end */
	int alert;	  /* tlsfd_alert */
	int reply;	  /* the fatal alert that the peer gets; SOME: any */
	unsigned skipped;
	unsigned refusals; /* warnings no_renegotiation that the peer gets */
	bool dead;	   /* tlsfd_write says -EPIPE */
};

struct ending {
	const char *name;
	unsigned versions, roles;
	void (*act)(struct raw_peer *p);
	struct answer want;
	const struct answer *want_openssl; /* where OpenSSL takes the records, if it differs */
	bool one_end_only;		   /* the peer's socket is gone afterwards */
};

/* ---- what the peer does ---- */

static void say(struct raw_peer *p, const char *text)
{
	raw_send(p, 23, text, strlen(text));
}

static void bye(struct raw_peer *p)
{
	raw_send_alert(p, 1, 0);
}

static void after(struct raw_peer *p)
{
	say(p, "after");
	bye(p);
}

static void data_after_bye(struct raw_peer *p)
{
	bye(p);
	say(p, "too late");
}

static void fatal_bye(struct raw_peer *p)
{
	raw_send_alert(p, 2, 0);
}

static void half_record(struct raw_peer *p)
{
	uint8_t record[RAW_RECORD_MAX];

	raw_seal(p, 23, "never whole", 11, record);
	raw_send_bytes(p, record, 17);
	raw_fin(p);
}

static void half_header(struct raw_peer *p)
{
	raw_send_bytes(p, "\x17\x03", 2);
	raw_fin(p);
}

static void handshake_failure(struct raw_peer *p)
{
	raw_send_alert(p, 2, 40);
}

static void mild_handshake_failure(struct raw_peer *p)
{
	raw_send_alert(p, 1, 40);
	after(p);
}

static void user_canceled(struct raw_peer *p)
{
	raw_send_alert(p, 1, 90);
	after(p);
}

static void fatal_user_canceled(struct raw_peer *p)
{
	raw_send_alert(p, 2, 90);
}

static void no_renegotiation(struct raw_peer *p)
{
	raw_send_alert(p, 1, 100);
}

static void level_3(struct raw_peer *p)
{
	raw_send_alert(p, 3, 40);
}

static void four_warnings(struct raw_peer *p)
{
	for (int i = 0; i < 4; i++)
		raw_send_alert(p, 1, 90);
	after(p);
}

static void five_warnings(struct raw_peer *p)
{
	for (int i = 0; i < 5; i++)
		raw_send_alert(p, 1, 90);
}

static void empty_alert(struct raw_peer *p)
{
	raw_send(p, 21, NULL, 0);
}

static void one_byte_alert(struct raw_peer *p)
{
	raw_send(p, 21, "\x01", 1);
	raw_send(p, 21, "\x00", 1);
}

static void two_alerts(struct raw_peer *p)
{
	raw_send(p, 21, "\x01\x5a\x01\x00", 4);
}

static void empty_handshake(struct raw_peer *p)
{
	raw_send(p, 22, NULL, 0);
	after(p);
}

static void empty_data(struct raw_peer *p)
{
	raw_send(p, 23, NULL, 0);
	raw_send(p, 23, NULL, 0);
	after(p);
}

/* lifetime, age_add, nonce, ticket, no extensions: RFC 8446 section 4.6.1 */
static const uint8_t ticket[] = {
	4, 0, 0, 21, 0, 0, 2, 88, 1, 2, 3, 4, 1, 0, 0, 8, 't', 'i', 'c', 'k', 'e', 't', 'e', 'd', 0,
};

static size_t ticket_of(uint8_t *to)
{
	memcpy(to, ticket, sizeof(ticket));
	to[3] = sizeof(ticket) - 4 + 1;
	to[sizeof(ticket)] = 0;
	return sizeof(ticket) + 1;
}

static void send_ticket(struct raw_peer *p)
{
	uint8_t message[64];

	raw_send(p, 22, message, ticket_of(message));
}

static void tickets(struct raw_peer *p)
{
	uint8_t two[128];
	size_t n = ticket_of(two);

	send_ticket(p);
	say(p, "be");
	ticket_of(two + n);
	raw_send(p, 22, two, 2 * n);
	raw_send(p, 22, two, 3);
	raw_send(p, 22, two + 3, 7);
	raw_send(p, 22, two + 10, n - 10);
	after(p);
}

static void data_in_ticket(struct raw_peer *p)
{
	uint8_t message[64];

	ticket_of(message);
	raw_send(p, 22, message, 10);
	say(p, "wrong");
}

static void long_ticket(struct raw_peer *p)
{
	raw_send(p, 22, "\x04\x03\x00\x00", 4);
}

enum { MANY = 1200 };

static void many_tickets(struct raw_peer *p)
{
	for (int i = 0; i < MANY; i++)
		send_ticket(p);
}

static void hello_request(struct raw_peer *p)
{
	raw_send(p, 22, "\0\0\0\0", 4);
	after(p);
}

static void client_hello(struct raw_peer *p)
{
	static const uint8_t message[44] = { 1, 0, 0, 40, 3, 3 };

	raw_send(p, 22, message, sizeof(message));
	after(p);
}

static void message(struct raw_peer *p, uint8_t type)
{
	uint8_t bytes[36] = { type, 0, 0, 32 };

	raw_send(p, 22, bytes, sizeof(bytes));
}

static void certificate_request(struct raw_peer *p)
{
	message(p, 13);
}

static void finished(struct raw_peer *p)
{
	message(p, 20);
}

static void unknown_message(struct raw_peer *p)
{
	message(p, 77);
}

static void change_cipher_spec(struct raw_peer *p)
{
	raw_send(p, 20, "\x01", 1);
}

static void plain_change_cipher_spec(struct raw_peer *p)
{
	raw_send_bytes(p, "\x14\x03\x03\x00\x01\x01", 6);
}

static void type_99(struct raw_peer *p)
{
	raw_send(p, 99, "what?", 5);
}

static void bad_tag(struct raw_peer *p)
{
	uint8_t record[RAW_RECORD_MAX];
	size_t n = raw_seal(p, 23, "forged", 6, record);

	record[n - 1] ^= 1;
	raw_send_bytes(p, record, n);
	say(p, "after");
}

static void too_long(struct raw_peer *p)
{
	static const uint8_t bytes[1000] = { 23, 3, 3, 255, 255 };

	raw_send_bytes(p, bytes, sizeof(bytes));
}

/* But within what RFC 8446 section 5.2 lets a ciphertext be. */
static void a_little_too_long(struct raw_peer *p)
{
	static const uint8_t bytes[5 + 16410] = { 23, 3, 3, 16410 >> 8, 16410 & 255 };

	raw_send_bytes(p, bytes, sizeof(bytes));
}

static void too_short(struct raw_peer *p)
{
	raw_send_bytes(p, "\x17\x03\x03\x00\x05hello\x17\x03\x03\x00\x05hello", 20);
}

static void old_version(struct raw_peer *p)
{
	static const uint8_t bytes[5 + 64] = { 23, 3, 1, 0, 64 };

	raw_send_bytes(p, bytes, sizeof(bytes));
}

static void http(struct raw_peer *p)
{
	static const char text[9000] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

	raw_send_bytes(p, text, sizeof(text));
}

/* Everything that goes on, in one stream that is cut at every byte. */
static void byte_by_byte(struct raw_peer *p)
{
	uint8_t stream[1024];
	size_t n = raw_seal(p, 23, "be", 2, stream);

	n += raw_seal(p, 21, (uint8_t[]){ 1, 90 }, 2, stream + n);
	n += raw_seal(p, 23, "tween", 5, stream + n);
	n += raw_seal(p, 23, NULL, 0, stream + n);
	n += raw_seal(p, 21, (uint8_t[]){ 1, 90 }, 2, stream + n);
	n += raw_seal(p, 21, (uint8_t[]){ 1, 0 }, 2, stream + n);
	for (size_t i = 0; i < n; i++)
		raw_send_bytes(p, stream + i, 1);
}

/* ---- what is to come of it ---- */

#define DEAD(error, number)                                                                        \
	{                                                                                          \
		.result = error, .alert = NONE, .reply = number, .dead = true,                     \
	}
#define GOES_ON(text, skips)                                                                       \
	{                                                                                          \
		.data = text, .alert = NONE, .reply = NONE, .skipped = skips                       \
	}
#define WHEN(v, r) .versions = v, .roles = r
#define LIKE(...)  (&(const struct answer)__VA_ARGS__)

static const struct ending endings[] = {
	{ .name = "close_notify", WHEN(BOTH, ANY), .act = bye, .want = GOES_ON("", 0) },
	{ .name = "data after close_notify",
	  WHEN(BOTH, ANY),
	  .act = data_after_bye,
	  .want = GOES_ON("", 0) },
	{ .name = "close_notify as a fatal alert 1.3",
	  WHEN(V13, ANY),
	  .act = fatal_bye,
	  .want = GOES_ON("", 0) },
	{ .name = "close_notify as a fatal alert 1.2",
	  WHEN(V12, ANY),
	  .act = fatal_bye,
	  .want = { .result = -EPROTO, .alert = 0, .reply = NONE, .dead = true } },
	{ .name = "FIN",
	  WHEN(BOTH, ANY),
	  .act = raw_fin,
	  .want = { .result = -ECONNABORTED, .alert = NONE, .reply = NONE } },
	{ .name = "FIN in a record",
	  WHEN(BOTH, ANY),
	  .act = half_record,
	  .want = { .result = -ECONNABORTED, .alert = NONE, .reply = NONE } },
	{ .name = "FIN in a header",
	  WHEN(BOTH, ANY),
	  .act = half_header,
	  .want = { .result = -ECONNABORTED, .alert = NONE, .reply = NONE } },
	{ .name = "RST",
	  WHEN(BOTH, ANY),
	  .act = raw_reset,
	  .want = DEAD(-ECONNRESET, NONE),
	  .one_end_only = true },

	{ .name = "fatal alert",
	  WHEN(BOTH, ANY),
	  .act = handshake_failure,
	  .want = { .result = -EPROTO, .alert = 40, .reply = NONE, .dead = true } },
	{ .name = "alert at level warning 1.3",
	  WHEN(V13, ANY),
	  .act = mild_handshake_failure,
	  .want = { .result = -EPROTO, .alert = 40, .reply = NONE, .dead = true } },
	{ .name = "alert at level warning 1.2",
	  WHEN(V12, ANY),
	  .act = mild_handshake_failure,
	  .want = GOES_ON("after", 1) },
	{ .name = "user_canceled",
	  WHEN(BOTH, ANY),
	  .act = user_canceled,
	  .want = GOES_ON("after", 1) },
	{ .name = "fatal user_canceled",
	  WHEN(V12, ANY),
	  .act = fatal_user_canceled,
	  .want = { .result = -EPROTO, .alert = 90, .reply = NONE, .dead = true } },
	{ .name = "no_renegotiation",
	  WHEN(V12, ANY),
	  .act = no_renegotiation,
	  .want = DEAD(-EPROTO, 40) },
	{ .name = "alert of level 3", WHEN(V12, ANY), .act = level_3, .want = DEAD(-EPROTO, 47) },
	{ .name = "four warnings",
	  WHEN(BOTH, ANY),
	  .act = four_warnings,
	  .want = GOES_ON("after", 4) },
	{ .name = "five warnings",
	  WHEN(BOTH, ANY),
	  .act = five_warnings,
	  .want = { .result = -EPROTO, .alert = NONE, .reply = 10, .skipped = 5, .dead = true } },
	{ .name = "empty alert", WHEN(BOTH, ANY), .act = empty_alert, .want = DEAD(-EPROTO, 10) },
	{ .name = "alert in two records",
	  WHEN(BOTH, ANY),
	  .act = one_byte_alert,
	  .want = DEAD(-EPROTO, 10) },
	{ .name = "two alerts in a record",
	  WHEN(BOTH, ANY),
	  .act = two_alerts,
	  .want = DEAD(-EPROTO, 10) },

	{ .name = "empty handshake record 1.3",
	  WHEN(V13, ANY),
	  .act = empty_handshake,
	  .want = DEAD(-EPROTO, 10) },
	{ .name = "empty handshake record 1.2",
	  WHEN(V12, ANY),
	  .act = empty_handshake,
	  .want = GOES_ON("after", 0) },
	{ .name = "empty data records",
	  WHEN(BOTH, ANY),
	  .act = empty_data,
	  .want = GOES_ON("after", 0) },
	{ .name = "tickets at a client",
	  WHEN(V13, CLIENT),
	  .act = tickets,
	  .want = GOES_ON("beafter", 4) },
	{ .name = "ticket at a server",
	  WHEN(V13, SERVER),
	  .act = tickets,
	  .want = DEAD(-EPROTO, 10) },
	{ .name = "ticket in TLS 1.2", WHEN(V12, ANY), .act = tickets, .want = DEAD(-EPROTO, 10) },
	{ .name = "data inside a ticket",
	  WHEN(V13, CLIENT),
	  .act = data_in_ticket,
	  .want = DEAD(-EPROTO, 10) },
	{ .name = "ticket of 192 KiB",
	  WHEN(V13, CLIENT),
	  .act = long_ticket,
	  .want = DEAD(-EPROTO, 47) },
	{ .name = "1200 tickets",
	  WHEN(V13, CLIENT),
	  .act = many_tickets,
	  .want = { .result = -EPROTO, .alert = NONE, .reply = 10, .skipped = CONTROL_BUDGET, .dead = true },
	  .want_openssl = LIKE({ .result = -EPROTO,
				 .alert = NONE,
				 .reply = SOME,
				 .skipped = CONTROL_BUDGET,
				 .dead = true }) },
	{ .name = "CertificateRequest",
	  WHEN(BOTH, ANY),
	  .act = certificate_request,
	  .want = DEAD(-EPROTO, 10) },
	{ .name = "Finished", WHEN(BOTH, ANY), .act = finished, .want = DEAD(-EPROTO, 10) },
	{ .name = "unknown message",
	  WHEN(BOTH, ANY),
	  .act = unknown_message,
	  .want = DEAD(-EPROTO, 10) },
	{ .name = "HelloRequest at a client 1.2",
	  WHEN(V12, CLIENT),
	  .act = hello_request,
	  .want = { .data = "after", .alert = NONE, .reply = NONE, .skipped = 1, .refusals = 1 } },
	{ .name = "ClientHello at a server 1.2",
	  WHEN(V12, SERVER),
	  .act = client_hello,
	  .want = { .data = "after", .alert = NONE, .reply = NONE, .skipped = 1, .refusals = 1 } },
	{ .name = "HelloRequest at a server 1.2",
	  WHEN(V12, SERVER),
	  .act = hello_request,
	  .want = DEAD(-EPROTO, 10) },
	{ .name = "ClientHello at a client 1.2",
	  WHEN(V12, CLIENT),
	  .act = client_hello,
	  .want = DEAD(-EPROTO, 10) },
	{ .name = "HelloRequest 1.3",
	  WHEN(V13, ANY),
	  .act = hello_request,
	  .want = DEAD(-EPROTO, 10) },
	{ .name = "ClientHello 1.3",
	  WHEN(V13, ANY),
	  .act = client_hello,
	  .want = DEAD(-EPROTO, 10) },

	{ .name = "ChangeCipherSpec",
	  WHEN(BOTH, ANY),
	  .act = change_cipher_spec,
	  .want = DEAD(-EPROTO, 10) },
	{ .name = "ChangeCipherSpec in the clear",
	  WHEN(V13, ANY),
	  .act = plain_change_cipher_spec,
	  .want = DEAD(-EBADMSG, 20),
	  .want_openssl = LIKE(DEAD(-EBADMSG, SOME)) },
	{ .name = "type 99", WHEN(BOTH, ANY), .act = type_99, .want = DEAD(-EPROTO, 10) },
	{ .name = "bad tag", WHEN(BOTH, ANY), .act = bad_tag, .want = DEAD(-EBADMSG, 20) },
	{ .name = "too long", WHEN(BOTH, ANY), .act = too_long, .want = DEAD(-EMSGSIZE, 22) },
	{ .name = "a little too long",
	  WHEN(BOTH, ANY),
	  .act = a_little_too_long,
	  .want = DEAD(-EMSGSIZE, 22),
	  .want_openssl = LIKE(DEAD(-EMSGSIZE, SOME)) },
	{ .name = "too short",
	  WHEN(BOTH, ANY),
	  .act = too_short,
	  .want = DEAD(-EBADMSG, 20),
	  .want_openssl = LIKE(DEAD(-EBADMSG, SOME)) },
	{ .name = "old version 1.3",
	  WHEN(V13, ANY),
	  .act = old_version,
	  .want = DEAD(-EINVAL, 50),
	  .want_openssl = LIKE(DEAD(-EINVAL, SOME)) },
	{ .name = "old version 1.2",
	  WHEN(V12, ANY),
	  .act = old_version,
	  .want = DEAD(-EINVAL, 70) },
	{ .name = "HTTP", WHEN(BOTH, ANY), .act = http, .want = DEAD(-EINVAL, SOME) },
	{ .name = "byte by byte",
	  WHEN(BOTH, ANY),
	  .act = byte_by_byte,
	  .want = GOES_ON("between", 2) },
};

/* ---- one connection ---- */

struct run {
	const struct ending *ending;
	struct raw_variant v;
	enum place place;
	size_t chunk; /* most per tlsfd_read */
	bool blocking;
	bool write_first; /* before anything is read */
};

static struct answer wanted(const struct run *r)
{
	bool openssl = !place_in_kernel(r->place, TLSFD_RX);
	struct answer want = r->ending->want;

	if (openssl && r->ending->want_openssl)
		want = *r->ending->want_openssl;
	if (r->place == RX_KERNEL) { /* see userspace_alert */
		want.refusals = 0;
		if (want.reply != NONE)
			want.reply = SOME;
	}
	return want;
}

/* The same wherever the records are read. */
static const char *sentence_of(const struct answer *want)
{
	switch (want->result) {
	case 0:
		return "(none)";
	case -ECONNABORTED:
		return "the peer ended TCP without close_notify";
	case -ECONNRESET:
		return "the peer reset the connection";
	case -EBADMSG:
		return "a record did not decrypt";
	case -EMSGSIZE:
		return "the peer sent a record that is too long";
	case -EINVAL:
		return "the peer sent something that is no TLS record";
	case -EKEYEXPIRED:
		return "the peer changed its keys (KeyUpdate)";
	default:
		return want->alert == NONE ? "the peer sent a record that has no place here" :
					     "the peer sent a fatal alert";
	}
}

static void check_reading(struct tested *t, const struct run *r, const struct answer *want)
{
	char data[256] = "", buf[16384];
	ssize_t n;

	while ((n = patient_read(t, buf, r->chunk)) > 0) {
		assert_true(strlen(data) + (size_t)n < sizeof(data));
		strncat(data, buf, (size_t)n);
	}
	assert_memory_equal(data, "before", 6);
	assert_string_equal(data + 6, want->data ? want->data : "");
	for (int again = 0; again < 3; again++) {
		assert_int_equal(n, want->result);
		n = tlsfd_read(t->c, buf, r->chunk);
	}
	assert_int_equal(tlsfd_alert(t->c), want->alert);
	assert_string_equal(tlsfd_error(t->c) ? tlsfd_error(t->c) : "(none)", sentence_of(want));
}

static void expect_alert(struct tested *t, int level, int number)
{
	uint8_t type = 0, data[16384];
	ssize_t n = raw_receive(&t->peer, &type, data);

	assert_int_equal(n, 2);
	assert_int_equal(type, 21);
	assert_int_equal(data[0], level);
	if (number != SOME)
		assert_int_equal(data[1], number);
}

static void check_writing(struct tested *t, const struct answer *want)
{
	uint8_t type = 0, data[16384];

	for (unsigned i = 0; i < want->refusals; i++)
		expect_alert(t, 1, 100);
	if (want->reply != NONE)
		expect_alert(t, 2, want->reply);
	if (want->dead) {
		for (int again = 0; again < 3; again++)
			assert_int_equal(tlsfd_write(t->c, "x", 1), -EPIPE);
		assert_int_equal(tlsfd_shutdown(t->c), -EPIPE);
		return;
	}
	assert_int_equal(patient_write(t, "answer", 6), 6);
	assert_int_equal(raw_receive(&t->peer, &type, data), 6);
	assert_int_equal(type, 23);
	assert_memory_equal(data, "answer", 6);
	assert_int_equal(tlsfd_shutdown(t->c), 0);
	assert_int_equal(tlsfd_shutdown(t->c), 0);
	expect_alert(t, 1, 0);
	assert_int_equal(raw_receive(&t->peer, &type, data), -1);
	assert_int_equal(tlsfd_write(t->c, "x", 1), -EPIPE);
}

/* A writer who comes upon what the reader has not read: what is wrong with it is for the
 * reader to tell. */
static void write_unread(struct tested *t, const struct answer *want)
{
	ssize_t sent = tlsfd_write(t->c, "early", 5);
	uint8_t type = 0, data[16384];

	assert_true(sent == 5 || (sent == -EPIPE && want->dead) ||
		    (sent == -ECONNRESET && want->result == -ECONNRESET));
	if (sent == 5 && want->result != -ECONNRESET) {
		assert_int_equal(raw_receive(&t->peer, &type, data), 5);
		assert_memory_equal(data, "early", 5);
	}
}

static void check_counters(struct tested *t, const struct answer *want)
{
	struct tlsfd_counters n;

	assert_int_equal(tlsfd_counters(t->c, &n), 0);
	if (want->skipped == CONTROL_BUDGET) /* each second pays some back */
		assert_true(n.skipped >= CONTROL_BUDGET && n.skipped < MANY);
	else
		assert_int_equal(n.skipped, want->skipped);
	assert_true(n.rx_records >= 1 || want->result); /* ChangeCipherSpec sets it back */
	assert_true(n.rx_bytes > 100 && n.tx_bytes > 100);
}

static void test_ending(void **state)
{
	const struct run *r = *state;
	struct answer want = wanted(r);
	struct tested t;

	place_connect(&t, &r->v, r->place);
	if (r->blocking)
		place_block(&t);
	say(&t.peer, "before");
	r->ending->act(&t.peer);
	if (r->write_first)
		write_unread(&t, &want);
	check_reading(&t, r, &want);
	check_counters(&t, &want);
	if (r->ending->one_end_only)
		assert_int_equal(tlsfd_write(t.c, "x", 1), r->write_first ? -ECONNRESET : -EPIPE);
	else
		check_writing(&t, &want);
	place_close(&t);
}

/* ---- all of them ---- */

static void add(const struct ending *e, bool tls13, bool server, enum place place)
{
	struct run r = { .ending = e, .v = { .tls13 = tls13, .server = server }, .place = place };
	static const struct {
		size_t chunk;
		bool blocking, write_first;
		const char *name;
	} ways[] = { { 16384, false, false, "" },
		     { 1, false, false, " by 1" },
		     { 4, true, false, " blocking" },
		     { 16384, false, true, " after a write" } };

	for (size_t i = 0; i < LENGTH(ways) && place_expected(place); i++) {
		r.chunk = ways[i].chunk;
		r.blocking = ways[i].blocking;
		r.write_first = ways[i].write_first;
		suite_add(test_ending, &r, sizeof(r), "%s: TLS 1.%d %s %s%s", e->name,
			  tls13 ? 3 : 2, server ? "server" : "client", place_names[place],
			  ways[i].name);
	}
}

int main(int argc, char **argv)
{
	suite_slice(3);
	for (size_t i = 0; i < LENGTH(endings); i++)
		for (int kind = 0; kind < 4 * PLACES; kind++) {
			const struct ending *e = &endings[i];
			bool tls13 = kind & 1, server = kind & 2;

			if (e->versions & (tls13 ? V13 : V12) &&
			    e->roles & (server ? SERVER : CLIENT))
				add(e, tls13, server, (enum place)(kind / 4));
		}
	return suite_run(argc, argv);
}
