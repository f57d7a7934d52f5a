/* SPDX-License-Identifier: MIT */
#include "teams.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "logfmt.h"
#include "roles/image.h"
#include "roles/role.h"

enum {
	RESTART_MS = 1000,
	PATIENCE_MS = 60000,
	CENSUS_MS = 100,
	LATE_MS = 2000, /* after the grace time; a process may wait for the log by itself */
};

/* What a process says about its beginning; less than PIPE_BUF. */
struct word {
	pid_t pid;
	int err; /* 0: it has begun */
	char step[ROLE_STEP];
};

/* ---- how many connections there are ---- */

/* In the same place, from settings before. */
static uint64_t held_before(const struct teams *ts, const struct team *team)
{
	uint64_t held = 0;

	for (const struct team *old = ts->first; old; old = old->next)
		for (enum role role = 0; role < ROLES; role++)
			if (old->index == team->index && old->generation < team->generation)
				held += ledger_connections(ts->ledger, old->page[role]);
	return held;
}

/* Of the generation that serves, or of the one that is to. */
static bool is_kept(const struct teams *ts, const struct team *team)
{
	return team->generation &&
	       (team->generation == ts->generation || team->generation == ts->serving);
}

/* Until none of those before is left, who accepts is told how much of the limit they take. */
static void on_census(struct timer *timer)
{
	struct teams *ts = owner_of(timer, struct teams, census);
	bool old = false;

	for (const struct team *team = ts->first; team; team = team->next) {
		old |= team->generation < ts->generation;
		if (is_kept(ts, team))
			ledger_tell_before(ts->ledger, team->page[ROLE_HANDSHAKE],
					   held_before(ts, team));
	}
	if (old)
		(void)!loop_at(ts->loop, timer, ts->loop->now_ms + CENSUS_MS);
}

/* ---- starting ---- */

/* A data process is needed as long as somebody sends to it. */
static bool is_wanted(const struct teams *ts, const struct team *team, enum role role)
{
	if (ts->stopping)
		return false;
	return is_kept(ts, team) ||
	       (team->generation && role == ROLE_DATA && team->pid[ROLE_HANDSHAKE]);
}

static int start(struct teams *ts, struct team *team, enum role role)
{
	pid_t pid;
	int err;

	team->page[role] = ledger_take(ts->ledger);
	if (role == ROLE_HANDSHAKE)
		ledger_tell_before(ts->ledger, team->page[role], held_before(ts, team));
	pid = fork();
	if (pid == 0) {
		ts->be(ts->arg, team, role);
		_exit(1);
	}
	if (pid > 0) {
		team->pid[role] = pid;
		return 0;
	}
	err = -errno;
	ledger_settle(ts->ledger, team->page[role]);
	team->page[role] = 0;
	return err;
}

static int start_missing(struct teams *ts, struct team *team)
{
	int err = 0;

	for (enum role role = ROLES; role-- > 0 && !err;)
		if (!team->pid[role] && is_wanted(ts, team, role))
			err = start(ts, team, role);
	return err;
}

static void on_restart(struct timer *timer)
{
	struct teams *ts = owner_of(timer, struct teams, restart);
	int err = 0;

	for (struct team *team = ts->first; team && !err; team = team->next)
		err = start_missing(ts, team);
	if (!err)
		return;
	log_error("worker", "fork: %s", strerror(-err));
	loop_at(ts->loop, &ts->restart, ts->loop->now_ms + RESTART_MS);
}

static void restart_soon(struct teams *ts)
{
	uint64_t next = ts->restart.at_ms + RESTART_MS;

	if (!ts->restart.place)
		loop_at(ts->loop, &ts->restart, next > ts->loop->now_ms ? next : ts->loop->now_ms);
}

/* Nobody is in it yet. */
static int add(struct teams *ts, unsigned generation, unsigned index)
{
	struct team *team = calloc(1, sizeof(*team));
	int err = team ? channel_open(team->channel) : -ENOMEM;

	if (err) {
		free(team);
		return err;
	}
	team->generation = generation;
	team->index = index;
	team->next = ts->first;
	ts->first = team;
	return 0;
}

static void tell(const struct team *team, enum role role, int sig)
{
	if (team->pid[role])
		kill(team->pid[role], sig);
}

static struct team *find(const struct teams *ts, pid_t pid, enum role *role)
{
	for (struct team *team = ts->first; team; team = team->next)
		for (*role = 0; *role < ROLES; ++*role)
			if (team->pid[*role] == pid)
				return team;
	return NULL;
}

/* ---- ending ---- */

static bool is_over(const struct teams *ts, const struct team *team)
{
	for (enum role role = 0; role < ROLES; role++)
		if (team->pid[role] || is_wanted(ts, team, role))
			return false;
	return true;
}

static void remove_those_over(struct teams *ts)
{
	struct team **link = &ts->first, *team;

	while ((team = *link)) {
		if (!is_over(ts, team)) {
			link = &team->next;
			continue;
		}
		*link = team->next;
		close(team->channel[ROLE_HANDSHAKE]);
		close(team->channel[ROLE_DATA]);
		free(team);
	}
	if (ts->stopping && !ts->first)
		ts->gone(ts->arg);
}

