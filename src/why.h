/*
 * Each reason in words: name, errno for the caller, sentence, remedy.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_WHY_H
#define TLSFD_WHY_H

#include <tlsfd.h>

struct why {
	enum tlsfd_why why;
	int err;              /* what the call returns, negative; 0: the kernel's errno */
	const char *name;
	const char *sentence; /* a clause that follows "because" */
	const char *remedy;   /* NULL: there is none to give */
};

/* Never NULL. */
const struct why *why_describe(enum tlsfd_why why);

#endif
