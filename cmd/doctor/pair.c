/* SPDX-License-Identifier: MIT */
#include "pair.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "probe.h"
#include "sys.h"

enum {
	PATIENCE_MS = 2000,
	MESSAGE = 20000, /* more than one record */
};

int pair_open(struct pair *p, SSL_CTX *ctx)
{
	int err = probe_pair(p->fd);

	if (err)
		return err;
	for (int i = 0; i < 2; i++) {
		/* or Nagle and delayed ACK make a handshake take 40 ms */
		sys_setsockopt(p->fd[i], IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		p->ssl[i] = SSL_new(ctx);
		if (!p->ssl[i] || SSL_set_fd(p->ssl[i], p->fd[i]) != 1)
			err = -ENOMEM;
	}
	if (err) {
		pair_close(p);
		return err;
	}
	SSL_set_accept_state(p->ssl[0]);
	SSL_set_connect_state(p->ssl[1]);
	return 0;
}

void pair_close(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		SSL_free(p->ssl[i]);
		close(p->fd[i]);
	}
	*p = (struct pair){ { -1, -1 }, { NULL, NULL } };
}

static int wait_any(struct pollfd *p, int n)
{
	int ready;

	do
		ready = poll(p, (nfds_t)n, PATIENCE_MS);
	while (ready < 0 && errno == EINTR);
	if (ready < 0)
		return -errno;
	return ready ? 0 : -ETIMEDOUT;
}

/* 1: this end is done; 0: it waits, *wait says for what; -EPROTO. */
static int step(SSL *ssl, struct pollfd *wait)
{
	int ret, reason;

	ERR_clear_error();
	ret = SSL_do_handshake(ssl);
	wait->fd = SSL_get_fd(ssl);
	wait->events = 0;
	if (ret == 1)
		return 1;
	reason = SSL_get_error(ssl, ret);
	if (reason != SSL_ERROR_WANT_READ && reason != SSL_ERROR_WANT_WRITE)
		return -EPROTO;
	wait->events = reason == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
	return 0;
}

int pair_handshake(struct pair *p)
{
	struct pollfd waits[2] = { 0 };
	int server, client, err;

	for (;;) {
		client = step(p->ssl[1], &waits[1]);
		server = step(p->ssl[0], &waits[0]);
		if (client < 0 || server < 0)
			return -EPROTO;
		if (client && server)
			return 0;
		err = wait_any(waits, 2);
		if (err)
			return err;
	}
}

/* All n bytes, out of fd or into it. */
static int move_all(int fd, char *buf, size_t n, short event)
{
	while (n) {
		ssize_t done = event == POLLIN ? read(fd, buf, n) : write(fd, buf, n);
		int err = done < 0 ? -errno : 0;

		if (done == 0)
			return -ECONNABORTED;
		if (err == -EAGAIN)
			err = wait_any(&(struct pollfd){ .fd = fd, .events = event }, 1);
		if (err && err != -EINTR)
			return err;
		if (done > 0) {
			buf += done;
			n -= (size_t)done;
		}
	}
	return 0;
}

static int pass(int from, int to, char seed)
{
	char sent[MESSAGE], got[MESSAGE];
	int err;

	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (char)(seed + (char)(i % 251));
	err = move_all(from, sent, sizeof(sent), POLLOUT);
	if (!err)
		err = move_all(to, got, sizeof(got), POLLIN);
	if (!err && memcmp(sent, got, sizeof(sent)))
		err = -EBADMSG;
	return err;
}

int pair_exchange(const struct pair *p)
{
	int err = pass(p->fd[0], p->fd[1], 's');

	return err ? err : pass(p->fd[1], p->fd[0], 'c');
}
