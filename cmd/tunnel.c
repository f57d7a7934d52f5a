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
#include "endpoint.h"
#include "entrance.h"
#include "relay.h"
#include "tell.h"

struct tunnels {
	struct loop loop;
	struct relays relays;
	struct entrances entrances;
	struct source signals;
	struct timer grace;
	struct route *route; /* of connections to come */
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
	uint64_t began_ms;
	char peer[ENDPOINT_SIZE];
};

/* ---- the end of one ---- */

static void begin_line(const struct tunnel *t, struct logline *line)
{
	log_begin(line, "connection");
	log_text(line, "peer", t->peer);
	log_text(line, "to", t->route->where);
}

static void end_line(const struct tunnel *t, struct logline *line)
{
	log_number(line, "ms", t->set->loop.now_ms - t->began_ms);
	log_end(line);
}

static void forget(struct tunnel *t)
{
	struct tunnels *set = t->set;

	route_free(t->route);
	free(t);
	set->count--;
	if (set->stopping && !set->count)
		loop_stop(&set->loop);
	if (!set->stopping && set->count == set->route->wishes.max_connections - 1)
		entrances_open(&set->entrances);
}

static void ended(void *arg, const struct relay_end *end)
{
	struct tunnel *t = arg;
	struct logline line;

	begin_line(t, &line);
	tell_facts(&line, t->tls);
	log_number(&line, "in", end->in);
	log_number(&line, "out", end->out);
	log_text(&line, "end", relay_how_name(end->how));
	end_line(t, &line);
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

static void give_up(struct tunnel *t, int err)
{
	struct logline line;
	char why[1024];

	unwatch(t);
	started(t);
	begin_line(t, &line);
	log_text(&line, "end", "failed");
	log_text(&line, "error", tell_failure(t->client, err, why, sizeof(why)));
	end_line(t, &line);
	client_free(t->client);
	close_plain(t);
	entrances_rest(&t->set->entrances, err);
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
	t->began_ms = loop->now_ms;
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

static void take(struct entrances *entrances, int fd)
{
	struct tunnels *set = owner_of(entrances, struct tunnels, entrances);
	struct tunnel *t = calloc(1, sizeof(*t));
	int err = t ? begin(set, t, fd) : -ENOMEM;

	if (err) {
		free(t);
		close(fd);
		entrances_rest(entrances, err);
		return;
	}
	endpoint_peer(fd, t->peer);
	t->route = route_ref(set->route);
	t->next = set->starting;
	t->link = &set->starting;
	if (t->next)
		t->next->link = &t->next;
	set->starting = t;
	if (++set->count >= set->route->wishes.max_connections)
		entrances_close(entrances);
	go_on(t);
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
	entrances_free(&set->entrances);
	if (again || !set->count ||
	    loop_at(&set->loop, &set->grace, set->loop.now_ms + set->route->wishes.grace_ms))
		stop_now(set);
}

/* Addresses are listened on as before; all else is new for connections to come. */
static void reload(struct tunnels *set)
{
	struct route *route;
	struct logline line;

	if (route_read(&route, set->argc, set->argv) || !route) {
		log_error("reload", "the settings stay as they were");
		return;
	}
	route_free(set->route);
	set->route = route;
	set->relays.idle_ms = route->wishes.idle_ms;
	log_begin(&line, "reloaded");
	log_end(&line);
	if (set->count < route->wishes.max_connections)
		entrances_open(&set->entrances);
	else
		entrances_close(&set->entrances);
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

static int listen_all(struct tunnels *set)
{
	const struct texts *addresses = &set->route->wishes.listen;

	for (size_t i = 0; i < addresses->count; i++)
		if (entrances_add(&set->entrances, addresses->at[i]))
			return tell(EXIT_LISTEN, NULL, set->entrances.error);
	return EXIT_OK;
}

static int run(struct tunnels *set)
{
	int err = watch_signals(set), status;

	if (!err)
		err = entrances_open(&set->entrances);
	if (!err) {
		entrances_announce(&set->entrances);
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
	set->route = route;
	set->argc = argc;
	set->argv = argv;
	set->grace.due = grace_over;
	set->relays.loop = set->entrances.loop = &set->loop;
	set->relays.idle_ms = route->wishes.idle_ms;
	set->entrances.taken = take;
	status = listen_all(set);
	if (!status)
		status = run(set);
	entrances_free(&set->entrances);
	relays_close(&set->relays);
	loop_close(&set->loop);
	route_free(set->route);
	free(set);
	return status;
}
