/*
 * One connection after the handover.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_CONNECTION_H
#define TLSFD_CONNECTION_H

#include <stdint.h>
#include <tlsfd.h>

#include "control.h"
#include "validate.h"

struct tlsfd {
	SSL *ssl;              /* ours too; only while OpenSSL has a direction */
	int fd;
	bool kernel[WAYS];
	bool sent_close_notify;
	bool eof;              /* close_notify came */
	int err[WAYS];         /* the first error, negative; 0 */
	const char *error;     /* in a sentence */
	struct control control;
};

/* The connection that plan led to, at least one direction in the kernel. */
void connection_start(struct tlsfd *c, const struct plan *plan);

/* Notes the first error of a direction; returns it. */
int connection_fail(struct tlsfd *c, enum way way, int err, const char *sentence);

#endif
