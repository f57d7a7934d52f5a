/*
 * Server names (SNI, RFC 6066 section 3): which certificate a client gets.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_NAMES_H
#define TLSFD_NAMES_H

#include "config.h"

void names_free(struct name *names);

/* At the first use of config: the configs for its names are used as well. */
int names_settle(struct tlsfd_config *config);

/* Makes servers on ctx look at the name in the ClientHello. */
void names_serve(SSL_CTX *ctx);

#endif
