/* SPDX-License-Identifier: MIT */
#include "watch.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "attach.h"

/* Callbacks that were on the SSL_CTX before ours. */
struct prepared {
	SSL_CTX_keylog_cb_func keylog;
	void (*info)(const SSL *ssl, int where, int ret);
};

/* Ours on a BIO. */
struct tap {
	struct watch *watch;
	BIO_callback_fn_ex before;
	bool own; /* the BIO is userspace.c's, which knows what has moved */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int ctx_index = -1, ssl_index = -1, bio_index = -1;

static void on_keylog(const SSL *ssl, const char *line);
static void on_info(const SSL *ssl, int where, int ret);
static long on_bio(BIO *bio, int oper, const char *argp, size_t len, int argi, long argl, int ret,
		   size_t *processed);

/* ---- lifetimes ---- */

static struct watch *watch_new(void)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (w)
		w->refs = 1;
	return w;
}

static void watch_put(struct watch *w)
{
	/* a BIO may end in another thread than its SSL */
	if (w && __atomic_sub_fetch(&w->refs, 1, __ATOMIC_ACQ_REL) == 0) {
		OPENSSL_cleanse(w, sizeof(*w));
		free(w);
	}
}

static void free_prepared(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
			  void *argp)
{
	(void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
	free(ptr);
}

static void free_watch(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	(void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
	watch_put(ptr);
}

static void free_tap(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	struct tap *tap = ptr;

	(void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
	if (tap)
		watch_put(tap->watch);
	free(tap);
}

/* SSL_dup shares nothing: the copy has a connection of its own. */
static int dup_nothing(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **from_d, int idx,
		       long argl, void *argp)
{
	(void)to, (void)from, (void)idx, (void)argl, (void)argp;
	*from_d = NULL;
	return 1;
}

static void make_indexes(void)
{
	ctx_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_prepared);
	ssl_index = SSL_get_ex_new_index(0, NULL, NULL, dup_nothing, free_watch);
	bio_index = BIO_get_ex_new_index(0, NULL, NULL, dup_nothing, free_tap);
}

static bool have_indexes(void)
{
	return pthread_once(&once, make_indexes) == 0 && ctx_index >= 0 && ssl_index >= 0 &&
	       bio_index >= 0;
}

static struct tap *tap_of(BIO *bio)
{
	return BIO_get_ex_data(bio, bio_index);
}

static bool is_on(const struct watch *w, BIO *bio)
{
	const struct tap *tap = bio ? tap_of(bio) : NULL;

	return tap && tap->watch == w;
}

/* An SSL that was given other BIOs still has the watch of its earlier connection. */
struct watch *watch_of(const SSL *ssl)
{
	struct watch *w = have_indexes() ? SSL_get_ex_data(ssl, ssl_index) : NULL;

	return w && is_on(w, SSL_get_rbio(ssl)) && is_on(w, SSL_get_wbio(ssl)) ? w : NULL;
}

/* ---- the BIO: following bytes, then refusing them ---- */

static uint64_t bio_count(BIO *bio, enum way way)
{
	return way == RX ? BIO_number_read(bio) : BIO_number_written(bio);
}

/* A callback of the kind before OpenSSL 1.1.1, which ours would put out of work. */
static bool has_old_callback(const BIO *bio)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	return BIO_get_callback(bio) && !BIO_get_callback_ex(bio);
#pragma GCC diagnostic pop
}

/* 0, or a negative errno: this BIO can't be followed. One that served an earlier
 * SSL can't: what it was closed for stays closed. */
static int tap_bio(struct watch *w, BIO *bio)
{
	struct tap *tap = tap_of(bio);

	if (tap && tap->watch == w)
		return 0;
	if (tap || has_old_callback(bio))
		return -EBUSY;
	tap = calloc(1, sizeof(*tap));
	if (!tap || !BIO_set_ex_data(bio, bio_index, tap)) {
		free(tap);
		return -ENOMEM;
	}
	tap->watch = w;
	__atomic_add_fetch(&w->refs, 1, __ATOMIC_RELAXED);
	tap->before = BIO_get_callback_ex(bio);
	BIO_set_callback_ex(bio, on_bio);
	return 0;
}

static void follow(struct watched_way *way, const char *data, size_t offered, size_t taken)
{
	record_flow_feed(&way->flow, (const uint8_t *)data, taken);
	way->short_write = taken < offered;
}

/* A half-moved connection still needs OpenSSL on it, for the alerts of the other half. */
static bool in_use(const struct tap *tap)
{
	return tap->own && !(tap->watch->way[RX].closed && tap->watch->way[TX].closed);
}

static bool is_closed(const struct tap *tap, int oper)
{
	const struct watch *w = tap->watch;

	if (in_use(tap))
		return false;
	switch (oper) {
	case BIO_CB_READ:
	case BIO_CB_GETS:
		return w->way[RX].closed;
	case BIO_CB_WRITE:
	case BIO_CB_PUTS:
		return w->way[TX].closed;
	default:
		return false;
	}
}

static long refuse(BIO *bio)
{
	BIO_clear_retry_flags(bio);
	errno = ESHUTDOWN;
	return -1;
}

/* What OpenSSL's macros BIO_get_ktls_send and BIO_get_ktls_recv ask; they exist
 * only in an OpenSSL built with kTLS. */
static bool answers_ktls(const struct watch *w, int cmd)
{
	enum { GET_KTLS_SEND = 73, GET_KTLS_RECV = 76 };

	return (cmd == GET_KTLS_SEND && w->way[TX].moved) ||
	       (cmd == GET_KTLS_RECV && w->way[RX].moved);
}

static long on_bio(BIO *bio, int oper, const char *argp, size_t len, int argi, long argl, int ret,
		   size_t *processed)
{
	struct tap *tap = tap_of(bio);
	struct watch *w;

	if (!tap) /* a copy made by BIO_dup_chain */
		return ret;
	w = tap->watch;
	if (is_closed(tap, oper))
		return refuse(bio);
	if (oper == (BIO_CB_READ | BIO_CB_RETURN) && ret > 0)
		follow(&w->way[RX], argp, *processed, *processed);
	if (oper == (BIO_CB_WRITE | BIO_CB_RETURN))
		follow(&w->way[TX], argp, len, ret > 0 ? *processed : 0);
	if (oper == (BIO_CB_CTRL | BIO_CB_RETURN) && !in_use(tap) && answers_ktls(w, argi))
		ret = 1;
	return tap->before ? tap->before(bio, oper, argp, len, argi, argl, ret, processed) : ret;
}

bool watch_saw_all(const struct watch *w, BIO *bio, enum way way)
{
	return is_on(w, bio) &&
	       w->way[way].bio_bytes + w->way[way].flow.bytes == bio_count(bio, way);
}

void watch_close(struct watch *w, BIO *bio, enum way way)
{
	w->way[way].closed = true;
	if (BIO_get_callback_ex(bio) != on_bio)
		BIO_set_callback_ex(bio, on_bio);
}

/* ---- the SSL: from its first message on ---- */

static int look(struct watch *w, BIO *rbio, BIO *wbio)
{
	int err = tap_bio(w, rbio);

	if (!err)
		err = tap_bio(w, wbio);
	w->way[RX].bio_bytes = bio_count(rbio, RX);
	w->way[TX].bio_bytes = bio_count(wbio, TX);
	return err;
}

void watch_follow(SSL *ssl, BIO *bio)
{
	struct watch *w = watch_of(ssl);

	if (!w || tap_bio(w, bio) < 0)
		return;
	tap_of(bio)->own = true;
	/* the difference counts; it may be below zero */
	for (enum way way = RX; way < WAYS; way++)
		w->way[way].bio_bytes = bio_count(bio, way) - w->way[way].flow.bytes;
}

static int watch_replace(SSL *ssl, struct watch *w)
{
	struct watch *old = SSL_get_ex_data(ssl, ssl_index);

	if (!SSL_set_ex_data(ssl, ssl_index, w)) {
		watch_put(w);
		return -ENOMEM;
	}
	watch_put(old);
	return 0;
}

/* The watch on the BIOs that ssl has now; a new one if the BIOs are new. 0; -ENOMEM;
 * -EBUSY: one of the BIOs can't be followed. */
static int watch_start(SSL *ssl, bool at_first_record)
{
	BIO *rbio = SSL_get_rbio(ssl), *wbio = SSL_get_wbio(ssl);
	struct watch *w;
	int err;

	if (watch_of(ssl))
		return 0;
	if (!rbio || !wbio)
		return -EBUSY;
	w = watch_new();
	if (!w)
		return -ENOMEM;
	w->from_start = at_first_record;
	err = look(w, rbio, wbio);
	if (err) {
		watch_put(w);
		w = NULL; /* nor is what an earlier connection left of any use */
	}
	return watch_replace(ssl, w) ? -ENOMEM : err;
}

int watch_ensure(SSL *ssl)
{
	return have_indexes() ? watch_start(ssl, false) : -ENOMEM;
}

bool watch_can_follow(BIO *bio)
{
	return !has_old_callback(bio);
}

static struct prepared *prepared_of(const SSL *ssl)
{
	return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ctx_index);
}

