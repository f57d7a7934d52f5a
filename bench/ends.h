/*
 * Two ends of a connection over loopback, and what a process has cost.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef ENDS_H
#define ENDS_H

#include <openssl/ssl.h>
#include <tlsfd.h>

/* fd[0] ours, fd[1] the other end's; blocking. */
void connect_pair(int fd[2]);

/* Both ends' context. */
SSL_CTX *context(void);

/* The handshakes block: one end each in two processes, which also keep them. */
struct tlsfd *shake_hands(SSL_CTX *ctx, int fd, int server);

/* CPU time of this process, its system calls included, in nanoseconds. */
double cpu(void);

#endif
