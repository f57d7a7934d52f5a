/* SPDX-License-Identifier: MIT */
#include "session.h"

#include <endian.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "config.h"
#include "connection.h"
#include "openssl_side.h"
#include "tickets.h"

enum {
	SESSIONS_MAX = 32, /* that the program is told of; a server sends few */
	KEY_MAX = 512,	   /* of OpenSSL's: TLS13_MAX_RESUMPTION_PSK_LENGTH */
	CHAIN_MAX = 100,   /* of certificates, as far as OpenSSL verifies */
	OWN_SIZE = 32,
};

struct sessions {
	tlsfd_session_fn *fn; /* NULL: nobody wants any */
	void *arg;
	char *name;		/* of the server, as the program calls it */
	uint8_t own[OWN_SIZE];	/* SHA-256 of our certificate ... */
	size_t own_size;	/* 0: we have none */
	STACK_OF(X509) *chain; /* of the session that was offered */
	SSL_SESSION *fresh[SESSIONS_MAX];
	unsigned seen, told;
	bool telling;
};

/* ---- lifetime ---- */

static int note_own(struct sessions *s, SSL *ssl)
{
	X509 *own = SSL_get_certificate(ssl);
	unsigned size = 0;

	if (own && X509_digest(own, EVP_sha256(), s->own, &size) != 1)
		return -ENOMEM;
	s->own_size = size;
	return 0;
}

int sessions_new(struct tlsfd *c, const char *name)
{
	struct sessions *s = calloc(1, sizeof(*s));

	c->sessions = s;
	if (!s)
		return -ENOMEM;
	s->fn = c->config->on_session;
	s->arg = c->config->on_session_arg;
	s->name = strdup(name ? name : "");
	/* OpenSSL compares it with the session's and ends the handshake if they differ */
	if (!s->name || SSL_set_session_id_context(c->ssl, (const uint8_t *)"", 0) != 1)
		return -ENOMEM;
	return note_own(s, c->ssl);
}

static void drop_offer(struct sessions *s)
{
	sk_X509_pop_free(s->chain, X509_free);
	s->chain = NULL;
}

void sessions_free(struct sessions *s)
{
	if (!s)
		return;
	drop_offer(s);
	while (s->told < s->seen)
		SSL_SESSION_free(s->fresh[s->told++]);
	free(s->name);
	free(s);
}

STACK_OF(X509) *sessions_chain(const struct tlsfd *c)
{
	return c->sessions && SSL_session_reused(c->ssl) ? c->sessions->chain : NULL;
}

void sessions_settle(struct tlsfd *c)
{
	if (!c->sessions)
		return;
	drop_offer(c->sessions); /* the facts have it */
	if (!c->sessions->fn) {
		sessions_free(c->sessions);
		c->sessions = NULL;
	}
}

/* ---- how a session is written ----
 *
 * Eight bytes of magic, then fields, each with its size in front: enum field, and one for
 * each certificate of the chain, leaf first. OpenSSL's encoding is without the key: its
 * decoder would leave a copy of it in freed memory (ssl/ssl_asn1.c: d2i_SSL_SESSION).
 */
static const uint8_t magic[8] = { 'T', 'L', 'S', 'F', 'D', 'S', 0, 1 };

enum field { NAME, OWN, KEY, ENCODED, FIELDS };

struct bytes {
	const uint8_t *data;
	size_t size;
};

static uint8_t *put(uint8_t *at, const struct bytes *b)
{
	uint32_t size = htobe32((uint32_t)b->size);

	memcpy(at, &size, sizeof(size));
	at += sizeof(size);
	if (b->size)
		memcpy(at, b->data, b->size);
	return at + b->size;
}

