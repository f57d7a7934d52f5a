/*
 * No pair of key and nonce twice: the peer's socket records every record, and the
 * explicit nonces of TLS 1.2 go on by one from OpenSSL's Finished to the kernel's
 * last alert. In TLS 1.3, where they are implied, every record opens in order.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "ktls.h"
#include "refused.h"
#include "suite.h"
#include "sys.h"

struct row {
	struct variant v;
	int before; /* writes through OpenSSL before the handover */
};

static uint64_t be64(const uint8_t *p)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n = n << 8 | p[i];
	return n;
}

/* What is seen of one direction of a connection. */
struct seen {
	size_t encrypted, alerts; /* records after ChangeCipherSpec */
	uint64_t first, last;     /* explicit nonces */
};

/* Every byte that we sent, record by record; TLS 1.2. */
static struct seen look(const struct bytes *b)
{
	struct seen s = { 0 };
	bool encrypted = false;
	size_t at = 0;

	while (at + 5 <= b->size) {
		const uint8_t *rec = b->data + at;
		size_t n = (size_t)(rec[3] << 8 | rec[4]);

		assert_true(rec[0] >= RECORD_CHANGE_CIPHER_SPEC && rec[0] <= RECORD_DATA);
		assert_true(at + 5 + n <= b->size);
		at += 5 + n;
		if (encrypted) {
			uint64_t nonce = be64(rec + 5);

			if (s.encrypted == 0)
				s.first = nonce;
			else if (nonce != s.last + 1)
				fail_msg("record %zu: nonce %#llx after %#llx", s.encrypted,
					 (unsigned long long)nonce, (unsigned long long)s.last);
			s.last = nonce;
			s.encrypted++;
			s.alerts += rec[0] == RECORD_ALERT;
		}
		encrypted |= rec[0] == RECORD_CHANGE_CIPHER_SPEC;
	}
	assert_int_equal(at, b->size);
	return s;
}

static void few_writes(struct link *l, int count)
{
	for (int i = 0; i < count; i++)
		move(l, 100, 100);
}

/* Everything that was sent has arrived and opened at the peer, the alert included. */
static void close_and_drain(struct link *l)
{
	char byte;
	int ret;

	assert_int_equal(tlsfd_shutdown(l->us.conn), 0);
	do {
		wait_for(l->peer.fd, POLLIN);
		wire_carry(&l->peer);
		ret = SSL_read(l->peer.ssl, &byte, 1);
	} while (SSL_get_error(l->peer.ssl, ret) == SSL_ERROR_WANT_READ);
	assert_int_equal(SSL_get_error(l->peer.ssl, ret), SSL_ERROR_ZERO_RETURN);
}

static struct link *connected(const struct row *row)
{
	struct variant v = row->v;
	struct link *l;

	v.wire = true;
	l = link_made(&v);
	few_writes(l, row->before);
	return l;
}

/* TLS 1.2: Finished, the writes before, then those of the kernel, one by one. */
static void explicit_nonces_go_on(void **state)
{
	const struct row *row = *state;
	struct link *l = connected(row);
	struct seen before = look(&l->peer.wire->received), after;

	assert_int_equal(before.encrypted, 1 + row->before);
	hand_over(l, VIA_CONN);
	few_writes(l, 5);
	move(l, 300000, 0);
	close_and_drain(l);
	after = look(&l->peer.wire->received);
	assert_int_equal(after.first, before.first);
	assert_true(after.encrypted >= before.encrypted + 5 + 300000 / 16384 + 1);
	assert_int_equal(after.last, before.first + after.encrypted - 1);
	assert_int_equal(after.alerts, 1);
	link_free(l);
}

static int no_tx(int fd, int level, int name)
{
	(void)fd;
	return level == SOL_TLS && name == TLS_TX ? -ENOBUFS : 0;
}

