/*
 * The client of the benchmark: TLS 1.3, TLS_AES_128_GCM_SHA256, in user space, whatever the
 * server. It talks to the backend (see backend.c) through the terminator under test.
 *
 *	client PORT        to 127.0.0.1; commands come on standard input, "ok" answers each
 *	client PORT plain  without TLS: the terminator makes it; `open` only
 *
 *	open N             N more connections, each proved by a byte from the backend
 *	down N, up N       N bytes on the first of them
 *	up8 N              the same as up, in records of 8 KiB
 *	handshakes N       N times: connect, full handshake, one byte, close
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REQUEST = 16, RECORD = 16384 };

static SSL_CTX *ctx;
static struct sockaddr_in server;
static SSL *first;
static bool plain;
static char buf[RECORD];

static _Noreturn void die(const char *what)
{
	ERR_print_errors_fp(stderr);
	err(1, "%s", what);
}

/* ---- requests ---- */

static void request(SSL *ssl, char letter, size_t n)
{
	char text[REQUEST + 1];

	snprintf(text, sizeof(text), "%c%015zu", letter, n);
	if (SSL_write(ssl, text, REQUEST) != REQUEST)
		die("request");
}

static void receive(SSL *ssl, size_t n)
{
	while (n) {
		int got = SSL_read(ssl, buf, n < RECORD ? (int)n : RECORD);

		if (got <= 0)
			die("receive");
		n -= (size_t)got;
	}
}

static void download(SSL *ssl, size_t n)
{
	request(ssl, 'd', n);
	receive(ssl, n);
}

static void upload(SSL *ssl, size_t n, size_t record)
{
	request(ssl, 'u', n);
	while (n) {
		int sent = SSL_write(ssl, buf, (int)(n < record ? n : record));

		if (sent <= 0)
			die("send");
		n -= (size_t)sent;
	}
	receive(ssl, 1);
}

/* ---- connections ---- */

static int open_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof(server)))
		err(1, "connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	return fd;
}

static SSL *open_connection(void)
{
	int fd = open_socket();
	SSL *ssl = SSL_new(ctx);

	if (!ssl || SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1)
		die("handshake");
	download(ssl, 1);
	return ssl;
}

static void close_connection(SSL *ssl)
{
	int fd = SSL_get_fd(ssl);

	SSL_shutdown(ssl);
	SSL_free(ssl);
	close(fd);
}

static void open_connections(size_t n)
{
	while (n--) {
		SSL *ssl = open_connection();

		if (!first)
			first = ssl; /* the others are left open until the end */
	}
}

static void open_plain(size_t n)
{
	static const char one[REQUEST + 1] = "d000000000000001";

	while (n--) {
		int fd = open_socket();

		if (write(fd, one, REQUEST) != REQUEST || read(fd, buf, 1) != 1)
			err(1, "open");
	}
}

static void handshakes(size_t n)
{
	while (n--)
		close_connection(open_connection());
}

/* ---- commands ---- */

static void obey(const char *command, size_t n)
{
	if (strcmp(command, "open") == 0 && plain)
		open_plain(n);
	else if (strcmp(command, "open") == 0)
		open_connections(n);
	else if (strcmp(command, "down") == 0)
		download(first, n);
	else if (strcmp(command, "up") == 0)
		upload(first, n, RECORD);
	else if (strcmp(command, "up8") == 0)
		upload(first, n, RECORD / 2);
	else if (strcmp(command, "handshakes") == 0)
		handshakes(n);
	else
		errx(2, "unknown command: %s", command);
	puts("ok");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char command[16];
	size_t n;

	if (argc < 2)
		errx(2, "usage: client PORT [plain]");
	plain = argc > 2;
	server = (struct sockaddr_in){ .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)atoi(argv[1])),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	ctx = SSL_CTX_new(TLS_client_method());
	if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") != 1)
		die("SSL_CTX");
	while (scanf("%15s %zu", command, &n) == 2)
		obey(command, n);
	return 0;
}
