/*
 * record_flow: records are followed however the stream is cut.
 *
 * SPDX-License-Identifier: MIT
 */
#include "record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ktls.h"
#include "suite.h"

/* One record of a stream to build. */
struct rec {
	uint8_t type;
	uint16_t length;
};

/* What must hold after a number of bytes, by a reckoning of its own. */
struct truth {
	uint64_t records;
	unsigned change_cipher_specs;
	bool boundary;
};

static const struct rec tls12[] = {
	{ RECORD_HANDSHAKE, 7 },          { RECORD_HANDSHAKE, 0 }, { RECORD_CHANGE_CIPHER_SPEC, 1 },
	{ RECORD_HANDSHAKE, 9 },          { RECORD_DATA, 8 },      { RECORD_DATA, 0 },
	{ RECORD_CHANGE_CIPHER_SPEC, 1 }, { RECORD_DATA, 12 },     { RECORD_ALERT, 2 },
};
enum { N_TLS12 = LENGTH(tls12) };

static size_t build(uint8_t *out, const struct rec *recs, size_t n)
{
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		out[at++] = recs[i].type;
		out[at++] = 3;
		out[at++] = 3;
		out[at++] = (uint8_t)(recs[i].length >> 8);
		out[at++] = (uint8_t)recs[i].length;
		for (size_t k = 0; k < recs[i].length; k++)
			out[at++] = (uint8_t)(i * 16 + k);
	}
	return at;
}

static struct truth truth_after(const struct rec *recs, size_t n, size_t bytes)
{
	struct truth t = { .boundary = bytes == 0 };
	size_t end = 0;

	for (size_t i = 0; i < n; i++) {
		end += (size_t)RECORD_HEADER + recs[i].length;
		if (bytes < end)
			break;
		t.boundary = bytes == end;
		t.records++;
		if (recs[i].type == RECORD_CHANGE_CIPHER_SPEC) {
			t.change_cipher_specs++;
			t.records = 0;
		}
	}
	return t;
}

static void assert_truth(const struct record_flow *flow, size_t bytes)
{
	struct truth t = truth_after(tls12, N_TLS12, bytes);

	assert_false(flow->lost);
	assert_int_equal(flow->bytes, bytes);
	assert_int_equal(flow->records, t.records);
	assert_int_equal(flow->change_cipher_specs, t.change_cipher_specs);
	assert_int_equal(record_flow_at_boundary(flow), t.boundary);
}

static void one_byte_at_a_time(void **state)
{
	uint8_t stream[512];
	size_t n = build(stream, tls12, N_TLS12);
	struct record_flow flow = { 0 };

	(void)state;
	assert_truth(&flow, 0);
	for (size_t i = 0; i < n; i++) {
		record_flow_feed(&flow, stream + i, 1);
		assert_truth(&flow, i + 1);
	}
}

static void every_three_chunks(void **state)
{
	uint8_t stream[512];
	size_t n = build(stream, tls12, N_TLS12);

	(void)state;
	for (size_t a = 0; a <= n; a++) {
		for (size_t b = a; b <= n; b++) {
			struct record_flow flow = { 0 };

			record_flow_feed(&flow, stream, a);
			assert_truth(&flow, a);
			record_flow_feed(&flow, stream + a, b - a);
			assert_truth(&flow, b);
			record_flow_feed(&flow, stream + b, n - b);
			assert_truth(&flow, n);
		}
	}
}

static void random_chunks(void **state)
{
	uint8_t stream[512];
	size_t n = build(stream, tls12, N_TLS12);

	(void)state;
	srand(1);
	for (int run = 0; run < 2000; run++) {
		struct record_flow flow = { 0 };
		size_t at = 0;

		while (at < n) {
			size_t chunk = (size_t)rand() % 17;

			chunk = chunk < n - at ? chunk : n - at;
			record_flow_feed(&flow, stream + at, chunk);
			at += chunk;
			assert_truth(&flow, at);
		}
	}
}

/* The nonce is the first 8 bytes of the last whole record, at every cut. */
static void nonce_of_the_last_record(void **state)
{
	static const struct rec recs[] = { { RECORD_DATA, 24 }, { RECORD_DATA, 8 }, { RECORD_DATA, 9 } };
	static const size_t ends[] = { 29, 42, 56 };
	uint8_t stream[128];
	size_t n = build(stream, recs, 3);

	(void)state;
	assert_int_equal(n, ends[2]);
	for (size_t cut = 0; cut <= n; cut++) {
		struct record_flow flow = { 0 };
		size_t last = 3;

		record_flow_feed(&flow, stream, cut);
		while (last && ends[last - 1] > cut)
			last--;
		if (last) {
			assert_int_equal(flow.last_length, recs[last - 1].length);
			assert_memory_equal(flow.last_nonce,
					    stream + ends[last - 1] - recs[last - 1].length, 8);
		}
		record_flow_feed(&flow, stream + cut, n - cut);
		assert_int_equal(flow.records, 3);
		assert_memory_equal(flow.last_nonce, stream + ends[2] - 9, 8);
	}
}

