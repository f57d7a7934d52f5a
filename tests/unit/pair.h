/*
 * Two SSLs over memory, without a socket: the handshake, and the bytes that one
 * sent.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef PAIR_H
#define PAIR_H

#include <openssl/ssl.h>
#include <stdbool.h>

struct pair {
	SSL *client, *server;
};

/* Contexts of both kinds, not prepared; the server's has a certificate. */
SSL_CTX *pair_context(bool server);

/* SSLs on BIO pairs (in memory: what one writes, the other reads) ... */
void pair_open(struct pair *p, SSL_CTX *client, SSL_CTX *server);
/* ... or on a socketpair, which SSL_free closes. */
void pair_open_sockets(struct pair *p, SSL_CTX *client, SSL_CTX *server);
/* Asserts that it is finished on both sides. */
void pair_handshake(struct pair *p);
/* A message each way. */
void pair_talk(struct pair *p);
void pair_close(struct pair *p);

#endif
