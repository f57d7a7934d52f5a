/* SPDX-License-Identifier: MIT */
#include "mover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "counts.h"

struct move {
	struct mover *of;
	struct move *next, **link;
	struct tlsfd *c;
	struct relay *relay; /* NULL: still connecting */
	struct attempt attempt;
	struct peer peer;
};

static void leave(struct move *m)
{
	struct mover *of = m->of;

	*m->link = m->next;
	if (m->next)
		m->next->link = m->link;
	count_connections(--of->count);
	free(m);
	of->left(of->arg);
}

/* Without close_notify: the peer must not take it for an empty answer. */
static void refuse(struct move *m, const char *end, int err)
{
	struct account account = { .end = end,
				   .error = err ? strerror(-err) : NULL,
				   .now_ms = m->of->relays.loop->now_ms };
	int fd = tlsfd_fd(m->c);

	count_end(&m->peer, m->c, &account);
	tlsfd_free(m->c);
	close(fd);
	leave(m);
}

static void ended(void *arg, const struct relay_end *end)
{
	struct move *m = arg;
	struct account account = { .end = relay_how_name(end->how),
				   .error = relay_end_error(end, m->c),
				   .in = end->in,
				   .out = end->out,
				   .now_ms = m->of->relays.loop->now_ms };

	count_end(&m->peer, m->c, &account);
	leave(m);
}

static void connected(struct attempt *attempt, int fd)
{
	struct move *m = owner_of(attempt, struct move, attempt);
	int err = fd;

	if (fd >= 0)
		err = relay_start(&m->relay, &m->of->relays, m->c, fd, ended, m);
	if (err >= 0)
		return;
	if (fd >= 0)
		close(fd);
	refuse(m, fd >= 0 ? relay_how_name(RELAY_ERROR) : "backend", err);
}

static void link_first(struct move *m)
{
	m->next = m->of->first;
	m->link = &m->of->first;
	if (m->next)
		m->next->link = &m->next;
	m->of->first = m;
	count_connections(++m->of->count);
}

void mover_take(struct mover *of, struct tlsfd *c, const struct peer *peer)
{
	struct move *m = calloc(1, sizeof(*m));
	struct account account = { .end = relay_how_name(RELAY_ERROR),
				   .error = strerror(ENOMEM),
				   .now_ms = of->relays.loop->now_ms };
	int fd = tlsfd_fd(c);

	if (!m) {
		count_end(peer, c, &account);
		tlsfd_free(c);
		close(fd);
		return;
	}
	m->of = of;
	m->c = c;
	m->peer = *peer;
	m->attempt.loop = of->relays.loop;
	m->attempt.backends = &of->backends;
	m->attempt.done = connected;
	link_first(m);
	attempt_start(&m->attempt);
}

void mover_stop(struct mover *of)
{
	struct move *next;

	relays_stop(&of->relays);
	for (struct move *m = of->first; m; m = next) {
		next = m->next;
		attempt_stop(&m->attempt);
		refuse(m, relay_how_name(RELAY_STOPPED), 0);
	}
}
