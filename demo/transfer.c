/*
 * Moves a file over a TLS connection, after OpenSSL is gone: sendfile(2) from the
 * file to the socket, splice(2) from the socket to the file.
 *
 *	transfer send cert.pem key.pem FILE      FILE goes to the peer
 *	transfer receive cert.pem key.pem FILE   what the peer sends goes to FILE
 *	transfer http cert.pem key.pem FILE      HTTP/1.0: GET reads FILE, PUT writes it
 *
 * Listens on a free port of 127.0.0.1, says which on stdout, and serves one
 * connection.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <tlsfd/openssl.h>
#include <unistd.h>

enum { PATIENCE = 60 /* seconds without a byte */ };
enum { PIPE_SIZE = 1 << 20 };

static _Noreturn void die(const char *what)
{
	ERR_print_errors_fp(stderr);
	errx(1, "%s failed", what);
}

/* ---- the connection: OpenSSL's part ---- */

static SSL_CTX *context(const char *cert, const char *key)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (!ctx)
		die("SSL_CTX_new");
	if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
		die(cert);
	if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		die(key);
	if (tlsfd_prepare(ctx) < 0)
		die("tlsfd_prepare");
	return ctx;
}

static int accept_one(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval patience = { .tv_sec = PATIENCE };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd;

	if (listener < 0 || bind(listener, (struct sockaddr *)&addr, len) < 0 ||
	    listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&addr, &len) < 0)
		err(1, "listen");
	printf("port %d\n", ntohs(addr.sin_port));
	fflush(stdout);
	if (setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		err(1, "SO_RCVTIMEO");
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		err(1, "accept");
	close(listener);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		err(1, "SO_RCVTIMEO");
	return fd;
}

static const char *place(const struct tlsfd_report *report, enum tlsfd_direction dir)
{
	return tlsfd_report_kernel(report, dir) ? "kernel" : "user space";
}

/* Handshake, handover, and OpenSSL goes. */
static struct tlsfd *hand_over(SSL_CTX *ctx, int fd)
{
	struct tlsfd_report *report;
	struct tlsfd *conn;
	SSL *ssl = SSL_new(ctx);
	int error;

	if (!ssl || SSL_set_fd(ssl, fd) != 1)
		die("SSL_set_fd");
	if (SSL_accept(ssl) != 1)
		die("SSL_accept");
	error = tlsfd_handover(ssl, &conn, &report);
	if (error < 0)
		errx(1, "tlsfd_handover: %s",
		     report ? tlsfd_report_sentence(report) : strerror(-error));
	printf("%s, %s: tx %s, rx %s\n", SSL_get_version(ssl), SSL_get_cipher_name(ssl),
	       place(report, TLSFD_TX), place(report, TLSFD_RX));
	fflush(stdout);
	tlsfd_report_free(report);
	SSL_free(ssl);
	return conn;
}

/* ---- the bare fd: files ---- */

static void write_all(int fd, const char *data, size_t n)
{
	while (n) {
		ssize_t done = write(fd, data, n);

		if (done < 0)
			err(1, "write");
		data += done;
		n -= (size_t)done;
	}
}

static off_t size_of(int file)
{
	struct stat st;

	if (fstat(file, &st) < 0)
		err(1, "fstat");
	return st.st_size;
}

static void send_file(int sock, int file)
{
	off_t at = 0, size = size_of(file);

	while (at < size) {
		ssize_t sent = sendfile(sock, file, &at, (size_t)(size - at));

		if (sent < 0)
			err(1, "sendfile");
		if (sent == 0)
			errx(1, "sendfile: the file became shorter");
	}
}

static void empty_pipe(int from, int file, size_t n)
{
	while (n) {
		ssize_t moved = splice(from, NULL, file, NULL, n, SPLICE_F_MOVE);

		if (moved <= 0)
			err(1, "splice to the file");
		n -= (size_t)moved;
	}
}

/* The next record is not data, or the stream ended: tlsfd_read knows. Returns how
 * many bytes of data came after it to the file; 0 when the peer said goodbye. */
static size_t past_control(struct tlsfd *conn, int file)
{
	char data[16384];
	ssize_t n = tlsfd_read(conn, data, sizeof(data));

	if (n < 0)
		errx(1, "the peer: %s", tlsfd_error(conn) ? tlsfd_error(conn) : strerror((int)-n));
	write_all(file, data, (size_t)n);
	return (size_t)n;
}

/* Up to n bytes of one record; 0 at the peer's close_notify. The pipe is empty
 * before and after: some kernels lose bytes when a record doesn't fit. */
static size_t splice_record(struct tlsfd *conn, const int pipe[2], int file, size_t n)
{
	ssize_t moved = splice(tlsfd_fd(conn), NULL, pipe[1], NULL, n, SPLICE_F_MOVE);

	if (moved == 0 || (moved < 0 && errno == EINVAL))
		return past_control(conn, file);
	if (moved < 0)
		err(1, "splice from the socket");
	empty_pipe(pipe[0], file, (size_t)moved);
	return (size_t)moved;
}

