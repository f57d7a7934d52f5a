/*
 * Every system call on a connection, in one place: negative errno comes from
 * here, and tests put failures in here.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_SYS_H
#define TLSFD_SYS_H

#include <sys/socket.h>
#include <sys/types.h>

/* 0 or a negative errno. */
int sys_setsockopt(int fd, int level, int name, const void *val, socklen_t len);
int sys_getsockopt(int fd, int level, int name, void *val, socklen_t *len);

/* The count or a negative errno. Interrupted calls are made again. */
ssize_t sys_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t sys_sendmsg(int fd, const struct msghdr *msg, int flags);

/* 1: both are the same socket, 0: they are not; or a negative errno. */
int sys_same_file(int a, int b);

/* 1: CAP_NET_ADMIN in the initial user namespace (what autoloading of a module
 * asks for, net/ipv4/tcp_ulp.c), 0: not, or not known. */
int sys_may_load_modules(void);

/*
 * The seam: when set, asked before each call above that takes a level and name
 * (0, 0 for recvmsg and sendmsg); a negative answer is the call's result.
 */
extern int (*sys_fault)(int fd, int level, int name);

#endif
