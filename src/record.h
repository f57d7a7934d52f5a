/*
 * Follows TLS records through a byte stream without decrypting them: where one
 * ends, how many there were. RFC 8446 section 5.1, RFC 5246 section 6.2.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_RECORD_H
#define TLSFD_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	RECORD_HEADER = 5,
	RECORD_NONCE = 8,                /* TLS 1.2: explicit nonce before the ciphertext */
	RECORD_PAYLOAD_MAX = 16384 + 2048,
};

struct record_flow {
	uint64_t bytes;                  /* that have passed */
	uint64_t records;                /* that have ended since the last key change */
	unsigned change_cipher_specs;    /* that have ended */
	uint8_t head[RECORD_HEADER + RECORD_NONCE]; /* the start of the record under way ... */
	uint8_t have;                    /* ... as far as it has come */
	uint16_t left;                   /* bytes that it lacks, once its header is there */
	uint16_t last_length;            /* payload of the last record that ended, in bytes */
	uint8_t last_nonce[RECORD_NONCE];/* and its first bytes */
	bool lost;                       /* not TLS records: nothing here is true */
};

/* n more bytes. A ChangeCipherSpec starts the count again: in TLS 1.2 the record
 * after it is number 0 of its keys (RFC 5246 section 6.1). */
void record_flow_feed(struct record_flow *flow, const uint8_t *data, size_t n);

/* New keys from here on (TLS 1.3). */
void record_flow_new_keys(struct record_flow *flow);

/* Does the next byte start a record? */
bool record_flow_at_boundary(const struct record_flow *flow);

#endif
