/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <tlsfd/openssl.h>

#include "doctor.h"
#include "identity.h"
#include "pair.h"
#include "sys.h"

struct trial {
	const struct suite *suite;
	const struct identity *id;
	struct matrix_row *row;
	bool no_ulp; /* the kernel has just refused it */
};

static const struct suite {
	const char *tls, *cipher;
	int version;
} suites[MATRIX_ROWS] = {
	{ "TLSv1.3", "TLS_AES_128_GCM_SHA256", TLS1_3_VERSION },
	{ "TLSv1.3", "TLS_AES_256_GCM_SHA384", TLS1_3_VERSION },
	{ "TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256", TLS1_3_VERSION },
	{ "TLSv1.3", "TLS_AES_128_CCM_SHA256", TLS1_3_VERSION },
	{ "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", TLS1_2_VERSION },
	{ "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384", TLS1_2_VERSION },
	{ "TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305", TLS1_2_VERSION },
	{ "TLSv1.2", "ECDHE-ECDSA-AES128-CCM", TLS1_2_VERSION },
	/* CBC: no kernel has it; the row shows what that looks like */
	{ "TLSv1.2", "ECDHE-ECDSA-AES128-SHA256", TLS1_2_VERSION },
};

static int set_cipher(SSL_CTX *ctx, const struct suite *suite)
{
	if (suite->version == TLS1_3_VERSION)
		return SSL_CTX_set_ciphersuites(ctx, suite->cipher);
	return SSL_CTX_set_cipher_list(ctx, suite->cipher);
}

/* Would this OpenSSL offer the cipher, under its configuration and security level? */
static bool offered(SSL_CTX *ctx, const char *cipher)
{
	SSL *ssl = SSL_new(ctx);
	STACK_OF(SSL_CIPHER) *list = ssl ? SSL_get1_supported_ciphers(ssl) : NULL;
	bool found = false;

	for (int i = 0; i < sk_SSL_CIPHER_num(list); i++)
		if (!strcmp(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(list, i)), cipher))
			found = true;
	sk_SSL_CIPHER_free(list);
	SSL_free(ssl);
	return found;
}

static int set_up(SSL_CTX *ctx, const struct trial *t)
{
	if (SSL_CTX_set_min_proto_version(ctx, t->suite->version) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, t->suite->version) != 1 ||
	    set_cipher(ctx, t->suite) != 1 || !offered(ctx, t->suite->cipher))
		return -ENOTSUP;
	/* tickets would arrive as records that a plain read can't take */
	SSL_CTX_set_num_tickets(ctx, 0);
	return identity_use(t->id, ctx);
}

/* One context serves both ends. NULL: not made, *err says why. */
static SSL_CTX *context(const struct trial *t, int *err)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	*err = ctx ? set_up(ctx, t) : -ENOMEM;
	if (!*err)
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

static enum probe_verdict verdict(bool yes)
{
	return yes ? PROBE_YES : PROBE_NO;
}

/* ---- as OpenSSL alone does it ---- */

static int by_openssl(SSL_CTX *ctx, const struct trial *t)
{
	struct pair p;
	int err;

	if (t->no_ulp) {
		/* OpenSSL would make the same call, and each can run modprobe */
		t->row->openssl = (struct way){ PROBE_NO, PROBE_NO };
		return 0;
	}
	SSL_CTX_set_options(ctx, SSL_OP_ENABLE_KTLS);
	err = pair_open(&p, ctx);
	if (err)
		return err;
	err = pair_handshake(&p);
	if (!err) {
		t->row->openssl.tx = verdict(BIO_get_ktls_send(SSL_get_wbio(p.ssl[0])) &&
					     BIO_get_ktls_send(SSL_get_wbio(p.ssl[1])));
		t->row->openssl.rx = verdict(BIO_get_ktls_recv(SSL_get_rbio(p.ssl[0])) &&
					     BIO_get_ktls_recv(SSL_get_rbio(p.ssl[1])));
	}
	pair_close(&p);
	return err;
}

/* ---- as tlsfd does it ---- */

static void note_why(struct matrix_row *row, const char *why, const char *remedy)
{
	if (row->why[0])
		return; /* the first cause wins */
	snprintf(row->why, sizeof(row->why), "%s", why);
	snprintf(row->remedy, sizeof(row->remedy), "%s", remedy ? remedy : "");
}

/* A direction is refused for its own reason, or because the other one was. */
static enum tlsfd_why first_why(const struct tlsfd_report *r)
{
	enum tlsfd_why rx = tlsfd_report_why(r, TLSFD_RX);