/* At most `limit` bytes; fewer only when the peer closed. */
static size_t receive_file(struct tlsfd *conn, int file, size_t limit)
{
	size_t total = 0, n;
	int pipe[2];

	if (pipe2(pipe, O_CLOEXEC) < 0 || fcntl(pipe[1], F_SETPIPE_SZ, PIPE_SIZE) < 0)
		err(1, "pipe");
	while (total < limit) {
		size_t want = limit - total < PIPE_SIZE ? limit - total : PIPE_SIZE;

		n = splice_record(conn, pipe, file, want);
		if (n == 0)
			break;
		total += n;
	}
	close(pipe[0]);
	close(pipe[1]);
	return total;
}

static int open_file(const char *name, int flags)
{
	int file = open(name, flags | O_CLOEXEC, 0600);

	if (file < 0)
		err(1, "%s", name);
	return file;
}

/* ---- HTTP/1.0, as much as curl needs ---- */

/* Reads to the end of the head; what came after it stays behind it in buf. */
static size_t read_head(int sock, char *buf, size_t size, char **body)
{
	size_t have = 0;

	while (have < size - 1) {
		ssize_t n = read(sock, buf + have, size - 1 - have);

		if (n <= 0)
			err(1, "no whole request");
		have += (size_t)n;
		buf[have] = '\0';
		*body = strstr(buf, "\r\n\r\n");
		if (*body) {
			*body += 4;
			return have - (size_t)(*body - buf);
		}
	}
	errx(1, "the request is too long");
}

static void respond(int sock, off_t length)
{
	char head[128];
	int n = snprintf(head, sizeof(head), "HTTP/1.0 200 OK\r\nContent-Length: %lld\r\n\r\n",
			 (long long)length);

	write_all(sock, head, (size_t)n);
}

static void serve_get(int sock, const char *name)
{
	int file = open_file(name, O_RDONLY);

	respond(sock, size_of(file));
	send_file(sock, file);
	close(file);
}

static void serve_put(struct tlsfd *conn, const char *name, const char *head, const char *body,
		      size_t have)
{
	const char *header = strcasestr(head, "\r\nContent-Length:");
	size_t length = header ? strtoull(header + 17, NULL, 10) : 0;
	int file = open_file(name, O_WRONLY | O_CREAT | O_TRUNC);

	if (!header || have > length)
		errx(1, "PUT without a right Content-Length");
	write_all(file, body, have);
	if (receive_file(conn, file, length - have) != length - have)
		errx(1, "PUT: the peer sent fewer bytes than it said");
	close(file);
	respond(tlsfd_fd(conn), 0);
}

static void serve_http(struct tlsfd *conn, const char *name)
{
	char request[8192], *body;
	size_t have = read_head(tlsfd_fd(conn), request, sizeof(request), &body);

	if (strncmp(request, "GET ", 4) == 0)
		serve_get(tlsfd_fd(conn), name);
	else if (strncmp(request, "PUT ", 4) == 0)
		serve_put(conn, name, request, body, have);
	else
		errx(1, "neither GET nor PUT");
}

/* ---- all of it ---- */

/* close_notify, FIN, and wait for the peer's end: close(2) with bytes unread would
 * send RST, which throws away what is still on its way. */
static void end(struct tlsfd *conn)
{
	char rest[4096];
	int fd = tlsfd_fd(conn);
	int error = tlsfd_shutdown(conn);

	if (error < 0 && error != -EPIPE && error != -ECONNRESET)
		errx(1, "close_notify: %s", strerror(-error));
	shutdown(fd, SHUT_WR);
	while (tlsfd_read(conn, rest, sizeof(rest)) > 0)
		;
	tlsfd_free(conn);
	close(fd);
}

static void serve(struct tlsfd *conn, const char *job, const char *name)
{
	if (strcmp(job, "http") == 0) {
		serve_http(conn, name);
	} else if (strcmp(job, "send") == 0) {
		send_file(tlsfd_fd(conn), open_file(name, O_RDONLY));
	} else {
		receive_file(conn, open_file(name, O_WRONLY | O_CREAT | O_TRUNC), SIZE_MAX);
	}
}

int main(int argc, char **argv)
{
	struct tlsfd *conn;
	SSL_CTX *ctx;

	if (argc != 5 ||
	    (strcmp(argv[1], "http") && strcmp(argv[1], "send") && strcmp(argv[1], "receive")))
		errx(2, "usage: transfer send|receive|http cert.pem key.pem FILE");
	signal(SIGPIPE, SIG_IGN);
	ctx = context(argv[2], argv[3]);
	conn = hand_over(ctx, accept_one());
	SSL_CTX_free(ctx);
	serve(conn, argv[1], argv[4]);
	end(conn);
	return 0;
}
