/*
 * Where the records of a connection are made, and why there: what tlsfd_handover
 * and tlsfd_handshake report for each direction.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_PUBLIC_REPORT_H
#define TLSFD_PUBLIC_REPORT_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

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
 * Immutable once made (but for a warning that comes later); may be read by any number of threads. `dir` is one of
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
/* What the connection has to do without, in one sentence (NULL: nothing). */
TLSFD_API const char *tlsfd_report_warning(const struct tlsfd_report *r);
TLSFD_API void tlsfd_report_free(struct tlsfd_report *r);

#ifdef __cplusplus
}
#endif
#endif
