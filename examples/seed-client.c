/*
 * The client of the same question.
 *
 *	seed-client [--with-tlsfd] ca.pem port
 *
 * Connects to 127.0.0.1, prints 1 or 0 for TX and RX, and what the server says.
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

static const char request[] = "hello, server\n";

static _Noreturn void die(const char *what)
{
	ERR_print_errors_fp(stderr);
	errx(1, "%s failed", what);
}

static int connect_to(const char *port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_port = htons((uint16_t)atoi(port)),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (sock < 0 || connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		err(1, "connect to port %s", port);
	return sock;
}

int main(int argc, char **argv)
{
	bool with_tlsfd = argc == 4 && strcmp(argv[1], "--with-tlsfd") == 0;
	char **arg = argv + (with_tlsfd ? 2 : 1);
	struct tlsfd *conn = NULL;
	char buf[4096];
	ssize_t n;
	SSL_CTX *ctx;
	SSL *ssl;
	int sock;

	if (argc != 3 && !with_tlsfd)
		errx(2, "usage: seed-client [--with-tlsfd] ca.pem port");

	ctx = SSL_CTX_new(TLS_client_method());
	if (!ctx)
		die("SSL_CTX_new");
	SSL_CTX_set_options(ctx, SSL_OP_ENABLE_KTLS);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (SSL_CTX_load_verify_file(ctx, arg[0]) != 1)
		die(arg[0]);
	if (with_tlsfd && tlsfd_prepare(ctx) < 0) die("tlsfd_prepare"); /* tlsfd */

	sock = connect_to(arg[1]);
	ssl = SSL_new(ctx);
	if (!ssl || SSL_set_fd(ssl, sock) != 1 || SSL_set1_host(ssl, "localhost") != 1)
		die("SSL_set_fd");
	if (SSL_connect(ssl) != 1)
		die("SSL_connect");
	if (with_tlsfd && tlsfd_handover(ssl, &conn, NULL) < 0) die("tlsfd_handover"); /* tlsfd */

	fprintf(stderr, "%d\n", BIO_get_ktls_send(SSL_get_wbio(ssl)));
	fprintf(stderr, "%d\n", BIO_get_ktls_recv(SSL_get_rbio(ssl)));

	if (!with_tlsfd) {
		SSL_write(ssl, request, sizeof(request) - 1);
		SSL_shutdown(ssl);
		while ((n = SSL_read(ssl, buf, sizeof(buf))) > 0)
			fwrite(buf, 1, (size_t)n, stdout);
		SSL_free(ssl);
	} else {
		SSL_free(ssl); /* OpenSSL is gone: the fd itself is the TLS connection */
		if (write(sock, request, sizeof(request) - 1) < 0 || tlsfd_shutdown(conn) < 0)
			err(1, "write");
		/* a server's session tickets come between: read(2) would stop at them */
		while ((n = tlsfd_read(conn, buf, sizeof(buf))) > 0)
			fwrite(buf, 1, (size_t)n, stdout);
		tlsfd_free(conn);
	}
	SSL_CTX_free(ctx);
	close(sock);
	return 0;
}
