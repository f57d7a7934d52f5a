/* SPDX-License-Identifier: MIT */
#include "parcel.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "suite.h"

void open_pair(int kind, int pair[2])
{
	assert_int_equal(socketpair(AF_UNIX, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

void close_pair(int pair[2])
{
	close(pair[0]);
	close(pair[1]);
}

void move_on(struct tlsfd **c, int *fd)
{
	int pair[2];

	open_pair(SOCK_STREAM, pair);
	assert_int_equal(tlsfd_pass(c, pair[0]), 0);
	assert_null(*c);
	close(*fd);
	assert_int_equal(tlsfd_take(c, pair[1]), 0);
	assert_non_null(*c);
	*fd = tlsfd_fd(*c);
	close_pair(pair);
}

void receive_message(int socket, char text[8], int fd[2], int flags)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec iov = { text, 8 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };

	assert_int_equal(recvmsg(socket, &msg, MSG_CMSG_CLOEXEC | flags), 8);
	assert_int_equal(msg.msg_flags & MSG_CTRUNC, 0);
	assert_int_equal(control.align.cmsg_len, CMSG_LEN(2 * sizeof(int)));
	memcpy(fd, CMSG_DATA(&control.align), 2 * sizeof(int));
}

void parcel_open(struct parcel *p, int socket)
{
	int size = 0;

	receive_message(socket, p->text, p->fd, 0);
	assert_int_equal(ioctl(p->fd[1], FIONREAD, &size), 0);
	p->size = (size_t)size;
	p->letter = malloc(p->size);
	assert_int_equal(read(p->fd[1], p->letter, p->size), p->size);
}

void parcel_announce(struct parcel *p, size_t size)
{
	uint32_t announced = (uint32_t)size;

	memcpy(p->text + 4, &announced, sizeof(announced));
}

void parcel_close(struct parcel *p)
{
	close(p->fd[0]);
	close(p->fd[1]);
	free(p->letter);
}

int pipe_of(const void *data, size_t n)
{
	int end[2];

	assert_int_equal(pipe2(end, O_CLOEXEC), 0);
	if (n > 65536)
		assert_true(fcntl(end[1], F_SETPIPE_SZ, (int)n) >= (int)n);
	assert_int_equal(write(end[1], data, n), n);
	close(end[1]);
	return end[0];
}

void send_message(int socket, const void *text, size_t n, const int *fd, size_t fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(253 * sizeof(int))]; /* SCM_MAX_FD */
	} control = { .align = { .cmsg_len = CMSG_LEN(fds * sizeof(int)),
				 .cmsg_level = SOL_SOCKET,
				 .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { (void *)text, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fds) {
		memcpy(CMSG_DATA(&control.align), fd, fds * sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(fds * sizeof(int));
	}
	assert_int_equal(sendmsg(socket, &msg, MSG_NOSIGNAL), n);
}

size_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}
