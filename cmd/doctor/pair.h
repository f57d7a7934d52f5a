/*
 * A TLS connection with both ends in this process and thread, over loopback.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_PAIR_H
#define TLSFD_PAIR_H

#include <openssl/ssl.h>

struct pair {
	int fd[2];
	SSL *ssl[2]; /* server, client; both from one context */
};

/* 0 or a negative errno: of loopback, or -ENOMEM. */
int pair_open(struct pair *p, SSL_CTX *ctx);
/* 0, -EPROTO: OpenSSL refused; -ETIMEDOUT: packets get lost; or errors of poll. */
int pair_handshake(struct pair *p);
/* Sends both ways with plain write and read. 0, -EBADMSG: other bytes arrived; or
 * the negative errno of a call. */
int pair_exchange(const struct pair *p);
void pair_close(struct pair *p);

#endif
