/* SPDX-License-Identifier: MIT */
#include "standard.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deadline.h"
#include "input.h"
#include "output.h"
#include "sys.h"

enum {
	FINISH_MS = 2000,
	PAUSE_MS = 2,
};

struct standard {
	struct tlsfd *tls;
	struct splicer splicer;
	struct input in;
	struct output out;
	struct deadline idle;
	const struct standard_limits *limits;
	int sending;   /* the error that ended it; the peer's reason may still come */
	bool shut;     /* our close_notify was sent, or can't be */
	bool finished; /* stdout was told of the end */
	enum ended ended;
	int err;
	const char *sentence;
};

enum { STDIN, STDOUT, TLS, N };

static void fail(struct standard *s, enum ended ended, int err)
{
	const char *sentence = ended == ENDED_TLS ? tlsfd_error(s->tls) : NULL;

	if (s->err)
		return;
	s->err = err;
	s->ended = ended;
	s->sentence = sentence ? sentence : strerrordesc_np(-err);
}

/* ---- the turns ---- */

/* Nothing more can be sent. An alert that says why may be there to be read. */
static void fail_sending(struct standard *s, int err)
{
	if (err != -EPIPE && err != -ECONNRESET) {
		fail(s, ENDED_TLS, err);
		return;
	}
	s->sending = err;
	s->shut = true;
	input_end(&s->in);
}

static void take_in(struct standard *s)
{
	bool own = false;
	int err = input_move(&s->in, &own);

	if (err && own)
		fail(s, ENDED_STDIN, err);
	else if (err)
		fail_sending(s, err);
}

static void take_in_more(struct standard *s)
{
	int err = input_unblock(&s->in);

	if (err)
		fail_sending(s, err);
}

/* A user at a terminal sees that the peer has left, and has nobody to type to. In TLS 1.2
 * close_notify ends both directions (RFC 5246 section 7.2.1). */
static bool end_is_for_both(const struct standard *s)
{
	return s->in.kind == KIND_TERMINAL || tlsfd_version(s->tls) == TLSFD_TLS_1_2;
}

static void give_out(struct standard *s)
{
	bool own = false;
	int err = output_move(&s->out, &own);

	if (err)
		fail(s, own ? ENDED_STDOUT : ENDED_TLS, err);
	if (!s->out.ended || output_holds(&s->out) || s->finished)
		return;
	s->finished = true;
	output_finish(&s->out);
	if (end_is_for_both(s))
		input_end(&s->in);
}

static bool may_shut(const struct standard *s)
{
	return s->in.ended && s->in.sent == s->in.have &&
	       (s->out.ended || !s->limits->no_half_close);
}

/* Our close_notify, behind the last byte of stdin. */
static void shut(struct standard *s)
{
	int err;

	if (!may_shut(s) || s->shut)
		return;
	err = tlsfd_shutdown(s->tls);
	s->shut = err != -EAGAIN;
	/* a peer that has left after its own close_notify needs none of ours */
	if (err && err != -EAGAIN && !s->out.ended)
		fail_sending(s, err);
}

/* ---- waiting ---- */

/* Who listens no more after his close_notify is found out by a reset only. */
static bool watches_peer(const struct standard *s)
{
	return s->finished && !s->in.ended;
}

static void fill_polls(const struct standard *s, struct pollfd p[N])
{
	bool reads = !s->out.ended && !output_holds(&s->out);
	bool writes = s->in.blocked || (may_shut(s) && !s->shut);
	bool listens = !s->in.ended && !s->in.blocked;

	p[STDIN] = (struct pollfd){ listens ? s->in.fd : -1, POLLIN, 0 };
	p[STDOUT] = (struct pollfd){ output_holds(&s->out) ? s->out.fd : -1, POLLOUT, 0 };
	p[TLS] =
		(struct pollfd){ reads || writes || watches_peer(s) ? tlsfd_fd(s->tls) : -1, 0, 0 };
	if (reads)
		p[TLS].events |= tlsfd_wants(s->tls, TLSFD_RX);
	if (writes)
		p[TLS].events |= tlsfd_wants(s->tls, TLSFD_TX);
}

