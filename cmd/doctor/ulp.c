/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <tlsfd.h>
#include <unistd.h>

#include "doctor.h"
#include "sys.h"

#define KEEP "and `echo tls > /etc/modules-load.d/tls.conf` to keep it after a reboot"

enum cause {
	NO_MODULES,
	NOT_FOUND,
	CONTAINER,
	UNPRIVILEGED,
	SANDBOX,
	LOOPBACK_DOWN,
	LOOPBACK_FILTERED,
	NO_SOCKET,
	NO_MEMORY,
};

static const struct {
	enum tlsfd_why why; /* NONE: it is about the pair, not about TLS */
	const char *sentence, *remedy;
} causes[] = {
	[NO_MODULES] = {
		TLSFD_WHY_NO_TLS, "this kernel has no TLS and loads no modules",
		"boot a kernel built with CONFIG_TLS; `modprobe tls` can't help on this one, which "
		"has no module loading",
	},
	[NOT_FOUND] = {
		TLSFD_WHY_NO_TLS, "this kernel has no TLS, and loaded no module for it",
		"`modprobe tls` says why; if it finds no module, this kernel is built without "
		"CONFIG_TLS: boot one that has it",
	},
	[CONTAINER] = {
		TLSFD_WHY_MODULE,
		"the kernel has no tls module loaded, and this container or user namespace may "
		"not load it",
		"on the host, as root: `modprobe tls`, " KEEP,
	},
	[UNPRIVILEGED] = {
		TLSFD_WHY_MODULE,
		"the kernel has no tls module loaded, and this user may not load it "
		"(CAP_NET_ADMIN)",
		"as root (on the host, if this is a container): `modprobe tls`, " KEEP,
	},
	[SANDBOX] = {
		TLSFD_WHY_FORBIDDEN, "a sandbox (seccomp, LSM) forbids TCP_ULP to this process",
		"allow setsockopt(IPPROTO_TCP, TCP_ULP) in that sandbox",
	},
	[LOOPBACK_DOWN] = {
		TLSFD_WHY_NONE, "nothing could be asked: loopback is down here",
		"`ip link set lo up` in this network namespace, then ask again",
	},
	[LOOPBACK_FILTERED] = {
		TLSFD_WHY_NONE, "nothing could be asked: TCP on 127.0.0.1 gets no answer",
		"let the packet filter pass TCP on loopback, then ask again",
	},
	[NO_SOCKET] = {
		TLSFD_WHY_NONE, "nothing could be asked: no TCP connection over 127.0.0.1",
		NULL,
	},
	[NO_MEMORY] = { TLSFD_WHY_MEMORY, "nothing could be asked: no memory", NULL },
};

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static enum cause cause_of_no(int error)
{
	if (error == -EPERM || error == -EACCES)
		return SANDBOX;
	if (exists("/proc/self") && !exists("/proc/modules"))
		return NO_MODULES;
	if (sys_may_load_modules())
		return NOT_FOUND;
	return geteuid() == 0 ? CONTAINER : UNPRIVILEGED;
}

static enum cause cause_of_unknown(int error)
{
	switch (-error) {
	case ENETUNREACH:
	case ENETDOWN:
	case EADDRNOTAVAIL:
		return LOOPBACK_DOWN;
	case ETIMEDOUT:
	case ECONNREFUSED:
	case EHOSTUNREACH:
		return LOOPBACK_FILTERED;
	case ENOMEM:
	case ENOBUFS:
		return NO_MEMORY;
	default:
		return NO_SOCKET;
	}
}

static const char *name_of(enum cause cause)
{
	enum tlsfd_why why = causes[cause].why;

	return why == TLSFD_WHY_NONE ? "loopback" : tlsfd_why_name(why);
}

const char *why_no_pair(int error)
{
	return name_of(cause_of_unknown(error));
}

const char *remedy_no_pair(int error)
{
	return causes[cause_of_unknown(error)].remedy;
}

void ask_ulp(struct ulp *ulp)
{
	bool loaded_before = exists("/proc/net/tls_stat");
	enum cause cause;

	*ulp = (struct ulp){ .answer = probe_kernel(PROBE_ULP) };
	if (ulp->answer.verdict == PROBE_YES) {
		ulp->loaded_now = !loaded_before && exists("/proc/net/tls_stat");
		return;
	}
	cause = ulp->answer.verdict == PROBE_NO ? cause_of_no(ulp->answer.error) :
						  cause_of_unknown(ulp->answer.error);
	ulp->why = name_of(cause);
	ulp->sentence = causes[cause].sentence;
	ulp->remedy = causes[cause].remedy;
}
