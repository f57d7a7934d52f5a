/*
 * From addresses to an open TLS connection: TCP, perhaps STARTTLS, the handshake. In
 * steps that never wait.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_CLIENT_H
#define TLSFD_CLIENT_H

#include <tlsfd.h>

#include "deadline.h"
#include "pool.h"
#include "starttls.h"
#include "target.h"

/* What is wanted. It must last as long as the client. */
struct destination {
	const struct target *target;
	const struct protocol *starttls; /* NULL: TLS from the first byte */
	const char *name;		 /* for SNI and verification; NULL: neither */
	struct tlsfd_config *config;
	struct pool *sessions; /* to resume; NULL: none */
};

enum stage { STAGE_DIAL, STAGE_STARTTLS, STAGE_HANDSHAKE };

struct client;

int client_start(struct client **client, const struct destination *to);

/* 0: client_take has the connection; -EAGAIN: call again when client_fd (another one after
 * each step) has client_wants, or client_wait is over; else the end. */
int client_step(struct client *client);
int client_fd(const struct client *client);
short client_wants(const struct client *client);
int client_wait(const struct client *client); /* milliseconds, as poll takes them */

/* All steps: 0, -ETIMEDOUT or another error. */
int client_finish(struct client *client, const struct deadline *deadline);

/* Where it is, or was when it failed; the error in a sentence. */
enum stage client_stage(const struct client *client);
const char *client_error(const struct client *client);

/* NULL before the handshake has begun. */
const struct tlsfd *client_tls(const struct client *client);

/* The connection and its socket are the caller's from now on. */
struct tlsfd *client_take(struct client *client);
/* Closes what was not taken. Takes NULL. */
void client_free(struct client *client);

#endif
