/*
 * tlsfd serve: the master. It opens the ports, reads certificates and keys, starts workers
 * and replaces them; it meets no peer.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd.h"
#include "data.h"
#include "doctor/doctor.h"
#include "files.h"
#include "generation.h"
#include "listener.h"
#include "logfmt.h"
#include "ratchet.h"
#include "roles/image.h"
#include "service.h"
#include "metrics.h"
#include "teams.h"
#include "wipe.h"
#include "worker.h"

enum { PORTS_MS = 1000 };

struct master {
	int argc;
	char **argv;
	struct service start; /* listen, workers, metrics, user and group are its for good */
	struct generation now, next;
	bool wipes;    /* what OpenSSL frees */
	bool changing; /* till the processes of now have begun: next is the one before it */
	bool again;    /* SIGHUP came meanwhile */
	struct {
		unsigned period_ms;
		uint64_t next_ms;
	} turns; /* of the ratchet, as they were before */
	struct timer ports; /* one of them is new: processes that have the old one are renewed */
	bool reloading; /* the addresses of the next one are asked for */
	struct source answers;
	unsigned workers;
	pid_t pid;
	int image; /* this program, for the processes that aren't forks */
	int root;  /* empty, for all of them */
	struct self_signed self;
	struct ratchet ratchet;
	struct timer renewal; /* of ticket keys */
	struct listening *listening;
	size_t n_listening;
	char user[sizeof(((struct confinement *)0)->user)]; /* and these two are the start's */
	uid_t uid;
	gid_t gid;
	struct loop loop;
	struct source signals;
	struct teams teams;
	struct ledger ledger;
	struct metrics metrics;
};

/* ---- processes ---- */

static bool has_family(const struct backends *b, bool path)
{
	for (size_t i = 0; i < b->count; i++)
		if ((b->at[i].address.ss_family == AF_UNIX) == path)
			return true;
	return false;
}

static struct role_plan plan_role(const struct master *m, const struct generation *g,
				  enum role role)
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

/* Data processes are told by an fd, and start from the program's file: the master has keys
 * in its memory. */
static int plan_data(struct master *m)
{
	struct data_plan plan = { .role = plan_role(m, &m->now, ROLE_DATA),
				  .idle_ms = m->now.service.idle_ms };

	m->now.data_plan = data_plan_write(&plan, &m->now.backends);
	return m->now.data_plan < 0 ? m->now.data_plan : 0;
}

static int begin_generation(struct master *m)
{
	int err = plan_data(m);

	if (m->teams.grace_ms < m->now.service.grace_ms)
		m->teams.grace_ms = m->now.service.grace_ms;
	return err ? err : teams_renew(&m->teams, m->workers);
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
	struct worker_plan plan = { .role = plan_role(m, own, ROLE_HANDSHAKE),
				    .service = &own->service,
				    .config = own->config,
				    .ratchet = &m->ratchet,
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

	leave_standard_fds();
	if (role == ROLE_HANDSHAKE)
		be_worker(m, team);
	data_exec(m->image, generation_of(m, team)->data_plan, m->root, team->channel[ROLE_DATA], m->ledger.fd,
		  team->page[role], m->teams.begin);
	teams_say_failed(m->teams.begin, "start from the program's file", -errno);
	_exit(EXIT_FAILED);
}

/* The dead, and those that end, have had the sockets that others get. True: one is new. */
static bool mend_ports(struct master *m)
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

/* Those that live accept from one that is no good. Not more often than once a second, as one of
 * them may do it again and again. */
static void renew_for_ports(struct master *m)
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

static void close_ports(struct master *m)
{
	while (m->n_listening)
		listening_close(&m->listening[--m->n_listening]);
}

static void bury_all(struct master *m)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (!metrics_bury(&m->metrics, pid, status) && !lookup_bury(&m->next.lookup, pid))
			teams_bury(&m->teams, pid, status);
	if (mend_ports(m))
		renew_for_ports(m);
}

static void gone(void *arg)
{
	loop_stop(&((struct master *)arg)->loop);
}

/* ---- reload and stop ---- */

