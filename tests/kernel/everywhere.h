/*
 * Tests of a connection against a raw peer that are made for both versions of TLS, as client
 * and as server, in every place.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EVERYWHERE_H
#define EVERYWHERE_H

#include "place.h"
#include "suite.h"

/* What *state of such a test points to, first of all. */
struct setting {
	struct raw_variant v;
	enum place place;
};

const struct setting *setting_of(void **state);

enum { V12 = 1, V13 = 2, BOTH = V12 | V13 };
enum { ANYWHERE = (1 << PLACES) - 1, HANDED_OVER = (1 << SSL_PLACES) - 1 };

struct everywhere {
	CMUnitTestFunction test;
	const char *name;
	unsigned versions;
	unsigned places; /* 1 << place */
};

/* Cipher suites of TLS 1.3, ended by NULL. */
extern const char *const tls13_suites[];

/* Adds each test for all that it is for. With suites, TLS 1.3 takes them in turn, else
 * AES-128-GCM. */
void everywhere_add(const struct everywhere *tests, size_t n, const char *const *suites);

#endif
