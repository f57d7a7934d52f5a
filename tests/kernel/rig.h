/*
 * A relay of serve and connect in a thread: a TLS connection under test, its directions in
 * the kernel or not, between a peer that makes its records by hand (or OpenSSL) and a plain
 * backend. Every byte and every end is checked on both sides.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef RIG_H
#define RIG_H

#include <pthread.h>

#include "link.h"
#include "place.h"
#include "relay/relay.h"
#include "suite.h"

enum { COPIED = SSL_PLACES, RIG_PLACES }; /* in the kernel, but no pipe is to be had */

struct state {
	bool tls13;
	int place;
	bool local; /* the backend has a Unix socket */
};

struct rig {
	struct tested t; /* peer and fd; c is the relay's */
	struct link *link;
	struct loop loop;
	struct relays set;
	struct source stopper; /* an eventfd */
	struct relay *relay;
	struct relay_end end;
	int ended;
	int backend; /* our end of the plain side */
	int open_fds;
	unsigned updates; /* KeyUpdates that the peer received */
	pthread_t thread;
};

/* The test in all places and versions, with a backend on TCP, or on a Unix socket. */
void rig_add(const char *name, CMUnitTestFunction test, bool local);

enum place rig_place(const struct state *s);

/* server: the end under test. */
struct rig *rig_open(const struct state *s);
struct rig *rig_open_role(const struct state *s, bool server, uint32_t idle_ms);
/* The same in two steps. */
struct rig *rig_connected(const struct state *s, bool server);
void rig_start(struct rig *g, struct tlsfd *c, const struct state *s, uint32_t idle_ms);
/* Between OpenSSL and a backend. */
struct rig *rig_link(const struct state *s);
/* The relay has ended, this way, and has let go of all that it had. */
struct relay_end rig_close(struct rig *g, enum relay_how how);
/* Both sides end, cleanly, and then that. */
void rig_end_both(struct rig *g);

/* Are KeyUpdates to be had there? */
bool rig_can_rekey(const struct state *s);

void backend_send(struct rig *g, const void *data, size_t n);
/* As much of the pattern as goes; how much that was. */
size_t backend_stuffs(struct rig *g);
void backend_expects(struct rig *g, const void *data, size_t n);
/* FIN: 0; RST: -ECONNRESET. */
void backend_expects_end(struct rig *g, int want);
void backend_reset(struct rig *g);

void peer_says(struct rig *g, const char *text);
void peer_says_bye(struct rig *g);
/* That was a KeyUpdate, under new keys is what follows. */
void peer_took_update(struct rig *g, const uint8_t *message, ssize_t n);
/* Records of data; KeyUpdates may come before each. */
void peer_expects(struct rig *g, const void *data, size_t n);
void peer_expects_pattern(struct rig *g, size_t n);
void peer_expects_alert(struct rig *g, uint8_t level, int number);
/* FIN or RST, and nothing before it: above all no close_notify. */
void peer_expects_cut(struct rig *g);
void peer_expects_close(struct rig *g);

#endif
