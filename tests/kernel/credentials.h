/*
 * Self-signed certificates, made once per process.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CREDENTIALS_H
#define CREDENTIALS_H

#include <openssl/ssl.h>

enum key_kind { KEY_P256, KEY_RSA };

/* Gives ctx the certificate and key, and makes it trust the certificate. */
void use_credentials(SSL_CTX *ctx, enum key_kind kind);
void trust_credentials(SSL_CTX *ctx, enum key_kind kind);

/* The same as PEM text, for localhost; both to be freed. */
void write_credentials(enum key_kind kind, char **cert, char **key);

#endif
