/*
 * What the command line and the config file of tlsfd connect ask for.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_WISHES_H
#define TLSFD_WISHES_H

#include <stdbool.h>
#include <tlsfd.h>

#include "settings.h"
#include "starttls.h"

struct wishes {
	struct texts listen; /* none: stdin and stdout */
	char *ca, *crl, *certificate, *key;
	char *name, *alpn, *ciphers, *groups;
	char *session; /* a file */
	enum tlsfd_version min, max;
	const struct protocol *starttls;
	bool only_ipv4, only_ipv6;
	bool insecure_no_verify, require_kernel, no_half_close, no_resumption, verbose;
	unsigned timeout_ms, idle_ms, grace_ms; /* idle_ms 0: no limit */
	unsigned verify_depth, max_connections;
};

extern const struct setting wishes_table[];

/* The defaults. */
void wishes_start(struct wishes *w);
/* The wishes that can't be had together. 0, or -EINVAL with settings_fail's sentence. */
int wishes_check(struct settings *settings, const struct wishes *w);
void wishes_free(struct wishes *w);

/* 0, or a negative errno with *config kept for tlsfd_config_error, or NULL. */
int wishes_config(const struct wishes *w, struct tlsfd_config **config);

#endif
