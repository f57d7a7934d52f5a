/*
 * Sessions saved and loaded: that they resume, and above all when they must not. What a
 * resumed connection did not verify, nobody has.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>

#include "config.h"
#include "connection.h"
#include "meet.h"

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

/* ---- sessions that a client was given ---- */

struct saved {
	uint8_t *data; /* the last one */
	size_t size;
	int count;
	int version; /* as the callback could see it */
};

static void on_session(void *arg, struct tlsfd *c, const void *session, size_t size)
{
	struct saved *s = arg;

	free(s->data);
	s->data = malloc(size);
	memcpy(s->data, session, size);
	s->size = size;
	s->count++;
	s->version = (int)tlsfd_version(c);
}

static void forget(struct saved *s)
{
	free(s->data);
	memset(s, 0, sizeof(*s));
}

/* ---- connections ---- */

static SSL_CTX *server_of(const struct identity *id, int version)
{
	SSL_CTX *ctx = peer_context(id);

	SSL_CTX_set_min_proto_version(ctx, version);
	SSL_CTX_set_max_proto_version(ctx, version);
	SSL_CTX_set_session_id_context(ctx, (const uint8_t *)"t", 1);
	return ctx;
}

static struct tlsfd_config *client_of(struct saved *to)
{
	struct tlsfd_config *config = config_of(NULL);

	assert_int_equal(tlsfd_config_on_session(config, on_session, to), 0);
	return config;
}

static struct tlsfd_config *insecure(struct tlsfd_config *config)
{
	tlsfd_config_insecure_no_verify_chain(config);
	tlsfd_config_insecure_no_verify_name(config);
	return config;
}

/* A connection with this session (if any) up to the end of the handshake. */
static void begin(struct meeting *m, struct tlsfd_config *config, SSL_CTX *server, const char *name,
		  const struct saved *with)
{
	meet_open(m, config, false, server, name);
	if (with)
		assert_int_equal(tlsfd_set_session(m->c, with->data, with->size), 0);
	meet_shake(m);
}

/* All of one; what it says, and in *resumed whether both ends resumed. */
static int once(struct tlsfd_config *config, SSL_CTX *server, const char *name,
		const struct saved *with, bool *resumed)
{
	struct meeting m;

	begin(&m, config, server, name, with);
	*resumed = tlsfd_resumed(m.c);
	if (m.err == 0) {
		assert_int_equal(*resumed, SSL_session_reused(m.peer));
		meet_talk(&m);
		assert_int_equal(tlsfd_shutdown(m.c), 0);
		SSL_shutdown(m.peer);
	}
	meet_close(&m);
	ERR_clear_error();
	return m.err;
}

static void earn(struct saved *s, struct tlsfd_config *config, SSL_CTX *server, const char *name)
{
	bool resumed;

	assert_int_equal(once(config, server, name, NULL, &resumed), 0);
	assert_false(resumed);
	assert_non_null(s->data);
}

/* `with` must not do for config: a full handshake comes to err. */
static void refuse(struct tlsfd_config *config, SSL_CTX *server, const char *name,
		   const struct saved *with, int err)
{
	bool resumed;

	assert_int_equal(once(config, server, name, with, &resumed), err);
	assert_false(resumed);
}

/* ---- it resumes ---- */

static void assert_certificate(const struct tlsfd *c, unsigned i, X509 *want)
{
	const uint8_t *der;
	size_t size;
	X509 *cert;

	assert_int_equal(tlsfd_peer_certificate(c, i, &der, &size), 0);
	cert = d2i_X509(NULL, &der, (long)size);
	assert_int_equal(X509_cmp(cert, want), 0);
	X509_free(cert);
}

static void assert_same_facts(const struct tlsfd *c)
{
	const enum tlsfd_binding type = TLSFD_TLS_SERVER_END_POINT;
	uint8_t buf[64];
	const uint8_t *der;
	size_t size;

	assert_certificate(c, 0, pki.good.cert);
	assert_certificate(c, 1, pki.ca.cert);
	assert_int_equal(tlsfd_peer_certificate(c, 2, &der, &size), -ENOENT);
	assert_int_equal(tlsfd_channel_binding(c, type, buf, sizeof(buf)), 32);
}