/* As poll: what TCP holds back for more goes out before anybody waits. */
static int look(struct standard *s, struct pollfd p[N])
{
	int n = s->splicer.corked ? poll(p, N, 0) : 0;

	if (!p[STDIN].revents)
		splicer_push(&s->splicer);
	return n ? n : poll(p, N, deadline_left(&s->idle));
}

static void wait_for(struct standard *s, struct pollfd p[N])
{
	int n;

	fill_polls(s, p);
	n = look(s, p);
	if (n == 0)
		fail(s, ENDED_IDLE, -ETIMEDOUT);
	if (n < 0 && errno != EINTR)
		fail(s, ENDED_HERE, -errno);
	if (n > 0)
		s->idle = deadline_in(s->limits->idle_ms);
}

static int peer_error(const struct standard *s)
{
	int err = 0;
	socklen_t len = sizeof(err);

	sys_getsockopt(tlsfd_fd(s->tls), SOL_SOCKET, SO_ERROR, &err, &len);
	return err ? -err : -EPIPE;
}

static void turn(struct standard *s)
{
	struct pollfd p[N] = { { -1, 0, 0 }, { -1, 0, 0 }, { -1, 0, 0 } };
	uint64_t before = s->in.bytes + s->out.bytes;

	wait_for(s, p);
	if (p[TLS].revents & POLLOUT)
		splicer_flush(&s->splicer);
	if (p[TLS].revents && s->in.blocked)
		take_in_more(s);
	else if (p[STDIN].revents)
		take_in(s);
	if (p[TLS].revents || p[STDOUT].revents)
		give_out(s);
	if (watches_peer(s) && p[TLS].revents & (POLLERR | POLLHUP))
		fail_sending(s, peer_error(s));
	shut(s);
	/* before Linux 6.5 poll says POLLIN for a part of a record */
	if (p[TLS].revents & POLLIN && s->in.bytes + s->out.bytes == before)
		poll(NULL, 0, PAUSE_MS);
}

/* ---- from start to end ---- */

static bool goes_on(const struct standard *s)
{
	return !s->err && !(s->finished && s->shut);
}

/* tlsfd_finish brings an alert to the peer. Not after a cut: what we have sent may be cut,
 * too, and close_notify would hide that. Not after a reset: nobody is there. */
static bool may_finish(const struct standard *s)
{
	if (s->ended == ENDED_TLS)
		return s->err != -ECONNABORTED && s->err != -ECONNRESET && s->err != -EPIPE;
	return s->ended == ENDED_CLOSED;
}

static void run(struct standard *s)
{
	give_out(s); /* the handshake may have brought data along */
	while (goes_on(s))
		turn(s);
	if (s->sending)
		fail(s, ENDED_TLS, s->sending);
	if (may_finish(s))
		(void)!tlsfd_finish(s->tls, FINISH_MS);
	if (s->ended == ENDED_TLS || s->ended == ENDED_IDLE)
		output_cut(&s->out);
}

void standard_run(struct tlsfd *tls, const struct standard_limits *limits, struct standard_end *end)
{
	struct standard *s = calloc(1, sizeof(*s));

	*end = (struct standard_end){ ENDED_HERE, "memory is short", 0, 0 };
	if (!s)
		return;
	s->tls = tls;
	s->limits = limits;
	s->idle = deadline_in(limits->idle_ms);
	splicer_start(&s->splicer, tls);
	input_start(&s->in, &s->splicer, STDIN_FILENO);
	output_start(&s->out, &s->splicer, STDOUT_FILENO);
	run(s);
	*end = (struct standard_end){ s->ended, s->sentence, s->out.bytes, s->in.bytes };
	output_stop(&s->out);
	free(s);
}
