/*
 * A client's sessions, saved and loaded (tlsfd_config_on_session, tlsfd_set_session).
 *
 * OpenSSL verifies nothing when a session is resumed. So a session is saved with its
 * server's chain, and is offered only if the connection at hand would take that chain
 * now, for the same name: its trust, revocation lists, clock and checks count, not those
 * of the connection that the session comes from.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_SESSION_H
#define TLSFD_SESSION_H

#include <openssl/ssl.h>
#include <tlsfd.h>

struct sessions;

/* For a new connection of a client to name (NULL: any). 0 or -ENOMEM. */
int sessions_new(struct tlsfd *c, const char *name);
void sessions_free(struct sessions *s);

/* The chain of the session that c has resumed; NULL: it resumed none. */
STACK_OF(X509) *sessions_chain(const struct tlsfd *c);

/* The handshake is done: what was for it alone goes. */
void sessions_settle(struct tlsfd *c);

/* Calls the program for those that are new. Not while a lock is held. */
void sessions_tell(struct tlsfd *c);

#endif
