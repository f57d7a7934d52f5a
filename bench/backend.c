/*
 * The plain TCP service behind every terminator of the benchmark: a source and a sink.
 *
 *	backend        prints its port on 127.0.0.1, then serves until it is killed
 *
 * A request is 16 bytes, a letter and a decimal number N: 'd' asks for N bytes (download);
 * 'u' says that N bytes follow (upload), and one byte answers when they have come.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REQUEST = 16, CHUNK = 65536 };

static int send_all(int fd, size_t n)
{
	static const char zeros[CHUNK];

	while (n) {
		ssize_t sent = send(fd, zeros, n < CHUNK ? n : CHUNK, MSG_NOSIGNAL);

		if (sent <= 0)
			return -1;
		n -= (size_t)sent;
	}
	return 0;
}

static int take_all(int fd, size_t n)
{
	char buf[CHUNK];

	while (n) {
		ssize_t got = recv(fd, buf, n < CHUNK ? n : CHUNK, 0);

		if (got <= 0)
			return -1;
		n -= (size_t)got;
	}
	return send_all(fd, 1);
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg, failed = 0;
	char request[REQUEST + 1] = "";

	while (!failed && recv(fd, request, REQUEST, MSG_WAITALL) == REQUEST) {
		size_t n = strtoul(request + 1, NULL, 10);

		failed = request[0] == 'd' ? send_all(fd, n) : take_all(fd, n);
	}
	close(fd);
	return NULL;
}

static int listen_anywhere(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, size) || listen(fd, SOMAXCONN) ||
	    getsockname(fd, (struct sockaddr *)&a, &size))
		err(1, "listen");
	printf("%d\n", ntohs(a.sin_port));
	fflush(stdout);
	return fd;
}

int main(void)
{
	int listener = listen_anywhere();
	pthread_attr_t detached;

	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		pthread_t thread;

		if (fd < 0)
			err(1, "accept");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		if (pthread_create(&thread, &detached, serve, (void *)(intptr_t)fd))
			errx(1, "too many threads");
	}
}
