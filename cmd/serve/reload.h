/*
 * From one generation to the next: the settings are read again, and others take the place of the
 * processes when they have begun. If anything fails, all is as it was.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_RELOAD_H
#define TLSFD_RELOAD_H

#include "master.h"

/* After master_set_up. */
void reload_set_up(struct master *m);
/* SIGHUP; while processes are awaited, it is done after that. */
void reload(struct master *m);
/* What was read and has not begun. */
void reload_drop(struct master *m);

#endif
