/* SPDX-License-Identifier: MIT */
#include "report.h"

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

const struct refusal *report_cause(const struct refusal no[WAYS])
{
	if (is_cause(&no[RX]))
		return &no[RX];
	return is_cause(&no[TX]) || !no[RX].why ? &no[TX] : &no[RX];
}

static const char *suite(const SSL *ssl)
{
	const SSL_CIPHER *c = SSL_get_current_cipher(ssl);

	return c ? SSL_CIPHER_get_name(c) : "no cipher";
}

static void write_success(struct tlsfd_report *r, const SSL *ssl)
{
	snprintf(r->sentence, sizeof(r->sentence),
		 "%s %s is in the kernel both ways: tx by %s, rx by %s", SSL_get_version(ssl),
		 suite(ssl), mover_name[r->mover[TX]], mover_name[r->mover[RX]]);
}

static const char *place(const struct tlsfd_report *r, enum way way)
{
	return r->mover[way] ? "in the kernel" : "in user space";
}

static void write_refusal(struct tlsfd_report *r, const SSL *ssl, const struct refusal *no)
{
	const struct why *why = why_describe(no->why);
	/* the direction that the reason is about, unless it is about both */
	enum way way = no == &r->no[RX] ? RX : TX;
	bool both = r->no[RX].why == r->no[TX].why;
	int n = snprintf(r->sentence, sizeof(r->sentence), "%s %s: tx %s, rx %s, because %s%s%s",
			 SSL_get_version(ssl), suite(ssl), place(r, TX), place(r, RX),
			 both ? "" : way_name[way], both ? "" : ": ", why->sentence);

	if (no->err && n > 0 && (size_t)n < sizeof(r->sentence))
		snprintf(r->sentence + n, sizeof(r->sentence) - (size_t)n, " (%s)",
			 strerrordesc_np(no->err));
	r->remedy = why->remedy;
}

void report_write(struct tlsfd_report *r, const struct plan *plan)
{
	const struct refusal *cause;

	memcpy(r->mover, plan->mover, sizeof(r->mover));
	memcpy(r->no, plan->no, sizeof(r->no));
	cause = report_cause(r->no);
	if (cause->why)
		write_refusal(r, plan->ssl, cause);
	else
		write_success(r, plan->ssl);
}

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

const char *tlsfd_report_sentence(const struct tlsfd_report *r)
{
	return r ? r->sentence : "no report: memory is short or an argument is wrong";
}

const char *tlsfd_report_remedy(const struct tlsfd_report *r)
{
	return r ? r->remedy : NULL;
}

void tlsfd_report_free(struct tlsfd_report *r)
{
	free(r);
}
