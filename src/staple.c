/* SPDX-License-Identifier: MIT */
#include "staple.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "connection.h"
#include "sys.h"

/* One response of a config's, for one of its certificates. */
struct staple {
	struct staple *next;
	X509 *cert;
	int64_t until; /* nextUpdate, seconds since 1970 */
	size_t size;
	uint8_t der[];
};

static void free_one(struct staple *s)
{
	X509_free(s->cert);
	free(s);
}

void staples_free(struct staple *staples)
{
	while (staples) {
		struct staple *next = staples->next;

		free_one(staples);
		staples = next;
	}
}

/* ---- a response that is looked at ---- */

struct response {
	struct tlsfd_config *config; /* gets the sentences */
	const char *name;            /* of the file, or of what is in memory */
	const uint8_t *der;
	size_t size;
	OCSP_BASICRESP *basic;
	OCSP_SINGLERESP *about;      /* what it says of one of the config's certificates, */
	X509 *cert;                  /* and of which */
	STACK_OF(X509) *chain;       /* of this one */
	int64_t until;
};

static int refuse(const struct response *r, const char *why)
{
	return config_fail(r->config, -EINVAL, "%s: %s", r->name, why);
}

/* Of OpenSSL's errors the last one says least. */
static int refuse_by_openssl(const struct response *r, const char *why)
{
	int err = config_openssl_errno();

	return config_fail(r->config, err, "%s: %s", r->name,
			   err == -ENOMEM ? "memory is short" : why);
}

static int open_response(struct response *r, OCSP_RESPONSE *response)
{
	int status = OCSP_response_status(response);

	if (status != OCSP_RESPONSE_STATUS_SUCCESSFUL)
		return config_fail(r->config, -EINVAL, "%s: the responder said \"%s\"", r->name,
				   OCSP_response_status_str(status));
	r->basic = OCSP_response_get1_basic(response);
	return r->basic ? 0 : refuse_by_openssl(r, "no basic OCSP response in it");
}

static int parse(struct response *r)
{
	const uint8_t *at = r->der;
	OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)r->size);
	int err;

	if (!response)
		return refuse_by_openssl(r, "no OCSP response in DER");
	err = at == r->der + r->size ? open_response(r, response) :
				       refuse(r, "there is more behind the OCSP response");
	OCSP_RESPONSE_free(response);
	return err;
}

/* ---- which certificate is it about? ---- */

static X509 *issuer_of(X509 *cert, STACK_OF(X509) *chain)
{
	for (int i = 0; i < sk_X509_num(chain); i++) {
		X509 *issuer = sk_X509_value(chain, i);

		if (X509_NAME_cmp(X509_get_issuer_name(cert), X509_get_subject_name(issuer)) == 0)
			return issuer;
	}
	return NULL;
}

static bool is_digest(const ASN1_OCTET_STRING *hash, const uint8_t *digest, unsigned size)
{
	return ASN1_STRING_length(hash) == (int)size &&
	       memcmp(ASN1_STRING_get0_data(hash), digest, size) == 0;
}

/* RFC 6960 section 4.1.1: 1 or 0; -1: a digest can't be made. The issuer's key is known if
 * it is in the chain. */
static int is_about(OCSP_SINGLERESP *single, X509 *cert, X509 *issuer)
{
	ASN1_OCTET_STRING *name, *key;
	ASN1_OBJECT *algorithm;
	ASN1_INTEGER *serial;
	const EVP_MD *md;
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	OCSP_id_get0_info(&name, &algorithm, &key, &serial,
			  (OCSP_CERTID *)OCSP_SINGLERESP_get0_id(single));
	md = EVP_get_digestbyobj(algorithm);
	if (!md || ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(cert)) != 0)
		return 0;
	if (X509_NAME_digest(X509_get_issuer_name(cert), md, digest, &n) != 1)
		return -1;
	if (!issuer || !is_digest(name, digest, n))
		return is_digest(name, digest, n);
	if (X509_pubkey_digest(issuer, md, digest, &n) != 1)
		return -1;
	return is_digest(key, digest, n);
}

