/* SPDX-License-Identifier: MIT */
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

static void leave(int fd, unsigned flags)
{
	if (flags & CLOSE_RANGE_CLOEXEC)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	else
		close(fd);
}

/* In the order of the numbers: one that is closed meanwhile hides none (fs/proc/fd.c). */
static bool leave_listed(unsigned first, unsigned last, unsigned flags)
{
	DIR *list = opendir("/proc/self/fd");
	struct dirent *entry;

	if (!list)
		return false;
	while ((entry = readdir(list))) {
		unsigned long fd = strtoul(entry->d_name, NULL, 10); /* "..": 0 */

		if (fd >= first && fd <= last && (int)fd != dirfd(list))
			leave((int)fd, flags);
	}
	closedir(list);
	return true;
}

static void leave_possible(unsigned first, unsigned last, unsigned flags)
{
	for (long fd = sysconf(_SC_OPEN_MAX); --fd >= (long)first;)
		if (fd <= (long)last)
			leave((int)fd, flags);
}

/* It came with Linux 5.9, its flag with 5.11; a container's seccomp can refuse it, too. */
void files_leave(unsigned first, unsigned last, unsigned flags)
{
	if (close_range(first, last, (int)flags) < 0 && !leave_listed(first, last, flags))
		leave_possible(first, last, flags);
}

/* fcntl(2) calls it EINVAL that there can't be such a number. */
int files_copy_high(int fd, int least)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, least);

	if (high >= 0)
		return high;
	return errno == EINVAL ? -EMFILE : -errno;
}

const char *files_remedy(int err)
{
	switch (err) {
	case -EMFILE:
		return "; the limit is to be raised (ulimit -n; systemd: LimitNOFILE=)";
	case -ENFILE:
		return "; the machine's limit is to be raised (sysctl fs.file-max)";
	default:
		return "";
	}
}
