/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <tlsfd.h>

#include "doctor.h"

/* A NULL from jansson means no memory; json_pack and the setters pass it on, so
 * that one look at the end is enough. */

static json_t *of_verdict(enum probe_verdict v)
{
	return v == PROBE_UNKNOWN ? json_null() : json_boolean(v == PROBE_YES);
}

/* Texts that can be absent: NULL or empty. */
static const char *or_null(const char *s)
{
	return s && *s ? s : NULL;
}

static json_t *of_ulp(const struct ulp *u)
{
	return json_pack("{s:o, s:s?, s:s?, s:s?, s:b}", "available", of_verdict(u->answer.verdict),
			 "why", u->why, "sentence", u->sentence, "remedy", u->remedy, "loaded_now",
			 u->loaded_now);
}

static json_t *of_openssl(const struct openssl *o)
{
	return json_pack("{s:s, s:s, s:o}", "version", o->version, "headers", o->headers,
			 "ktls_compiled", of_verdict(o->ktls_compiled));
}

static json_t *of_way(const struct way *w)
{
	return json_pack("{s:o, s:o}", "tx", of_verdict(w->tx), "rx", of_verdict(w->rx));
}

static json_t *of_row(const struct matrix_row *r)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:s?, s:s?}", "tls", r->tls, "cipher", r->cipher,
			 "openssl", of_way(&r->openssl), "tlsfd", of_way(&r->tlsfd), "why",
			 or_null(r->why), "remedy", or_null(r->remedy));
}

static json_t *of_matrix(const struct diagnosis *d)
{
	json_t *list = json_array();
	int err = 0;

	for (int i = 0; i < MATRIX_ROWS; i++)
		err |= json_array_append_new(list, of_row(&d->matrix[i]));
	return err ? NULL : list;
}

static json_t *of_nics(const struct diagnosis *d)
{
	json_t *list = json_array();
	int err = 0;

	for (size_t i = 0; i < d->n_nics; i++)
		err |= json_array_append_new(list,
					     json_pack("{s:s, s:s?, s:s?}", "name", d->nics[i].name,
						       "tx", d->nics[i].tx, "rx", d->nics[i].rx));
	return err ? NULL : list;
}

static json_t *of_advisories(const struct diagnosis *d)
{
	json_t *list = json_array();
	int err = 0;

	for (size_t i = 0; i < d->n_advisories; i++)
		err |= json_array_append_new(
			list, json_pack("{s:s, s:s, s:s}", "id", d->advisories[i].id, "what",
					d->advisories[i].what, "fixed", d->advisories[i].fixed));
	return err ? NULL : list;
}

static json_t *of_counters(const struct diagnosis *d)
{
	json_t *object = d->n_counters < 0 ? json_null() : json_object();
	int err = 0;

	for (int i = 0; i < d->n_counters; i++)
		err |= json_object_set_new(object, d->counters[i].name,
					   json_integer((json_int_t)d->counters[i].value));
	return err ? NULL : object;
}

static json_t *of_diagnosis(const struct diagnosis *d)
{
	json_t *root = json_pack("{s:s, s:b, s:s, s:o, s:o}", "tlsfd", TLSFD_VERSION, "works",
				 !d->failing, "kernel", d->kernel.release, "ulp", of_ulp(&d->ulp),
				 "openssl", of_openssl(&d->openssl));
	int err = 0;

	for (int id = PROBE_ULP + 1; id < N_PROBES; id++)
		err |= json_object_set_new(root, probe_name(id), of_verdict(d->probes[id].verdict));
	err |= json_object_set_new(root, "matrix", of_matrix(d));
	err |= json_object_set_new(root, "nics", of_nics(d));
	err |= json_object_set_new(root, "advisories", of_advisories(d));
	err |= json_object_set_new(root, "counters", of_counters(d));
	if (!err)
		return root;
	json_decref(root);
	return NULL;
}

int print_json(const struct diagnosis *d)
{
	json_t *root = of_diagnosis(d);
	char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;

	json_decref(root);
	if (!text)
		return -ENOMEM;
	puts(text);
	free(text);
	return 0;
}
