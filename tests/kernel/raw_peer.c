/* SPDX-License-Identifier: MIT */
#include "raw_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <tlsfd/openssl.h>
#include <unistd.h>

#include "credentials.h"
#include "suite.h"

enum { HEADER = 5, TAG = 16, IV = 12, SALT = 4, EXPLICIT = 8 };

/* ---- keys ---- */

static void derive(const char *kdf_name, const OSSL_PARAM *params, uint8_t *out, size_t size)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, kdf_name, NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);

	assert_int_equal(EVP_KDF_derive(ctx, out, size, params), 1);
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
}

/* RFC 8446 section 7.1, with an empty context. */
static void expand(const char *digest, const uint8_t *secret, size_t secret_size, const char *label,
		   uint8_t *out, size_t size)
{
	uint8_t info[32] = { 0,	  (uint8_t)size, (uint8_t)(6 + strlen(label)),
			     't', 'l',		 's',
			     '1', '3',		 ' ' };
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;

	memcpy(info + 9, label, strlen(label));
	derive("HKDF",
	       (const OSSL_PARAM[]){
		       OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		       OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)digest, 0),
		       OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret,
							 secret_size),
		       OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info,
							 9 + strlen(label) + 1),
		       OSSL_PARAM_construct_end(),
	       },
	       out, size);
}

/* RFC 8446 section 7.3 */
static void keys_tls13(struct raw_peer *p, bool server)
{
	struct raw_way *w = p->server == server ? &p->out : &p->in;
	const uint8_t *secret = p->secret[server];

	expand(p->digest, secret, p->secret_size, "key", w->key,
	       (size_t)EVP_CIPHER_get_key_length(p->cipher));
	expand(p->digest, secret, p->secret_size, "iv", w->iv, IV);
	w->sequence = 0;
}

static void next_keys(struct raw_peer *p, bool server)
{
	uint8_t *secret = p->secret[server], next[64];

	expand(p->digest, secret, p->secret_size, "traffic upd", next, p->secret_size);
	memcpy(secret, next, p->secret_size);
	keys_tls13(p, server);
}

void raw_next_out(struct raw_peer *p)
{
	next_keys(p, p->server);
}

void raw_next_in(struct raw_peer *p)
{
	next_keys(p, !p->server);
}

void raw_update_keys(struct raw_peer *p, bool answer_requested)
{
	raw_send(p, 22, (uint8_t[]){ 24, 0, 0, 1, answer_requested }, 5);
	raw_next_out(p);
}

/* RFC 5246 section 6.3 */
static void keys_tls12(struct raw_peer *p, SSL *ssl)
{
	size_t key_size = (size_t)EVP_CIPHER_get_key_length(p->cipher);
	size_t iv_size = p->chacha ? IV : SALT;
	uint8_t master[48], client[32], server[32], block[2 * (32 + IV)];
	struct raw_way *c = p->server ? &p->in : &p->out, *s = p->server ? &p->out : &p->in;

	SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof(master));
	SSL_get_client_random(ssl, client, sizeof(client));
	SSL_get_server_random(ssl, server, sizeof(server));
	derive("TLS1-PRF",
	       (const OSSL_PARAM[]){
		       OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)p->digest,
							0),
		       OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, 48),
		       OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED,
							 (void *)"key expansion", 13),
		       OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, server, 32),
		       OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, client, 32),
		       OSSL_PARAM_construct_end(),
	       },
	       block, 2 * (key_size + iv_size));
	memcpy(c->key, block, key_size);
	memcpy(s->key, block + key_size, key_size);
	memcpy(c->iv, block + 2 * key_size, iv_size);
	memcpy(s->iv, block + 2 * key_size + iv_size, iv_size);
	c->sequence = s->sequence = 1; /* after Finished */
}

static void on_keylog(const SSL *ssl, const char *line)
{
	struct raw_peer *p = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	const char *hex = strrchr(line, ' ') + 1;
	bool server = strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0;
	uint8_t *secret = p->secret[server];

	if (!server && strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24))
		return;
	p->secret_size = strlen(hex) / 2;
	for (size_t i = 0; i < p->secret_size; i++)
		sscanf(hex + 2 * i, "%2hhx", &secret[i]);
}

