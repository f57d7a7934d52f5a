/*
 * The keys of a server's session tickets, where the program has them
 * (tlsfd_config_set_ticket_keys): a ticket is sealed by the first and opened by any.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_KEYRING_H
#define TLSFD_KEYRING_H

#include <stdbool.h>

struct tlsfd_config;
struct keyring;

/* Wipes the keys. Takes NULL. */
void keyring_free(struct keyring *ring);

#endif
