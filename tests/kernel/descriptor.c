/*
 * The fd after the handover, OpenSSL gone: everything that takes a file descriptor
 * takes this one.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "link.h"
#include "suite.h"

enum { SOME = 5000, MUCH = 200000 };

static const struct {
	const char *name;
	struct variant v;
} links[] = {
	{ "TLSv1.3/server", { .version = TLS1_3_VERSION, .server = true, .tickets = 2 } },
	{ "TLSv1.3/client",
	  { .version = TLS1_3_VERSION,
	    .suite = "TLS_AES_128_GCM_SHA256",
	    .tickets = 2,
	    .tickets_read = 2 } },
	{ "TLSv1.2/server",
	  { .version = TLS1_2_VERSION, .server = true, .suite = "ECDHE-ECDSA-CHACHA20-POLY1305" } },
	{ "TLSv1.2/client",
	  { .version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-AES128-GCM-SHA256", .ktls = true } },
};

static struct link *bare_link(void **state)
{
	struct link *l = link_made(*state);

	hand_over(l, VIA_FD);
	leave_openssl(l);
	return l;
}

static void expect(const char *what_went_wrong)
{
	if (what_went_wrong)
		fail_msg("%s", what_went_wrong);
}

static void peer_reads(struct link *l, size_t n)
{
	expect(run_flows(&(struct flow){ .end = &l->peer, .left = n }, 1));
}

static void peer_writes(struct link *l, size_t n)
{
	expect(run_flows(&(struct flow){ .end = &l->peer, .out = true, .left = n }, 1));
}

/* n bytes of what we send next; a buffer of our own, for calls that want one. */
static uint8_t *next_data(struct link *l, size_t n)
{
	uint8_t *data = malloc(n);

	assert_non_null(data);
	for (size_t i = 0; i < n; i++)
		data[i] = *pattern_at(l->us.sent + i);
	l->us.sent += n;
	return data;
}

/* These n bytes came; were they what the peer sent? */
static void check_data(struct link *l, const uint8_t *data, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (data[i] != *pattern_at(l->us.received + i))
			fail_msg("wrong data at byte %zu", i);
	l->us.received += n;
}

static void end_well(struct link *l)
{
	move(l, 20000, 30000);
	link_free(l);
}

/* ---- reading and writing ---- */

static void test_read_write(void **state)
{
	struct link *l = bare_link(state);

	for (size_t n = 1; n < MUCH; n *= 7)
		move(l, n, n + 1);
	end_well(l);
}

static void test_readv_writev(void **state)
{
	struct link *l = bare_link(state);
	uint8_t *out = next_data(l, SOME), in[SOME] = { 0 };
	struct iovec iov[3] = { { out, 1 }, { out + 1, 999 }, { out + 1000, SOME - 1000 } };
	ssize_t n;

	assert_int_equal(writev(l->us.fd, iov, 3), SOME);
	peer_reads(l, SOME);
	peer_writes(l, SOME);
	wait_for(l->us.fd, POLLIN);
	for (int i = 0; i < 3; i++)
		iov[i].iov_base = in + ((uint8_t *)iov[i].iov_base - out);
	n = readv(l->us.fd, iov, 3);
	assert_int_equal(n, SOME);
	check_data(l, in, SOME);
	free(out);
	end_well(l);
}

static void test_send_recv(void **state)
{
	struct link *l = bare_link(state);
	uint8_t *out = next_data(l, SOME), in[SOME];

	assert_int_equal(send(l->us.fd, out, 100, MSG_MORE | MSG_NOSIGNAL), 100);
	assert_int_equal(send(l->us.fd, out + 100, SOME - 100, MSG_NOSIGNAL), SOME - 100);
	peer_reads(l, SOME);
	peer_writes(l, SOME);
	wait_for(l->us.fd, POLLIN);
	assert_int_equal(recv(l->us.fd, in, SOME, MSG_PEEK), SOME);
	assert_int_equal(recv(l->us.fd, in, SOME, 0), SOME);
	check_data(l, in, SOME);
	free(out);
	end_well(l);
}

/* ---- files ---- */

static int file_of_next_data(struct link *l, size_t n)
{
	int fd = memfd_create("data", MFD_CLOEXEC);
	uint8_t *data = next_data(l, n);

	assert_int_equal(write(fd, data, n), n);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	free(data);
	return fd;
}

static void check_file(struct link *l, int fd, size_t n)
{
	uint8_t *data = malloc(n + 1);

	assert_non_null(data);
	assert_int_equal(pread(fd, data, n + 1, 0), n);
	check_data(l, data, n);
	free(data);
	close(fd);
}