/* Of the certificate that is current in ctx; as is_about. */
static int find_single(struct response *r, SSL_CTX *ctx)
{
	int got = 0;

	r->cert = SSL_CTX_get0_certificate(ctx);
	SSL_CTX_get0_chain_certs(ctx, &r->chain);
	for (int i = 0; i < OCSP_resp_count(r->basic) && !got; i++) {
		r->about = OCSP_resp_get0(r->basic, i);
		got = is_about(r->about, r->cert, issuer_of(r->cert, r->chain));
	}
	return got;
}

/* A config has a certificate for each type of key; OpenSSL goes through them by making each
 * the current one. */
static int match(struct response *r)
{
	SSL_CTX *ctx = r->config->ctx;
	X509 *current = SSL_CTX_get0_certificate(ctx);
	int got = 0;

	if (!current)
		return refuse(r, "the certificate that it is for has to be set before");
	for (long which = SSL_CERT_SET_FIRST; !got && SSL_CTX_set_current_cert(ctx, which) == 1;
	     which = SSL_CERT_SET_NEXT)
		got = find_single(r, ctx);
	SSL_CTX_select_current_cert(ctx, current);
	if (got < 0)
		return refuse_by_openssl(r, "the digests in the OCSP response can't be checked");
	return got ? 0 :
		     config_fail(r->config, -ENODATA,
				 "%s: the OCSP response is for another certificate", r->name);
}

/* ---- is it good? ---- */

/* Is it as it was signed? By the issuer or by one whose certificate is in it (RFC 6960
 * section 4.2.2.2); whether that one may do so is the clients' question, who know whom they
 * trust. An issuer that is not in the chain is not known here. */
static int check_signature(const struct response *r)
{
	bool unknown;

	if (OCSP_basic_verify(r->basic, r->chain, NULL, OCSP_NOVERIFY) > 0)
		return 0;
	unknown = ERR_GET_REASON(ERR_peek_last_error()) == OCSP_R_SIGNER_CERTIFICATE_NOT_FOUND;
	if (!unknown)
		return refuse_by_openssl(r, "the signature of the OCSP response is wrong");
	ERR_clear_error();
	return issuer_of(r->cert, r->chain) ?
		       refuse(r, "nobody whom clients could know has signed the OCSP response") :
		       0;
}

static bool seconds_of(const ASN1_GENERALIZEDTIME *time, int64_t *seconds)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(time, &tm) != 1)
		return false;
	*seconds = timegm(&tm);
	return true;
}

static int expired(const struct response *r)
{
	struct tm tm;
	char until[64] = "";

	if (gmtime_r(&(time_t){ r->until }, &tm))
		strftime(until, sizeof(until), "%F %T", &tm);
	return config_fail(r->config, -EKEYEXPIRED,
			   "%s: the OCSP response was good until %s UTC only", r->name, until);
}

/* Without nextUpdate nobody could say when it is too old (RFC 6960 section 4.2.2.1). */
static int check_time(struct response *r, const ASN1_GENERALIZEDTIME *from,
		      const ASN1_GENERALIZEDTIME *until)
{
	enum { CLOCKS_DIFFER = 300 };
	int64_t since, now = time(NULL);

	if (!until)
		return refuse(r, "the OCSP response does not say until when it is good");
	if (!seconds_of(from, &since) || !seconds_of(until, &r->until) || since > r->until)
		return refuse(r, "the times of the OCSP response are wrong");
	if (since > now + CLOCKS_DIFFER)
		return refuse(r, "the OCSP response is from the future");
	return r->until > now ? 0 : expired(r);
}