static void on_info(const SSL *ssl, int where, int ret)
{
	const struct prepared *before = prepared_of(ssl);

	if (where & SSL_CB_HANDSHAKE_START) {
		watch_start((SSL *)ssl, true);
		attach_early(SSL_get_fd(ssl));
	}
	if (before && before->info)
		before->info(ssl, where, ret);
}

/* ---- the key log: traffic secrets as they come into use ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Bytes written to out; 0 if text isn't 1 to max bytes in hexadecimal. */
static size_t from_hex(const char *text, uint8_t *out, size_t max)
{
	size_t n = strlen(text) / 2;

	if (n > max || strlen(text) % 2)
		return 0;
	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return 0;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return n;
}

/* "LABEL CLIENT_RANDOM SECRET", draft-ietf-tls-keylogfile: the field after the
 * second blank if the label is `label`. */
static const char *logged_secret(const char *line, const char *label)
{
	size_t n = strlen(label);

	if (strncmp(line, label, n) || line[n] != ' ')
		return NULL;
	line = strchr(line + n + 1, ' ');
	return line ? line + 1 : NULL;
}

/*
 * OpenSSL has flushed what it wrote under the old keys and is at the end of the
 * record that it read last: what follows is under the new ones. (With read-ahead
 * it can hold more than that record; then the count is not known.)
 */
