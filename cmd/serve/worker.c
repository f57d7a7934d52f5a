/* SPDX-License-Identifier: MIT */
#include "worker.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmd.h"
#include "counts.h"
#include "handshaker.h"
#include "logfmt.h"
#include "mover.h"
#include "roles/courier.h"
#include "teams.h"

enum {
	WAITING_MAX = 64, /* for the data process, before no more are accepted */
	LOOK_MS = 100,
};

struct worker {
	const struct worker_plan *plan;
	struct role_run run;
	struct listener *listeners;
	struct handshaker handshaker;
	struct courier courier;
	struct mover mover;   /* of what has to stay here */
	struct timer renewal; /* of ticket keys */
	struct timer room;    /* there may be some by then */
	unsigned possible;    /* connections, by the number of file descriptors */
	unsigned share;	      /* of --max-connections */
	bool accepts;	      /* the master has said so: all of its generation are ready */
	bool draining;
};

/* ---- how many ---- */

static unsigned count_here(const struct worker *w)
{
	return w->handshaker.count + w->courier.waiting + w->mover.count;
}

static bool is_full(const struct worker *w)
{
	unsigned now = count_here(w) + courier_load(&w->courier);

	return now >= w->possible || (w->share && now + counted_before() >= w->share);
}

/* Or as soon as something has changed. */
static void look_again(struct worker *w)
{
	uint64_t now = w->run.loop.now_ms, at = handshaker_yields_ms(&w->handshaker);

	if (at > now + LOOK_MS && w->share)
		at = now + LOOK_MS; /* the master may say at any time that there is room */
	if (at != UINT64_MAX)
		(void)!loop_at(&w->run.loop, &w->room, at);
}

/* All that follows from one connection more or less. */
static void weigh(struct worker *w)
{
	bool clogged = w->courier.waiting >= WAITING_MAX;
	bool full = is_full(w) && handshaker_yields_ms(&w->handshaker) > w->run.loop.now_ms;

	if (w->draining) {
		if (!count_here(w))
			loop_stop(&w->run.loop);
		return;
	}
	for (size_t i = 0; i < w->plan->n_listening; i++)
		if (full || clogged || !w->accepts)
			listener_hold(&w->listeners[i]);
		else
			listener_go_on(&w->listeners[i]);
	if (full)
		look_again(w);
}

static void on_room(struct timer *timer)
{
	weigh(owner_of(timer, struct worker, room));
}

static void on_change(void *arg)
{
	weigh(arg);
}

/* A process that has, or had, the listening socket may have set what connections inherit: an end
 * that is a reset, segments that wait, a small buffer for ever. */
static void set_back(int fd)
{
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 0 }, sizeof(struct linger));
	setsockopt(fd, IPPROTO_TCP, TCP_CORK, &(int){ 0 }, sizeof(int));
	setsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &(int){ 0 }, sizeof(int));
}

static void accept_now(void *arg)
{
	struct worker *w = arg;

	w->accepts = true;
	weigh(w);
}

static void on_accepted(void *arg, int fd, const struct peer *peer)
{
	struct worker *w = arg;

	set_back(fd);
	if (is_full(w))
		handshaker_yield(&w->handshaker);
	handshaker_start(&w->handshaker, fd, peer);
	weigh(w);
}

static void on_done(void *arg, struct tlsfd *c, const struct peer *peer)
{
	struct worker *w = arg;

	if (tlsfd_kernel(c, TLSFD_RX) && tlsfd_kernel(c, TLSFD_TX))
		courier_bring(&w->courier, c, peer);
	else
		mover_take(&w->mover, c, peer);
}

static void on_kept(void *arg, struct tlsfd *c, const struct peer *peer, int err)
{
	struct worker *w = arg;
	struct account account = { .end = err == -ECANCELED ? "stopped" : "error",
				   .error = err == -ECANCELED ? NULL : strerror(-err),
				   .now_ms = w->run.loop.now_ms };
	int fd = tlsfd_fd(c);

	count_end(peer, c, &account);
	tlsfd_free(c);
	close(fd);
}

/* Two file descriptors for a connection, and two for a pipe while it moves. */
static unsigned possible_connections(void)
{
	struct rlimit files = { 1024, 1024 };
	unsigned possible;

	getrlimit(RLIMIT_NOFILE, &files);
	possible = files.rlim_cur > 100000000 ? 25000000 : (unsigned)files.rlim_cur / 4;
	return possible > 16 ? possible - 8 : 8;
}

