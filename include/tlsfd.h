/*
 * tlsfd: TLS as a file descriptor.
 *
 * From a connected TCP socket to the last byte: handshake in user space, records
 * in the kernel (net/tls) where it takes them, else in user space, by the same
 * calls. No OpenSSL type appears here; programs that have an SSL include
 * <tlsfd/openssl.h>.
 *
 * Functions return 0 or a count, or a negative errno; errno itself is not used.
 * Every _free function takes NULL. Nothing here logs, exits, or touches signals.
 * Sizes are in bytes, times in milliseconds.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_H
#define TLSFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <tlsfd/config.h>
#include <tlsfd/report.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TLSFD_VERSION "0.1.0"

/* ---- a connection: tlsfd_connect(3) ---------------------------------------
 * fd: a connected TCP socket, blocking or not; it stays the caller's. One thread
 * may read while another writes. The first error of a direction is kept and
 * returned by later calls.
 */
TLSFD_CHECKED int tlsfd_accept(struct tlsfd **c, struct tlsfd_config *config, int fd);
/* name: the server's, for SNI and verification (a DNS name or an IP address). */
TLSFD_CHECKED int tlsfd_connect(struct tlsfd **c, struct tlsfd_config *config, int fd,
				const char *name);

/* A client, before the first tlsfd_handshake (then -EBUSY): resume this session if it is
 * for name and its server's chain would be accepted now, else it is as if there were none.
 * -EINVAL: no session. */
TLSFD_CHECKED int tlsfd_set_session(struct tlsfd *c, const void *session, size_t size);

/* By the reader, behind the handshake: frees the 12 to 27 KB in which OpenSSL waits for more. */
TLSFD_API void tlsfd_no_more_sessions(struct tlsfd *c);

/* One step: 0 when done and moved; -EAGAIN: poll for tlsfd_wants(c, TLSFD_RX), call
 * again; -EPROTO: refused by either side; -EKEYREJECTED: the peer's certificate was not
 * accepted; -ECONNABORTED, -ECONNRESET; with KERNEL_REQUIRE what tlsfd_handover says. */
TLSFD_CHECKED int tlsfd_handshake(struct tlsfd *c);
/* All steps, whether fd blocks or not; -ETIMEDOUT, and then the handshake is over.
 * timeout_ms < 0: no limit. */
TLSFD_CHECKED int tlsfd_handshake_within(struct tlsfd *c, int timeout_ms);

/*
 * Up to n bytes of application data. Returns the count; 0 when the peer closed
 * with close_notify (n > 0); or
 *   -EAGAIN         nothing there (non-blocking fd): poll for tlsfd_wants
 *   -ECONNABORTED   the peer ended TCP without close_notify: data may be missing
 *   -EPROTO         a fatal alert (tlsfd_alert has its number), or a record
 *                   that has no place here
 *   -EKEYEXPIRED    the peer sent KeyUpdate, and its new keys can't be had
 *   -EBADMSG        a record did not decrypt; -EMSGSIZE, -EINVAL: no TLS record
 *   -ECONNRESET ... errors of TCP
 * Alerts that don't end the connection are skipped (RFC 8446 section 6.1, RFC 5246
 * section 7.2), so are a client's session tickets (RFC 8446 section 4.6.1) unless
 * sessions are wanted. After an error of the peer's the alert for it has been sent. What
 * buf holds behind the count is undefined.
 */
TLSFD_CHECKED ssize_t tlsfd_read(struct tlsfd *c, void *buf, size_t n);
TLSFD_CHECKED ssize_t tlsfd_readv(struct tlsfd *c, const struct iovec *iov, int count);

/*
 * Sends up to n bytes. Returns how many were taken (their records are made and
 * numbered), which on a non-blocking fd can be fewer; or -EAGAIN (nothing was
 * taken), -EPIPE after tlsfd_shutdown, a reset or an error of the peer's, -EKEYEXPIRED at
 * the limit of TLSFD_REKEY_CLOSE, other errors of TCP.
 * Never raises SIGPIPE.
 */
TLSFD_CHECKED ssize_t tlsfd_write(struct tlsfd *c, const void *buf, size_t n);
TLSFD_CHECKED ssize_t tlsfd_writev(struct tlsfd *c, const struct iovec *iov, int count);
/* n bytes of the file from *offset (then advanced) or, offset NULL, from its position.
 * May raise SIGPIPE in the kernel (sendfile(2) has no MSG_NOSIGNAL). */
TLSFD_CHECKED ssize_t tlsfd_sendfile(struct tlsfd *c, int file, off_t *offset, size_t n);

/* New keys for what we send, TLS 1.3; request: the peer is asked for the same. 0, -EAGAIN,
 * -EOPNOTSUPP where that can't be had, or as tlsfd_write. */
TLSFD_CHECKED int tlsfd_rekey(struct tlsfd *c, bool request);
/* As tlsfd_config_set_rekey. Any policy but TLSFD_REKEY wipes the traffic secrets. No
 * other thread may use c meanwhile. */
TLSFD_CHECKED int tlsfd_set_rekey(struct tlsfd *c, enum tlsfd_rekey policy, uint64_t records);

