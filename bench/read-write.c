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
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tlsfd/openssl.h>
#include <unistd.h>

#include "ends.h"

enum { CALLS = 256, SIZE_MAX_HERE = 16384 };

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
