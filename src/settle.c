/* SPDX-License-Identifier: MIT */
#include "settle.h"

#include <errno.h>

#include "alpn.h"
#include "failure.h"
#include "names.h"
#include "offer.h"
#include "probe.h"
#include "realm.h"
#include "rekey.h"
#include "staple.h"
#include "term.h"
#include "watch.h"

/* A kernel without TLS need not be looked for at each connection. */
static void look_for_kernel(struct tlsfd_config *config)
{
	struct probe_answer ulp = { PROBE_UNKNOWN, 0 };

	/* an attempt to settle may have failed, and the choice be another one */
	if (!config->is_name)
		config->absent = (struct refusal){ TLSFD_WHY_NONE, 0 };
	if (config->kernel == TLSFD_KERNEL_IF_THERE)
		ulp = probe_kernel(PROBE_ULP);
	if (ulp.verdict == PROBE_NO)
		config->absent = attach_refusal(ulp.error);
}

/* Versions without a cipher are not offered. */
static int settle_versions(struct tlsfd_config *config)
{
	int min = config->offer.tls12 ? (int)config->min : TLS1_3_VERSION;
	int max = config->offer.tls13 ? (int)config->max : TLS1_2_VERSION;

	if (min > max)
		return config_fail(config, -EINVAL, "versions: no cipher of the list fits them");
	if (SSL_CTX_set_min_proto_version(config->ctx, min) != 1 ||
	    SSL_CTX_set_max_proto_version(config->ctx, max) != 1)
		return config_fail_openssl(config, "versions");
	return 0;
}

static int settle_names(struct tlsfd_config *config)
{
	int err = 0;

	for (struct name *n = config->names; n && !err; n = n->next) {
		err = config_check_client_auth(n->config);
		if (!n->config->frozen) {
			n->config->has_realm |= config->keyring != NULL;
			n->config->absent = config->absent;
		}
		if (!err)
			err = settle(n->config);
		if (err)
			config_fail(config, err, "for name \"%s\": %s", n->text,
				    tlsfd_config_error(n->config));
	}
	return err;
}

static int set_callbacks(struct tlsfd_config *config)
{
	SSL_CTX *ctx = config->ctx;

	alpn_serve(ctx);
	staple_serve(config);
	names_serve(ctx);
	term_serve(ctx);
	SSL_CTX_set_info_callback(ctx, failure_note_alert);
	/* OpenSSL's key log prints each byte by itself: 8 % of a handshake's instructions */
	return config->absent.why ? 0 : watch_context(ctx); /* calls what it finds */
}

static int settle_all(struct tlsfd_config *config)
{
	int err;

	look_for_kernel(config);
	err = offer_settle(config);
	if (config->kernel != TLSFD_KERNEL_NEVER && !config->absent.why &&
	    config->max == TLSFD_TLS_1_3)
		rekey_ask();
	if (!err)
		err = settle_versions(config);
	if (!err)
		err = settle_names(config);
	if (!err && (config->keyring || config->has_realm))
		err = realm_settle(config);
	if (!err && set_callbacks(config) < 0)
		err = config_fail(config, -ENOMEM, "memory is short");
	return err;
}

int settle(struct tlsfd_config *config)
{
	int err = 0;

	if (__atomic_load_n(&config->frozen, __ATOMIC_ACQUIRE))
		return 0;
	pthread_mutex_lock(&config->lock);
	if (!config->frozen)
		err = settle_all(config);
	if (!err)
		__atomic_store_n(&config->frozen, true, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&config->lock);
	return err;
}
