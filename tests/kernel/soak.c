/*
 * Many connections for a long time, in several processes: random writes, new keys by both
 * ends and at low limits, half-closes, moves from process to process. Every byte arrives;
 * after each round every process has the descriptors and the memory that it had before.
 *
 *	TLSFD_SOAK_SECONDS=N   how long (20)
 *	TLSFD_SEED=N           the choices of an earlier run, not its timing
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <malloc.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "parcel.h"
#include "place.h"
#include "probe.h"
#include "stats.h"
#include "suite.h"

enum {
	WORKERS = 3,
	ENDS = 24, /* alive, in all processes */
	ROUND_MS = 4000,
	STUCK_MS = PATIENCE_MS,
	CHUNK = 1 << 16,
	PERIOD = 65521,
	LEAK = 128 << 10, /* bytes that a heap may grow in all rounds but the first */
};

/* One end. It travels with its connection, but for c and ssl. */
struct end {
	struct tlsfd *c;
	SSL *ssl; /* the peer is OpenSSL, and stays where it is */
	int fd;
	bool movable, tls13;
	const char *other;    /* what the other end is */
	bool finished, ended; /* said close_notify; got it */
	size_t to_send, sent, to_receive, received, chunk;
	size_t base_out, base_in; /* where in the pattern the connection begins */
	size_t again;		  /* OpenSSL wants a write repeated */
};

/* What all processes see. */
struct shared {
	pthread_barrier_t barrier;
	atomic_int alive; /* ends, those on their way included */
	atomic_bool over; /* no new ones in this round */
	atomic_ulong connections, moves, bytes, rekeys;
};

struct worker {
	struct shared *all;
	int in, out; /* from the one before, to the next */
	struct end ends[ENDS];
	size_t count;
	bool rekey; /* the kernel can */
};

static uint8_t pattern[PERIOD + CHUNK];
static uint64_t seed;

static uint64_t rnd(uint64_t below)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (seed * 0x2545f4914f6cdd1d >> 20) % below;
}

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Workers are processes: they end, and the test fails in the first one. */
static _Noreturn void give_up(const struct end *e, const char *what, long value)
{
	printf("# soak: %s: %ld (%s); %s, TLS 1.%d, %zu of %zu sent, %zu of %zu received, "
	       "from %s\n",
	       what, value, value < 0 ? strerrorname_np((int)-value) : "-",
	       e->ssl		 ? "OpenSSL" :
	       tlsfd_error(e->c) ? tlsfd_error(e->c) :
				   "no error",
	       e->tls13 ? 3 : 2, e->sent, e->to_send, e->received, e->to_receive,
	       e->other ? e->other : "-");
	fflush(stdout);
	_exit(1);
}

/* ---- an end's reads and writes: a count, 0 at the end, or a negative errno ---- */

static ssize_t ssl_result(SSL *ssl, int result)
{
	if (result > 0)
		return result;
	switch (SSL_get_error(ssl, result)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		ERR_print_errors_fp(stdout);
		return -EPROTO;
	}
}

static ssize_t end_write(struct end *e, const uint8_t *data, size_t n)
{
	struct iovec iov[] = { { (void *)data, n / 3 }, { (void *)(data + n / 3), n - n / 3 } };
	ssize_t sent;

	if (!e->ssl)
		return rnd(2) ? tlsfd_write(e->c, data, n) : tlsfd_writev(e->c, iov, 2);
	ERR_clear_error();
	n = e->again ? e->again : n;
	sent = ssl_result(e->ssl, SSL_write(e->ssl, data, (int)n));
	e->again = sent == -EAGAIN ? n : 0;
	return sent;
}

static ssize_t end_read(struct end *e, uint8_t *buf, size_t n)
{
	if (!e->ssl)
		return tlsfd_read(e->c, buf, n);
	ERR_clear_error();
	return ssl_result(e->ssl, SSL_read(e->ssl, buf, (int)n));
}

static int end_rekey(struct end *e, bool request)
{
	if (!e->ssl)
		return tlsfd_rekey(e->c, request);
	if (e->again)
		return -EAGAIN;
	return SSL_key_update(e->ssl, request ? SSL_KEY_UPDATE_REQUESTED :
						SSL_KEY_UPDATE_NOT_REQUESTED) == 1 ?
		       0 :
		       -EPROTO;
}

