/*
 * The ciphers that are offered: the list that was given, or what the kernel takes of
 * Mozilla's "intermediate"; and its groups.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_OFFER_H
#define TLSFD_OFFER_H

#include "config.h"

/* False: memory is short. */
bool offer_default_groups(SSL_CTX *ctx);

/* At the first use of the config: the ciphers of its SSL_CTX. 0 or a negative errno. */
int offer_settle(struct tlsfd_config *config);

/* Gives ssl what the kernel takes now, where that has changed since. */
void offer_renew(struct tlsfd_config *config, SSL *ssl);

/* Before ssl gets another SSL_CTX: its ciphers stay. False: memory is short. */
bool offer_keep(SSL *ssl);

#endif
