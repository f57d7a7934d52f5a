/*
 * OCSP responses that a server sends with its certificate (RFC 6066 section 8, RFC 8446
 * section 4.4.2.1): "stapling".
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_STAPLE_H
#define TLSFD_STAPLE_H

#include "config.h"

/* Makes servers of config send what it has to clients that ask. */
void staple_serve(struct tlsfd_config *config);

/* After the handshake: ssl's copy goes. */
void staple_drop(SSL *ssl);

void staples_free(struct staple *staples);

#endif
