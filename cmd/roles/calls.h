/*
 * The system calls that a process may make once it meets peers, by its role: seccomp(2).
 * All others say EPERM.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_CALLS_H
#define TLSFD_CALLS_H

#include "confine.h"

/* 0 or a negative errno. */
int calls_limit(const struct confinement *c);

#endif
