/*
 * From what the handshake left to what the kernel takes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_KEYS_H
#define TLSFD_KEYS_H

#include <openssl/ssl.h>

#include "cipher.h"
#include "watch.h"

/*
 * The key, IV and number of the next record of one direction of ssl, as w saw
 * it. 0 or -EIO: a call of OpenSSL failed (its error queue says which); info is
 * wiped then. The caller wipes info after use.
 */
int keys_derive(SSL *ssl, const struct watch *w, enum way way, const struct cipher *cipher,
		struct crypto_info *info);

/* TLS 1.3: key and IV of a traffic secret, and record number 0. 0 or -EIO. The caller wipes
 * info. */
int keys_of_secret(const struct cipher *cipher, const uint8_t *secret, size_t size,
		   struct crypto_info *info);

/* Byte by byte: vector registers would hold a secret until something saves them to the
 * stack, as the dynamic linker does when it binds a function. */
static inline void keys_copy(uint8_t *to, const uint8_t *from, size_t n)
{
	for (volatile uint8_t *at = to; n; n--)
		*at++ = *from++;
}

/*
 * TLS 1.3: the traffic secret that comes after secret (size bytes both), with its key and
 * IV and record number 0: RFC 8446 section 7.2. 0 or -EIO. The caller wipes next and info.
 */
int keys_update(const struct cipher *cipher, const uint8_t *secret, size_t size, uint8_t *next,
		struct crypto_info *info);

#endif
