/* SPDX-License-Identifier: MIT */
#include "service.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/un.h>

#include "listener.h"
#include "target.h"

/* ---- words ---- */

struct word {
	const char *text;
	int value;
};

static int set_word(struct settings *s, const struct setting *setting, const char *value,
		    const struct word *words, int *member)
{
	char known[128] = "";

	for (; words->text; words++) {
		if (!strcmp(words->text, value)) {
			*member = words->value;
			return 0;
		}
		strncat(known, *known ? ", " : "", sizeof(known) - strlen(known) - 1);
		strncat(known, words->text, sizeof(known) - strlen(known) - 1);
	}
	return settings_fail(s, -EINVAL, "%s: one of %s is wanted, not '%s'", setting->name, known,
			     value);
}

static int set_client_auth(struct settings *s, const struct setting *setting, const char *value)
{
	static const struct word words[] = { { "none", TLSFD_CLIENT_AUTH_NONE },
					     { "optional", TLSFD_CLIENT_AUTH_OPTIONAL },
					     { "required", TLSFD_CLIENT_AUTH_REQUIRED },
					     { 0 } };
	int got = 0, err = set_word(s, setting, value, words, &got);

	if (!err)
		((struct service *)s->target)->client_auth = (enum tlsfd_client_auth)got;
	return err;
}

static int set_version(struct settings *s, const struct setting *setting, const char *value)
{
	static const struct word words[] = { { "1.2", TLSFD_TLS_1_2 },
					     { "1.3", TLSFD_TLS_1_3 },
					     { 0 } };
	int got = 0, err = set_word(s, setting, value, words, &got);

	if (!err)
		*(enum tlsfd_version *)((char *)s->target + setting->offset) =
			(enum tlsfd_version)got;
	return err;
}

static int set_unknown_name(struct settings *s, const struct setting *setting, const char *value)
{
	static const struct word words[] = { { "default", false }, { "refuse", true }, { 0 } };
	int got = 0, err = set_word(s, setting, value, words, &got);

	if (!err)
		((struct service *)s->target)->refuse_unknown = got;
	return err;
}

/* ---- the table ---- */

#define AT(member) .offset = offsetof(struct service, member)
#define DAYS(n)	   ((n)*24 * 3600)