/* False: there is no whole field. */
static bool get(struct bytes *from, struct bytes *field)
{
	uint32_t size;

	if (from->size < sizeof(size))
		return false;
	memcpy(&size, from->data, sizeof(size));
	size = be32toh(size);
	if (from->size - sizeof(size) < size)
		return false;
	*field = (struct bytes){ from->data + sizeof(size), size };
	from->data += sizeof(size) + size;
	from->size -= sizeof(size) + size;
	return true;
}

static bool certificate(const struct tlsfd *c, unsigned i, struct bytes *b)
{
	return tlsfd_peer_certificate(c, i, &b->data, &b->size) == 0;
}

/* To be freed by OPENSSL_clear_free; NULL: no memory. */
static uint8_t *join(const struct tlsfd *c, const struct bytes field[FIELDS], size_t *size)
{
	struct bytes cert;
	uint8_t *all, *at;

	*size = sizeof(magic);
	for (int i = 0; i < FIELDS; i++)
		*size += sizeof(uint32_t) + field[i].size;
	for (unsigned i = 0; certificate(c, i, &cert); i++)
		*size += sizeof(uint32_t) + cert.size;
	all = OPENSSL_malloc(*size);
	if (!all)
		return NULL;
	at = (uint8_t *)memcpy(all, magic, sizeof(magic)) + sizeof(magic);
	for (int i = 0; i < FIELDS; i++)
		at = put(at, &field[i]);
	for (unsigned i = 0; certificate(c, i, &cert); i++)
		at = put(at, &cert);
	return all;
}

/* What OpenSSL makes of the session with zeros for the key. */
static uint8_t *encode(const SSL_SESSION *session, size_t key_size, size_t *size)
{
	static const uint8_t zeros[KEY_MAX];
	SSL_SESSION *copy = SSL_SESSION_dup(session);
	uint8_t *out = NULL;
	int n = -1;

	if (copy && SSL_SESSION_set1_master_key(copy, zeros, key_size) == 1)
		n = i2d_SSL_SESSION(copy, &out);
	SSL_SESSION_free(copy);
	*size = n > 0 ? (size_t)n : 0;
	return n > 0 ? out : NULL;
}

static uint8_t *save(const struct tlsfd *c, const SSL_SESSION *session, size_t *size)
{
	const struct sessions *s = c->sessions;
	uint8_t key[KEY_MAX], *encoded, *all = NULL;
	size_t key_size = SSL_SESSION_get_master_key(session, key, sizeof(key));
	size_t encoded_size;

	encoded = encode(session, key_size, &encoded_size);
	if (encoded)
		all = join(c,
			   (const struct bytes[FIELDS]){
				   [NAME] = { (const uint8_t *)s->name, strlen(s->name) },
				   [OWN] = { s->own, s->own_size },
				   [KEY] = { key, key_size },
				   [ENCODED] = { encoded, encoded_size },
			   },
			   size);
	OPENSSL_free(encoded);
	OPENSSL_cleanse(key, sizeof(key));
	return all;
}

/* ---- telling ---- */

/* OpenSSL's new-session callback; the program's waits until OpenSSL is left again. */
static int on_new(SSL *ssl, SSL_SESSION *session)
{
	struct tlsfd *c = SSL_get_app_data(ssl);
	struct sessions *s = c ? c->sessions : NULL; /* a server has none */

	/* a config that is a server's as well keeps its cache for clients of its own */
	if (!SSL_is_server(ssl))
		SSL_CTX_remove_session(SSL_get_SSL_CTX(ssl), session);
	if (!s || !s->fn || s->seen == SESSIONS_MAX)
		return 0;
	s->fresh[s->seen++] = session;
	return 1;
}

static void tell(struct tlsfd *c, SSL_SESSION *session)
{
	struct sessions *s = c->sessions;
	size_t size;
	uint8_t *bytes = s->fn ? save(c, session, &size) : NULL;

	SSL_SESSION_free(session);
	if (!bytes) { /* no memory: the next handshake is a full one */
		ERR_clear_error();
		return;
	}
	s->fn(s->arg, c, bytes, size);
	OPENSSL_clear_free(bytes, size);
}

