/*
 * Session tickets that reach a client of TLS 1.3 after the handover (RFC 8446 section
 * 4.6.1). OpenSSL parses them: it is kept idle and given each ticket in a record as the
 * server would have made it next, had OpenSSL gone on reading.
 *
 * For that the server's key and IV as of the handover are kept (not the traffic secret,
 * from which later keys follow), and only where somebody waits for sessions.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_TICKETS_H
#define TLSFD_TICKETS_H

#include <stddef.h>
#include <stdint.h>

#include "control.h"
#include "validate.h"

struct tlsfd;
struct tickets;

/* *t stays NULL if nobody would hear of a session of ssl. 0 or -ENOMEM. */
int tickets_new(struct tickets **t, SSL *ssl);
void tickets_free(struct tickets *t);

/* After the handover was done, before p->info is wiped. */
void tickets_keep(struct tickets *t, const struct plan *p);

/* t for the connection; or NULL, and t is freed: not RX, or not its key, was moved now. */
struct tickets *tickets_start(struct tickets *t, struct tlsfd *c);

/* A ticket, in pieces: its size with the message header, then as many bytes. */
void tickets_begin(struct tickets *t, size_t size);
void tickets_put(struct tickets *t, const uint8_t *data, size_t n);
/* All of it is there. False: OpenSSL does not take it; *alert is still to be sent. After
 * the last one that is taken, *t is freed and NULL. */
bool tickets_end(struct tickets **t, uint8_t *alert);

#endif
