/*
 * What a process that meets peers gives up: its user, capabilities, the file system, system
 * calls.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_CONFINE_H
#define TLSFD_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "channel.h"

struct confinement {
	enum role role;
	char user[64]; /* for its other groups; "": stay who we are */
	uid_t uid;
	gid_t gid;
	int root;   /* of confine_root; a process of its own image finds the fd elsewhere */
	bool tcp;   /* it connects to services by TCP */
	bool paths; /* it connects to services by a path: no chroot */
	/* those that it connects to; set in the process itself */
	const uint16_t *ports;
	size_t n_ports;
};

enum { MISSING = 256 };

/* For the master: a folder that has no name any more, where nothing is and nothing can be made.
 * An fd, or a negative errno. */
int confine_root(void);
/* Closes all files but the standard ones and these n, which are put in order. */
void confine_files(int *keep, size_t n);
/* That root, if we are root; the user. What can't be had is left out, and added to
 * missing, a sentence. 0, or a negative errno. */
int confine_user(const struct confinement *c, char missing[MISSING]);
/* The rest: no privileges, old or new, no core file, no file system, few ports, few system
 * calls. The same. */
int confine(const struct confinement *c, char missing[MISSING]);

#endif
