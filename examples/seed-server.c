/*
 * The server that asks: why is kernel TLS enabled on TX but not on RX?
 *
 *	seed-server [--with-tlsfd] cert.pem priv.pem
 *
 * Listens on a free port of 127.0.0.1, says which on stdout, serves one
 * connection, and prints as the question does: 1 for TX and 1 or 0 for RX.
 * The two lines marked "tlsfd" are all that --with-tlsfd adds.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <err.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <tlsfd/openssl.h>
#include <unistd.h>

static const char greeting[] = "hello over TLS\n";

static _Noreturn void die(const char *what)
{
	ERR_print_errors_fp(stderr);
	errx(1, "%s failed", what);
}

static int accept_one(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int sock;

	if (listener < 0 || bind(listener, (struct sockaddr *)&addr, len) < 0 ||
	    listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&addr, &len) < 0)
		err(1, "listen");
	printf("port %d\n", ntohs(addr.sin_port));
	fflush(stdout);
	sock = accept(listener, NULL, NULL);
	if (sock < 0)
		err(1, "accept");
	close(listener);
	return sock;
}

int main(int argc, char **argv)
{
	bool with_tlsfd = argc == 4 && strcmp(argv[1], "--with-tlsfd") == 0;
	char **file = argv + (with_tlsfd ? 2 : 1);
	struct tlsfd *conn = NULL;
	SSL_CTX *ctx;
	SSL *ssl;
	int sock;

	if (argc != 3 && !with_tlsfd)
		errx(2, "usage: seed-server [--with-tlsfd] cert.pem priv.pem");

	ctx = SSL_CTX_new(TLS_server_method());
	if (!ctx)
		die("SSL_CTX_new");
	SSL_CTX_set_options(ctx, SSL_OP_ENABLE_KTLS);
	if (SSL_CTX_use_certificate_chain_file(ctx, file[0]) != 1)
		die(file[0]);
	if (SSL_CTX_use_PrivateKey_file(ctx, file[1], SSL_FILETYPE_PEM) != 1)
		die(file[1]);
	if (with_tlsfd && tlsfd_prepare(ctx) < 0) die("tlsfd_prepare"); /* tlsfd */

	sock = accept_one();
	ssl = SSL_new(ctx);
	if (!ssl || SSL_set_fd(ssl, sock) != 1)
		die("SSL_set_fd");
	if (SSL_accept(ssl) != 1)
		die("SSL_accept");
	if (with_tlsfd && tlsfd_handover(ssl, &conn, NULL) < 0) die("tlsfd_handover"); /* tlsfd */

	fprintf(stderr, "%d\n", BIO_get_ktls_send(SSL_get_wbio(ssl)));
	fprintf(stderr, "%d\n", BIO_get_ktls_recv(SSL_get_rbio(ssl)));

	if (!with_tlsfd) {
		char buf[4096];
		int n;

		SSL_write(ssl, greeting, sizeof(greeting) - 1);
		while ((n = SSL_read(ssl, buf, sizeof(buf))) > 0)
			fwrite(buf, 1, (size_t)n, stdout);
		SSL_shutdown(ssl);
		SSL_free(ssl);
	} else {
		char buf[4096];
		ssize_t n;

		SSL_free(ssl); /* OpenSSL is gone: the fd itself is the TLS connection */
		if (write(sock, greeting, sizeof(greeting) - 1) < 0)
			err(1, "write");
		while ((n = read(sock, buf, sizeof(buf))) > 0)
			fwrite(buf, 1, (size_t)n, stdout);
		/* read(2) stops with EIO at the peer's close_notify, a record that isn't data */
		if (tlsfd_read(conn, buf, sizeof(buf)) < 0 || tlsfd_shutdown(conn) < 0)
			errx(1, "%s", tlsfd_error(conn));
		tlsfd_free(conn);
	}
	SSL_CTX_free(ctx);
	close(sock);
	return 0;
}
