/*
 * PEM text (RFC 7468) from a file or from memory, object by object, with the place
 * of an error.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_PEM_H
#define TLSFD_PEM_H

#include <openssl/x509.h>

#include "config.h"

struct pem {
	struct tlsfd_config *config; /* gets the sentences */
	const char *name;            /* of the file, or of what is in memory */
	char *file;                  /* its bytes, if we read them */
	size_t file_size;
	const char *data;
	size_t size;
	BIO *bio;
};

/* 0 or a negative errno with a sentence. A pem that failed to open needs no close. */
int pem_open_file(struct pem *pem, struct tlsfd_config *config, const char *path);
int pem_open_mem(struct pem *pem, struct tlsfd_config *config, const char *name,
		 const void *data, size_t size);
void pem_close(struct pem *pem); /* wipes what was read */

/* The next one: 1, 0: there is none, or a negative errno with a sentence. */
int pem_next_certificate(struct pem *pem, X509 **cert);
int pem_next_crl(struct pem *pem, X509_CRL **crl);
int pem_next_key(struct pem *pem, EVP_PKEY **key);

/* All certificates, at least one. 0 or a negative errno with a sentence. */
int pem_certificates(struct pem *pem, STACK_OF(X509) **certs);

#endif