/* One after the other, each with the session of the one before and a config of its own. */
static void check_resumes(int version, const char *name, enum tlsfd_kernel kernel)
{
	SSL_CTX *server = server_of(&pki.good, version);
	struct saved s = { NULL, 0, 0, 0 };

	SSL_CTX_add1_chain_cert(server, pki.ca.cert);
	for (int i = 0; i < 4; i++) {
		struct tlsfd_config *config = client_of(&s);
		struct meeting m;

		assert_int_equal(tlsfd_config_set_kernel(config, kernel), 0);
		begin(&m, config, server, name, i ? &s : NULL);
		assert_int_equal(m.err, 0);
		assert_int_equal(tlsfd_resumed(m.c), i > 0);
		assert_int_equal(SSL_session_reused(m.peer), i > 0);
		assert_same_facts(m.c);
		meet_talk(&m);
		assert_true(i || s.count == (version == TLS1_3_VERSION ? 2 : 1));
		assert_int_equal(s.version, version);
		meet_close(&m);
		tlsfd_config_free(config);
	}
	/* OpenSSL does not tell of a ticket that a TLS 1.2 server renews */
	assert_int_equal(s.count, version == TLS1_3_VERSION ? 2 + 3 : 1);
	forget(&s);
	SSL_CTX_free(server);
}

static void test_resumes(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(versions); i++) {
		check_resumes(versions[i], "localhost", TLSFD_KERNEL_PREFER);
		check_resumes(versions[i], "127.0.0.1", TLSFD_KERNEL_PREFER);
		check_resumes(versions[i], "localhost", TLSFD_KERNEL_NEVER);
	}
}

/* By the server's session cache, without a ticket. */
static void test_resumes_by_id(void **state)
{
	SSL_CTX *server = server_of(&pki.good, TLS1_2_VERSION);
	struct saved s = { NULL, 0, 0, 0 };
	struct tlsfd_config *config = client_of(&s);
	bool resumed;

	(void)state;
	SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
	earn(&s, config, server, "localhost");
	assert_int_equal(once(config, server, "localhost", &s, &resumed), 0);
	assert_true(resumed);
	tlsfd_config_free(config);
	forget(&s);
	SSL_CTX_free(server);
}

/* Not wanted is the default, and loading needs no callback. */
static void test_load_only(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(versions); i++) {
		SSL_CTX *server = server_of(&pki.good, versions[i]);
		struct saved s = { NULL, 0, 0, 0 };
		struct tlsfd_config *first = client_of(&s), *second = config_of(NULL);
		bool resumed;
		int count;

		earn(&s, first, server, "localhost");
		count = s.count;
		assert_int_equal(once(second, server, "localhost", &s, &resumed), 0);
		assert_true(resumed);
		assert_int_equal(s.count, count);
		tlsfd_config_free(first);
		tlsfd_config_free(second);
		forget(&s);
		SSL_CTX_free(server);
	}
}

/* ---- it must not ---- */

static struct identity middle, late; /* late is of middle, which has expired */

/* A session that a careless connection made does not let a careful one in. */
static void check_careless(int version, const struct identity *id, const char *name, bool chain,
			   bool any_name)
{
	SSL_CTX *server = server_of(id, version);
	struct saved s = { NULL, 0, 0, 0 };
	struct tlsfd_config *careless = client_of(&s), *careful = config_of(NULL);
	bool resumed;

	if (id == &late)
		SSL_CTX_add1_chain_cert(server, middle.cert);
	if (chain)
		tlsfd_config_insecure_no_verify_chain(careless);
	if (any_name)
		tlsfd_config_insecure_no_verify_name(careless);
	earn(&s, careless, server, name);
	assert_int_equal(once(careless, server, name, &s, &resumed), 0);
	assert_true(resumed);
	refuse(careful, server, name, &s, -EKEYREJECTED);
	tlsfd_config_free(careless);
	tlsfd_config_free(careful);
	forget(&s);
	SSL_CTX_free(server);
}

