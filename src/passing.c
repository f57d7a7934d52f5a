/*
 * Moving a living connection to another process. The message has two fds and no secret: the
 * socket, and a pipe with the letter in it (letter.h). To take up the connection is to
 * empty the pipe by one read, which happens once, whatever becomes of copies of the
 * message.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "letter.h"
#include "owed.h"
#include "sys.h"

#ifndef SCM_PIDFD
#define SCM_PIDFD 4 /* Linux 6.5 */
#endif

enum { SOCKET, LETTER, FDS };

static const char text[8] = "tlsfd->\n";

/* Who made the other end of a Unix socket: root, or our own user? */
static int check_peer(int socket)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	int domain = AF_UNSPEC;
	socklen_t len = sizeof(domain);
	int err = sys_getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &len);

	if (err || domain != AF_UNIX)
		return err ? err : -EAFNOSUPPORT;
	len = sizeof(peer);
	err = sys_getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	if (err)
		return err;
	return peer.uid == 0 || peer.uid == geteuid() ? 0 : -EPERM;
}

/* ---- passing on ---- */

static int send_fds(int socket, const int *fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS * sizeof(int))];
	} control = { .align = { .cmsg_len = CMSG_LEN(FDS * sizeof(int)),
				 .cmsg_level = SOL_SOCKET,
				 .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { (void *)text, sizeof(text) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t sent;

	memcpy(CMSG_DATA(&control.align), fd, FDS * sizeof(int));
	sent = sys_sendmsg(socket, &msg, MSG_NOSIGNAL);
	return sent < 0 ? (int)sent : 0;
}

static int send_letter(struct tlsfd *c, int socket)
{
	int fd[FDS] = { [SOCKET] = c->fd };
	struct identity id;
	uint8_t *data;
	size_t size;
	int err = identity_of(c->fd, &id);

	if (!err)
		err = letter_write(c, &id, &data, &size);
	if (err)
		return err;
	fd[LETTER] = sys_pipe_with(data, size);
	OPENSSL_clear_free(data, size);
	if (fd[LETTER] < 0)
		return fd[LETTER];
	err = send_fds(socket, fd);
	close(fd[LETTER]);
	return err;
}

/* Can c go as it is? */
static int check_connection(struct tlsfd *c)
{
	if (!c->open)
		return -ENOTCONN;
	if (!c->kernel[RX] || !c->kernel[TX])
		return -EXDEV;
	owed_settle(c, OWED_ALL);
	return gate_is_owing(&c->gate) ? -EAGAIN : 0;
}

int tlsfd_pass(struct tlsfd **c, int socket)
{
	int err;

	if (!c || !*c)
		return -EINVAL;
	err = check_connection(*c);
	if (!err)
		err = check_peer(socket);
	if (!err)
		err = send_letter(*c, socket);
	if (err)
		return err;
	tlsfd_free(*c);
	*c = NULL;
	return 0;
}

/* ---- taking up ---- */

/* The fds of a message: how many there are; those that don't fit in are closed. */
static size_t collect_fds(struct msghdr *msg, int *fd)
{
	size_t count = 0;

	for (struct cmsghdr *m = CMSG_FIRSTHDR(msg); m; m = CMSG_NXTHDR(msg, m)) {
		size_t n = (m->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (m->cmsg_level != SOL_SOCKET ||
		    (m->cmsg_type != SCM_RIGHTS && m->cmsg_type != SCM_PIDFD))
			continue;
		for (size_t i = 0; i < n; i++) {
			int one;

			memcpy(&one, CMSG_DATA(m) + i * sizeof(int), sizeof(int));
			if (m->cmsg_type == SCM_PIDFD || count >= FDS)
				close(one);
			else
				fd[count] = one;
			count += m->cmsg_type == SCM_RIGHTS;
		}
	}
	return count;
}

static void close_fds(const int *fd, size_t count)
{
	for (size_t i = 0; i < count && i < FDS; i++)
		close(fd[i]);
}

/* Else nothing read was an empty message, which sockets of messages can have. */
static bool has_ended(int socket)
{
	return sys_poll(socket, POLLRDHUP, 0) > 0;
}

/* One message: 0, and both fds; or a negative errno, and none. */
static int receive_fds(int socket, int *fd)
{
	union {
		struct cmsghdr align;
		char space[256]; /* credentials, label and pidfd too, if the socket has them */
	} control;
	char got[sizeof(text)];
	struct iovec iov = { got, sizeof(got) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = sys_recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	size_t count;

	if (n < 0)
		return (int)n;
	count = collect_fds(&msg, fd);
	if (n == sizeof(text) && count == FDS && memcmp(got, text, sizeof(text)) == 0)
		return 0;
	close_fds(fd, count);
	return n == 0 && count == 0 && has_ended(socket) ? -EPIPE : -EPROTO;
}

/* The letter in the pipe, whose reader is the connection's owner from then on. */
static int open_letter(struct tlsfd *c, const int *fd)
{
	struct identity then, now;
	uint8_t *data;
	ssize_t size = sys_pipe_take(fd[LETTER], &data, LETTER_MAX);
	int err;

	if (size <= 0)
		return size ? (int)size : -EALREADY;
	err = letter_read(c, &then, data, (size_t)size);
	OPENSSL_clear_free(data, (size_t)size);
	if (err)
		return err;
	c->fd = fd[SOCKET];
	if (identity_of(c->fd, &now) || !identity_fits(&then, &now))
		return -ESTALE;
	return rekey_go_on(c, now.cipher);
}

/* A message that finds no room for its fds is lost: so that is asked before. */
static int take(struct tlsfd **conn, int socket)
{
	struct tlsfd *c = connection_new();
	int fd[FDS];
	int err = c ? sys_spare_fds(socket, FDS) : -ENOMEM;

	if (!err)
		err = receive_fds(socket, fd);
	if (!err) {
		err = open_letter(c, fd);
		close_fds(fd + LETTER, 1);
		close_fds(fd + SOCKET, err ? 1 : 0);
	}
	if (err)
		tlsfd_free(c);
	else
		*conn = c;
	return err;
}

int tlsfd_take(struct tlsfd **conn, int socket)
{
	int err;

	if (!conn)
		return -EINVAL;
	*conn = NULL;
	err = check_peer(socket);
	return err ? err : take(conn, socket);
}