static void test_sendfile(void **state)
{
	struct link *l = bare_link(state);
	int file = file_of_next_data(l, MUCH);
	size_t left = MUCH;

	while (left) {
		ssize_t n = sendfile(l->us.fd, file, NULL, left);

		assert_true(n > 0 || errno == EAGAIN);
		left -= n > 0 ? (size_t)n : 0;
		if (left)
			wait_for(l->us.fd, POLLOUT);
	}
	peer_reads(l, MUCH);
	close(file);
	end_well(l);
}

/* Up to n bytes from one to the other; how many. EAGAIN counts as none. */
static size_t splice_some(int from, int to, size_t n)
{
	ssize_t moved = splice(from, NULL, to, NULL, n, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

	if (moved < 0)
		assert_int_equal(errno, EAGAIN);
	return moved < 0 ? 0 : (size_t)moved;
}

static void splice_all(int from, int to, size_t n)
{
	while (n) {
		size_t moved = splice_some(from, to, n);

		n -= moved;
		if (!moved)
			wait_for(to, POLLOUT);
	}
}

static void test_splice_out(void **state)
{
	struct link *l = bare_link(state);
	int file = file_of_next_data(l, MUCH), pipes[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	for (size_t left = MUCH; left;) {
		size_t n = splice_some(file, pipes[1], left);

		assert_true(n > 0);
		splice_all(pipes[0], l->us.fd, n);
		left -= n;
	}
	peer_reads(l, MUCH);
	close(pipes[0]);
	close(pipes[1]);
	close(file);
	end_well(l);
}

static void test_splice_in(void **state)
{
	struct link *l = bare_link(state);
	int file = memfd_create("data", MFD_CLOEXEC), pipes[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	peer_writes(l, MUCH);
	for (size_t left = MUCH; left;) {
		size_t n;

		wait_for(l->us.fd, POLLIN);
		n = splice_some(l->us.fd, pipes[1], left);
		splice_all(pipes[0], file, n);
		left -= n;
	}
	check_file(l, file, MUCH);
	close(pipes[0]);
	close(pipes[1]);
	end_well(l);
}

/* ---- waiting ---- */

static bool poll_says(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, 0) == 1 && (p.revents & events) == events;
}

static void test_poll(void **state)
{
	struct link *l = bare_link(state);
	uint8_t in[SOME];

	assert_false(poll_says(l->us.fd, POLLIN));
	assert_true(poll_says(l->us.fd, POLLOUT));
	assert_int_equal(read(l->us.fd, in, SOME), -1);
	assert_int_equal(errno, EAGAIN);
	peer_writes(l, SOME);
	wait_for(l->us.fd, POLLIN);
	assert_int_equal(read(l->us.fd, in, SOME), SOME);
	check_data(l, in, SOME);
	assert_false(poll_says(l->us.fd, POLLIN));
	end_well(l);
}

static void test_poll_full(void **state)
{
	struct link *l = bare_link(state);
	struct flow in = { .end = &l->peer };

	while (poll_says(l->us.fd, POLLOUT)) {
		ssize_t n = write(l->us.fd, pattern_at(l->us.sent), PATTERN_RUN);

		if (n < 0)
			assert_int_equal(errno, EAGAIN);
		else
			in.left += (size_t)n, l->us.sent += (uint64_t)n;
	}
	expect(run_flows(&in, 1));
	wait_for(l->us.fd, POLLOUT);
	end_well(l);
}

static void test_epoll(void **state)
{
	struct link *l = bare_link(state);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.fd = l->us.fd };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	uint8_t in[SOME];

	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, l->us.fd, &ev), 0);
	assert_int_equal(epoll_wait(ep, &ev, 1, 0), 0);
	for (int i = 0; i < 3; i++) {
		peer_writes(l, SOME);
		assert_int_equal(epoll_wait(ep, &ev, 1, PATIENCE_MS), 1);
		assert_int_equal(ev.data.fd, l->us.fd);
		assert_true(ev.events & EPOLLIN);
		assert_int_equal(read(l->us.fd, in, SOME), SOME);
		check_data(l, in, SOME);
	}
	close(ep);
	end_well(l);
}

/* ---- io_uring ---- */

static void start_ring(struct io_uring *ring)
{
	int err = io_uring_queue_init(8, ring, 0);

	if (err == -ENOSYS || err == -EPERM)
		skip_because("this kernel has no io_uring");
	assert_int_equal(err, 0);
}

