/*
 * A test program: tests added one by one with names of their own, TAP on stdout.
 *
 *	NAME [SUBSTRING]   runs the tests whose names contain SUBSTRING
 *	TLSFD_SLICE=1      about a tenth of the tests, for slow kernels
 *	TLSFD_NO_SKIP=1    a skip is a failure, unless nobody could do better
 *	TLSFD_TEST_SECONDS time limit of the program, default 240
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SUITE_H
#define SUITE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
/* after those */
#include <cmocka.h>

/* How long a test waits for what is to come: only what never comes takes so long. */
enum { PATIENCE_MS = 60000 };

/* state (size bytes, copied) is what *state of the test points to; NULL, 0: none. */
void suite_add(CMUnitTestFunction test, const void *state, size_t size, const char *name, ...)
	__attribute__((format(printf, 4, 5)));

/* Leaves out of a slice (TLSFD_SLICE=1) all tests added from now on but one in step. */
void suite_slice(unsigned step);

/* Runs what was added; what main returns. */
int suite_run(int argc, char **argv);

/* What this OpenSSL or this kernel can't do. Doesn't return. */
void skip_because(const char *reason);

/* Is this program built with AddressSanitizer or ThreadSanitizer? */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

#endif
