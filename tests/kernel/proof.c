/*
 * That it is the kernel which makes the records: its counters and its record numbers
 * move, and what is on the wire opens with the keys that the peer logged.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <linux/tls.h>
#include <net/if.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "decrypt.h"
#include "link.h"
#include "suite.h"

static void expect(const char *what_went_wrong)
{
	if (what_went_wrong)
		fail_msg("%s", what_went_wrong);
}

/* ---- the counters ---- */

static const char *const counters[] = {
	"TlsTxSw", "TlsRxSw", "TlsCurrTxSw", "TlsCurrRxSw", "TlsDecryptError",
};
enum { TX_SW, RX_SW, CURRENT_TX_SW, CURRENT_RX_SW, DECRYPT_ERROR, COUNTERS };

static void read_counters(long values[COUNTERS])
{
	for (int i = 0; i < COUNTERS; i++) {
		values[i] = tls_stat(counters[i]);
		assert_true(values[i] >= 0);
	}
}

static void expect_counters(const long before[COUNTERS], int total, int current)
{
	const int more[COUNTERS] = { total, total, current, current, 0 };
	long now[COUNTERS];

	read_counters(now);
	for (int i = 0; i < COUNTERS; i++)
		if (now[i] != before[i] + more[i])
			fail_msg("%s went from %ld to %ld instead of %ld", counters[i], before[i],
				 now[i], before[i] + more[i]);
}

static void test_counters(void **state)
{
	struct link *l = link_new(*state);
	long before[COUNTERS];

	read_counters(before);
	link_connect(l);
	if (!l->v.ktls)
		expect_counters(before, 0, 0);
	hand_over(l, VIA_FD);
	expect_counters(before, 1, 1);
	leave_openssl(l);
	move(l, 100000, 100000);
	expect_counters(before, 1, 1);
	link_disconnect(l);
	expect_counters(before, 1, 0);
	link_free(l);
}

/* ---- the kernel's record numbers ---- */

struct kernel_keys {
	uint8_t bytes[56];
	socklen_t size;
};

static socklen_t info_size(SSL *ssl)
{
	switch (SSL_CIPHER_get_cipher_nid(SSL_get_current_cipher(ssl))) {
	case NID_aes_256_gcm:
		return sizeof(struct tls12_crypto_info_aes_gcm_256);
	case NID_chacha20_poly1305:
		return sizeof(struct tls12_crypto_info_chacha20_poly1305);
	default: /* CCM has the same */
		return sizeof(struct tls12_crypto_info_aes_gcm_128);
	}
}

static uint64_t big_endian(const uint8_t *p)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | p[i];
	return value;
}

static void get_keys(int fd, int option, struct kernel_keys *k)
{
	socklen_t size = k->size;

	assert_int_equal(getsockopt(fd, 282, option, k->bytes, &size), 0);
	assert_int_equal(size, k->size);
}

/* rec_seq is the last field of all of them, iv the first. */
static uint64_t record_number(int fd, int option, socklen_t size)
{
	struct kernel_keys k = { .size = size };

	get_keys(fd, option, &k);
	return big_endian(k.bytes + k.size - 8);
}

static uint64_t nonce_number(int fd, socklen_t size)
{
	struct kernel_keys k = { .size = size };

	get_keys(fd, TLS_TX, &k);
	return big_endian(k.bytes + sizeof(struct tls_crypto_info));
}

static void one_record_each_way(struct link *l)
{
	move(l, 10, 0);
	move(l, 0, 10);
}

static void test_record_numbers(void **state)
{
	struct link *l = link_made(*state);
	socklen_t size = info_size(l->us.ssl);
	bool tls12 = l->v.version == TLS1_2_VERSION;
	/* Finished in TLS 1.2, tickets in TLS 1.3 */
	uint64_t tx = tls12 ? 1 : l->v.server ? (uint64_t)l->v.tickets : 0;
	uint64_t rx = tls12 ? 1 : l->v.server ? 0 : (uint64_t)l->v.tickets_read;
	uint64_t nonce;
	int fd = l->us.fd;

	hand_over(l, VIA_FD);
	leave_openssl(l);
	nonce = nonce_number(fd, size);
	for (int i = 0; i <= 5; i++) {
		assert_int_equal(record_number(fd, TLS_TX, size), tx + (uint64_t)i);
		assert_int_equal(record_number(fd, TLS_RX, size), rx + (uint64_t)i);
		if (tls12 && !strstr(l->v.suite, "CHACHA20"))
			assert_int_equal(nonce_number(fd, size), nonce + (uint64_t)i);
		one_record_each_way(l);
	}
	link_free(l);
}