/* The generation that was to begin ends, and those before go on. It has accepted nobody. */
static void disown(struct teams *ts)
{
	for (struct team *team = ts->first; team; team = team->next) {
		if (team->generation != ts->generation)
			continue;
		team->generation = 0;
		for (enum role role = 0; role < ROLES; role++)
			tell(team, role, SIGKILL);
	}
	ts->generation = ts->serving;
	ts->awaited = false;
	loop_cancel(ts->loop, &ts->patience);
}

static void tell_all(const struct teams *ts, int sig)
{
	for (const struct team *team = ts->first; team; team = team->next)
		for (enum role role = 0; role < ROLES; role++)
			tell(team, role, sig);
}

/* They look after the time themselves, as long as they are well. */
static void on_deadline(struct timer *timer)
{
	const struct teams *ts = owner_of(timer, struct teams, deadline);
	struct logline line;

	log_begin(&line, "stopping");
	log_text(&line, "how", "killed");
	log_end(&line);
	tell_all(ts, SIGKILL);
}

/* When nobody sends any more, the data process, too. */
static void drain(const struct team *team)
{
	tell(team, team->pid[ROLE_HANDSHAKE] ? ROLE_HANDSHAKE : ROLE_DATA, SIGHUP);
}

static void drain_before(struct teams *ts, unsigned generation)
{
	for (const struct team *team = ts->first; team; team = team->next)
		if (team->generation < generation)
			drain(team);
	remove_those_over(ts);
}

static bool all_have_begun(const struct teams *ts)
{
	for (const struct team *team = ts->first; team; team = team->next)
		for (enum role role = 0; role < ROLES; role++)
			if (team->generation == ts->generation && !team->begun[role])
				return false;
	return true;
}

static bool is_awaited(const struct teams *ts, const struct team *team)
{
	return ts->awaited && team->generation == ts->generation;
}

/* The first one is the cause of all. */
static void note_failure(struct teams *ts, const struct team *team, enum role role,
			 const struct word *word)
{
	struct logline line;

	if (is_awaited(ts, team)) {
		if (!*ts->trouble)
			snprintf(ts->trouble, TROUBLE, "%s process: %s: %s%s", role_name(role),
				 word->step, strerror(-word->err), files_remedy(word->err));
		return;
	}
	log_begin(&line, "worker");
	log_text(&line, "role", role_name(role));
	log_number(&line, "pid", (uint64_t)word->pid);
	log_format(&line, "error", "%s: %s", word->step, strerror(-word->err));
	log_end(&line);
}

static void let_accept(const struct team *team)
{
	if (team->begun[ROLE_HANDSHAKE])
		tell(team, ROLE_HANDSHAKE, SIGUSR1);
}

/* Who has died meanwhile is nobody's any more, and who replaces it says so, too. */
static bool hear_one(struct teams *ts)
{
	struct word word;
	struct team *team;
	enum role role;

	if (read(ts->begun.fd, &word, sizeof(word)) != sizeof(word))
		return false;
	team = find(ts, word.pid, &role);
	if (team && word.err)
		note_failure(ts, team, role, &word);
	else if (team)
		team->begun[role] = true;
	if (team && !word.err && team->generation == ts->serving)
		let_accept(team);
	return true;
}

static void hear_all(struct teams *ts)
{
	while (hear_one(ts))
		;
	if (!ts->awaited || ts->stopping || !all_have_begun(ts))
		return;
	ts->awaited = false;
	ts->serving = ts->generation;
	*ts->trouble = 0;
	loop_cancel(ts->loop, &ts->patience);
	for (const struct team *team = ts->first; team; team = team->next)
		if (team->generation == ts->serving)
			let_accept(team);
	drain_before(ts, ts->serving);
	ts->renewed(ts->arg);
}

static void on_begun(struct source *source, uint32_t events)
{
	(void)events;
	hear_all(owner_of(source, struct teams, begun));
}

static int say(int begin, const struct word *word)
{
	int err = write(begin, word, sizeof(*word)) == sizeof(*word) ? 0 : -errno;

	close(begin);
	return err;
}

int teams_say_begun(int begin)
{
	const struct word word = { .pid = getpid() };

	return say(begin, &word);
}

void teams_say_failed(int begin, const char *step, int err)
{
	struct word word = { .pid = getpid(), .err = err };

	snprintf(word.step, sizeof(word.step), "%s", step);
	(void)!say(begin, &word);
}

/* Those who write wait for room. A data process that can't become one must still find the pipe. */
static int open_pipe(struct teams *ts)
{
	int high, ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	ts->begun = (struct source){ ends[0], on_begun };
	high = files_copy_high(ends[1], IMAGE_FIRST_FD + IMAGE_FDS);
	ts->begin = high;
	if (high >= 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0)
		high = -errno;
	close(ends[1]);
	return high < 0 ? high : 0;
}

