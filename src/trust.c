/*
 * Whom to trust, and what was revoked.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include "pem.h"
#include "trust.h"

/* ---- authorities ---- */

/* What fails here is memory: OpenSSL takes any certificate, also a second time. */
static int trust(struct tlsfd_config *config, STACK_OF(X509) *certs)
{
	X509_STORE *store = SSL_CTX_get_cert_store(config->ctx);

	for (int i = 0; i < sk_X509_num(certs); i++) {
		X509 *cert = sk_X509_value(certs, i);

		/* the names go to clients that are asked for a certificate */
		if (!X509_STORE_add_cert(store, cert) ||
		    !SSL_CTX_add_client_CA(config->ctx, cert))
			return config_fail_openssl(config, "trust");
	}
	config->has_trust = true;
	return 0;
}

static int set_ca(struct tlsfd_config *config, struct pem *pem)
{
	STACK_OF(X509) *certs;
	int err = pem_certificates(pem, &certs);

	if (err)
		return err;
	err = trust(config, certs);
	sk_X509_pop_free(certs, X509_free);
	return err;
}

/* ---- revocation lists ---- */

static int collect_crls(struct pem *pem, STACK_OF(X509_CRL) *crls)
{
	X509_CRL *crl;
	int n;

	while ((n = pem_next_crl(pem, &crl)) > 0)
		if (!sk_X509_CRL_push(crls, crl)) {
			X509_CRL_free(crl);
			return -ENOMEM;
		}
	if (n == 0 && sk_X509_CRL_num(crls) == 0)
		return config_fail(pem->config, -EINVAL, "%s: no revocation list in it, in PEM", pem->name);
	return n;
}

/* The flags are the store's, and so go with it where SNI switches contexts. */
static int use_crls(struct tlsfd_config *config, STACK_OF(X509_CRL) *crls)
{
	X509_STORE *store = SSL_CTX_get_cert_store(config->ctx);

	for (int i = 0; i < sk_X509_CRL_num(crls); i++)
		if (!X509_STORE_add_crl(store, sk_X509_CRL_value(crls, i)))
			return config_fail_openssl(config, "revocation list");
	if (!X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL))
		return config_fail_openssl(config, "revocation list");
	return 0;
}

static int set_crl(struct tlsfd_config *config, struct pem *pem)
{
	STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
	int err;

	if (!crls)
		return -ENOMEM;
	err = collect_crls(pem, crls);
	if (!err)
		err = use_crls(config, crls);
	sk_X509_CRL_pop_free(crls, X509_CRL_free);
	return err;
}

/* ---- another config's ---- */

/* The names are copied: only the store has a count of references. */
int tlsfd_config_share_trust(struct tlsfd_config *config, struct tlsfd_config *with)
{
	STACK_OF(X509_NAME) *names;
	int err = config_change(config);

	if (err)
		return err;
	if (!with || with == config || !with->has_trust)
		return config_fail(config, -EINVAL,
				   "share trust: the other config has no authorities of its own");
	names = SSL_dup_CA_list(SSL_CTX_get_client_CA_list(with->ctx));
	if (!names)
		return config_fail_openssl(config, "share trust");
	SSL_CTX_set1_cert_store(config->ctx, SSL_CTX_get_cert_store(with->ctx));
	SSL_CTX_set_client_CA_list(config->ctx, names);
	config->has_trust = config->shares_trust = true;
	if (config_change(with) == 0)
		with->shares_trust = true;
	return 0;
}

/* ---- the system's ---- */

/* 25 ms and 0.8 MB, which a server, of a thousand certificates perhaps, has no use for. Nobody
 * verifies by the store meanwhile: a server that does has authorities of its own. */
static int load_system(struct tlsfd_config *config)
{
	int err = 0;

	pthread_mutex_lock(&config->lock);
	if (!config->has_system_trust && SSL_CTX_set_default_verify_paths(config->ctx) != 1)
		err = config_fail_openssl(config, "the system's trust store");
	if (!err)
		__atomic_store_n(&config->has_system_trust, true, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&config->lock);
	return err;
}

int trust_system(struct tlsfd_config *config)
{
	if (config->has_trust || config->no_verify_chain ||
	    __atomic_load_n(&config->has_system_trust, __ATOMIC_ACQUIRE))
		return 0;
	return load_system(config);
}

/* ---- how far ---- */

/* OpenSSL counts neither the peer's certificate nor the root. */
int tlsfd_config_set_verify_depth(struct tlsfd_config *config, unsigned depth)
{
	enum { DEPTH_MAX = 100 }; /* OpenSSL's default (crypto/x509/x509_vpm.c) */
	int err = config_change(config);

	if (err)
		return err;
	if (depth > DEPTH_MAX)
		return config_fail(config, -EINVAL, "verify depth: %u is more than %d", depth,
				   DEPTH_MAX);
	SSL_CTX_set_verify_depth(config->ctx, (int)depth);
	return 0;
}

/* ---- from where they come ---- */

typedef int (*use_fn)(struct tlsfd_config *config, struct pem *pem);

static int change(struct tlsfd_config *config)
{
	int err = config_change(config);

	if (!err && config->shares_trust)
		err = config_fail(config, -EBUSY, "trust: another config shares it");
	return err;
}

static int from_file(struct tlsfd_config *config, const char *path, use_fn use)
{
	struct pem pem;
	int err = change(config);

	if (!err)
		err = pem_open_file(&pem, config, path);
	if (err)
		return err;
	err = use(config, &pem);
	pem_close(&pem);
	return err;
}

static int from_mem(struct tlsfd_config *config, const char *what, const void *data, size_t size,
		    use_fn use)
{
	struct pem pem;
	int err = change(config);

	if (!err)
		err = pem_open_mem(&pem, config, what, data, size);
	if (err)
		return err;
	err = use(config, &pem);
	pem_close(&pem);
	return err;
}

int tlsfd_config_set_ca_file(struct tlsfd_config *config, const char *path)
{
	return from_file(config, path, set_ca);
}

int tlsfd_config_set_ca_mem(struct tlsfd_config *config, const void *data, size_t size)
{
	return from_mem(config, "trust", data, size, set_ca);
}

int tlsfd_config_set_crl_file(struct tlsfd_config *config, const char *path)
{
	return from_file(config, path, set_crl);
}

int tlsfd_config_set_crl_mem(struct tlsfd_config *config, const void *data, size_t size)
{
	return from_mem(config, "revocation list", data, size, set_crl);
}
