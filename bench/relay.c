/*
 * What the relay of serve costs beside a bare loop of splice(2) on the same connections: CPU
 * time of the process (its system calls included) per byte. Under lab/run --icount a
 * nanosecond is an instruction.
 *
 *	relay [MEGABYTES]
 *
 * Columns: direction, bytes, nanoseconds per byte bare, of the relay, ratio.
 *
 * SPDX-License-Identifier: MIT
 */
#include "relay/relay.h"

#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ends.h"

enum { CHUNK = 65536 };

/* ---- the ends: one sends, the other takes ---- */

static void send_all(int fd, size_t total)
{
	static char buf[CHUNK];

	for (size_t sent = 0; sent < total;) {
		size_t left = total - sent;
		ssize_t n = send(fd, buf, left < CHUNK ? left : CHUNK, MSG_NOSIGNAL);

		if (n <= 0)
			err(1, "send");
		sent += (size_t)n;
	}
}

static void take_all(int fd)
{
	static char buf[CHUNK];

	while (recv(fd, buf, CHUNK, 0) > 0)
		;
}

static _Noreturn void tls_end(SSL_CTX *ctx, int fd, bool up, size_t total)
{
	struct tlsfd *c = shake_hands(ctx, fd, 0);

	if (up)
		send_all(fd, total);
	if (tlsfd_shutdown(c))
		errx(1, "tlsfd_shutdown");
	take_all(fd);
	_exit(0);
}

static _Noreturn void plain_end(int fd, bool up, size_t total)
{
	if (!up)
		send_all(fd, total);
	shutdown(fd, SHUT_WR);
	take_all(fd);
	_exit(0);
}

/* ---- between them ---- */

static void bare(int from, int to, size_t total)
{
	int pipes[2];

	if (pipe(pipes) < 0)
		err(1, "pipe");
	for (size_t done = 0; done < total;) {
		ssize_t n = splice(from, NULL, pipes[1], NULL, CHUNK, SPLICE_F_MOVE);

		if (n <= 0)
			err(1, "splice");
		for (ssize_t out = 0; out < n;) {
			ssize_t part =
				splice(pipes[0], NULL, to, NULL, (size_t)(n - out), SPLICE_F_MOVE);

			if (part <= 0)
				err(1, "splice");
			out += part;
		}
		done += (size_t)n;
	}
	close(pipes[0]);
	close(pipes[1]);
}

static void on_ended(void *arg, const struct relay_end *end)
{
	if (end->how != RELAY_CLOSED)
		errx(1, "the relay ended: %s", relay_how_name(end->how));
	loop_stop(arg);
}

static void relayed(struct tlsfd *c, int plain)
{
	static struct relays set;
	struct relay *relay;
	struct loop loop;

	if (loop_open(&loop))
		errx(1, "loop_open");
	set.loop = &loop;
	if (relay_start(&relay, &set, c, plain, on_ended, &loop) || loop_run(&loop))
		errx(1, "relay");
	relays_close(&set);
	loop_close(&loop);
}

/* The cost of one byte. */
static double cost(SSL_CTX *ctx, bool up, size_t total, bool with_relay)
{
	int tls[2], plain[2];
	struct tlsfd *c;
	double from;

	connect_pair(tls);
	connect_pair(plain);
	if (fork() == 0) {
		close(tls[0]);
		close(plain[0]);
		close(plain[1]);
		tls_end(ctx, tls[1], up, total);
	}
	c = shake_hands(ctx, tls[0], 1);
	if (fork() == 0) {
		close(tls[0]);
		close(tls[1]);
		close(plain[0]);
		plain_end(plain[1], up, total);
	}
	close(tls[1]);
	close(plain[1]);
	from = cpu();
	if (with_relay)
		relayed(c, plain[0]);
	else
		bare(up ? tls[0] : plain[0], up ? plain[0] : tls[0], total);
	from = cpu() - from;
	if (!with_relay) {
		tlsfd_free(c);
		close(tls[0]);
		close(plain[0]);
	}
	while (wait(NULL) > 0)
		;
	return from / (double)total;
}

int main(int argc, char **argv)
{
	size_t total = (size_t)(argc > 1 ? atoi(argv[1]) : 16) << 20;
	SSL_CTX *ctx = context();

	signal(SIGPIPE, SIG_IGN);
	printf("%-10s %10s %8s %8s %7s\n", "direction", "bytes", "bare", "relay", "ratio");
	for (int up = 0; up < 2; up++) {
		double costs[2];

		cost(ctx, up, total / 8, true); /* warm */
		costs[0] = cost(ctx, up, total, false);
		costs[1] = cost(ctx, up, total, true);
		printf("%-10s %10zu %8.3f %8.3f %7.3f\n", up ? "from TLS" : "to TLS", total,
		       costs[0], costs[1], costs[1] / costs[0]);
		fflush(stdout);
	}
	SSL_CTX_free(ctx);
	return 0;
}
