/* SPDX-License-Identifier: MIT */
#include "everywhere.h"

const char *const tls13_suites[] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
				     "TLS_CHACHA20_POLY1305_SHA256", NULL };

const struct setting *setting_of(void **state)
{
	return *state;
}

static bool is_for(const struct everywhere *e, const struct setting *s)
{
	return e->versions & (s->v.tls13 ? V13 : V12) && e->places >> s->place & 1 &&
	       place_expected(s->place);
}

static size_t length(const char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

void everywhere_add(const struct everywhere *tests, size_t n, const char *const *suites)
{
	size_t count = length(suites);

	for (size_t i = 0; i < n; i++)
		for (unsigned kind = 0; kind < 4 * PLACES; kind++) {
			struct setting s = { { .tls13 = kind & 1, .server = kind & 2 },
					     (enum place)(kind / 4) };

			if (!is_for(&tests[i], &s))
				continue;
			if (count && s.v.tls13)
				s.v.suite = suites[(kind / 2 + i) % count];
			suite_add(tests[i].test, &s, sizeof(s), "%s: TLS 1.%d %s %s", tests[i].name,
				  s.v.tls13 ? 3 : 2, s.v.server ? "server" : "client",
				  place_names[s.place]);
		}
}
