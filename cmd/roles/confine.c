/* SPDX-License-Identifier: MIT */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "calls.h"
#include "files.h"

/* ---- files ---- */

static int compare(const void *a, const void *b)
{
	const int *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

void confine_files(int *keep, size_t n)
{
	int next = STDERR_FILENO + 1;

	qsort(keep, n, sizeof(*keep), compare);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < next) /* none, a standard one, or twice */
			continue;
		if (next < keep[i])
			files_leave((unsigned)next, (unsigned)keep[i] - 1, 0);
		next = keep[i] + 1;
	}
	files_leave((unsigned)next, ~0U, 0);
}

/* ---- the root and the user ---- */

int confine_root(void)
{
	char path[] = "/tmp/tlsfd-root.XXXXXX";
	int fd;

	if (!mkdtemp(path))
		return -errno;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	rmdir(path);
	return fd;
}

static int change_root(int root)
{
	int err = root < 0 ? root : 0;

	if (!err && (fchdir(root) < 0 || chroot(".") < 0))
		err = -errno;
	return err;
}

int confine_user(const struct confinement *c, char missing[MISSING])
{
	int err = 0;

	if (*c->user && geteuid() == 0 && initgroups(c->user, c->gid) < 0)
		return -errno;
	if (geteuid() == 0 && !c->paths)
		err = change_root(c->root);
	if (err)
		snprintf(missing, MISSING, "chroot: %s", strerror(-err));
	if (c->root >= 0)
		close(c->root);
	if (*c->user && (setgid(c->gid) < 0 || setuid(c->uid) < 0))
		return -errno;
	return 0;
}

/* ---- capabilities ---- */

/* Root could change the firewall by setsockopt(2). What stays is for the path of a service that
 * is another user's. */
static int drop_capabilities(const struct confinement *c)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct has[_LINUX_CAPABILITY_U32S_3] = { 0 };
	struct __user_cap_data_struct keeps[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, has) < 0)
		return -errno;
	if (c->paths)
		keeps[0].effective = keeps[0].permitted = has[0].effective & 1U << CAP_DAC_OVERRIDE;
	return syscall(SYS_capset, &header, keeps) < 0 ? -errno : 0;
}

/* ---- Landlock: linux/landlock.h, which can be older than the kernel ---- */

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule	    445
#define SYS_landlock_restrict_self  446
#endif

struct ruleset {
	uint64_t files;
	uint64_t net;	/* ABI 4 */
	uint64_t scope; /* ABI 6 */
};

struct port_rule {
	uint64_t allowed, port;
};

enum {
	ASK_ABI = 1,
	BIND_TCP = 1,
	CONNECT_TCP = 2,
	RULE_PORT = 2,
	SCOPE_ABSTRACT_UNIX = 1,
	SCOPE_SIGNAL = 2,
};

/* LANDLOCK_ACCESS_FS_*, of which each ABI has more. */
static uint64_t all_files(long abi)
{
	static const uint8_t bits[] = { 0, 13, 14, 15, 15, 16 };

	return (UINT64_C(1) << bits[abi < 5 ? abi : 5]) - 1;
}

static size_t known_size(long abi)
{
	return abi < 4 ? offsetof(struct ruleset, net) :
	       abi < 6 ? offsetof(struct ruleset, scope) :
			 sizeof(struct ruleset);
}

static int allow_ports(int fd, const struct confinement *c)
{
	for (size_t i = 0; i < c->n_ports; i++) {
		const struct port_rule rule = { CONNECT_TCP, c->ports[i] };

		if (syscall(SYS_landlock_add_rule, fd, RULE_PORT, &rule, 0) < 0)
			return -errno;
	}
	return 0;
}

/* All is handled, and no rule allows any of it but the ports. */
static int landlock(const struct confinement *c)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, ASK_ABI);
	struct ruleset rules = { .net = BIND_TCP | CONNECT_TCP,
				 .scope = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL };
	int fd, err = 0;

	if (abi < 1)
		return abi < 0 ? -errno : -ENOSYS;
	rules.files = all_files(abi);
	fd = (int)syscall(SYS_landlock_create_ruleset, &rules, known_size(abi), 0);
	if (fd < 0)
		return -errno;
	if (abi >= 4)
		err = allow_ports(fd, c);
	if (!err && syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* ---- all of it ---- */

/* Not a step that can't be had here: the next process could have it. */
static bool will_pass(int err)
{
	return err == -ENOMEM || err == -EMFILE || err == -ENFILE || err == -EAGAIN;
}

static int note(char missing[MISSING], const char *step, int err)
{
	size_t n = strlen(missing);

	if (will_pass(err))
		return err;
	if (err)
		snprintf(missing + n, MISSING - n, "%s%s: %s", n ? "; " : "", step, strerror(-err));
	return 0;
}

int confine(const struct confinement *c, char missing[MISSING])
{
	int err;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
	err = note(missing, "capabilities", drop_capabilities(c));
	if (!err)
		err = note(missing, "landlock", landlock(c));
	if (!err)
		err = note(missing, "seccomp", calls_limit(c));
	return err;
}
