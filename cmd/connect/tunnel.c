/* SPDX-License-Identifier: MIT */
#include "tunnel.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmd.h"
#include "listener.h"
#include "peer.h"
#include "relay/relay.h"
#include "tell.h"

struct tunnels {
	struct loop loop;
	struct relays relays;
	struct listening *listening;
	struct listener *listeners;
	size_t n_listening;
	struct source signals;
	struct timer grace;
	struct route *route; /* of connections to come */
	struct route *next;  /* the same after a reload, whose addresses are asked for; NULL */
	struct source answers;
	struct timer patience;
	struct tunnel *starting;
	unsigned count;
	bool stopping;
	int argc;
	char **argv;
};

/* One connection, until it is over. */
struct tunnel {
	struct tunnels *set;
	struct tunnel *next, **link; /* while it is starting */
	struct route *route;
	struct client *client;
	struct source source; /* the client's fd; -1: none */
	struct timer pause, until;
	struct tlsfd *tls; /* the relay's */
	int plain;
	struct peer peer;
};

/* ---- the end of one ---- */

/* All that follows from one connection more or less. */
static void weigh(struct tunnels *set)
{
	if (set->stopping && !set->count)
		loop_stop(&set->loop);
	for (size_t i = 0; i < set->n_listening; i++)
		if (set->count >= set->route->wishes.max_connections)
			listener_hold(&set->listeners[i]);
		else
			listener_go_on(&set->listeners[i]);
}

static void forget(struct tunnel *t)
{
	struct tunnels *set = t->set;

	route_free(t->route);
	free(t);
	set->count--;
	weigh(set);
}

static void ended(void *arg, const struct relay_end *end)
{
	struct tunnel *t = arg;
	struct account account = { .to = t->route->where,
				   .end = relay_how_name(end->how),
				   .error = relay_end_error(end, t->tls),
				   .in = end->in,
				   .out = end->out,
				   .now_ms = t->set->loop.now_ms };

	peer_log(&t->peer, t->tls, &account);
	forget(t);
}

/* ---- the start of one ---- */

static void unwatch(struct tunnel *t)
{
	if (t->source.fd >= 0)
		loop_remove(&t->set->loop, &t->source);
	t->source.fd = -1;
	loop_cancel(&t->set->loop, &t->pause);
}

static void started(struct tunnel *t)
{
	loop_cancel(&t->set->loop, &t->until);
	*t->link = t->next;
	if (t->next)
		t->next->link = t->link;
}

