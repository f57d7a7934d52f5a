/*
 * HOST:PORT, and the addresses that it stands for.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_TARGET_H
#define TLSFD_TARGET_H

#include <netdb.h>

#include "deadline.h"

struct target {
	char *host, *port;
	struct addrinfo *list; /* in the order in which to try them; NULL: not asked yet */
	const char *error;     /* why it could not be resolved */
};

/* "example.org:443", "192.0.2.1:smtp", "[2001:db8::1]:443"; ":443" has host NULL.
 * 0, -EINVAL or -ENOMEM. */
int target_parse(struct target *target, const char *text);

/* Asks for the addresses. family: AF_UNSPEC, AF_INET or AF_INET6. 0; -ENOENT, with
 * target->error; -ETIMEDOUT: the program is expected to end, for the question goes on;
 * another negative errno. */
int target_resolve(struct target *target, int family, const struct deadline *deadline);

void target_free(struct target *target);

#endif
