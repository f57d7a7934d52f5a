/*
 * Plain connections that are taken here and go on over TLS: tlsfd connect --listen.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_TUNNEL_H
#define TLSFD_TUNNEL_H

#include "route.h"

/* Until SIGTERM or SIGINT. SIGHUP reads the settings again. An exit status; route is taken. */
int tunnel_run(struct route *route, int argc, char **argv);

#endif