/* At the start, and when a port is new. */
static void tell(const struct master *m)
{
	struct logline line;

	if (m->self.pem && m->teams.generation == 1) {
		log_begin(&line, "self-signed");
		log_text(&line, "sha256", m->self.fingerprint);
		log_end(&line);
	}
	listening_announce(m->listening, m->n_listening);
}

static bool same_texts(const struct texts *a, const struct texts *b)
{
	bool same = a->count == b->count;

	for (size_t i = 0; same && i < a->count; i++)
		same = !strcmp(a->at[i], b->at[i]);
	return same;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static void warn_of_what_stays(const struct master *m)
{
	const struct service *old = &m->start, *new = &m->next.service;

	if (!same_texts(&old->listen, &new->listen) || old->workers != new->workers ||
	    !same_text(old->user, new->user) || !same_text(old->group, new->group) ||
	    !same_text(old->metrics, new->metrics))
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

static void drop_next(struct master *m)
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
}

/* Processes that start from here on turn when the master does. Those before turn as they were
 * to; they accept no more as soon as the others have begun, and what they have sealed opens. */
static int renew_teams(struct master *m)
{
	struct ratchet *r = &m->ratchet;

	m->turns.period_ms = r->period_ms;
	m->turns.next_ms = r->next_ms;
	ratchet_set_period(r, m->now.service.ticket_renewal_ms, m->loop.now_ms);
	(void)!ratchet_give(r, m->now.config); /* it may have turned meanwhile */
	(void)!loop_at(&m->loop, &m->renewal, r->next_ms);
	return begin_generation(m);
}

/* The settings of before are those of now again, and the others are to be dropped. */
static void stay(struct master *m, const char *why)
{
	not_reloaded(why);
	m->changing = false;
	swap(m);
	m->ratchet.period_ms = m->turns.period_ms;
	m->ratchet.next_ms = m->turns.next_ms;
	(void)!loop_at(&m->loop, &m->renewal, m->ratchet.next_ms);
}

static void renew(struct master *m)
{
	int err;

	warn_of_what_stays(m);
	swap(m);
	m->changing = true;
	mend_ports(m);
	err = renew_teams(m);
	if (err)
		stay(m, strerror(-err));
	else
		m->reloading = false; /* next is for the end of the change now */
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
	drop_next(m);
}

static void answered(struct source *source, uint32_t events)
{
	(void)events;
	look(owner_of(source, struct master, answers));
}

static void reload(struct master *m)
{
	struct trouble trouble;

	if (m->teams.awaited) {
		m->again = true;
		return;
	}
	if (m->reloading)
		not_reloaded("the next SIGHUP came before the addresses");
	drop_next(m);
	if (generation_load(&m->next, m->argc, m->argv, &m->self, &m->ratchet, &trouble)) {
		not_reloaded(trouble.error);
		return;
	}
	m->reloading = true;
	look(m);
}

/* The processes of a generation have begun, or can't. */
static void changed(struct master *m)
{
	bool again = m->again;

	generation_free(&m->next);
	m->again = false;
	if (again)
		reload(m);
}

static void renewed(void *arg)
{
	struct master *m = arg;
	struct logline line;

	if (m->changing) {
		count_reload(true);
		log_begin(&line, "reload");
		log_number(&line, "generation", m->teams.generation);
		log_end(&line);
	} else {
		tell(m);
	}
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
		renew_for_ports(m);
	}
	changed(m);
}

static void stop(struct master *m)
{
	struct logline line;

	log_begin(&line, "stopping");
	log_text(&line, "how", m->teams.stopping ? "now" : "grace");
	log_end(&line);
	drop_next(m);
	close_ports(m);
	teams_stop(&m->teams);
}

