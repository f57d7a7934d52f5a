/* SPDX-License-Identifier: MIT */
#include "splicer.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

/* A splice makes 5 records at most, so many of them half of what the least limit of a key
 * allows (tlsfd_rekey(3)). */
enum { SPLICES_PER_LOOK = 1 << 19 };

void splicer_start(struct splicer *s, struct tlsfd *tls)
{
	*s = (struct splicer){ .tls = tls, .fd = tlsfd_fd(tls), .most = SPLICES_PER_LOOK };
}

/* ---- from TLS ---- */

/* Control records, the end of file, and errors, which the kernel tells only once. Nobody
 * else writes, so that a KeyUpdate is answered here, too. */
static int attend(struct splicer *s, int said)
{
	int next = tlsfd_attend(s->tls, TLSFD_RX | TLSFD_TX, said);

	s->unsettled = next == -EAGAIN;
	return next;
}

/* An empty data record looks like the end of file, and a control record is EINVAL
 * (net/tls/tls_sw.c: tls_sw_splice_read). */
ssize_t splicer_take(struct splicer *s, int pipe)
{
	int next = s->unsettled ? attend(s, 0) : 1;

	while (next > 0) {
		ssize_t n = splice(s->fd, NULL, pipe, NULL, PIPE_ROOM,
				   SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

		if (n > 0)
			return n;
		if (n < 0 && (errno == EAGAIN || errno == ENOMEM))
			return -errno;
		next = attend(s, n < 0 ? -errno : 0);
	}
	return next;
}

/* ---- to TLS ---- */

static bool owes(const struct splicer *s)
{
	return tlsfd_wants(s->tls, TLSFD_RX) & POLLOUT;
}

/* An answer to KeyUpdate goes before data (RFC 8446 section 4.6.3), and nobody else counts
 * the records under our key. */
static int before(struct splicer *s)
{
	int err;

	if (++s->splices < s->most && !owes(s))
		return 0;
	err = tlsfd_attend(s->tls, TLSFD_TX, 0);
	if (err > 0)
		s->splices = 0;
	return err < 0 ? err : 0;
}

static void cork(struct splicer *s, bool on)
{
	if (s->corked != on)
		setsockopt(s->fd, IPPROTO_TCP, TCP_CORK, &(int){ on }, sizeof(int));
	s->corked = on;
}

/*
 * TCP would make a segment of each record, so it gets all of them before it sends. Not by
 * SPLICE_F_MORE, with which a record could stay open: an alert must not meet one before
 * Linux 6.18 (net/tls/tls_sw.c: tls_process_cmsg), nor many small fragments before 7.2
 * (tls_sw_sendmsg_splice). For the same reason never more than is there.
 */
ssize_t splicer_give(struct splicer *s, int pipe, size_t n)
{
	int err = before(s);
	ssize_t sent;

	if (err)
		return err;
	if (n > SPLICER_RECORD)
		cork(s, true);
	sent = splice(pipe, NULL, s->fd, NULL, n < PIPE_ROOM ? n : PIPE_ROOM,
		      SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	return sent < 0 ? -errno : sent;
}

void splicer_push(struct splicer *s)
{
	cork(s, false);
}

int splicer_reason(const struct splicer *s, int err)
{
	int next = 0;

	if (tlsfd_kernel(s->tls, TLSFD_RX))
		next = tlsfd_attend(s->tls, TLSFD_RX | TLSFD_TX, err);
	return next < 0 && next != -EAGAIN ? next : err;
}

void splicer_flush(const struct splicer *s)
{
	int err = 0;

	if (!tlsfd_kernel(s->tls, TLSFD_TX) || owes(s))
		err = tlsfd_attend(s->tls, TLSFD_TX, 0);
	(void)err;
}
