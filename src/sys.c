/* SPDX-License-Identifier: MIT */
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

int (*sys_fault)(int fd, int level, int name);

static int fault(int fd, int level, int name)
{
	return sys_fault ? sys_fault(fd, level, name) : 0;
}

int sys_setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
	int err = fault(fd, level, name);

	if (err < 0)
		return err;
	return setsockopt(fd, level, name, val, len) < 0 ? -errno : 0;
}

int sys_getsockopt(int fd, int level, int name, void *val, socklen_t *len)
{
	return getsockopt(fd, level, name, val, len) < 0 ? -errno : 0;
}

void sys_clear_error(int fd)
{
	int err;
	socklen_t len = sizeof(err);

	sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
}

ssize_t sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t n = fault(fd, 0, 0);

	if (n < 0)
		return n;
	do
		n = recvmsg(fd, msg, flags);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	ssize_t n = fault(fd, 0, 0);

	if (n < 0)
		return n;
	do
		n = sendmsg(fd, msg, flags);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t sys_recv(int fd, void *buf, size_t n, int flags)
{
	ssize_t got = fault(fd, 0, 0);

	if (got < 0)
		return got;
	do
		got = recv(fd, buf, n, flags);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

ssize_t sys_send(int fd, const void *buf, size_t n, int flags)
{
	ssize_t sent = fault(fd, 0, 0);

	if (sent < 0)
		return sent;
	do
		sent = send(fd, buf, n, flags);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

ssize_t sys_sendfile(int fd, int file, off_t *offset, size_t n)
{
	ssize_t sent = fault(fd, 0, 0);

	if (sent < 0)
		return sent;
	do
		sent = sendfile(fd, file, offset, n);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

ssize_t sys_pread(int file, void *buf, size_t n, off_t at)
{
	ssize_t got;

	do
		got = pread(file, buf, n, at);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EISDIR ? -EINVAL : -errno;
	return got;
}

off_t sys_position(int file, const off_t *at)
{
	int flags = fcntl(file, F_GETFL);
	off_t now = lseek(file, 0, SEEK_CUR);

	if ((flags & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	if (now < 0)
		return errno == ESPIPE && !at ? -EINVAL : -errno;
	if (at && *at < 0)
		return -EINVAL;
	return at ? *at : now;
}

void sys_seek(int file, off_t at)
{
	lseek(file, at, SEEK_SET);
}

int sys_tcp_bytes(int fd, uint64_t *received, uint64_t *sent)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	int err = sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);

	*received = info.tcpi_bytes_received;
	*sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
	return err;
}

int sys_accept(int fd, struct sockaddr *address, socklen_t *len)
{
	int got = fault(fd, 0, 0);

	if (got < 0)
		return got;
	got = accept4(fd, address, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return got < 0 ? -errno : got;
}

int sys_shutdown(int fd, int how)
{
	return shutdown(fd, how) < 0 ? -errno : 0;
}

int sys_patience(int fd, int option)
{
	struct timeval limit = { 0 };
	socklen_t len = sizeof(limit);
	int file_flags = fcntl(fd, F_GETFL);

	if (file_flags < 0 || file_flags & O_NONBLOCK)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, option, &limit, &len) < 0 ||
	    (!limit.tv_sec && !limit.tv_usec))
		return -1;
	return limit.tv_sec > 1000000 ? -1 : (int)(limit.tv_sec * 1000 + limit.tv_usec / 1000 + 1);
}

int sys_poll(int fd, short events, int ms)
{
	struct pollfd p = { .fd = fd, .events = events };
	int n = poll(&p, 1, ms);

	return n < 0 ? -errno : n;
}

/* Up to size bytes: the count or a negative errno. */
static ssize_t read_all(int fd, char *data, size_t size)
{
	size_t have = 0;

	while (have < size) {
		ssize_t n = read(fd, data + have, size - have);

		if (n == 0)
			break;
		if (n > 0)
			have += (size_t)n;
		else if (errno != EINTR)
			return -errno;
	}
	return (ssize_t)have;
}

enum { FILE_MAX = 16 << 20, PIPE_WAIT_MS = 10000 };

/* 0: there is something to read, or the end. */
static int wait_for_pipe(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n = poll(&p, 1, PIPE_WAIT_MS);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return n ? 0 : -ETIMEDOUT;
}

/* Bytes that come, and room for more of them. */
struct growing {
	char *data;
	size_t size, room;
};

static int make_room(struct growing *g)
{
	size_t room = g->room ? 2 * g->room : 16384;
	char *data;

	if (g->size < g->room)
		return 0;
	if (g->size > FILE_MAX)
		return -EFBIG;
	data = OPENSSL_clear_realloc(g->data, g->room, room);
	if (!data)
		return -ENOMEM;
	g->data = data;
	g->room = room;
	return 0;
}

/* A count, 0 at the end, -EAGAIN: once more. */
static ssize_t read_more(int fd, struct growing *g)
{
	ssize_t n = make_room(g);

	if (n)
		return n;
	n = read(fd, g->data + g->size, g->room - g->size);
	if (n > 0)
		g->size += (size_t)n;
	if (n >= 0)
		return n;
	if (errno != EAGAIN && errno != EINTR)
		return -errno;
	n = wait_for_pipe(fd);
	return n ? n : -EAGAIN;
}

/* As a shell's <(command): to the end, which must come. */
static int read_pipe(int fd, char **data, size_t *size)
{
	struct growing g = { NULL, 0, 0 };
	ssize_t n;

	do
		n = read_more(fd, &g);
	while (n > 0 || n == -EAGAIN);
	if (!n && g.size > FILE_MAX)
		n = -EFBIG;
	if (n) {
		OPENSSL_clear_free(g.data, g.room);
		return (int)n;
	}
	*data = g.data;
	*size = g.size;
	return 0;
}

static int read_open_file(int fd, char **data, size_t *size)
{
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISFIFO(st.st_mode))
		return read_pipe(fd, data, size);
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if (st.st_size > FILE_MAX)
		return -EFBIG;
	*size = (size_t)st.st_size;
	*data = OPENSSL_malloc(*size + 1);
	if (!*data)
		return -ENOMEM;
	n = read_all(fd, *data, *size);
	if (n < 0) {
		OPENSSL_clear_free(*data, *size);
		return (int)n;
	}
	/* a file that has shrunk meanwhile */
	memset(*data + n, 0, *size - (size_t)n);
	return 0;
}

int sys_read_file(const char *path, char **data, size_t *size)
{
	/* O_NONBLOCK: a FIFO that nobody writes to must not hold us up */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int err;

	if (fd < 0)
		return -errno;
	err = read_open_file(fd, data, size);
	close(fd);
	return err;
}

int sys_tls_counts(const char *counter)
{
	char text[4096]; /* a line of 40 bytes for each of 20 or so */
	int fd = open("/proc/net/tls_stat", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read_all(fd, text, sizeof(text));
	close(fd);
	return n < 0 ? (int)n : memmem(text, (size_t)n, counter, strlen(counter)) != NULL;
}

int sys_pipe_with(const void *data, size_t n)
{
	int end[2], err = 0;
	ssize_t put;

	if (pipe2(end, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	/* its default size is 64 KiB, for a user who has many of them one page; if it can't
	 * be changed, write says whether it is too small */
	fcntl(end[1], F_SETPIPE_SZ, (int)n);
	put = write(end[1], data, n);
	if (put != (ssize_t)n)
		err = put < 0 && errno != EAGAIN ? -errno : -ENOBUFS;
	close(end[1]);
	if (err)
		close(end[0]);
	return err ? err : end[0];
}

ssize_t sys_pipe_take(int pipe, uint8_t *data, size_t room)
{
	struct stat st;
	int size = 0;
	ssize_t got;

	if (fstat(pipe, &st) < 0 || !S_ISFIFO(st.st_mode) || fcntl(pipe, F_SETFL, O_NONBLOCK) < 0 ||
	    ioctl(pipe, FIONREAD, &size) < 0 || (size_t)size >= room)
		return -EPROTO;
	/* it can be empty by now; a reader gets all or nothing (fs/pipe.c: pipe_read) */
	got = read(pipe, data, room);
	return got < 0 ? -EPROTO : got;
}

int sys_spare_fds(int fd, unsigned n)
{
	int err, copy = n ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;

	if (copy < 0)
		return n ? -errno : 0;
	err = sys_spare_fds(fd, n - 1);
	close(copy);
	return err;
}

int sys_same_file(int a, int b)
{
	struct stat sa, sb;

	if (a == b)
		return 1;
	if (fstat(a, &sa) < 0 || fstat(b, &sb) < 0)
		return -errno;
	return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static int in_initial_user_namespace(void)
{
	unsigned long inside, outside, count;
	FILE *map = fopen("/proc/self/uid_map", "re");
	int fields;

	if (!map)
		return 0;
	fields = fscanf(map, "%lu %lu %lu", &inside, &outside, &count);
	fclose(map);
	return fields == 3 && !inside && !outside && count == 4294967295UL;
}

int sys_may_load_modules(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, caps) < 0)
		return 0;
	return (caps[CAP_NET_ADMIN / 32].effective & (1U << (CAP_NET_ADMIN % 32))) &&
	       in_initial_user_namespace();
}
