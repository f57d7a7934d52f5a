/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "peer.h"
#include "route.h"
#include "saved.h"
#include "standard.h"
#include "tell.h"
#include "tunnel.h"

/* ---- stdin and stdout ---- */

static void log_open(const struct tlsfd *tls)
{
	const struct tlsfd_report *report = tlsfd_report(tls);
	char address[ADDRESS_TEXT];
	struct logline line;
	struct peer peer;

	peer_of(&peer, tlsfd_fd(tls));
	address_text(&peer.address.any, address);
	log_begin(&line, "connected");
	log_text(&line, "peer", address);
	log_tls(&line, tls);
	log_text(&line, "report", tlsfd_report_sentence(report));
	if (tlsfd_report_remedy(report))
		log_text(&line, "remedy", tlsfd_report_remedy(report));
	log_end(&line);
}

static void log_close(const struct standard_end *end)
{
	static const char *const names[] = {
		[ENDED_CLOSED] = "closed", [ENDED_TLS] = "cut",	      [ENDED_IDLE] = "idle",
		[ENDED_STDIN] = "stdin",   [ENDED_STDOUT] = "stdout", [ENDED_HERE] = "error",
	};
	struct logline line;

	log_begin(&line, "closed");
	log_number(&line, "in", end->received);
	log_number(&line, "out", end->sent);
	log_text(&line, "end", names[end->ended]);
	log_end(&line);
}

static int tell_cut(const struct tlsfd *tls, const char *sentence)
{
	if (tlsfd_alert(tls) < 0)
		return tell(EXIT_CUT, NULL, sentence);
	fprintf(stderr, "tlsfd connect: the server refused with alert %d\n", tlsfd_alert(tls));
	return EXIT_CUT;
}

static int tell_end(const struct tlsfd *tls, const struct standard_end *end)
{
	switch (end->ended) {
	case ENDED_CLOSED:
		return EXIT_OK;
	case ENDED_TLS:
		return tell_cut(tls, end->sentence);
	case ENDED_IDLE:
		return tell(EXIT_TIMEOUT, NULL, "nothing came or went for too long");
	case ENDED_STDIN:
		return tell(EXIT_STDIN, "stdin", end->sentence);
	case ENDED_STDOUT:
		return tell(EXIT_BROKEN, "stdout", end->sentence);
	default:
		return tell(EXIT_FAILED, NULL, end->sentence);
	}
}

/* ---- the session in a file ---- */

static void log_session(const struct wishes *w, const char *error)
{
	struct logline line;

	if (!error || !w->verbose)
		return;
	log_begin(&line, "session");
	log_text(&line, "file", w->session);
	log_text(&line, "error", error);
	log_end(&line);
}

static enum saved load_session(struct route *route)
{
	enum saved saved = SAVED_ABSENT;

	if (route->wishes.session)
		saved = saved_read(route->wishes.session, &route->sessions);
	log_session(&route->wishes, saved_why(saved));
	return saved;
}

/* What goes wrong here is said, and changes nothing else. */
static void keep_session(struct route *route, enum saved saved, bool used_up)
{
	const char *path = route->wishes.session;
	int err = path && saved != SAVED_ALIEN ? saved_write(path, &route->sessions, used_up) : 0;

	if (err)
		tell(0, path, strerrordesc_np(-err));
}

/* ---- the connection ---- */

static int talk(struct tlsfd *tls, const struct wishes *w)
{
	const struct standard_limits limits = { .idle_ms = w->idle_ms ? (int)w->idle_ms : -1,
						.no_half_close = w->no_half_close };
	struct standard_end end;
	int fd = tlsfd_fd(tls), status;

	if (w->verbose)
		log_open(tls);
	standard_run(tls, &limits, &end);
	if (w->verbose)
		log_close(&end);
	status = tell_end(tls, &end);
	tlsfd_free(tls);
	close(fd);
	return status;
}

/* NULL: it failed with *status. */
static struct tlsfd *reach(const struct route *route, int *status)
{
	struct client *client;
	struct tlsfd *tls = NULL;
	int err = client_start(&client, &route->to);
	char why[1024];

	if (!err)
		err = client_finish(client, &route->until);
	if (err)
		*status = tell(tell_status(client, err), route->where,
			       tell_failure(client, err, why, sizeof(why)));
	else
		tls = client_take(client);
	client_free(client);
	return tls;
}

static int run(struct route *route)
{
	enum saved saved = load_session(route);
	int status = EXIT_OK;
	struct tlsfd *tls = reach(route, &status);
	bool resumed = tls && tlsfd_resumed(tls);

	if (!tls)
		return status;
	if (saved == SAVED_TAKEN && !resumed)
		log_session(&route->wishes, "not resumed: it is too old, or for another server, or "
					    "the server does not take it");
	status = talk(tls, &route->wishes);
	keep_session(route, saved, resumed);
	return status;
}

/* ---- the verb ---- */

int connect_to(int argc, char **argv)
{
	struct route *route;
	int status;

	open_standard_fds();
	signal(SIGPIPE, SIG_IGN);
	status = route_read(&route, argc, argv);
	if (!route)
		return status;
	status = route_find(route);
	if (!status && route->wishes.listen.count)
		return tunnel_run(route, argc, argv);
	if (!status)
		status = run(route);
	route_free(route);
	return status;
}
