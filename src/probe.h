/*
 * Asks the kernel what it can do with TLS by doing it on a throw-away pair of
 * loopback sockets. Versions are never compared: distributions back-port.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_PROBE_H
#define TLSFD_PROBE_H

#include <stdint.h>

#include "cipher.h"

enum probe_verdict {
	PROBE_UNKNOWN, /* could not be asked: no loopback, no memory, no ULP to ask */
	PROBE_NO,
	PROBE_YES,
};

struct probe_answer {
	enum probe_verdict verdict;
	int error; /* negative errno behind NO and UNKNOWN, 0 with YES */
};

enum probe_id {
	PROBE_ULP,               /* sockets take the upper layer protocol "tls" */
	PROBE_REKEY,             /* TLS 1.3 keys can be replaced */
	PROBE_ZEROCOPY_SENDFILE, /* TLS_TX_ZEROCOPY_RO */
	PROBE_NO_PAD,            /* TLS_RX_EXPECT_NO_PAD */
	PROBE_MAX_PAYLOAD,       /* TLS_TX_MAX_PAYLOAD_LEN */
	N_PROBES,
};

/* The name in JSON and in tables. */
const char *probe_name(enum probe_id id);

/* Nothing is cached: a module can be loaded at any time. PROBE_ULP makes the
 * kernel load its module if the caller may. */
struct probe_answer probe_kernel(enum probe_id id);

/* Does the kernel take keys of this version (TLS_1_2_VERSION, TLS_1_3_VERSION)
 * for TLS_TX and TLS_RX? NO with -ENOENT: its crypto lacks the algorithm. */
struct probe_answer probe_cipher(const struct cipher *cipher, uint16_t version);

/* Two connected, non-blocking TCP sockets on 127.0.0.1. 0 or a negative errno. */
int probe_pair(int fd[2]);

#endif
