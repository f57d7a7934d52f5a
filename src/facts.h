/*
 * What stays known of a handshake when OpenSSL has gone.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_FACTS_H
#define TLSFD_FACTS_H

#include <openssl/ssl.h>

struct chain;
struct facts;
struct fields;
struct tlsfd;

/*
 * The facts of ssl; *facts stays NULL if its handshake is not finished. server_name:
 * what the client asked for, chain: the peer's; NULL: as OpenSSL knows them. last: as
 * chain_take has it. 0 or -ENOMEM.
 */
int facts_take(struct facts **facts, SSL *ssl, const char *server_name, STACK_OF(X509) *chain,
	       struct chain **last);
/* The exporter (RFC 9266) as well, before OpenSSL goes; else it is made when asked for. */
void facts_export(struct facts *facts, SSL *ssl);
/* As they go with a connection to another process (fields.h); reading makes c's. */
void facts_describe(struct fields *f, struct tlsfd *c);
void facts_free(struct facts *facts);

#endif
