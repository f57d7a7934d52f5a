/* SPDX-License-Identifier: MIT */
#include "wire.h"

#include <errno.h>
#include <pthread.h>

#include "sys.h"

/* Bytes of a handshake. The longest chain that OpenSSL takes has 100 KB; but HelloRequests it
 * skips for as long as some come (RFC 5246 section 7.4.1.1), and no deadline is looked at. */
enum { READ_MAX = 1 << 20 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;

static int flags(const struct wire *w)
{
	return MSG_NOSIGNAL | (w->nowait ? MSG_DONTWAIT : 0);
}

static int note(struct wire *w, ssize_t n)
{
	if (n >= 0)
		return (int)n;
	if (n != -EAGAIN && !w->err)
		w->err = (int16_t)n;
	return -1;
}

static int wire_read(BIO *bio, char *data, int size)
{
	struct wire *w = BIO_get_data(bio);
	struct iovec iov = { data, (size_t)size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = BIO_number_read(bio) < READ_MAX ? sys_recvmsg(w->fd, &msg, flags(w)) : -EPROTO;

	BIO_clear_retry_flags(bio);
	if (n == -EAGAIN)
		BIO_set_retry_read(bio);
	w->eof = n == 0;
	return note(w, n);
}

static int wire_write(BIO *bio, const char *data, int size)
{
	struct wire *w = BIO_get_data(bio);
	struct iovec iov = { (void *)data, (size_t)size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = sys_sendmsg(w->fd, &msg, flags(w));

	BIO_clear_retry_flags(bio);
	if (n == -EAGAIN)
		BIO_set_retry_write(bio);
	return note(w, n);
}

static long wire_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	const struct wire *w = BIO_get_data(bio);

	(void)num;
	switch (cmd) {
	case BIO_C_GET_FD:
		if (w->hidden)
			return -1;
		if (ptr)
			*(int *)ptr = w->fd;
		return w->fd;
	case BIO_CTRL_EOF:
		return w->eof;
	case BIO_CTRL_FLUSH:
		return 1;
	default:
		return 0;
	}
}

/* The type is the one of OpenSSL's socket BIO: SSL_get_fd and validate.c go by it. */
static void make_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOCKET, "tlsfd socket");

	if (m && BIO_meth_set_read(m, wire_read) && BIO_meth_set_write(m, wire_write) &&
	    BIO_meth_set_ctrl(m, wire_ctrl))
		method = m;
	else
		BIO_meth_free(m);
}

int wire_attach(struct wire *w, SSL *ssl)
{
	BIO *bio;

	pthread_once(&once, make_method);
	bio = method ? BIO_new(method) : NULL;
	if (!bio)
		return -ENOMEM;
	BIO_set_data(bio, w);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl, bio, bio);
	return 0;
}
