/*
 * Who has connected, and the log line that is written when it ends.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_PEER_H
#define TLSFD_PEER_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
#include <tlsfd.h>

#include "logfmt.h"

struct peer {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} address;
	uint64_t began_ms; /* CLOCK_MONOTONIC */
};

enum { ADDRESS_TEXT = 64 };

/* "127.0.0.1:40001", "[::1]:443", an IPv4 address as such. */
void address_text(const struct sockaddr *address, char text[ADDRESS_TEXT]);

/* peer is who is connected at fd; its address stays "local" where there is none. */
void peer_of(struct peer *peer, int fd);

struct account {
	const char *to;	   /* NULL: not told */
	const char *end;   /* how */
	const char *error; /* NULL: none */
	uint64_t in, out;  /* bytes */
	uint64_t now_ms;
};

/* Why a direction isn't in the kernel: of the one that has a reason of its own. */
enum tlsfd_why why_of(const struct tlsfd *c);

/* sni, version, cipher, alpn, tx, rx, why, resumed; c may have failed in its handshake, or
 * be NULL. */
void log_tls(struct logline *line, const struct tlsfd *c);

/* event=connection; c as above. */
void peer_log(const struct peer *peer, const struct tlsfd *c, const struct account *account);

#endif
