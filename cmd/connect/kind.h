/*
 * What a file descriptor that somebody gave us is, for how to wait and copy.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_KIND_H
#define TLSFD_KIND_H

enum kind {
	KIND_FILE,
	KIND_PIPE,
	KIND_SOCKET,
	KIND_TERMINAL,
	KIND_OTHER, /* a device; or nothing at all */
};

enum kind kind_of(int fd);

#endif
