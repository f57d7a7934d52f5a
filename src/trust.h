/*
 * Whom a client trusts that was not told.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_TRUST_H
#define TLSFD_TRUST_H

#include "config.h"

/* For a settled config that is about to be a client's: if it has no authorities, and chains
 * count, it gets the system's. 0 or a negative errno with a sentence. Any thread, any number
 * of times. */
int trust_system(struct tlsfd_config *config);

#endif
