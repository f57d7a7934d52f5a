/*
 * The one way into the kernel, for both doors of the library.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_HANDOVER_H
#define TLSFD_HANDOVER_H

#include "validate.h"

/*
 * Moves the directions plan->want of plan->ssl (fd: -1, all else zero). 0, or a
 * negative errno as tlsfd_handover says; plan says what became of each direction.
 */
int handover(struct plan *plan);

#endif
