/* SPDX-License-Identifier: MIT */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
	ROOM = 32 * 1024,
	TURN_MESSAGES = 16, /* before others have their turn: whoever is there may write for ever */
};

const char *role_name(enum role role)
{
	static const char *const names[] = { "handshake", "data", "metrics" };

	return names[role];
}

static void limit_room(int end)
{
	const int room = ROOM;

	setsockopt(end, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}

int channel_open(int ends[ROLES])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	for (int i = 0; i < ROLES; i++)
		limit_room(ends[i]);
	return 0;
}

static bool is_shut(const int ends[ROLES])
{
	struct pollfd p[ROLES];

	for (int i = 0; i < ROLES; i++)
		p[i] = (struct pollfd){ ends[i], POLLRDHUP, 0 };
	return poll(p, ROLES, 0) > 0;
}

/* Flags are of the description, which all that had this end have shared. */
bool channel_mend(const int ends[ROLES], enum role role)
{
	limit_room(ends[role]);
	return !is_shut(ends) && fcntl(ends[role], F_SETFL, O_NONBLOCK) == 0;
}

static int put(int fd, const void *message, size_t size)
{
	return send(fd, message, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* ---- connections ---- */

int channel_pass(int fd, struct tlsfd **c, const struct passed *passed, bool *announced)
{
	int err = *announced ? 0 : put(fd, passed, sizeof(*passed));

	if (err)
		return err;
	*announced = true;
	return tlsfd_pass(c, fd);
}

static bool is_address(const struct peer *peer)
{
	return peer->address.any.sa_family == AF_INET || peer->address.any.sa_family == AF_INET6;
}

/*
 * Whoever died between the two messages has left the first one alone: the last before a
 * connection counts. They differ in size.
 */
static void take_announcement(int fd, struct passed *passed)
{
	struct passed got;

	for (int i = 0; i < TURN_MESSAGES; i++) {
		if (recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT) != sizeof(got) ||
		    recv(fd, &got, sizeof(got), MSG_DONTWAIT) != sizeof(got))
			break;
		*passed = got;
	}
}

static uint64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void ask_socket(int fd, struct peer *peer)
{
	socklen_t size = sizeof(peer->address);

	*peer = (struct peer){ .began_ms = clock_ms() };
	if (getpeername(fd, &peer->address.any, &size) < 0)
		peer->address.any.sa_family = AF_UNSPEC;
}

int channel_take(int fd, struct tlsfd **c, struct passed *passed)
{
	int err;

	take_announcement(fd, passed);
	err = tlsfd_take(c, fd);
	if (err)
		return err;
	if (!passed->number || !is_address(&passed->peer) || passed->peer.began_ms > clock_ms())
		ask_socket(tlsfd_fd(*c), &passed->peer);
	return 0;
}

/* ---- the tally ---- */

int channel_tell(int fd, const struct tally *tally)
{
	return put(fd, tally, sizeof(*tally));
}

int channel_hear(int fd, struct tally *tally)
{
	struct tally got;

	for (int heard = 0; heard < TURN_MESSAGES; heard++) {
		ssize_t n = recv(fd, &got, sizeof(got), MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN && heard ? 0 : -errno;
		if (n != sizeof(got))
			return n ? -EPROTO : -EPIPE;
		*tally = got;
	}
	return 1;
}
