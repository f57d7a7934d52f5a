/*
 * Another image of this program, without anything of the memory that the master has, where
 * there are private keys.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_IMAGE_H
#define TLSFD_IMAGE_H

enum { IMAGE_FIRST_FD = 3, IMAGE_FDS = 5 };

/* The program's file, open while it is sure to be the one that runs: an fd, or a negative
 * errno. Later /proc/self/exe may be out of reach, or another program have its name. */
int image_open(void);

/* Becomes `tlsfd VERB PAGE`, in a child of the master; PAGE is its of serve/counts.h. It has
 * these descriptors, from IMAGE_FIRST_FD on; a negative one is left out. Returns only if it
 * can't, a negative errno. */
int image_exec(int image, const char *verb, unsigned page, const int fds[IMAGE_FDS]);

/* In the new image: closed on the next exec, and the log waits for nobody. 0 or a negative
 * errno. */
int image_own(void);

#endif