/* What the one request that was prepared returns. */
static int ring_result(struct io_uring *ring)
{
	struct __kernel_timespec limit = { .tv_sec = PATIENCE_MS / 1000 };
	struct io_uring_cqe *cqe;
	int result;

	assert_int_equal(io_uring_submit(ring), 1);
	assert_int_equal(io_uring_wait_cqe_timeout(ring, &cqe, &limit), 0);
	result = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return result;
}

static void test_io_uring_send_recv(void **state)
{
	struct link *l = bare_link(state);
	uint8_t *out = next_data(l, SOME), in[SOME];
	struct io_uring ring;

	start_ring(&ring);
	io_uring_prep_send(io_uring_get_sqe(&ring), l->us.fd, out, SOME, MSG_NOSIGNAL);
	assert_int_equal(ring_result(&ring), SOME);
	peer_reads(l, SOME);
	peer_writes(l, SOME);
	wait_for(l->us.fd, POLLIN);
	io_uring_prep_recv(io_uring_get_sqe(&ring), l->us.fd, in, SOME, 0);
	assert_int_equal(ring_result(&ring), SOME);
	check_data(l, in, SOME);
	io_uring_queue_exit(&ring);
	free(out);
	end_well(l);
}

/* The receive waits inside the kernel: the data comes later. */
static void test_io_uring_recv_first(void **state)
{
	struct link *l = bare_link(state);
	struct io_uring_cqe *cqe;
	struct __kernel_timespec limit = { .tv_sec = PATIENCE_MS / 1000 };
	struct io_uring ring;
	uint8_t in[SOME];

	set_blocking(l->us.fd, true); /* on a non-blocking fd it would say EAGAIN */
	start_ring(&ring);
	io_uring_prep_recv(io_uring_get_sqe(&ring), l->us.fd, in, SOME, 0);
	assert_int_equal(io_uring_submit(&ring), 1);
	peer_writes(l, SOME);
	assert_int_equal(io_uring_wait_cqe_timeout(&ring, &cqe, &limit), 0);
	assert_int_equal(cqe->res, SOME);
	io_uring_cqe_seen(&ring, cqe);
	check_data(l, in, SOME);
	io_uring_queue_exit(&ring);
	set_blocking(l->us.fd, false);
	end_well(l);
}

static int ring_splice(struct io_uring *ring, int from, int to, unsigned n)
{
	io_uring_prep_splice(io_uring_get_sqe(ring), from, -1, to, -1, n, 0);
	return ring_result(ring);
}

static void test_io_uring_splice(void **state)
{
	struct link *l = bare_link(state);
	int file = file_of_next_data(l, SOME), pipes[2];
	struct io_uring ring;

	start_ring(&ring);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(splice_some(file, pipes[1], SOME), SOME);
	assert_int_equal(ring_splice(&ring, pipes[0], l->us.fd, SOME), SOME);
	peer_reads(l, SOME);
	peer_writes(l, SOME);
	wait_for(l->us.fd, POLLIN);
	assert_int_equal(ring_splice(&ring, l->us.fd, pipes[1], SOME), SOME);
	assert_int_equal(ftruncate(file, 0), 0);
	assert_int_equal(lseek(file, 0, SEEK_SET), 0);
	splice_all(pipes[0], file, SOME);
	check_file(l, file, SOME);
	io_uring_queue_exit(&ring);
	close(pipes[0]);
	close(pipes[1]);
	end_well(l);
}

/* ---- copies of the fd, in this process and in others ---- */

static void test_dup(void **state)
{
	struct link *l = bare_link(state);
	int copy = dup(l->us.fd);

	close(l->us.fd);
	l->us.fd = l->us.write_fd = copy;
	end_well(l);
}