/* RX moved, TX refused: OpenSSL writes on, and then the kernel does. */
static void nonces_of_a_handover_in_two_steps(void **state)
{
	const struct row *row = *state;
	struct link *l = connected(row);
	struct tlsfd *half;

	sys_fault = no_tx;
	assert_int_equal(tlsfd_handover(l->us.ssl, &l->us.conn, NULL), -ENOMEM);
	l->us.via = VIA_CONN;
	few_writes(l, 7);
	sys_fault = NULL;
	half = l->us.conn;
	assert_int_equal(tlsfd_handover(l->us.ssl, &l->us.conn, NULL), 0);
	tlsfd_free(half);
	few_writes(l, 7);
	close_and_drain(l);
	if (l->v.version == TLS1_2_VERSION)
		assert_int_equal(look(&l->peer.wire->received).encrypted, 1 + row->before + 14 + 1);
	link_free(l);
}

/* The starts are random: two connections don't begin alike. */
static void starts_differ(void **state)
{
	const struct row *row = *state;
	uint64_t first[4];

	for (size_t i = 0; i < LENGTH(first); i++) {
		struct link *l = connected(row);

		first[i] = look(&l->peer.wire->received).first;
		for (size_t k = 0; k < i; k++)
			assert_true(first[i] != first[k]);
		link_free(l);
	}
}

/* What the kernel will use next, as it says itself. */
static uint64_t kernel_number(int fd, int option)
{
	struct tls12_crypto_info_aes_gcm_128 info;
	socklen_t len = sizeof(info);

	assert_int_equal(getsockopt(fd, SOL_TLS, option, &info, &len), 0);
	return be64(info.rec_seq);
}

/*
 * TLS 1.3: the peer opens records with the next number and no other, so all that
 * arrives proves it. And the kernel's own count starts where OpenSSL's ended: the
 * tickets and the data of before.
 */
static void numbers_go_on(void **state)
{
	const struct row *row = *state;
	struct link *l = connected(row);
	uint64_t tickets = (uint64_t)row->v.tickets;
	uint64_t tx = (uint64_t)row->before + (row->v.server ? tickets : 0);
	uint64_t rx = (uint64_t)row->before + (row->v.server || !row->before ? 0 : tickets);

	hand_over(l, VIA_CONN);
	assert_int_equal(kernel_number(l->us.fd, TLS_TX), tx);
	assert_int_equal(kernel_number(l->us.fd, TLS_RX), rx);
	few_writes(l, 5);
	assert_int_equal(kernel_number(l->us.fd, TLS_TX), tx + 5);
	assert_int_equal(kernel_number(l->us.fd, TLS_RX),
			 (uint64_t)row->before + 5 + (row->v.server ? 0 : tickets));
	move(l, 300000, 300000);
	close_and_drain(l);
	link_free(l);
}

static const char *const suites12[] = {
	"ECDHE-ECDSA-AES128-GCM-SHA256",
	"ECDHE-ECDSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-AES128-CCM",
};

int main(int argc, char **argv)
{
	static const int befores[] = { 0, 1, 50 };

	for (int server = 0; server < 2; server++) {
		struct row gcm = { TLS12, 2 };
		struct row tls13 = { TLS13, 2 };

		for (size_t i = 0; i < LENGTH(suites12) * LENGTH(befores); i++) {
			struct row row = { { .version = TLS1_2_VERSION, .suite = suites12[i / 3],
					     .server = server }, befores[i % 3] };

			suite_add(explicit_nonces_go_on, &row, sizeof(row),
				  "explicit nonces go on, %s %s, %d writes before", row.v.suite,
				  server ? "server" : "client", row.before);
		}
		for (int tickets = 0; tickets < 3; tickets += 2) {
			for (size_t i = 0; i < LENGTH(befores); i++) {
				struct row row = { TLS13, befores[i] };

				row.v.server = server;
				row.v.tickets = tickets;
				suite_add(numbers_go_on, &row, sizeof(row),
					  "numbers go on, TLS 1.3 %s, %d tickets, %d writes before",
					  server ? "server" : "client", tickets, row.before);
			}
		}
		gcm.v.server = tls13.v.server = server;
		suite_add(nonces_of_a_handover_in_two_steps, &gcm, sizeof(gcm),
			  "in two steps, TLS 1.2 %s", server ? "server" : "client");
		suite_add(nonces_of_a_handover_in_two_steps, &tls13, sizeof(tls13),
			  "in two steps, TLS 1.3 %s", server ? "server" : "client");
		suite_add(starts_differ, &gcm, sizeof(gcm), "starts differ, TLS 1.2 %s",
			  server ? "server" : "client");
	}
	return suite_run(argc, argv);
}
