/*
 * Every record that is not data, nor an alert, and what is no record at all, from a peer
 * that makes them by hand; in the kernel, in user space and half-moved: one table of answers.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "control.h"
#include "ending.h"
#include "suite.h"

/* ---- what the peer does ---- */

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

/* RFC 6520: a request with 4 bytes of payload and 16 of padding. */
static void heartbeat(struct raw_peer *p)
{
	static const uint8_t request[23] = { 1, 0, 4, 'b', 'e', 'a', 't' };

	say(p, "before");
	raw_send(p, 24, request, sizeof(request));
	say(p, "wrong");
}

static void type_255(struct raw_peer *p)
{
	say(p, "before");
	raw_send(p, 255, "?", 1);
	say(p, "wrong");
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

/* ---- what is to come of it ---- */

static const struct ending endings[] = {
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
	{ .name = "heartbeat",
	  WHEN(BOTH, ANY),
	  .act = heartbeat,
	  .want = { .data = "before", .result = -EPROTO, .alert = NONE, .reply = 10, .dead = true } },
	{ .name = "type 255",
	  WHEN(BOTH, ANY),
	  .act = type_255,
	  .want = { .data = "before", .result = -EPROTO, .alert = NONE, .reply = 10, .dead = true } },
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
};

int main(int argc, char **argv)
{
	return endings_run(endings, LENGTH(endings), argc, argv);
}
