/* SPDX-License-Identifier: MIT */
#include "trial.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "logfmt.h"

/* Each: -1 with errno, or it is allowed; what comes of that is undone. */

static int closed(int fd)
{
	return fd < 0 ? -1 : close(fd);
}

static int open_root(void)
{
	return closed(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int open_passwd(void)
{
	return closed(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}

static int make_file(void)
{
	return closed(open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
}

static int stat_root(void)
{
	struct stat st;

	return stat("/", &st);
}

static int make_tcp_socket(void)
{
	return closed(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int make_udp_socket(void)
{
	return closed(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

static int make_netlink_socket(void)
{
	return closed(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
}

/* On an fd that is no socket: EBADF would show that the call itself is allowed. */
static int bind_socket(void)
{
	const struct sockaddr_in any = { .sin_family = AF_INET };

	return bind(-1, (const struct sockaddr *)&any, sizeof(any));
}

static int accept_socket(void)
{
	return closed(accept4(-1, NULL, NULL, SOCK_CLOEXEC));
}

/* A folder can't be executed: EACCES would show the same. */
static int execute(void)
{
	char *const none[] = { NULL };

	return execve("/", none, none);
}

static int make_process(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid < 0 ? -1 : 0;
}

static int trace(void)
{
	return (int)ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}

static int read_memory(void)
{
	char byte;
	const struct iovec here = { &byte, 1 }, there = { (void *)trial_log, 1 };

	return process_vm_readv(getppid(), &here, 1, &there, 1, 0) < 0 ? -1 : 0;
}

static int send_signal(void)
{
	return kill(1, 0);
}

/* As good as kill: F_SETSIG says which signal it gets when something is written here. */
static int set_owner(void)
{
	return fcntl(STDERR_FILENO, F_SETOWN, getppid()) < 0 ? -1 : fcntl(STDERR_FILENO, F_SETOWN, 0);
}

static int make_code(void)
{
	void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return code == MAP_FAILED ? -1 : munmap(code, 4096);
}

static int become_root(void)
{
	return setuid(0);
}

static const struct trial {
	const char *name;
	int (*attempt)(void);
} trials[] = {
	{ "open-root", open_root },
	{ "open-passwd", open_passwd },
	{ "make-file", make_file },
	{ "stat", stat_root },
	{ "socket-tcp", make_tcp_socket },
	{ "socket-udp", make_udp_socket },
	{ "socket-netlink", make_netlink_socket },
	{ "bind", bind_socket },
	{ "accept", accept_socket },
	{ "execve", execute },
	{ "fork", make_process },
	{ "ptrace", trace },
	{ "process-vm-readv", read_memory },
	{ "kill", send_signal },
	{ "fcntl-setown", set_owner },
	{ "mmap-exec", make_code },
	{ "setuid", become_root },
};

void trial_log(enum role role)
{
	struct logline line;

	log_begin(&line, "self-check");
	log_text(&line, "role", role_name(role));
	for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++)
		log_text(&line, trials[i].name,
			 trials[i].attempt() == 0 ? "allowed" : strerrorname_np(errno));
	log_end(&line);
}
