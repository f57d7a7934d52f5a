/*
 * What we send: data, within the limit of a key.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_WRITING_H
#define TLSFD_WRITING_H

#include "connection.h"

/* The TLSFD_TX half of tlsfd_attend: 1, -EAGAIN or an error. */
int writing_attend(struct tlsfd *c);

#endif
