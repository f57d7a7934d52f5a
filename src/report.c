/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "why.h"

static const char *const way_name[WAYS] = { [RX] = "rx", [TX] = "tx" };
static const char *const mover_name[] = {
	[TLSFD_MOVER_NONE] = "nobody",
	[TLSFD_MOVER_OPENSSL] = "OpenSSL",
	[TLSFD_MOVER_TLSFD] = "tlsfd",
};

static bool is_cause(const struct refusal *no)
{
	return no->why > TLSFD_WHY_OTHER_DIRECTION;
}

const struct refusal *report_cause(const struct refusal *no)
{
	if (is_cause(&no[RX]))
		return &no[RX];
	return is_cause(&no[TX]) || !no[RX].why ? &no[TX] : &no[RX];
}

void report_write(struct tlsfd_report *r, const struct plan *plan)
{
	const SSL_CIPHER *suite = SSL_get_current_cipher(plan->ssl);

	memcpy(r->mover, plan->mover, sizeof(r->mover));
	memcpy(r->no, plan->no, sizeof(r->no));
	r->version = SSL_get_version(plan->ssl);
	r->suite = suite ? SSL_CIPHER_get_name(suite) : "no cipher";
}

void report_rewrite(struct tlsfd_report *r, uint16_t version, const char *suite)
{
	r->version = version == TLSFD_TLS_1_3 ? "TLSv1.3" : "TLSv1.2";
	r->suite = OPENSSL_cipher_name(suite);
}

void report_warn(struct tlsfd_report *r, const char *warning)
{
	const char *none = NULL;

	atomic_compare_exchange_strong(&r->warning, &none, warning);
}

const char *tlsfd_report_warning(const struct tlsfd_report *r)
{
	return r ? atomic_load(&r->warning) : NULL;
}

void report_clear(struct tlsfd_report *r)
{
	free(r->sentence);
	r->sentence = NULL;
}

/* ---- the sentence ---- */

static char *success_sentence(const struct tlsfd_report *r)
{
	char *text;

	return asprintf(&text, "%s %s is in the kernel both ways: tx by %s, rx by %s", r->version,
			r->suite, mover_name[r->mover[TX]], mover_name[r->mover[RX]]) < 0 ?
		       NULL :
		       text;
}

static const char *place(const struct tlsfd_report *r, enum way way)
{
	return r->mover[way] ? "in the kernel" : "in user space";
}

static char *refusal_sentence(const struct tlsfd_report *r, const struct refusal *no)
{
	/* the direction that the reason is about, unless it is about both */
	bool both = r->no[RX].why == r->no[TX].why;
	enum way way = no == &r->no[RX] ? RX : TX;
	char *text;

	return asprintf(&text, "%s %s: tx %s, rx %s, because %s%s%s%s%s%s", r->version, r->suite,
			place(r, TX), place(r, RX), both ? "" : way_name[way], both ? "" : ": ",
			why_describe(no->why)->sentence, no->err ? " (" : "",
			no->err ? strerrordesc_np(no->err) : "", no->err ? ")" : "") < 0 ?
		       NULL :
		       text;
}

/* Made when first asked for: few ask, and it is the largest part of a report. */
const char *tlsfd_report_sentence(const struct tlsfd_report *report)
{
	struct tlsfd_report *r = (struct tlsfd_report *)report;
	const struct refusal *cause;
	char *there, *made;

	if (!r)
		return "no report: memory is short or an argument is wrong";
	cause = report_cause(r->no);
	there = __atomic_load_n(&r->sentence, __ATOMIC_ACQUIRE);
	if (there)
		return there;
	made = cause->why ? refusal_sentence(r, cause) : success_sentence(r);
	if (!made)
		return "memory is short";
	if (__atomic_compare_exchange_n(&r->sentence, &there, made, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		return made;
	free(made); /* another thread was faster */
	return there;
}

const char *tlsfd_report_remedy(const struct tlsfd_report *r)
{
	return r ? why_describe(report_cause(r->no)->why)->remedy : NULL;
}

/* ---- facts ---- */

bool tlsfd_report_kernel(const struct tlsfd_report *r, enum tlsfd_direction dir)
{
	return tlsfd_report_mover(r, dir) != TLSFD_MOVER_NONE;
}

enum tlsfd_mover tlsfd_report_mover(const struct tlsfd_report *r, enum tlsfd_direction dir)
{
	return r ? r->mover[way_of(dir)] : TLSFD_MOVER_NONE;
}

enum tlsfd_why tlsfd_report_why(const struct tlsfd_report *r, enum tlsfd_direction dir)
{
	return r ? r->no[way_of(dir)].why : TLSFD_WHY_NONE;
}

int tlsfd_report_errno(const struct tlsfd_report *r, enum tlsfd_direction dir)
{
	return r ? r->no[way_of(dir)].err : 0;
}

void tlsfd_report_free(struct tlsfd_report *r)
{
	if (!r)
		return;
	report_clear(r);
	free(r);
}