const struct setting service_settings[] = {
	{ "listen", "ADDR", "127.0.0.1:8443, [::1]:443, :443 (all); repeatable", set_texts,
	  AT(listen) },
	{ "forward", "TARGET", "HOST:PORT or unix:PATH; repeatable", set_texts, AT(forward) },
	{ "cert", "FILE", "certificate and its chain, PEM; repeatable, for more names", set_texts,
	  AT(cert) },
	{ "key", "FILE", "its key, in the same order; default: in the certificate's file",
	  set_texts, AT(key) },
	{ "ocsp", "FILE", "OCSP response, DER, for the certificate that it names; repeatable",
	  set_texts, AT(ocsp) },
	{ "cert-dir", "DIR", "all *.pem and *.crt, each with *.key or the key in it, and *.ocsp",
	  set_text, AT(cert_dir) },
	{ "self-signed", NULL, "a certificate made now, for trying things out", set_switch,
	  AT(self_signed) },
	{ "unknown-name", "WORD", "asked for: default (take the first certificate) or refuse",
	  set_unknown_name, AT(refuse_unknown) },
	{ "client-ca", "FILE", "who signs the certificates of clients", set_text, AT(client_ca) },
	{ "client-auth", "WORD", "none, optional, required (default with --client-ca)",
	  set_client_auth, AT(client_auth) },
	{ "crl", "FILE", "revoked certificates of clients", set_text, AT(crl) },
	{ "verify-depth", "N", "intermediate authorities of a client's certificate (100)",
	  set_number, AT(verify_depth), 0, 100 },
	{ "alpn", "LIST", "application protocols: h2,http/1.1", set_text, AT(alpn) },
	{ "min-version", "VERSION", "1.2 (default) or 1.3", set_version, AT(min_version) },
	{ "max-version", "VERSION", "1.2 or 1.3 (default)", set_version, AT(max_version) },
	{ "ciphers", "LIST", "default: of Mozilla's \"intermediate\" what this kernel has",
	  set_text, AT(ciphers) },
	{ "groups", "LIST", "for the key exchange (X25519, P-256, P-384)", set_text, AT(groups) },
	{ "require-kernel", NULL, "refuse connections that would stay in user space", set_switch,
	  AT(require_kernel) },
	{ "workers", "N", "processes; default: one per CPU", set_number, AT(workers), 1, 1024 },
	{ "max-connections", "N", "at once; more wait to be accepted", set_number,
	  AT(max_connections), 1, INT_MAX },
	{ "max-handshakes", "N", "at once; more push the oldest out (4096)", set_number,
	  AT(max_handshakes), 1, INT_MAX },
	{ "handshake-timeout", "SECONDS", "default: 10; 0: none", set_seconds, AT(handshake_ms), 0,
	  DAYS(1) },
	{ "idle-timeout", "SECONDS", "default: 600; 0: none", set_seconds, AT(idle_ms), 0,
	  DAYS(30) },
	{ "grace", "SECONDS", "for connections after SIGTERM (30)", set_seconds, AT(grace_ms), 0,
	  DAYS(1) },
	{ "metrics", "ADDR", "GET /metrics answers there, for Prometheus", set_text, AT(metrics) },
	{ "ticket-renewal", "SECONDS", "a new key for session tickets (14400: 4 hours)",
	  set_seconds, AT(ticket_renewal_ms), 1, DAYS(1) },
	{ "user", "NAME", "of the workers", set_text, AT(user) },
	{ "group", "NAME", "of the workers; default: the user's", set_text, AT(group) },
	{ "self-check", NULL, "each process tries what it must not be able to do", set_switch,
	  AT(self_check) },
	{ "config", "FILE", "these settings, 'name value' a line", set_config, AT(config) },
	{ "check-config", NULL, "say whether all this is right, and end", set_switch,
	  AT(check_config) },
	{ 0 },
};

/* ---- addresses ---- */

static int check_listen(struct settings *settings, const char *name, const char *text)
{
	int err = text ? listening_check(text) : 0;

	return err ? settings_fail(settings, err,
				   "%s %s: ADDRESS:PORT is wanted, the address in digits", name,
				   text) :
		     0;
}

/* Confined as they are, data processes reach no abstract socket. */
static const char *wrong_path(const char *path)
{
	const struct sockaddr_un *address = NULL;

	if (!*path)
		return "unix:PATH is wanted";
	if (*path == '@')
		return "abstract sockets can't be reached; if it is a file: unix:./@...";
	return strlen(path) < sizeof(address->sun_path) ?
		       NULL :
		       "the path of a socket has 107 bytes at most";
}

static const char *wrong_target(const char *text)
{
	const char *why = NULL;
	struct target target;

	if (!strncmp(text, "unix:", 5))
		return wrong_path(text + 5);
	if (target_parse(&target, text) || !target.host)
		why = "HOST:PORT or unix:PATH is wanted";
	else if (!target.port[strspn(target.port, "0")])
		why = "nobody can be reached at port 0";
	target_free(&target);
	return why;
}

static int check_addresses(const struct service *s, struct settings *settings)
{
	int err = check_listen(settings, "metrics", s->metrics);

	for (size_t i = 0; i < s->listen.count && !err; i++)
		err = check_listen(settings, "listen", s->listen.at[i]);
	for (size_t i = 0; i < s->forward.count && !err; i++) {
		const char *why = wrong_target(s->forward.at[i]);

		if (why)
			err = settings_fail(settings, -EINVAL, "forward %s: %s", s->forward.at[i],
					    why);
	}
	return err;
}

