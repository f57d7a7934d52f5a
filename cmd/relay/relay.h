/*
 * A TLS connection on one side and plain bytes on the other, until both have ended.
 *
 * Ends are carried through: close_notify and FIN one by one, a cut as a cut. What one
 * side can't take yet is not read from the other.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_RELAY_H
#define TLSFD_RELAY_H

#include <stdint.h>
#include <tlsfd.h>

#include "half.h"
#include "loop.h"

struct relay;

/* All relays of a process. */
struct relays {
	struct loop *loop;
	uint32_t idle_ms;	   /* of relays to come; 0: no limit */
	uint32_t splices_per_look; /* at the limit of a key; 0: as many as are safe */
	unsigned count;
	struct relay *first;
	struct carriers carriers;
};

enum relay_how {
	RELAY_CLOSED,	     /* both sides, cleanly */
	RELAY_TRUNCATED,     /* the TLS side: FIN without close_notify */
	RELAY_ALERT,	     /* a fatal alert came */
	RELAY_RESET,	     /* the TLS side's TCP failed */
	RELAY_BAD_RECORD,    /* the TLS peer broke the protocol, and was told so */
	RELAY_BACKEND_RESET, /* the plain side failed */
	RELAY_IDLE,
	RELAY_STOPPED,
	RELAY_ERROR, /* no memory */
};

struct relay_end {
	enum relay_how how;
	int err;	  /* negative errno; 0 where there is none */
	uint64_t in, out; /* bytes from the TLS peer, bytes to it */
};

/* "closed", "truncated", "alert", "reset", "bad-record", "backend-reset", "idle", "stopped",
 * "error". */
const char *relay_how_name(enum relay_how how);

/* In a sentence; NULL: none. c: the relay's, in relay_ended. */
const char *relay_end_error(const struct relay_end *end, const struct tlsfd *c);

/* Called once; tls is still there, the relay can't be used any more. */
typedef void relay_ended(void *arg, const struct relay_end *end);

/*
 * Starts a relay in the set: tls, whose handshake is done, on one side; on the other the
 * stream socket plain. 0, and tls, its fd and plain are the relay's, to be freed and closed
 * behind ended; or a negative errno, and they are still the caller's. Sockets become
 * non-blocking. ended isn't called before this returns.
 */
int relay_start(struct relay **relay, struct relays *set, struct tlsfd *tls, int plain,
		relay_ended *ended, void *arg);

/* Ends it now, as a cut on both sides; calls ended. */
void relay_stop(struct relay *relay);
void relays_stop(struct relays *set);

/* loop, idle_ms and splices_per_look are the caller's to set, all else zero. */
void relays_close(struct relays *set);

#endif
