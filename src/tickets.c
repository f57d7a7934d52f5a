/* SPDX-License-Identifier: MIT */
#include "tickets.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"
#include "keys.h"
#include "openssl_side.h"
#include "seal.h"

enum { TICKETS_MAX = 32 }; /* that are parsed; a session needs one */

struct tickets {
	SSL *ssl; /* the caller's may be freed */
	struct tlsfd *c;
	const struct cipher *cipher;
	struct crypto_info key; /* the server's, as of the handover ... */
	uint64_t sequence;	/* ... and the number of its next record there */
	bool opened;		/* OpenSSL itself gave RX to the kernel: it takes plaintext */
	bool known;		/* one of both */
	unsigned taken;
	uint8_t alert;	  /* that OpenSSL wants to send */
	uint8_t *message; /* the ticket under way; NULL: none, or it is skipped */
	size_t have, size;
};

/* ---- lifetime ---- */

static bool wanted_by(const SSL *ssl)
{
	SSL_CTX *ctx = SSL_get_SSL_CTX(ssl);

	return !SSL_is_server(ssl) && SSL_version(ssl) == TLS1_3_VERSION &&
	       SSL_CTX_get_session_cache_mode(ctx) & SSL_SESS_CACHE_CLIENT &&
	       SSL_CTX_sess_get_new_cb(ctx);
}

int tickets_new(struct tickets **t, SSL *ssl)
{
	if (!wanted_by(ssl))
		return 0;
	*t = calloc(1, sizeof(**t));
	if (!*t)
		return -ENOMEM;
	SSL_up_ref(ssl);
	(*t)->ssl = ssl;
	return 0;
}

static void drop_message(struct tickets *t)
{
	OPENSSL_clear_free(t->message, t->size);
	t->message = NULL;
}

void tickets_free(struct tickets *t)
{
	if (!t)
		return;
	drop_message(t);
	SSL_free(t->ssl);
	OPENSSL_cleanse(t, sizeof(*t));
	free(t);
}

void tickets_keep(struct tickets *t, const struct plan *p)
{
	const struct crypto_info *info = &p->info[RX];

	t->opened = p->mover[RX] == TLSFD_MOVER_OPENSSL;
	t->known = t->opened || (p->mover[RX] == TLSFD_MOVER_TLSFD && info->size);
	if (!t->known || t->opened)
		return;
	t->cipher = p->cipher;
	keys_copy(t->key.bytes, info->bytes, info->size);
	t->key.size = info->size;
	t->sequence = p->watch->way[RX].flow.records;
}

struct tickets *tickets_start(struct tickets *t, struct tlsfd *c)
{
	if (t && t->known) {
		t->c = c;
		return t;
	}
	tickets_free(t);
	return NULL;
}

/* ---- the way into OpenSSL ---- */

/* What OpenSSL's kTLS reads is opened already, behind a header with the inner type
 * (include/internal/ktls.h: ktls_read_record). */
static size_t make_record(struct tickets *t, const uint8_t *data, size_t n, uint8_t *out)
{
	if (!t->opened)
		return seal(t->cipher, &t->key, t->sequence++, RECORD_HANDSHAKE, data, n, out);
	memcpy(out, (uint8_t[]){ RECORD_HANDSHAKE, 3, 3, (uint8_t)(n >> 8), (uint8_t)n },
	       RECORD_HEADER);
	memcpy(out + RECORD_HEADER, data, n);
	return RECORD_HEADER + n;
}

/* The message as records in a BIO; NULL: no memory. */
static BIO *make_records(struct tickets *t)
{
	BIO *bio = BIO_new(BIO_s_mem());
	uint64_t sequence = t->sequence;
	uint8_t record[SEAL_MAX];

	for (size_t at = 0; bio && at < t->size; at += SEAL_DATA_MAX) {
		size_t n = t->size - at < SEAL_DATA_MAX ? t->size - at : SEAL_DATA_MAX;

		n = make_record(t, t->message + at, n, record);
		if (!n || BIO_write(bio, record, (int)n) != (int)n) {
			BIO_free(bio);
			bio = NULL;
			t->sequence = sequence;
		}
	}
	OPENSSL_cleanse(record, sizeof(record));
	return bio;
}

