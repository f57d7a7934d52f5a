/* SPDX-License-Identifier: MIT */
#include "writing.h"

#include <errno.h>
#include <limits.h>

#include "met.h"
#include "owed.h"
#include "sys.h"
#include "userspace.h"

/* What is owed goes first. 0, or what stands against data. */
static int before_data(struct tlsfd *c, int flags)
{
	int err = owed_pay(c, OWED_ALL, flags);

	if (!gate_is_shut(&c->gate))
		return err;
	err = atomic_load(&c->err[TX]);
	return err ? err : -EPIPE;
}

/* Lets the writer in: 0, or what stands against data. */
static int enter(struct tlsfd *c)
{
	return gate_enter(&c->gate) ? before_data(c, 0) : 0;
}

/* The writer goes, with this result. */
static ssize_t leave(struct tlsfd *c, ssize_t sent)
{
	if (gate_leave(&c->gate))
		owed_settle(c, OWED_ALL);
	return sent;
}

static ssize_t fail(struct tlsfd *c, ssize_t err)
{
	gate_shut(&c->gate); /* after the first, sends "succeed" for ever */
	return connection_fail_tcp(c, TX, err == -EBADMSG ? -EPIPE : (int)err);
}

/* -EKEYEXPIRED is kept already; close_notify may follow it. */
static bool is_failure(const struct tlsfd *c, ssize_t sent)
{
	return sent < 0 && sent != -EAGAIN && sent != -EKEYEXPIRED && c->open;
}

/* The same after data: errors are the connection's. */
static ssize_t finish(struct tlsfd *c, ssize_t sent)
{
	return leave(c, is_failure(c, sent) ? fail(c, sent) : sent);
}

/* ---- what is written: bytes, or a file ---- */

struct source {
	const struct iovec *iov; /* NULL: the file */
	int count;
	int file;
	off_t *offset;
	bool in; /* the error is the file's */
};

static ssize_t send_kernel(const struct tlsfd *c, const struct iovec *iov, int count)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count };

	if (count == 1)
		return sys_send(c->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL);
	return sys_sendmsg(c->fd, &msg, MSG_NOSIGNAL);
}

/* What the reader should have met is no matter of ours: its alert comes behind. */
static ssize_t send_bytes(struct tlsfd *c, const struct iovec *iov, int count)
{
	ssize_t sent;

	if (!c->kernel[TX])
		return userspace_write(c, iov, count, 0);
	sent = send_kernel(c, iov, count);
	return met_sending(c, sent) ? send_kernel(c, iov, count) : sent;
}

static ssize_t send_file(struct tlsfd *c, struct source *s, size_t n);

/* ---- the limit of a key ---- */

enum { PART_VECTORS = 16 };

/* Up to n bytes of iov behind the first done; returns how many vectors. */
static int cut(const struct iovec *iov, int count, size_t done, size_t n, struct iovec *part)
{
	int used = 0;

	for (; count && n && used < PART_VECTORS; iov++, count--) {
		size_t left = iov->iov_len - (done < iov->iov_len ? done : iov->iov_len);

		done -= iov->iov_len - left;
		if (!left)
			continue;
		part[used].iov_base = (uint8_t *)iov->iov_base + iov->iov_len - left;
		part[used].iov_len = left < n ? left : n;
		n -= part[used++].iov_len;
	}
	return used;
}

static ssize_t send_part(struct tlsfd *c, struct source *s, size_t done, size_t n)
{
	struct iovec part[PART_VECTORS];

	if (!s->iov)
		return send_file(c, s, n);
	return send_bytes(c, part, cut(s->iov, s->count, done, n, part));
}

/* As much under each key as there is room for, with new keys in between. */
static ssize_t send_in_parts(struct tlsfd *c, struct source *s, size_t n)
{
	size_t done = 0;
	ssize_t sent;

	do {
		ssize_t room = rekey_room(c, 0);

		sent = room < 0 ? room :
				  send_part(c, s, done,
					    n - done < (size_t)room ? n - done : (size_t)room);
		done += sent > 0 ? (size_t)sent : 0;
	} while (sent > 0 && done < n);
	if (done && !s->in && is_failure(c, sent))
		fail(c, sent);
	return done ? (ssize_t)done : sent;
}

static ssize_t send_all(struct tlsfd *c, struct source *s, size_t n)
{
	if (!rekey_spend(&c->rekey, n))
		return send_in_parts(c, s, n);
	return s->iov ? send_bytes(c, s->iov, s->count) : send_file(c, s, n);
}

/* ---- bytes ---- */

static ssize_t write_all(struct tlsfd *c, const struct iovec *iov, int count, size_t n)
{
	struct source s = { .iov = iov, .count = count };
	int err = enter(c);

	return err ? leave(c, err) : finish(c, send_all(c, &s, n));
}

ssize_t tlsfd_write(struct tlsfd *c, const void *buf, size_t n)
{
	struct iovec iov = { (void *)buf, n };

	return write_all(c, &iov, 1, n);
}

ssize_t tlsfd_writev(struct tlsfd *c, const struct iovec *iov, int count)
{
	size_t n = 0;

	if (count < 0 || count > IOV_MAX)
		return -EINVAL;
	for (int i = 0; i < count; i++)
		n += iov[i].iov_len;
	return write_all(c, iov, count, n);
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
	off_t at = sys_position(file, offset);
	ssize_t sent;

	*in = at < 0;
	if (at < 0)
		return at;
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

static ssize_t send_file(struct tlsfd *c, struct source *s, size_t n)
{
	ssize_t sent;

	if (!c->kernel[TX])
		return send_copy(c, s->file, s->offset, n, &s->in);
	sent = sys_sendfile(c->fd, s->file, s->offset, n);
	if (sent == -EINVAL) { /* the file's, or else it is not said again */
		sent = sys_sendfile(c->fd, s->file, s->offset, n);
		if (sent != -EINVAL)
			met_sending(c, -EINVAL);
	} else if (met_sending(c, sent)) {
		sent = sys_sendfile(c->fd, s->file, s->offset, n);
	}
	s->in = is_of_file(sent);
	return sent;
}

ssize_t tlsfd_sendfile(struct tlsfd *c, int file, off_t *offset, size_t n)
{
	struct source s = { .file = file, .offset = offset };
	ssize_t sent;

	if (n > SSIZE_MAX)
		return -EINVAL;
	sent = enter(c);
	if (sent)
		return leave(c, sent);
	sent = send_all(c, &s, n);
	return s.in ? leave(c, sent) : finish(c, sent);
}

/* ---- keys ---- */

int tlsfd_rekey(struct tlsfd *c, bool request)
{
	int err;

	if (!c->open)
		return -ENOTCONN;
	if (!rekey_can(c, TX))
		return -EOPNOTSUPP;
	err = enter(c);
	return (int)(err ? leave(c, err) : finish(c, rekey_tx(c, request, 0)));
}

/* That the caller doesn't write now is what makes it possible. */
int writing_attend(struct tlsfd *c)
{
	int err;

	if (!c->kernel[TX] && !c->user)
		return -ENOTCONN;
	if (!gate_try(&c->gate))
		return -EAGAIN;
	err = before_data(c, MSG_DONTWAIT);
	if (err)
		return (int)leave(c, err);
	err = c->kernel[TX] ? 0 : userspace_flush(c);
	if (!err)
		err = rekey_check(c);
	return (int)(err ? finish(c, err) : leave(c, 1));
}
