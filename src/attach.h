/*
 * Giving a socket to net/tls: the ULP, then keys per direction.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_ATTACH_H
#define TLSFD_ATTACH_H

#include <tlsfd.h>

#include "cipher.h"
#include "watch.h"

/* A refusal: why, and the kernel's errno behind it (positive, or 0). */
struct refusal {
	enum tlsfd_why why;
	int err;
};

/* Does the socket have the ULP "tls"? 1, 0, or -EBUSY: it has another one. */
int attach_has_ulp(int fd);

/* Sets the ULP "tls" unless it is there. True, or *no says why not.
 * net/ipv4/tcp_ulp.c, net/tls/tls_main.c:tls_init. */
bool attach_ulp(int fd, struct refusal *no);

/* The reason, of the negative errno of that call. */
struct refusal attach_refusal(int err);

/*
 * The same, tried before the handshake and without an answer: TCP_ULP asks for an
 * established connection, and a peer that sends a little and closes at once has
 * sent its FIN by the time of the handover.
 */
void attach_early(int fd);

/* TLS_RX or TLS_TX. True, or *no says why not. do_tls_setsockopt_conf. */
bool attach_keys(int fd, enum way way, const struct crypto_info *info, struct refusal *no);

/* Does the kernel have keys for this direction? 1, 0 or a negative errno. */
int attach_has_keys(int fd, enum way way);

/* The kernel's keys of this direction and the number of its next record; the caller
 * wipes info. 0 or a negative errno. */
int attach_get_keys(int fd, enum way way, struct crypto_info *info);

/* The number of the next record only, which the kernel tells with the keys. */
int attach_count(int fd, enum way way, uint64_t *records);

/* Are the kernel's keys of this direction the ones in info? */
bool attach_same_keys(int fd, enum way way, const struct cipher *cipher,
		      const struct crypto_info *info);

#endif
