/* SPDX-License-Identifier: MIT */
#include "userspace.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>

void userspace_take(struct tlsfd *c, SSL *ssl)
{
	SSL_up_ref(ssl);
	c->ssl = ssl;
	/* tlsfd_write takes what fits, from any buffer */
	SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

/* errno as OpenSSL left it, of a call that returned ret. */
static int translate(struct tlsfd *c, enum way way, int ret, int saved_errno)
{
	switch (SSL_get_error(c->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		c->eof = true;
		return 0;
	case SSL_ERROR_SYSCALL:
		if (saved_errno)
			return connection_fail(c, way, -saved_errno, strerrordesc_np(saved_errno));
		return connection_fail(c, way, -ECONNABORTED,
				       "the peer ended TCP without close_notify");
	default:
		break;
	}
	if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return connection_fail(c, way, -ECONNABORTED,
				       "the peer ended TCP without close_notify");
	return connection_fail(c, way, -EPROTO, "OpenSSL met an error of the protocol");
}

ssize_t userspace_read(struct tlsfd *c, void *buf, size_t n)
{
	size_t got = 0;
	int ret;

	ERR_clear_error();
	errno = 0;
	ret = SSL_read_ex(c->ssl, buf, n, &got);
	return ret > 0 ? (ssize_t)got : translate(c, RX, ret, errno);
}

ssize_t userspace_write(struct tlsfd *c, const void *buf, size_t n)
{
	size_t sent = 0;
	int ret;

	ERR_clear_error();
	errno = 0;
	ret = SSL_write_ex(c->ssl, buf, n, &sent);
	return ret > 0 ? (ssize_t)sent : translate(c, TX, ret, errno);
}

int userspace_shutdown(struct tlsfd *c)
{
	int ret;

	ERR_clear_error();
	errno = 0;
	ret = SSL_shutdown(c->ssl);
	return ret >= 0 ? 0 : translate(c, TX, ret, errno);
}

short userspace_wants(const struct tlsfd *c, enum way way)
{
	if (SSL_want_write(c->ssl))
		return POLLOUT;
	if (SSL_want_read(c->ssl))
		return POLLIN;
	return way == RX ? POLLIN : POLLOUT;
}