static int check_status(struct response *r)
{
	ASN1_GENERALIZEDTIME *from = NULL, *until = NULL;
	int status = OCSP_single_get0_status(r->about, NULL, NULL, &from, &until);
	int err = check_signature(r);

	if (err)
		return err;
	if (status == V_OCSP_CERTSTATUS_REVOKED)
		return config_fail(r->config, -EKEYREVOKED,
				   "%s: the OCSP response says that the certificate is revoked",
				   r->name);
	if (status != V_OCSP_CERTSTATUS_GOOD)
		return refuse(r, "the OCSP responder does not know the certificate");
	return check_time(r, from, until);
}

/* ---- setting ---- */

/* In the place of one for the same certificate. */
static int keep(const struct response *r)
{
	struct staple *s = malloc(sizeof(*s) + r->size), **at = &r->config->staples;

	if (!s)
		return config_fail(r->config, -ENOMEM, "%s: memory is short", r->name);
	X509_up_ref(r->cert);
	*s = (struct staple){ .cert = r->cert, .until = r->until, .size = r->size };
	memcpy(s->der, r->der, r->size);
	while (*at && X509_cmp((*at)->cert, s->cert) != 0)
		at = &(*at)->next;
	if (*at) {
		s->next = (*at)->next;
		free_one(*at);
	}
	*at = s;
	return 0;
}

static int set(struct tlsfd_config *config, const char *name, const void *der, size_t size)
{
	struct response r = { .config = config, .name = name, .der = der, .size = size };
	int err;

	ERR_clear_error();
	err = size > LONG_MAX ? refuse(&r, "it is too long") : parse(&r);
	if (!err)
		err = match(&r);
	if (!err)
		err = check_status(&r);
	if (!err)
		err = keep(&r);
	OCSP_BASICRESP_free(r.basic);
	return err;
}

int tlsfd_config_set_ocsp_mem(struct tlsfd_config *config, const void *der, size_t size)
{
	int err = config_change(config);

	if (!err && !der)
		err = config_fail(config, -EINVAL, "OCSP response: not given");
	return err ? err : set(config, "OCSP response", der, size);
}

int tlsfd_config_set_ocsp_file(struct tlsfd_config *config, const char *path)
{
	int err = config_change(config);
	char *data;
	size_t size;

	if (err)
		return err;
	if (!path)
		return config_fail(config, -EINVAL, "no file is named");
	err = sys_read_file(path, &data, &size);
	if (err)
		return config_fail_file(config, err, path);
	err = set(config, path, data, size);
	OPENSSL_clear_free(data, size);
	return err;
}

/* ---- sending ---- */

static const struct staple *find(const struct staple *s, X509 *cert)
{
	while (s && (!cert || X509_cmp(s->cert, cert) != 0))
		s = s->next;
	return s;
}

/* The client has asked, and it is decided which certificate it gets. One that has grown too
 * old would make it give up, where without one it goes on. */
static int on_status(SSL *ssl, void *arg)
{
	const struct tlsfd *c = SSL_get_app_data(ssl);
	const struct tlsfd_config *config = c ? c->config : NULL;
	const struct staple *s;
	uint8_t *copy;

	(void)arg;
	if (config && c->for_name)
		config = c->for_name;
	if (!config || !SSL_is_server(ssl))
		return SSL_TLSEXT_ERR_NOACK;
	s = find(config->staples, SSL_get_certificate(ssl));
	if (!s || s->until <= time(NULL))
		return SSL_TLSEXT_ERR_NOACK;
	copy = OPENSSL_memdup(s->der, s->size);
	if (!copy)
		return SSL_TLSEXT_ERR_NOACK;
	SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)s->size);
	return SSL_TLSEXT_ERR_OK;
}

void staple_serve(struct tlsfd_config *config)
{
	if (config->staples)
		SSL_CTX_set_tlsext_status_cb(config->ctx, on_status);
}

void staple_drop(SSL *ssl)
{
	if (SSL_is_server(ssl))
		SSL_set_tlsext_status_ocsp_resp(ssl, NULL, 0);
}
