/* SPDX-License-Identifier: MIT */
#include "credentials.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "suite.h"

static struct {
	EVP_PKEY *key;
	X509 *cert;
} made[2];
static pthread_once_t once[2] = { PTHREAD_ONCE_INIT, PTHREAD_ONCE_INIT };

static void add_name(X509 *cert, const char *name)
{
	X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, NULL, NID_subject_alt_name, name);

	if (!ext || !X509_add_ext(cert, ext, -1))
		abort();
	X509_EXTENSION_free(ext);
}

static X509 *self_signed(EVP_PKEY *key)
{
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);

	X509_set_version(cert, X509_VERSION_3);
	add_name(cert, "DNS:localhost");
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1,
				   -1, 0);
	X509_set_issuer_name(cert, name);
	X509_set_pubkey(cert, key);
	if (!X509_sign(cert, key, EVP_sha256()))
		abort();
	return cert;
}

static void free_all(void)
{
	for (size_t i = 0; i < LENGTH(made); i++) {
		EVP_PKEY_free(made[i].key);
		X509_free(made[i].cert);
	}
}

static void keep(enum key_kind kind, EVP_PKEY *key)
{
	if (!key)
		abort();
	made[kind].key = key;
	made[kind].cert = self_signed(key);
}

static void make_p256(void)
{
	atexit(free_all);
	keep(KEY_P256, EVP_EC_gen("P-256"));
}

static void make_rsa(void)
{
	keep(KEY_RSA, EVP_RSA_gen(2048));
}

static void ensure(enum key_kind kind)
{
	pthread_once(&once[KEY_P256], make_p256);
	if (kind == KEY_RSA)
		pthread_once(&once[KEY_RSA], make_rsa);
}

void use_credentials(SSL_CTX *ctx, enum key_kind kind)
{
	ensure(kind);
	if (SSL_CTX_use_certificate(ctx, made[kind].cert) != 1 ||
	    SSL_CTX_use_PrivateKey(ctx, made[kind].key) != 1)
		abort();
}

void trust_credentials(SSL_CTX *ctx, enum key_kind kind)
{
	ensure(kind);
	X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), made[kind].cert);
}

static char *text_of(BIO *bio)
{
	char *data;
	long size = BIO_get_mem_data(bio, &data);
	char *text = strndup(data, (size_t)size);

	BIO_free(bio);
	return text;
}

void write_credentials(enum key_kind kind, char **cert, char **key)
{
	BIO *certs = BIO_new(BIO_s_mem()), *keys = BIO_new(BIO_s_mem());

	ensure(kind);
	if (!PEM_write_bio_X509(certs, made[kind].cert) ||
	    !PEM_write_bio_PrivateKey(keys, made[kind].key, NULL, NULL, 0, NULL, NULL))
		abort();
	*cert = text_of(certs);
	*key = text_of(keys);
}