/* Nobody has served yet, and another try would fare no better: trouble says why. */
static void end_all(struct teams *ts)
{
	ts->stopping = true;
	tell_all(ts, SIGKILL);
}

static void refuse(struct teams *ts)
{
	char trouble[TROUBLE];

	memcpy(trouble, ts->trouble, TROUBLE);
	*ts->trouble = 0;
	disown(ts);
	ts->refused(ts->arg, trouble);
}

/* The newest generation can't begin. The first cause is told. */
static void not_begun(struct teams *ts, const char *who, const char *why)
{
	if (!*ts->trouble)
		snprintf(ts->trouble, TROUBLE, "%s: %s", who, why);
	if (ts->serving)
		refuse(ts);
	else
		end_all(ts);
}

static void on_patience(struct timer *timer)
{
	struct teams *ts = owner_of(timer, struct teams, patience);

	if (!ts->stopping)
		not_begun(ts, "processes", "they have not begun in a minute");
}

int teams_open(struct teams *ts)
{
	int err = open_pipe(ts);

	ts->restart.due = on_restart;
	ts->census.due = on_census;
	ts->patience.due = on_patience;
	ts->deadline.due = on_deadline;
	return err ? err : loop_add(ts->loop, &ts->begun, EPOLLIN);
}

static int start_all(struct teams *ts, unsigned count)
{
	int err = 0;

	for (unsigned i = 0; i < count && !err; i++) {
		err = add(ts, ts->generation, i);
		if (!err)
			err = start_missing(ts, ts->first);
	}
	return err;
}

int teams_renew(struct teams *ts, unsigned count)
{
	int err;

	if (ts->awaited || ts->stopping)
		return -EBUSY;
	ts->generation++;
	ts->awaited = true;
	err = start_all(ts, count);
	if (!err)
		err = loop_at(ts->loop, &ts->patience, ts->loop->now_ms + PATIENCE_MS);
	on_census(&ts->census);
	if (err && !ts->serving) {
		snprintf(ts->trouble, TROUBLE, "start processes: %s%s", strerror(-err),
			 files_remedy(err));
		end_all(ts);
		remove_those_over(ts);
		return 0;
	}
	if (err)
		disown(ts);
	remove_those_over(ts);
	return err;
}

/* Its channel is no good any more: its connections may go on, and another team begins. */
static void give_up(struct teams *ts, struct team *team)
{
	if (is_kept(ts, team) && add(ts, team->generation, team->index))
		return;
	team->generation = 0;
	tell(team, ROLE_HANDSHAKE, SIGKILL);
	tell(team, ROLE_DATA, SIGHUP);
	(void)!loop_at(ts->loop, &ts->census, ts->loop->now_ms + CENSUS_MS);
}

/* Nobody has this place any more, and what it has counted is kept. */
static void vacate(struct teams *ts, struct team *team, enum role role)
{
	team->pid[role] = 0;
	team->begun[role] = false;
	ledger_settle(ts->ledger, team->page[role]);
	team->page[role] = 0;
}

static void replace(struct teams *ts, struct team *team, enum role role)
{
	count_replaced(role);
	if (!channel_mend(team->channel, role))
		give_up(ts, team);
	restart_soon(ts);
}

/* Its generation can't begin. The team may be gone on return, as refused may start another. */
static void end_before_begun(struct teams *ts, enum role role, int status)
{
	char who[32], end[ROLE_END];

	role_end_text(status, end);
	snprintf(who, sizeof(who), "%s process", role_name(role));
	not_begun(ts, who, end);
}

static void replace_or_drain(struct teams *ts, struct team *team, enum role role, pid_t pid,
			     int status)
{
	bool wanted = is_wanted(ts, team, role);

	if (wanted || (status && !ts->stopping))
		role_log_death(role, pid, status, wanted);
	if (wanted)
		replace(ts, team, role);
	else if (role == ROLE_HANDSHAKE)
		drain(team);
}

void teams_bury(struct teams *ts, pid_t pid, int status)
{
	enum role role;
	struct team *team;
	bool lost;

	hear_all(ts); /* its last word may be there */
	team = find(ts, pid, &role);
	if (!team)
		return;
	lost = is_awaited(ts, team) && !team->begun[role] && !ts->stopping;
	vacate(ts, team, role);
	if (lost)
		end_before_begun(ts, role, status);
	else
		replace_or_drain(ts, team, role, pid, status);
	remove_those_over(ts);
}

void teams_stop(struct teams *ts)
{
	bool again = ts->stopping;
	uint64_t late = ts->loop->now_ms + ts->grace_ms + LATE_MS;

	ts->stopping = true;
	if (!again && loop_at(ts->loop, &ts->deadline, late))
		again = true;
	tell_all(ts, again ? SIGKILL : SIGTERM);
	for (const struct team *team = ts->first; team; team = team->next)
		if (!team->pid[ROLE_HANDSHAKE])
			tell(team, ROLE_DATA, SIGHUP);
	remove_those_over(ts);
}