/* ---- the wire ---- */

struct secret {
	uint8_t bytes[64];
	size_t size;
};

/* What the peer logged, [0] the client's and [1] the server's; in TLS 1.2 the same. */
static struct secret logged[2];

static void parse_secret(struct secret *s, const char *hex)
{
	long size = 0;
	unsigned char *bytes = OPENSSL_hexstr2buf(hex, &size);

	assert_non_null(bytes);
	assert_true((size_t)size <= sizeof(s->bytes));
	memcpy(s->bytes, bytes, (size_t)size);
	s->size = (size_t)size;
	OPENSSL_free(bytes);
}

static void on_keylog(const SSL *ssl, const char *line)
{
	const char *secret = strrchr(line, ' ') + 1;

	(void)ssl;
	if (strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0)
		parse_secret(&logged[0], secret);
	else if (strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0)
		parse_secret(&logged[1], secret);
	else if (strncmp(line, "CLIENT_RANDOM ", 14) == 0)
		parse_secret(&logged[0], secret), parse_secret(&logged[1], secret);
}

/* One direction of the wire as it opens. */
struct reading {
	struct opener opener;
	uint64_t data;	  /* bytes of application data, compared with the pattern */
	unsigned records; /* of it */
	uint64_t last_nonce;
	bool change_cipher_spec;
};

/* Explicit nonces go up by one from record to record, whoever makes them: no nonce is
 * used twice. */
static void check_nonce(struct reading *r)
{
	uint64_t nonce = big_endian(r->opener.nonce + 4);

	if (r->opener.explicit_nonce && r->opener.sequence > 1)
		assert_int_equal(nonce, r->last_nonce + 1);
	r->last_nonce = nonce;
}

static void check_record(struct reading *r, const uint8_t *record, size_t n)
{
	uint8_t out[17000], type;
	int size;

	if (record[0] == SSL3_RT_CHANGE_CIPHER_SPEC)
		r->change_cipher_spec = true;
	/* still the handshake, in the clear or under other keys: until one opens */
	if (record[0] == SSL3_RT_CHANGE_CIPHER_SPEC || (!r->opener.tls13 && !r->change_cipher_spec))
		return;
	size = opener_open(&r->opener, record, n, out, &type);
	if (size < 0 && r->opener.sequence == 0)
		return;
	if (size < 0)
		fail_msg("record %llu does not open", (unsigned long long)r->opener.sequence);
	check_nonce(r);
	if (type != SSL3_RT_APPLICATION_DATA)
		return;
	assert_memory_equal(out, pattern_at(r->data), size);
	r->data += (uint64_t)size;
	r->records++;
}

static void check_wire(struct reading *r, const struct bytes *wire)
{
	size_t at = 0;

	while (at + 5 <= wire->size) {
		size_t n = 5 + (size_t)(wire->data[at + 3] << 8 | wire->data[at + 4]);

		assert_true(at + n <= wire->size);
		check_record(r, wire->data + at, n);
		at += n;
	}
	assert_int_equal(at, wire->size);
}

static void expect_no_plaintext(const struct bytes *wire)
{
	for (size_t pos = 0; pos < 60000; pos += 1000)
		assert_null(memmem(wire->data, wire->size, pattern_at(pos), 12));
}

enum { WIRE_BYTES = 60000 };

static void check_direction(struct link *l, bool ours, const struct bytes *wire)
{
	struct reading r = { .data = 0 };
	bool server = ours == l->v.server;

	opener_init(&r.opener, l->peer.ssl, server, logged[server].bytes, logged[server].size);
	check_wire(&r, wire);
	assert_int_equal(r.data, WIRE_BYTES + 2000);
	assert_true(r.records >= 2 + WIRE_BYTES / 16384);
	expect_no_plaintext(wire);
}

