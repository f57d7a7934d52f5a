/*
 * What OpenSSL frees, wiped: reading a private key, it leaves copies of it in freed memory
 * (pem2der and der2key of its decoders), which a process of ours that has another key by now
 * would inherit.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_WIPE_H
#define TLSFD_WIPE_H

/* Before OpenSSL's first allocation. 0 or -EBUSY: it is too late. */
int wipe_start(void);
/* For a process that reads no more keys, as it costs. */
void wipe_stop(void);

#endif
