/*
 * The addresses of a socket as text: "127.0.0.1:443", "[::1]:443".
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_ENDPOINT_H
#define TLSFD_ENDPOINT_H

enum { ENDPOINT_SIZE = 80 };

/* text, or "" where there is none. */
const char *endpoint_local(int fd, char text[ENDPOINT_SIZE]);
const char *endpoint_peer(int fd, char text[ENDPOINT_SIZE]);

#endif
