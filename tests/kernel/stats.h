/*
 * What the kernel counts: /proc/net/tls_stat.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef STATS_H
#define STATS_H

#include <stdint.h>

struct stats {
	uint64_t rx_rekey_ok, tx_rekey_ok, rx_rekey_received;
	uint64_t rx_rekey_error, tx_rekey_error, decrypt_error, decrypt_retry;
};

/* All 0 where the kernel has no TLS, or doesn't count this. */
struct stats stats_now(void);

/* No error was counted in between. */
void stats_no_errors(const struct stats *before, const struct stats *now);

#endif