void raw_take_keys(struct raw_peer *p, SSL *ssl)
{
	const SSL_CIPHER *suite = SSL_get_current_cipher(ssl);

	p->digest = EVP_MD_get0_name(SSL_CIPHER_get_handshake_digest(suite));
	p->cipher = EVP_get_cipherbynid(SSL_CIPHER_get_cipher_nid(suite));
	p->chacha = SSL_CIPHER_get_cipher_nid(suite) == NID_chacha20_poly1305;
	if (!p->tls13) {
		keys_tls12(p, ssl);
		return;
	}
	keys_tls13(p, false);
	keys_tls13(p, true);
}

/* ---- sockets and handshake ---- */

/* fds[0] is the peer's. */
static void connect_pair(const struct raw_variant *v, int fds[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(listener, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (v->window)
		setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &v->window, sizeof(v->window));
	assert_int_equal(connect(fds[0], (struct sockaddr *)&a, len), 0);
	fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fds[1] >= 0);
	close(listener);
	for (int i = 0; i < 2; i++) {
		fcntl(fds[i], F_SETFL, O_NONBLOCK);
		setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	}
}

static const char *suite_of(const struct raw_variant *v)
{
	if (v->suite)
		return v->suite;
	return v->tls13 ? "TLS_AES_128_GCM_SHA256" : "ECDHE-ECDSA-AES128-GCM-SHA256";
}

