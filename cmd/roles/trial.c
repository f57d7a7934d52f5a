/* SPDX-License-Identifier: MIT */
#include "trial.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
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

/* Landlock knows TCP only. */
static int make_mptcp_socket(void)
{
	return closed(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP));
}

static int make_unix_socket(void)
{
	return closed(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int attempt_to_connect(const void *address, socklen_t size)
{
	int err, fd = socket(*(const sa_family_t *)address, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	err = connect(fd, address, size) < 0 ? errno : 0;
	close(fd);
	errno = err;
	return err ? -1 : 0;
}

/* Port 1 of this machine, which is no service. */
static int connect_elsewhere(void)
{
	const struct sockaddr_in there = { .sin_family = AF_INET,
					   .sin_port = htons(1),
					   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	return attempt_to_connect(&there, sizeof(there));
}

static int connect_abstract(void)
{
	static const struct sockaddr_un there = { .sun_family = AF_UNIX,
						  .sun_path = "\0tlsfd-self-check" };

	return attempt_to_connect(&there, offsetof(struct sockaddr_un, sun_path) +
						  sizeof("\0tlsfd-self-check") - 1);
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

/* A connect(2) by another name. */
static int send_fast_open(void)
{
	return send(-1, "", 1, MSG_FASTOPEN) < 0 ? -1 : 0;
}

static int set_option(int option)
{
	return setsockopt(-1, SOL_SOCKET, option, &(int){ 0 }, sizeof(int));
}

static int attach_filter(void)
{
	return set_option(SO_ATTACH_FILTER);
}

/* Says which of the sockets of a port gets a connection. */
static int attach_steering(void)
{
	return set_option(SO_ATTACH_REUSEPORT_CBPF);
}

static int detach_steering(void)
{
	return set_option(SO_DETACH_REUSEPORT_BPF);
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
	return fcntl(STDERR_FILENO, F_SETOWN, getppid()) < 0 ? -1 :
							       fcntl(STDERR_FILENO, F_SETOWN, 0);
}

static int make_code(void)
{
	void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return code == MAP_FAILED ? -1 : munmap(code, 4096);
}

/* A page of the counts has those of others behind it. */
static int grow_mapping(void)
{
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *pages = page == MAP_FAILED ? page : mremap(page, 4096, 8192, MREMAP_MAYMOVE);
	int err = errno;

	if (pages != MAP_FAILED)
		return munmap(pages, 8192);
	if (page != MAP_FAILED)
		munmap(page, 4096);
	errno = err;
	return -1;
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
	{ "socket-mptcp", make_mptcp_socket },
	{ "socket-unix", make_unix_socket },
	{ "connect-elsewhere", connect_elsewhere },
	{ "connect-abstract", connect_abstract },
	{ "fast-open", send_fast_open },
	{ "attach-filter", attach_filter },
	{ "attach-steering", attach_steering },
	{ "detach-steering", detach_steering },
	{ "bind", bind_socket },
	{ "accept", accept_socket },
	{ "execve", execute },
	{ "fork", make_process },
	{ "ptrace", trace },
	{ "process-vm-readv", read_memory },
	{ "kill", send_signal },
	{ "fcntl-setown", set_owner },
	{ "mmap-exec", make_code },
	{ "mremap", grow_mapping },
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
