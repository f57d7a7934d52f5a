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

struct message {
	char name[4];
	uint32_t size; /* of the letter */
};

static const char name[4] = "tls>";

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

static int send_fds(int socket, const int *fd, size_t size)
{
	struct message message = { .size = (uint32_t)size };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS * sizeof(int))];
	} control = { .align = { .cmsg_len = CMSG_LEN(FDS * sizeof(int)),
				 .cmsg_level = SOL_SOCKET,
				 .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { &message, sizeof(message) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t sent;

	memcpy(message.name, name, sizeof(name));
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
	err = send_fds(socket, fd, size);
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

static bool is_message(const struct message *m, ssize_t n)
{
	return n == sizeof(*m) && memcmp(m->name, name, sizeof(name)) == 0 && m->size <= LETTER_MAX;
}

/* One message: 0, and both fds; or a negative errno, and none. */
static int receive_fds(int socket, int *fd, struct message *got)
{
	union {
		struct cmsghdr align;
		char space[256]; /* credentials, label and pidfd too, if the socket has them */
	} control;
	struct iovec iov = { got, sizeof(*got) };
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
	if (is_message(got, n) && count == FDS)
		return 0;
	close_fds(fd, count);
	return n == 0 && count == 0 && has_ended(socket) ? -EPIPE : -EPROTO;
}

/* ---- all memory first ---- */

struct desk {
	uint8_t *data;
	size_t room;
	struct reserve reserve;
};

static void clear_desk(struct desk *d)
{
	OPENSSL_clear_free(d->data, d->room);
	reserve_free(&d->reserve);
	*d = (struct desk){ .room = 0 };
}

/* For a letter of this size. 0 or -ENOMEM. */
static int set_desk(struct desk *d, size_t size)
{
	if (d->room > size)
		return 0;
	clear_desk(d);
	d->data = OPENSSL_malloc(size + 1);
	if (!d->data || reserve_make(&d->reserve, size))
		return -ENOMEM;
	d->room = size + 1;
	return 0;
}

/* A message for which memory or file descriptors are missing is lost: so both are asked for
 * before. 0 or a negative errno; no message is none to be prepared for. */
static int prepare(struct desk *d, int socket)
{
	struct message next;
	ssize_t n = sys_recv(socket, &next, sizeof(next), MSG_PEEK);
	int err;

	if (n < 0)
		return (int)n;
	err = set_desk(d, is_message(&next, n) ? next.size : 0);
	return err ? err : sys_spare_fds(socket, FDS);
}

/* The letter in the pipe, whose reader is the connection's owner from then on. */
static int open_letter(struct tlsfd *c, const int *fd, struct desk *d)
{
	struct identity then, now;
	ssize_t size = sys_pipe_take(fd[LETTER], d->data, d->room);
	int err;

	if (size <= 0)
		return size ? (int)size : -EALREADY;
	err = letter_read(c, &then, d->data, (size_t)size, &d->reserve);
	if (err)
		return err;
	c->fd = fd[SOCKET];
	if (identity_of(c->fd, &now) || !identity_fits(&then, &now))
		return -ESTALE;
	return rekey_go_on(c, now.cipher);
}

static int take_next(struct tlsfd *c, int socket, struct desk *d)
{
	struct message got;
	int fd[FDS], err = receive_fds(socket, fd, &got);

	if (err)
		return err;
	err = set_desk(d, got.size); /* another thread may have taken what we have seen */
	if (!err)
		err = open_letter(c, fd, d);
	close_fds(fd + LETTER, 1);
	close_fds(fd + SOCKET, err ? 1 : 0);
	return err;
}

static int take(struct tlsfd **conn, int socket)
{
	struct desk desk = { .room = 0 };
	struct tlsfd *c = connection_new();
	int err = c ? prepare(&desk, socket) : -ENOMEM;

	if (!err)
		err = take_next(c, socket, &desk);
	clear_desk(&desk);
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
