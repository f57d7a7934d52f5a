/* SPDX-License-Identifier: MIT */
#include "pki.h"

#include <openssl/ec.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { HOUR = 3600, DAY = 24 * HOUR };

struct pki pki;

static void need(int ok)
{
	if (!ok)
		abort();
}

static char *text_of(BIO *bio)
{
	char *data;
	long size = BIO_get_mem_data(bio, &data);
	char *text = strndup(data, (size_t)size);

	BIO_free(bio);
	return text;
}

static void extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
	need(ext && X509_add_ext(cert, ext, -1));
	X509_EXTENSION_free(ext);
}

struct wanted {
	const char *name, *alt;
	const struct identity *issuer; /* NULL: itself */
	long from, to;                 /* seconds from now */
	int rsa, authority;
};

static void fill_in(struct identity *id, const struct wanted *w, const struct identity *issuer)
{
	static long serial;
	bool authority = !w->issuer || w->authority;
	X509_NAME *name = X509_get_subject_name(id->cert);

	X509_set_version(id->cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(id->cert), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(id->cert), w->from);
	X509_gmtime_adj(X509_getm_notAfter(id->cert), w->to);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)w->name, -1,
				   -1, 0);
	X509_set_issuer_name(id->cert, X509_get_subject_name(issuer->cert));
	X509_set_pubkey(id->cert, id->key);
	extend(id->cert, issuer->cert, NID_basic_constraints,
	       authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
	if (authority)
		extend(id->cert, issuer->cert, NID_key_usage, "critical,keyCertSign,cRLSign");
	extend(id->cert, issuer->cert, NID_subject_key_identifier, "hash");
	if (w->alt)
		extend(id->cert, issuer->cert, NID_subject_alt_name, w->alt);
}

static void make(struct identity *id, struct wanted w)
{
	const struct identity *issuer = w.issuer ? w.issuer : id;
	BIO *cert = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_mem());

	id->key = w.rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
	id->cert = X509_new();
	fill_in(id, &w, issuer);
	need(X509_sign(id->cert, issuer->key, EVP_sha256()));
	need(PEM_write_bio_X509(cert, id->cert));
	need(PEM_write_bio_PrivateKey(key, id->key, NULL, NULL, 0, NULL, NULL));
	id->cert_pem = text_of(cert);
	id->key_pem = text_of(key);
}

static char *make_crl(const struct identity *issuer, const X509 *revoked, long from, long to)
{
	X509_CRL *crl = X509_CRL_new();
	X509_REVOKED *entry = X509_REVOKED_new();
	ASN1_TIME *last = X509_gmtime_adj(NULL, from), *next = X509_gmtime_adj(NULL, to);
	BIO *bio = BIO_new(BIO_s_mem());

	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->cert));
	X509_CRL_set1_lastUpdate(crl, last);
	X509_CRL_set1_nextUpdate(crl, next);
	X509_REVOKED_set_serialNumber(entry, (ASN1_INTEGER *)X509_get0_serialNumber(revoked));
	X509_REVOKED_set_revocationDate(entry, last);
	need(X509_CRL_add0_revoked(crl, entry));
	need(X509_CRL_sign(crl, issuer->key, EVP_sha256()));
	need(PEM_write_bio_X509_CRL(bio, crl));
	ASN1_TIME_free(last);
	ASN1_TIME_free(next);
	X509_CRL_free(crl);
	return text_of(bio);
}