static void on_info(const SSL *ssl, int where, int ret)
{
	struct tickets *t = BIO_get_app_data(SSL_get_rbio(ssl));

	if (t && where & SSL_CB_ALERT && where & SSL_CB_WRITE)
		t->alert = (uint8_t)ret;
}

/* Lets OpenSSL read bio to its end. False: it found something wrong. */
static bool read_all(SSL *ssl, BIO *bio)
{
	uint8_t byte;
	size_t n;
	int ret;

	do {
		ERR_clear_error();
		ret = SSL_read_ex(ssl, &byte, 1, &n);
	} while (BIO_pending(bio) && SSL_get_error(ssl, ret) == SSL_ERROR_WANT_READ);
	return SSL_get_error(ssl, ret) == SSL_ERROR_WANT_READ;
}

/*
 * For the moment ssl reads and writes here; then all is as it was, and it stays inert
 * and its session resumable. An SSL that still sends for the connection (half-moved)
 * keeps its way out: its alert is the alert.
 */
static bool read_in_place(struct tickets *t, BIO *bio, BIO *nowhere)
{
	void (*info)(const SSL *ssl, int where, int ret) = SSL_get_info_callback(t->ssl);
	BIO *rbio = SSL_get_rbio(t->ssl), *wbio = SSL_get_wbio(t->ssl);
	int shutdown = SSL_get_shutdown(t->ssl);
	bool sends = t->c->user, ok;

	BIO_up_ref(rbio);
	BIO_up_ref(wbio);
	BIO_up_ref(bio);
	SSL_set0_rbio(t->ssl, bio);
	if (!sends) {
		BIO_up_ref(nowhere);
		SSL_set0_wbio(t->ssl, nowhere);
		SSL_set_shutdown(t->ssl, 0);
	}
	SSL_set_info_callback(t->ssl, on_info);
	ok = read_all(t->ssl, bio);
	SSL_set_info_callback(t->ssl, info);
	SSL_set0_rbio(t->ssl, rbio);
	SSL_set0_wbio(t->ssl, wbio);
	if (!sends) {
		SSL_set_shutdown(t->ssl, shutdown);
		SSL_free_buffers(t->ssl); /* 33 KB */
	}
	return ok;
}

/* False: *alert says why. */
static bool give(struct tickets *t, BIO *bio, BIO *nowhere, uint8_t *alert)
{
	struct userspace *u = t->c->user;
	bool ok;

	t->alert = ALERT_INTERNAL_ERROR;
	BIO_set_mem_eof_return(bio, -1);
	BIO_set_app_data(bio, t);
	if (u)
		pthread_mutex_lock(&u->lock);
	ok = read_in_place(t, bio, nowhere);
	if (u)
		pthread_mutex_unlock(&u->lock);
	ERR_clear_error();
	*alert = u ? ALERT_NONE : t->alert;
	return ok;
}

/* ---- tickets ---- */

void tickets_begin(struct tickets *t, size_t size)
{
	t->have = 0;
	t->size = size;
	t->message = OPENSSL_malloc(size);
}

void tickets_put(struct tickets *t, const uint8_t *data, size_t n)
{
	if (t->message && n <= t->size - t->have) {
		memcpy(t->message + t->have, data, n);
		t->have += n;
	}
}

bool tickets_end(struct tickets **tickets, uint8_t *alert)
{
	struct tickets *t = *tickets;
	BIO *nowhere = t->message ? BIO_new(BIO_s_null()) : NULL;
	BIO *bio = nowhere ? make_records(t) : NULL;
	bool ok = !bio || give(t, bio, nowhere, alert);

	/* without memory this ticket is lost; the next one isn't */
	BIO_free(bio);
	BIO_free(nowhere);
	drop_message(t);
	if (++t->taken == TICKETS_MAX || !ok) {
		tickets_free(t);
		*tickets = NULL;
	}
	return ok;
}