static int end_shutdown(struct end *e)
{
	int done;

	if (!e->ssl)
		return tlsfd_shutdown(e->c);
	done = SSL_shutdown(e->ssl);
	return done >= 0 ? 0 : (int)ssl_result(e->ssl, done);
}

/* ---- what an end does ---- */

static bool step_out(struct end *e)
{
	size_t left = e->to_send - e->sent, n = 1 + rnd(e->chunk);
	ssize_t sent =
		end_write(e, pattern + (e->base_out + e->sent) % PERIOD, n < left ? n : left);

	if (sent < 0 && sent != -EAGAIN)
		give_up(e, "write", sent);
	e->sent += sent > 0 ? (size_t)sent : 0;
	return sent > 0;
}

static bool step_rekey(const struct worker *w, struct end *e)
{
	int err;

	if (!w->rekey || !e->tls13 || rnd(50))
		return false;
	err = end_rekey(e, rnd(2));
	if (err && err != -EAGAIN)
		give_up(e, "rekey", err);
	w->all->rekeys += !err;
	return !err;
}

static bool step_goodbye(struct end *e)
{
	int err = end_shutdown(e);

	if (err && err != -EAGAIN)
		give_up(e, "shutdown", err);
	e->finished = !err;
	return e->finished;
}

static bool step_in(struct end *e)
{
	static uint8_t buf[CHUNK];
	ssize_t got = -EAGAIN;

	if (!e->again) /* OpenSSL's answer to a KeyUpdate would end up in that write */
		got = end_read(e, buf, 1 + rnd(e->chunk));
	if (got == -EAGAIN)
		return false;
	if (got < 0 || (got == 0 && e->received != e->to_receive))
		give_up(e, "read", got);
	if (memcmp(buf, pattern + (e->base_in + e->received) % PERIOD, (size_t)got))
		give_up(e, "wrong data", got);
	e->received += (size_t)got;
	e->ended = got == 0;
	return true;
}

/* OpenSSL can't follow a KeyUpdate that comes behind its own close_notify. */
static bool may_close(const struct end *e)
{
	return !e->ssl || !e->tls13 || e->ended;
}

static bool step(const struct worker *w, struct end *e)
{
	bool moved = false;

	if (e->sent < e->to_send) {
		moved = step_rekey(w, e);
		moved = step_out(e) || moved;
	} else if (!e->finished && may_close(e)) {
		moved = step_goodbye(e);
	}
	if (!e->ended && step_in(e))
		moved = true;
	return moved;
}

/* ---- ends that come and go ---- */

static void remove_end(struct worker *w, struct end *e)
{
	*e = w->ends[--w->count];
}

/* The state goes behind the connection. */
static bool pass_on(struct worker *w, struct end *e)
{
	int err = tlsfd_pass(&e->c, w->out);

	if (err == -EAGAIN)
		return false;
	if (err)
		give_up(e, "pass", err);
	close(e->fd);
	while (send(w->out, e, sizeof(*e), MSG_NOSIGNAL) < 0)
		if (errno != EAGAIN ||
		    poll(&(struct pollfd){ w->out, POLLOUT, 0 }, 1, STUCK_MS) < 1)
			give_up(e, "the state's way", -errno);
	w->all->moves++;
	remove_end(w, e);
	return true;
}

static bool take_up(struct worker *w)
{
	struct end e = { .fd = -1 };
	struct tlsfd *c;
	int err;

	err = tlsfd_take(&c, w->in);
	if (err == -EAGAIN)
		return false;
	if (err)
		give_up(&e, "take", err);
	while (recv(w->in, &e, sizeof(e), 0) != sizeof(e))
		if (errno != EAGAIN || poll(&(struct pollfd){ w->in, POLLIN, 0 }, 1, STUCK_MS) < 1)
			give_up(&e, "the state's way", -errno);
	e.c = c;
	e.fd = tlsfd_fd(c);
	w->ends[w->count++] = e;
	return true;
}

