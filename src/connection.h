/*
 * One connection.
 *
 * Its reader and its writer may be two threads: what is theirs alone is marked so,
 * what both touch is atomic, the rest stands still once the handshake is done.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_CONNECTION_H
#define TLSFD_CONNECTION_H

#include <stdatomic.h>
#include <stdint.h>
#include <tlsfd.h>

#include "control.h"
#include "gate.h"
#include "rekey.h"
#include "report.h"
#include "validate.h"
#include "wire.h"

struct facts;
struct sessions;

struct tlsfd {
	int fd;
	bool open; /* the handshake is done */
	bool greeted; /* a server's: the first ClientHello has come */
	bool kernel[WAYS];
	short wants; /* what the handshake waits for; 0 once it is done */

	bool eof;		/* the reader's: close_notify came */
	bool fin_sent;		/* the writer's: shutdown(SHUT_WR) */
	unsigned reader_pays;	/* the reader's: what it may send, see owed.h */
	struct control control; /* the reader's */

	struct gate gate;	   /* for what is sent, alerts included */
	struct rekey rekey;
	_Atomic int err[WAYS];	   /* the first error, negative; 0 */
	_Atomic int met;	   /* an error for the reader, see met.h */
	_Atomic int alert;	   /* the peer's fatal alert, 1 + its number; 0 */
	const char *_Atomic error; /* in a sentence */

	struct userspace *user;	     /* only while OpenSSL has a direction */
	SSL *ssl;		     /* ours too; likewise */
	struct wire wire;	     /* under ssl while it shakes hands */
	struct tlsfd_config *config; /* for the handshake only */
	const struct tlsfd_config *for_name; /* of config's, the one for server_name */
	char *server_name;	     /* likewise: SNI */
	uint16_t version;	     /* agreed on, likewise; 0: not yet */
	struct sessions *sessions;   /* a client's by tlsfd_connect; NULL: not wanted */
	struct facts *facts;
	struct tlsfd_report report;
	char *text; /* error, when it was made for the occasion */
};

/* One that is not open yet, on no fd; NULL: no memory. */
struct tlsfd *connection_new(void);

/* What plan has led to; directions that it left in user space stay there. Takes its
 * tickets over. 0 or -ENOMEM. */
int connection_start(struct tlsfd *c, const struct plan *plan);

/* Notes the first error of a direction; returns it. */
int connection_fail(struct tlsfd *c, enum way way, int err, const char *sentence);

/* The same for any negative errno of a system call on the socket. */
int connection_fail_tcp(struct tlsfd *c, enum way way, int err);

/* A fatal alert of the peer's; the first one counts. */
void connection_note_alert(struct tlsfd *c, uint8_t number);

#endif
