/*
 * TLS records opened with what a key log says, by code that shares nothing with the
 * library under test: RFC 8446 section 5.2 and 7.3, RFC 5246 section 6.3, RFC 5288.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef DECRYPT_H
#define DECRYPT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Keys of one direction. */
struct opener {
	const EVP_CIPHER *cipher;
	bool tls13, explicit_nonce;
	uint8_t key[32], iv[12];
	uint64_t sequence;
	uint8_t nonce[12]; /* of the record opened last */
};

/* The keys with which the server (else the client) sends. secret: the traffic secret
 * (TLS 1.3) or the master secret, as the key log gives it. */
void opener_init(struct opener *o, SSL *ssl, bool server, const uint8_t *secret, size_t size);

/* Opens one record (n bytes with its header) into out; returns the size of its content,
 * with the content type in *type; -1: not with this key and number. */
int opener_open(struct opener *o, const uint8_t *record, size_t n, uint8_t *out, uint8_t *type);

#endif