static void on_signal(struct source *source, uint32_t events)
{
	struct master *m = owner_of(source, struct master, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(source->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD)
		bury_all(m);
	else if (info.ssi_signo != SIGHUP)
		stop(m);
	else if (!m->teams.stopping)
		reload(m);
}

/* Workers do the same; the master is where new ones get the keys from. */
static void renew_keys(struct timer *timer)
{
	struct master *m = owner_of(timer, struct master, renewal);
	struct ratchet *r = &m->ratchet;
	uint64_t now = m->loop.now_ms;

	if (!ratchet_turn(r, now))
		(void)!ratchet_give(r, m->now.config);
	(void)!loop_at(&m->loop, timer, r->next_ms > now ? r->next_ms : now + r->period_ms);
}

/* ---- the start ---- */

static int fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(int status, const char *format, ...)
{
	char text[600];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_sentence("tlsfd serve: %s", text);
	log_finish();
	return status;
}

static int find_user(struct master *m)
{
	const struct service *s = &m->now.service;
	const struct passwd *user = s->user ? getpwnam(s->user) : NULL;
	const struct group *group = s->group ? getgrnam(s->group) : NULL;

	if (s->user && strlen(s->user) >= sizeof(((struct confinement *)0)->user))
		return fail(EXIT_CONFIG, "user %s: the name is too long", s->user);
	if (s->user && !user)
		return fail(EXIT_CONFIG, "user %s: there is none", s->user);
	if (s->group && (!group || !user))
		return fail(EXIT_CONFIG, "group %s: %s", s->group,
			    group ? "--user is needed, too" : "there is none");
	if (user)
		memcpy(m->user, s->user, strlen(s->user) + 1);
	m->uid = user ? user->pw_uid : geteuid();
	m->gid = group ? group->gr_gid : user && !geteuid() ? user->pw_gid : getegid();
	if (geteuid() != 0 && (m->uid != geteuid() || m->gid != getegid()))
		return fail(EXIT_CONFIG, "user %s: only root can become somebody else", s->user);
	return EXIT_OK;
}

/* Said once here, so that nobody has to find it out from the lines of connections. */
static int check_kernel(const struct service *s)
{
	struct ulp ulp;

	ask_ulp(&ulp);
	if (ulp.answer.verdict == PROBE_YES)
		return EXIT_OK;
	if (s->require_kernel)
		return fail(EXIT_KERNEL, "no kernel TLS: %s; %s", ulp.sentence,
			    ulp.remedy ? ulp.remedy : "see tlsfd doctor");
	log_error("warning", "no kernel TLS, all goes through user space: %s; %s", ulp.sentence,
		  ulp.remedy ? ulp.remedy : "see tlsfd doctor");
	return EXIT_OK;
}

static int open_ports(struct master *m)
{
	const struct texts *listen = &m->now.service.listen;
	char error[512];

	m->listening = calloc(listen->count, sizeof(*m->listening));
	if (!m->listening)
		return fail(EXIT_FAILED, "memory is short");
	for (size_t i = 0; i < listen->count; i++) {
		int err = listening_open(&m->listening[i], listen->at[i], m->workers, error,
					 sizeof(error));

		if (err)
			return fail(listening_status(err), "%s", error);
		m->n_listening++;
	}
	return EXIT_OK;
}

static int prepare_metrics(struct master *m)
{
	const struct service *s = &m->now.service;
	char error[512];
	int err;

	if (!s->metrics)
		return EXIT_OK;
	if (metrics_possible(error, sizeof(error)))
		return fail(EXIT_CONFIG, "%s", error);
	if (s->check_config)
		return EXIT_OK;
	err = listening_open(&m->metrics.listening, s->metrics, 1, error, sizeof(error));
	if (err)
		return fail(listening_status(err), "metrics: %s", error);
	m->metrics.plan = plan_role(m, &m->now, ROLE_METRICS);
	return EXIT_OK;
}

static int find_program(struct master *m)
{
	m->image = m->metrics.image = image_open();
	if (m->image >= 0)
		return EXIT_OK;
	return fail(EXIT_FAILED,
		    "neither /proc/self/exe nor the name of this program can be opened: "
		    "%s",
		    strerror(-m->image));
}

static unsigned count_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (unsigned)CPU_COUNT(&set);
}

static int watch_signals(struct master *m)
{
	static const int ours[] = { SIGHUP, SIGINT, SIGTERM, SIGCHLD };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		sigaddset(&set, ours[i]);
	sigprocmask(SIG_SETMASK, &set, NULL);
	m->signals = (struct source){ signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), on_signal };
	return m->signals.fd < 0 ? -errno : loop_add(&m->loop, &m->signals, EPOLLIN);
}

