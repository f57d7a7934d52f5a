/*
 * Every reason of <tlsfd.h> has words of its own.
 *
 * SPDX-License-Identifier: MIT
 */
#include "why.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "suite.h"

enum { MAX = 100 };

static struct {
	char constant[48];
	int value;
} reasons[MAX];
static size_t n_reasons;

/* The constants as the header has them, so that none can be forgotten here. */
static int read_header(void)
{
	FILE *f = fopen(PUBLIC_HEADER, "re");
	char line[256];

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f) && n_reasons < MAX)
		if (sscanf(line, " %47[A-Z0-9_] = %d", reasons[n_reasons].constant,
			   &reasons[n_reasons].value) == 2 &&
		    strncmp(reasons[n_reasons].constant, "TLSFD_WHY_", 10) == 0)
			n_reasons++;
	fclose(f);
	return n_reasons ? 0 : -1;
}

static const struct why *describe(size_t i)
{
	return why_describe((enum tlsfd_why)reasons[i].value);
}

static void header_was_read(void **state)
{
	(void)state;
	assert_true(n_reasons >= 30 && n_reasons <= MAX - 1);
	assert_string_equal(reasons[0].constant, "TLSFD_WHY_NONE");
}

static void each_has_its_own_entry(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_reasons; i++) {
		if (describe(i)->why != (enum tlsfd_why)reasons[i].value)
			fail_msg("%s has no entry", reasons[i].constant);
		assert_ptr_equal(tlsfd_why_name((enum tlsfd_why)reasons[i].value), describe(i)->name);
	}
}

/* "record-read" for TLSFD_WHY_RECORD_READ: the names are promised to users. */
static void name_follows_the_constant(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_reasons; i++) {
		char expected[48];
		size_t k = 0;

		for (const char *p = reasons[i].constant + strlen("TLSFD_WHY_"); *p; p++)
			expected[k++] = *p == '_' ? '-' : (char)tolower((unsigned char)*p);
		expected[k] = '\0';
		/* the one that is longer than its constant */
		if (reasons[i].value == TLSFD_WHY_MAX_FRAGMENT)
			strcat(expected, "-length");
		assert_string_equal(describe(i)->name, expected);
	}
}

static void names_numbers_sentences_are_unique(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_reasons; i++) {
		for (size_t k = 0; k < i; k++) {
			assert_int_not_equal(reasons[i].value, reasons[k].value);
			assert_string_not_equal(describe(i)->name, describe(k)->name);
			assert_string_not_equal(describe(i)->sentence, describe(k)->sentence);
		}
	}
}

/* A clause that follows "because"; a remedy that stands by itself. */
static void words_are_there(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_reasons; i++) {
		const struct why *w = describe(i);
		size_t n = strlen(w->sentence);

		assert_true(n >= 8 && n <= 200);
		assert_int_not_equal(w->sentence[n - 1], '.');
		if (w->remedy)
			assert_true(strlen(w->remedy) >= 5 && strlen(w->remedy) <= 250);
		assert_true(w->err <= 0);
	}
}

/* Every real refusal ends a call with an error: its own, or the kernel's. */
static void refusals_have_an_error(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_reasons; i++) {
		int value = reasons[i].value;
		bool from_kernel = value == TLSFD_WHY_SOCKET || value == TLSFD_WHY_FORBIDDEN;

		if (value >= TLSFD_WHY_HANDSHAKE && !from_kernel)
			assert_true(describe(i)->err < 0);
		if (value >= TLSFD_WHY_HANDSHAKE && value != TLSFD_WHY_SOCKET)
			assert_non_null(describe(i)->remedy);
	}
}

static void unknown_number_is_harmless(void **state)
{
	(void)state;
	assert_string_equal(tlsfd_why_name((enum tlsfd_why)9999), "none");
}

int main(int argc, char **argv)
{
	if (read_header() < 0) {
		printf("Bail out! cannot read %s\n", PUBLIC_HEADER);
		return 1;
	}
	suite_add(header_was_read, NULL, 0, "header was read");
	suite_add(each_has_its_own_entry, NULL, 0, "each has its own entry");
	suite_add(name_follows_the_constant, NULL, 0, "name follows the constant");
	suite_add(names_numbers_sentences_are_unique, NULL, 0, "names numbers sentences are unique");
	suite_add(words_are_there, NULL, 0, "words are there");
	suite_add(refusals_have_an_error, NULL, 0, "refusals have an error");
	suite_add(unknown_number_is_harmless, NULL, 0, "unknown number is harmless");
	return suite_run(argc, argv);
}
