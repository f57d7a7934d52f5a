/*
 * Every system call on a connection, in one place: negative errno comes from
 * here, and tests put failures in here.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_SYS_H
#define TLSFD_SYS_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* 0 or a negative errno. */
int sys_setsockopt(int fd, int level, int name, const void *val, socklen_t len);
int sys_getsockopt(int fd, int level, int name, void *val, socklen_t *len);

/* What a reader met (EBADMSG) stands in sk_err too, and fails every send until somebody
 * asks for it. */
void sys_clear_error(int fd);

/* The count or a negative errno. Interrupted calls are made again. */
ssize_t sys_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t sys_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t sys_recv(int fd, void *buf, size_t n, int flags);
ssize_t sys_send(int fd, const void *buf, size_t n, int flags);
ssize_t sys_sendfile(int fd, int file, off_t *offset, size_t n);

/* sendfile(2) in steps, with its errnos. Where it begins: at *at or, at NULL, where the
 * file stands. */
off_t sys_position(int file, const off_t *at);
ssize_t sys_pread(int file, void *buf, size_t n, off_t at);
void sys_seek(int file, off_t at);

/* What TCP has received and sent, each byte once. 0 or a negative errno. */
int sys_tcp_bytes(int fd, uint64_t *received, uint64_t *sent);

/* accept4(2): a connection that doesn't block and isn't inherited, or a negative errno. */
int sys_accept(int fd, struct sockaddr *address, socklen_t *len);

/* how: SHUT_RD or SHUT_WR. 0 or a negative errno. */
int sys_shutdown(int fd, int how);

/* How long a call on fd waits, in milliseconds as poll takes them: 0 where fd doesn't
 * block. option: SO_RCVTIMEO or SO_SNDTIMEO. */
int sys_patience(int fd, int option);

/* As poll(2) on one fd: 1, 0 (ms have passed), or a negative errno, -EINTR too. */
int sys_poll(int fd, short events, int ms);

/* All bytes of a regular file or of a pipe (-ETIMEDOUT: silence for 10 seconds), to be freed by
 * OPENSSL_clear_free(*data, *size): it may hold a key. 0 or a negative errno; -EFBIG: more than 16
 * MiB; -EINVAL: it is neither. */
int sys_read_file(const char *path, char **data, size_t *size);

/* The reading end, which never blocks, of a pipe with these bytes in it and nobody at its
 * other end; or a negative errno. -ENOBUFS: no pipe takes so many. */
int sys_pipe_with(const void *data, size_t n);

/* Empties such a pipe by one read. The count; 0: it is empty; or -EPROTO: no pipe, one that
 * somebody could write to, or not less than room bytes. */
ssize_t sys_pipe_take(int pipe, uint8_t *data, size_t room);

/* Could this process open n more fds now? 0, or a negative errno, -EMFILE. fd: an open one. */
int sys_spare_fds(int fd, unsigned n);

/* 1: both are the same socket, 0: they are not; or a negative errno. */
int sys_same_file(int a, int b);

/* Does net/tls have this counter (/proc/net/tls_stat)? 1, 0, or a negative errno: it can't be
 * asked. */
int sys_tls_counts(const char *counter);

/* 1: CAP_NET_ADMIN in the initial user namespace (what autoloading of a module
 * asks for, net/ipv4/tcp_ulp.c), 0: not, or not known. */
int sys_may_load_modules(void);

/*
 * The seam: when set, asked before each call above that takes a level and name
 * (0, 0 for what receives and sends); a negative answer is the call's result.
 */
extern int (*sys_fault)(int fd, int level, int name);

#endif
