/*
 * Our certificate, its chain and its key.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/err.h>

#include "pem.h"

static int read_key(struct pem *pem, EVP_PKEY **key)
{
	int n = pem_next_key(pem, key);

	if (n == 0)
		return config_fail(pem->config, -EINVAL, "%s: no private key in it, in PEM", pem->name);
	return n < 0 ? n : 0;
}

/* OpenSSL takes all of it or nothing. */
static int use(struct tlsfd_config *config, const char *name, STACK_OF(X509) *certs, EVP_PKEY *key)
{
	X509 *leaf = sk_X509_shift(certs);
	int err = 0;

	if (!X509_get0_pubkey(leaf))
		err = config_fail(config, config_openssl_errno(),
				  "%s: the first certificate's key can't be read", name);
	else if (X509_check_private_key(leaf, key) != 1)
		err = config_fail(config, config_openssl_errno(),
				  "%s: the private key is not the first certificate's", name);
	else if (SSL_CTX_use_cert_and_key(config->ctx, leaf, key, certs, 1) != 1)
		err = config_fail_openssl(config, name);
	else
		config->has_certificate = true;
	X509_free(leaf);
	return err;
}

static int set_certificate(struct tlsfd_config *config, struct pem *chain, struct pem *key_pem)
{
	STACK_OF(X509) *certs;
	EVP_PKEY *key;
	int err = pem_certificates(chain, &certs);

	if (err)
		return err;
	err = read_key(key_pem, &key);
	if (!err) {
		err = use(config, chain->name, certs, key);
		EVP_PKEY_free(key);
	}
	sk_X509_pop_free(certs, X509_free);
	return err;
}

int tlsfd_config_set_certificate_file(struct tlsfd_config *config, const char *chain,
				      const char *key)
{
	struct pem chain_pem, key_pem;
	int err = config_change(config);

	if (!err)
		err = pem_open_file(&chain_pem, config, chain);
	if (err)
		return err;
	err = pem_open_file(&key_pem, config, key);
	if (!err) {
		err = set_certificate(config, &chain_pem, &key_pem);
		pem_close(&key_pem);
	}
	pem_close(&chain_pem);
	return err;
}

int tlsfd_config_set_certificate_mem(struct tlsfd_config *config, const void *chain,
				     size_t chain_size, const void *key, size_t key_size)
{
	struct pem chain_pem, key_pem;
	int err = config_change(config);

	if (!err)
		err = pem_open_mem(&chain_pem, config, "certificate", chain, chain_size);
	if (err)
		return err;
	err = pem_open_mem(&key_pem, config, "key", key, key_size);
	if (!err) {
		err = set_certificate(config, &chain_pem, &key_pem);
		pem_close(&key_pem);
	}
	pem_close(&chain_pem);
	return err;
}
