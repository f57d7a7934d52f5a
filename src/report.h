/* SPDX-License-Identifier: MIT */
#ifndef TLSFD_REPORT_H
#define TLSFD_REPORT_H

#include "validate.h"

struct tlsfd_report {
	enum tlsfd_mover mover[WAYS];
	struct refusal no[WAYS];
	const char *version, *suite; /* OpenSSL's own strings, which stay */
	const char *_Atomic warning; /* a literal */
	char *sentence;              /* NULL until somebody asks */
};

/* Fills in what became of plan. */
void report_write(struct tlsfd_report *report, const struct plan *plan);

/* As it was, of a connection that both ways is in the kernel; mover is there already.
 * suite: IANA's name. */
void report_rewrite(struct tlsfd_report *report, uint16_t version, const char *suite);

/* The first one counts. */
void report_warn(struct tlsfd_report *report, const char *warning);

/* Frees what report holds, not report itself. */
void report_clear(struct tlsfd_report *report);

/* The refusal of no[WAYS] that counts: the first one that isn't a consequence; why is
 * TLSFD_WHY_NONE when both directions are in the kernel. */
const struct refusal *report_cause(const struct refusal *no);

#endif