static void end_over(struct worker *w, struct end *e)
{
	w->all->bytes += e->received;
	if (e->ssl)
		SSL_free(e->ssl);
	tlsfd_free(e->c);
	close(e->fd);
	remove_end(w, e);
	w->all->alive--;
}

/* ---- a connection ---- */

static const char *const suites[2][3] = {
	{ "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
	  "ECDHE-ECDSA-CHACHA20-POLY1305" },
	{ "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256" },
};

/* What it is, for the other. */
static const char *settle_end(const struct worker *w, struct end *e, SSL *ssl, bool openssl)
{
	enum place place = rnd(4) ? KERNEL : (enum place)rnd(SSL_PLACES);

	if (openssl) {
		SSL_set_mode(ssl,
			     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
		e->ssl = ssl;
		return "OpenSSL";
	}
	e->c = place_put(ssl, e->fd, place);
	e->movable = place == KERNEL;
	if (w->rekey && e->tls13 && rnd(2) && tlsfd_set_rekey(e->c, TLSFD_REKEY, 64 + rnd(500)))
		give_up(e, "set_rekey", 0);
	return place_names[place];
}

static struct end new_end(int fd, bool tls13)
{
	static const size_t sizes[] = { 0, 1000, 100000, 1000000, 4000000 };
	struct end e = { .fd = fd, .tls13 = tls13 };

	e.to_send = rnd(1 + sizes[rnd(LENGTH(sizes))]);
	e.chunk = 2000 + rnd(CHUNK - 2000); /* smaller ones don't pay for KeyUpdates */
	e.base_out = rnd(PERIOD);
	if (rnd(2))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ 4096 + (int)rnd(60000) },
			   sizeof(int));
	return e;
}

static void connect_two(struct worker *w)
{
	static unsigned made; /* each suite first of all: OpenSSL keeps what it has looked up */
	unsigned suite = made < 6 ? made++ : (unsigned)(rnd(4) ? 3 : 0) + (unsigned)rnd(3);
	struct raw_variant v = { .tls13 = suite >= 3, .server = rnd(2) };
	struct end *e = &w->ends[w->count];
	int openssl = (int)rnd(4), fd[2]; /* 0, 1: this end; else: none */
	SSL *ssl[2];

	v.suite = suites[suite / 3][suite % 3];
	raw_pair(&v, ssl, fd);
	for (int i = 0; i < 2; i++)
		e[i] = new_end(fd[i], v.tls13);
	for (int i = 0; i < 2; i++) {
		e[i].to_receive = e[!i].to_send;
		e[i].base_in = e[!i].base_out;
		e[!i].other = settle_end(w, &e[i], ssl[i], i == openssl);
	}
	w->count += 2;
	w->all->connections++;
}

/* Who sees that the round is over and none alive goes; so first of all they are alive. */
static bool make_some(struct worker *w)
{
	bool some = atomic_fetch_add(&w->all->alive, 2) + 2 <= ENDS && !w->all->over;

	if (some)
		connect_two(w);
	else
		w->all->alive -= 2;
	return some;
}

/* ---- a worker ---- */

static void wait_for_ends(struct worker *w)
{
	struct pollfd p[ENDS + 1] = { { .fd = w->in, .events = POLLIN } };

	for (size_t i = 0; i < w->count; i++) {
		const struct end *e = &w->ends[i];
		short in = e->ssl ? POLLIN : tlsfd_wants(e->c, TLSFD_RX);
		short out = e->ssl ? POLLOUT : tlsfd_wants(e->c, TLSFD_TX);

		p[i + 1] = (struct pollfd){ .fd = e->fd };
		p[i + 1].events = (short)((e->ended ? 0 : in) | (e->finished ? 0 : out));
	}
	poll(p, w->count + 1, 50);
}

/* True if anything moved. */
static bool turn(struct worker *w)
{
	bool moved = take_up(w);

	for (size_t i = w->count; i--;) {
		struct end *e = &w->ends[i];

		if (step(w, e))
			moved = true;
		if (e->finished && e->ended)
			end_over(w, e);
		else if (e->movable && rnd(30) == 0 && pass_on(w, e))
			moved = true;
	}
	return moved;
}

