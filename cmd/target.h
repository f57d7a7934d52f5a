/*
 * HOST:PORT, and the addresses that it stands for (lookup.h).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_TARGET_H
#define TLSFD_TARGET_H

#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} at;
	socklen_t size;
};

struct target {
	char *host, *port;
	struct address *list; /* in the order in which to try them */
	size_t count;
	const char *error; /* why it could not be resolved */
};

/* "example.org:443", "192.0.2.1:smtp", "[2001:db8::1]:443"; ":443" has host NULL.
 * 0, -EINVAL or -ENOMEM. */
int target_parse(struct target *target, const char *text);
/* One more address. 0 or -ENOMEM. */
int target_add(struct target *target, const struct address *address);
void target_free(struct target *target);

/* size: what a struct address holds at most. */
struct address address_of(const struct sockaddr *address, socklen_t size);

#endif