static SSL *new_ssl(const struct raw_variant *v, bool server, struct raw_peer *peer, int fd)
{
	const char *suite = suite_of(v);
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	SSL *ssl;

	SSL_CTX_set_min_proto_version(ctx, v->tls13 ? TLS1_3_VERSION : TLS1_2_VERSION);
	SSL_CTX_set_max_proto_version(ctx, v->tls13 ? TLS1_3_VERSION : TLS1_2_VERSION);
	assert_int_equal(v->tls13 ? SSL_CTX_set_ciphersuites(ctx, suite) :
				    SSL_CTX_set_cipher_list(ctx, suite),
			 1);
	SSL_CTX_set_num_tickets(ctx, 0);
	if (server)
		use_credentials(ctx, KEY_P256);
	SSL_CTX_set_app_data(ctx, peer);
	if (peer)
		SSL_CTX_set_keylog_callback(ctx, on_keylog);
	else
		assert_int_equal(tlsfd_prepare(ctx), 0);
	ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	SSL_set_fd(ssl, fd);
	if (server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return ssl;
}

static void shake_hands(SSL *a, SSL *b)
{
	int first = 0, second = 0;

	while (first != 1 || second != 1) {
		first = SSL_do_handshake(a);
		second = SSL_do_handshake(b);
		assert_true(first == 1 || SSL_get_error(a, first) == SSL_ERROR_WANT_READ);
		assert_true(second == 1 || SSL_get_error(b, second) == SSL_ERROR_WANT_READ);
	}
}

SSL *raw_connect(struct raw_peer *p, const struct raw_variant *v, int *fd)
{
	SSL *ssl, *peer;
	int fds[2];

	*p = (struct raw_peer){ .server = !v->server, .tls13 = v->tls13 };
	connect_pair(v, fds);
	p->fd = fds[0];
	*fd = fds[1];
	ssl = new_ssl(v, v->server, NULL, fds[1]);
	peer = new_ssl(v, !v->server, p, fds[0]);
	shake_hands(ssl, peer);
	raw_take_keys(p, peer);
	if (v->keep) {
		SSL_set_bio(peer, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
		p->ssl = peer;
	} else {
		SSL_free(peer);
	}
	return ssl;
}

void raw_pair(const struct raw_variant *v, SSL *ssl[2], int fd[2])
{
	connect_pair(v, fd);
	ssl[0] = new_ssl(v, v->server, NULL, fd[0]);
	ssl[1] = new_ssl(v, !v->server, NULL, fd[1]);
	shake_hands(ssl[0], ssl[1]);
}

/* ---- our end by tlsfd_accept, tlsfd_connect ---- */

static struct tlsfd_config *new_config(const struct raw_variant *v, enum tlsfd_kernel kernel)
{
	enum tlsfd_version version = v->tls13 ? TLSFD_TLS_1_3 : TLSFD_TLS_1_2;
	struct tlsfd_config *config;
	char *cert, *key;

	write_credentials(KEY_P256, &cert, &key);
	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_int_equal(
		tlsfd_config_set_certificate_mem(config, cert, strlen(cert), key, strlen(key)), 0);
	assert_int_equal(tlsfd_config_set_ca_mem(config, cert, strlen(cert)), 0);
	assert_int_equal(tlsfd_config_set_versions(config, version, version), 0);
	assert_int_equal(tlsfd_config_set_ciphers(config, suite_of(v)), 0);
	assert_int_equal(tlsfd_config_set_tickets(config, 0), 0);
	assert_int_equal(tlsfd_config_set_kernel(config, kernel), 0);
	free(cert);
	free(key);
	return config;
}

static struct tlsfd *new_end(const struct raw_variant *v, bool server, enum tlsfd_kernel kernel,
			     int fd)
{
	struct tlsfd_config *config = new_config(v, kernel);
	struct tlsfd *c;

	assert_int_equal(server ? tlsfd_accept(&c, config, fd) :
				  tlsfd_connect(&c, config, fd, "localhost"),
			 0);
	tlsfd_config_free(config);
	return c;
}

/* True when it is done. */
static bool step(struct tlsfd *c)
{
	int err = tlsfd_handshake(c);

	assert_true(err == 0 || err == -EAGAIN);
	return err == 0;
}

static bool step_peer(SSL *ssl)
{
	int ret = SSL_do_handshake(ssl);

	assert_true(ret == 1 || SSL_get_error(ssl, ret) == SSL_ERROR_WANT_READ);
	return ret == 1;
}

struct tlsfd *raw_open(struct raw_peer *p, const struct raw_variant *v, enum tlsfd_kernel kernel,
		       int *fd)
{
	bool ours = false, theirs = false;
	struct tlsfd *c;
	SSL *peer;
	int fds[2];

	*p = (struct raw_peer){ .server = !v->server, .tls13 = v->tls13 };
	connect_pair(v, fds);
	p->fd = fds[0];
	*fd = fds[1];
	c = new_end(v, v->server, kernel, fds[1]);
	peer = new_ssl(v, !v->server, p, fds[0]);
	while (!ours || !theirs) {
		ours = step(c);
		theirs = step_peer(peer);
	}
	raw_take_keys(p, peer);
	SSL_free(peer);
	return c;
}

void raw_open_pair(const struct raw_variant *v, const enum tlsfd_kernel kernel[2],
		   struct tlsfd *c[2], int fd[2])
{
	bool done[2] = { false, false };

	connect_pair(v, fd);
	for (int i = 0; i < 2; i++)
		c[i] = new_end(v, v->server == (i == 0), kernel[i], fd[i]);
	while (!done[0] || !done[1])
		for (int i = 0; i < 2; i++)
			done[i] = step(c[i]);
}

void raw_close(struct raw_peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	SSL_free(p->ssl);
	p->ssl = NULL;
}

/* ---- records ---- */

static void put(uint8_t *to, uint64_t value, int size)
{
	while (size--) {
		to[size] = (uint8_t)value;
		value >>= 8;
	}
}

static bool has_explicit_nonce(const struct raw_peer *p)
{
	return !p->tls13 && !p->chacha;
}

static void make_nonce(const struct raw_peer *p, const struct raw_way *w, const uint8_t *shown,
		       uint8_t nonce[IV])
{
	uint8_t sequence[8];

	memcpy(nonce, w->iv, IV);
	if (has_explicit_nonce(p)) {
		memcpy(nonce + SALT, shown, EXPLICIT);
		return;
	}
	put(sequence, w->sequence, 8);
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= sequence[i];
}

/* RFC 8446 section 5.2, RFC 5246 section 6.2.3.3: the size of aad. */
static size_t make_aad(const struct raw_peer *p, const struct raw_way *w, uint8_t type,
		       const uint8_t *header, size_t plain, uint8_t aad[13])
{
	if (p->tls13) {
		memcpy(aad, header, HEADER);
		return HEADER;
	}
	put(aad, w->sequence, 8);
	aad[8] = type;
	put(aad + 9, 0x0303, 2);
	put(aad + 11, plain, 2);
	return 13;
}

/* True unless opening fails. data, n: plaintext or ciphertext, changed in place; the tag
 * is behind. */
static bool aead(const struct raw_peer *p, const struct raw_way *w, bool seal, const uint8_t *nonce,
		 const uint8_t *aad, size_t aad_size, uint8_t *data, size_t n)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int len, ok;

	EVP_CipherInit_ex(ctx, p->cipher, NULL, NULL, NULL, seal);
	EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, IV, NULL);
	EVP_CipherInit_ex(ctx, NULL, NULL, w->key, nonce, seal);
	if (!seal)
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, data + n);
	EVP_CipherUpdate(ctx, NULL, &len, aad, (int)aad_size);
	if (n)
		EVP_CipherUpdate(ctx, data, &len, data, (int)n);
	ok = EVP_CipherFinal_ex(ctx, data + n, &len);
	if (seal)
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, data + n);
	EVP_CIPHER_CTX_free(ctx);
	return ok > 0;
}

