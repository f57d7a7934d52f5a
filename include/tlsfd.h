/*
 * tlsfd: TLS as a file descriptor.
 *
 * A connection whose records are made by the kernel (net/tls), and the report
 * that says where they are made and why. No OpenSSL type appears here; programs
 * that have an SSL include <tlsfd/openssl.h>.
 *
 * Conventions: functions return 0 or a count, or a negative errno; errno itself
 * is not used. Every _free function takes NULL. Strings returned are constant
 * or belong to the object that returned them. Nothing here logs, exits, or
 * touches signals. One thread at a time may use an object, except where said.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_H
#define TLSFD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TLSFD_VERSION "0.1.0"

#if defined(__GNUC__)
#define TLSFD_API __attribute__((visibility("default")))
#define TLSFD_CHECKED __attribute__((visibility("default"), warn_unused_result))
#else
#define TLSFD_API
#define TLSFD_CHECKED
#endif

/* The directions of a connection, seen from this end; also bits for sets. */
enum tlsfd_direction {
	TLSFD_RX = 1, /* what the peer sends */
	TLSFD_TX = 2, /* what we send */
};

/* Who gave the kernel the keys of a direction. */
enum tlsfd_mover {
	TLSFD_MOVER_NONE,    /* nobody: OpenSSL makes the records in user space */
	TLSFD_MOVER_OPENSSL, /* OpenSSL did, during the handshake (SSL_OP_ENABLE_KTLS) */
	TLSFD_MOVER_TLSFD,   /* tlsfd_handover did */
};

/* Why a direction is not in the kernel. Numbers are stable. */
enum tlsfd_why {
	TLSFD_WHY_NONE = 0,              /* it is in the kernel */
	TLSFD_WHY_NOT_ASKED = 1,         /* the caller left this direction out */
	TLSFD_WHY_OTHER_DIRECTION = 2,   /* left alone because the other was refused */

	/* the handshake and what was negotiated */
	TLSFD_WHY_HANDSHAKE = 10,        /* the handshake is not finished */
	TLSFD_WHY_CLOSED = 11,           /* a close_notify or a fatal alert was seen */
	TLSFD_WHY_VERSION = 12,          /* neither TLS 1.2 nor TLS 1.3 */
	TLSFD_WHY_CIPHER = 13,           /* no kernel has this cipher */
	TLSFD_WHY_EARLY_DATA = 14,       /* early data (0-RTT) was accepted */
	TLSFD_WHY_RENEGOTIATION = 15,    /* renegotiation, under way or done */
	TLSFD_WHY_COMPRESSION = 16,      /* TLS compression */
	TLSFD_WHY_MAX_FRAGMENT = 17,     /* max_fragment_length was negotiated */
	TLSFD_WHY_PADDING = 18,          /* the program asked for record padding */

	/* what could be observed of it */
	TLSFD_WHY_NOT_PREPARED = 20,     /* no tlsfd_prepare before the handshake */
	TLSFD_WHY_CALLBACK_REPLACED = 21,/* a callback of tlsfd_prepare was replaced */
	TLSFD_WHY_READ_AHEAD = 22,       /* OpenSSL read ahead over a key change */
	TLSFD_WHY_OPENSSL_REKEYED = 23,  /* OpenSSL changed keys, the kernel did not */
	TLSFD_WHY_OPENSSL = 24,          /* a call of OpenSSL failed */
	TLSFD_WHY_NOT_FOLLOWED = 25,     /* the records could not be counted */

	/* bytes on their way; these pass */
	TLSFD_WHY_RECORD_READ = 30,      /* OpenSSL holds bytes that it has read */
	TLSFD_WHY_RECORD_WRITTEN = 31,   /* OpenSSL holds bytes that it has to write */

	/* the socket */
	TLSFD_WHY_BIO = 40,              /* the SSL is not directly on a socket */
	TLSFD_WHY_TWO_SOCKETS = 41,      /* it reads from one socket and writes to another */
	TLSFD_WHY_NOT_TCP = 42,          /* the socket is not TCP */
	TLSFD_WHY_MPTCP = 43,            /* the socket is Multipath TCP */
	TLSFD_WHY_NOT_ESTABLISHED = 44,  /* the TCP connection is not (or no longer) established */
	TLSFD_WHY_OTHER_ULP = 45,        /* the socket has another upper layer protocol */
	TLSFD_WHY_FOREIGN_KEYS = 46,     /* the kernel has keys that neither gave it */
	TLSFD_WHY_SOCKET = 47,           /* any other answer of the socket; see errno */

	/* the kernel */
	TLSFD_WHY_NO_TLS = 50,           /* the kernel has no TLS */
	TLSFD_WHY_MODULE = 51,           /* not loaded, and we may not load it */
	TLSFD_WHY_KERNEL_CIPHER = 52,    /* this kernel does not take this version and cipher */
	TLSFD_WHY_ALGORITHM = 53,        /* the kernel's crypto lacks the algorithm */
	TLSFD_WHY_FORBIDDEN = 54,        /* a sandbox (seccomp, LSM) forbids the call */
	TLSFD_WHY_MEMORY = 55,           /* no memory */
};