void pki_make(void)
{
	static const char alt[] = "DNS:localhost,DNS:*.wild.test,IP:127.0.0.1,IP:::1";
	const struct identity *ca = &pki.ca;

	make(&pki.ca, (struct wanted){ "tests CA", NULL, NULL, -DAY, DAY, 0, 0 });
	make(&pki.other_ca, (struct wanted){ "another CA", NULL, NULL, -DAY, DAY, 0, 0 });
	make(&pki.good, (struct wanted){ "good", alt, ca, -DAY, DAY, 0, 0 });
	make(&pki.rsa, (struct wanted){ "rsa", alt, ca, -DAY, DAY, 1, 0 });
	make(&pki.expired, (struct wanted){ "expired", alt, ca, -DAY, -HOUR, 0, 0 });
	make(&pki.revoked, (struct wanted){ "revoked", alt, ca, -DAY, DAY, 0, 0 });
	make(&pki.foreign, (struct wanted){ "foreign", alt, &pki.other_ca, -DAY, DAY, 0, 0 });
	make(&pki.elsewhere,
	     (struct wanted){ "elsewhere", "DNS:elsewhere.test", ca, -DAY, DAY, 0, 0 });
	make(&pki.address, (struct wanted){ "address", "IP:127.0.0.1", ca, -DAY, DAY, 0, 0 });
	make(&pki.link_local, (struct wanted){ "link-local", "IP:fe80::1", ca, -DAY, DAY, 0, 0 });
	make(&pki.client, (struct wanted){ "client", NULL, ca, -DAY, DAY, 0, 0 });
	make(&pki.middle[0], (struct wanted){ "middle 0", NULL, ca, -DAY, DAY, 0, 1 });
	make(&pki.middle[1], (struct wanted){ "middle 1", NULL, &pki.middle[0], -DAY, DAY, 0, 1 });
	make(&pki.deep, (struct wanted){ "deep", alt, &pki.middle[1], -DAY, DAY, 0, 0 });
	pki.crl_pem = make_crl(ca, pki.revoked.cert, -HOUR, DAY);
	pki.old_crl_pem = make_crl(ca, pki.revoked.cert, -DAY, -HOUR);
}

void pki_issue(struct identity *id, const char *name, const struct identity *issuer, long seconds,
	       bool authority)
{
	make(id, (struct wanted){ name, authority ? NULL : "DNS:localhost", issuer, -DAY, seconds,
				  0, authority });
}

char *pki_list(const struct identity *issuer, long from, long to)
{
	return make_crl(issuer, pki.revoked.cert, from, to);
}

static OCSP_CERTID *id_of(const struct ocsp *o)
{
	const struct identity *key = o->issuer_key ? o->issuer_key : o->issuer;

	return OCSP_cert_id_new(o->digest ? o->digest : EVP_sha1(),
				X509_get_subject_name(o->issuer->cert),
				X509_get0_pubkey_bitstr(key->cert),
				X509_get0_serialNumber(o->about->cert));
}

uint8_t *pki_ocsp(const struct ocsp *o, size_t *size)
{
	const struct identity *signer = o->signer ? o->signer : o->issuer;
	ASN1_TIME *from = X509_gmtime_adj(NULL, o->from);
	ASN1_TIME *to = o->to ? X509_gmtime_adj(NULL, o->to) : NULL;
	OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
	OCSP_CERTID *id = id_of(o);
	OCSP_RESPONSE *response;
	uint8_t *der = NULL;
	int n;

	need(OCSP_basic_add1_status(basic, id, o->status, OCSP_REVOKED_STATUS_NOSTATUS, from, from,
				    to) != NULL);
	need(OCSP_basic_sign(basic, signer->cert, signer->key, EVP_sha256(), NULL, OCSP_NOCERTS));
	response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
	n = i2d_OCSP_RESPONSE(response, &der);
	need(n > 0);
	*size = (size_t)n;
	OCSP_RESPONSE_free(response);
	OCSP_BASICRESP_free(basic);
	OCSP_CERTID_free(id);
	ASN1_TIME_free(from);
	ASN1_TIME_free(to);
	return der;
}

void pki_drop(struct identity *id)
{
	EVP_PKEY_free(id->key);
	X509_free(id->cert);
	free(id->cert_pem);
	free(id->key_pem);
}

void pki_free(void)
{
	struct identity *all[] = {
		&pki.ca,      &pki.other_ca, &pki.good,	     &pki.rsa,	  &pki.expired,
		&pki.revoked, &pki.foreign,  &pki.elsewhere, &pki.address, &pki.link_local, &pki.client,
		&pki.middle[0], &pki.middle[1], &pki.deep,
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		pki_drop(all[i]);
	free(pki.crl_pem);
	free(pki.old_crl_pem);
}

void pki_use(SSL_CTX *ctx, const struct identity *id)
{
	need(SSL_CTX_use_certificate(ctx, id->cert));
	need(SSL_CTX_use_PrivateKey(ctx, id->key));
}
