/* SPDX-License-Identifier: MIT */
#include "input.h"

#include <errno.h>
#include <unistd.h>

enum { CHUNK = 1 << 20 };

void input_start(struct input *in, struct splicer *splicer, int fd)
{
	in->splicer = splicer;
	in->tls = splicer->tls;
	in->fd = fd;
	in->kind = kind_of(fd);
	in->direct =
		in->kind == KIND_FILE || (in->kind == KIND_PIPE && tlsfd_kernel(in->tls, TLSFD_TX));
	in->blocked = in->ended = false;
	in->bytes = in->have = in->sent = 0;
	in->most = SPLICER_RECORD;
}

static int note(struct input *in, ssize_t n)
{
	if (n == 0)
		in->ended = true;
	if (n > 0)
		in->bytes += (uint64_t)n;
	if (n == -EAGAIN) /* of the connection: fd was readable */
		in->blocked = true;
	return n < 0 && n != -EAGAIN ? (int)n : 0;
}

/* A count, 0 at the end, or a negative errno. */
static ssize_t move_direct(struct input *in)
{
	ssize_t n;

	if (in->kind == KIND_FILE)
		return tlsfd_sendfile(in->tls, in->fd, NULL, CHUNK);
	n = splicer_give(in->splicer, in->fd, in->most);
	/* behind a full record more is likely: TCP waits for it, until nothing is there */
	in->most = n >= SPLICER_RECORD ? PIPE_ROOM : SPLICER_RECORD;
	return n < 0 && n != -EAGAIN ? splicer_reason(in->splicer, (int)n) : n;
}

static int write_buffer(struct input *in)
{
	while (in->sent < in->have) {
		ssize_t n = tlsfd_write(in->tls, in->buf + in->sent, in->have - in->sent);

		if (n < 0)
			return note(in, n);
		in->sent += (size_t)n;
		in->bytes += (uint64_t)n;
	}
	return 0;
}

static int move_buffer(struct input *in, bool *own)
{
	ssize_t n = read(in->fd, in->buf, sizeof(in->buf));

	*own = n < 0;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	in->ended = n == 0;
	in->have = (size_t)n;
	in->sent = 0;
	return write_buffer(in);
}

int input_move(struct input *in, bool *own)
{
	ssize_t n;

	if (!in->direct)
		return move_buffer(in, own);
	n = move_direct(in);
	*own = n < 0 && in->kind == KIND_FILE && !tlsfd_error(in->tls);
	if (n != -EINVAL || in->kind != KIND_FILE)
		return note(in, n);
	in->direct = false; /* a file that has no splice, as some of /proc */
	return move_buffer(in, own);
}

void input_end(struct input *in)
{
	in->ended = true;
	in->blocked = false;
	in->sent = in->have;
}

int input_unblock(struct input *in)
{
	in->blocked = false;
	return write_buffer(in);
}