/* Of --max-connections; 0: it is not limited. Whoever accepts must be able to take one. */
static unsigned share_of_connections(const struct worker_plan *plan)
{
	unsigned most = plan->service->max_connections;
	unsigned share = most / plan->workers + (plan->index < most % plan->workers);

	return most && !share ? 1 : share;
}

/* ---- the end ---- */

static void drain(void *arg)
{
	struct worker *w = arg;

	for (size_t i = 0; i < w->plan->n_listening && !w->draining; i++)
		listener_stop(&w->listeners[i]);
	w->draining = true;
	weigh(w);
}

static void stop(void *arg)
{
	struct worker *w = arg;

	handshaker_stop(&w->handshaker);
	courier_stop(&w->courier);
	mover_stop(&w->mover);
}

/* ---- session tickets ---- */

static void renew_keys(struct timer *timer)
{
	struct worker *w = owner_of(timer, struct worker, renewal);
	uint64_t next = ratchet_renew(w->plan->ratchet, w->plan->config, w->run.loop.now_ms);

	(void)!loop_at(&w->run.loop, timer, next);
}

/* ---- the start ---- */

static int listen_all(struct worker *w)
{
	int err = 0;

	w->listeners = calloc(w->plan->n_listening, sizeof(*w->listeners));
	if (!w->listeners)
		return -ENOMEM;
	for (size_t i = 0; i < w->plan->n_listening && !err; i++) {
		const struct listening *from = &w->plan->listening[i];

		w->listeners[i] = (struct listener){ .source.fd = from->fds[w->plan->index],
						     .loop = &w->run.loop,
						     .accepted = on_accepted,
						     .arg = w };
		err = listener_start(&w->listeners[i]);
	}
	return err;
}

static void set_up(struct worker *w, const struct worker_plan *plan)
{
	struct loop *loop = &w->run.loop;

	w->plan = plan;
	w->possible = possible_connections();
	w->share = share_of_connections(plan);
	w->run.plan = &plan->role;
	w->run.accept = accept_now;
	w->run.drain = w->run.term = drain;
	w->run.stop = stop;
	w->run.arg = w;
	w->handshaker = (struct handshaker){ .loop = loop,
					     .config = plan->config,
					     .most = plan->service->max_handshakes,
					     .timeout_ms = plan->service->handshake_ms,
					     .done = on_done,
					     .left = on_change,
					     .arg = w };
	w->renewal.due = renew_keys;
	w->room.due = on_room;
	w->courier.loop = loop;
	w->courier.kept = on_kept;
	w->courier.changed = on_change;
	w->courier.tally.held = plan->held;
	w->courier.arg = w;
	w->mover.backends = plan->backends;
	w->mover.relays.loop = loop;
	w->mover.relays.idle_ms = plan->service->idle_ms;
	w->mover.left = on_change;
	w->mover.arg = w;
}

static int start(struct worker *w)
{
	int err = role_start(&w->run);

	if (!err)
		err = courier_start(&w->courier, w->plan->channel);
	if (!err)
		err = loop_at(&w->run.loop, &w->renewal, w->plan->ratchet->next_ms);
	if (!err)
		err = listen_all(w);
	if (!err)
		weigh(w); /* those before may have left nothing of the limit */
	return err;
}

static int run(struct worker *w)
{
	int err = start(w);

	if (err) {
		teams_say_failed(w->plan->begin, w->run.step, err);
		return err;
	}
	err = teams_say_begun(w->plan->begin);
	if (!err)
		err = loop_run(&w->run.loop);
	if (err)
		log_error("worker", "%s", strerror(-err));
	return err;
}

int worker_run(struct worker_plan *plan)
{
	struct worker *w = calloc(1, sizeof(*w));
	int err;

	prctl(PR_SET_NAME, "tlsfd-handshake"); /* 15 bytes at most */
	if (!w) {
		teams_say_failed(plan->begin, "memory", -ENOMEM);
		return EXIT_FAILED;
	}
	set_up(w, plan);
	err = run(w);
	log_finish();
	return err ? EXIT_FAILED : EXIT_OK;
}
