/*
 * What the peer sends: data to the caller, the rest to control.c.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_READING_H
#define TLSFD_READING_H

#include "connection.h"

/* As tlsfd_readv, with the flags of recv(2). */
ssize_t reading_take(struct tlsfd *c, const struct iovec *iov, int count, int flags);

/* The TLSFD_RX half of tlsfd_attend. */
int reading_attend(struct tlsfd *c, int said);

#endif
