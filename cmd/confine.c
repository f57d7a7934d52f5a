/* SPDX-License-Identifier: MIT */
#include "confine.h"

#include <errno.h>
#include <grp.h>
#include <unistd.h>

int confine_user(const struct confinement *c)
{
	if (!*c->user)
		return 0;
	if (initgroups(c->user, c->gid) < 0 || setgid(c->gid) < 0 || setuid(c->uid) < 0)
		return -errno;
	return 0;
}

int confine(const struct confinement *c)
{
	(void)c;
	return 0;
}
