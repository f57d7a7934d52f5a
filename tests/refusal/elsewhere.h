/*
 * A link whose peer lives in another process, with what it knows: an echo.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef ELSEWHERE_H
#define ELSEWHERE_H

#include <sys/types.h>

#include "link.h"

/* Serves this SSL until its end. */
void echo(SSL *ssl, int fd);

/* The peer of a link that is open goes to a process of its own and shakes hands there. */
pid_t peer_goes(struct link *l);
/* Our handshake: what SSL_do_handshake says in the end. */
int shake_hands(struct link *l);
/* All of it, from the contexts on. A client that waits for sessions keeps something: see
 * kept_for_tickets. */
struct link *link_elsewhere(const struct variant *v, bool wants_sessions, pid_t *peer);
/* Frees the link and waits for the process. */
void end_elsewhere(struct link *l, pid_t peer);

/* n bytes to the peer and back. */
void say_and_hear(struct link *l, size_t n);

#endif
