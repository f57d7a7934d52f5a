/*
 * The direction that OpenSSL still has, when one only has moved.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_USERSPACE_H
#define TLSFD_USERSPACE_H

#include "connection.h"

/* Keeps a reference to ssl. */
void userspace_take(struct tlsfd *c, SSL *ssl);

/* As tlsfd_read, tlsfd_write, tlsfd_shutdown, tlsfd_wants. */
ssize_t userspace_read(struct tlsfd *c, void *buf, size_t n);
ssize_t userspace_write(struct tlsfd *c, const void *buf, size_t n);
int userspace_shutdown(struct tlsfd *c);
short userspace_wants(const struct tlsfd *c, enum way way);

#endif
