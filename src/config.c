/* SPDX-License-Identifier: MIT */
#include "config.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chain.h"
#include "keyring.h"
#include "offer.h"
#include "rekey.h"
#include "staple.h"

/* ---- the object ---- */

/* Sessions of one config don't do for another: it may trust others. */
static int set_session_id_context(SSL_CTX *ctx)
{
	uint8_t id[16];

	return RAND_bytes(id, sizeof(id)) == 1 &&
	       SSL_CTX_set_session_id_context(ctx, id, sizeof(id)) == 1;
}

static int set_up(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	/* the machine's openssl.cnf may say otherwise */
	SSL_CTX_clear_options(ctx, SSL_OP_ENABLE_KTLS | SSL_OP_IGNORE_UNEXPECTED_EOF |
					   SSL_OP_ALLOW_NO_DHE_KEX |
					   SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_read_ahead(ctx, 0);
	SSL_CTX_set_max_early_data(ctx, 0);
	SSL_CTX_set_recv_max_early_data(ctx, 0);
	SSL_CTX_set_dh_auto(ctx, 1);
	SSL_CTX_set_num_tickets(ctx, 2);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	/* a chain is what was given, not what the trust store can add */
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
	return offer_default_groups(ctx) && set_session_id_context(ctx) ? 0 : -ENOMEM;
}

int tlsfd_config_new(struct tlsfd_config **config)
{
	struct tlsfd_config *new;

	if (!config)
		return -EINVAL;
	*config = NULL;
	new = calloc(1, sizeof(*new));
	if (!new)
		return -ENOMEM;
	new->refs = 1;
	new->min = TLSFD_TLS_1_2;
	new->max = TLSFD_TLS_1_3;
	pthread_mutex_init(&new->lock, NULL);
	new->ctx = SSL_CTX_new(TLS_method());
	if (!new->ctx || set_up(new->ctx) < 0) {
		tlsfd_config_free(new);
		return -ENOMEM;
	}
	*config = new;
	return 0;
}

struct tlsfd_config *tlsfd_config_ref(struct tlsfd_config *config)
{
	__atomic_add_fetch(&config->refs, 1, __ATOMIC_RELAXED);
	return config;
}

static void free_names(struct name *names)
{
	while (names) {
		struct name *next = names->next;

		tlsfd_config_free(names->config);
		free(names);
		names = next;
	}
}

void tlsfd_config_free(struct tlsfd_config *config)
{
	if (!config || __atomic_sub_fetch(&config->refs, 1, __ATOMIC_ACQ_REL))
		return;
	free_names(config->names);
	staples_free(config->staples);
	SSL_CTX_free(config->ctx);
	keyring_free(config->keyring);
	chain_free(config->last_chain);
	pthread_mutex_destroy(&config->lock);
	free(config->alpn);
	free(config->error);
	free(config);
}

/* ---- what is wrong ---- */

const char *tlsfd_config_error(const struct tlsfd_config *config)
{
	return config ? __atomic_load_n(&config->error, __ATOMIC_ACQUIRE) : NULL;
}

static void note(struct tlsfd_config *config, char *text)
{
	char *before = __atomic_load_n(&config->error, __ATOMIC_ACQUIRE);

	bool in_use = __atomic_load_n(&config->frozen, __ATOMIC_ACQUIRE);

	/* Other threads may be reading what is there; the first use can fail in several. */
	if (before && (in_use || strcmp(before, text) == 0)) {
		free(text);
		return;
	}
	if (__atomic_compare_exchange_n(&config->error, &before, text, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		free(before);
	else
		free(text);
}

int config_fail(struct tlsfd_config *config, int err, const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	if (vasprintf(&text, format, args) >= 0)
		note(config, text);
	va_end(args);
	ERR_clear_error();
	return err;
}

int config_fail_file(struct tlsfd_config *config, int err, const char *path)
{
	return config_fail(config, err, "%s: %s", path,
			   err == -EINVAL ? "neither a regular file nor a pipe" :
					    strerrordesc_np(-err));
}

int config_openssl_errno(void)
{
	unsigned long error = ERR_get_error();
	int err = error ? -EINVAL : -ENOMEM; /* of that alone it says nothing at times */

	for (; error; error = ERR_get_error())
		if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE)
			err = -ENOMEM;
	return err;
}

int config_fail_openssl(struct tlsfd_config *config, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	return config_fail(config, reason ? config_openssl_errno() : -ENOMEM, "%s: %s", what,
			   reason ? reason : "memory is short");
}

int config_change(struct tlsfd_config *config)
{
	if (!config)
		return -EINVAL;
	return __atomic_load_n(&config->frozen, __ATOMIC_ACQUIRE) ? -EBUSY : 0;
}

/* An authority of the system's store would let everybody in. */
int config_check_client_auth(struct tlsfd_config *config)
{
	if (config->client_auth == TLSFD_CLIENT_AUTH_NONE || config->has_trust)
		return 0;
	return config_fail(config, -EINVAL, "client auth: no authority is set whose clients "
			   "are to be trusted");
}

int config_change_common(struct tlsfd_config *config, const char *what)
{
	int err = config_change(config);

	if (!err && config->is_name)
		err = config_fail(config, -EINVAL, "%s: a config for a name can't have its own",
				  what);
	return err;
}

int config_server_verify(const struct tlsfd_config *config)
{
	switch (config->client_auth) {
	case TLSFD_CLIENT_AUTH_OPTIONAL:
		return SSL_VERIFY_PEER;
	case TLSFD_CLIENT_AUTH_REQUIRED:
		return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	default:
		return SSL_VERIFY_NONE;
	}
}

/* ---- setters of one value ---- */

static bool is_version(enum tlsfd_version version)
{
	return version == TLSFD_TLS_1_2 || version == TLSFD_TLS_1_3;
}

int tlsfd_config_set_versions(struct tlsfd_config *config, enum tlsfd_version min,
			      enum tlsfd_version max)
{
	int err = config_change_common(config, "versions");

	if (err)
		return err;
	if (!is_version(min) || !is_version(max) || min > max)
		return config_fail(config, -EINVAL, "versions: 0x%04x to 0x%04x is no range of "
				   "TLS 1.2 and TLS 1.3", (unsigned)min, (unsigned)max);
	config->min = min;
	config->max = max;
	config->common = "versions";
	return 0;
}

int tlsfd_config_set_groups(struct tlsfd_config *config, const char *list)
{
	int err = config_change_common(config, "groups");

	if (err)
		return err;
	if (!list || SSL_CTX_set1_groups_list(config->ctx, list) != 1)
		/* of a wrong name it says nothing */
		return config_fail(config, ERR_peek_error() ? config_openssl_errno() : -EINVAL,
				   "groups: OpenSSL does not take \"%s\"", list ? list : "");
	config->common = "groups";
	return 0;
}

int tlsfd_config_set_client_auth(struct tlsfd_config *config, enum tlsfd_client_auth auth)
{
	int err = config_change(config);

	if (err)
		return err;
	if ((unsigned)auth > TLSFD_CLIENT_AUTH_REQUIRED)
		return config_fail(config, -EINVAL, "client auth: no such choice");
	config->client_auth = auth;
	return 0;
}

int tlsfd_config_set_rekey(struct tlsfd_config *config, enum tlsfd_rekey policy, uint64_t records)
{
	int err = config_change_common(config, "rekey");

	if (err)
		return err;
	if (!rekey_is_valid(policy, records))
		return config_fail(config, -EINVAL, "rekey: no such policy, or less than %d records",
				   REKEY_LEAST);
	config->rekey = policy;
	config->rekey_records = records;
	return 0;
}

int tlsfd_config_set_kernel(struct tlsfd_config *config, enum tlsfd_kernel kernel)
{
	int err = config_change_common(config, "kernel");

	if (err)
		return err;
	if ((unsigned)kernel > TLSFD_KERNEL_IF_THERE)
		return config_fail(config, -EINVAL, "kernel: no such choice");
	config->kernel = kernel;
	config->common = "kernel";
	return 0;
}

int tlsfd_config_set_tickets(struct tlsfd_config *config, unsigned count)
{
	int err = config_change_common(config, "tickets");

	if (err)
		return err;
	if (SSL_CTX_set_num_tickets(config->ctx, count) != 1)
		return config_fail_openssl(config, "tickets");
	/* else TLS 1.2 goes on sending one, and TLS 1.3 takes old ones */
	if (count)
		SSL_CTX_clear_options(config->ctx, SSL_OP_NO_TICKET);
	else
		SSL_CTX_set_options(config->ctx, SSL_OP_NO_TICKET);
	config->common = "tickets";
	return 0;
}

void config_settle_cache(struct tlsfd_config *config)
{
	long mode = config->on_session ? SSL_SESS_CACHE_CLIENT : SSL_SESS_CACHE_OFF;

	mode |= config->server_sessions ? SSL_SESS_CACHE_SERVER : SSL_SESS_CACHE_NO_INTERNAL;
	SSL_CTX_set_session_cache_mode(config->ctx, mode);
}

int tlsfd_config_set_session_cache(struct tlsfd_config *config, unsigned sessions)
{
	int err = config_change_common(config, "session cache");

	if (err)
		return err;
	config->server_sessions = sessions;
	config_settle_cache(config);
	/* 0 would be without limit */
	if (sessions)
		SSL_CTX_sess_set_cache_size(config->ctx, sessions);
	config->common = "session cache";
	return 0;
}

void tlsfd_config_insecure_no_verify_chain(struct tlsfd_config *config)
{
	if (config_change(config) == 0)
		config->no_verify_chain = true;
}

void tlsfd_config_insecure_no_verify_name(struct tlsfd_config *config)
{
	if (config_change(config) == 0)
		config->no_verify_name = true;
}
