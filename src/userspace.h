/*
 * The directions that OpenSSL has: all of a connection that was not moved, or one when
 * only the other has.
 *
 * It behaves as the kernel would. Its own BIO sees to that: what was taken is on its
 * way (a record that doesn't fit into the socket is kept and follows), FIN is no
 * error of OpenSSL's, nothing raises SIGPIPE, and no thread waits inside OpenSSL.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_USERSPACE_H
#define TLSFD_USERSPACE_H

#include "connection.h"

/* c goes on with ssl, of which it keeps a reference. 0 or -ENOMEM. */
int userspace_take(struct tlsfd *c, SSL *ssl);
void userspace_free(struct tlsfd *c);

/* As tlsfd_readv, tlsfd_writev, with the flags of recv(2) and send(2). Errors of RX are
 * kept already, those of TX not yet. */
ssize_t userspace_read(struct tlsfd *c, const struct iovec *iov, int count, int flags);
ssize_t userspace_write(struct tlsfd *c, const struct iovec *iov, int count, int flags);

/* close_notify: 0 when TCP has it. */
int userspace_shutdown(struct tlsfd *c, int flags);
/* What OpenSSL has made and TCP has not yet taken: 0 when there is none, -EAGAIN, or an
 * error. */
int userspace_flush(struct tlsfd *c);
/* An alert of ours, as near as OpenSSL can be brought to it. 0 or -EAGAIN. */
int userspace_alert(struct tlsfd *c, uint16_t alert, int flags);

/* KeyUpdate by OpenSSL. 0; -EAGAIN: no room; -EIO. */
int userspace_rekey(struct tlsfd *c, bool request, int flags);

short userspace_wants(const struct tlsfd *c, enum way way);
void userspace_count(const struct tlsfd *c, enum way way, uint64_t *records);

#endif
