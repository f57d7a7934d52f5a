/* SPDX-License-Identifier: MIT */
#include "realm.h"

#include <errno.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

enum { DIGEST = 32 };

/* ---- whom it trusts ---- */

static bool digest_of(const X509_OBJECT *object, uint8_t digest[DIGEST])
{
	const X509_CRL *crl = X509_OBJECT_get0_X509_CRL((X509_OBJECT *)object);
	const X509 *cert = X509_OBJECT_get0_X509(object);

	return cert ? X509_digest(cert, EVP_sha256(), digest, NULL) == 1 :
		      crl && X509_CRL_digest(crl, EVP_sha256(), digest, NULL) == 1;
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, DIGEST);
}

/* In which order they came makes no difference. */
static bool add_objects(EVP_MD_CTX *md, STACK_OF(X509_OBJECT) *objects)
{
	int n = sk_X509_OBJECT_num(objects);
	uint8_t(*digests)[DIGEST] = calloc((size_t)(n > 0 ? n : 1), DIGEST);
	bool done = digests;

	for (int i = 0; i < n && done; i++)
		done = digest_of(sk_X509_OBJECT_value(objects, i), digests[i]);
	if (done && n > 0) {
		qsort(digests, (size_t)n, DIGEST, compare);
		done = EVP_DigestUpdate(md, digests, (size_t)n * DIGEST) == 1;
	}
	free(digests);
	return done;
}

/* Authorities and revocation lists. Where the store is shared others may be at it, and sort
 * it. */
static bool add_store(EVP_MD_CTX *md, SSL_CTX *ctx)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	bool done;

	if (X509_STORE_lock(store) != 1)
		return false;
	done = add_objects(md, X509_STORE_get0_objects(store));
	X509_STORE_unlock(store);
	return done;
}

static bool add_trust(EVP_MD_CTX *md, SSL_CTX *ctx)
{
	const uint8_t depth = (uint8_t)SSL_CTX_get_verify_depth(ctx);

	return EVP_DigestUpdate(md, &depth, 1) == 1 && add_store(md, ctx);
}

/* ---- who it is ---- */

/* The names in its certificate, and not its key: a certificate that is renewed is for the
 * same ones. */
static bool add_names(EVP_MD_CTX *md, const X509 *cert)
{
	int at = cert ? X509_get_ext_by_NID(cert, NID_subject_alt_name, -1) : -1;
	ASN1_OCTET_STRING *names;
	uint8_t digest[DIGEST];

	if (at >= 0) {
		names = X509_EXTENSION_get_data(X509_get_ext(cert, at));
		return EVP_DigestUpdate(md, ASN1_STRING_get0_data(names),
					(size_t)ASN1_STRING_length(names)) == 1;
	}
	return !cert ||
	       (X509_NAME_digest(X509_get_subject_name(cert), EVP_sha256(), digest, NULL) == 1 &&
		EVP_DigestUpdate(md, digest, sizeof(digest)) == 1);
}

static bool compute(const struct tlsfd_config *config, EVP_MD_CTX *md, uint8_t id[DIGEST])
{
	static const char what[] = "tlsfd sessions 2";
	const uint8_t auth = (uint8_t)config->client_auth;
	bool asks = config->client_auth != TLSFD_CLIENT_AUTH_NONE;

	return md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
	       EVP_DigestUpdate(md, what, sizeof(what)) == 1 &&
	       EVP_DigestUpdate(md, &auth, 1) == 1 && (!asks || add_trust(md, config->ctx)) &&
	       add_names(md, SSL_CTX_get0_certificate(config->ctx)) &&
	       EVP_DigestFinal_ex(md, id, NULL) == 1;
}

int realm_settle(struct tlsfd_config *config)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint8_t id[DIGEST];
	bool done = compute(config, md, id) &&
		    SSL_CTX_set_session_id_context(config->ctx, id, sizeof(id)) == 1;

	EVP_MD_CTX_free(md);
	return done ? 0 : config_fail(config, -ENOMEM, "memory is short");
}
