/*
 * The calls that read and write vectors and files, and what threads and signals make of
 * reading and writing; in every place.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "everywhere.h"
#include "expect.h"

static void begin(struct tested *t, void **state)
{
	place_connect(t, &setting_of(state)->v, setting_of(state)->place);
}

/* ---- vectors, files ---- */

static void test_vectors(void **state)
{
	char a[3], b[1], c[64];
	struct iovec out[] = { { (char *)"abc", 3 }, { NULL, 0 }, { (char *)"defg", 4 } };
	struct iovec in[] = { { NULL, 0 }, { a, 3 }, { b, 1 }, { c, sizeof(c) } };
	struct tested t;

	begin(&t, state);
	assert_int_equal(tlsfd_writev(t.c, out, 3), 7);
	expect_record(&t, 23, "abcdefg", 7);
	assert_int_equal(tlsfd_readv(t.c, in, 4), -EAGAIN);
	assert_int_equal(tlsfd_readv(t.c, in, 1), 0);
	assert_int_equal(tlsfd_readv(t.c, in, -1), -EINVAL);
	raw_send_alert(&t.peer, 1, 90);
	say(&t.peer, "ABCDEFG");
	while (tlsfd_readv(t.c, in, 0) == 0 &&
	       poll(&(struct pollfd){ t.fd, POLLIN, 0 }, 1, PATIENCE_MS) != 1)
		;
	assert_int_equal(tlsfd_readv(t.c, in, 4), 7);
	assert_memory_equal(a, "ABC", 3);
	assert_memory_equal(b, "D", 1);
	assert_memory_equal(c, "EFG", 3);
	place_close(&t);
}

static void test_sendfile(void **state)
{
	static uint8_t data[20000], got[16384];
	int file = memfd_create("file", MFD_CLOEXEC);
	off_t offset = 1000;
	struct tested t;
	uint8_t type;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i % 251);
	assert_int_equal(write(file, data, sizeof(data)), sizeof(data));
	begin(&t, state);
	assert_int_equal(tlsfd_sendfile(t.c, file, &offset, 5000), 5000);
	assert_int_equal(offset, 6000);
	assert_int_equal(raw_receive(&t.peer, &type, got), 5000);
	assert_memory_equal(got, data + 1000, 5000);
	assert_int_equal(lseek(file, 0, SEEK_CUR), sizeof(data));
	lseek(file, 15000, SEEK_SET);
	assert_int_equal(tlsfd_sendfile(t.c, file, NULL, 10000), 5000);
	assert_int_equal(lseek(file, 0, SEEK_CUR), sizeof(data));
	assert_int_equal(raw_receive(&t.peer, &type, got), 5000);
	assert_memory_equal(got, data + 15000, 5000);
	assert_int_equal(tlsfd_sendfile(t.c, file, NULL, 10000), 0);
	close(file);
	place_close(&t);
}

/* What sendfile(2) says of the file and the range, and the connection goes on. */
static void test_sendfile_refused(void **state)
{
	int file = memfd_create("file", MFD_CLOEXEC), pipes[2];
	int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	off_t offset = 0, negative = -2;
	struct tested t;
	char data[8];

	begin(&t, state);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(write(file, "content", 7), 7);
	lseek(file, 0, SEEK_SET);
	assert_int_equal(tlsfd_sendfile(t.c, -1, NULL, 1), -EBADF);
	assert_int_equal(tlsfd_sendfile(t.c, pipes[1], NULL, 1), -EBADF);
	assert_int_equal(tlsfd_sendfile(t.c, pipes[0], NULL, 1), -EINVAL);
	assert_int_equal(tlsfd_sendfile(t.c, pipes[0], &offset, 1), -ESPIPE);
	assert_int_equal(tlsfd_sendfile(t.c, directory, NULL, 1), -EINVAL);
	assert_int_equal(tlsfd_sendfile(t.c, directory, &offset, 1), -EINVAL);
	assert_int_equal(tlsfd_sendfile(t.c, file, &offset, SIZE_MAX), -EINVAL);
	assert_int_equal(tlsfd_sendfile(t.c, file, &negative, 1), -EINVAL);
	assert_int_equal(negative, -2);
	assert_int_equal(offset, 0);
	assert_int_equal(lseek(file, 0, SEEK_CUR), 0);
	assert_int_equal(patient_write(&t, "still", 5), 5);
	expect_record(&t, 23, "still", 5);
	say(&t.peer, "there");
	assert_int_equal(patient_read(&t, data, sizeof(data)), 5);
	close(pipes[0]), close(pipes[1]), close(file), close(directory);
	place_close(&t);
}

/* ---- signals ---- */

static atomic_int signals;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

struct disturber {
	struct raw_peer *peer;
	pthread_t whom;
};

static void *disturb_and_answer(void *arg)
{
	struct disturber *d = arg;

	for (int i = 0; i < 10; i++) {
		poll(NULL, 0, 10);
		pthread_kill(d->whom, SIGUSR1);
	}
	say(d->peer, "late");
	return NULL;
}