	if (rx != TLSFD_WHY_NONE && rx != TLSFD_WHY_OTHER_DIRECTION)
		return rx;
	return tlsfd_report_why(r, TLSFD_TX);
}

static void note_report(struct matrix_row *row, const struct tlsfd_report *r, struct way *way)
{
	if (!tlsfd_report_kernel(r, TLSFD_TX))
		way->tx = PROBE_NO;
	if (!tlsfd_report_kernel(r, TLSFD_RX))
		way->rx = PROBE_NO;
	if (way->tx != PROBE_YES || way->rx != PROBE_YES)
		note_why(row, tlsfd_why_name(first_why(r)), tlsfd_report_remedy(r));
}

/* Without keys in the kernel plain write and read would agree too, on plaintext:
 * ask the socket, not the library. */
static bool kernel_sends_tls(int fd)
{
	struct tls_crypto_info info;
	socklen_t len = sizeof(info);

	return sys_getsockopt(fd, SOL_TLS, TLS_TX, &info, &len) == 0;
}

static void hand_over(const struct pair *p, struct matrix_row *row)
{
	struct way way = { PROBE_YES, PROBE_YES };
	struct tlsfd_report *report;

	for (int i = 0; i < 2; i++) {
		int err = tlsfd_handover(p->ssl[i], NULL, &report);

		if (report) {
			note_report(row, report, &way);
		} else if (err) {
			way = (struct way){ PROBE_NO, PROBE_NO };
			note_why(row, tlsfd_why_name(TLSFD_WHY_MEMORY), NULL);
		}
		tlsfd_report_free(report);
	}
	if (way.tx == PROBE_YES && way.rx == PROBE_YES &&
	    (!kernel_sends_tls(p->fd[0]) || !kernel_sends_tls(p->fd[1]) || pair_exchange(p))) {
		way = (struct way){ PROBE_NO, PROBE_NO };
		note_why(row, "data", NULL);
	}
	row->tlsfd = way;
}

static int by_tlsfd(SSL_CTX *ctx, const struct trial *t)
{
	struct pair p;
	int err;

	/* a system-wide openssl.cnf can have switched it on */
	SSL_CTX_clear_options(ctx, SSL_OP_ENABLE_KTLS);
	err = tlsfd_prepare(ctx);
	if (!err)
		err = pair_open(&p, ctx);
	if (err)
		return err;
	err = pair_handshake(&p);
	if (!err)
		hand_over(&p, t->row);
	pair_close(&p);
	return err;
}

/* ---- the table ---- */

static int in_new_context(int (*way)(SSL_CTX *, const struct trial *), const struct trial *t)
{
	int err;
	SSL_CTX *ctx = context(t, &err);

	if (ctx)
		err = way(ctx, t);
	SSL_CTX_free(ctx);
	return err;
}

static void note_not_made(struct matrix_row *row, int err)
{
	if (err == -ENOTSUP)
		note_why(row, "not-in-openssl", NULL);
	else if (err == -EPROTO || err == -EIO)
		note_why(row, "openssl", NULL);
	else
		note_why(row, why_no_pair(err), remedy_no_pair(err));
}

static int fill_row(const struct trial *t)
{
	int err = in_new_context(by_openssl, t);

	if (err != -ETIMEDOUT)
		err = in_new_context(by_tlsfd, t);
	if (err)
		note_not_made(t->row, err);
	ERR_clear_error();
	return err;
}

/* After a time-out no further handshake is tried: packets get lost here. */
void ask_matrix(struct matrix_row rows[MATRIX_ROWS], const struct ulp *ulp)
{
	struct identity id = { 0 };
	int stop = identity_make(&id);

	if (!stop && ulp->answer.verdict == PROBE_UNKNOWN)
		stop = ulp->answer.error;
	for (int i = 0; i < MATRIX_ROWS; i++) {
		struct trial t = { &suites[i], &id, &rows[i], ulp->answer.verdict == PROBE_NO };

		rows[i] = (struct matrix_row){ .tls = suites[i].tls, .cipher = suites[i].cipher };
		if (stop) {
			note_not_made(&rows[i], stop);
			continue;
		}
		stop = fill_row(&t) == -ETIMEDOUT ? -ETIMEDOUT : 0;
		if (ulp->remedy && !strcmp(ulp->why, rows[i].why))
			snprintf(rows[i].remedy, REMEDY_SIZE, "%s", ulp->remedy); /* knows more */
	}
	identity_free(&id);
}