size_t raw_seal(struct raw_peer *p, uint8_t type, const void *data, size_t n, uint8_t *out)
{
	struct raw_way *w = &p->out;
	size_t shown = has_explicit_nonce(p) ? EXPLICIT : 0, inner = n + (p->tls13 ? 1 : 0);
	uint8_t *body = out + HEADER + shown, nonce[IV], aad[13];

	out[0] = p->tls13 ? 23 : type;
	put(out + 1, 0x0303, 2);
	put(out + 3, shown + inner + TAG, 2);
	put(out + HEADER, 0xfeed000000000000 + w->sequence, (int)shown);
	make_nonce(p, w, out + HEADER, nonce);
	if (n)
		memcpy(body, data, n);
	if (p->tls13)
		body[n] = type;
	aead(p, w, true, nonce, aad, make_aad(p, w, type, out, n, aad), body, inner);
	w->sequence++;
	return HEADER + shown + inner + TAG;
}

void raw_send_bytes(struct raw_peer *p, const void *data, size_t n)
{
	const uint8_t *at = data;

	while (n) {
		ssize_t sent = send(p->fd, at, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN) {
			struct pollfd wait = { .fd = p->fd, .events = POLLOUT };

			assert_int_equal(poll(&wait, 1, PATIENCE_MS), 1);
			continue;
		}
		assert_true(sent > 0);
		at += sent;
		n -= (size_t)sent;
	}
}

void raw_send(struct raw_peer *p, uint8_t type, const void *data, size_t n)
{
	uint8_t record[RAW_RECORD_MAX];

	raw_send_bytes(p, record, raw_seal(p, type, data, n, record));
}

void raw_send_alert(struct raw_peer *p, uint8_t level, uint8_t number)
{
	raw_send(p, 21, (uint8_t[]){ level, number }, 2);
}

void raw_fin(struct raw_peer *p)
{
	assert_int_equal(shutdown(p->fd, SHUT_WR), 0);
}

void raw_reset(struct raw_peer *p)
{
	struct linger at_once = { .l_onoff = 1 };

	setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	raw_close(p);
}

/* 0, or what raw_receive returns. */
static ssize_t receive_bytes(struct raw_peer *p, uint8_t *to, size_t n)
{
	while (n) {
		struct pollfd wait = { .fd = p->fd, .events = POLLIN };
		ssize_t got = recv(p->fd, to, n, 0);

		if (got < 0 && errno == EAGAIN) {
			if (poll(&wait, 1, PATIENCE_MS) != 1)
				return -3;
			continue;
		}
		if (got <= 0)
			return got ? -2 : -1;
		to += got;
		n -= (size_t)got;
	}
	return 0;
}

ssize_t raw_receive(struct raw_peer *p, uint8_t *type, uint8_t *data)
{
	uint8_t record[RAW_RECORD_MAX], nonce[IV], aad[13], *body = record + HEADER;
	size_t shown = has_explicit_nonce(p) ? EXPLICIT : 0, length, n;
	ssize_t err = receive_bytes(p, record, HEADER);

	if (err)
		return err;
	length = (size_t)(record[3] << 8 | record[4]);
	if (length < shown + TAG || length > sizeof(record) - HEADER)
		return -4;
	err = receive_bytes(p, body, length);
	if (err)
		return err;
	n = length - shown - TAG;
	make_nonce(p, &p->in, body, nonce);
	body += shown;
	if (!aead(p, &p->in, false, nonce, aad, make_aad(p, &p->in, record[0], record, n, aad),
		  body, n))
		return -4;
	p->in.sequence++;
	memcpy(p->nonce, nonce, IV);
	*type = p->tls13 ? body[--n] : record[0];
	memcpy(data, body, n);
	return (ssize_t)n;
}
