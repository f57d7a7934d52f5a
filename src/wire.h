/*
 * The socket under an SSL of ours: OpenSSL's own socket BIO raises SIGPIPE and
 * waits wherever the file descriptor does.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_WIRE_H
#define TLSFD_WIRE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

struct wire {
	int fd;
	int16_t err;     /* the first error of TCP, negative; 0 */
	bool eof : 1;    /* the peer's FIN was read */
	bool hidden : 1; /* OpenSSL, and with it watch.c, is not told the fd */
	bool nowait : 1; /* don't block, whatever the fd does; may be changed between calls */
};

/* Puts ssl on w, which must stay until ssl is freed. 0 or -ENOMEM. */
int wire_attach(struct wire *w, SSL *ssl);

#endif
