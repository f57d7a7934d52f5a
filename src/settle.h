/*
 * The first use of a config.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_SETTLE_H
#define TLSFD_SETTLE_H

#include "config.h"

/* The config, with those for its names, is about to be used: from now on nothing
 * changes. 0 or a negative errno with a sentence. Any thread, any number of times. */
int settle(struct tlsfd_config *config);

#endif