/* Who waits at the plain side gets a reset: there was no connection, so no end of one. */
static void close_plain(const struct tunnel *t)
{
	const struct linger reset = { .l_onoff = 1 };

	setsockopt(t->plain, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(t->plain);
}

static void rest(struct tunnels *set, int err)
{
	for (size_t i = 0; i < set->n_listening; i++)
		listener_rest(&set->listeners[i], err);
}

static void give_up(struct tunnel *t, int err)
{
	static const char *const stages[] = {
		[STAGE_DIAL] = "server",
		[STAGE_STARTTLS] = "starttls",
		[STAGE_HANDSHAKE] = "handshake",
	};
	char why[1024];
	struct account account = { .to = t->route->where,
				   .end = stages[t->client ? client_stage(t->client) : STAGE_DIAL],
				   .now_ms = t->set->loop.now_ms };

	unwatch(t);
	started(t);
	account.error = tell_failure(t->client, err, why, sizeof(why));
	peer_log(&t->peer, t->client ? client_tls(t->client) : NULL, &account);
	client_free(t->client);
	close_plain(t);
	rest(t->set, err);
	forget(t);
}

static int start_relay(struct tunnel *t)
{
	struct relay *relay;
	int err, fd;

	t->tls = client_take(t->client);
	fd = tlsfd_fd(t->tls);
	err = relay_start(&relay, &t->set->relays, t->tls, t->plain, t->plain, ended, t);
	if (err) {
		tlsfd_free(t->tls);
		close(fd);
		return err;
	}
	client_free(t->client);
	t->client = NULL;
	started(t);
	return 0;
}

static int watch(struct tunnel *t)
{
	struct loop *loop = &t->set->loop;
	int wait = client_wait(t->client), err;

	t->source.fd = client_fd(t->client);
	/* POLLIN and POLLOUT are EPOLLIN and EPOLLOUT */
	err = loop_add(loop, &t->source, (uint32_t)client_wants(t->client));
	if (err)
		t->source.fd = -1;
	if (!err && wait >= 0)
		err = loop_at(loop, &t->pause, loop->now_ms + (uint64_t)wait);
	return err;
}

static void go_on(struct tunnel *t)
{
	int err;

	unwatch(t); /* the step can close the fd */
	err = client_step(t->client);
	if (err == -EAGAIN)
		err = watch(t);
	else if (!err)
		err = start_relay(t);
	if (err)
		give_up(t, err);
}

static void ready(struct source *source, uint32_t events)
{
	(void)events;
	go_on(owner_of(source, struct tunnel, source));
}

static void pause_over(struct timer *timer)
{
	go_on(owner_of(timer, struct tunnel, pause));
}

static void too_late(struct timer *timer)
{
	give_up(owner_of(timer, struct tunnel, until), -ETIMEDOUT);
}

static int begin(struct tunnels *set, struct tunnel *t, int plain)
{
	struct loop *loop = &set->loop;
	int err;

	t->set = set;
	t->plain = plain;
	t->source = (struct source){ -1, ready };
	t->pause.due = pause_over;
	t->until.due = too_late;
	err = client_start(&t->client, &set->route->to);
	if (err)
		return err;
	err = loop_at(loop, &t->until, loop->now_ms + set->route->wishes.timeout_ms);
	if (err)
		client_free(t->client);
	return err;
}

static void take(void *arg, int fd, const struct peer *peer)
{
	struct tunnels *set = arg;
	struct tunnel *t = calloc(1, sizeof(*t));
	int err = t ? begin(set, t, fd) : -ENOMEM;

	if (err) {
		free(t);
		close(fd);
		rest(set, err);
		return;
	}
	t->peer = *peer;
	t->route = route_ref(set->route);
	t->next = set->starting;
	t->link = &set->starting;
	if (t->next)
		t->next->link = &t->next;
	set->starting = t;
	set->count++;
	weigh(set);
	go_on(t);
}

/* ---- reload: nothing waits for a resolver that is silent ---- */

static void unwatch_answers(struct tunnels *set)
{
	if (set->answers.fd >= 0)
		loop_remove(&set->loop, &set->answers);
	set->answers.fd = -1;
}

static void drop_next(struct tunnels *set)
{
	unwatch_answers(set);
	loop_cancel(&set->loop, &set->patience);
	route_free(set->next);
	set->next = NULL;
}

static void stay(struct tunnels *set)
{
	drop_next(set);
	log_error("reload", "the settings stay as they were");
}

/* Addresses are listened on as before; all else is new for connections to come. */
static void renew(struct tunnels *set)
{
	struct route *before = set->route;
	struct logline line;

	set->route = route_ref(set->next);
	drop_next(set);
	route_inherit(set->route, before);
	route_free(before);
	set->relays.idle_ms = set->route->wishes.idle_ms;
	log_begin(&line, "reloaded");
	log_end(&line);
	weigh(set);
}

static void look(struct tunnels *set)
{
	struct lookup *lookup = &set->next->lookup;
	int err;

	unwatch_answers(set); /* the step can close it */
	err = lookup_step(lookup);
	if (err == -EAGAIN) {
		set->answers.fd = lookup->pipe;
		err = loop_add(&set->loop, &set->answers, EPOLLIN);
		if (!err)
			return;
		set->answers.fd = -1;
	}
	if (!err) {
		renew(set);
		return;
	}
	route_lost(set->next, err);
	stay(set);
}

static void answered(struct source *source, uint32_t events)
{
	(void)events;
	look(owner_of(source, struct tunnels, answers));
}

static void no_answer(struct timer *timer)
{
	struct tunnels *set = owner_of(timer, struct tunnels, patience);

	route_lost(set->next, -ETIMEDOUT);
	stay(set);
}

static void reload(struct tunnels *set)
{
	if (set->next) {
		log_error("reload", "the next SIGHUP came before the addresses");
		drop_next(set);
	}
	if (route_read(&set->next, set->argc, set->argv) || !set->next ||
	    loop_at(&set->loop, &set->patience, set->loop.now_ms + set->next->wishes.timeout_ms))
		stay(set);
	else
		look(set);
}

/* ---- signals ---- */

static void stop_now(struct tunnels *set)
{
	for (struct tunnel *t = set->starting, *next; t; t = next) {
		next = t->next;
		give_up(t, -ECANCELED);
	}
	relays_stop(&set->relays);
	loop_stop(&set->loop);
}

static void grace_over(struct timer *timer)
{
	stop_now(owner_of(timer, struct tunnels, grace));
}

static void stop(struct tunnels *set)
{
	bool again = set->stopping;

	set->stopping = true;
	drop_next(set);
	for (size_t i = 0; i < set->n_listening; i++)
		listener_stop(&set->listeners[i]);
	if (again || !set->count ||
	    loop_at(&set->loop, &set->grace, set->loop.now_ms + set->route->wishes.grace_ms))
		stop_now(set);
}

static void on_signal(struct source *source, uint32_t events)
{
	struct tunnels *set = owner_of(source, struct tunnels, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(source->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP && !set->stopping)
		reload(set);
	else if (info.ssi_signo != SIGHUP)
		stop(set);
}

static int watch_signals(struct tunnels *set)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	set->signals =
		(struct source){ signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK), on_signal };
	if (set->signals.fd < 0)
		return -errno;
	return loop_add(&set->loop, &set->signals, EPOLLIN);
}

