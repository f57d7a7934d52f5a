/*
 * The door for programs that have an SSL: one call on the SSL_CTX before
 * handshakes, one on the SSL after.
 *
 *	tlsfd_prepare(ctx);                      // once
 *	...
 *	SSL_accept(ssl);                         // or SSL_connect
 *	tlsfd_handover(ssl, NULL, NULL);         // 0: the fd carries plaintext now
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_OPENSSL_H
#define TLSFD_OPENSSL_H

#include <openssl/ssl.h>
#include <tlsfd.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Lets tlsfd follow the handshakes of ctx: sets the key log callback (the TLS
 * 1.3 traffic secrets appear nowhere else) and the info callback. Callbacks that
 * were there go on being called. Idempotent.
 *
 * Call it after the program's own SSL_CTX_set_keylog_callback and
 * SSL_CTX_set_info_callback, before the first SSL_new, and on every context
 * that a servername callback can switch to. Not while another thread uses ctx.
 *
 * Costs an SSL about 400 bytes and, while the handshake runs, the secrets of the
 * two directions; both go with the handover or with SSL_free.
 *
 * Returns 0; -EINVAL: ctx is NULL; -EBUSY: a callback of an earlier call was
 * replaced since (nothing is changed); -ENOMEM.
 */
TLSFD_CHECKED int tlsfd_prepare(SSL_CTX *ctx);

/*
 * Moves the records of a connection into the kernel, both directions, after
 * SSL_accept, SSL_connect or SSL_do_handshake returned 1. What OpenSSL itself
 * moved (SSL_OP_ENABLE_KTLS) stays moved.
 *
 * Call it while no other thread uses ssl and nothing reads or writes the fd.
 *
 * Returns 0: both directions are in the kernel. The fd of the SSL now takes and
 * gives plaintext: read, write, sendfile, splice, poll, dup, fork, exec,
 * SCM_RIGHTS. The SSL is inert: SSL_read, SSL_write and SSL_shutdown on it put
 * nothing on the wire; free it when you like, its session stays resumable.
 *
 * A negative errno otherwise; *report says for each direction why. Unless a
 * connection was stored to *conn the socket carries TLS records as before and
 * the SSL goes on in user space:
 *   -EAGAIN       bytes on their way: finish SSL_read or SSL_write, call again
 *   -ENOTCONN     the handshake is not finished, or TCP is no longer established
 *   -EOPNOTSUPP   what was negotiated, or this socket, can't be moved
 *   -ENODATA      keys or record numbers are not known (tlsfd_prepare)
 *   -ENOENT       this kernel has no TLS, or lacks the cipher's algorithm
 *   -EINVAL       ssl is NULL
 *   -ENOMEM, or what the kernel said
 *
 * If the kernel took RX and then refused TX, the connection is half-moved: the
 * error is returned, the SSL no longer reads, and *conn (if conn was given) goes
 * on with tlsfd_read (kernel) and tlsfd_write (OpenSSL). A caller that gave no
 * conn can call again with one, which also tries TX again.
 *
 * conn and report may be NULL; else they are set to an object that the caller
 * frees, or NULL. The fd and the SSL stay the caller's. The traffic secrets are
 * wiped when it returns 0 (a conn that follows KeyUpdate keeps them, tlsfd_rekey(3)), also OpenSSL's own copies of them in the SSL, which
 * SSL_free would leave in freed memory; OpenSSL's keys go with SSL_free.
 *
 * If conn was given, and a TLS 1.3 client's context has SSL_SESS_CACHE_CLIENT and a
 * callback by SSL_CTX_sess_set_new_cb, tickets still become sessions: tlsfd_read gives
 * them to OpenSSL, which calls it. For that conn keeps a reference to the SSL, with
 * OpenSSL's keys in it; leave it alone until tlsfd_free. tlsfd_session(3).
 *
 * Rests on RFC 8446 section 7.3, RFC 5246 section 6.3, net/tls/tls_main.c.
 */
TLSFD_CHECKED int tlsfd_handover(SSL *ssl, struct tlsfd **conn, struct tlsfd_report **report);

/*
 * The same for a set of directions: TLSFD_RX, TLSFD_TX or both. With one of them
 * success leaves the connection half-moved, so conn is required (else -EINVAL):
 * *conn reads and writes each direction where it is.
 */
TLSFD_CHECKED int tlsfd_handover_directions(SSL *ssl, unsigned directions, struct tlsfd **conn,
					    struct tlsfd_report **report);

#ifdef __cplusplus
}
#endif
#endif
