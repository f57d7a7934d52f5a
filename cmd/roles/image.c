/* SPDX-License-Identifier: MIT */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "files.h"
#include "logfmt.h"

/* Where there is no /proc, by the name that it was started by. */
int image_open(void)
{
	/* NOLINTNEXTLINE(performance-no-int-to-ptr): it is one */
	const char *name = (const char *)getauxval(AT_EXECFN);
	int high, fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);

	if (fd < 0 && name)
		fd = open(name, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* out of the way of those that the image is given */
	high = files_copy_high(fd, IMAGE_FIRST_FD + IMAGE_FDS);
	close(fd);
	return high;
}

int image_exec(int image, const char *verb, unsigned page, const int fds[IMAGE_FDS])
{
	static char name[] = "tlsfd";
	char own_verb[32], number[16];
	char *const argv[] = { name, own_verb, number, NULL };
	int high[IMAGE_FDS];

	snprintf(own_verb, sizeof(own_verb), "%s", verb);
	snprintf(number, sizeof(number), "%u", page);
	for (int i = 0; i < IMAGE_FDS; i++) { /* out of the way first */
		high[i] = fds[i] < 0 ? -1 : files_copy_high(fds[i], IMAGE_FIRST_FD + IMAGE_FDS);
		if (fds[i] >= 0 && high[i] < 0)
			return high[i];
	}
	for (int i = 0; i < IMAGE_FDS; i++)
		if (high[i] >= 0 && dup2(high[i], IMAGE_FIRST_FD + i) < 0)
			return -errno;
	execveat(image, "", argv, environ, AT_EMPTY_PATH);
	return -errno;
}

int image_own(void)
{
	for (int i = 0; i < IMAGE_FDS; i++)
		if (fcntl(IMAGE_FIRST_FD + i, F_SETFD, FD_CLOEXEC) < 0 && errno != EBADF)
			return -errno;
	log_without_waiting();
	return 0;
}
