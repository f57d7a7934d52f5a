/*
 * What a peer can do to end a connection or to disturb it, and the answer to that: the same
 * in every place, however it is read.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef ENDING_H
#define ENDING_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "expect.h"

enum { V12 = 1, V13 = 2, BOTH = V12 | V13 };
enum { CLIENT = 1, SERVER = 2, ANY = CLIENT | SERVER }; /* the end under test */
enum { NONE = -1, SOME = -2 };				/* alerts */

struct answer {
	const char *data; /* that is delivered, "before" in front */
	int result;	  /* of tlsfd_read in the end */
	int alert;	  /* tlsfd_alert */
	int reply;	  /* the fatal alert that the peer gets; SOME: any */
	unsigned skipped;
	unsigned refusals; /* warnings no_renegotiation that the peer gets */
	bool dead;	   /* tlsfd_write says -EPIPE */
};

struct ending {
	const char *name;
	unsigned versions, roles;
	void (*act)(struct raw_peer *p);
	struct answer want;
	const struct answer *want_openssl; /* where OpenSSL takes the records, if it differs */
	bool one_end_only;		   /* the peer's socket is gone afterwards */
};

/* Records that are more than any budget. */
enum { MANY = 1200 };

#define DEAD(error, number)                                                                        \
	{                                                                                          \
		.result = error, .alert = NONE, .reply = number, .dead = true,                     \
	}
#define GOES_ON(text, skips)                                                                       \
	{                                                                                          \
		.data = text, .alert = NONE, .reply = NONE, .skipped = skips                       \
	}
#define WHEN(v, r) .versions = v, .roles = r
#define LIKE(...)  (&(const struct answer)__VA_ARGS__)

/* What many acts begin or end with: close_notify; data, and then that. */
void bye(struct raw_peer *p);
void after(struct raw_peer *p);

/* The main of a program that tries all of them. */
int endings_run(const struct ending *endings, size_t n, int argc, char **argv);

#endif
