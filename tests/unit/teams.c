/*
 * A generation has begun when each of its processes has, whoever dies meanwhile, and not
 * before.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve/teams.h"
#include "suite.h"

enum { TEAMS = 2 };

struct scene {
	struct loop loop;
	struct ledger ledger;
	struct teams teams;
	int may[TEAMS]; /* eventfds: how many of this index may begin, from generation 2 on */
	int accepting;	/* an eventfd: how many were told to */
	unsigned renewed, refused;
	bool again; /* refused, another generation is started at once */
	char why[TROUBLE];
	struct timer deadline;
};

/* ---- the processes ---- */

static volatile sig_atomic_t ending, accepts;

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		accepts++;
	else
		ending = 1;
}

/* A handshake process begins when it may; a data process at once. */
static void be(void *arg, const struct team *team, enum role role)
{
	const struct scene *s = arg;
	sigset_t none, ours;
	eventfd_t n;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* of a test that fails */
	sigemptyset(&none);
	sigemptyset(&ours);
	sigaddset(&ours, SIGUSR1);
	sigprocmask(SIG_BLOCK, &ours, NULL);
	signal(SIGHUP, on_signal);
	signal(SIGUSR1, on_signal);
	if (role == ROLE_HANDSHAKE && team->generation > 1)
		while (eventfd_read(s->may[team->index], &n) < 0)
			;
	if (teams_say_begun(s->teams.begin))
		_exit(2);
	while (!ending) {
		sigsuspend(&none);
		if (accepts == 1 && !ending)
			eventfd_write(s->accepting, 1);
	}
	_exit(0);
}

/* ---- what the master sees ---- */

static void renewed(void *arg)
{
	struct scene *s = arg;

	s->renewed++;
	loop_stop(&s->loop);
}

static void refused(void *arg, const char *why)
{
	struct scene *s = arg;

	s->refused++;
	snprintf(s->why, sizeof(s->why), "%s", why);
	if (s->again)
		assert_int_equal(teams_renew(&s->teams, TEAMS), 0);
	loop_stop(&s->loop);
}

static void gone(void *arg)
{
	loop_stop(&((struct scene *)arg)->loop);
}

static void too_late(struct timer *timer)
{
	loop_stop(&owner_of(timer, struct scene, deadline)->loop);
}

static void run(struct scene *s, unsigned ms)
{
	s->loop.stopped = false;
	assert_int_equal(loop_at(&s->loop, &s->deadline, s->loop.now_ms + ms), 0);
	assert_int_equal(loop_run(&s->loop), 0);
}

static struct team *present(struct scene *s, unsigned index)
{
	struct team *team = s->teams.first;

	while (team->generation != s->teams.generation || team->index != index)
		team = team->next;
	return team;
}

static void kill_one(struct scene *s, const struct team *team, enum role role)
{
	pid_t pid = team->pid[role];
	int status;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	teams_bury(&s->teams, pid, status);
}

static void kill_handshake(struct scene *s, unsigned index)
{
	kill_one(s, present(s, index), ROLE_HANDSHAKE);
}

static void let_begin(struct scene *s, unsigned index)
{
	assert_int_equal(eventfd_write(s->may[index], 1), 0);
}

static void bury(struct scene *s, pid_t pid)
{
	int status;

	if (pid && waitpid(pid, &status, 0) == pid)
		teams_bury(&s->teams, pid, status);
}

/* ---- the tests ---- */

/* The first generation has begun. */
static void begin(struct scene *s)
{
	*s = (struct scene){ .deadline.due = too_late };
	s->teams = (struct teams){ .loop = &s->loop,
				   .ledger = &s->ledger,
				   .be = be,
				   .renewed = renewed,
				   .refused = refused,
				   .gone = gone,
				   .arg = s };
	for (int i = 0; i < TEAMS; i++)
		s->may[i] = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
	s->accepting = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
	assert_int_equal(loop_open(&s->loop), 0);
	assert_int_equal(ledger_open(&s->ledger), 0);
	assert_int_equal(teams_open(&s->teams), 0);
	assert_int_equal(teams_renew(&s->teams, TEAMS), 0);
	run(s, 5000);
	assert_int_equal(s->renewed, 1);
}

static void end(struct scene *s)
{
	teams_stop(&s->teams);
	teams_stop(&s->teams);
	while (s->teams.first)
		for (enum role role = ROLES; role-- > 0 && s->teams.first;)
			bury(s, s->teams.first->pid[role]);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is forgotten */
	for (int i = 0; i < TEAMS; i++)
		close(s->may[i]);
	close(s->accepting);
	close(s->teams.begin);
	close(s->teams.begun.fd);
	ledger_close(&s->ledger);
	loop_close(&s->loop);
}

static void test_all_begin(void **state)
{
	struct scene scene, *s = &scene;
	pid_t old;

	(void)state;
	begin(s);
	old = present(s, 0)->pid[ROLE_HANDSHAKE];
	assert_int_equal(teams_renew(&s->teams, TEAMS), 0);
	let_begin(s, 0);
	run(s, 200);
	assert_int_equal(s->renewed, 1);
	assert_int_equal(waitpid(old, NULL, WNOHANG), 0); /* it goes on */
	let_begin(s, 1);
	run(s, 5000);
	assert_int_equal(s->renewed, 2);
	assert_int_equal(waitpid(old, NULL, 0), old); /* it was told to end */
	teams_bury(&s->teams, old, 0);
	end(s);
}

