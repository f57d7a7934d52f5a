/* SPDX-License-Identifier: MIT */
#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* What was opened before, memory, time. Without mremap, by which one page of a file that is
 * mapped becomes all of it: realloc(3) can do without. */
static const char *const both[] = {
	"read",		 "readv",
	"write",	 "writev",
	"close",	 "splice",
	"pipe2",	 "recvfrom",
	"recvmsg",	 "recv",
	"shutdown",	 "getsockopt",
	"getsockname",	 "getpeername",
	"fstat",	 "fstat64",
	"epoll_wait",	 "epoll_pwait",
	"epoll_pwait2",	 "epoll_ctl",
	"poll",		 "ppoll",
	"ppoll_time64",	 "brk",
	"munmap",	 "madvise",
	"futex",	 "futex_time64",
	"clock_gettime", "clock_gettime64",
	"gettimeofday",	 "time",
	"getrandom",	 "getpid",
	"gettid",	 "getuid",
	"geteuid",	 "getuid32",
	"geteuid32",	 "rt_sigreturn",
	"sigreturn",	 "rt_sigprocmask",
	"rt_sigaction",	 "restart_syscall",
	"sched_yield",	 "exit",
	"exit_group",
#ifdef __SANITIZE_ADDRESS__ /* what its runtime does at _exit(2) */
	"sigaltstack",
#endif
	NULL,
};

static const char *const accepting[] = { "accept4", NULL };

static int allow(scmp_filter_ctx filter, const char *name, unsigned n,
		 const struct scmp_arg_cmp *args)
{
	int number = seccomp_syscall_resolve_name(name);

	/* not every architecture has them all */
	return number == __NR_SCMP_ERROR ?
		       0 :
		       seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, n, args);
}

static int allow_all(scmp_filter_ctx filter, const char *const *names)
{
	int err = 0;

	for (; *names && !err; names++)
		err = allow(filter, *names, 0, NULL);
	return err;
}

static int allow_equal(scmp_filter_ctx filter, const char *name, unsigned arg, scmp_datum_t value)
{
	const struct scmp_arg_cmp is = { .arg = arg, .op = SCMP_CMP_EQ, .datum_a = value };

	return allow(filter, name, 1, &is);
}

static int allow_bits(scmp_filter_ctx filter, const char *name, unsigned arg, scmp_datum_t mask,
		      scmp_datum_t value)
{
	const struct scmp_arg_cmp are = {
		.arg = arg,
		.op = SCMP_CMP_MASKED_EQ,
		.datum_a = mask,
		.datum_b = value,
	};

	return allow(filter, name, 1, &are);
}

/* No memory becomes code; fstat(3) is newfstatat or statx of an fd; abort(3) is for oneself. */
static int allow_some(scmp_filter_ctx filter)
{
	int err = allow_bits(filter, "mmap", 2, PROT_EXEC, 0);

	if (!err)
		err = allow_bits(filter, "mmap2", 2, PROT_EXEC, 0);
	if (!err)
		err = allow_bits(filter, "mprotect", 2, PROT_EXEC, 0);
	if (!err)
		err = allow_bits(filter, "newfstatat", 3, AT_EMPTY_PATH, AT_EMPTY_PATH);
	if (!err)
		err = allow_bits(filter, "statx", 2, AT_EMPTY_PATH, AT_EMPTY_PATH);
	if (!err)
		err = allow_equal(filter, "ioctl", 1, FIONREAD);
	if (!err)
		err = allow_equal(filter, "ioctl", 1, SIOCOUTQ);
	if (!err) /* logfmt.c */
		err = allow_equal(filter, "setitimer", 0, ITIMER_REAL);
	if (!err)
		err = allow_equal(filter, "tgkill", 0, (scmp_datum_t)getpid());
	return err;
}

/* Not those that name whom a file's events signal: F_SETSIG can make that SIGKILL. */
static int allow_fcntl(scmp_filter_ctx filter)
{
	static const int commands[] = { F_GETFL, F_SETFL, F_GETFD, F_SETFD,
					F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_SETPIPE_SZ };
	int err = 0;

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]) && !err; i++) {
		err = allow_equal(filter, "fcntl", 1, (scmp_datum_t)commands[i]);
		if (!err)
			err = allow_equal(filter, "fcntl64", 1, (scmp_datum_t)commands[i]);
	}
	return err;
}

/* A socket that listens is shared with other processes: no filter on it, no program that says
 * who of them gets a connection. What connections inherit of these is set back by who accepts,
 * or, where it does no harm (SO_KEEPALIVE, TCP_NODELAY), by the master when it mends the socket. */
static int allow_options(scmp_filter_ctx filter)
{
	static const int options[][2] = {
		{ SOL_SOCKET, SO_SNDBUF },    { SOL_SOCKET, SO_BUF_LOCK }, { SOL_SOCKET, SO_LINGER },
		{ SOL_SOCKET, SO_KEEPALIVE }, { IPPROTO_TCP, TCP_CORK },   { IPPROTO_TCP, TCP_NODELAY },
		{ IPPROTO_TCP, TCP_ULP },     { SOL_TLS, TLS_TX },	     { SOL_TLS, TLS_RX },
	};
	int err = 0;

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]) && !err; i++) {
		const struct scmp_arg_cmp option[] = {
			{ .arg = 1, .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)options[i][0] },
			{ .arg = 2, .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)options[i][1] },
		};

		err = allow(filter, "setsockopt", 2, option);
	}
	return err;
}

/* With MSG_FASTOPEN it would be a connect(2), which Landlock doesn't see. */
static int allow_sending(scmp_filter_ctx filter)
{
	int err = allow_bits(filter, "sendmsg", 2, MSG_FASTOPEN, 0);

	if (!err)
		err = allow_bits(filter, "sendto", 3, MSG_FASTOPEN, 0);
	if (!err)
		err = allow_bits(filter, "send", 3, MSG_FASTOPEN, 0);
	return err;
}

/* Protocol 0: neither is MPTCP seen by Landlock. */
static int allow_socket(scmp_filter_ctx filter, int family)
{
	const struct scmp_arg_cmp stream[] = {
		{ .arg = 0, .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)family },
		{ .arg = 1,
		  .op = SCMP_CMP_MASKED_EQ,
		  .datum_a = ~(scmp_datum_t)(SOCK_NONBLOCK | SOCK_CLOEXEC),
		  .datum_b = SOCK_STREAM },
		{ .arg = 2, .op = SCMP_CMP_EQ, .datum_a = 0 },
	};

	return allow(filter, "socket", 3, stream);
}

static int allow_connecting(scmp_filter_ctx filter, const struct confinement *c)
{
	int err = c->tcp || c->paths ? allow(filter, "connect", 0, NULL) : 0;

	if (!err && c->tcp)
		err = allow_socket(filter, AF_INET);
	if (!err && c->tcp)
		err = allow_socket(filter, AF_INET6);
	if (!err && c->paths)
		err = allow_socket(filter, AF_UNIX);
	return err;
}

int calls_limit(const struct confinement *c)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int err = filter ? allow_all(filter, both) : -ENOMEM;

	if (!err) /* what the kernel says, not ECANCELED for all of it */
		err = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
	if (!err)
		err = allow_some(filter);
	if (!err)
		err = allow_fcntl(filter);
	if (!err)
		err = allow_options(filter);
	if (!err)
		err = allow_sending(filter);
	if (!err && c->role != ROLE_DATA)
		err = allow_all(filter, accepting);
	if (!err)
		err = allow_connecting(filter, c);
	if (!err)
		err = seccomp_load(filter);
	if (filter)
		seccomp_release(filter);
	return err;
}
