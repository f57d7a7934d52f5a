/* SPDX-License-Identifier: MIT */
#include "stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "suite.h"

struct stats stats_now(void)
{
	struct stats s = { 0 };
	const struct {
		const char *name;
		uint64_t *value;
	} lines[] = {
		{ "TlsRxRekeyOk", &s.rx_rekey_ok },
		{ "TlsTxRekeyOk", &s.tx_rekey_ok },
		{ "TlsRxRekeyReceived", &s.rx_rekey_received },
		{ "TlsRxRekeyError", &s.rx_rekey_error },
		{ "TlsTxRekeyError", &s.tx_rekey_error },
		{ "TlsDecryptError", &s.decrypt_error },
		{ "TlsDecryptRetry", &s.decrypt_retry },
	};
	FILE *f = fopen("/proc/net/tls_stat", "re");
	char name[64];
	uint64_t value;

	while (f && fscanf(f, "%63s %" SCNu64, name, &value) == 2)
		for (size_t i = 0; i < LENGTH(lines); i++)
			if (strcmp(name, lines[i].name) == 0)
				*lines[i].value = value;
	if (f)
		fclose(f);
	return s;
}

void stats_no_errors(const struct stats *before, const struct stats *now)
{
	assert_int_equal(now->rx_rekey_error, before->rx_rekey_error);
	assert_int_equal(now->tx_rekey_error, before->tx_rekey_error);
	assert_int_equal(now->decrypt_error, before->decrypt_error);
	assert_int_equal(now->decrypt_retry, before->decrypt_retry);
}
