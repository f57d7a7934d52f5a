/* SPDX-License-Identifier: MIT */
#include "suite.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct CMUnitTest *tests;
static size_t count;
static unsigned slice_step = 10;

void suite_slice(unsigned step)
{
	slice_step = step;
}

static bool is_set(const char *name)
{
	const char *value = getenv(name);

	return value && strcmp(value, "1") == 0;
}

static void *or_die(void *p)
{
	if (!p)
		abort();
	return p;
}

/* FNV-1a. A slice by the names' hash has some of everything, whatever the tables' sizes. */
static uint32_t hash(const char *text)
{
	uint32_t h = 2166136261;

	while (*text)
		h = (h ^ (uint8_t)*text++) * 16777619;
	return h >> 8; /* the low bits are poor */
}

void suite_add(CMUnitTestFunction test, const void *state, size_t size, const char *name, ...)
{
	struct CMUnitTest *t;
	va_list args;
	char *text;

	va_start(args, name);
	if (vasprintf(&text, name, args) < 0)
		abort();
	va_end(args);
	if (is_set("TLSFD_SLICE") && hash(text) % slice_step) {
		free(text);
		return;
	}
	tests = or_die(realloc(tests, (count + 1) * sizeof(*tests)));
	t = &tests[count++];
	*t = (struct CMUnitTest){ .test_func = test };
	t->name = text;
	if (size)
		t->initial_state = memcpy(or_die(malloc(size)), state, size);
}

/* What nobody can do anything about in this place. */
static const char *const impossible[] = {
	"this kernel has no io_uring",
	"this OpenSSL has no QUIC",
	"this kernel has no MPTCP",
	"this kernel can't change keys",
	"a sanitizer has memory of its own",
};

static bool is_impossible(const char *reason)
{
	for (size_t i = 0; i < LENGTH(impossible); i++)
		if (strcmp(reason, impossible[i]) == 0)
			return true;
	return false;
}

void skip_because(const char *reason)
{
	printf("# skipped: %s\n", reason);
	fflush(stdout);
	if (is_set("TLSFD_NO_SKIP") && !is_impossible(reason))
		fail_msg("may not be skipped: %s", reason);
	skip();
	abort();
}

static void on_alarm(int sig)
{
	static const char text[] = "\nBail out! the program's time is over\n";

	(void)sig;
	(void)!write(STDOUT_FILENO, text, sizeof(text) - 1);
	_exit(1);
}

static void set_limits(void)
{
	const char *seconds = getenv("TLSFD_TEST_SECONDS");

	signal(SIGALRM, on_alarm);
	signal(SIGPIPE, SIG_IGN);
	alarm(seconds ? (unsigned)atoi(seconds) : 240);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

static void free_tests(void)
{
	for (size_t i = 0; i < count; i++) {
		free((char *)tests[i].name);
		free(tests[i].initial_state);
	}
	free(tests);
}

static void set_filter(const char *substring)
{
	static char filter[256];

	snprintf(filter, sizeof(filter), "*%s*", substring);
	cmocka_set_test_filter(filter);
}

int suite_run(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');
	int failed;

	set_limits();
	if (argc > 1)
		set_filter(argv[1]);
	/* by name: the numbers differ between cmocka 1 and 2, which share a soname */
	setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
	failed = _cmocka_run_group_tests(slash ? slash + 1 : argv[0], tests, count, NULL, NULL);
	free_tests();
	return failed != 0;
}