void sessions_tell(struct tlsfd *c)
{
	struct sessions *s = c->sessions;

	if (!s || s->told == s->seen)
		return;
	s->telling = true;
	while (s->told < s->seen) {
		tell(c, s->fresh[s->told]);
		s->fresh[s->told++] = NULL;
	}
	s->telling = false;
	if (!s->fn)
		tlsfd_no_more_sessions(c);
}

void tlsfd_no_more_sessions(struct tlsfd *c)
{
	struct userspace *u = c->user; /* its writer may be inside OpenSSL */

	if (!c->open)
		return;
	if (u)
		pthread_mutex_lock(&u->lock);
	tickets_free(c->control.tickets);
	c->control.tickets = NULL;
	if (c->sessions && c->sessions->telling) {
		c->sessions->fn = NULL; /* the rest is done behind it */
	} else {
		sessions_free(c->sessions);
		c->sessions = NULL;
	}
	if (u)
		pthread_mutex_unlock(&u->lock);
}

int tlsfd_config_on_session(struct tlsfd_config *config, tlsfd_session_fn *fn, void *arg)
{
	int err = config_change(config);

	if (err)
		return err;
	config->on_session = fn;
	config->on_session_arg = arg;
	SSL_CTX_sess_set_new_cb(config->ctx, fn ? on_new : NULL);
	config_settle_cache(config);
	return 0;
}

/* ---- loading ---- */

struct loaded {
	struct bytes field[FIELDS];
	STACK_OF(X509) *chain;
	SSL_SESSION *session;
};

static void loaded_clear(struct loaded *l)
{
	sk_X509_pop_free(l->chain, X509_free);
	SSL_SESSION_free(l->session);
}

/* 0 or -EINVAL, -ENOMEM. */
static int load_certificate(struct loaded *l, const struct bytes *der)
{
	const uint8_t *at = der->data;
	X509 *cert = d2i_X509(NULL, &at, (long)der->size);

	if (!cert || at != der->data + der->size || sk_X509_num(l->chain) == CHAIN_MAX) {
		X509_free(cert);
		return -EINVAL;
	}
	if (!sk_X509_push(l->chain, cert)) {
		X509_free(cert);
		return -ENOMEM;
	}
	return 0;
}

static int load_session(struct loaded *l)
{
	const struct bytes *encoded = &l->field[ENCODED], *key = &l->field[KEY];
	const uint8_t *at = encoded->data;

	l->session = d2i_SSL_SESSION(NULL, &at, (long)encoded->size);
	if (!l->session || at != encoded->data + encoded->size || !key->size ||
	    SSL_SESSION_set1_master_key(l->session, key->data, key->size) != 1)
		return -EINVAL;
	return SSL_SESSION_set1_id_context(l->session, (const uint8_t *)"", 0) == 1 ? 0 : -EINVAL;
}

static int load(struct loaded *l, struct bytes from)
{
	struct bytes der;
	int err = 0;

	if (from.size < sizeof(magic) || memcmp(from.data, magic, sizeof(magic)) != 0)
		return -EINVAL;
	from.data += sizeof(magic);
	from.size -= sizeof(magic);
	for (int i = 0; i < FIELDS; i++)
		if (!get(&from, &l->field[i]))
			return -EINVAL;
	l->chain = sk_X509_new_null();
	if (!l->chain)
		return -ENOMEM;
	while (!err && from.size)
		err = get(&from, &der) ? load_certificate(l, &der) : -EINVAL;
	return err ? err : load_session(l);
}

/* ---- does it fit? ---- */

static bool same(const struct bytes *a, const void *b, size_t size)
{
	return a->size == size && (!size || memcmp(a->data, b, size) == 0);
}

/* RFC 8446 section 4.6.1: only for the name that it was made for. And only as whom we
 * were: the server resumes what it granted to that certificate. */
