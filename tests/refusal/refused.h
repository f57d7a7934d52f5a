/*
 * What every refusal must do: say why, in all the ways that there are, and leave
 * everything as it was.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef REFUSED_H
#define REFUSED_H

#include "link.h"

/* One direction's part of a report. */
struct verdict {
	enum tlsfd_why why;
	int err; /* positive, 0: none */
};

/* The outcome of a handover that moved nothing. */
struct refusal_expected {
	int err;
	struct verdict rx, tx;
};

/* Hands over and asserts err, both directions of the report, its words, and that
 * neither a connection came of it nor a key to the socket. */
void assert_refused_as(SSL *ssl, const struct refusal_expected *e);
/* The same reason for both directions. */
void assert_refused(SSL *ssl, int err, enum tlsfd_why why);
/* One direction has the reason, the other is left alone because of it. */
void assert_refused_rx(SSL *ssl, int err, enum tlsfd_why why);
void assert_refused_tx(SSL *ssl, int err, enum tlsfd_why why);

/* Data of several sizes both ways through OpenSSL (or as l->us.via says). */
void assert_goes_on(struct link *l);

/* The words of a report: sentence, remedy, and errno's name in the sentence. */
void assert_words(const struct tlsfd_report *r, enum tlsfd_why why, int err);

/* Hands over and asserts success; data moves both ways through the fd. */
void assert_moves(struct link *l);

/* "ECDHE-..." variants in short. */
#define TLS13 { .version = TLS1_3_VERSION, .suite = "TLS_AES_128_GCM_SHA256" }
#define TLS12 { .version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-AES128-GCM-SHA256" }

#endif
