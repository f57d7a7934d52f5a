/*
 * A record of TLS 1.3, made as the peer would make it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_SEAL_H
#define TLSFD_SEAL_H

#include "cipher.h"
#include "record.h"

enum {
	SEAL_DATA_MAX = 16384,
	SEAL_MAX = RECORD_HEADER + SEAL_DATA_MAX + 1 + CIPHER_TAG,
};

/* n <= SEAL_DATA_MAX bytes of this content type, sealed under the key and IV in info as
 * record number `sequence`. The record's size, <= SEAL_MAX; 0: OpenSSL failed. */
size_t seal(const struct cipher *cipher, const struct crypto_info *info, uint64_t sequence,
	    uint8_t type, const uint8_t *data, size_t n, uint8_t *out);

#endif
