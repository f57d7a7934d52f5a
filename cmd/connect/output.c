/* SPDX-License-Identifier: MIT */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TURNS = 32 }; /* then the other direction has its turn */

void output_start(struct output *out, struct splicer *splicer, int fd)
{
	struct pipes none = { .idle = NULL };

	out->splicer = splicer;
	out->tls = splicer->tls;
	out->fd = fd;
	out->kind = kind_of(fd);
	/* a socket that blocks would make splice wait; terminals have no splice of their own */
	out->direct = tlsfd_kernel(out->tls, TLSFD_RX) && out->kind != KIND_SOCKET &&
		      out->kind != KIND_TERMINAL;
	out->ended = false;
	out->bytes = out->in_pipe = out->have = out->sent = 0;
	/* one with room for a record, or none */
	out->pipe = out->direct ? pipes_take(&none, 0) : NULL;
	out->direct = out->pipe;
}

void output_stop(struct output *out)
{
	if (out->pipe)
		pipes_drop(out->pipe);
	out->pipe = NULL;
}

bool output_holds(const struct output *out)
{
	return out->in_pipe || out->sent < out->have;
}

/* ---- from the connection ---- */

/* A count; 0: close_notify; or a negative errno. */
static ssize_t fill(struct output *out)
{
	ssize_t n;

	if (out->direct) {
		n = splicer_take(out->splicer, out->pipe->in);
		out->in_pipe = n > 0 ? (size_t)n : 0;
		return n;
	}
	n = tlsfd_read(out->tls, out->buf, sizeof(out->buf));
	out->have = n > 0 ? (size_t)n : 0;
	out->sent = 0;
	return n;
}

/* ---- to the descriptor ---- */

/* How much of n bytes fd takes without waiting: 0 or a negative errno. A pipe that is
 * writable has room for PIPE_BUF (pipe(7)). */
static int room(const struct output *out, size_t *n)
{
	struct pollfd p = { .fd = out->fd, .events = POLLOUT };

	if (out->kind == KIND_FILE || out->kind == KIND_SOCKET)
		return 0;
	if (poll(&p, 1, 0) <= 0)
		return -EAGAIN;
	if (out->kind == KIND_PIPE && *n > PIPE_BUF)
		*n = PIPE_BUF;
	return 0;
}

static ssize_t write_some(const struct output *out, const char *data, size_t n)
{
	int err = room(out, &n);
	ssize_t done;

	if (err)
		return err;
	done = out->kind == KIND_SOCKET ? send(out->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL) :
					  write(out->fd, data, n);
	if (done < 0 && errno == EINTR)
		return 0;
	return done < 0 ? -errno : done;
}

static int write_buffer(struct output *out)
{
	while (out->sent < out->have) {
		ssize_t n = write_some(out, out->buf + out->sent, out->have - out->sent);

		if (n < 0)
			return (int)n;
		out->sent += (size_t)n;
		out->bytes += (uint64_t)n;
	}
	return 0;
}

/* fd takes no splice (O_APPEND, some devices): what is in the pipe goes by buf. */
static int splice_to_buffer(struct output *out)
{
	ssize_t n;

	out->direct = false;
	while (out->in_pipe) {
		int err = write_buffer(out);

		if (err)
			return err;
		n = read(out->pipe->out, out->buf, sizeof(out->buf));
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		out->in_pipe -= (size_t)n;
		out->have = (size_t)n;
		out->sent = 0;
	}
	return write_buffer(out);
}

static int splice_out(struct output *out)
{
	while (out->in_pipe) {
		ssize_t n = splice(out->pipe->out, NULL, out->fd, NULL, out->in_pipe,
				   SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

		if (n < 0)
			return errno == EINVAL ? splice_to_buffer(out) : -errno;
		out->in_pipe -= (size_t)n;
		out->bytes += (uint64_t)n;
	}
	return 0;
}

static int drain(struct output *out)
{
	return out->direct ? splice_out(out) : splice_to_buffer(out);
}

/* ---- both ---- */

static int settle(ssize_t n)
{
	return n == -EAGAIN ? 0 : (int)n;
}

int output_move(struct output *out, bool *own)
{
	for (int i = 0; i < TURNS && !out->ended; i++) {
		ssize_t n = drain(out);

		*own = n < 0;
		if (n)
			return settle(n);
		n = fill(out);
		if (n < 0)
			return settle(n);
		out->ended = n == 0;
	}
	*own = true;
	return settle(drain(out));
}

void output_finish(struct output *out)
{
	int nothing;

	if (out->kind == KIND_SOCKET) {
		shutdown(out->fd, SHUT_WR);
		return;
	}
	/* the number stays taken */
	nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (nothing >= 0) {
		dup2(nothing, out->fd);
		close(nothing);
	}
}

void output_cut(struct output *out)
{
	const struct linger at_once = { .l_onoff = 1 };

	if (out->kind == KIND_SOCKET)
		setsockopt(out->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}
