/*
 * Accepting, when accept(2) fails: connections that are gone are passed over; where
 * descriptors or memory are short there is a pause, a line, and it goes on.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "listener.h"
#include "suite.h"
#include "sys.h"

enum { CONNECTIONS = 3, SECONDS = 10 };

/* ---- the kernel's failures ---- */

static int fault_errno, faults_left, listening_fd;

static int fault(int fd, int level, int name)
{
	(void)level;
	(void)name;
	if (fd != listening_fd || faults_left == 0)
		return 0;
	faults_left--;
	return -fault_errno;
}

/* ---- a listener, and three who want in ---- */

struct scene {
	struct loop loop;
	struct listening listening;
	struct listener listener;
	struct timer deadline;
	int clients[CONNECTIONS];
	int accepted;
};

static void accepted(void *arg, int fd, const struct peer *peer)
{
	struct scene *s = arg;

	assert_int_equal(peer->address.any.sa_family, AF_INET);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	if (++s->accepted == CONNECTIONS)
		loop_stop(&s->loop);
}

static void too_late(struct timer *timer)
{
	loop_stop(&owner_of(timer, struct scene, deadline)->loop);
}

static int dial(const char *address)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	to.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static void begin(struct scene *s)
{
	char error[256];

	*s = (struct scene){ .deadline = { .due = too_late } };
	assert_int_equal(loop_open(&s->loop), 0);
	assert_int_equal(listening_open(&s->listening, "127.0.0.1:0", 1, error, sizeof(error)), 0);
	s->listener = (struct listener){ .loop = &s->loop, .accepted = accepted, .arg = s };
	s->listener.source.fd = listening_fd = listening_take(&s->listening, 0);
	assert_int_equal(listener_start(&s->listener), 0);
	assert_int_equal(loop_at(&s->loop, &s->deadline, s->loop.now_ms + SECONDS * 1000), 0);
	for (int i = 0; i < CONNECTIONS; i++)
		s->clients[i] = dial(s->listening.address);
}

static void end(struct scene *s)
{
	for (int i = 0; i < CONNECTIONS; i++)
		close(s->clients[i]);
	listener_stop(&s->listener);
	listening_close(&s->listening);
	loop_cancel(&s->loop, &s->deadline);
	loop_close(&s->loop);
}

/* Runs the loop. How many lines the log then has of accept and this errno. */
static int run(struct scene *s, int err)
{
	char line[512];
	int log = memfd_create("log", MFD_CLOEXEC), old = dup(STDERR_FILENO), lines = 0;
	FILE *text;

	dup2(log, STDERR_FILENO);
	assert_int_equal(loop_run(&s->loop), 0);
	dup2(old, STDERR_FILENO);
	close(old);
	text = fdopen(log, "r");
	rewind(text);
	while (fgets(line, sizeof(line), text))
		lines += strstr(line, "event=accept") && strstr(line, strerror(err));
	fclose(text);
	return lines;
}

/* How often the log says "accept" while all three come in, after this many failures. */
static int lines_of(int err, int times)
{
	struct scene s;
	int lines;

	begin(&s);
	fault_errno = err;
	faults_left = times;
	sys_fault = fault;
	lines = run(&s, err);
	sys_fault = NULL;
	assert_int_equal(s.accepted, CONNECTIONS);
	assert_int_equal(faults_left, 0);
	end(&s);
	return lines;
}

/* Another process that has it did that: epoll tells of it all the time. */
static void shut_down(void **state)
{
	struct scene s;
	uint32_t turns;
	int lines;

	(void)state;
	begin(&s);
	assert_int_equal(shutdown(listening_fd, SHUT_RDWR), 0);
	assert_int_equal(loop_at(&s.loop, &s.deadline, s.loop.now_ms + 350), 0);
	lines = run(&s, EINVAL);
	turns = s.loop.turn;
	end(&s);
	assert_int_equal(lines, 1);
	assert_true(turns < 20);
}

struct failure {
	int err, times, lines;
};

static void accept_fails(void **state)
{
	const struct failure *f = *state;

	assert_int_equal(lines_of(f->err, f->times), f->lines);
}

int main(int argc, char **argv)
{
	static const int gone[] = { ECONNABORTED, EPROTO,     ENETDOWN,	   EHOSTUNREACH,
				    EPERM,	  EOPNOTSUPP, ENETUNREACH, EINTR };
	static const int shortages[] = { EMFILE, ENFILE, ENOBUFS, ENOMEM };

	for (size_t i = 0; i < LENGTH(gone); i++) {
		struct failure f = { gone[i], 100, 0 };

		suite_add(accept_fails, &f, sizeof(f), "accept: %s is passed over",
			  strerrorname_np(f.err));
	}
	for (size_t i = 0; i < LENGTH(shortages); i++) {
		struct failure f = { shortages[i], 3, 1 }; /* a line, not one for each pause */

		suite_add(accept_fails, &f, sizeof(f), "accept: after %s it goes on",
			  strerrorname_np(f.err));
	}
	suite_add(shut_down, NULL, 0, "accept: a socket that is shut down is asked in pauses");
	return suite_run(argc, argv);
}