/* One that had begun and died does not stand for one that hasn't yet. */
static void test_one_dies(void **state)
{
	struct scene scene, *s = &scene;

	(void)state;
	begin(s);
	assert_int_equal(teams_renew(&s->teams, TEAMS), 0);
	let_begin(s, 0);
	run(s, 200);
	assert_true(present(s, 0)->begun[ROLE_HANDSHAKE]);
	kill_handshake(s, 0);
	assert_false(present(s, 0)->begun[ROLE_HANDSHAKE]);
	let_begin(s, 0); /* who replaces it */
	run(s, 200);
	assert_true(present(s, 0)->begun[ROLE_HANDSHAKE]);
	assert_int_equal(s->renewed, 1);
	kill_handshake(s, 0); /* not replaced within a second */
	let_begin(s, 1);
	run(s, 200);
	assert_int_equal(s->renewed, 1);
	let_begin(s, 0);
	run(s, 5000);
	assert_int_equal(s->renewed, 2);
	end(s);
}

/* n processes more were told to accept, and no others. */
static void expect_accepting(struct scene *s, unsigned n)
{
	struct pollfd p = { .fd = s->accepting, .events = POLLIN };
	eventfd_t one;

	for (; n; n--) {
		assert_int_equal(poll(&p, 1, 60000), 1);
		assert_int_equal(eventfd_read(s->accepting, &one), 0);
	}
	assert_int_equal(poll(&p, 1, 100), 0);
}

/* One of a generation can't begin: it ends, has accepted nobody, and those before go on. */
static void test_one_never_begins(void **state)
{
	struct scene scene, *s = &scene;
	pid_t old;

	(void)state;
	begin(s);
	expect_accepting(s, TEAMS);
	assert_int_equal(teams_renew(&s->teams, TEAMS), 0);
	assert_int_equal(teams_renew(&s->teams, TEAMS), -EBUSY);
	let_begin(s, 0);
	run(s, 200);
	kill_handshake(s, 1);
	assert_int_equal(s->refused, 1);
	assert_string_equal(s->why, "handshake process: killed by signal 9");
	assert_int_equal(s->teams.generation, 1);
	old = present(s, 0)->pid[ROLE_HANDSHAKE];
	assert_int_equal(waitpid(old, NULL, WNOHANG), 0);
	expect_accepting(s, 0);
	assert_int_equal(teams_renew(&s->teams, TEAMS), 0);
	let_begin(s, 0);
	let_begin(s, 1);
	run(s, 5000);
	assert_int_equal(s->renewed, 2);
	expect_accepting(s, TEAMS);
	end(s);
}

/* The one that can't begin was the last of its team, which is over before the next generation
 * starts. */
static void test_another_at_once(void **state)
{
	struct scene scene, *s = &scene;

	(void)state;
	begin(s);
	s->again = true;
	assert_int_equal(teams_renew(&s->teams, TEAMS), 0);
	run(s, 200);
	assert_true(present(s, 1)->begun[ROLE_DATA]);
	kill_one(s, present(s, 1), ROLE_DATA);
	kill_handshake(s, 1);
	assert_int_equal(s->refused, 1);
	assert_true(s->teams.awaited);
	for (unsigned i = 0; i < TEAMS; i++) {
		assert_int_not_equal(present(s, i)->pid[ROLE_HANDSHAKE], 0);
		let_begin(s, i);
	}
	run(s, 5000);
	assert_int_equal(s->renewed, 2);
	end(s);
}

static void lose_patience(struct scene *s)
{
	struct timer *patience = &s->teams.patience;

	assert_true(patience->place);
	assert_int_equal(loop_at(&s->loop, patience, s->loop.now_ms), 0);
	run(s, 200);
	assert_false(patience->place);
}

/* Those that are to end anyway have their grace time. */
static void test_not_in_time(void **state)
{
	struct scene scene, *s = &scene;

	(void)state;
	begin(s);
	assert_int_equal(teams_renew(&s->teams, TEAMS), 0);
	lose_patience(s);
	assert_int_equal(s->refused, 1);
	assert_string_equal(s->why, "processes: they have not begun in a minute");
	assert_int_equal(teams_renew(&s->teams, TEAMS), 0);
	teams_stop(&s->teams);
	lose_patience(s);
	assert_int_equal(s->refused, 1);
	assert_true(s->teams.awaited);
	end(s);
}

/* Who serves is replaced while others are awaited. */
static void test_the_old_are_replaced(void **state)
{
	struct scene scene, *s = &scene;
	struct team *old;

	(void)state;
	begin(s);
	expect_accepting(s, TEAMS);
	old = present(s, 0);
	assert_int_equal(teams_renew(&s->teams, TEAMS), 0);
	kill_one(s, old, ROLE_DATA);
	run(s, 200);
	assert_int_not_equal(old->pid[ROLE_DATA], 0);
	assert_int_equal(s->refused, 0);
	let_begin(s, 0);
	let_begin(s, 1);
	run(s, 5000);
	assert_int_equal(s->renewed, 2);
	end(s);
}

int main(int argc, char **argv)
{
	suite_add(test_all_begin, NULL, 0, "all of a generation begin");
	suite_add(test_one_dies, NULL, 0, "one dies meanwhile");
	suite_add(test_one_never_begins, NULL, 0, "one never begins");
	suite_add(test_another_at_once, NULL, 0, "another begins at once");
	suite_add(test_not_in_time, NULL, 0, "not in time");
	suite_add(test_the_old_are_replaced, NULL, 0, "the old are replaced meanwhile");
	return suite_run(argc, argv);
}