/* ---- reading ---- */

static int check_certificates(const struct service *s, struct settings *settings)
{
	bool files = s->cert.count || s->cert_dir;

	if (!files && !s->self_signed)
		return settings_fail(settings, -EINVAL,
				     "a certificate is needed: --cert and --key, --cert-dir, or "
				     "--self-signed for a try");
	if (s->self_signed && (files || s->refuse_unknown))
		return settings_fail(settings, -EINVAL, "--self-signed and %s exclude each other",
				     s->cert.count ? "--cert" :
				     s->cert_dir   ? "--cert-dir" :
						     "--unknown-name refuse");
	if (s->key.count && s->key.count != s->cert.count)
		return settings_fail(settings, -EINVAL, "there are %zu --cert but %zu --key",
				     s->cert.count, s->key.count);
	return 0;
}

enum { UNSAID = -1 };

/* Each would be without effect, and who gave it thinks that clients are verified. */
static int check_trust(const struct service *s, struct settings *settings)
{
	const char *alone = s->client_auth != TLSFD_CLIENT_AUTH_NONE ? "client-auth" :
			    s->crl				     ? "crl" :
			    s->verify_depth != (unsigned)UNSAID	     ? "verify-depth" :
								       NULL;

	if (!s->client_ca && alone)
		return settings_fail(settings, -EINVAL, "--%s needs --client-ca FILE", alone);
	return 0;
}

static int check(const struct service *s, struct settings *settings)
{
	int err;

	if (!s->listen.count && !s->check_config)
		return settings_fail(settings, -EINVAL, "--listen ADDR is needed");
	if (!s->forward.count)
		return settings_fail(settings, -EINVAL, "--forward HOST:PORT is needed");
	err = check_certificates(s, settings);
	if (!err)
		err = check_trust(s, settings);
	if (err)
		return err;
	if (s->min_version > s->max_version)
		return settings_fail(settings, -EINVAL, "--min-version is above --max-version");
	return check_addresses(s, settings);
}

int service_read(struct service *service, struct settings *settings, int argc, char **argv)
{
	int err;

	*service = (struct service){
		.min_version = TLSFD_TLS_1_2,
		.max_version = TLSFD_TLS_1_3,
		.client_auth = (enum tlsfd_client_auth)UNSAID,
		.verify_depth = (unsigned)UNSAID,
		.max_handshakes = 4096,
		.handshake_ms = 10000,
		.idle_ms = 600000,
		.grace_ms = 30000,
		.ticket_renewal_ms = 4 * 3600000,
	};
	*settings =
		(struct settings){ .table = service_settings, .target = service, .again = true };
	err = settings_read(settings, argc, argv);
	if (settings->help)
		return 0;
	if (service->client_auth == (enum tlsfd_client_auth)UNSAID)
		service->client_auth =
			service->client_ca ? TLSFD_CLIENT_AUTH_REQUIRED : TLSFD_CLIENT_AUTH_NONE;
	if (!err && settings->operands < argc)
		err = settings_fail(settings, -EINVAL, "'%s' is one word too many",
				    argv[settings->operands]);
	if (!err)
		err = check(service, settings);
	if (service->verify_depth == (unsigned)UNSAID)
		service->verify_depth = 100;
	if (err)
		service_free(service);
	return err;
}

void service_free(struct service *service)
{
	settings_free(service_settings, service);
}

/* ---- comparing ---- */

static bool same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static bool same_texts(const struct texts *a, const struct texts *b)
{
	bool same = a->count == b->count;

	for (size_t i = 0; same && i < a->count; i++)
		same = !strcmp(a->at[i], b->at[i]);
	return same;
}

bool service_wants_restart(const struct service *old, const struct service *new)
{
	return !same_texts(&old->listen, &new->listen) || old->workers != new->workers ||
	       !same_text(old->user, new->user) || !same_text(old->group, new->group) ||
	       !same_text(old->metrics, new->metrics);
}
