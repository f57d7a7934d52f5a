/* SPDX-License-Identifier: MIT */
#include "role.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "logfmt.h"
#include "trial.h"

/* Nobody serves without a master: it would hold the port for ever. */
static int follow_master(const struct role_plan *plan)
{
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
		return -errno;
	return getppid() == plan->master ? 0 : -ESRCH;
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
static int warm_up(void)
{
	uint8_t byte;

	return OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) == 1 &&
			       RAND_bytes(&byte, 1) == 1 ?
		       0 :
		       -EIO;
}

int role_start(struct role_run *run)
{
	const struct confinement *c = &run->plan->confinement;
	char missing[MISSING] = "";
	int err = loop_open(&run->loop);

	run->grace.due = on_grace_over;
	if (!err)
		err = warm_up();
	if (!err)
		err = confine_user(c, missing);
	if (!err) /* a change of user forgets the master */
		err = follow_master(run->plan);
	if (!err)
		err = watch_signals(run);
	if (!err)
		err = confine(c, missing);
	if (!err)
		tell(run->plan, missing);
	return err;
}

/* ---- the master's side ---- */

void role_log_death(enum role role, pid_t pid, int status, bool replaced)
{
	const char *end = replaced ? "; it is replaced" : "";
	struct logline line;

	log_begin(&line, "worker");
	log_text(&line, "role", role_name(role));
	log_number(&line, "pid", (uint64_t)pid);
	if (WIFSIGNALED(status))
		log_format(&line, "error", "killed by signal %d%s", WTERMSIG(status), end);
	else
		log_format(&line, "error", "ended with status %d%s", WEXITSTATUS(status), end);
	log_end(&line);
}
