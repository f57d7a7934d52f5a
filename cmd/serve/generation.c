/* SPDX-License-Identifier: MIT */
#include "generation.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"

const struct generation no_generation = { .data_plan = -1 };

static int load(struct generation *g, struct self_signed *self, char *error, size_t size)
{
	int err = g->service.self_signed && !self->pem ? self_signed_make(self) : 0;

	if (err)
		snprintf(error, size, "self-signed certificate: %s", strerror(-err));
	else
		err = identities_load(&g->config, &g->service, self->pem ? self : NULL, &g->ratchet,
				      error, size);
	return err ? err : backends_ask(&g->lookup, &g->service.forward, error, size);
}

int generation_load(struct generation *g, int argc, char **argv, struct self_signed *self,
		    const struct ratchet *ratchet, struct trouble *t)
{
	struct settings settings;
	int err;

	*g = no_generation;
	err = service_read(&g->service, &settings, argc, argv);
	t->status = settings_status(err);
	if (err) {
		snprintf(t->error, sizeof(t->error), "%s", settings.error);
		return err;
	}
	t->status = EXIT_CONFIG;
	g->ratchet = *ratchet;
	err = load(g, self, t->error, sizeof(t->error));
	if (err)
		generation_free(g);
	return err;
}

int generation_find_backends(struct generation *g, int looked, struct trouble *t)
{
	t->status = EXIT_CONFIG;
	return backends_open(&g->backends, &g->service.forward, &g->lookup, looked, t->error,
			     sizeof(t->error));
}

void generation_follow(struct generation *g, const struct generation *before, uint64_t now_ms)
{
	g->ratchet = before->ratchet;
	ratchet_set_period(&g->ratchet, g->service.ticket_renewal_ms, now_ms);
	(void)!ratchet_give(&g->ratchet, g->config);
}

void generation_free(struct generation *g)
{
	service_free(&g->service);
	tlsfd_config_free(g->config);
	ratchet_wipe(&g->ratchet);
	lookup_free(&g->lookup);
	backends_close(&g->backends);
	if (g->data_plan >= 0)
		close(g->data_plan);
	*g = no_generation;
}