/* Connections are made for the time of a round, and end. */
static void run_round(struct worker *w)
{
	long over = now_ms() + ROUND_MS, moved = now_ms();

	do {
		if (now_ms() >= over)
			w->all->over = true;
		while (rnd(4) && make_some(w))
			;
		if (turn(w))
			moved = now_ms();
		else if (now_ms() - moved > STUCK_MS && w->count)
			give_up(&w->ends[0], "stuck", (long)w->count);
		else
			wait_for_ends(w);
	} while (!w->all->over || w->all->alive);
}

struct holdings {
	size_t fds, heap;
};

static struct holdings holdings(void)
{
	malloc_trim(0);
	return (struct holdings){ count_fds(), mallinfo2().uordblks };
}

/* The first round is for what is allocated once. */
static int work(struct worker *w, int rounds)
{
	struct holdings first = { 0 }, now = { 0 };
	int status = 0;

	for (int round = 0; !status && round < rounds; round++) {
		pthread_barrier_wait(&w->all->barrier);
		run_round(w);
		pthread_barrier_wait(&w->all->barrier);
		w->all->over = false;
		now = holdings();
		if (round == 0)
			first = now;
		status = now.fds != first.fds || now.heap > first.heap + LEAK;
	}
	if (status)
		printf("# soak: a leak: from %zu to %zu descriptors, from %zu to %zu bytes\n",
		       first.fds, now.fds, first.heap, now.heap);
	fflush(stdout);
	return status;
}

/* ---- all of them ---- */

static struct shared *new_shared(void)
{
	struct shared *all =
		mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_barrierattr_t attr;

	assert_ptr_not_equal(all, MAP_FAILED);
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	assert_int_equal(pthread_barrier_init(&all->barrier, &attr, WORKERS), 0);
	return all;
}

static pid_t start_worker(struct shared *all, int ring[WORKERS][2], int i, int rounds)
{
	static struct worker w;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	w.all = all;
	w.in = ring[i][1];
	w.out = ring[(i + 1) % WORKERS][0];
	w.rekey = probe_kernel(PROBE_REKEY).verdict == PROBE_YES;
	seed += (uint64_t)i * 7919;
	_exit(work(&w, rounds));
}

/* Waits for all; the first that fails ends the others. */
static int wait_for_workers(const pid_t pid[WORKERS])
{
	int failed = 0, status;

	for (int i = 0; i < WORKERS; i++) {
		assert_true(waitpid(-1, &status, 0) > 0);
		for (int k = 0; status && !failed && k < WORKERS; k++)
			kill(pid[k], SIGKILL);
		failed |= status;
	}
	return failed;
}

static void test_soak(void **state)
{
	const char *given = getenv("TLSFD_SOAK_SECONDS");
	int rounds = (given ? atoi(given) : 20) * 1000 / ROUND_MS;
	struct stats before = stats_now(), now;
	struct shared *all = new_shared();
	int ring[WORKERS][2];
	pid_t pid[WORKERS];

	(void)state;
	place_need(KERNEL);
	printf("# TLSFD_SEED=%llu\n", (unsigned long long)seed);
	for (int i = 0; i < WORKERS; i++)
		open_pair(SOCK_SEQPACKET, ring[i]);
	fflush(stdout);
	for (int i = 0; i < WORKERS; i++)
		pid[i] = start_worker(all, ring, i, rounds < 2 ? 2 : rounds);
	assert_int_equal(wait_for_workers(pid), 0);
	printf("# %lu connections, %lu moves, %lu MiB, %lu rekeys by call\n", all->connections,
	       all->moves, all->bytes >> 20, all->rekeys);
	assert_true(all->connections > 0 && all->moves > 0);
	now = stats_now();
	stats_no_errors(&before, &now);
	for (int i = 0; i < WORKERS; i++)
		close_pair(ring[i]);
	munmap(all, sizeof(*all));
}

int main(int argc, char **argv)
{
	const char *given = getenv("TLSFD_SEED");

	seed = given ? strtoull(given, NULL, 10) :
		       (uint64_t)getpid() * 1000003 + (uint64_t)time(NULL);
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)((i % PERIOD) * 2654435761u >> 13);
	suite_add(test_soak, NULL, 0, "soak");
	return suite_run(argc, argv);
}
