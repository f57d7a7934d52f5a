/*
 * What one thread takes from the socket that was for another.
 *
 * A header that can't be one (net/tls/tls_strp.c) is said once, through sk_err, to
 * whoever asks first: a sender, or a program that uses the bare fd. It is kept here for
 * the reader, who tells of it behind what came before.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_MET_H
#define TLSFD_MET_H

#include "connection.h"

/* A send said this. True: it was the reader's alone, who is woken; send again. */
bool met_sending(struct tlsfd *c, ssize_t sent);

/* The bare fd said this: is it an error of the connection? Then it is kept. */
void met_bare(struct tlsfd *c, ssize_t said);

/* What the reader has still to tell, 0: nothing. */
int met(const struct tlsfd *c);

#endif
