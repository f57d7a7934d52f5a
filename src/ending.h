/*
 * How a connection ends: by an error and its alert, or by close_notify and FIN.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_ENDING_H
#define TLSFD_ENDING_H

#include "connection.h"

/*
 * The reader's: nothing more can be read, for this reason, nor written; alert goes to
 * the peer (ALERT_NONE: none does). Returns the error of RX, which is err unless
 * there was one before.
 */
int ending_abort(struct tlsfd *c, int err, enum alert alert, const char *sentence);

/* The reader's: the peer wants to renegotiate (TLS 1.2); it is told no. */
void ending_refuse_renegotiation(struct tlsfd *c);

#endif
