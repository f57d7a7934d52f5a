/*
 * What tlsfd_read and tlsfd_write cost beside recv(2) and send(2) on the same socket
 * with kernel TLS: CPU time of this process (its system calls included), in rounds of
 * each by turns. Under lab/run --icount a nanosecond is an instruction.
 *
 *	read-write [ROUNDS]
 *
 * Columns: call, bytes per call, nanoseconds per call bare, with tlsfd, ratio.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tlsfd/openssl.h>
#include <unistd.h>

enum { CALLS = 256, SIZE_MAX_HERE = 16384 };

/* ---- a connection: fd[0] ours, fd[1] the other end's ---- */

static void connect_pair(int fd[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (struct sockaddr *)&a, len) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&a, &len))
		err(1, "listen");
	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd[0], (struct sockaddr *)&a, len))
		err(1, "connect");
	fd[1] = accept(listener, NULL, NULL);
	close(listener);
}

static SSL_CTX *context(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_sign(cert, key, EVP_sha256());
	SSL_CTX_use_certificate(ctx, cert);
	SSL_CTX_use_PrivateKey(ctx, key);
	SSL_CTX_set_num_tickets(ctx, 0);
	if (tlsfd_prepare(ctx))
		errx(1, "tlsfd_prepare failed");
	X509_free(cert);
	EVP_PKEY_free(key);
	return ctx;
}

/* The handshakes block: one end each in two processes, which also keep them. */
static struct tlsfd *shake_hands(SSL_CTX *ctx, int fd, int server)
{
	SSL *ssl = SSL_new(ctx);
	struct tlsfd_report *report;
	struct tlsfd *c;

	SSL_set_fd(ssl, fd);
	if ((server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		errx(1, "the handshake failed");
	if (tlsfd_handover(ssl, &c, &report))
		errx(1, "%s", tlsfd_report_sentence(report));
	tlsfd_report_free(report);
	SSL_free(ssl);
	return c;
}

/* ---- the other end ---- */

static void other_end(int fd, size_t size, size_t send_bytes)
{
	static char buf[SIZE_MAX_HERE];

	for (size_t sent = 0; sent < send_bytes; sent += size)
		if (send(fd, buf, size, MSG_NOSIGNAL) != (ssize_t)size)
			err(1, "send");
	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
	_exit(0);
}

/* ---- the four ways ---- */

static char buf[SIZE_MAX_HERE];

static ssize_t by_recv(struct tlsfd *c, size_t n)
{
	return recv(tlsfd_fd(c), buf, n, 0);
}

static ssize_t by_tlsfd_read(struct tlsfd *c, size_t n)
{
	return tlsfd_read(c, buf, n);
}

static ssize_t by_send(struct tlsfd *c, size_t n)
{
	return send(tlsfd_fd(c), buf, n, MSG_NOSIGNAL);
}

static ssize_t by_tlsfd_write(struct tlsfd *c, size_t n)
{
	return tlsfd_write(c, buf, n);
}

typedef ssize_t way(struct tlsfd *c, size_t n);

static double cpu(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e9 +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e3;
}

static double round_of(way *call, struct tlsfd *c, size_t size)
{
	double from = cpu();

	for (size_t left = CALLS * size; left;) {
		ssize_t n = call(c, size < left ? size : left);

		if (n <= 0)
			errx(1, "the connection ended: %zd", n);
		left -= (size_t)n;
	}
	return cpu() - from;
}

static void compare(SSL_CTX *ctx, const char *name, way *bare, way *ours, size_t size, int rounds,
		    bool reading)
{
	/* one round of each to warm up */
	size_t total = (size_t)(rounds + 1) * 2 * CALLS * size;
	double cost[2] = { 0, 0 }, calls = (double)rounds * CALLS;
	struct tlsfd *c;
	int fd[2];
	pid_t pid;

	connect_pair(fd);
	pid = fork();
	if (pid == 0) {
		close(fd[0]);
		tlsfd_free(shake_hands(ctx, fd[1], 1));
		other_end(fd[1], size, reading ? total : 0);
	}
	close(fd[1]);
	c = shake_hands(ctx, fd[0], 0);
	for (int i = 0; i <= rounds; i++) {
		double first = round_of(bare, c, size), second = round_of(ours, c, size);

		cost[0] += i ? first : 0;
		cost[1] += i ? second : 0;
	}
	printf("%-12s %6zu %10.0f %10.0f %7.4f\n", name, size, cost[0] / calls, cost[1] / calls,
	       cost[1] / cost[0]);
	fflush(stdout);
	tlsfd_free(c);
	close(fd[0]);
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = { 16384, 1024 };
	int rounds = argc > 1 ? atoi(argv[1]) : 8;
	SSL_CTX *ctx = context();

	printf("%-12s %6s %10s %10s %7s\n", "call", "bytes", "bare", "tlsfd", "ratio");
	for (int i = 0; i < 2; i++) {
		compare(ctx, "tlsfd_read", by_recv, by_tlsfd_read, sizes[i], rounds, true);
		compare(ctx, "tlsfd_write", by_send, by_tlsfd_write, sizes[i], rounds, false);
	}
	SSL_CTX_free(ctx);
	return 0;
}
