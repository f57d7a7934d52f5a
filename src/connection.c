/* SPDX-License-Identifier: MIT */
#include "connection.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "sys.h"
#include "userspace.h"

void connection_start(struct tlsfd *c, const struct plan *plan)
{
	c->fd = plan->fd;
	for (enum way way = RX; way < WAYS; way++)
		c->kernel[way] = plan->mover[way] != TLSFD_MOVER_NONE;
	c->control.client = !SSL_is_server(plan->ssl);
	c->control.tls13 = SSL_version(plan->ssl) == TLS1_3_VERSION;
	if (!c->kernel[RX] || !c->kernel[TX])
		userspace_take(c, plan->ssl);
}

int connection_fail(struct tlsfd *c, enum way way, int err, const char *sentence)
{
	if (!c->err[way])
		c->err[way] = err;
	if (!c->error)
		c->error = sentence;
	return c->err[way];
}

/* ---- reading ---- */

static int record_type(struct msghdr *msg)
{
	const struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);

	if (!cmsg || cmsg->cmsg_level != SOL_TLS || cmsg->cmsg_type != TLS_GET_RECORD_TYPE)
		return -1;
	return *CMSG_DATA(cmsg);
}

/* One recvmsg: what came to buf, and the type of its record; -1 when none came. */
static ssize_t receive(int fd, void *buf, size_t n, int *type)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(1)];
	} control;
	struct iovec iov = { buf, n };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t got = sys_recvmsg(fd, &msg, 0);

	*type = got < 0 ? -1 : record_type(&msg);
	return got;
}

static int fail_read(struct tlsfd *c, int err)
{
	if (err == -EAGAIN)
		return err;
	switch (err) {
	case -EBADMSG:
		return connection_fail(c, RX, err, "a record did not decrypt");
	case -EMSGSIZE:
	case -EINVAL:
		return connection_fail(c, RX, err, "the peer sent something that is no TLS record");
	case -EKEYEXPIRED:
		return connection_fail(c, RX, err, "the peer changed its keys (KeyUpdate)");
	case -ECONNRESET:
		return connection_fail(c, RX, err, "the peer reset the connection");
	default:
		return connection_fail(c, RX, err, strerrordesc_np(-err));
	}
}

/* 0: read on; else what tlsfd_read returns from now on (EOF: see c->eof). */
static int control_record(struct tlsfd *c, int type, const void *data, size_t n)
{
	switch (control_take(&c->control, (uint8_t)type, data, n)) {
	case CONTROL_GO_ON:
		return 0;
	case CONTROL_END:
		c->eof = true;
		return 0;
	case CONTROL_ALERT:
		return connection_fail(c, RX, -EPROTO, "the peer sent a fatal alert");
	case CONTROL_KEY_UPDATE:
		return connection_fail(c, RX, -EKEYEXPIRED, "the peer changed its keys (KeyUpdate)");
	case CONTROL_UNEXPECTED:
		break;
	}
	return connection_fail(c, RX, -EPROTO, "the peer sent a record that has no place here");
}

static ssize_t read_kernel(struct tlsfd *c, void *buf, size_t n)
{
	while (!c->eof) {
		int type, err;
		ssize_t got = receive(c->fd, buf, n, &type);

		if (got < 0)
			return fail_read(c, (int)got);
		if (type == RECORD_DATA)
			return got;
		if (type < 0)
			return connection_fail(c, RX, -ECONNABORTED,
					       "the peer ended TCP without close_notify");
		err = control_record(c, type, buf, (size_t)got);
		if (err)
			return err;
	}
	return 0;
}

ssize_t tlsfd_read(struct tlsfd *c, void *buf, size_t n)
{
	if (c->err[RX])
		return c->err[RX];
	if (n == 0 || c->eof)
		return 0;
	return c->kernel[RX] ? read_kernel(c, buf, n) : userspace_read(c, buf, n);
}

/* ---- writing ---- */

static int fail_write(struct tlsfd *c, int err)
{
	if (err == -EAGAIN)
		return err;
	return connection_fail(c, TX, err,
			       err == -EPIPE ? "the connection is closed for writing" :
					       strerrordesc_np(-err));
}

ssize_t tlsfd_write(struct tlsfd *c, const void *buf, size_t n)
{
	struct iovec iov = { (void *)buf, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (c->err[TX])
		return c->err[TX];
	if (c->sent_close_notify)
		return -EPIPE;
	if (!c->kernel[TX])
		return userspace_write(c, buf, n);
	sent = sys_sendmsg(c->fd, &msg, MSG_NOSIGNAL);
	return sent < 0 ? fail_write(c, (int)sent) : sent;
}

/* One record of the given type. 0 or a negative errno. */
static int send_control(int fd, uint8_t type, const void *data, size_t n)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(1)];
	} control = { .align = { .cmsg_len = CMSG_LEN(1),
				 .cmsg_level = SOL_TLS,
				 .cmsg_type = TLS_SET_RECORD_TYPE } };
	struct iovec iov = { (void *)data, n };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t sent;

	*CMSG_DATA(&control.align) = type;
	sent = sys_sendmsg(fd, &msg, MSG_NOSIGNAL);
	return sent < 0 ? (int)sent : 0;
}

int tlsfd_shutdown(struct tlsfd *c)
{
	static const uint8_t close_notify[] = { 1, 0 };
	int err;

	if (c->sent_close_notify)
		return 0;
	if (c->err[TX])
		return c->err[TX];
	err = c->kernel[TX] ? send_control(c->fd, RECORD_ALERT, close_notify, sizeof(close_notify)) :
			      userspace_shutdown(c);
	if (err < 0)
		return fail_write(c, err);
	c->sent_close_notify = true;
	return 0;
}

/* ---- facts and ends ---- */

int tlsfd_fd(const struct tlsfd *c)
{
	return c->fd;
}

bool tlsfd_kernel(const struct tlsfd *c, enum tlsfd_direction dir)
{
	return c->kernel[way_of(dir)];
}

short tlsfd_wants(const struct tlsfd *c, enum tlsfd_direction dir)
{
	enum way way = way_of(dir);

	if (!c->kernel[way])
		return userspace_wants(c, way);
	return way == RX ? POLLIN : POLLOUT;
}

int tlsfd_alert(const struct tlsfd *c)
{
	return c->err[RX] == -EPROTO && c->control.alert ? c->control.alert : -1;
}

const char *tlsfd_error(const struct tlsfd *c)
{
	return c->error;
}

int tlsfd_release(struct tlsfd **c)
{
	int fd;

	if (!c || !*c)
		return -EINVAL;
	fd = (*c)->fd;
	if (!(*c)->kernel[RX] || !(*c)->kernel[TX])
		return -EXDEV;
	tlsfd_free(*c);
	*c = NULL;
	return fd;
}

void tlsfd_free(struct tlsfd *c)
{
	if (!c)
		return;
	SSL_free(c->ssl);
	free(c);
}
