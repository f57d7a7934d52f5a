/*
 * A key and a self-signed certificate that live in memory only.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_IDENTITY_H
#define TLSFD_IDENTITY_H

#include <openssl/ssl.h>

struct identity {
	EVP_PKEY *key;
	X509 *cert;
};

/* P-256, so that one identity serves TLS 1.2 ECDSA suites and TLS 1.3. 0 or -EIO. */
int identity_make(struct identity *id);
int identity_use(const struct identity *id, SSL_CTX *ctx);
void identity_free(struct identity *id);

#endif
