/*
 * Data over a link, its bytes on the wire, and what the kernel says about both.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"
#include "suite.h"

enum { PERIOD = 65521 };

uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1d;
}

static uint8_t table[PERIOD + PATTERN_RUN];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
	uint64_t state = 20180810;

	for (size_t i = 0; i < PERIOD; i++)
		table[i] = (uint8_t)(random_next(&state) >> 33);
	for (size_t i = 0; i < PATTERN_RUN; i++)
		table[PERIOD + i] = table[i % PERIOD];
}

const uint8_t *pattern_at(uint64_t pos)
{
	pthread_once(&table_once, fill_table);
	return table + pos % PERIOD;
}

/* ---- the wire ---- */

static void append(struct bytes *to, const void *data, size_t n)
{
	to->data = realloc(to->data, to->size + n);
	if (!to->data)
		abort();
	memcpy(to->data + to->size, data, n);
	to->size += n;
}

static bool carry_in(struct end *e)
{
	uint8_t buf[16384];
	ssize_t n = recv(e->fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n <= 0)
		return false;
	append(&e->wire->received, buf, (size_t)n);
	return BIO_write(e->wire->in, buf, (int)n) == n;
}

static bool carry_out(struct end *e)
{
	struct wire *w = e->wire;
	uint8_t buf[16384];
	char *data;
	long there = BIO_get_mem_data(w->out, &data);
	size_t n = there > (long)sizeof(buf) ? sizeof(buf) : (size_t)there;
	ssize_t sent;

	if (n > w->allowed)
		n = w->allowed;
	sent = n ? send(e->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
	if (sent <= 0)
		return false;
	if (w->allowed != SIZE_MAX)
		w->allowed -= (size_t)sent;
	if (BIO_read(w->out, buf, (int)sent) != sent)
		abort();
	append(&w->sent, buf, (size_t)sent);
	return true;
}

bool wire_carry(struct end *e)
{
	bool any = false;

	if (!e->wire)
		return false;
	while (carry_in(e) || carry_out(e))
		any = true;
	return any;
}

static bool wire_holds(const struct end *e)
{
	return e->wire && e->wire->allowed && BIO_pending(e->wire->out);
}

/* ---- one read, one write ---- */

static ssize_t ssl_result(SSL *ssl, int ret, size_t n, int saved_errno)
{
	if (ret > 0)
		return (ssize_t)n;
	switch (SSL_get_error(ssl, ret)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		return saved_errno ? -saved_errno : -EIO;
	default:
		return -EPROTO;
	}
}

static ssize_t negative(ssize_t n)
{
	return n < 0 ? -errno : n;
}

ssize_t end_read(struct end *e, void *buf, size_t n)
{
	size_t got = 0;
	int ret;

	if (e->via == VIA_CONN)
		return tlsfd_read(e->conn, buf, n);
	if (e->via == VIA_FD)
		return negative(read(e->fd, buf, n));
	wire_carry(e);
	ERR_clear_error();
	errno = 0;
	ret = SSL_read_ex(e->ssl, buf, n, &got);
	return ssl_result(e->ssl, ret, got, errno);
}

ssize_t end_write(struct end *e, const void *buf, size_t n)
{
	size_t sent = 0;
	ssize_t result;
	int ret;

	if (e->via == VIA_CONN)
		return tlsfd_write(e->conn, buf, n);
	if (e->via == VIA_FD)
		return negative(write(e->write_fd, buf, n));
	ERR_clear_error();
	errno = 0;
	ret = SSL_write_ex(e->ssl, buf, n, &sent);
	result = ssl_result(e->ssl, ret, sent, errno);
	wire_carry(e);
	return result;
}

/* ---- flows ---- */

static size_t next_chunk(const struct flow *f)
{
	size_t chunk = f->chunk && f->chunk < PATTERN_RUN ? f->chunk : PATTERN_RUN;

	if (f->again)
		return f->again;
	if (f->random)
		chunk = 1 + random_next(f->random) % chunk;
	return chunk < f->left ? chunk : f->left;
}

static ssize_t flow_out(struct flow *f)
{
	size_t chunk = next_chunk(f);
	ssize_t n = end_write(f->end, pattern_at(f->end->sent), chunk);

	f->again = n == -EAGAIN ? chunk : 0;
	if (n > 0)
		f->end->sent += (uint64_t)n;
	return n ? n : -EIO;
}

static ssize_t flow_in(struct flow *f)
{
	uint8_t buf[PATTERN_RUN];
	ssize_t n = end_read(f->end, buf, next_chunk(f));

	if (n > 0 && memcmp(buf, pattern_at(f->end->received), (size_t)n))
		return -EILSEQ; /* not what was sent */
	if (n > 0)
		f->end->received += (uint64_t)n;
	return n ? n : -EPIPE; /* the end, too early */
}

static bool flow_done(const struct flow *f)
{
	return !f->left && !wire_holds(f->end);
}

bool wait_for_flows(const struct flow *flows, size_t n)
{
	struct pollfd p[4];

	for (size_t i = 0; i < n; i++) {
		const struct flow *f = &flows[i];

		p[i] = (struct pollfd){ .fd = flow_done(f) ? -1 : f->end->fd,
					.events = f->out || wire_holds(f->end) ? POLLOUT : POLLIN };
	}
	return poll(p, (nfds_t)n, PATIENCE_MS) > 0;
}

static const char *trouble(const struct flow *f, int err)
{
	static _Thread_local char text[160];

	snprintf(text, sizeof(text), "%s at %s: %s after %llu bytes, %zu left",
		 f->out ? "sending" : "receiving", f->end->via == VIA_SSL ? "OpenSSL" : "the fd",
		 err == -EILSEQ ? "wrong data" : strerror(-err),
		 (unsigned long long)(f->out ? f->end->sent : f->end->received), f->left);
	return text;
}

const char *flow_step(struct flow *f, bool *moved)
{
	bool carried = wire_carry(f->end);
	ssize_t n = f->left ? (f->out ? flow_out(f) : flow_in(f)) : -EAGAIN;

	if (n > 0)
		f->left -= (size_t)n;
	if (n > 0 || carried)
		*moved = true;
	return n > 0 || n == -EAGAIN ? NULL : trouble(f, (int)n);
}

const char *run_flows(struct flow *flows, size_t n)
{
	for (;;) {
		bool moved = false, done = true;

		for (size_t i = 0; i < n; i++) {
			const char *text = flow_step(&flows[i], &moved);

			if (text)
				return text;
			done = done && flow_done(&flows[i]);
		}
		if (done)
			return NULL;
		if (!moved && !wait_for_flows(flows, n))
			return trouble(&flows[0], -ETIMEDOUT);
	}
}

static void expect(const char *what_went_wrong)
{
	if (what_went_wrong)
		fail_msg("%s", what_went_wrong);
}

struct job {
	struct flow *flows;
	size_t n;
	char trouble[160];
};

static void *run_job(void *arg)
{
	struct job *job = arg;
	const char *text = run_flows(job->flows, job->n);

	if (text)
		snprintf(job->trouble, sizeof(job->trouble), "%s", text);
	return NULL;
}

/* Our reads and writes block: a thread for each, and one for the peer. */
static void move_blocking(struct flow flows[4])
{
	struct job jobs[3] = { { flows, 1, "" }, { flows + 1, 1, "" }, { flows + 2, 2, "" } };
	pthread_t threads[3];

	for (size_t i = 0; i < LENGTH(jobs); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_job, &jobs[i]), 0);
	for (size_t i = 0; i < LENGTH(jobs); i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < LENGTH(jobs); i++)
		expect(jobs[i].trouble[0] ? jobs[i].trouble : NULL);
}

