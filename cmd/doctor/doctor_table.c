/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"

enum {
	WIDTH = 80,
	LABEL = 10, /* width of the left column */
	TEXT = 512,
};

static const char *word(enum probe_verdict v)
{
	static const char *const words[] = {
		[PROBE_UNKNOWN] = "?",
		[PROBE_NO] = "no",
		[PROBE_YES] = "yes",
	};

	return words[v];
}

/* Where the next word ends; `a command` is one word, to be copied in one piece. */
static int word_end(const char *text, int at)
{
	bool quoted = false;

	while (text[at] == ' ')
		at++;
	for (; text[at] && (quoted || text[at] != ' '); at++)
		quoted ^= text[at] == '`';
	return at;
}

/* The length of the next line of text: as many words as fit, at least one. */
static int fitting(const char *text, int room)
{
	int fit = word_end(text, 0);

	while (text[fit]) {
		int next = word_end(text, fit);

		if (next > room)
			break;
		fit = next;
	}
	return fit;
}

/* Text from column `indent` on, where the cursor is. */
static void wrap(int indent, const char *text)
{
	for (;;) {
		int n = fitting(text, WIDTH - indent);

		printf("%.*s\n", n, text);
		text += n;
		text += strspn(text, " ");
		if (!*text)
			return;
		printf("%*s", indent, "");
	}
}

__attribute__((format(printf, 2, 3))) static void item(const char *label, const char *format, ...)
{
	char text[TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("%-*s", LABEL, label);
	wrap(LABEL, text);
}

/* ---- the verdict ---- */

/* On a terminal what has to be done stands out in colour, too. */
static void print_remedy(const char *text)
{
	bool colour = isatty(STDOUT_FILENO);

	if (!text || !*text)
		return;
	fputs(colour ? "\n\033[1;33m" : "\n", stdout);
	item("   ==>", "%s", text);
	fputs(colour ? "\033[0m" : "", stdout);
}

/* TLS has its place in the kernel, but a cipher of the verdict does not move. */
static void print_failing(const struct matrix_row *row)
{
	char text[TEXT];

	if (row->tlsfd.tx == PROBE_UNKNOWN)
		snprintf(text, sizeof(text), "Not known: %s could not be tried (%s).", row->cipher,
			 row->why);
	else
		snprintf(text, sizeof(text), "Kernel TLS does not work here: %s (%s).", row->cipher,
			 row->why);
	wrap(0, text);
	print_remedy(row->remedy);
}

static void print_no_ulp(const struct ulp *ulp)
{
	char text[TEXT];

	snprintf(text, sizeof(text), "%s: %s.",
		 ulp->answer.verdict == PROBE_NO ? "No kernel TLS here" : "Not known",
		 ulp->sentence);
	wrap(0, text);
	print_remedy(ulp->remedy);
}

static void print_verdict(const struct diagnosis *d)
{
	if (d->ulp.sentence)
		print_no_ulp(&d->ulp);
	else if (d->failing)
		print_failing(d->failing);
	else
		puts("Kernel TLS works here with tlsfd: TLS 1.3 AES-GCM, both directions.");
	putchar('\n');
}

/* ---- the parts ---- */

static void print_kernel(const struct diagnosis *d)
{
	item("kernel", "%s, TLS: %s", d->kernel.release, word(d->ulp.answer.verdict));
	if (d->ulp.loaded_now)
		item("", "its module tls was loaded just now, by this question; to keep it: "
			 "`echo tls > /etc/modules-load.d/tls.conf`");
	item("options", "rekey %s, zero-copy sendfile %s, no-pad receive %s, max payload %s",
	     word(d->probes[PROBE_REKEY].verdict), word(d->probes[PROBE_ZEROCOPY_SENDFILE].verdict),
	     word(d->probes[PROBE_NO_PAD].verdict), word(d->probes[PROBE_MAX_PAYLOAD].verdict));
}

/* The case that people ask about: OpenSSL moves one direction and says nothing. */
static bool openssl_leaves_rx(const struct diagnosis *d)
{
	for (int i = 0; i < MATRIX_ROWS; i++)
		if (d->matrix[i].openssl.tx == PROBE_YES && d->matrix[i].openssl.rx == PROBE_NO &&
		    d->matrix[i].tlsfd.rx == PROBE_YES)
			return true;
	return false;
}

static void print_openssl(const struct diagnosis *d)
{
	item("openssl", "%s (built for %s), kernel TLS compiled in: %s", d->openssl.version,
	     d->openssl.headers, word(d->openssl.ktls_compiled));
	if (d->openssl.ktls_compiled == PROBE_NO)
		item("", "so SSL_OP_ENABLE_KTLS does nothing; tlsfd_handover does without");
	if (openssl_leaves_rx(d))
		item("", "by itself it leaves TLS 1.3 receive (rx) in user space, silently: "
			 "OpenSSL before 3.2 does; tlsfd_handover moves it");
}

static void print_matrix(const struct diagnosis *d)
{
	printf("\n%-41s%-13s%s\n", "in the kernel?", "OpenSSL", "tlsfd");
	printf("%-9s%-32s%-5s%-8s%-5s%-8s%s\n", "TLS", "cipher", "tx", "rx", "tx", "rx", "why");
	for (int i = 0; i < MATRIX_ROWS; i++) {
		const struct matrix_row *r = &d->matrix[i];

		printf("%-9s%-32s%-5s%-8s%-5s", r->tls, r->cipher, word(r->openssl.tx),
		       word(r->openssl.rx), word(r->tlsfd.tx));
		printf(r->why[0] ? "%-8s%s\n" : "%s%s\n", word(r->tlsfd.rx), r->why);
	}
	putchar('\n');
}

static void print_nics(const struct diagnosis *d)
{
	for (size_t i = 0; i < d->n_nics; i++) {
		const struct nic *nic = &d->nics[i];

		item(i ? "" : "hardware", "%s: tx %s, rx %s", nic->name, nic->tx ? nic->tx : "?",
		     nic->rx ? nic->rx : "?");
	}
	if (!d->n_nics)
		item("hardware", "no interface is up besides loopback");
}

static void print_advisories(const struct diagnosis *d)
{
	for (size_t i = 0; i < d->n_advisories; i++) {
		const struct advisory *a = &d->advisories[i];

		item(i ? "" : "reported", "%s: %s; fixed in %s", a->id, a->what, a->fixed);
	}
	if (d->n_advisories)
		item("", "(reported by version; your distribution may have fixed it)");
	else
		item("reported", "nothing grave for this version");
}

static void print_counters(const struct diagnosis *d)
{
	for (int i = 0; i < d->n_counters; i++) {
		bool right = i % 2;

		printf("%-*s%-20s%10llu%s", right ? 5 : LABEL, i ? "" : "counters",
		       d->counters[i].name, d->counters[i].value,
		       right || i + 1 == d->n_counters ? "\n" : "");
	}
	if (d->n_counters < 0)
		item("counters", "no /proc/net/tls_stat");
}

int print_table(const struct diagnosis *d)
{
	print_verdict(d);
	print_kernel(d);
	print_openssl(d);
	print_matrix(d);
	print_nics(d);
	print_advisories(d);
	print_counters(d);
	return 0;
}
