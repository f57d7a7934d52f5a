/*
 * Server names (SNI, RFC 6066 section 3): which certificate a client gets.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_NAMES_H
#define TLSFD_NAMES_H

#include "config.h"

/* Makes servers on ctx look at the name in the ClientHello. */
void names_serve(SSL_CTX *ctx);

#endif