/*
 * Sends close_notify and TCP's FIN behind it. 0 when both were accepted (also when
 * they were before), -EAGAIN: again when writable. Reading goes on (RFC 8446 section
 * 6.1), and should, to the end: close(2) with unread data resets the connection.
 */
TLSFD_CHECKED int tlsfd_shutdown(struct tlsfd *c);
/* tlsfd_shutdown, then reads and drops what still comes until the peer's end or the
 * deadline. 0: clean; -ETIMEDOUT; -EFBIG: more than 16 MiB; what tlsfd_read says. The fd
 * is ready for close(2). No other thread may use c meanwhile. */
TLSFD_CHECKED int tlsfd_finish(struct tlsfd *c, int timeout_ms);

/*
 * For code that uses the bare fd with read, write, splice, io_uring. said: what the fd said,
 * 0 or the negative errno. TLSFD_RX: deals with what is there and returns 1: go on reading;
 * 0: end of file (close_notify); -EAGAIN: nothing there; or an error as tlsfd_read.
 * TLSFD_TX says that nobody is writing: what is owed to the peer goes out (in user space
 * what a write left, too), new keys near the limit: 1; -EAGAIN: no room yet; or an error as
 * tlsfd_write. Both: as TLSFD_RX.
 * -EXDEV: RX is not in the kernel. Never waits.
 */
TLSFD_CHECKED int tlsfd_attend(struct tlsfd *c, unsigned directions, ssize_t said);

/* The bare fd, for use without this library: frees *c, sets it to NULL and returns the fd.
 * -EXDEV while a direction is not in the kernel (write(2) would put plaintext on the
 * wire), and *c stays as it was. */
TLSFD_CHECKED int tlsfd_release(struct tlsfd **c);
/* Frees what the library holds. Sends nothing; the fd stays open. */
TLSFD_API void tlsfd_free(struct tlsfd *c);

/*
 * Moves a living connection to another process of our user's or root's, over a connected
 * Unix socket: tlsfd_pass(3). tlsfd_pass frees *c and sets it to NULL; the fd stays open here
 * and is to be closed. No other thread may use c. On failure *c is as it was: -EXDEV while a
 * direction is not in the kernel, -ENOTCONN before the handshake is done, -EPERM another
 * user, -EAGAIN no room in the socket, or for an alert or a KeyUpdate of c's.
 */
TLSFD_CHECKED int tlsfd_pass(struct tlsfd **c, int socket);
/* The next one; its fd is the caller's. -EAGAIN: none there; -EPIPE: none comes any more;
 * -EALREADY: it has been taken; -ESTALE, -EPROTO, -EPROTONOSUPPORT: it can't be taken up. */
TLSFD_CHECKED int tlsfd_take(struct tlsfd **c, int socket);

/* ---- facts; they stay after OpenSSL has gone ------------------------------ */

TLSFD_API int tlsfd_fd(const struct tlsfd *c);
TLSFD_API bool tlsfd_kernel(const struct tlsfd *c, enum tlsfd_direction dir);
/* What to poll for after -EAGAIN: POLLIN, POLLOUT, or (reading in user space) both. */
TLSFD_API short tlsfd_wants(const struct tlsfd *c, enum tlsfd_direction dir);
/* Number of the alert that ended the connection (RFC 8446 section 6), -1: none. */
TLSFD_API int tlsfd_alert(const struct tlsfd *c);
/* The first error in a sentence; NULL when there was none. */
TLSFD_API const char *tlsfd_error(const struct tlsfd *c);
/* Owned by c; NULL before the handshake is done. */
TLSFD_API const struct tlsfd_report *tlsfd_report(const struct tlsfd *c);
TLSFD_API enum tlsfd_version tlsfd_version(const struct tlsfd *c);
TLSFD_API const char *tlsfd_cipher(const struct tlsfd *c); /* IANA name */
/* "" when there is none. */
TLSFD_API const char *tlsfd_alpn(const struct tlsfd *c);
TLSFD_API const char *tlsfd_server_name(const struct tlsfd *c);
TLSFD_API bool tlsfd_resumed(const struct tlsfd *c);
/* The peer's chain in DER, leaf first; the bytes belong to c. -ENOENT: no such one. */
TLSFD_CHECKED int tlsfd_peer_certificate(const struct tlsfd *c, unsigned i, const uint8_t **der,
					 size_t *size);

enum tlsfd_binding { TLSFD_TLS_EXPORTER, TLSFD_TLS_SERVER_END_POINT };

/* Channel binding (RFC 9266, RFC 5929): its size, or -ENODATA, -ENOBUFS. */
TLSFD_CHECKED ssize_t tlsfd_channel_binding(const struct tlsfd *c, enum tlsfd_binding type,
					    uint8_t *buf, size_t size);

struct tlsfd_counters {
	uint64_t rx_records, tx_records; /* under the current keys, as the kernel counts */
	uint64_t rx_bytes, tx_bytes;     /* of TCP, records included */
	uint64_t skipped;                /* records that were dealt with and not delivered */
	uint64_t rx_rekeys, tx_rekeys;   /* KeyUpdates that were followed, and sent */
};

TLSFD_CHECKED int tlsfd_counters(const struct tlsfd *c, struct tlsfd_counters *counters);

#ifdef __cplusplus
}
#endif
#endif
