/*
 * Thousands of TLS clients in one process, and the plain service behind the server under test.
 *
 *	crowd              to a service of its own, whose port it prints, through ...
 *
 * Commands come on standard input; "ok" answers each, or the program ends with an error.
 *
 *	port N             ... the TLS server on this port of 127.0.0.1
 *	open N             N more connections, each proved by an echo
 *	busy N BYTES       N more at the same time: each sends BYTES, checks their echo, and closes
 *	check              every open connection still echoes
 *	close              they all end by close_notify, from both sides
 *	half N             N more that send a part of a ClientHello, and stay
 *	drop               those end
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 20000, PIECE = 16384 };

static SSL_CTX *ctx;
static struct sockaddr_in server;
static SSL *open_ones[MOST];
static int halves[MOST];
static size_t n_open, n_halves;

static _Noreturn void die(const char *what)
{
	ERR_print_errors_fp(stderr);
	err(1, "%s", what);
}

static void need(const void *p)
{
	if (!p)
		err(1, "memory");
}

/* ---- the service: sends back what comes, and an end for an end ---- */

struct guest { /* a connection to the service */
	int fd;
	size_t have, sent;
	char buf[PIECE];
};

/* 0: wait for epoll; -1: over */
static int echo(struct guest *g)
{
	for (;;) {
		ssize_t n;

		while (g->sent < g->have) {
			n = send(g->fd, g->buf + g->sent, g->have - g->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
			if (n < 0)
				return errno == EAGAIN ? 0 : -1;
			g->sent += (size_t)n;
		}
		n = recv(g->fd, g->buf, sizeof(g->buf), MSG_DONTWAIT);
		if (n <= 0)
			return n < 0 && errno == EAGAIN ? 0 : -1;
		g->have = (size_t)n;
		g->sent = 0;
	}
}

static void welcome(int epoll, int listener)
{
	struct guest *g = calloc(1, sizeof(*g));
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = g };

	need(g);
	g->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (g->fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, g->fd, &e))
		err(1, "accept");
}

static _Noreturn void serve(int listener)
{
	struct epoll_event events[64], e = { .events = EPOLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e))
		err(1, "epoll");
	for (;;) {
		int n = epoll_wait(epoll, events, 64, -1);

		for (int i = 0; i < n; i++) {
			struct guest *g = events[i].data.ptr;

			if (!g) {
				welcome(epoll, listener);
			} else if (echo(g)) {
				close(g->fd);
				free(g);
			}
		}
	}
}

static void start_service(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(a);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) || listen(fd, 4096) ||
	    getsockname(fd, (struct sockaddr *)&a, &len))
		err(1, "listen");
	printf("%d\n", ntohs(a.sin_port));
	fflush(stdout);
	switch (fork()) {
	case -1:
		err(1, "fork");
	case 0:
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(fd);
	}
	close(fd);
}

/* ---- clients ---- */

static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = { .tv_sec = 60 };

	if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof(server)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		err(1, "connect");
	return fd;
}

static void send_all(SSL *ssl, const char *data, size_t n)
{
	if (SSL_write(ssl, data, (int)n) != (int)n)
		die("send");
}

static void expect(SSL *ssl, const char *data, size_t n)
{
	char got[PIECE];

	while (n) {
		int m = SSL_read(ssl, got, (int)(n < sizeof(got) ? n : sizeof(got)));

		if (m <= 0)
			die("receive");
		if (memcmp(got, data, (size_t)m) != 0)
			errx(1, "these are not the bytes that were sent");
		data += m;
		n -= (size_t)m;
	}
}

static SSL *enter(void)
{
	SSL *ssl = SSL_new(ctx);

	if (!ssl || SSL_set_fd(ssl, dial()) != 1 || SSL_connect(ssl) != 1)
		die("handshake");
	return ssl;
}

static void leave(SSL *ssl)
{
	char rest;
	int fd = SSL_get_fd(ssl);

	if (SSL_shutdown(ssl) < 0)
		die("close_notify");
	if (SSL_read(ssl, &rest, 1) > 0 || SSL_get_error(ssl, 0) != SSL_ERROR_ZERO_RETURN)
		die("the other close_notify");
	SSL_free(ssl);
	close(fd);
}

static void open_more(size_t n)
{
	for (; n && n_open < MOST; n--) {
		SSL *ssl = enter();

		send_all(ssl, "hello", 5);
		expect(ssl, "hello", 5);
		open_ones[n_open++] = ssl;
	}
}

static void check_all(void)
{
	for (size_t i = 0; i < n_open; i++)
		send_all(open_ones[i], "still here", 10);
	for (size_t i = 0; i < n_open; i++)
		expect(open_ones[i], "still here", 10);
}

static void close_all(void)
{
	while (n_open)
		leave(open_ones[--n_open]);
}

/* Pieces of many sizes; how much is under way stays below what the sockets hold. */
static void *be_busy(void *arg)
{
	size_t left = *(size_t *)arg, size = 1;
	char data[PIECE];
	SSL *ssl = enter();

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)((uintptr_t)ssl / 64 + i * i);
	for (; left; left -= size) {
		size = 1 + (left * 7919 + (uintptr_t)ssl / 64) % PIECE;
		size = size < left ? size : left;
		send_all(ssl, data, size);
		expect(ssl, data, size);
	}
	leave(ssl);
	return NULL;
}

static void busy(size_t n, size_t bytes)
{
	pthread_t *threads = calloc(n, sizeof(*threads));
	pthread_attr_t small;

	need(threads);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 262144);
	for (size_t i = 0; i < n; i++)
		if ((errno = pthread_create(&threads[i], &small, be_busy, &bytes)))
			err(1, "thread %zu", i);
	for (size_t i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	pthread_attr_destroy(&small);
	free(threads);
}

static void half_more(size_t n)
{
	static const char hello[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

	for (; n && n_halves < MOST; n--) {
		int fd = dial();

		if (send(fd, hello, n % sizeof(hello), MSG_NOSIGNAL) < 0)
			err(1, "half a ClientHello");
		halves[n_halves++] = fd;
	}
}

static void drop_halves(void)
{
	while (n_halves)
		close(halves[--n_halves]);
}

/* ---- commands ---- */

static void obey(const char *line)
{
	char word[8] = "";
	size_t a = 0, b = 0;
	int n = sscanf(line, "%7s %zu %zu", word, &a, &b);

	if (n == 2 && !strcmp(word, "port"))
		server.sin_port = htons((uint16_t)a);
	else if (n == 2 && !strcmp(word, "open"))
		open_more(a);
	else if (n == 3 && !strcmp(word, "busy"))
		busy(a, b);
	else if (!strcmp(word, "check"))
		check_all();
	else if (!strcmp(word, "close"))
		close_all();
	else if (n == 2 && !strcmp(word, "half"))
		half_more(a);
	else if (!strcmp(word, "drop"))
		drop_halves();
	else
		errx(2, "unknown command: %s", line);
	puts("ok");
	fflush(stdout);
}

int main(void)
{
	struct rlimit files = { 65536, 65536 };
	char line[80];

	if (setrlimit(RLIMIT_NOFILE, &files))
		err(1, "RLIMIT_NOFILE");
	signal(SIGPIPE, SIG_IGN);
	start_service();
	server.sin_family = AF_INET;
	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ctx = SSL_CTX_new(TLS_client_method());
	if (!ctx)
		die("SSL_CTX");
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	while (fgets(line, sizeof(line), stdin))
		obey(line);
	return 0;
}
