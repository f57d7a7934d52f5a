/* SPDX-License-Identifier: MIT */
#include "deadline.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <time.h>

#include "sys.h"

static int64_t now(void)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct deadline deadline_in(int ms)
{
	return (struct deadline){ ms < 0 ? -1 : now() + ms };
}

int deadline_left(const struct deadline *deadline)
{
	int64_t left = deadline->at - now();

	if (deadline->at < 0)
		return -1;
	if (left < 0)
		return 0;
	return left > INT_MAX ? INT_MAX : (int)left;
}

int deadline_wait(const struct deadline *deadline, int fd, short events)
{
	int left, n;

	do {
		left = deadline_left(deadline);
		/* a peer that sends for ever always has something there */
		n = left ? sys_poll(fd, events, left) : 0;
	} while (n == -EINTR);
	if (n < 0)
		return n;
	return n ? 0 : -ETIMEDOUT;
}
