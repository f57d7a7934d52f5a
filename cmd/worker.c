/* SPDX-License-Identifier: MIT */
#include "worker.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cmd.h"
#include "handshaker.h"
#include "logfmt.h"
#include "mover.h"

struct worker {
	const struct worker_plan *plan;
	struct loop loop;
	struct listener *listeners;
	struct source signals;
	struct timer grace;
	struct handshaker handshaker;
	struct mover mover;
	unsigned most; /* connections */
	bool draining;
};

/* ---- how many ---- */

static unsigned count(const struct worker *w)
{
	return w->handshaker.count + w->mover.count;
}

/* All that follows from one connection more or less. */
static void weigh(struct worker *w)
{
	if (w->draining && !count(w)) {
		loop_stop(&w->loop);
		return;
	}
	for (size_t i = 0; i < w->plan->n_listening; i++)
		if (count(w) >= w->most)
			listener_hold(&w->listeners[i]);
		else
			listener_go_on(&w->listeners[i]);
}

static void on_left(void *arg)
{
	weigh(arg);
}

static void on_accepted(void *arg, int fd, const struct peer *peer)
{
	struct worker *w = arg;

	handshaker_start(&w->handshaker, fd, peer);
	weigh(w);
}

static void on_done(void *arg, struct tlsfd *c, const struct peer *peer)
{
	struct worker *w = arg;

	mover_take(&w->mover, c, peer);
}

/* A share of --max-connections, and no more than there are file descriptors for: two for a
 * connection, and two for a pipe while it moves. */
static unsigned most_connections(const struct worker_plan *plan)
{
	struct rlimit files = { 1024, 1024 };
	unsigned wanted = plan->service->max_connections, possible;

	getrlimit(RLIMIT_NOFILE, &files);
	possible = files.rlim_cur > 100000000 ? 25000000 : (unsigned)files.rlim_cur / 4;
	possible = possible > 16 ? possible - 8 : 8;
	if (!wanted)
		return possible;
	wanted = (wanted + plan->workers - 1) / plan->workers;
	return wanted < possible ? wanted : possible;
}

/* ---- the end ---- */

static void on_grace_over(struct timer *timer)
{
	struct worker *w = owner_of(timer, struct worker, grace);

	handshaker_stop(&w->handshaker);
	mover_stop(&w->mover);
	loop_stop(&w->loop);
}

static void drain(struct worker *w)
{
	w->draining = true;
	for (size_t i = 0; i < w->plan->n_listening; i++)
		listener_stop(&w->listeners[i]);
	weigh(w);
}

static void on_signal(struct source *source, uint32_t events)
{
	struct worker *w = owner_of(source, struct worker, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(source->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGTERM &&
	    loop_at(&w->loop, &w->grace, w->loop.now_ms + w->plan->service->grace_ms))
		loop_stop(&w->loop);
	drain(w);
}

/* ---- the start ---- */

static int become_user(const struct worker_plan *plan)
{
	if (!plan->user)
		return 0;
	if (initgroups(plan->user, plan->gid) < 0 || setgid(plan->gid) < 0 || setuid(plan->uid) < 0)
		return -errno;
	return 0;
}

/* Nobody serves without a master: it would hold the port for ever. */
static int follow_master(const struct worker_plan *plan)
{
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
		return -errno;
	return getppid() == plan->master ? 0 : -ESRCH;
}

static int watch_signals(struct worker *w)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	/* the terminal's Ctrl-C is for the master */
	signal(SIGINT, SIG_IGN);
	sigprocmask(SIG_SETMASK, &set, NULL);
	w->signals = (struct source){ signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), on_signal };
	return w->signals.fd < 0 ? -errno : loop_add(&w->loop, &w->signals, EPOLLIN);
}

static int listen_all(struct worker *w)
{
	int err = 0;

	w->listeners = calloc(w->plan->n_listening, sizeof(*w->listeners));
	if (!w->listeners)
		return -ENOMEM;
	for (size_t i = 0; i < w->plan->n_listening && !err; i++) {
		struct listening *from = &w->plan->listening[i];

		for (unsigned j = 0; j < from->count; j++)
			if (j != w->plan->index)
				close(from->fds[j]);
		w->listeners[i] = (struct listener){ .source.fd = from->fds[w->plan->index],
						     .loop = &w->loop,
						     .accepted = on_accepted,
						     .arg = w };
		err = listener_start(&w->listeners[i]);
	}
	return err;
}

static void set_up(struct worker *w, const struct worker_plan *plan)
{
	w->plan = plan;
	w->grace.due = on_grace_over;
	w->most = most_connections(plan);
	w->handshaker = (struct handshaker){ .loop = &w->loop,
					     .config = plan->config,
					     .most = plan->service->max_handshakes,
					     .timeout_ms = plan->service->handshake_ms,
					     .done = on_done,
					     .left = on_left,
					     .arg = w };
	w->mover.backends = plan->backends;
	w->mover.relays.loop = &w->loop;
	w->mover.relays.idle_ms = plan->service->idle_ms;
	w->mover.left = on_left;
	w->mover.arg = w;
}

static int start(struct worker *w)
{
	int err = become_user(w->plan);

	if (!err)
		err = follow_master(w->plan);
	if (!err)
		err = loop_open(&w->loop);
	if (!err)
		err = watch_signals(w);
	return err ? err : listen_all(w);
}

int worker_run(struct worker_plan *plan)
{
	struct worker *w = calloc(1, sizeof(*w));
	int err = -ENOMEM;

	if (w) {
		set_up(w, plan);
		err = start(w);
	}
	if (!err)
		err = loop_run(&w->loop);
	if (err)
		log_error("worker", "%s", strerror(-err));
	return err ? EXIT_FAILED : EXIT_OK;
}
