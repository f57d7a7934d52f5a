/* SPDX-License-Identifier: MIT */
#include "wishes.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { DAY = 86400, NAME_MAX_SIZE = 255 };

/* ---- setters ---- */

static int set_version(struct settings *s, const struct setting *setting, const char *value)
{
	enum tlsfd_version version;

	if (!strcmp(value, "1.2"))
		version = TLSFD_TLS_1_2;
	else if (!strcmp(value, "1.3"))
		version = TLSFD_TLS_1_3;
	else
		return settings_fail(s, -EINVAL, "%s: 1.2 or 1.3 is wanted, not '%s'",
				     setting->name, value);
	*(enum tlsfd_version *)(void *)((char *)s->target + setting->offset) = version;
	return 0;
}

/* As tlsfd_connect takes it. */
static int set_name(struct settings *s, const struct setting *setting, const char *value)
{
	if (!*value || *value == '.' || strchr(value, '*') || strlen(value) > NAME_MAX_SIZE)
		return settings_fail(s, -EINVAL, "%s: '%s' is no name of a server", setting->name,
				     value);
	return set_text(s, setting, value);
}

static int set_starttls(struct settings *s, const struct setting *setting, const char *value)
{
	struct wishes *w = s->target;

	w->starttls = starttls_protocol(value);
	return w->starttls ?
		       0 :
		       settings_fail(s, -EINVAL,
				     "%s: smtp, imap, pop3, postgres or xmpp is wanted, not '%s'",
				     setting->name, value);
}

/* 0 is none: 24 days are the most that poll(2) can wait for. */
static int set_timeout(struct settings *s, const struct setting *setting, const char *value)
{
	struct wishes *w = s->target;
	int err = set_seconds(s, setting, value);

	if (!err && !w->timeout_ms)
		w->timeout_ms = INT_MAX;
	return err;
}

/* ---- the table ---- */

#define AT(member) .offset = offsetof(struct wishes, member)

const struct setting wishes_table[] = {
	{ "listen", "ADDR", "take plain connections here, instead of stdin and stdout", set_texts,
	  AT(listen) },
	{ "ca", "FILE", "trust these authorities, not the system's", set_text, AT(ca) },
	{ "crl", "FILE", "revocation lists", set_text, AT(crl) },
	{ "verify-depth", "N", "intermediate authorities of the server's certificate (100)",
	  set_number, AT(verify_depth), 0, 100 },
	{ "cert", "FILE", "our certificate and its chain, if we are asked for one", set_text,
	  AT(certificate) },
	{ "key", "FILE", "its key (default: in the same file)", set_text, AT(key) },
	{ "name", "NAME", "the server's name (default: HOST)", set_name, AT(name) },
	{ "alpn", "LIST", "application protocols: h2,http/1.1", set_text, AT(alpn) },
	{ "starttls", "PROTO", "smtp, imap, pop3, postgres or xmpp", set_starttls, AT(starttls) },
	{ "min-version", "VERSION", "1.2 (the default) or 1.3", set_version, AT(min) },
	{ "max-version", "VERSION", "1.2 or 1.3 (the default)", set_version, AT(max) },
	{ "ciphers", "LIST", "names of OpenSSL or IANA, separated by colons", set_text,
	  AT(ciphers) },
	{ "groups", "LIST", "groups of the key exchange, separated by colons", set_text,
	  AT(groups) },
	{ "session", "FILE", "resume the session in it, and keep the next one there", set_text,
	  AT(session) },
	{ "no-resumption", NULL, "with --listen: no sessions are kept and resumed", set_switch,
	  AT(no_resumption) },
	{ "require-kernel", NULL, "kernel TLS both ways, or no connection", set_switch,
	  AT(require_kernel) },
	{ "insecure-no-verify", NULL, "take any certificate", set_switch, AT(insecure_no_verify) },
	{ "ipv4", NULL, "IPv4 only", set_switch, AT(only_ipv4), .letter = '4' },
	{ "ipv6", NULL, "IPv6 only", set_switch, AT(only_ipv6), .letter = '6' },
	{ "no-half-close", NULL, "the end of stdin is not told before the server's end", set_switch,
	  AT(no_half_close) },
	{ "timeout", "SECONDS", "to resolve, connect and shake hands; 0: no limit (30)",
	  set_timeout, AT(timeout_ms), .max = DAY },
	{ "idle-timeout", "SECONDS", "without a byte; 0: no limit (0)", set_seconds, AT(idle_ms),
	  .max = DAY },
	{ "grace", "SECONDS", "with --listen: for open connections at the end (30)", set_seconds,
	  AT(grace_ms), .max = DAY },
	{ "max-connections", "N", "with --listen (1000)", set_number, AT(max_connections), 1,
	  1000000 },
	{ "config", "FILE", "options from a file, a line for each", set_config, .max = 0 },
	{ "verbose", NULL, "tell about the connection on stderr", set_switch, AT(verbose),
	  .letter = 'v' },
	{ .name = NULL },
};