static void test_wire(void **state)
{
	struct variant v = *(struct variant *)*state;
	struct link *l;

	v.wire = true;
	l = link_new(&v);
	SSL_CTX_set_keylog_callback(l->peer.ctx, on_keylog);
	memset(logged, 0, sizeof(logged));
	link_connect(l);
	move(l, 1000, 1000); /* made by OpenSSL */
	hand_over(l, VIA_FD);
	leave_openssl(l);
	move(l, 1000, 1000); /* made by the kernel */
	move(l, WIRE_BYTES, WIRE_BYTES);
	check_direction(l, true, &l->peer.wire->received);
	check_direction(l, false, &l->peer.wire->sent);
	link_free(l);
}

/* ---- a wrong number is seen ---- */

/* The peer of a connection whose record is damaged on the way sees it, and so do we:
 * what the tests above rest on. */
static void test_damage(void **state)
{
	struct variant v = *(struct variant *)*state;
	long before = tls_stat("TlsDecryptError");
	struct link *l;
	char *data, buf[100];

	v.wire = true;
	l = link_made(&v);
	hand_over(l, VIA_CONN);
	leave_openssl(l);
	l->peer.wire->allowed = 0;
	expect(run_flows(&(struct flow){ .end = &l->peer, .out = true, .left = 50 }, 1));
	BIO_get_mem_data(l->peer.wire->out, &data);
	data[40] ^= 1;
	l->peer.wire->allowed = SIZE_MAX;
	wire_carry(&l->peer);
	wait_for(l->us.fd, POLLIN);
	assert_int_equal(tlsfd_read(l->us.conn, buf, sizeof(buf)), -EBADMSG);
	assert_int_equal(tls_stat("TlsDecryptError"), before + 1);
	assert_int_equal(tlsfd_read(l->us.conn, buf, sizeof(buf)), -EBADMSG);
	assert_string_equal(tlsfd_error(l->us.conn), "a record did not decrypt");
	link_free(l);
}

/* Counters belong to a network namespace: one of our own keeps other programs' out. */
static void own_network(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd;

	if (unshare(CLONE_NEWNET) < 0) {
		printf("# no network namespace of its own: other programs' counters may disturb\n");
		return;
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (ioctl(fd, SIOCSIFFLAGS, &lo) < 0)
		perror("# loopback");
	close(fd);
}

static void add(struct variant v)
{
	const struct {
		const char *name;
		CMUnitTestFunction test;
		bool possible;
	} tests[] = {
		{ "counters", test_counters, true },
		{ "record numbers", test_record_numbers, true },
		{ "the wire opens with the peer's key log", test_wire, true },
		{ "a damaged record", test_damage, !v.ktls },
	};

	v.tickets_read = v.server ? 0 : v.tickets;
	for (size_t i = 0; i < LENGTH(tests); i++)
		if (tests[i].possible)
			suite_add(tests[i].test, &v, sizeof(v), "%s/%s/ktls-%s/tickets-%d/%s",
				  v.suite, v.server ? "server" : "client", v.ktls ? "on" : "off",
				  v.tickets, tests[i].name);
}

int main(int argc, char **argv)
{
	static const struct {
		int version;
		const char *suite;
	} suites[] = {
		{ TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256" },
		{ TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384" },
		{ TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256" },
		{ TLS1_3_VERSION, "TLS_AES_128_CCM_SHA256" },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256" },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384" },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305" },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-CCM" },
	};

	own_network();
	suite_slice(7);
	for (size_t i = 0; i < LENGTH(suites); i++)
		for (int bits = 0; bits < 8; bits++) {
			int tickets = bits & 4 ? 2 : 0;

			if (!tickets || suites[i].version == TLS1_3_VERSION)
				add((struct variant){ .version = suites[i].version,
						      .suite = suites[i].suite,
						      .server = bits & 1,
						      .ktls = bits & 2,
						      .tickets = tickets });
		}
	return suite_run(argc, argv);
}
