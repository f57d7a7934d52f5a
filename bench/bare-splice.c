/*
 * The floor that `tlsfd serve` is measured against: a handshake by tlsfd, then nothing but
 * blocking splice, a thread and a pipe for each way. No limits, no log, no half-close, no
 * control records: what ends one way ends the connection. No TCP_NODELAY: Nagle's algorithm
 * delays the ends of messages, and makes the segments few.
 *
 *	bare-splice CERT KEY PORT BACKEND_PORT        both ports on 127.0.0.1
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <tlsfd.h>
#include <unistd.h>

enum { PIPE_ROOM = 65536 };

static struct tlsfd_config *config;
static struct sockaddr_in backend;

struct way {
	int from, to;
};

static void *move(void *arg)
{
	struct way *w = arg;
	int pipe[2];

	if (pipe2(pipe, O_CLOEXEC))
		err(1, "pipe");
	for (ssize_t n; (n = splice(w->from, NULL, pipe[1], NULL, PIPE_ROOM, SPLICE_F_MOVE)) > 0;)
		while (n > 0) {
			ssize_t moved =
				splice(pipe[0], NULL, w->to, NULL, (size_t)n, SPLICE_F_MOVE);

			if (moved <= 0)
				break;
			n -= moved;
		}
	shutdown(w->from, SHUT_RDWR);
	shutdown(w->to, SHUT_RDWR);
	close(pipe[0]);
	close(pipe[1]);
	return NULL;
}

static int shake_hands(int fd)
{
	struct tlsfd *c;
	int err = tlsfd_accept(&c, config, fd);

	if (!err)
		err = tlsfd_handshake_within(c, -1);
	if (!err)
		err = tlsfd_release(&c);
	return err;
}

static void *serve(void *arg)
{
	int tls = (int)(intptr_t)arg, plain = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct way in = { tls, plain }, out = { plain, tls };
	pthread_t thread;

	if (shake_hands(tls) < 0 || connect(plain, (struct sockaddr *)&backend, sizeof(backend)))
		goto end;
	if (pthread_create(&thread, NULL, move, &in))
		errx(1, "too many threads");
	move(&out);
	pthread_join(thread, NULL);
end:
	close(tls);
	close(plain);
	return NULL;
}

static struct sockaddr_in loopback(const char *port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)atoi(port)),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int listen_at(struct sockaddr_in a)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, SOMAXCONN))
		err(1, "listen");
	return fd;
}

int main(int argc, char **argv)
{
	pthread_attr_t detached;
	int listener;

	if (argc != 5)
		errx(2, "usage: bare-splice CERT KEY PORT BACKEND_PORT");
	signal(SIGPIPE, SIG_IGN);
	backend = loopback(argv[4]);
	if (tlsfd_config_new(&config) ||
	    tlsfd_config_set_certificate_file(config, argv[1], argv[2]) ||
	    tlsfd_config_set_kernel(config, TLSFD_KERNEL_REQUIRE))
		errx(1, "config");
	listener = listen_at(loopback(argv[3]));
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		pthread_t thread;

		if (fd < 0)
			err(1, "accept");
		if (pthread_create(&thread, &detached, serve, (void *)(intptr_t)fd))
			errx(1, "too many threads");
	}
}
