/*
 * A confined process tries what it must not be able to do, from inside.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_TRIAL_H
#define TLSFD_TRIAL_H

#include "channel.h"

/* One line, event=self-check: what each attempt said, "allowed" or the name of its errno. */
void trial_log(enum role role);

#endif
