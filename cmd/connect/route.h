/*
 * Where connections go and how, as one reading of the settings has it. Connections under
 * way keep theirs when the settings are read again.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_ROUTE_H
#define TLSFD_ROUTE_H

#include "client.h"
#include "lookup.h"
#include "wishes.h"

struct route {
	unsigned refs;
	struct wishes wishes;
	struct lookup lookup; /* of one target */
	struct destination to;
	struct pool sessions;
	struct deadline until; /* of the first connection */
	const char *where;     /* HOST:PORT, in argv */
};

/* Reads and checks. An exit status; what is wrong is on stderr. *route: NULL where only help was
 * asked for and given. */
int route_read(struct route **route, int argc, char **argv);
/* Asks for the addresses until they are there. An exit status, as above. */
int route_find(struct route *route);
/* Says why its lookup has failed. The exit status for that. */
int route_lost(const struct route *route, int err);
/* The sessions of the one before, if they are for the same name. */
void route_inherit(struct route *route, struct route *before);
struct route *route_ref(struct route *route);
void route_free(struct route *route); /* drops one reference; takes NULL */

#endif
