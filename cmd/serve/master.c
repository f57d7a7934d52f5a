/* SPDX-License-Identifier: MIT */
#include "master.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd.h"
#include "data.h"
#include "logfmt.h"
#include "wipe.h"
#include "worker.h"

enum { PORTS_MS = 1000 };

/* ---- what a process becomes ---- */

static bool has_family(const struct backends *b, bool path)
{
	for (size_t i = 0; i < b->count; i++)
		if ((b->at[i].address.ss_family == AF_UNIX) == path)
			return true;
	return false;
}

struct role_plan master_plan(const struct master *m, const struct generation *g, enum role role)
{
	const struct service *s = &g->service;
	bool connects = role == ROLE_DATA || (role == ROLE_HANDSHAKE && !s->require_kernel);
	struct role_plan plan = {
		.confinement = { .role = role, .uid = m->uid, .gid = m->gid, .root = m->root },
		.master = m->pid,
		.grace_ms = s->grace_ms,
		.self_check = s->self_check
	};

	plan.confinement.tcp = connects && has_family(&g->backends, false);
	plan.confinement.paths = connects && has_family(&g->backends, true);
	memcpy(plan.confinement.user, m->user, sizeof(m->user));
	return plan;
}

/* Of all that the master has, and what it was started with. */
static int keep_files_of(const struct master *m, const struct worker_plan *plan)
{
	size_t n = 0;
	int *keep = calloc(m->n_listening + 3, sizeof(*keep));

	if (!keep)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_listening; i++)
		keep[n++] = m->listening[i].fds[plan->index];
	keep[n++] = m->root;
	keep[n++] = plan->channel;
	keep[n++] = plan->begin;
	confine_files(keep, n);
	free(keep);
	return 0;
}

/* Those that serve are replaced while the next have not begun, too. */
static struct generation *generation_of(struct master *m, const struct team *team)
{
	return m->changing && team->generation != m->teams.generation ? &m->next : &m->now;
}

static _Noreturn void be_worker(struct master *m, const struct team *team)
{
	struct generation *own = generation_of(m, team);
	struct worker_plan plan = { .role = master_plan(m, own, ROLE_HANDSHAKE),
				    .service = &own->service,
				    .config = own->config,
				    .ratchet = &own->ratchet,
				    .backends = own->backends,
				    .listening = m->listening,
				    .n_listening = m->n_listening,
				    .index = team->index,
				    .workers = m->workers,
				    .channel = team->channel[ROLE_HANDSHAKE],
				    .held = ledger_connections(&m->ledger, team->page[ROLE_DATA]),
				    .begin = m->teams.begin };
	struct confinement *c = &plan.role.confinement;
	int err;

	log_without_waiting(); /* a file of its own: it could make the master's wait */
	plan.role.speaks = !team->index;
	c->ports = backends_ports(&own->backends, &c->n_ports);
	err = c->ports ? 0 : -ENOMEM;
	lookup_leave(&m->next.lookup);
	/* in a reload with the key of the other */
	generation_free(own == &m->now ? &m->next : &m->now);
	wipe_stop();
	ledger_leave(&m->ledger, team->page[ROLE_HANDSHAKE]);
	if (!err)
		err = keep_files_of(m, &plan);
	if (!err)
		_exit(worker_run(&plan));
	teams_say_failed(plan.begin, "files", err);
	_exit(EXIT_FAILED);
}

static void be(void *arg, const struct team *team, enum role role)
{
	struct master *m = arg;
	int err;

	leave_standard_fds();
	if (role == ROLE_HANDSHAKE)
		be_worker(m, team);
	err = data_exec(m->image, generation_of(m, team)->data_plan, m->root,
			team->channel[ROLE_DATA], m->ledger.fd, team->page[role], m->teams.begin);
	teams_say_failed(m->teams.begin, "start from the program's file", err);
	_exit(EXIT_FAILED);
}

/* ---- ports ---- */

bool master_mend_ports(struct master *m)
{
	bool new = false;

	for (size_t i = 0; i < m->n_listening; i++) {
		int err = listening_mend(&m->listening[i]);

		new |= err > 0;
		if (err)
			log_error("listen", "%s: %s", m->listening[i].address,
				  err < 0 ? strerror(-err) :
					    "a process has spoilt the socket; there is a new one");
	}
	return new;
}

void master_renew_for_ports(struct master *m)
{
	uint64_t now = m->loop.now_ms, next = m->ports.at_ms + PORTS_MS;

	if (!m->ports.place)
		(void)!loop_at(&m->loop, &m->ports, m->ports.at_ms && next > now ? next : now);
}

static void on_ports(struct timer *timer)
{
	struct master *m = owner_of(timer, struct master, ports);
	int err;

	if (m->teams.stopping)
		return;
	err = m->reloading ? -EBUSY : teams_renew(&m->teams, m->workers);
	if (err && err != -EBUSY)
		log_error("worker", "start processes: %s", strerror(-err));
	if (err)
		(void)!loop_at(&m->loop, timer, m->loop.now_ms + PORTS_MS);
}

void master_close_ports(struct master *m)
{
	while (m->n_listening)
		listening_close(&m->listening[--m->n_listening]);
}

/* ---- session tickets ---- */

static uint64_t renew_keys_of(struct generation *g, uint64_t now_ms)
{
	return ratchet_renew(&g->ratchet, g->config, now_ms);
}

/* Workers do the same; the master is where new ones get the keys from. */
static void renew_keys(struct timer *timer)
{
	struct master *m = owner_of(timer, struct master, renewal);
	uint64_t now = m->loop.now_ms, next = renew_keys_of(&m->now, now);
	uint64_t before = m->changing ? renew_keys_of(&m->next, now) : next;

	(void)!loop_at(&m->loop, timer, before < next ? before : next);
}

/* ---- beginning and ending ---- */

static void gone(void *arg)
{
	loop_stop(&((struct master *)arg)->loop);
}

void master_set_up(struct master *m, int argc, char **argv)
{
	*m = (struct master){ .argc = argc,
			      .argv = argv,
			      .pid = getpid(),
			      .image = -1,
			      .root = -1,
			      .now = no_generation,
			      .next = no_generation,
			      .renewal.due = renew_keys,
			      .ports.due = on_ports,
			      .loop.epoll = -1,
			      .ledger.fd = -1,
			      .teams = { .loop = &m->loop,
					 .ledger = &m->ledger,
					 .be = be,
					 .gone = gone,
					 .arg = m },
			      .metrics = {
				      .loop = &m->loop, .ledger = &m->ledger, .plan_fd = -1 } };
}

/* Data processes are told by an fd, and start from the program's file: the master has keys
 * in its memory. */
static int plan_data(struct master *m)
{
	struct data_plan plan = { .role = master_plan(m, &m->now, ROLE_DATA),
				  .idle_ms = m->now.service.idle_ms };

	m->now.data_plan = data_plan_write(&plan, &m->now.backends);
	return m->now.data_plan < 0 ? m->now.data_plan : 0;
}

int master_begin(struct master *m)
{
	int err = plan_data(m);

	return err ? err : teams_renew(&m->teams, m->workers);
}

void master_bury_all(struct master *m)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (!metrics_bury(&m->metrics, pid, status) && !lookup_bury(&m->next.lookup, pid))
			teams_bury(&m->teams, pid, status);
	if (master_mend_ports(m))
		master_renew_for_ports(m);
}
