/* SPDX-License-Identifier: MIT */
#include "sys.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int (*sys_fault)(int fd, int level, int name);

static int fault(int fd, int level, int name)
{
	return sys_fault ? sys_fault(fd, level, name) : 0;
}

int sys_setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
	int err = fault(fd, level, name);

	if (err < 0)
		return err;
	return setsockopt(fd, level, name, val, len) < 0 ? -errno : 0;
}

int sys_getsockopt(int fd, int level, int name, void *val, socklen_t *len)
{
	return getsockopt(fd, level, name, val, len) < 0 ? -errno : 0;
}

ssize_t sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t n = fault(fd, 0, 0);

	if (n < 0)
		return n;
	do
		n = recvmsg(fd, msg, flags);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	ssize_t n = fault(fd, 0, 0);

	if (n < 0)
		return n;
	do
		n = sendmsg(fd, msg, flags);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int sys_same_file(int a, int b)
{
	struct stat sa, sb;

	if (a == b)
		return 1;
	if (fstat(a, &sa) < 0 || fstat(b, &sb) < 0)
		return -errno;
	return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static int in_initial_user_namespace(void)
{
	unsigned long inside, outside, count;
	FILE *map = fopen("/proc/self/uid_map", "re");
	int fields;

	if (!map)
		return 0;
	fields = fscanf(map, "%lu %lu %lu", &inside, &outside, &count);
	fclose(map);
	return fields == 3 && !inside && !outside && count == 4294967295UL;
}

int sys_may_load_modules(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, caps) < 0)
		return 0;
	return (caps[CAP_NET_ADMIN / 32].effective & (1U << (CAP_NET_ADMIN % 32))) &&
	       in_initial_user_namespace();
}
