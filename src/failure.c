/* SPDX-License-Identifier: MIT */
#include "failure.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "sys.h"

int failf(struct tlsfd *c, enum way way, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (!c->error && !c->text && vasprintf(&c->text, format, args) < 0)
		c->text = NULL;
	va_end(args);
	return connection_fail(c, way, err, c->text ? c->text : "memory is short");
}

void failure_note_alert(const SSL *ssl, int where, int ret)
{
	struct tlsfd *c = SSL_get_app_data(ssl);

	/* afterwards our own is none of the peer's (control.c, userspace.c) */
	if (c && !c->open && where & SSL_CB_ALERT && ret >> 8 == SSL3_AL_FATAL)
		connection_note_alert(c, (uint8_t)ret);
}

static int fail_tcp(struct tlsfd *c, enum way way, int err)
{
	switch (err) {
	case 0:
		return failf(c, way, -ECONNABORTED, "the peer ended TCP during the handshake");
	case -ECONNRESET:
		return failf(c, way, err, "the peer reset the connection");
	case -EPIPE:
		/* reading would have said so */
		return failf(c, way, -ECONNRESET, "the peer reset the connection");
	case -EPROTO: /* of wire.c */
		return failf(c, way, err, "the peer's handshake has no end");
	default:
		return failf(c, way, err, "%s", strerrordesc_np(-err));
	}
}

/* The peer's certificate did not please us. */
static int fail_certificate(struct tlsfd *c, enum way way)
{
	long result = SSL_get_verify_result(c->ssl);

	return failf(c, way, -EKEYREJECTED, "the peer's certificate was not accepted: %s",
		     X509_verify_cert_error_string(result));
}

/* Its very first bytes are no header of a record: a banner, or a line of another protocol. */
static bool is_no_tls(const struct tlsfd *c, int reason)
{
	return reason == SSL_R_WRONG_VERSION_NUMBER &&
	       BIO_number_read(SSL_get_rbio(c->ssl)) <= SSL3_RT_HEADER_LENGTH;
}

static int fail_protocol(struct tlsfd *c, enum way way)
{
	unsigned long error = ERR_peek_error();
	int reason = ERR_GET_REASON(error);
	const char *text = ERR_reason_error_string(error);

	/* TLS 1.3: found before names.c is asked */
	if (reason == SSL_R_NO_SHARED_CIPHER)
		c->version = (uint16_t)SSL_version(c->ssl);
	if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
		return fail_certificate(c, way);
	if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
		return failf(c, way, -EKEYREJECTED, "the peer sent no certificate");
	if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return fail_tcp(c, way, 0);
	if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET &&
	    reason < SSL_AD_REASON_OFFSET + 256)
		return failf(c, way, -EPROTO, "the peer refused with alert %d (%s)",
			     reason - SSL_AD_REASON_OFFSET,
			     SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
	if (reason == ERR_R_MALLOC_FAILURE)
		return failf(c, way, -ENOMEM, "memory is short");
	if (is_no_tls(c, reason))
		return failf(c, way, -EPROTO, "the peer does not speak TLS");
	return failf(c, way, -EPROTO, "TLS failed: %s", text ? text : "OpenSSL does not say why");
}

void failure_answer(struct tlsfd *c)
{
	/* RFC 8446 sections 5.1 and 6 */
	static const uint8_t alert[] = {
		SSL3_RT_ALERT, 3, 1, 0, 2, SSL3_AL_FATAL, SSL3_AD_UNEXPECTED_MESSAGE
	};
	struct iovec iov = { (void *)alert, sizeof(alert) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (!SSL_is_server(c->ssl) || BIO_number_written(SSL_get_wbio(c->ssl)))
		return;
	if (sys_sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(alert))
		connection_note_alert(c, SSL3_AD_UNEXPECTED_MESSAGE);
}

int failure_of(struct tlsfd *c, enum way way, int ret)
{
	switch (SSL_get_error(c->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return failf(c, way, -ECONNABORTED, "the peer closed during the handshake");
	case SSL_ERROR_SYSCALL:
		return fail_tcp(c, way, c->wire.err);
	default:
		return fail_protocol(c, way);
	}
}