static void test_careless(void **state)
{
	(void)state;
	pki_issue(&middle, "middle", &pki.ca, -1, true);
	pki_issue(&late, "late", &middle, 3600, false);
	for (size_t i = 0; i < LENGTH(versions); i++) {
		check_careless(versions[i], &pki.foreign, "localhost", true, false);
		check_careless(versions[i], &pki.foreign, "localhost", true, true);
		check_careless(versions[i], &pki.expired, "localhost", true, false);
		check_careless(versions[i], &late, "localhost", true, false);
		check_careless(versions[i], &pki.elsewhere, "localhost", false, true);
		check_careless(versions[i], &pki.elsewhere, "localhost", true, true);
	}
	pki_drop(&middle);
	pki_drop(&late);
}

/* What the config trusts now is what counts. */
static void check_distrust(int version, bool by_crl)
{
	SSL_CTX *server = server_of(&pki.revoked, version);
	struct saved s = { NULL, 0, 0, 0 };
	struct tlsfd_config *before = client_of(&s), *now;

	earn(&s, before, server, "localhost");
	if (by_crl) {
		now = config_of(NULL);
		assert_int_equal(tlsfd_config_set_crl_mem(now, pki.crl_pem, strlen(pki.crl_pem)),
				 0);
	} else {
		assert_int_equal(tlsfd_config_new(&now), 0);
		assert_int_equal(tlsfd_config_set_ca_mem(now, pki.other_ca.cert_pem,
							 strlen(pki.other_ca.cert_pem)),
				 0);
	}
	refuse(now, server, "localhost", &s, -EKEYREJECTED);
	tlsfd_config_free(before);
	tlsfd_config_free(now);
	forget(&s);
	SSL_CTX_free(server);
}

static void test_distrust(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(versions); i++) {
		check_distrust(versions[i], true);
		check_distrust(versions[i], false);
	}
}

/* Not even for another name of the same certificate; upper case is no other name. */
static void test_name(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(versions); i++) {
		SSL_CTX *server = server_of(&pki.good, versions[i]);
		struct saved s = { NULL, 0, 0, 0 };
		struct tlsfd_config *config = client_of(&s), *plain = config_of(NULL);
		struct tlsfd_config *any = insecure(config_of(NULL));
		bool resumed;

		earn(&s, config, server, "localhost");
		refuse(plain, server, "a.wild.test", &s, 0);
		refuse(plain, server, "127.0.0.1", &s, 0);
		refuse(plain, server, "elsewhere.test", &s, -EKEYREJECTED);
		refuse(any, server, NULL, &s, 0);
		refuse(any, server, "elsewhere.test", &s, 0);
		assert_int_equal(once(plain, server, "LOCALHOST", &s, &resumed), 0);
		assert_true(resumed);
		tlsfd_config_free(config);
		tlsfd_config_free(plain);
		tlsfd_config_free(any);
		forget(&s);
		SSL_CTX_free(server);
	}
}

/* The server let that certificate in, not this one. */
static void test_own_certificate(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(versions); i++) {
		SSL_CTX *server = server_of(&pki.good, versions[i]);
		struct saved s = { NULL, 0, 0, 0 };
		struct tlsfd_config *as_client = config_of(&pki.client),
				    *as_other = config_of(&pki.rsa);
		struct tlsfd_config *as_nobody = config_of(NULL);
		bool resumed;

		SSL_CTX_set_verify(server, SSL_VERIFY_PEER, NULL);
		assert_int_equal(tlsfd_config_on_session(as_client, on_session, &s), 0);
		earn(&s, as_client, server, "localhost");
		refuse(as_other, server, "localhost", &s, 0);
		refuse(as_nobody, server, "localhost", &s, 0);
		assert_int_equal(once(as_client, server, "localhost", &s, &resumed), 0);
		assert_true(resumed);
		tlsfd_config_free(as_client);
		tlsfd_config_free(as_other);
		tlsfd_config_free(as_nobody);
		forget(&s);
		SSL_CTX_free(server);
	}
}