/* ---- from start to end ---- */

static int open_ports(struct tunnels *set)
{
	const struct texts *addresses = &set->route->wishes.listen;
	char error[512];

	set->listening = calloc(addresses->count, sizeof(*set->listening));
	set->listeners = calloc(addresses->count, sizeof(*set->listeners));
	if (!set->listening || !set->listeners)
		return tell(EXIT_FAILED, NULL, "memory is short");
	for (size_t i = 0; i < addresses->count; i++) {
		int err = listening_open(&set->listening[i], addresses->at[i], 1, error,
					 sizeof(error));

		if (err)
			return tell(listening_status(err), NULL, error);
		set->listeners[i] = (struct listener){
			.source.fd = -1, .loop = &set->loop, .accepted = take, .arg = set
		};
		set->n_listening++;
	}
	return EXIT_OK;
}

static int listen_all(struct tunnels *set)
{
	int err = 0;

	for (size_t i = 0; i < set->n_listening && !err; i++) {
		set->listeners[i].source.fd = listening_take(&set->listening[i], 0);
		err = listener_start(&set->listeners[i]);
	}
	return err;
}

static void close_ports(struct tunnels *set)
{
	for (size_t i = 0; i < set->n_listening; i++) {
		listener_stop(&set->listeners[i]);
		listening_close(&set->listening[i]);
	}
	free(set->listening);
	free(set->listeners);
}

static int run(struct tunnels *set)
{
	int err = watch_signals(set), status;

	if (!err)
		err = listen_all(set);
	if (!err) {
		listening_announce(set->listening, set->n_listening);
		err = loop_run(&set->loop);
	}
	status = err ? tell(EXIT_FAILED, NULL, strerrordesc_np(-err)) : EXIT_OK;
	if (set->signals.fd >= 0)
		close(set->signals.fd);
	return status;
}

int tunnel_run(struct route *route, int argc, char **argv)
{
	struct tunnels *set = calloc(1, sizeof(*set));
	int status = EXIT_FAILED, err = set ? loop_open(&set->loop) : -ENOMEM;

	if (err) {
		free(set);
		route_free(route);
		return tell(status, NULL, strerrordesc_np(-err));
	}
	log_without_waiting();
	set->route = route;
	set->argc = argc;
	set->argv = argv;
	set->grace.due = grace_over;
	set->answers = (struct source){ -1, answered };
	set->patience.due = no_answer;
	set->relays.loop = &set->loop;
	set->relays.idle_ms = route->wishes.idle_ms;
	status = open_ports(set);
	if (!status)
		status = run(set);
	drop_next(set);
	close_ports(set);
	relays_close(&set->relays);
	loop_close(&set->loop);
	route_free(set->route);
	free(set);
	return status;
}
