/*
 * Numbers as text, for Prometheus: exposition format 0.0.4.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_EXPOSITION_H
#define TLSFD_EXPOSITION_H

#include <stddef.h>

#include "counts.h"

#define EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* To be freed; NULL: no memory. */
char *exposition(const struct counts *counts, size_t *size);

#endif