/* Status 0 means that the child did all. */
static void wait_for_child(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void in_child(int fd, const uint8_t *data, size_t n)
{
	_exit(write(fd, data, n) == (ssize_t)n ? 0 : 1);
}

static void test_fork(void **state)
{
	struct link *l = bare_link(state);

	for (int i = 0; i < 3; i++) {
		uint8_t *data = next_data(l, SOME);
		pid_t pid = fork();

		if (pid == 0)
			in_child(l->us.fd, data, SOME);
		wait_for_child(pid);
		free(data);
		move(l, 10, 20);
	}
	end_well(l);
}

/* The program echoes until we end its input; close_notify on a bare fd is an error to
 * it, so nothing but data is asked for. */
static pid_t start_cat(int fd)
{
	pid_t pid = fork();

	if (pid == 0) {
		dup2(fd, 0);
		dup2(fd, 1);
		execl("/bin/cat", "cat", (char *)NULL);
		_exit(127);
	}
	return pid;
}

static void test_exec(void **state)
{
	struct link *l = bare_link(state);
	struct flow flows[2] = { { .end = &l->peer, .out = true, .left = MUCH },
				 { .end = &l->peer, .left = MUCH } };
	pid_t pid;
	int status;

	set_blocking(l->us.fd, true);
	pid = start_cat(l->us.fd);
	assert_true(pid > 0);
	expect(run_flows(flows, 2));
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	/* what cat took and gave */
	l->us.received = l->us.sent = MUCH;
	set_blocking(l->us.fd, false);
	end_well(l);
}

union fd_message {
	struct cmsghdr align;
	char space[CMSG_SPACE(sizeof(int))];
};

static void send_fd(int through, int fd)
{
	union fd_message control = { .align = { .cmsg_len = CMSG_LEN(sizeof(int)),
						.cmsg_level = SOL_SOCKET,
						.cmsg_type = SCM_RIGHTS } };
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };

	memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
	assert_int_equal(sendmsg(through, &msg, 0), 1);
}

static int receive_fd(int through)
{
	union fd_message control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	int fd = -1;

	if (recvmsg(through, &msg, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* Reads SOME bytes from the fd that it is sent, and writes them back. */
static void echo_on_received_fd(int through)
{
	int fd = receive_fd(through);
	uint8_t data[SOME];
	size_t have = 0;

	while (have < SOME) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n = poll(&p, 1, PATIENCE_MS) == 1 ? read(fd, data + have, SOME - have) : -1;

		if (n <= 0)
			_exit(1);
		have += (size_t)n;
	}
	_exit(write(fd, data, SOME) == SOME ? 0 : 2);
}

static void test_scm_rights(void **state)
{
	struct link *l;
	int pair[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork(); /* a process that never saw this connection */
	if (pid == 0)
		echo_on_received_fd(pair[1]);
	l = bare_link(state);
	send_fd(pair[0], l->us.fd);
	peer_writes(l, SOME);
	wait_for_child(pid);
	peer_reads(l, SOME);
	l->us.received = l->us.sent = SOME;
	close(pair[0]);
	close(pair[1]);
	end_well(l);
}

/* ---- what is not data ---- */

static void test_close_notify(void **state)
{
	struct link *l = bare_link(state);
	char byte;

	peer_writes(l, SOME);
	assert_int_equal(SSL_shutdown(l->peer.ssl), 0);
	expect(run_flows(&(struct flow){ .end = &l->us, .left = SOME }, 1));
	wait_for(l->us.fd, POLLIN);
	assert_int_equal(read(l->us.fd, &byte, 1), -1);
	assert_int_equal(errno, EIO);
	link_free(l);
}

static void test_release(void **state)
{
	struct link *l = link_made(*state);

	hand_over(l, VIA_CONN);
	leave_openssl(l);
	move(l, SOME, SOME);
	assert_int_equal(tlsfd_release(&l->us.conn), l->us.fd);
	assert_null(l->us.conn);
	l->us.via = VIA_FD;
	end_well(l);
}

static const struct {
	const char *name;
	CMUnitTestFunction test;
} tests[] = {
	{ "read, write", test_read_write },
	{ "readv, writev", test_readv_writev },
	{ "send, recv", test_send_recv },
	{ "sendfile", test_sendfile },
	{ "splice out", test_splice_out },
	{ "splice in", test_splice_in },
	{ "poll", test_poll },
	{ "poll, full", test_poll_full },
	{ "epoll", test_epoll },
	{ "io_uring send, recv", test_io_uring_send_recv },
	{ "io_uring recv before the data", test_io_uring_recv_first },
	{ "io_uring splice", test_io_uring_splice },
	{ "dup", test_dup },
	{ "fork", test_fork },
	{ "exec", test_exec },
	{ "SCM_RIGHTS", test_scm_rights },
	{ "close_notify", test_close_notify },
	{ "tlsfd_release", test_release },
};

int main(int argc, char **argv)
{
	suite_slice(5);
	for (size_t i = 0; i < LENGTH(links); i++)
		for (size_t k = 0; k < LENGTH(tests); k++)
			suite_add(tests[k].test, &links[i].v, sizeof(links[i].v), "%s/%s",
				  links[i].name, tests[k].name);
	return suite_run(argc, argv);
}
