/*
 * What we send: data.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <limits.h>

#include "owed.h"
#include "sys.h"
#include "userspace.h"

/* Lets the writer in: 0, or what stands against data. */
static int enter(struct tlsfd *c)
{
	int err;

	if (!gate_enter(&c->gate))
		return 0;
	err = owed_pay(c, 0);
	if (!gate_is_shut(&c->gate))
		return err;
	err = atomic_load(&c->err[TX]);
	return err ? err : -EPIPE;
}

/* The writer goes, with this result. */
static ssize_t leave(struct tlsfd *c, ssize_t sent)
{
	if (gate_leave(&c->gate))
		owed_settle(c);
	return sent;
}

/* The same after data: errors are the connection's. */
static ssize_t finish(struct tlsfd *c, ssize_t sent)
{
	if (sent < 0 && sent != -EAGAIN && c->open) {
		sent = connection_fail_tcp(c, TX, sent == -EBADMSG ? -EPIPE : (int)sent);
		gate_shut(&c->gate); /* after the first, sends "succeed" for ever */
	}
	return leave(c, sent);
}

static ssize_t send_kernel(const struct tlsfd *c, const struct iovec *iov, int count)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count };

	if (count == 1)
		return sys_send(c->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL);
	return sys_sendmsg(c->fd, &msg, MSG_NOSIGNAL);
}

/* EBADMSG is what the reader met. We go on, and send its alert when we are through. */
static ssize_t send_data(struct tlsfd *c, const struct iovec *iov, int count)
{
	ssize_t sent;

	if (!c->kernel[TX])
		return userspace_write(c, iov, count, 0);
	sent = send_kernel(c, iov, count);
	if (sent != -EBADMSG)
		return sent;
	sys_clear_error(c->fd);
	return send_kernel(c, iov, count);
}

static ssize_t write_all(struct tlsfd *c, const struct iovec *iov, int count)
{
	int err = enter(c);

	return err ? leave(c, err) : finish(c, send_data(c, iov, count));
}

ssize_t tlsfd_write(struct tlsfd *c, const void *buf, size_t n)
{
	struct iovec iov = { (void *)buf, n };

	return write_all(c, &iov, 1);
}

ssize_t tlsfd_writev(struct tlsfd *c, const struct iovec *iov, int count)
{
	return count < 0 || count > IOV_MAX ? -EINVAL : write_all(c, iov, count);
}

/* ---- files ---- */

/* n bytes of the file from `at`: the count, or a negative errno; *in: it is the file's. */
static ssize_t copy(struct tlsfd *c, int file, off_t at, size_t n, bool *in)
{
	uint8_t buf[16384];
	size_t done = 0;

	while (done < n) {
		size_t part = n - done < sizeof(buf) ? n - done : sizeof(buf);
		ssize_t got = sys_pread(file, buf, part, at + (off_t)done);
		struct iovec iov = { buf, (size_t)got };
		ssize_t sent = got > 0 ? userspace_write(c, &iov, 1, 0) : got;

		*in = got < 0;
		if (sent <= 0)
			return done ? (ssize_t)done : sent;
		done += (size_t)sent;
		if (sent < got)
			break;
	}
	return (ssize_t)done;
}

/* sendfile(2) for a direction that OpenSSL has. */
static ssize_t send_copy(struct tlsfd *c, int file, off_t *offset, size_t n, bool *in)
{
	off_t at = sys_position(file, offset ? *offset : -1);
	ssize_t sent;

	*in = at < 0;
	if (at < 0)
		return at == -ESPIPE ? -EINVAL : at;
	sent = copy(c, file, at, n, in);
	if (sent > 0 && offset)
		*offset += sent;
	else if (sent > 0)
		sys_seek(file, at + sent);
	return sent;
}

/* Errors of the file, not of the connection. */
static bool is_of_file(ssize_t err)
{
	return err == -EBADF || err == -EINVAL || err == -EIO || err == -EFAULT ||
	       err == -EOVERFLOW || err == -ESPIPE || err == -EISDIR;
}

ssize_t tlsfd_sendfile(struct tlsfd *c, int file, off_t *offset, size_t n)
{
	bool in = false;
	ssize_t sent = enter(c);

	if (sent)
		return leave(c, sent);
	if (c->kernel[TX]) {
		sent = sys_sendfile(c->fd, file, offset, n);
		if (sent == -EBADMSG) { /* see send_data */
			sys_clear_error(c->fd);
			sent = sys_sendfile(c->fd, file, offset, n);
		}
		in = is_of_file(sent);
	} else {
		sent = send_copy(c, file, offset, n, &in);
	}
	return in ? leave(c, sent) : finish(c, sent);
}
