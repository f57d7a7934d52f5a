/*
 * Leaving OpenSSL: nothing can go through the SSL any more, and no secret stays.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_FORGET_H
#define TLSFD_FORGET_H

#include "validate.h"

/* After the one-way door: nothing here can fail. */
void forget(struct plan *plan);

/* Before the end of an SSL of ours that stayed in user space. */
void forget_secrets(SSL *ssl);

#endif
