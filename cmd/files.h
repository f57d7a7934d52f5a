/*
 * The file descriptors of this process, all at once.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_FILES_H
#define TLSFD_FILES_H

/* What close_range(2) does, also where it can't be had: without flags they are closed, with
 * CLOSE_RANGE_CLOEXEC by the next execve(2). */
void files_leave(unsigned first, unsigned last, unsigned flags);

#endif
