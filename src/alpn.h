/*
 * Application protocols (RFC 7301).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_ALPN_H
#define TLSFD_ALPN_H

#include <openssl/ssl.h>

#include "config.h"

/* A client's offer. 0 or -ENOMEM. */
int alpn_offer(const struct tlsfd_config *config, SSL *ssl);

/* On every context that a connection of a server can come to: it is the config of the
 * connection that says what is chosen, or the one for the name if it has protocols. */
void alpn_serve(SSL_CTX *ctx);

#endif
