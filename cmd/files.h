/*
 * The file descriptors of this process: how many, and which numbers.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_FILES_H
#define TLSFD_FILES_H

/* What close_range(2) does, also where it can't be had: without flags they are closed, with
 * CLOSE_RANGE_CLOEXEC by the next execve(2). */
void files_leave(unsigned first, unsigned last, unsigned flags);
/* A copy with a number from least on, closed by the next execve(2); or a negative errno. */
int files_copy_high(int fd, int least);
/* The end of a sentence that tells this negative errno: what there is to be done if files are
 * short, or "". */
const char *files_remedy(int err);

#endif