/* What is not offered any more is not resumed, and the handshake goes well. */
static void check_offer(int version, const char *suites, int now)
{
	SSL_CTX *server = server_of(&pki.good, version);
	struct saved s = { NULL, 0, 0, 0 };
	struct tlsfd_config *before = client_of(&s), *after = config_of(NULL);

	SSL_CTX_set_ciphersuites(server, "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256");
	SSL_CTX_set_cipher_list(server,
				"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256");
	SSL_CTX_set_options(server, SSL_OP_CIPHER_SERVER_PREFERENCE);
	earn(&s, before, server, "localhost");
	if (suites)
		assert_int_equal(tlsfd_config_set_ciphers(after, suites), 0);
	SSL_CTX_set_min_proto_version(server, TLS1_2_VERSION);
	SSL_CTX_set_max_proto_version(server, TLS1_3_VERSION);
	assert_int_equal(tlsfd_config_set_versions(after, now, now), 0);
	refuse(after, server, "localhost", &s, 0);
	tlsfd_config_free(before);
	tlsfd_config_free(after);
	forget(&s);
	SSL_CTX_free(server);
}

static void test_offer(void **state)
{
	(void)state;
	check_offer(TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", TLS1_2_VERSION);
	check_offer(TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", TLS1_3_VERSION);
	check_offer(TLS1_2_VERSION, NULL, TLS1_3_VERSION);
	check_offer(TLS1_3_VERSION, NULL, TLS1_2_VERSION);
}

static void test_too_old(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(versions); i++) {
		SSL_CTX *server = server_of(&pki.good, versions[i]);
		struct saved s = { NULL, 0, 0, 0 };
		struct tlsfd_config *config = client_of(&s);
		struct meeting m;

		SSL_CTX_set_timeout(server, 1);
		earn(&s, config, server, "localhost");
		poll(NULL, 0, 2100);
		meet_open(&m, config, false, server, "localhost");
		assert_int_equal(tlsfd_set_session(m.c, s.data, s.size), 0);
		assert_null(SSL_get_session(m.c->ssl));
		meet_close(&m);
		tlsfd_config_free(config);
		forget(&s);
		SSL_CTX_free(server);
	}
}

/* ---- bytes ---- */

static struct saved cut(const struct saved *s, size_t from, size_t n)
{
	return (struct saved){ s->data + from, n, 0, 0 };
}

/* Where the chain begins: behind the magic and four fields. */
static size_t chain_at(const struct saved *s)
{
	size_t at = 8;

	for (int i = 0; i < 4; i++)
		at += 4 + ((size_t)s->data[at] << 24 | (size_t)s->data[at + 1] << 16 |
			   (size_t)s->data[at + 2] << 8 | s->data[at + 3]);
	return at;
}

/* A session with somebody else as server, and the chain of the one who is trusted. */
static void test_other_chain(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(versions); i++) {
		SSL_CTX *good = server_of(&pki.good, versions[i]);
		SSL_CTX *bad = server_of(&pki.foreign, versions[i]);
		struct saved trusted = { NULL, 0, 0, 0 }, taken = { NULL, 0, 0, 0 }, both;
		struct tlsfd_config *careful = client_of(&trusted);
		struct tlsfd_config *careless = insecure(client_of(&taken));
		struct saved head, chain;

		earn(&trusted, careful, good, "localhost");
		earn(&taken, careless, bad, "localhost");
		head = cut(&taken, 0, chain_at(&taken));
		chain = cut(&trusted, chain_at(&trusted), trusted.size - chain_at(&trusted));
		both.size = head.size + chain.size;
		both.data = malloc(both.size);
		memcpy(both.data, head.data, head.size);
		memcpy(both.data + head.size, chain.data, chain.size);
		refuse(careful, bad, "localhost", &both, -EKEYREJECTED);
		/* none at all */
		refuse(careful, bad, "localhost", &head, -EKEYREJECTED);
		free(both.data);
		forget(&trusted);
		forget(&taken);
		tlsfd_config_free(careful);
		tlsfd_config_free(careless);
		SSL_CTX_free(good);
		SSL_CTX_free(bad);
	}
}