static void new_keys_count_from_zero(void **state)
{
	static const struct rec recs[] = { { RECORD_DATA, 3 }, { RECORD_DATA, 3 } };
	uint8_t stream[64];
	size_t n = build(stream, recs, 2);
	struct record_flow flow = { 0 };

	(void)state;
	record_flow_feed(&flow, stream, n);
	assert_int_equal(flow.records, 2);
	record_flow_new_keys(&flow);
	assert_int_equal(flow.records, 0);
	record_flow_feed(&flow, stream, n);
	assert_int_equal(flow.records, 2);
	assert_int_equal(flow.bytes, 2 * n);
}

static void longest_record(void **state)
{
	static const struct rec rec = { RECORD_DATA, RECORD_PAYLOAD_MAX };
	size_t n = (size_t)RECORD_HEADER + RECORD_PAYLOAD_MAX;
	uint8_t *stream = calloc(1, n);

	(void)state;
	assert_non_null(stream);
	build(stream, &rec, 1);
	for (size_t cut = 0; cut <= n; cut++) {
		struct record_flow flow = { 0 };

		record_flow_feed(&flow, stream, cut);
		record_flow_feed(&flow, stream + cut, n - cut);
		assert_false(flow.lost);
		assert_int_equal(flow.records, 1);
		assert_int_equal(flow.last_length, RECORD_PAYLOAD_MAX);
	}
	free(stream);
}

/* ---- what is no record ---- */

struct header {
	const char *name;
	uint8_t head[RECORD_HEADER];
	bool lost;
};

static const struct header headers[] = {
	{ "SSL 2.0 ClientHello is lost", { 0x80, 0x2e, 0x01, 0x03, 0x03 }, true },
	{ "HTTP is lost", { 'G', 'E', 'T', ' ', '/' }, true },
	{ "type 19 is lost", { 19, 3, 3, 0, 1 }, true },
	{ "type 24 is lost", { 24, 3, 3, 0, 1 }, true },
	{ "major version 2 is lost", { 22, 2, 3, 0, 1 }, true },
	{ "major version 4 is lost", { 22, 4, 3, 0, 1 }, true },
	{ "one byte too long is lost",
	  { 23, 3, 3, (RECORD_PAYLOAD_MAX + 1) >> 8, (RECORD_PAYLOAD_MAX + 1) & 255 },
	  true },
	{ "length 65535 is lost", { 23, 3, 3, 255, 255 }, true },
	{ "version 3.1 is a record", { 22, 3, 1, 0, 1 }, false },
	{ "change_cipher_spec is a record", { 20, 3, 3, 0, 1 }, false },
	{ "alert is a record", { 21, 3, 3, 0, 1 }, false },
};

static void header_is_judged(void **state)
{
	const struct header *h = *state;
	uint8_t more[32] = { 0 };

	for (size_t cut = 0; cut <= RECORD_HEADER; cut++) {
		struct record_flow flow = { 0 };

		record_flow_feed(&flow, h->head, cut);
		assert_int_equal(flow.lost, h->lost && cut == RECORD_HEADER);
		record_flow_feed(&flow, h->head + cut, RECORD_HEADER - cut);
		assert_int_equal(flow.lost, h->lost);
		record_flow_feed(&flow, more, 1);
		/* what is lost stays lost, never at a boundary; its bytes still count */
		assert_int_equal(flow.lost, h->lost);
		assert_int_equal(record_flow_at_boundary(&flow), !h->lost);
		if (h->lost)
			record_flow_feed(&flow, more, sizeof(more));
		assert_int_equal(flow.bytes, RECORD_HEADER + 1 + (h->lost ? sizeof(more) : 0));
	}
}

int main(int argc, char **argv)
{
	suite_add(one_byte_at_a_time, NULL, 0, "one byte at a time");
	suite_add(every_three_chunks, NULL, 0, "every three chunks");
	suite_add(random_chunks, NULL, 0, "random chunks");
	suite_add(nonce_of_the_last_record, NULL, 0, "nonce of the last record");
	suite_add(new_keys_count_from_zero, NULL, 0, "new keys count from zero");
	suite_add(longest_record, NULL, 0, "longest record");
	for (size_t i = 0; i < LENGTH(headers); i++)
		suite_add(header_is_judged, &headers[i], sizeof(headers[i]), "%s", headers[i].name);
	return suite_run(argc, argv);
}
