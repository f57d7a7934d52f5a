/*
 * A small world of certificates, made once per process, as PEM text.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef PKI_H
#define PKI_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct identity {
	EVP_PKEY *key;
	X509 *cert;
	char *cert_pem, *key_pem;
};

/* Leaves are for localhost, *.wild.test, 127.0.0.1 and ::1, unless said; address is for
 * 127.0.0.1 only, link_local for fe80::1, client for none. Each has its own word as Common Name. */
extern struct pki {
	struct identity ca, other_ca;
	struct identity good, rsa, expired, revoked, foreign, elsewhere, address, link_local, client;
	struct identity middle[2], deep; /* deep is issued by middle[1], that by middle[0] */
	char *crl_pem;     /* of ca: `revoked` is on it */
	char *old_crl_pem; /* of ca, out of date */
} pki;

void pki_make(void);
void pki_free(void);

/* One more, for localhost or an authority, good for so many seconds. */
void pki_issue(struct identity *id, const char *name, const struct identity *issuer, long seconds,
	       bool authority);
void pki_drop(struct identity *id);
/* A revocation list with `revoked` on it, in force between these seconds from now. */
char *pki_list(const struct identity *issuer, long from, long to);

/* What an OCSP response says: RFC 6960 section 4.2.1. */
struct ocsp {
	const struct identity *about, *issuer; /* its certID */
	const struct identity *issuer_key;     /* NULL: issuer's */
	const struct identity *signer;         /* NULL: issuer */
	const EVP_MD *digest;                  /* NULL: SHA-1, as most have it */
	int status;                            /* V_OCSP_CERTSTATUS_* */
	long from, to;                         /* seconds from now; to 0: no nextUpdate */
};

/* In DER, to be freed by OPENSSL_free. */
uint8_t *pki_ocsp(const struct ocsp *ocsp, size_t *size);

/* Gives an OpenSSL context the certificate and key of id. */
void pki_use(SSL_CTX *ctx, const struct identity *id);

#endif
