/* SPDX-License-Identifier: MIT */
#include "facts.h"

#include <errno.h>
#include <openssl/objects.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "chain.h"
#include "connection.h"
#include "fields.h"
#include "openssl_side.h"

enum { EXPORTER_SIZE = 32 }; /* RFC 9266 section 2 */

struct facts {
	const char *cipher;  /* OpenSSL's own string, which stays, or in names */
	X509 *own;	     /* a server's certificate, shared with the config, or NULL and ... */
	struct chain *chain; /* the peer's */
	uint16_t version;
	bool resumed, has_exporter;
	uint8_t alpn_size;
	uint8_t end_point_size; /* ... the binding that it makes, behind cipher */
	uint8_t exporter[EXPORTER_SIZE];
	char names[]; /* ALPN, server name, each with its NUL, and what moved along */
};

/* ---- taking ---- */

/* RFC 9266 section 3: in TLS 1.2 only with extended master secret (RFC 7627). */
static bool export(SSL *ssl, uint8_t exporter[EXPORTER_SIZE])
{
	static const char label[] = "EXPORTER-Channel-Binding";

	return (SSL_version(ssl) == TLS1_3_VERSION || SSL_get_extms_support(ssl) == 1) &&
	       SSL_export_keying_material(ssl, exporter, EXPORTER_SIZE, label, strlen(label), NULL,
					  0, 0) == 1;
}

void facts_export(struct facts *f, SSL *ssl)
{
	if (f)
		f->has_exporter = export(ssl, f->exporter);
}

/* Of a connection that still has OpenSSL. */
static bool export_now(const struct tlsfd *c, uint8_t exporter[EXPORTER_SIZE])
{
	bool done;

	if (!c->user)
		return false;
	pthread_mutex_lock(&c->user->lock);
	done = export(c->ssl, exporter);
	pthread_mutex_unlock(&c->user->lock);
	return done;
}

static bool is_only_one(SSL *ssl, X509 *own)
{
	bool only = SSL_set_current_cert(ssl, SSL_CERT_SET_FIRST) == 1 &&
		    SSL_set_current_cert(ssl, SSL_CERT_SET_NEXT) != 1;

	SSL_select_current_cert(ssl, own);
	return only;
}

/* Of a session that is resumed OpenSSL doesn't know the certificate: it names the one
 * that was set last. */
static void take_own(struct facts *f, SSL *ssl)
{
	X509 *own = SSL_is_server(ssl) ? SSL_get_certificate(ssl) : NULL;

	if (own && (!f->resumed || is_only_one(ssl, own)) && X509_up_ref(own))
		f->own = own;
}

static struct facts *facts_new(SSL *ssl, const char *server_name)
{
	const unsigned char *alpn;
	unsigned alpn_size;
	struct facts *f;

	SSL_get0_alpn_selected(ssl, &alpn, &alpn_size);
	f = calloc(1, sizeof(*f) + alpn_size + 1 + strlen(server_name) + 1);
	if (!f)
		return NULL;
	f->alpn_size = (uint8_t)alpn_size;
	if (alpn_size)
		memcpy(f->names, alpn, alpn_size);
	memcpy(f->names + alpn_size + 1, server_name, strlen(server_name));
	return f;
}

int facts_take(struct facts **facts, SSL *ssl, const char *server_name, STACK_OF(X509) *chain,
	       struct chain **last)
{
	struct facts *f;
	int err;

	if (!SSL_is_init_finished(ssl) || !SSL_get_current_cipher(ssl))
		return 0;
	if (!server_name)
		server_name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	f = facts_new(ssl, server_name ? server_name : "");
	if (!f)
		return -ENOMEM;
	f->version = (uint16_t)SSL_version(ssl);
	f->cipher = SSL_CIPHER_standard_name(SSL_get_current_cipher(ssl));
	f->resumed = SSL_session_reused(ssl);
	take_own(f, ssl);
	err = chain_take(&f->chain, ssl, chain, last);
	if (err)
		facts_free(f);
	else
		*facts = f;
	return err;
}

void facts_free(struct facts *f)
{
	if (!f)
		return;
	X509_free(f->own);
	chain_free(f->chain);
	OPENSSL_cleanse(f->exporter, sizeof(f->exporter));
	free(f);
}

/* ---- telling ---- */

const struct tlsfd_report *tlsfd_report(const struct tlsfd *c)
{
	return c->open ? &c->report : NULL;
}

enum tlsfd_version tlsfd_version(const struct tlsfd *c)
{
	return c->facts ? c->facts->version : c->version;
}

const char *tlsfd_cipher(const struct tlsfd *c)
{
	return c->facts ? c->facts->cipher : NULL;
}

const char *tlsfd_alpn(const struct tlsfd *c)
{
	return c->facts ? c->facts->names : "";
}

const char *tlsfd_server_name(const struct tlsfd *c)
{
	if (c->facts)
		return c->facts->names + c->facts->alpn_size + 1;
	return c->server_name ? c->server_name : "";
}

bool tlsfd_resumed(const struct tlsfd *c)
{
	return c->facts && c->facts->resumed;
}

int tlsfd_peer_certificate(const struct tlsfd *c, unsigned i, const uint8_t **der, size_t *size)
{
	return chain_get(c->facts ? c->facts->chain : NULL, i, der, size);
}

/* ---- channel bindings ---- */

/* The hash of the certificate's signature, for MD5 and SHA-1 SHA-256 (RFC 5929
 * section 4.1); NULL: the signature has none of its own, and no binding. */
static const EVP_MD *end_point_digest(X509 *cert)
{
	int nid;

	if (!X509_get_signature_info(cert, &nid, NULL, NULL, NULL) || nid == NID_undef)
		return NULL;
	return nid == NID_md5 || nid == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(nid);
}