static int run(struct master *m)
{
	const struct service *s = &m->now.service;
	int err = loop_open(&m->loop);

	if (!m->wipes)
		log_error("warning", "what OpenSSL frees can't be wiped: it was in use before");
	if (!err)
		err = watch_signals(m);
	if (!err)
		err = ledger_open(&m->ledger);
	if (!err)
		err = teams_open(&m->teams);
	if (!err)
		err = loop_at(&m->loop, &m->renewal, m->ratchet.next_ms);
	if (!err)
		err = begin_generation(m);
	if (!err && s->metrics)
		err = metrics_start(&m->metrics);
	if (!err && m->teams.first) /* else none could be started */
		err = loop_run(&m->loop);
	if (err || *m->teams.trouble)
		return fail(EXIT_FAILED, "%s", err ? strerror(-err) : m->teams.trouble);
	return EXIT_OK;
}

static int prepare(struct master *m)
{
	const struct service *s = &m->now.service;
	int status = find_user(m);

	m->workers = s->workers ? s->workers : count_cpus();
	m->teams.loop = m->metrics.loop = &m->loop;
	m->teams.ledger = m->metrics.ledger = &m->ledger;
	m->ledger.fd = m->metrics.plan_fd = -1;
	m->teams.be = be;
	m->teams.renewed = renewed;
	m->teams.refused = refused;
	m->teams.gone = gone;
	m->teams.arg = m;
	m->renewal.due = renew_keys;
	m->ports.due = on_ports;
	m->answers = (struct source){ -1, answered };
	raise_fd_limit();
	if (!s->check_config && geteuid() == 0)
		m->root = confine_root();
	if (!status)
		status = find_program(m);
	if (!status && !s->check_config)
		status = open_ports(m);
	if (!status)
		status = prepare_metrics(m);
	if (!status)
		status = check_kernel(s);
	if (!status && s->check_config) {
		puts("the configuration is good");
		status = finish_output(EXIT_OK);
	}
	return status;
}

static void clean_up(struct master *m)
{
	close_ports(m);
	free(m->listening);
	if (m->metrics.listening.count)
		metrics_stop(&m->metrics);
	ledger_close(&m->ledger);
	loop_close(&m->loop);
	self_signed_free(&m->self);
	ratchet_wipe(&m->ratchet);
	if (m->image >= 0)
		close(m->image);
	if (m->root >= 0)
		close(m->root);
	generation_free(&m->now);
	generation_free(&m->next);
	service_free(&m->start);
}

/* A parent's SIG_IGN is inherited: children would be gone without a word (wait(2)). What it has
 * open is inherited, too: it can name a key (/dev/fd/3), and is not for confined processes. */
static void inherit(void)
{
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG has a line */
	files_leave(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
}

int serve(int argc, char **argv)
{
	struct master m = { .argc = argc,
			    .argv = argv,
			    .pid = getpid(),
			    .image = -1,
			    .root = -1,
			    .loop.epoll = -1,
			    .now = no_generation,
			    .next = no_generation };
	struct settings settings;
	const struct deadline never = deadline_in(-1);
	struct trouble trouble;
	int status, err = 0;

	open_standard_fds();
	inherit();
	log_without_waiting();
	prctl(PR_SET_DUMPABLE, 0); /* keys come into this memory */
	m.wipes = wipe_start() == 0;
	if (service_read(&m.start, &settings, argc, argv) == 0) {
		if (settings.help)
			return verb_help("serve");
		err = ratchet_start(&m.ratchet, m.start.ticket_renewal_ms);
	}
	if (err)
		return fail(EXIT_FAILED, "no randomness: %s", strerror(-err));
	if (generation_load(&m.now, argc, argv, &m.self, &m.ratchet, &trouble) ||
	    generation_find_backends(&m.now, lookup_finish(&m.now.lookup, &never), &trouble))
		return fail(trouble.status, "%s", trouble.error);
	status = prepare(&m);
	if (!status && !m.now.service.check_config)
		status = run(&m);
	clean_up(&m);
	log_finish();
	return status;
}
