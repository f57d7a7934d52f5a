/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "doctor.h"

/*
 * Dangers of net/tls that can't be asked for without doing harm: what is known is
 * the version. Distributions back-port fixes, so these are reports, not findings.
 */
struct version {
	int major, minor, patch;
};

enum { MAX_FIXES = 5 };

static const struct known {
	const char *id, *what;
	struct version since;		 /* the first version with it */
	struct version fixed[MAX_FIXES]; /* one for each series, the mainline one last */
} known[] = {
	{ "CVE-2025-39682",
	  "a peer's empty record makes the kernel use freed memory",
	  { 6, 0, 0 },
	  { { 6, 1, 149 }, { 6, 6, 103 }, { 6, 12, 44 }, { 6, 16, 4 }, { 6, 17, 0 } } },
	{ "CVE-2025-39946",
	  "a peer's bad header makes the kernel write out of bounds",
	  { 6, 0, 0 },
	  { { 6, 1, 154 }, { 6, 6, 108 }, { 6, 12, 49 }, { 6, 16, 9 }, { 6, 17, 0 } } },
	{ "CVE-2025-38471",
	  "the kernel's record parser reads freed memory",
	  { 6, 0, 0 },
	  { { 6, 1, 147 }, { 6, 6, 100 }, { 6, 12, 40 }, { 6, 15, 8 }, { 6, 16, 0 } } },
	{ "floor",
	  "older than the kernels we advise: memory errors, lost data",
	  { 4, 13, 0 },
	  { { 6, 1, 192 }, { 6, 12, 115 }, { 6, 18, 53 }, { 7, 1, 9 }, { 7, 2, 0 } } },
};

static int compare(const struct version *a, const struct version *b)
{
	if (a->major != b->major)
		return a->major - b->major;
	if (a->minor != b->minor)
		return a->minor - b->minor;
	return a->patch - b->patch;
}

/* The fix that this kernel's users would get: of its own series, else mainline's. */
static const struct version *fix_for(const struct known *k, const struct version *v)
{
	for (int i = 0; i < MAX_FIXES; i++)
		if (k->fixed[i].major == v->major && k->fixed[i].minor == v->minor)
			return &k->fixed[i];
	return &k->fixed[MAX_FIXES - 1];
}

static int parse(const char *text, struct version *v)
{
	*v = (struct version){ 0 };
	return text && sscanf(text, "%d.%d.%d", &v->major, &v->minor, &v->patch) >= 2;
}

/* Debian's release is 6.1.0-NN for all of 6.1.y; the truth is in the version:
 * "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-...)". */
static int version_of(const struct utsname *kernel, struct version *v)
{
	static const char mark[] = "Debian ";
	const char *debian = strstr(kernel->version, mark);

	if (debian && parse(debian + sizeof(mark) - 1, v))
		return 1;
	return parse(kernel->release, v);
}

size_t ask_advisories(const struct utsname *kernel, struct advisory found[MAX_ADVISORIES])
{
	struct version v;
	size_t n = 0;

	if (!version_of(kernel, &v))
		return 0;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		const struct version *fix = fix_for(&known[i], &v);
		struct advisory *a = &found[n];

		if (compare(&v, &known[i].since) < 0 || compare(&v, fix) >= 0)
			continue;
		a->id = known[i].id;
		a->what = known[i].what;
		snprintf(a->fixed, sizeof(a->fixed), "%d.%d.%d", fix->major, fix->minor,
			 fix->patch);
		n++;
	}
	return n;
}
