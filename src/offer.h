/*
 * The ciphers that are offered: the list that was given, or what the kernel takes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_OFFER_H
#define TLSFD_OFFER_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

struct tlsfd_config;

struct offer {
	bool given;            /* by tlsfd_config_set_ciphers */
	bool tls12, tls13;     /* has ciphers of this version */
	uint64_t in_ctx;       /* the default suites that the SSL_CTX has, a bit for each */
	uint64_t taken;        /* and those that the kernel takes by its last answer */
	bool ask_again;        /* it said no to some */
	int64_t asked_at;      /* CLOCK_MONOTONIC, seconds */
};

/* At the first use of the config: the ciphers of its SSL_CTX. 0 or a negative errno. */
int offer_settle(struct tlsfd_config *config);

/* Gives ssl what the kernel takes now, where that has changed since. */
void offer_renew(struct tlsfd_config *config, SSL *ssl);

#endif