static void check_bytes(struct tlsfd *c, struct saved *s)
{
	const char *slice = getenv("TLSFD_SLICE");
	size_t step = slice ? 13 : 5; /* a sanitizer holds back all that was freed */
	uint8_t *copy;

	assert_int_equal(tlsfd_set_session(c, NULL, 0), -EINVAL);
	for (size_t n = 0; n < chain_at(s); n += step) {
		copy = memcpy(malloc(n + 1), s->data, n); /* a read behind the end is seen */
		copy = realloc(copy, n ? n : 1);
		assert_int_equal(tlsfd_set_session(c, copy, n), -EINVAL);
		free(copy);
	}
	copy = malloc(s->size + 1);
	memcpy(copy, s->data, s->size);
	assert_int_equal(tlsfd_set_session(c, copy, s->size + 1), -EINVAL);
	for (size_t i = 0; i < s->size; i += step) {
		int err;

		copy[i] ^= (uint8_t)(1 + i * 7 % 255);
		err = tlsfd_set_session(c, copy, s->size);
		assert_true(err == 0 || err == -EINVAL || err == -ENOMEM);
		assert_true(i >= 8 || err == -EINVAL);
		copy[i] = s->data[i];
	}
	free(copy);
	assert_int_equal(tlsfd_set_session(c, s->data, s->size), 0);
	assert_int_equal(ERR_peek_error(), 0);
}

static void test_bytes(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(versions); i++) {
		SSL_CTX *server = server_of(&pki.good, versions[i]);
		struct saved s = { NULL, 0, 0, 0 };
		struct tlsfd_config *config = client_of(&s);
		struct meeting m;

		earn(&s, config, server, "localhost");
		meet_open(&m, config, false, server, "localhost");
		check_bytes(m.c, &s);
		meet_shake(&m);
		assert_true(tlsfd_resumed(m.c));
		assert_int_equal(tlsfd_set_session(m.c, s.data, s.size), -EBUSY);
		meet_close(&m);
		tlsfd_config_free(config);
		forget(&s);
		SSL_CTX_free(server);
	}
}

/* The last one counts, also if it doesn't fit. */
static void test_last_counts(void **state)
{
	SSL_CTX *server = server_of(&pki.good, TLS1_3_VERSION);
	struct saved s = { NULL, 0, 0, 0 }, other = { NULL, 0, 0, 0 };
	struct tlsfd_config *config = client_of(&s), *for_other = client_of(&other);
	struct meeting m;

	(void)state;
	earn(&s, config, server, "localhost");
	earn(&other, for_other, server, "a.wild.test");
	meet_open(&m, config, false, server, "localhost");
	assert_int_equal(tlsfd_set_session(m.c, s.data, s.size), 0);
	assert_int_equal(tlsfd_set_session(m.c, other.data, other.size), 0);
	meet_shake(&m);
	assert_int_equal(m.err, 0);
	assert_false(tlsfd_resumed(m.c));
	meet_close(&m);
	tlsfd_config_free(config);
	tlsfd_config_free(for_other);
	forget(&s);
	forget(&other);
	SSL_CTX_free(server);
}

/* ---- the wrong moment, the wrong end ---- */

static void test_refusals(void **state)
{
	struct tlsfd_config *config = client_of(NULL), *server = config_of(&pki.good);
	SSL_CTX *peer = server_of(&pki.good, TLS1_3_VERSION);
	struct meeting m;

	(void)state;
	meet_open(&m, config, false, peer, "localhost");
	assert_int_equal(tlsfd_config_on_session(config, NULL, NULL), -EBUSY);
	assert_int_equal(tlsfd_handshake(m.c), -EAGAIN);
	assert_int_equal(tlsfd_set_session(m.c, "x", 1), -EBUSY);
	meet_close(&m);
	meet_open(&m, server, true, peer, NULL);
	assert_int_equal(tlsfd_set_session(m.c, "x", 1), -EINVAL);
	meet_close(&m);
	assert_int_equal(tlsfd_config_on_session(NULL, NULL, NULL), -EINVAL);
	tlsfd_config_free(config);
	tlsfd_config_free(server);
	SSL_CTX_free(peer);
}

/* One config for both ends: a client's sessions stay out of the server's cache, and a
 * server tells nobody of its own. */