/* ---- the report: what came of a handover ---------------------------------
 * Immutable once made; may be read by any number of threads. `dir` is one of
 * TLSFD_RX, TLSFD_TX. NULL is taken for a report that says nothing.
 */
struct tlsfd_report;

/* Are the records of this direction made by the kernel? */
TLSFD_API bool tlsfd_report_kernel(const struct tlsfd_report *r, enum tlsfd_direction dir);
/* Who put them there. */
TLSFD_API enum tlsfd_mover tlsfd_report_mover(const struct tlsfd_report *r, enum tlsfd_direction dir);
/* The reason if not in the kernel, and its name in words ("module", "cipher"). */
TLSFD_API enum tlsfd_why tlsfd_report_why(const struct tlsfd_report *r, enum tlsfd_direction dir);
TLSFD_API const char *tlsfd_why_name(enum tlsfd_why why);
/* The errno behind it as a positive number, 0 if there is none. */
TLSFD_API int tlsfd_report_errno(const struct tlsfd_report *r, enum tlsfd_direction dir);
/* One sentence on the whole outcome, and what would cure it (NULL: nothing to cure). */
TLSFD_API const char *tlsfd_report_sentence(const struct tlsfd_report *r);
TLSFD_API const char *tlsfd_report_remedy(const struct tlsfd_report *r);
TLSFD_API void tlsfd_report_free(struct tlsfd_report *r);

/* ---- the connection ------------------------------------------------------
 * One reader and one writer may use it at the same time. tlsfd_read and
 * tlsfd_write block or not as the fd does. The first error of a direction is
 * kept: later calls return the same.
 */
struct tlsfd;

/*
 * Up to n bytes of application data. Returns the count; 0 when the peer closed
 * with close_notify (n > 0); or
 *   -EAGAIN         nothing there (non-blocking fd): poll for POLLIN
 *                   (in user space also when OpenSSL must write first:
 *                   tlsfd_wants tells)
 *   -ECONNABORTED   the peer ended TCP without close_notify: data may be missing
 *   -EPROTO         a fatal alert (tlsfd_alert has its number), or a record
 *                   that has no place here
 *   -EKEYEXPIRED    the peer sent KeyUpdate: nothing more can be read
 *   -EBADMSG        a record did not decrypt; -EMSGSIZE, -EINVAL: no TLS record
 *   -ECONNRESET ... errors of TCP
 * Alerts that don't end the connection and a client's session tickets are
 * skipped (RFC 8446 section 6.1, 4.6.1; RFC 5246 section 7.2).
 */
TLSFD_CHECKED ssize_t tlsfd_read(struct tlsfd *c, void *buf, size_t n);

/*
 * Sends up to n bytes. Returns how many were taken (their records are made and
 * numbered), which on a non-blocking fd can be fewer; or -EAGAIN (nothing was
 * taken), -EPIPE after tlsfd_shutdown or a reset, other errors of TCP.
 * Never raises SIGPIPE.
 */
TLSFD_CHECKED ssize_t tlsfd_write(struct tlsfd *c, const void *buf, size_t n);

/* Sends close_notify. 0 when it was accepted (also when it was before), -EAGAIN:
 * again when writable. TCP is left open, reading goes on (RFC 8446 section 6.1). */
TLSFD_CHECKED int tlsfd_shutdown(struct tlsfd *c);

/* The fd; it stays the caller's. */
TLSFD_API int tlsfd_fd(const struct tlsfd *c);
/* Are the records of this direction made by the kernel? */
TLSFD_API bool tlsfd_kernel(const struct tlsfd *c, enum tlsfd_direction dir);
/* POLLIN or POLLOUT: what to wait for after -EAGAIN from tlsfd_read (rx) or
 * tlsfd_write (tx). */
TLSFD_API short tlsfd_wants(const struct tlsfd *c, enum tlsfd_direction dir);
/* Number of the alert that ended the connection (RFC 8446 section 6), -1: none. */
TLSFD_API int tlsfd_alert(const struct tlsfd *c);
/* The first error in a sentence; NULL when there was none. */
TLSFD_API const char *tlsfd_error(const struct tlsfd *c);

/*
 * The bare fd, for use without this library: frees *c, sets it to NULL and
 * returns the fd. -EXDEV while a direction is not in the kernel (plain write(2)
 * would put plaintext on the wire), and *c stays as it was.
 */
TLSFD_CHECKED int tlsfd_release(struct tlsfd **c);

/* Frees what the library holds. Sends nothing; the fd stays open. */
TLSFD_API void tlsfd_free(struct tlsfd *c);

#ifdef __cplusplus
}
#endif
#endif
