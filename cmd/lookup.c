/* SPDX-License-Identifier: MIT */
#include "lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"

/* ---- the order ---- */

/* Takes the next address of (or not of) a family out of the list. */
static struct addrinfo *take(struct addrinfo **list, int family, bool same)
{
	struct addrinfo *found;

	while (*list && ((*list)->ai_family == family) != same)
		list = &(*list)->ai_next;
	found = *list;
	if (found)
		*list = found->ai_next;
	return found;
}

/* RFC 8305 section 4: the families in turn, first that of the resolver's first choice
 * (RFC 6724), so that one of them being broken costs one delay. */
static struct addrinfo *interleave(struct addrinfo *list)
{
	struct addrinfo *ordered = NULL, **end = &ordered;
	int family = list->ai_family;

	for (bool same = true; list; same = !same) {
		struct addrinfo *next = take(&list, family, same);

		if (!next)
			next = take(&list, family, !same);
		*end = next;
		end = &next->ai_next;
		*end = NULL;
	}
	return ordered;
}

/* ---- the child ---- */

/* What it writes, each by one write(2), which is never split: PIPE_BUF is more. */
struct answer {
	size_t target; /* count: that was all */
	int status;    /* of getaddrinfo; 0: here is an address */
	int err;       /* of EAI_SYSTEM */
	struct address address;
};

static int ask(const struct target *target, int family, int flags, struct addrinfo **list)
{
	const struct addrinfo want = { .ai_family = family,
				       .ai_socktype = SOCK_STREAM,
				       .ai_flags = flags };
	int status = getaddrinfo(target->host, target->port, &want, list);

	if (!status)
		*list = interleave(*list);
	return status;
}

static void say(int pipe, const struct answer *answer)
{
	if (write(pipe, answer, sizeof(*answer)) != sizeof(*answer))
		_exit(1);
}

static void ask_one(const struct lookup *l, size_t i, int pipe)
{
	struct answer answer = { .target = i };
	struct addrinfo *list;

	answer.status = ask(&l->targets[i], l->family, 0, &list);
	answer.err = errno;
	if (answer.status)
		say(pipe, &answer);
	for (; !answer.status && list; list = list->ai_next) {
		answer.address = address_of(list->ai_addr, list->ai_addrlen);
		say(pipe, &answer);
	}
}

/* It must not outlive the program, nor keep a connection open that the program closes. */
static _Noreturn void be_child(const struct lookup *l, pid_t parent, int pipe)
{
	const struct answer end = { .target = l->count };

	prctl(PR_SET_NAME, "tlsfd-lookup");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || (pipe = dup2(pipe, STDIN_FILENO)) < 0)
		_exit(1);
	files_leave(STDERR_FILENO + 1, ~0U, 0);
	for (size_t i = 0; i < l->count; i++)
		if (!l->targets[i].count)
			ask_one(l, i, pipe);
	say(pipe, &end);
	_exit(0);
}

/* ---- the question ---- */

int lookup_add(struct lookup *l, const char *text)
{
	struct target *targets = reallocarray(l->targets, l->count + 1, sizeof(*targets));
	int err;

	if (!targets)
		return -ENOMEM;
	l->targets = targets;
	targets += l->count;
	err = target_parse(targets, text);
	if (!err && !targets->host) {
		target_free(targets);
		err = -EINVAL;
	}
	l->count += !err;
	return err;
}

static int add_all(struct target *target, const struct addrinfo *list)
{
	int err = 0;

	for (; list && !err; list = list->ai_next) {
		struct address address = address_of(list->ai_addr, list->ai_addrlen);

		err = target_add(target, &address);
	}
	return err;
}

/* Addresses in digits are nobody's to be asked for. -EAGAIN: there are others. */
static int take_digits(struct lookup *l)
{
	int result = 0, err = 0;

	for (size_t i = 0; i < l->count && !err; i++) {
		struct addrinfo *list;

		if (ask(&l->targets[i], l->family, AI_NUMERICHOST | AI_NUMERICSERV, &list)) {
			result = -EAGAIN;
			continue;
		}
		err = add_all(&l->targets[i], list);
		freeaddrinfo(list);
	}
	return err ? err : result;
}

static int start(struct lookup *l)
{
	pid_t self = getpid();
	int ends[2], err;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	l->child = fork();
	if (!l->child)
		be_child(l, self, ends[1]);
	err = l->child < 0 ? -errno : 0;
	close(ends[1]);
	if (!err && fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0)
		err = -errno;
	l->pipe = ends[0];
	l->asking = true;
	return err;
}

/* ---- the answers ---- */

static const char *why(const struct answer *a)
{
	switch (a->status) {
	case EAI_SYSTEM:
		return strerrordesc_np(a->err);
	case EAI_SERVICE: /* "Servname not supported for ai_socktype" */
		return "no such port: neither a number nor the name of a service";
	case EAI_ADDRFAMILY: /* "Address family for hostname not supported" */
		return "no address of this family (IPv4, IPv6)";
	default:
		return gai_strerror(a->status);
	}
}

static int take_answer(struct lookup *l, const struct answer *a)
{
	struct target *target = &l->targets[a->target];

	if (!a->status)
		return target_add(target, &a->address);
	if (a->status == EAI_MEMORY)
		return -ENOMEM;
	target->error = why(a);
	return -ENOENT;
}

static int take_answers(struct lookup *l)
{
	struct answer a;
	ssize_t n;
	int err = 0;

	while (!err && (n = read(l->pipe, &a, sizeof(a))) == sizeof(a)) {
		if (a.target == l->count)
			return 0;
		err = take_answer(l, &a);
	}
	if (err)
		return err;
	return n < 0 ? -errno : -ECHILD; /* it died */
}

int lookup_step(struct lookup *l)
{
	int err = 0;

	if (!l->asking) {
		err = take_digits(l);
		if (err == -EAGAIN)
			err = start(l);
	}
	if (!err && l->asking)
		err = take_answers(l);
	if (err != -EAGAIN)
		lookup_stop(l);
	return err;
}

int lookup_finish(struct lookup *l, const struct deadline *deadline)
{
	int err;

	while ((err = lookup_step(l)) == -EAGAIN) {
		err = deadline_wait(deadline, l->pipe, POLLIN);
		if (err)
			break;
	}
	lookup_stop(l);
	return err;
}

const char *lookup_error(const struct lookup *l, int err)
{
	for (size_t i = 0; err == -ENOENT && i < l->count; i++)
		if (l->targets[i].error)
			return l->targets[i].error;
	return err == -ECHILD ? "the process that asked for it has died" : strerrordesc_np(-err);
}

/* ---- the end ---- */

bool lookup_bury(struct lookup *l, pid_t pid)
{
	if (!l->child || pid != l->child)
		return false;
	l->child = 0;
	return true;
}

void lookup_stop(struct lookup *l)
{
	if (l->child > 0) {
		kill(l->child, SIGKILL);
		while (waitpid(l->child, NULL, 0) < 0 && errno == EINTR)
			;
	}
	lookup_leave(l);
}

void lookup_leave(struct lookup *l)
{
	l->child = 0;
	if (l->asking)
		close(l->pipe);
	l->asking = false;
}

void lookup_free(struct lookup *l)
{
	lookup_stop(l);
	while (l->count)
		target_free(&l->targets[--l->count]);
	free(l->targets);
	l->targets = NULL;
}