static void test_both_ends(void **state)
{
	struct saved s = { NULL, 0, 0, 0 };
	struct tlsfd_config *config = config_of(&pki.good);

	(void)state;
	assert_int_equal(tlsfd_config_on_session(config, on_session, &s), 0);
	assert_int_equal(tlsfd_config_set_session_cache(config, 10), 0);
	for (size_t i = 0; i < LENGTH(versions); i++) {
		SSL_CTX *server = server_of(&pki.good, versions[i]);
		SSL_CTX *client = server_of(NULL, versions[i]);
		bool resumed;
		struct meeting m;
		int count;

		earn(&s, config, server, "localhost");
		assert_int_equal(SSL_CTX_sess_number(config->ctx), 0);
		assert_int_equal(once(config, server, "localhost", &s, &resumed), 0);
		assert_true(resumed);
		count = s.count;
		SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
		meet_open(&m, config, true, client, NULL);
		meet_shake(&m);
		assert_int_equal(m.err, 0);
		assert_int_equal(s.count, count);
		meet_close(&m);
		if (versions[i] == TLS1_2_VERSION)
			assert_int_equal(SSL_CTX_sess_number(config->ctx), 1);
		SSL_CTX_flush_sessions(config->ctx, 0x7fffffff);
		SSL_CTX_free(server);
		SSL_CTX_free(client);
	}
	tlsfd_config_free(config);
	forget(&s);
}

/* A server that sends more than anybody needs. */
static void test_many(void **state)
{
	static const enum tlsfd_kernel kernels[] = { TLSFD_KERNEL_PREFER, TLSFD_KERNEL_NEVER };

	(void)state;
	for (size_t i = 0; i < LENGTH(kernels); i++) {
		SSL_CTX *server = server_of(&pki.good, TLS1_3_VERSION);
		struct saved s = { NULL, 0, 0, 0 };
		struct tlsfd_config *config = client_of(&s);
		bool resumed;

		SSL_CTX_set_num_tickets(server, 40);
		assert_int_equal(tlsfd_config_set_kernel(config, kernels[i]), 0);
		earn(&s, config, server, "localhost");
		assert_int_equal(s.count, 32);
		assert_int_equal(once(config, server, "localhost", &s, &resumed), 0);
		assert_true(resumed);
		tlsfd_config_free(config);
		forget(&s);
		SSL_CTX_free(server);
	}
}

static int count_after(SSL_CTX *server, enum tlsfd_kernel kernel, bool enough)
{
	struct saved s = { NULL, 0, 0, 0 };
	struct tlsfd_config *config = client_of(&s);
	struct meeting m;
	int count;

	assert_int_equal(tlsfd_config_set_kernel(config, kernel), 0);
	meet_open(&m, config, false, server, "localhost");
	tlsfd_no_more_sessions(m.c); /* too early: it does nothing */
	meet_shake(&m);
	assert_int_equal(m.err, 0);
	if (enough)
		tlsfd_no_more_sessions(m.c);
	meet_talk(&m); /* behind the tickets */
	count = s.count;
	meet_close(&m);
	tlsfd_config_free(config);
	forget(&s);
	return count;
}

static void test_no_more(void **state)
{
	static const enum tlsfd_kernel kernels[] = { TLSFD_KERNEL_PREFER, TLSFD_KERNEL_NEVER };

	(void)state;
	for (size_t i = 0; i < LENGTH(kernels); i++) {
		SSL_CTX *server = server_of(&pki.good, TLS1_3_VERSION);

		assert_int_equal(count_after(server, kernels[i], false), 2);
		assert_int_equal(count_after(server, kernels[i], true), 0);
		SSL_CTX_free(server);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resumes),
		cmocka_unit_test(test_resumes_by_id),
		cmocka_unit_test(test_load_only),
		cmocka_unit_test(test_careless),
		cmocka_unit_test(test_distrust),
		cmocka_unit_test(test_name),
		cmocka_unit_test(test_own_certificate),
		cmocka_unit_test(test_offer),
		cmocka_unit_test(test_too_old),
		cmocka_unit_test(test_other_chain),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_last_counts),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_both_ends),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_no_more),
	};

	return meet_run(tests, LENGTH(tests), NULL, NULL);
}
