/* SPDX-License-Identifier: MIT */
#include "term.h"

#include <endian.h>
#include <openssl/x509_vfy.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* ---- in the session ---- */

/* The last second of its term, in all of its tickets and copies. False: it isn't said yet. */
static bool get_last(SSL_SESSION *session, int64_t *last)
{
	uint64_t number;
	void *data;
	size_t size;

	if (SSL_SESSION_get0_ticket_appdata(session, &data, &size) != 1 || size != sizeof(number))
		return false;
	memcpy(&number, data, sizeof(number));
	*last = (int64_t)be64toh(number);
	return true;
}

static bool set_last(SSL_SESSION *session, int64_t last)
{
	uint64_t number = htobe64((uint64_t)last);

	return SSL_SESSION_set1_ticket_appdata(session, &number, sizeof(number)) == 1;
}

/* By what OpenSSL looks at, a time and how long from there. In a ticket it takes 0 for either
 * as absent (ssl/ssl_asn1.c: d2i_SSL_SESSION). */
static void limit(SSL_SESSION *session, int64_t last)
{
	int64_t left = last - (int64_t)SSL_SESSION_get_time(session);

	if (left < 1) {
		SSL_SESSION_set_time(session, 1);
		left = 1;
	}
	if (left < (int64_t)SSL_SESSION_get_timeout(session))
		SSL_SESSION_set_timeout(session, (long)left);
}

/* ---- how long a chain lasts ---- */

static int64_t seconds_of(const ASN1_TIME *time)
{
	struct tm tm;

	return time && ASN1_TIME_to_tm(time, &tm) == 1 ? (int64_t)timegm(&tm) : INT64_MAX;
}

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* What is still to come of these makes another list count, or none. */
static int64_t change_of(const X509_CRL *crl, int64_t now)
{
	int64_t from = seconds_of(X509_CRL_get0_lastUpdate(crl));
	int64_t to = seconds_of(X509_CRL_get0_nextUpdate(crl));

	return sooner(from > now ? from : INT64_MAX, to > now ? to : INT64_MAX);
}

/* The store is shared, and sorted while others look something up. */
static int64_t lists_change(X509_STORE *store, int64_t now)
{
	int64_t first = INT64_MAX;
	STACK_OF(X509_OBJECT) *objects;

	X509_STORE_lock(store);
	objects = X509_STORE_get0_objects(store);
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		const X509_CRL *crl = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));

		if (crl)
			first = sooner(first, change_of(crl, now));
	}
	X509_STORE_unlock(store);
	return first;
}

/* A certificate is expired at its notAfter, a list at its nextUpdate (crypto/x509/x509_vfy.c:
 * ossl_x509_check_cert_time, check_crl_time). */
static int64_t last_of(X509_STORE_CTX *verified, int64_t when)
{
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(verified);
	int64_t end = lists_change(X509_STORE_CTX_get0_store(verified), when);

	for (int i = 0; i < sk_X509_num(chain); i++)
		end = sooner(end, seconds_of(X509_get0_notAfter(sk_X509_value(chain, i))));
	return end - 1;
}

/* ---- OpenSSL's callbacks ---- */

static bool begin(SSL_SESSION *session, int64_t last)
{
	last = sooner(last, (int64_t)SSL_SESSION_get_time(session) +
				    (int64_t)SSL_SESSION_get_timeout(session));
	limit(session, last); /* of TLS 1.2 that is all that is needed */
	return set_last(session, last);
}

static int on_chain(X509_STORE_CTX *store, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	int64_t now = (int64_t)time(NULL); /* a list that ends while it is verified has counted */
	bool good = X509_verify_cert(store) == 1;

	(void)arg;
	if (good && SSL_is_server(ssl) && !begin(SSL_get_session(ssl), last_of(store, now))) {
		X509_STORE_CTX_set_error(store, X509_V_ERR_OUT_OF_MEM);
		return 0;
	}
	return good;
}

/*
 * RFC 8446 section 4.6.1: limits on the total lifetime are recommended, as new tickets would
 * extend it without end. OpenSSL has just set the session's time to now. A TLS 1.2 session
 * keeps its time, and other threads may have it, too.
 */
static int on_ticket(SSL *ssl, void *arg)
{
	SSL_SESSION *session = SSL_get_session(ssl);
	int64_t last;

	(void)arg;
	if (SSL_version(ssl) != TLS1_3_VERSION)
		return 1;
	if (!get_last(session, &last))
		return begin(session, INT64_MAX);
	limit(session, last);
	return 1;
}

void term_serve(SSL_CTX *ctx)
{
	SSL_CTX_set_cert_verify_callback(ctx, on_chain, NULL);
	SSL_CTX_set_session_ticket_cb(ctx, on_ticket, NULL, NULL);
}
