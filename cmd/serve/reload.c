/* SPDX-License-Identifier: MIT */
#include "reload.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "logfmt.h"

/* ---- the settings, and their addresses ---- */

static void warn_of_what_stays(const struct master *m)
{
	if (service_wants_restart(&m->start, &m->next.service))
		log_error("warning", "listen, workers, metrics, user and group change only with a "
				     "restart");
}

static void not_reloaded(const char *why)
{
	count_reload(false);
	log_error("reload", "%s; the old settings stay", why);
}

static void unwatch_answers(struct master *m)
{
	if (m->answers.fd >= 0)
		loop_remove(&m->loop, &m->answers);
	m->answers.fd = -1;
}

void reload_drop(struct master *m)
{
	if (!m->reloading)
		return;
	unwatch_answers(m);
	generation_free(&m->next);
	m->reloading = false;
}

/* The next becomes the present, and the present is to be dropped; or the other way round. */
static void swap(struct master *m)
{
	struct generation before = m->now;

	m->now = m->next;
	m->next = before;
	ratchet_wipe(&before.ratchet);
}

/* Those before, and who replaces them till the others have begun, renew their ticket keys as they
 * were to. They accept no more then, and what they have sealed opens. */
static int renew_teams(struct master *m)
{
	generation_follow(&m->now, &m->next, m->loop.now_ms);
	(void)!loop_at(&m->loop, &m->renewal, m->loop.now_ms); /* by the times of both */
	return master_begin(m);
}

/* The settings of before are those of now again, and the others are to be dropped. */
static void stay(struct master *m, const char *why)
{
	not_reloaded(why);
	m->changing = false;
	swap(m);
	if (m->new_port)
		master_renew_for_ports(m);
}

static void renew(struct master *m)
{
	char why[128];
	int err;

	warn_of_what_stays(m);
	swap(m);
	m->changing = true;
	m->new_port = master_mend_ports(m);
	err = renew_teams(m);
	if (!err) {
		m->reloading = false; /* next is for the end of the change now */
		return;
	}
	snprintf(why, sizeof(why), "start processes: %s", strerror(-err));
	stay(m, why);
}

/* Processes are watched and replaced while the resolver is silent. */
static void look(struct master *m)
{
	struct trouble trouble;
	int err;

	unwatch_answers(m); /* the step can close it */
	err = lookup_step(&m->next.lookup);
	if (err == -EAGAIN) {
		m->answers.fd = m->next.lookup.pipe;
		err = loop_add(&m->loop, &m->answers, EPOLLIN);
		if (!err)
			return;
		m->answers.fd = -1;
	}
	if (generation_find_backends(&m->next, err, &trouble))
		not_reloaded(trouble.error);
	else
		renew(m);
	reload_drop(m);
}

static void answered(struct source *source, uint32_t events)
{
	(void)events;
	look(owner_of(source, struct master, answers));
}

void reload(struct master *m)
{
	struct trouble trouble;

	if (m->teams.awaited) {
		m->again = true;
		return;
	}
	if (m->reloading)
		not_reloaded("the next SIGHUP came before the addresses");
	reload_drop(m);
	if (generation_load(&m->next, m->argc, m->argv, &m->self, &m->now.ratchet, &trouble)) {
		not_reloaded(trouble.error);
		return;
	}
	m->reloading = true;
	look(m);
}

/* ---- the end of it ---- */

/* The processes of a generation have begun, or can't. */
static void changed(struct master *m)
{
	bool again = m->again;

	generation_free(&m->next);
	m->again = false;
	if (again)
		reload(m);
}

/* At the start, or by the reload that brings it. */
static void tell_self_signed(struct self_signed *self)
{
	struct logline line;

	if (!self->pem || self->told)
		return;
	log_begin(&line, "self-signed");
	log_text(&line, "sha256", self->fingerprint);
	log_end(&line);
	self->told = true;
}

static void renewed(void *arg)
{
	struct master *m = arg;
	struct logline line;

	if (m->teams.grace_ms < m->now.service.grace_ms)
		m->teams.grace_ms = m->now.service.grace_ms;
	if (m->changing) {
		count_reload(true);
		log_begin(&line, "reload");
		log_number(&line, "generation", m->teams.generation);
		log_end(&line);
	}
	tell_self_signed(&m->self);
	if (!m->changing) /* at the start, or a port is new */
		listening_announce(m->listening, m->n_listening);
	m->changing = false;
	changed(m);
}

static void refused(void *arg, const char *why)
{
	struct master *m = arg;

	if (m->changing) {
		stay(m, why);
	} else {
		log_error("worker", "%s", why);
		master_renew_for_ports(m);
	}
	changed(m);
}

void reload_set_up(struct master *m)
{
	m->teams.renewed = renewed;
	m->teams.refused = refused;
	m->answers = (struct source){ -1, answered };
}
