/*
 * What a connection under test and its raw peer say to each other, word for word.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EXPECT_H
#define EXPECT_H

#include "place.h"

enum { ALERT = 21, HANDSHAKE = 22, DATA = 23 };

/* The peer sends this as a record of data. */
void say(struct raw_peer *p, const char *text);

/* We read this text, in one piece. */
void expect_read(struct tested *t, const char *text);
/* The peer receives this record next; close_notify, and then FIN. */
void expect_record(struct tested *t, int type, const void *data, size_t n);
void expect_goodbye(struct tested *t);
/* Data goes both ways. */
void expect_works(struct tested *t);

#endif
