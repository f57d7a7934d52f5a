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

enum { SESSION_MS = 5000 }; /* from the handshake's end */

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
	struct opening *opening; /* all of them */
	unsigned count;
	bool stopping;
	int argc;
	char **argv;
};

/* One connection, until it is over: what is kept for thousands that are idle. */
struct tunnel {
	struct tunnels *set;
	struct route *route;
	struct opening *opening; /* NULL: that is over */
	struct tlsfd *tls;	 /* the relay's */
	struct peer peer;
};

/* What its start needs besides, as long as a session may come. */
struct opening {
	struct tunnel *tunnel;
	struct opening *next, **link;
	struct client *client; /* NULL: there is a relay */
	struct source source;  /* the client's fd; -1: none */
	struct source plain;   /* watched for a reset until there is a relay */
	struct timer pause, until;
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

static void free_opening(struct opening *o)
{
	struct loop *loop = &o->tunnel->set->loop;

	loop_cancel(loop, &o->pause);
	loop_cancel(loop, &o->until);
	client_free(o->client);
	o->tunnel->opening = NULL;
	*o->link = o->next;
	if (o->next)
		o->next->link = o->link;
	free(o);
}

static void forget(struct tunnel *t)
{
	struct tunnels *set = t->set;

	if (t->opening)
		free_opening(t->opening);
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

static void unwatch(struct opening *o)
{
	struct loop *loop = &o->tunnel->set->loop;

	if (o->source.fd >= 0)
		loop_remove(loop, &o->source);
	o->source.fd = -1;
	loop_cancel(loop, &o->pause);
}

/* It is the relay's then, or closed. */
static int release_plain(struct opening *o)
{
	loop_remove(&o->tunnel->set->loop, &o->plain);
	return o->plain.fd;
}

/* Who waits at the plain side gets a reset: there was no connection, so no end of one. */
static void close_plain(int fd)
{
	const struct linger reset = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

static void rest(struct tunnels *set, int err)
{
	for (size_t i = 0; i < set->n_listening; i++)
		listener_rest(&set->listeners[i], err);
}

/* There will be no relay. */
static void abandon(struct opening *o, const char *end, const char *error)
{
	struct tunnel *t = o->tunnel;
	struct account account = { .to = t->route->where,
				   .end = end,
				   .error = error,
				   .now_ms = t->set->loop.now_ms };

	unwatch(o);
	peer_log(&t->peer, client_tls(o->client), &account);
	close_plain(release_plain(o));
	forget(t);
}

static void give_up(struct opening *o, int err)
{
	static const char *const stages[] = {
		[STAGE_DIAL] = "server",
		[STAGE_STARTTLS] = "starttls",
		[STAGE_HANDSHAKE] = "handshake",
	};
	struct tunnels *set = o->tunnel->set;
	char why[1024];

	abandon(o, stages[client_stage(o->client)],
		tell_failure(o->client, err, why, sizeof(why)));
	rest(set, err);
}

/* The plain side. One that has only sent FIN may wait for an answer. */
static void left(struct source *source, uint32_t events)
{
	socklen_t size = sizeof(int);
	int err = 0;

	(void)events;
	(void)!getsockopt(source->fd, SOL_SOCKET, SO_ERROR, &err, &size);
	abandon(owner_of(source, struct opening, plain), relay_how_name(RELAY_BACKEND_RESET),
		strerror(err ? err : ECONNRESET));
}

/* To wait for sessions takes much memory: one is enough, and most servers that give any do so
 * at once behind the handshake. */
static void enough(struct opening *o)
{
	tlsfd_no_more_sessions(o->tunnel->tls);
	free_opening(o);
}

static void none_came(struct timer *timer)
{
	enough(owner_of(timer, struct opening, until));
}

/* In TLS 1.2 it belongs to the handshake. */
static void wait_for_session(struct opening *o)
{
	struct tunnel *t = o->tunnel;
	struct loop *loop = &t->set->loop;

	client_free(o->client);
	o->client = NULL;
	o->until.due = none_came;
	if (!t->route->to.sessions || tlsfd_version(t->tls) == TLSFD_TLS_1_2 ||
	    loop_at(loop, &o->until, loop->now_ms + SESSION_MS))
		enough(o);
}

static void one_came(void *arg, struct tlsfd *c)
{
	struct tunnels *set = arg;
	struct opening *o = set->opening;

	while (o && o->tunnel->tls != c)
		o = o->next;
	if (o)
		enough(o);
}

/* For connections to come. */
static void set_route(struct tunnels *set, struct route *route)
{
	route->sessions.kept = one_came;
	route->sessions.arg = set;
	set->route = route;
	set->relays.idle_ms = route->wishes.idle_ms;
}

static int start_relay(struct opening *o)
{
	struct tunnel *t = o->tunnel;
	struct relay *relay;
	int err, fd;

	t->tls = client_take(o->client);
	fd = tlsfd_fd(t->tls);
	err = relay_start(&relay, &t->set->relays, t->tls, release_plain(o), ended, t);
	if (err) {
		tlsfd_free(t->tls);
		close(fd);
		return err;
	}
	wait_for_session(o);
	return 0;
}

static int watch(struct opening *o)
{
	struct loop *loop = &o->tunnel->set->loop;
	int wait = client_wait(o->client), err;

	o->source.fd = client_fd(o->client);
	/* POLLIN and POLLOUT are EPOLLIN and EPOLLOUT */
	err = loop_add(loop, &o->source, (uint32_t)client_wants(o->client));
	if (err)
		o->source.fd = -1;
	if (!err && wait >= 0)
		err = loop_at(loop, &o->pause, loop->now_ms + (uint64_t)wait);
	return err;
}

static void go_on(struct opening *o)
{
	int err;

	unwatch(o); /* the step can close the fd */
	err = client_step(o->client);
	if (err == -EAGAIN)
		err = watch(o);
	else if (!err)
		err = start_relay(o);
	if (err)
		give_up(o, err);
}

static void ready(struct source *source, uint32_t events)
{
	(void)events;
	go_on(owner_of(source, struct opening, source));
}

static void pause_over(struct timer *timer)
{
	go_on(owner_of(timer, struct opening, pause));
}

static void too_late(struct timer *timer)
{
	give_up(owner_of(timer, struct opening, until), -ETIMEDOUT);
}

static int begin(struct tunnels *set, struct opening *o, int plain)
{
	struct loop *loop = &set->loop;
	int err = client_start(&o->client, &set->route->to);

	o->source = (struct source){ -1, ready };
	o->plain = (struct source){ plain, left };
	o->pause.due = pause_over;
	o->until.due = too_late;
	if (err)
		return err;
	err = loop_at(loop, &o->until, loop->now_ms + set->route->wishes.timeout_ms);
	if (!err)
		err = loop_add(loop, &o->plain, 0); /* EPOLLERR and EPOLLHUP are always told */
	if (!err)
		return 0;
	loop_cancel(loop, &o->until);
	client_free(o->client);
	return err;
}

static void take(void *arg, int fd, const struct peer *peer)
{
	struct tunnels *set = arg;
	struct tunnel *t = calloc(1, sizeof(*t));
	struct opening *o = calloc(1, sizeof(*o));
	int err = t && o ? begin(set, o, fd) : -ENOMEM;

	if (err) {
		free(t);
		free(o);
		close_plain(fd);
		rest(set, err);
		return;
	}
	*t = (struct tunnel){ set, route_ref(set->route), o, NULL, *peer };
	o->tunnel = t;
	o->next = set->opening;
	o->link = &set->opening;
	if (o->next)
		o->next->link = &o->next;
	set->opening = o;
	set->count++;
	weigh(set);
	go_on(o);
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

	set_route(set, route_ref(set->next));
	drop_next(set);
	route_inherit(set->route, before);
	route_free(before);
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
	for (struct opening *o = set->opening, *next; o; o = next) {
		next = o->next;
		if (o->client)
			give_up(o, -ECANCELED);
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

	log_without_waiting();
	if (err) {
		free(set);
		route_free(route);
		status = tell(status, NULL, strerrordesc_np(-err));
		log_finish();
		return status;
	}
	raise_fd_limit();
	set_route(set, route);
	set->argc = argc;
	set->argv = argv;
	set->grace.due = grace_over;
	set->answers = (struct source){ -1, answered };
	set->patience.due = no_answer;
	set->relays.loop = &set->loop;
	status = open_ports(set);
	if (!status)
		status = run(set);
	drop_next(set);
	close_ports(set);
	relays_close(&set->relays);
	loop_close(&set->loop);
	route_free(set->route);
	free(set);
	log_finish();
	return status;
}
