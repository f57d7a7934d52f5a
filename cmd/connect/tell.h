/*
 * What tlsfd connect says on stderr.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_TELL_H
#define TLSFD_TELL_H

#include "client.h"

/* "tlsfd connect: ABOUT: WHAT", about may be NULL. Returns status. */
int tell(int status, const char *about, const char *what);

/* Why there is no connection, and the exit status for that. client: NULL if there was no
 * memory for it. */
const char *tell_failure(const struct client *client, int err, char *text, size_t size);
int tell_status(const struct client *client, int err);

#endif
