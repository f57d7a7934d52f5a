/* SPDX-License-Identifier: MIT */
#include "doctor.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"

static bool both_ways(const struct matrix_row *row)
{
	return row->tlsfd.tx == PROBE_YES && row->tlsfd.rx == PROBE_YES;
}

/* What the verdict is about: the two ciphers that everyone negotiates. */
static bool decides(const struct matrix_row *row)
{
	return !strcmp(row->cipher, "TLS_AES_128_GCM_SHA256") ||
	       !strcmp(row->cipher, "TLS_AES_256_GCM_SHA384");
}

static const struct matrix_row *first_failing(const struct matrix_row rows[MATRIX_ROWS])
{
	for (int i = 0; i < MATRIX_ROWS; i++)
		if (decides(&rows[i]) && !both_ways(&rows[i]))
			return &rows[i];
	return NULL;
}

/* What needs the ULP can't be asked without it. */
static void ask_options(struct diagnosis *d)
{
	struct probe_answer unasked = { PROBE_UNKNOWN, d->ulp.answer.error };
	bool can_ask = d->ulp.answer.verdict == PROBE_YES;

	d->probes[PROBE_ULP] = d->ulp.answer;
	for (int id = PROBE_ULP + 1; id < N_PROBES; id++)
		d->probes[id] = can_ask ? probe_kernel(id) : unasked;
}

/* The ULP goes first: asking for it can load the module for all the others. */
static void examine(struct diagnosis *d)
{
	uname(&d->kernel);
	ask_ulp(&d->ulp);
	ask_options(d);
	ask_matrix(d->matrix, &d->ulp);
	ask_openssl(&d->openssl, d->matrix);
	d->n_nics = ask_nics(d->nics);
	d->n_advisories = ask_advisories(&d->kernel, d->advisories);
	d->n_counters = ask_counters(d->counters);
	d->failing = first_failing(d->matrix);
}

int doctor(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static struct diagnosis d;
	int (*print)(const struct diagnosis *) = print_table;
	int c, index = -1;

	while ((c = getopt_long(argc, argv, "jh", options, &index)) != -1) {
		if (index >= 0 && is_abbreviated(argv, options[index].name)) {
			fprintf(stderr, "tlsfd doctor: no option '%s'\n", argv[optind - 1]);
			return EXIT_USAGE;
		}
		if (c == 'h')
			return verb_help("doctor");
		if (c != 'j')
			return EXIT_USAGE;
		print = print_json;
		index = -1;
	}
	if (optind < argc) {
		fprintf(stderr, "tlsfd doctor: takes no argument, got '%s'\n", argv[optind]);
		return EXIT_USAGE;
	}
	examine(&d);
	if (print(&d) < 0) {
		fputs("tlsfd doctor: out of memory\n", stderr);
		return EXIT_BROKEN;
	}
	return finish_output(d.failing ? EXIT_NO : EXIT_OK);
}