void wishes_start(struct wishes *w)
{
	*w = (struct wishes){ .min = TLSFD_TLS_1_2,
			      .max = TLSFD_TLS_1_3,
			      .verify_depth = 100,
			      .timeout_ms = 30000,
			      .grace_ms = 30000,
			      .max_connections = 1000 };
}

void wishes_free(struct wishes *w)
{
	settings_free(wishes_table, w);
	free(w->name);
	w->name = NULL;
}

/* A file may be for connections of both kinds. */
static int check_listen(struct settings *s, const struct wishes *w)
{
	static const char *const with_listen[] = { "grace", "max-connections", "no-resumption" };

	for (size_t i = 0; i < sizeof(with_listen) / sizeof(*with_listen); i++)
		if (!w->listen.count && settings_said(s, with_listen[i]))
			return settings_fail(s, -EINVAL, "--%s needs --listen", with_listen[i]);
	return 0;
}

int wishes_check(struct settings *s, const struct wishes *w)
{
	if (w->min > w->max)
		return settings_fail(s, -EINVAL, "--min-version is above --max-version");
	if (w->only_ipv4 && w->only_ipv6)
		return settings_fail(s, -EINVAL, "--ipv4 and --ipv6 exclude each other");
	if (w->session && (w->listen.count || w->no_resumption))
		return settings_fail(s, -EINVAL, "--session and --%s exclude each other",
				     w->no_resumption ? "no-resumption" : "listen");
	if (w->key && !w->certificate)
		return settings_fail(s, -EINVAL, "--key needs --cert");
	return check_listen(s, w);
}

/* ---- the config ---- */

static int fill(struct tlsfd_config *config, const struct wishes *w)
{
	int err = tlsfd_config_set_versions(config, w->min, w->max);

	if (!err && w->ca)
		err = tlsfd_config_set_ca_file(config, w->ca);
	if (!err && w->crl)
		err = tlsfd_config_set_crl_file(config, w->crl);
	if (!err)
		err = tlsfd_config_set_verify_depth(config, w->verify_depth);
	if (!err && w->certificate)
		err = tlsfd_config_set_certificate_file(config, w->certificate,
							w->key ? w->key : w->certificate);
	if (!err && w->alpn)
		err = tlsfd_config_set_alpn(config, w->alpn);
	if (!err && w->ciphers)
		err = tlsfd_config_set_ciphers(config, w->ciphers);
	if (!err && w->groups)
		err = tlsfd_config_set_groups(config, w->groups);
	if (!err)
		err = tlsfd_config_set_kernel(config, w->require_kernel ? TLSFD_KERNEL_REQUIRE :
									  TLSFD_KERNEL_IF_THERE);
	return err;
}

int wishes_config(const struct wishes *w, struct tlsfd_config **config)
{
	int err = tlsfd_config_new(config);

	if (!err)
		err = fill(*config, w);
	if (!err && w->insecure_no_verify) {
		tlsfd_config_insecure_no_verify_chain(*config);
		tlsfd_config_insecure_no_verify_name(*config);
	}
	return err;
}
