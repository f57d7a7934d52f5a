/* SPDX-License-Identifier: MIT */
#include "kind.h"

#include <sys/stat.h>
#include <unistd.h>

enum kind kind_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return KIND_OTHER;
	if (S_ISREG(st.st_mode))
		return KIND_FILE;
	if (S_ISFIFO(st.st_mode))
		return KIND_PIPE;
	if (S_ISSOCK(st.st_mode))
		return KIND_SOCKET;
	return isatty(fd) ? KIND_TERMINAL : KIND_OTHER;
}
