/* SPDX-License-Identifier: MIT */
#include "route.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cmd.h"
#include "tell.h"

static int read_wishes(struct settings *settings, int argc, char **argv)
{
	int err = settings_read(settings, argc, argv);

	if (!err && !settings->help)
		err = wishes_check(settings, settings->target);
	if (err)
		return tell(settings_status(err), NULL, settings->error);
	if (!settings->help && argc != settings->operands + 1)
		return tell(EXIT_USAGE, NULL,
			    argc > settings->operands ? "one HOST:PORT is wanted" :
							"HOST:PORT is missing");
	return EXIT_OK;
}

static int make_config(struct route *r)
{
	const struct wishes *w = &r->wishes;
	int err = wishes_config(w, &r->to.config);

	if (!err && !w->no_resumption && (w->listen.count || w->session)) {
		r->to.sessions = &r->sessions;
		err = tlsfd_config_on_session(r->to.config, pool_keep, &r->sessions);
	}
	if (!err)
		return EXIT_OK;
	return tell(EXIT_CONFIG, NULL,
		    r->to.config ? tlsfd_config_error(r->to.config) : strerrordesc_np(-err));
}

/* where: HOST:PORT. */
static int lead(struct route *r, const char *where)
{
	const struct wishes *w = &r->wishes;
	int err;

	r->where = where;
	r->lookup.family = w->only_ipv4 ? AF_INET : w->only_ipv6 ? AF_INET6 : AF_UNSPEC;
	err = lookup_add(&r->lookup, where);
	if (err == -EINVAL)
		return tell(EXIT_USAGE, where, "HOST:PORT is wanted, or [ADDRESS]:PORT for IPv6");
	if (err)
		return tell(EXIT_FAILED, where, strerrordesc_np(-err));
	r->to.target = r->lookup.targets;
	r->to.starttls = w->starttls;
	r->to.name = w->name ? w->name : r->to.target->host;
	return make_config(r);
}

int route_read(struct route **route, int argc, char **argv)
{
	struct route *r = calloc(1, sizeof(*r));
	struct settings settings = { .table = wishes_table, .target = r ? &r->wishes : NULL };
	int status;

	*route = NULL;
	if (!r)
		return tell(EXIT_FAILED, NULL, "memory is short");
	r->refs = 1;
	wishes_start(&r->wishes);
	status = read_wishes(&settings, argc, argv);
	if (!status && settings.help)
		status = verb_help("connect");
	else if (!status)
		status = lead(r, argv[settings.operands]);
	if (status || settings.help)
		route_free(r);
	else
		*route = r;
	return status;
}

int route_lost(const struct route *r, int err)
{
	tell(0, r->where, lookup_error(&r->lookup, err));
	if (err == -ETIMEDOUT)
		return EXIT_TIMEOUT;
	return err == -ENOENT ? EXIT_UNREACHABLE : EXIT_FAILED;
}

int route_find(struct route *r)
{
	int err;

	r->until = deadline_in((int)r->wishes.timeout_ms);
	err = lookup_finish(&r->lookup, &r->until);
	return err ? route_lost(r, err) : EXIT_OK;
}

void route_inherit(struct route *r, struct route *before)
{
	if (r->to.sessions && !strcmp(r->to.name, before->to.name))
		pool_move(&r->sessions, &before->sessions);
}

struct route *route_ref(struct route *r)
{
	r->refs++;
	return r;
}

void route_free(struct route *r)
{
	if (!r || --r->refs)
		return;
	tlsfd_config_free(r->to.config);
	pool_clear(&r->sessions);
	lookup_free(&r->lookup);
	wishes_free(&r->wishes);
	free(r);
}