static ssize_t end_point(X509 *cert, uint8_t *buf, size_t size)
{
	const EVP_MD *md = cert ? end_point_digest(cert) : NULL;
	unsigned n;

	if (!md)
		return -ENODATA;
	if (size < (size_t)EVP_MD_get_size(md))
		return -ENOBUFS;
	return X509_digest(cert, md, buf, &n) ? (ssize_t)n : -ENOMEM;
}

static ssize_t end_point_moved(const struct facts *f, uint8_t *buf, size_t size)
{
	if (!f->end_point_size)
		return -ENODATA;
	if (size < f->end_point_size)
		return -ENOBUFS;
	memcpy(buf, f->cipher + strlen(f->cipher) + 1, f->end_point_size);
	return f->end_point_size;
}

static ssize_t end_point_of(const struct tlsfd *c, uint8_t *buf, size_t size)
{
	const uint8_t *der;
	size_t der_size;
	ssize_t n;
	X509 *cert;

	if (!c->control.client)
		return c->facts->own ? end_point(c->facts->own, buf, size) :
				       end_point_moved(c->facts, buf, size);
	if (tlsfd_peer_certificate(c, 0, &der, &der_size) < 0)
		return -ENODATA;
	cert = d2i_X509(NULL, &der, (long)der_size);
	n = end_point(cert, buf, size);
	X509_free(cert);
	return n;
}

static ssize_t exporter_of(const struct tlsfd *c, uint8_t *buf, size_t size)
{
	const struct facts *f = c->facts;
	uint8_t made[EXPORTER_SIZE];
	bool has_room = size >= sizeof(made);

	if (!f->has_exporter && !export_now(c, made))
		return -ENODATA;
	if (has_room)
		memcpy(buf, f->has_exporter ? f->exporter : made, sizeof(made));
	OPENSSL_cleanse(made, sizeof(made));
	return has_room ? (ssize_t)sizeof(made) : -ENOBUFS;
}

ssize_t tlsfd_channel_binding(const struct tlsfd *c, enum tlsfd_binding type, uint8_t *buf,
			      size_t size)
{
	const struct facts *f = c->facts;

	if (!f)
		return -ENODATA;
	if (type == TLSFD_TLS_SERVER_END_POINT)
		return end_point_of(c, buf, size);
	return type == TLSFD_TLS_EXPORTER ? exporter_of(c, buf, size) : -ENODATA;
}

/* ---- moving to another process ---- */

/* What has no fixed size. */
enum part { ALPN, SERVER_NAME, CIPHER, END_POINT, CHAIN, PARTS };

static void take_parts(struct block *part, const struct tlsfd *c, uint8_t *buf, size_t size)
{
	const struct facts *f = c->facts;
	const char *server_name = tlsfd_server_name(c);
	ssize_t n = c->control.client ? 0 : end_point_of(c, buf, size);

	part[ALPN] = (struct block){ f->names, f->alpn_size };
	part[SERVER_NAME] = (struct block){ server_name, (uint32_t)strlen(server_name) };
	part[CIPHER] = (struct block){ f->cipher, (uint32_t)strlen(f->cipher) };
	part[END_POINT] = (struct block){ buf, n > 0 ? (uint32_t)n : 0 };
	part[CHAIN] = chain_bytes(f->chain);
}

/* Appends a part and a NUL; where it is. */
static char *put_part(char **at, const struct block *part)
{
	char *put = *at;

	if (part->size)
		memcpy(put, part->data, part->size);
	*at += part->size + 1;
	return put;
}

static struct facts *facts_again(struct fields *fields, const struct facts *fixed,
				 const struct block *part)
{
	size_t size = CHAIN; /* NULs */
	struct facts *f;
	char *at;

	for (enum part i = 0; i < CHAIN; i++)
		size += part[i].size;
	f = fields_memory(fields, sizeof(*f) + size);
	if (!f)
		return NULL;
	memset(f, 0, sizeof(*f) + size);
	memcpy(f, fixed, sizeof(*f));
	at = f->names;
	f->alpn_size = (uint8_t)part[ALPN].size;
	put_part(&at, &part[ALPN]);
	put_part(&at, &part[SERVER_NAME]);
	f->cipher = put_part(&at, &part[CIPHER]);
	f->end_point_size = (uint8_t)part[END_POINT].size;
	put_part(&at, &part[END_POINT]);
	f->chain = chain_of_bytes(fields, &part[CHAIN]);
	return f;
}

void facts_describe(struct fields *f, struct tlsfd *c)
{
	struct facts fixed = { .version = 0 };
	struct block part[PARTS] = { { NULL, 0 } };
	uint8_t buf[EVP_MAX_MD_SIZE];

	if (f->pass != READ) {
		fixed = *c->facts;
		take_parts(part, c, buf, sizeof(buf));
	}
	fields_bytes(f, &fixed.version, sizeof(fixed.version));
	fields_flag(f, &fixed.resumed);
	fields_flag(f, &fixed.has_exporter);
	fields_bytes(f, fixed.exporter, sizeof(fixed.exporter));
	for (enum part i = 0; i < PARTS; i++)
		fields_block(f, &part[i]);
	if (f->pass == READ && fields_require(f, part[ALPN].size <= UINT8_MAX &&
							 part[END_POINT].size <= EVP_MAX_MD_SIZE &&
							 chain_is_valid(&part[CHAIN])))
		c->facts = facts_again(f, &fixed, part);
	OPENSSL_cleanse(fixed.exporter, sizeof(fixed.exporter));
}
