/*
 * tlsfd serve: the verb. It reads certificates and keys, opens the ports, and is the master then.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
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
#include <unistd.h>

#include "cmd.h"
#include "doctor/doctor.h"
#include "files.h"
#include "logfmt.h"
#include "master.h"
#include "reload.h"
#include "roles/image.h"
#include "wipe.h"

/* ---- before anybody is served ---- */

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

static int fail_at(const char *step, int err)
{
	return fail(EXIT_FAILED, "%s: %s%s", step, strerror(-err), files_remedy(err));
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
		return fail_at("ports", -ENOMEM);
	for (size_t i = 0; i < listen->count; i++) {
		int err = listening_open(&m->listening[i], listen->at[i], m->workers, error,
					 sizeof(error));

		if (err)
			return fail(listening_status(err), "%s%s", error, files_remedy(err));
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
		return fail(listening_status(err), "metrics: %s%s", error, files_remedy(err));
	m->metrics.plan = master_plan(m, &m->now, ROLE_METRICS);
	return EXIT_OK;
}

static int find_program(struct master *m)
{
	m->image = m->metrics.image = image_open();
	if (m->image >= 0)
		return EXIT_OK;
	return fail_at("neither /proc/self/exe nor the name of this program can be opened",
		       m->image);
}

static unsigned count_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (unsigned)CPU_COUNT(&set);
}

/* The files that the settings name, and the addresses of the backends. */
static int load(struct master *m)
{
	const struct deadline never = deadline_in(-1);
	struct ratchet first;
	struct trouble trouble;
	int err = ratchet_start(&first, m->start.ticket_renewal_ms);

	if (err)
		return fail_at("randomness", err);
	err = generation_load(&m->now, m->argc, m->argv, &m->self, &first, &trouble);
	ratchet_wipe(&first);
	if (!err)
		err = generation_find_backends(&m->now, lookup_finish(&m->now.lookup, &never),
					       &trouble);
	return err ? fail(trouble.status, "%s", trouble.error) : EXIT_OK;
}

static int prepare(struct master *m)
{
	const struct service *s = &m->now.service;
	int status = find_user(m);

	m->workers = s->workers ? s->workers : count_cpus();
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

/* ---- signals ---- */

static void stop(struct master *m)
{
	struct logline line;

	log_begin(&line, "stopping");
	log_text(&line, "how", m->teams.stopping ? "now" : "grace");
	log_end(&line);
	reload_drop(m);
	master_close_ports(m);
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
		master_bury_all(m);
	else if (info.ssi_signo != SIGHUP)
		stop(m);
	else if (!m->teams.stopping)
		reload(m);
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

/* ---- the steps of the master ---- */

static int open_loop(struct master *m)
{
	return loop_open(&m->loop);
}

static int open_ledger(struct master *m)
{
	return ledger_open(&m->ledger);
}

static int open_teams(struct master *m)
{
	return teams_open(&m->teams);
}

static int time_renewal(struct master *m)
{
	return loop_at(&m->loop, &m->renewal, m->now.ratchet.next_ms);
}

static int start_metrics(struct master *m)
{
	return m->now.service.metrics ? metrics_start(&m->metrics) : 0;
}

static int serve_all(struct master *m)
{
	return m->teams.first ? loop_run(&m->loop) : 0; /* else none could be started */
}

static const struct step {
	const char *name;
	int (*take)(struct master *m);
} steps[] = {
	{ "event loop", open_loop },
	{ "signals", watch_signals },
	{ "memory for counts", open_ledger },
	{ "pipe from the processes", open_teams },
	{ "timer", time_renewal },
	{ "plan of the metrics process", start_metrics },
	{ "plan of the processes", master_begin },
	{ "event loop", serve_all },
};

static int run(struct master *m)
{
	if (!m->wipes)
		log_error("warning", "what OpenSSL frees can't be wiped: it was in use before");
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int err = steps[i].take(m);

		if (err)
			return fail_at(steps[i].name, err);
	}
	return *m->teams.trouble ? fail(EXIT_FAILED, "%s", m->teams.trouble) : EXIT_OK;
}

/* ---- the verb ---- */

static void clean_up(struct master *m)
{
	master_close_ports(m);
	free(m->listening);
	if (m->metrics.listening.count)
		metrics_stop(&m->metrics);
	ledger_close(&m->ledger);
	loop_close(&m->loop);
	self_signed_free(&m->self);
	if (m->image >= 0)
		close(m->image);
	if (m->root >= 0)
		close(m->root);
	generation_free(&m->now);
	generation_free(&m->next);
	service_free(&m->start);
}

/* A parent's SIG_IGN is inherited: children would be gone without a word (wait(2)). What it has
 * open is inherited, too: it can name a key (/dev/fd/3), and is not for confined processes. SIGHUP
 * waits for watch_signals: a reload that comes so soon is no reason to die. */
static void inherit(void)
{
	sigset_t reload;

	sigemptyset(&reload);
	sigaddset(&reload, SIGHUP);
	sigprocmask(SIG_BLOCK, &reload, NULL);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG has a line */
	files_leave(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
}

int serve(int argc, char **argv)
{
	struct master m;
	struct settings settings;
	int status, err;

	master_set_up(&m, argc, argv);
	reload_set_up(&m);
	open_standard_fds();
	inherit();
	log_without_waiting();
	prctl(PR_SET_DUMPABLE, 0); /* keys come into this memory */
	m.wipes = wipe_start() == 0;
	err = service_read(&m.start, &settings, argc, argv);
	if (err)
		return fail(settings_status(err), "%s", settings.error);
	if (settings.help)
		return verb_help("serve");
	status = load(&m);
	if (!status)
		status = prepare(&m);
	if (!status && !m.now.service.check_config)
		status = run(&m);
	clean_up(&m);
	log_finish();
	return status;
}