static void change_keys(struct watch *w, SSL *ssl, enum way way, const char *hex, bool update)
{
	struct watched_way *ww = &w->way[way];

	ww->secret_size = from_hex(hex, ww->secret, sizeof(ww->secret));
	ww->rekeyed = update;
	ww->behind = !record_flow_at_boundary(&ww->flow) || (way == RX && SSL_has_pending(ssl));
	if (way == TX && !update && ww->flow.records) {
		/* handshake header, verify_data, content type, tag */
		size_t finished = 4 + ww->secret_size + 1 + 16;

		w->padded = ww->flow.last_length > finished;
	}
	record_flow_new_keys(&ww->flow);
}

static void see_keylog(SSL *ssl, const char *line)
{
	static const struct {
		const char *label;
		bool client, update;
	} labels[] = {
		{ "CLIENT_TRAFFIC_SECRET_0", true, false },
		{ "SERVER_TRAFFIC_SECRET_0", false, false },
		{ "CLIENT_TRAFFIC_SECRET_N", true, true },
		{ "SERVER_TRAFFIC_SECRET_N", false, true },
	};

	for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
		const char *hex = logged_secret(line, labels[i].label);
		/* late, if a callback of the SSL itself stands before on_info */
		struct watch *w = hex && watch_start(ssl, false) == 0 ? watch_of(ssl) : NULL;
		enum way way = labels[i].client == !SSL_is_server(ssl) ? TX : RX;

		if (w)
			change_keys(w, ssl, way, hex, labels[i].update);
	}
}

static void on_keylog(const SSL *ssl, const char *line)
{
	const struct prepared *before = prepared_of(ssl);

	/* A BIO or a socket that was still connecting when the handshake started is
	 * connected now, and the peer can't have finished yet. */
	if (logged_secret(line, "CLIENT_RANDOM") ||
	    logged_secret(line, "CLIENT_HANDSHAKE_TRAFFIC_SECRET"))
		attach_early(SSL_get_fd(ssl));
	see_keylog((SSL *)ssl, line);
	if (before && before->keylog)
		before->keylog(ssl, line);
}

/* ---- the SSL_CTX ---- */

static bool context_intact(SSL_CTX *ctx)
{
	return SSL_CTX_get_keylog_callback(ctx) == on_keylog &&
	       SSL_CTX_get_info_callback(ctx) == on_info;
}

int watch_context(SSL_CTX *ctx)
{
	struct prepared *p;

	if (!have_indexes())
		return -ENOMEM;
	if (SSL_CTX_get_ex_data(ctx, ctx_index)) {
		/* Another over ours may call ours: chaining to it would go round. */
		return context_intact(ctx) ? 0 : -EBUSY;
	}
	p = calloc(1, sizeof(*p));
	if (!p || !SSL_CTX_set_ex_data(ctx, ctx_index, p)) {
		free(p);
		return -ENOMEM;
	}
	p->keylog = SSL_CTX_get_keylog_callback(ctx);
	p->info = SSL_CTX_get_info_callback(ctx);
	SSL_CTX_set_keylog_callback(ctx, on_keylog);
	SSL_CTX_set_info_callback(ctx, on_info);
	return 0;
}

bool watch_context_prepared(const SSL *ssl)
{
	return have_indexes() && prepared_of(ssl);
}

bool watch_callback_replaced(const SSL *ssl)
{
	return !context_intact(SSL_get_SSL_CTX(ssl)) || SSL_get_info_callback(ssl);
}
