/* SPDX-License-Identifier: MIT */
#include "exposition.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP tlsfd_%s %s\n# TYPE tlsfd_%s %s\n", name, help, name, type);
}

static void one(FILE *f, const char *name, const counter *n)
{
	fprintf(f, "tlsfd_%s %" PRIu64 "\n", name, *n);
}

static void labelled(FILE *f, const char *name, const char *label, const char *value,
		     const counter *n)
{
	fprintf(f, "tlsfd_%s{%s=\"%s\"} %" PRIu64 "\n", name, label, value, *n);
}

static void handshakes(FILE *f, const struct counts *c)
{
	static const char *const place[] = { "user", "kernel" };

	head(f, "handshakes_total", "counter",
	     "Handshakes done, by where records are made (tx) and read (rx).");
	for (int tx = 0; tx < 2; tx++)
		for (int rx = 0; rx < 2; rx++)
			fprintf(f, "tlsfd_handshakes_total{tx=\"%s\",rx=\"%s\"} %" PRIu64 "\n",
				place[tx], place[rx], c->handshakes[tx][rx]);
	head(f, "user_space_total", "counter",
	     "Of them, those not in the kernel both ways, by the reason.");
	for (unsigned why = 1; why < COUNTED_WHYS; why++)
		if (c->why[why])
			labelled(f, "user_space_total", "why", tlsfd_why_name((enum tlsfd_why)why),
				 &c->why[why]);
}

static void connections(FILE *f, const struct counts *c)
{
	head(f, "connections_ended_total", "counter",
	     "Connections that have ended, as the log calls it; handshake: it failed.");
	for (int i = 0; i < COUNTED_ENDS; i++)
		labelled(f, "connections_ended_total", "end", counted_ends[i], &c->ended[i]);
	head(f, "bytes_total", "counter",
	     "Bytes from (in) and to (out) clients, counted when a connection ends.");
	labelled(f, "bytes_total", "direction", "in", &c->in);
	labelled(f, "bytes_total", "direction", "out", &c->out);
	head(f, "connections", "gauge", "Connections whose handshake is done.");
	one(f, "connections", &c->connections);
	head(f, "connections_in_handshake", "gauge", "Connections whose handshake is not done.");
	one(f, "connections_in_handshake", &c->connecting);
}

static void processes(FILE *f, const struct counts *c)
{
	head(f, "processes_replaced_total", "counter", "Processes that died and were replaced.");
	for (enum role role = 0; role < ROLES; role++)
		labelled(f, "processes_replaced_total", "role", role_name(role),
			 &c->replaced[role]);
	head(f, "reloads_total", "counter", "Reloads of the settings (SIGHUP).");
	labelled(f, "reloads_total", "result", "done", &c->reloads[true]);
	labelled(f, "reloads_total", "result", "failed", &c->reloads[false]);
	head(f, "build_info", "gauge", "The version that runs.");
	fprintf(f, "tlsfd_build_info{version=\"%s\"} 1\n", TLSFD_VERSION);
}

char *exposition(const struct counts *counts, size_t *size)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, size);

	if (!f)
		return NULL;
	handshakes(f, counts);
	connections(f, counts);
	processes(f, counts);
	if (fclose(f) == 0)
		return text;
	free(text);
	return NULL;
}
