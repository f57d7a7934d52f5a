/*
 * A connection that goes round several processes, each a program of its own, while the peer
 * talks, and changes keys where the kernel can: every byte arrives, in order.
 *
 *	processes --relay IN OUT REPORT    what they do: see relay()
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "link.h"
#include "parcel.h"
#include "probe.h"
#include "suite.h"

enum { RELAYS = 3, BYTES = 3 << 20, PARTS = 8 };

/* ---- a relay ---- */

static void wait_to(const struct tlsfd *c, enum tlsfd_direction dir)
{
	struct pollfd p = { .fd = tlsfd_fd(c), .events = tlsfd_wants(c, dir) };

	if (poll(&p, 1, PATIENCE_MS) != 1)
		_exit(2);
}

/* Sends back what comes. 1: enough for now; 0: the end; or an error. */
static ssize_t echo(struct tlsfd *c, size_t enough)
{
	static uint8_t buf[20000];

	for (size_t done = 0; done < enough;) {
		size_t want = 1 + (size_t)rand() % sizeof(buf), at = 0;
		ssize_t got = tlsfd_read(c, buf, want), sent;

		if (got == -EAGAIN)
			wait_to(c, TLSFD_RX);
		else if (got <= 0)
			return got;
		else
			done += (size_t)got;
		while (got > 0 && at < (size_t)got) {
			sent = tlsfd_write(c, buf + at, (size_t)got - at);
			if (sent == -EAGAIN)
				wait_to(c, TLSFD_TX);
			else if (sent < 0)
				return sent;
			else
				at += (size_t)sent;
		}
	}
	return 1;
}

/* Takes the connection from `in`, passes it to `out` after a while, and tells `report`; ends
 * with the connection, or when nobody can pass it on any more. */
static int relay(int in, int out, int report)
{
	struct tlsfd *c;
	int err, fd;
	ssize_t more;

	srand((unsigned)getpid());
	while ((err = tlsfd_take(&c, in)) == 0) {
		fd = tlsfd_fd(c);
		more = echo(c, (size_t)rand() % 50000);
		if (more <= 0) {
			err = more || tlsfd_finish(c, PATIENCE_MS) ? 3 : 0;
			tlsfd_free(c);
			return err;
		}
		if (write(report, "+", 1) != 1 || tlsfd_pass(&c, out))
			return 4;
		close(fd);
	}
	return err == -EPIPE ? 0 : 5;
}

/* ---- the ring of them ---- */

struct ring {
	int pair[RELAYS][2]; /* to each, and its end */
	int report[2];
	pid_t pid[RELAYS];
};

static void exec_relay(const struct ring *r, int i)
{
	int fds[] = { r->pair[i][1], r->pair[(i + 1) % RELAYS][0], r->report[1] };
	char arg[LENGTH(fds)][12];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t k = 0; k < LENGTH(fds); k++) {
		fcntl(fds[k], F_SETFD, 0);
		snprintf(arg[k], sizeof(arg[k]), "%d", fds[k]);
	}
	execl("/proc/self/exe", "processes", "--relay", arg[0], arg[1], arg[2], NULL);
	_exit(127);
}

static void start(struct ring *r)
{
	assert_int_equal(pipe2(r->report, O_CLOEXEC), 0);
	for (int i = 0; i < RELAYS; i++)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, r->pair[i]), 0);
	fflush(stdout);
	for (int i = 0; i < RELAYS; i++) {
		r->pid[i] = fork();
		if (r->pid[i] == 0)
			exec_relay(r, i);
	}
	close(r->report[1]);
}

static void close_ring(struct ring *r)
{
	for (int i = 0; i < RELAYS; i++)
		close_pair(r->pair[i]);
}

/* How often the connection has moved. */
static size_t stop(struct ring *r)
{
	size_t moves = 0;
	char buf[4096];
	ssize_t n;
	int status;

	for (int i = 0; i < RELAYS; i++) {
		assert_int_equal(waitpid(r->pid[i], &status, 0), r->pid[i]);
		assert_int_equal(status, 0);
	}
	while ((n = read(r->report[0], buf, sizeof(buf))) > 0)
		moves += (size_t)n;
	close(r->report[0]);
	return moves;
}

static void test_round(void **state)
{
	struct link *l = link_made(*state);
	struct ring r;
	bool kernel_can = probe_kernel(PROBE_REKEY).verdict == PROBE_YES;
	size_t moves;

	hand_over(l, VIA_CONN);
	leave_openssl(l);
	start(&r);
	assert_int_equal(tlsfd_pass(&l->us.conn, r.pair[0][0]), 0);
	close_ring(&r);
	for (int part = 0; part < PARTS; part++) {
		struct flow flows[] = { { .end = &l->peer, .out = true, .left = BYTES / PARTS },
					{ .end = &l->peer, .left = BYTES / PARTS } };

		if (SSL_version(l->peer.ssl) == TLS1_3_VERSION && kernel_can)
			SSL_key_update(l->peer.ssl, SSL_KEY_UPDATE_REQUESTED);
		assert_null(run_flows(flows, LENGTH(flows)));
	}
	SSL_shutdown(l->peer.ssl);
	moves = stop(&r);
	printf("# moved %zu times\n", moves);
	assert_true(moves > BYTES / 50000);
	link_free(l);
}

int main(int argc, char **argv)
{
	static const char *const suites[2][3] = {
		{ "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
		  "ECDHE-ECDSA-CHACHA20-POLY1305" },
		{ "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
		  "TLS_CHACHA20_POLY1305_SHA256" },
	};

	if (argc == 5 && strcmp(argv[1], "--relay") == 0)
		return relay(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
	suite_slice(4);
	for (int i = 0; i < 12; i++) {
		struct variant v = { .version = i & 1 ? TLS1_3_VERSION : TLS1_2_VERSION,
				     .server = i & 2,
				     .suite = suites[i & 1][i / 4] };

		suite_add(test_round, &v, sizeof(v), "round: %s %s", v.suite,
			  v.server ? "server" : "client");
	}
	return suite_run(argc, argv);
}
