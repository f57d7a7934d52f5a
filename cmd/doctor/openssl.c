/* SPDX-License-Identifier: MIT */
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/opensslv.h>
#include <string.h>

#include "doctor.h"

/*
 * A library with kTLS marks the socket BIO when told that the next record is a
 * control record; one without it doesn't know the question. Touches no socket,
 * so the kernel has no say.
 */
static bool bio_knows_ktls(void)
{
	enum { SET_CTRL_MSG = 74, ALERT = 21 }; /* named in a comment of bio.h only */
	BIO *bio = BIO_new_socket(-1, BIO_NOCLOSE);
	int before;
	bool marked;

	if (!bio)
		return false;
	before = BIO_test_flags(bio, ~0);
	BIO_ctrl(bio, SET_CTRL_MSG, ALERT, NULL);
	marked = BIO_test_flags(bio, ~0) != before;
	BIO_free(bio);
	return marked;
}

/* The first TLS 1.2 row is AES-128-GCM, which every OpenSSL with kTLS moves. */
static const struct matrix_row *telling_row(const struct matrix_row rows[MATRIX_ROWS])
{
	for (int i = 0; i < MATRIX_ROWS; i++)
		if (!strcmp(rows[i].tls, "TLSv1.2"))
			return &rows[i];
	return &rows[0];
}

/* Seen to work: yes. Seen not to, where tlsfd shows that the kernel would: no. */
static enum probe_verdict compiled(const struct matrix_row *row)
{
	if (row->openssl.tx == PROBE_YES || bio_knows_ktls())
		return PROBE_YES;
	if (row->openssl.tx == PROBE_NO && row->tlsfd.tx == PROBE_YES)
		return PROBE_NO;
	return PROBE_UNKNOWN;
}

void ask_openssl(struct openssl *o, const struct matrix_row rows[MATRIX_ROWS])
{
	o->version = OpenSSL_version(OPENSSL_VERSION_STRING);
	o->headers = OPENSSL_FULL_VERSION_STR;
	o->ktls_compiled = compiled(telling_row(rows));
}
