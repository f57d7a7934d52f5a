/* SPDX-License-Identifier: MIT */
#include "pem.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

#include "sys.h"

/* Never asks at the terminal. */
static int no_password(char *buf, int size, int writing, void *arg)
{
	(void)buf, (void)size, (void)writing, (void)arg;
	return -1;
}

/* ---- open and close ---- */

int pem_open_mem(struct pem *pem, struct tlsfd_config *config, const char *name,
		 const void *data, size_t size)
{
	*pem = (struct pem){ .config = config, .name = name, .data = data, .size = size };
	if (!data || size > INT_MAX)
		return config_fail(config, -EINVAL, "%s: not given", name);
	ERR_clear_error();
	pem->bio = BIO_new_mem_buf(data, (int)size);
	return pem->bio ? 0 : -ENOMEM;
}

int pem_open_file(struct pem *pem, struct tlsfd_config *config, const char *path)
{
	char *data;
	size_t size;
	int err;

	if (!path)
		return config_fail(config, -EINVAL, "no file is named");
	err = sys_read_file(path, &data, &size);
	if (err)
		return config_fail_file(config, err, path);
	err = pem_open_mem(pem, config, path, data, size);
	pem->file = data;
	pem->file_size = size;
	if (err)
		pem_close(pem);
	return err;
}

void pem_close(struct pem *pem)
{
	BIO_free(pem->bio);
	OPENSSL_clear_free(pem->file, pem->file_size);
}

/* ---- the next object ---- */

/* Number of the line, from 1, that is left bytes before the end. */
static unsigned line_at(const struct pem *pem, size_t left)
{
	const char *at = pem->data, *end = pem->data + pem->size - left;
	unsigned line = 1;

	while ((at = memchr(at, '\n', (size_t)(end - at)))) {
		at++;
		line++;
	}
	return line;
}

static bool mentions(const struct pem *pem, const char *text)
{
	return memmem(pem->data, pem->size, text, strlen(text));
}

static bool at_end(void)
{
	unsigned long error = ERR_peek_last_error();

	return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

/* What a read that gave `got` means; left: bytes that were there before it. */
static int outcome(struct pem *pem, const void *got, size_t left)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	bool end = at_end();

	if (got || end) {
		ERR_clear_error();
		return got != NULL;
	}
	return config_fail(pem->config, reason ? config_openssl_errno() : -ENOMEM,
			   "%s: line %u: %s", pem->name, line_at(pem, left),
			   reason ? reason : "memory is short");
}

int pem_next_certificate(struct pem *pem, X509 **cert)
{
	size_t left = BIO_pending(pem->bio);

	*cert = PEM_read_bio_X509(pem->bio, NULL, no_password, NULL);
	return outcome(pem, *cert, left);
}

int pem_next_crl(struct pem *pem, X509_CRL **crl)
{
	size_t left = BIO_pending(pem->bio);

	*crl = PEM_read_bio_X509_CRL(pem->bio, NULL, no_password, NULL);
	return outcome(pem, *crl, left);
}

int pem_next_key(struct pem *pem, EVP_PKEY **key)
{
	size_t left = BIO_pending(pem->bio);

	*key = NULL;
	if (!mentions(pem, "PRIVATE KEY-----"))
		return 0;
	*key = PEM_read_bio_PrivateKey(pem->bio, NULL, no_password, NULL);
	if (!*key && mentions(pem, "ENCRYPTED"))
		return config_fail(pem->config, -EINVAL,
				   "%s: the key is encrypted; give it without a password",
				   pem->name);
	return outcome(pem, *key, left);
}

/* ---- all of them ---- */

static int collect(struct pem *pem, STACK_OF(X509) *certs)
{
	X509 *cert;
	int n;

	while ((n = pem_next_certificate(pem, &cert)) > 0)
		if (!sk_X509_push(certs, cert)) {
			X509_free(cert);
			return -ENOMEM;
		}
	return n;
}

int pem_certificates(struct pem *pem, STACK_OF(X509) **certs)
{
	int err;

	*certs = sk_X509_new_null();
	if (!*certs)
		return -ENOMEM;
	err = collect(pem, *certs);
	if (!err && sk_X509_num(*certs) == 0)
		err = config_fail(pem->config, -EINVAL, "%s: no certificate in it, in PEM", pem->name);
	if (!err)
		return 0;
	sk_X509_pop_free(*certs, X509_free);
	return err;
}
