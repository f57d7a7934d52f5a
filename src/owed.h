/*
 * What is owed to the peer between our data: alerts, answers to KeyUpdate. The gate
 * notes it; here it is sent.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_OWED_H
#define TLSFD_OWED_H

#include "connection.h"

/* The reader's: notes an answer to KeyUpdate, and sends it unless the writer is inside. */
void owed_key_update(struct tlsfd *c);

/* The reader's: notes an alert, and sends it unless the writer is inside. */
void owed_alert(struct tlsfd *c, enum alert_level level, enum alert alert);

/* What is owed: all of it, or alerts only (which may go between the writes of others). */
#define OWED_ALL (~0U)

/* Sends what is owed if nobody is inside (who then does it on leaving); never waits. */
void owed_settle(struct tlsfd *c, unsigned what);

/* The same for who is inside. 0: nothing is owed any more; -EAGAIN: no room; or an
 * error, and the gate is shut. */
int owed_pay(struct tlsfd *c, unsigned what, int flags);

/* A record that is not data, for who is inside. 0 or a negative errno. */
int owed_send(struct tlsfd *c, uint8_t type, const void *data, size_t n, int flags);
/* The same for an alert, behind which FIN may follow at once. */
int owed_send_alert(struct tlsfd *c, const uint8_t alert[2], int flags);

#endif
