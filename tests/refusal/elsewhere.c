/* SPDX-License-Identifier: MIT */
#include "elsewhere.h"

#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "suite.h"

void echo(SSL *ssl, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char buf[4096];
	int done = 0;

	while (poll(&p, 1, PATIENCE_MS) == 1) {
		int n = done ? SSL_read(ssl, buf, sizeof(buf)) : SSL_do_handshake(ssl);

		if (!done && n == 1) {
			done = 1;
			continue;
		}
		if (n > 0 && done)
			SSL_write(ssl, buf, n);
		if (n <= 0 && SSL_get_error(ssl, n) != SSL_ERROR_WANT_READ)
			break;
	}
}

pid_t peer_goes(struct link *l)
{
	pid_t peer;

	fflush(stdout);
	peer = fork();
	assert_true(peer >= 0);
	if (peer == 0) {
		close(l->us.fd);
		SSL_do_handshake(l->peer.ssl);
		echo(l->peer.ssl, l->peer.fd);
		_exit(0);
	}
	close(l->peer.fd);
	l->peer.fd = l->peer.write_fd = -1;
	SSL_free(l->peer.ssl);
	l->peer.ssl = NULL;
	return peer;
}

int shake_hands(struct link *l)
{
	int ret;

	while ((ret = SSL_do_handshake(l->us.ssl)) != 1 &&
	       SSL_get_error(l->us.ssl, ret) == SSL_ERROR_WANT_READ)
		wait_for(l->us.fd, POLLIN);
	return ret;
}

struct link *link_elsewhere(const struct variant *v, bool wants_sessions, pid_t *peer)
{
	struct link *l = link_new(v);

	if (!wants_sessions)
		SSL_CTX_sess_set_new_cb(l->us.ctx, NULL);
	link_open(l);
	*peer = peer_goes(l);
	assert_int_equal(shake_hands(l), 1);
	return l;
}

void end_elsewhere(struct link *l, pid_t peer)
{
	link_free(l);
	waitpid(peer, NULL, 0);
}

void say_and_hear(struct link *l, size_t n)
{
	struct flow out = { .end = &l->us, .out = true, .left = n },
		    in = { .end = &l->us, .left = n };

	assert_null(run_flows(&out, 1));
	assert_null(run_flows(&in, 1));
}
