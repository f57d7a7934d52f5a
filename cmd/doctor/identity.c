/* SPDX-License-Identifier: MIT */
#include "identity.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

enum { HOUR = 3600 };

static int fill_in(X509 *cert, EVP_PKEY *key)
{
	X509_NAME *name = X509_NAME_new();
	int ok;

	ok = name &&
	     X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
					(const unsigned char *)"tlsfd doctor", -1, -1, 0) &&
	     X509_set_version(cert, 2) && /* X.509 v3 */
	     ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) &&
	     X509_gmtime_adj(X509_getm_notBefore(cert), -HOUR) &&
	     X509_gmtime_adj(X509_getm_notAfter(cert), HOUR) && X509_set_subject_name(cert, name) &&
	     X509_set_issuer_name(cert, name) && X509_set_pubkey(cert, key) &&
	     X509_sign(cert, key, EVP_sha256());
	X509_NAME_free(name);
	return ok;
}

int identity_make(struct identity *id)
{
	id->key = EVP_EC_gen("P-256");
	id->cert = X509_new();
	if (id->key && id->cert && fill_in(id->cert, id->key))
		return 0;
	identity_free(id);
	return -EIO;
}

int identity_use(const struct identity *id, SSL_CTX *ctx)
{
	if (SSL_CTX_use_certificate(ctx, id->cert) == 1 &&
	    SSL_CTX_use_PrivateKey(ctx, id->key) == 1)
		return 0;
	return -EIO;
}

void identity_free(struct identity *id)
{
	EVP_PKEY_free(id->key);
	X509_free(id->cert);
	*id = (struct identity){ 0 };
}
