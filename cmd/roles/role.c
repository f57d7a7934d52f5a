/* SPDX-License-Identifier: MIT */
#include "role.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "logfmt.h"
#include "trial.h"

/* Nobody serves without a master: it would hold the port for ever. */
static int follow_master(struct role_run *run)
{
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
		return -errno;
	return getppid() == run->plan->master ? 0 : -ESRCH;
}

static void on_grace_over(struct timer *timer)
{
	struct role_run *run = owner_of(timer, struct role_run, grace);

	run->stop(run->arg);
	loop_stop(&run->loop);
}

static void on_signal(struct source *source, uint32_t events)
{
	struct role_run *run = owner_of(source, struct role_run, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(source->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGUSR1) {
		if (run->accept)
			run->accept(run->arg);
		return;
	}
	if (info.ssi_signo == SIGHUP) {
		run->drain(run->arg);
		return;
	}
	if (loop_at(&run->loop, &run->grace, run->loop.now_ms + run->plan->grace_ms))
		loop_stop(&run->loop);
	run->term(run->arg);
}

static int watch_signals(struct role_run *run)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	signal(SIGPIPE, SIG_IGN);
	/* the terminal's Ctrl-C is for the master */
	signal(SIGINT, SIG_IGN);
	sigprocmask(SIG_SETMASK, &set, NULL);
	run->signals = (struct source){ signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), on_signal };
	return run->signals.fd < 0 ? -errno : loop_add(&run->loop, &run->signals, EPOLLIN);
}

static void tell(const struct role_plan *plan, const char *missing)
{
	struct logline line;

	if (plan->self_check)
		trial_log(plan->confinement.role);
	if (!plan->speaks || !*missing)
		return;
	log_begin(&line, "confinement");
	log_text(&line, "missing", missing);
	log_end(&line);
}

/* What is read from files when it is first needed is read now. */
static int warm_up(struct role_run *run)
{
	uint8_t byte;

	(void)run;
	return OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) == 1 &&
			       RAND_bytes(&byte, 1) == 1 ?
		       0 :
		       -EIO;
}

static int open_loop(struct role_run *run)
{
	return loop_open(&run->loop);
}

static int become_user(struct role_run *run)
{
	const struct confinement *c = &run->plan->confinement;

	if (*c->user)
		snprintf(run->step, sizeof(run->step), "become user %s", c->user);
	return confine_user(c, run->missing);
}

static int give_up_rights(struct role_run *run)
{
	return confine(&run->plan->confinement, run->missing);
}

static const struct step {
	const char *name;
	int (*take)(struct role_run *run);
} steps[] = {
	{ "event loop", open_loop },
	{ "OpenSSL", warm_up },
	{ "user", become_user },
	{ "parent", follow_master }, /* whom a change of user forgets */
	{ "signals", watch_signals },
	{ "confinement", give_up_rights },
};

int role_start(struct role_run *run)
{
	int err = 0;

	run->grace.due = on_grace_over;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && !err; i++) {
		snprintf(run->step, sizeof(run->step), "%s", steps[i].name);
		err = steps[i].take(run);
	}
	if (err)
		return err;
	tell(run->plan, run->missing);
	snprintf(run->step, sizeof(run->step), "sockets"); /* are the rest */
	return 0;
}

/* ---- the master's side ---- */

void role_end_text(int status, char text[ROLE_END])
{
	if (WIFSIGNALED(status))
		snprintf(text, ROLE_END, "killed by signal %d", WTERMSIG(status));
	else
		snprintf(text, ROLE_END, "ended with status %d", WEXITSTATUS(status));
}

void role_log_death(enum role role, pid_t pid, int status, bool replaced)
{
	struct logline line;
	char end[ROLE_END];

	role_end_text(status, end);
	log_begin(&line, "worker");
	log_text(&line, "role", role_name(role));
	log_number(&line, "pid", (uint64_t)pid);
	log_format(&line, "error", "%s%s", end, replaced ? "; it is replaced" : "");
	log_end(&line);
}
