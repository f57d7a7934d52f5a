/*
 * The program's own time() and gettimeofday() stand before the C library's for OpenSSL, too.
 *
 * SPDX-License-Identifier: MIT
 */
#include "clock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static _Atomic time_t set;

void clock_set(time_t now)
{
	set = now;
}

__attribute__((visibility("default"))) time_t time(time_t *to)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	if (to)
		*to = now.tv_sec;
	return now.tv_sec;
}

__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict to,
							void *restrict zone)
{
	if (!set)
		return (int)syscall(SYS_gettimeofday, to, zone);
	*to = (struct timeval){ .tv_sec = set, .tv_usec = 700000 };
	return 0;
}