/* An SSL is for one thread: with it, and blocking, one direction after the other. */
static void move_in_turns(struct flow flows[4])
{
	struct flow turns[2][2] = { { flows[0], flows[3] }, { flows[2], flows[1] } };

	for (size_t i = 0; i < 2; i++) {
		struct job ours = { turns[i] + i, 1, "" }, peers = { turns[i] + !i, 1, "" };
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, run_job, &peers), 0);
		run_job(&ours);
		pthread_join(thread, NULL);
		expect(ours.trouble[0] ? ours.trouble : NULL);
		expect(peers.trouble[0] ? peers.trouble : NULL);
	}
}

void move(struct link *l, size_t from_us, size_t from_peer)
{
	struct flow flows[4] = {
		{ .end = &l->us, .out = true, .left = from_us },
		{ .end = &l->us, .left = from_peer },
		{ .end = &l->peer, .out = true, .left = from_peer },
		{ .end = &l->peer, .left = from_us },
	};

	if (!l->v.blocking)
		expect(run_flows(flows, 4));
	else if (l->us.via == VIA_SSL)
		move_in_turns(flows);
	else
		move_blocking(flows);
}

/* ---- what the kernel counts ---- */

long tls_stat(const char *name)
{
	FILE *f = fopen("/proc/net/tls_stat", "re");
	long value, found = -1;
	char word[64];

	assert_non_null(f);
	while (fscanf(f, "%63s %ld", word, &value) == 2)
		if (strcmp(word, name) == 0)
			found = value;
	fclose(f);
	return found;
}

uint64_t tcp_bytes_sent(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info.tcpi_bytes_sent;
}