/* A blocking read goes on after a signal. */
static void test_interrupted(void **state)
{
	struct sigaction act = { .sa_handler = on_signal }, before; /* no SA_RESTART */
	struct disturber d;
	pthread_t thread;
	struct tested t;
	char buf[8];

	begin(&t, state);
	place_block(&t);
	sigaction(SIGUSR1, &act, &before);
	signals = 0;
	d = (struct disturber){ &t.peer, pthread_self() };
	pthread_create(&thread, NULL, disturb_and_answer, &d);
	assert_int_equal(tlsfd_read(t.c, buf, sizeof(buf)), 4);
	pthread_join(thread, NULL);
	assert_true(signals > 0); /* two that wait are one */
	sigaction(SIGUSR1, &before, NULL);
	place_close(&t);
}

static void test_no_sigpipe(void **state)
{
	struct tested t;
	ssize_t n = 0;

	begin(&t, state);
	signals = 0;
	signal(SIGPIPE, on_signal);
	say(&t.peer, "x");
	raw_reset(&t.peer);
	for (int i = 0; i < 5; i++)
		n = tlsfd_write(t.c, "anybody?", 8);
	assert_true(n == -EPIPE || n == -ECONNRESET);
	tlsfd_free(t.c);
	close(t.fd);
	assert_int_equal(signals, 0);
	signal(SIGPIPE, SIG_IGN);
}

/* ---- threads ---- */

struct writing {
	struct tlsfd *c;
	ssize_t result;
	size_t sent;
	atomic_bool stop;
};

static void *write_on(void *arg)
{
	static const uint8_t data[16384];
	struct writing *w = arg;

	while (!w->stop && (w->result = tlsfd_write(w->c, data, sizeof(data))) > 0)
		w->sent += (size_t)w->result;
	/* the reader's alert, if there was no room for it */
	return (void *)(intptr_t)tlsfd_shutdown(w->c);
}

static void send_forged(struct tested *t)
{
	uint8_t record[RAW_RECORD_MAX];
	size_t n = raw_seal(&t->peer, 23, "forged", 6, record);

	record[n - 1] ^= 1;
	raw_send_bytes(&t->peer, record, n);
}

/* The peer reads: data, and then the alert, each in records that open. */
static void expect_data_then_alert(struct tested *t, size_t least)
{
	uint8_t type = 23, data[16384];
	size_t total = 0;
	ssize_t n = 0;

	for (;;) {
		n = raw_receive(&t->peer, &type, data);
		assert_true(n > 0);
		if (type != 23)
			break;
		total += (size_t)n;
	}
	assert_true(total >= least);
	assert_int_equal(type, 21);
	assert_int_equal(data[0], 2);
}

/* A writer that is stuck, as the peer doesn't read: the reader meets a bad record. It
 * doesn't wait, and its alert goes out when the writer gets on. */
static void test_alert_behind_writer(void **state)
{
	struct timespec from, to;
	struct writing w = { 0 };
	pthread_t thread;
	struct tested t;
	char buf[100];

	begin(&t, state);
	place_block(&t);
	w.c = t.c;
	pthread_create(&thread, NULL, write_on, &w);
	place_wait_until_full(t.fd);
	send_forged(&t);
	clock_gettime(CLOCK_MONOTONIC, &from);
	assert_int_equal(tlsfd_read(t.c, buf, sizeof(buf)), -EBADMSG);
	clock_gettime(CLOCK_MONOTONIC, &to);
	assert_true(to.tv_sec - from.tv_sec < PATIENCE_MS / 1000);
	expect_data_then_alert(&t, 100000);
	pthread_join(thread, NULL);
	assert_int_equal(w.result, -EPIPE);
	place_close(&t);
}

/* Reader and writer at full speed, warnings among the data, a bad record in the end. */
static void test_reader_and_writer(void **state)
{
	struct writing w = { 0 };
	pthread_t thread;
	struct tested t;
	char buf[100];
	ssize_t n;

	for (int round = 0; round < 5; round++) {
		begin(&t, state);
		place_block(&t);
		w = (struct writing){ .c = t.c };
		pthread_create(&thread, NULL, write_on, &w);
		for (int i = 0; i < 50; i++) {
			say(&t.peer, "ping");
			if (!t.peer.tls13 && !t.peer.server)
				raw_send(&t.peer, 22, "\1\0\0\0", 4);
			n = tlsfd_read(t.c, buf, sizeof(buf));
			assert_true(n > 0);
			(void)tlsfd_error(t.c);
		}
		send_forged(&t);
		while ((n = tlsfd_read(t.c, buf, sizeof(buf))) > 0)
			;
		assert_int_equal(n, -EBADMSG);
		shutdown(t.peer.fd, SHUT_RDWR);
		raw_close(&t.peer);
		pthread_join(thread, NULL);
		assert_true(w.result < 0);
		place_close(&t);
	}
}

int main(int argc, char **argv)
{
	static const struct everywhere tests[] = {
		{ test_vectors, "vectors", BOTH, ANYWHERE },
		{ test_sendfile, "sendfile", BOTH, ANYWHERE },
		{ test_sendfile_refused, "sendfile: refused", BOTH, ANYWHERE },
		{ test_interrupted, "interrupted", BOTH, ANYWHERE },
		{ test_no_sigpipe, "no SIGPIPE", BOTH, ANYWHERE },
		{ test_alert_behind_writer, "alert behind a stuck writer", BOTH, ANYWHERE },
		{ test_reader_and_writer, "reader and writer", BOTH, ANYWHERE },
	};

	everywhere_add(tests, LENGTH(tests), NULL);
	return suite_run(argc, argv);
}