static bool same_ends(const struct sessions *s, const struct loaded *l)
{
	const struct bytes *name = &l->field[NAME];

	return name->size == strlen(s->name) &&
	       strncasecmp((const char *)name->data, s->name, name->size) == 0 &&
	       same(&l->field[OWN], s->own, s->own_size);
}

/* A server refuses a TLS 1.2 session whose cipher is not offered, handshake and all. */
static bool offered(SSL *ssl, const SSL_SESSION *session)
{
	return sk_SSL_CIPHER_find(SSL_get_ciphers(ssl), SSL_SESSION_get0_cipher(session)) >= 0;
}

static bool in_time(const SSL_SESSION *session)
{
	enum { WEEK = 7 * 86400 }; /* RFC 8446 section 4.6.1 */
	int64_t age = (int64_t)time(NULL) - SSL_SESSION_get_time(session);
	int64_t life = (int64_t)SSL_SESSION_get_ticket_lifetime_hint(session);

	if (!life)
		life = SSL_SESSION_get_timeout(session);
	/* time(2) may be a tick behind the clock that OpenSSL asks */
	return age >= -1 && age < (life < WEEK ? life : WEEK);
}

/* As OpenSSL does it in a handshake (ssl/ssl_cert.c: ssl_verify_cert_chain). */
static bool verify(SSL *ssl, X509_STORE_CTX *store, STACK_OF(X509) *chain)
{
	X509_VERIFY_PARAM *param;

	if (!store || X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl)),
					  sk_X509_value(chain, 0), chain) != 1)
		return false;
	param = X509_STORE_CTX_get0_param(store);
	X509_VERIFY_PARAM_set_auth_level(param, SSL_get_security_level(ssl));
	if (X509_STORE_CTX_set_default(store, "ssl_server") != 1 ||
	    X509_VERIFY_PARAM_set1(param, SSL_get0_param(ssl)) != 1)
		return false;
	if (SSL_get_verify_callback(ssl))
		X509_STORE_CTX_set_verify_cb(store, SSL_get_verify_callback(ssl));
	return X509_verify_cert(store) == 1;
}

/* Would this connection let the session's server in? */
static bool accepted(SSL *ssl, const struct loaded *l)
{
	X509_STORE_CTX *store;
	bool ok;

	if (SSL_get_verify_mode(ssl) == SSL_VERIFY_NONE)
		return true;
	/* the proof of the key was for this certificate */
	if (!SSL_SESSION_get0_peer(l->session) || !sk_X509_num(l->chain) ||
	    X509_cmp(SSL_SESSION_get0_peer(l->session), sk_X509_value(l->chain, 0)) != 0)
		return false;
	store = X509_STORE_CTX_new();
	ok = verify(ssl, store, l->chain);
	X509_STORE_CTX_free(store);
	return ok;
}

static bool fits(const struct tlsfd *c, const struct loaded *l)
{
	return same_ends(c->sessions, l) && SSL_SESSION_is_resumable(l->session) &&
	       offered(c->ssl, l->session) && in_time(l->session) && accepted(c->ssl, l);
}

static int offer(struct tlsfd *c, struct loaded *l)
{
	bool fit = fits(c, l);

	drop_offer(c->sessions);
	if (SSL_set_session(c->ssl, fit ? l->session : NULL) != 1)
		return -ENOMEM;
	if (fit) {
		c->sessions->chain = l->chain;
		l->chain = NULL;
	}
	return 0;
}

int tlsfd_set_session(struct tlsfd *c, const void *session, size_t size)
{
	struct loaded l = { .session = NULL };
	int err;

	if (c->open || c->err[RX] || !SSL_in_before(c->ssl))
		return -EBUSY;
	if (!session || !c->sessions)
		return -EINVAL;
	err = load(&l, (struct bytes){ session, size });
	if (!err)
		err = offer(c, &l);
	loaded_clear(&l);
	ERR_clear_error();
	return err;
}
