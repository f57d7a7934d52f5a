/*
 * Our end of a connection under test, and a peer that is plain OpenSSL, in one
 * thread over loopback TCP.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MEET_H
#define MEET_H

#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tlsfd.h>
/* after those */
#include <cmocka.h>

#include "pki.h"

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

/* How long a test waits for what is to come: only what never comes takes so long. */
enum { PATIENCE_MS = 60000 };

/* What main returns. pki is there for all tests; setup and teardown of more, or NULL. */
int meet_run(const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup,
	     CMFixtureFunction teardown);

/* Two ends: [0] is ours. Non-blocking; closed by meet_close. */
void tcp_pair(int fd[2]);
void set_blocking(int fd, bool blocking);

/* A config that trusts pki.ca; with id as certificate if not NULL. */
struct tlsfd_config *config_of(const struct identity *id);
/* A context of the peer's that trusts pki.ca; with id as certificate if not NULL. */
SSL_CTX *peer_context(const struct identity *id);

struct meeting {
	int fd[2];
	struct tlsfd *c;
	SSL *peer;
	int err;         /* what tlsfd_handshake said in the end */
	bool peer_done;  /* the peer's handshake succeeded */
	const char *early; /* that the peer sends as soon as it can */
	int peer_alert;  /* fatal alert that the peer sent or got; -1 */
};

/* Sockets, both ends' objects. server: we are it. name: for our tlsfd_connect. The
 * caller may set up m->peer before meet_shake. */
void meet_open(struct meeting *m, struct tlsfd_config *config, bool server, SSL_CTX *peer_ctx,
	       const char *name);
/* Both handshakes until each has ended. */
void meet_shake(struct meeting *m);
/* Data both ways. */
void meet_talk(struct meeting *m);
void meet_close(struct meeting *m);

/* All of it but meet_close: takes peer_ctx over, and a reference of config. */
void meet(struct meeting *m, struct tlsfd_config *config, bool server, SSL_CTX *peer_ctx,
	  const char *name);

/* Does this kernel have TLS? */
bool kernel_has_tls(void);

/* Is needle in the sentence? Prints both if not. */
void assert_says(const char *sentence, const char *needle);

#endif
