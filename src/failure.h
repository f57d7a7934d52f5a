/*
 * What a failed handshake means: one errno, one sentence.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_FAILURE_H
#define TLSFD_FAILURE_H

#include <openssl/ssl.h>

#include "connection.h"

/*
 * The negative errno of SSL_do_handshake, which returned ret (<= 0): -EAGAIN, or an
 * error that is kept for this direction with its sentence. OpenSSL's error queue was
 * empty before.
 */
int failure_of(struct tlsfd *c, enum way way, int ret);

/* To a client whose first bytes were no TLS, and to whom OpenSSL says nothing: an alert. */
void failure_answer(struct tlsfd *c);

/* connection_fail with a sentence made here. */
int failf(struct tlsfd *c, enum way way, int err, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* An info callback for SSLs whose app data is the connection: notes the number of
 * a fatal alert of the handshake, whoever sent it. */
void failure_note_alert(const SSL *ssl, int where, int ret);

#endif
