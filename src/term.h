/*
 * How long a server's session is good: as long as a full handshake would let its client in,
 * and no longer than OpenSSL's two hours, however often it is resumed.
 *
 * OpenSSL verifies nothing when a session is resumed, and each ticket of TLS 1.3 begins the
 * two hours anew. To verify then is too late: a session has the client's certificate, not
 * those between it and the authority. But whom a config trusts does not change (realm.h), only
 * the time does; so the chain is asked how long it lasts when it is verified.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_TERM_H
#define TLSFD_TERM_H

#include <openssl/ssl.h>

/* For servers of ctx; of its clients nothing changes. */
void term_serve(SSL_CTX *ctx);

#endif
