/*
 * OCSP responses of a server: which are taken, and which client gets which.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "connection.h"
#include "meet.h"

enum { HOUR = 3600 };

/* A response that is as it should be; what a test wants otherwise it changes. */
static struct ocsp good_for(const struct identity *id)
{
	return (struct ocsp){ .about = id,
			      .issuer = &pki.ca,
			      .status = V_OCSP_CERTSTATUS_GOOD,
			      .from = -HOUR,
			      .to = HOUR };
}

static int set(struct tlsfd_config *config, const struct ocsp *ocsp)
{
	size_t size;
	uint8_t *der = pki_ocsp(ocsp, &size);
	int err = tlsfd_config_set_ocsp_mem(config, der, size);

	OPENSSL_free(der);
	return err;
}

/* With the issuer behind it. */
static struct tlsfd_config *config_with_chain(const struct identity *id)
{
	struct tlsfd_config *config;
	char *chain;

	assert_true(asprintf(&chain, "%s%s", id->cert_pem, pki.ca.cert_pem) > 0);
	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_int_equal(tlsfd_config_set_certificate_mem(config, chain, strlen(chain),
							  id->key_pem, strlen(id->key_pem)),
			 0);
	free(chain);
	return config;
}

/* ---- which are taken ---- */

static void test_what_it_says(void **state)
{
	enum { REVOKED = V_OCSP_CERTSTATUS_REVOKED, UNKNOWN = V_OCSP_CERTSTATUS_UNKNOWN };
	const long from = -HOUR, to = HOUR;
	const struct case_ {
		struct ocsp ocsp; /* of pki.good by pki.ca, if it does not say */
		int bare, chain;  /* without the issuer, and with it in the chain */
		const char *says;
	} cases[] = {
		{ { .from = from, .to = to }, 0, 0, NULL },
		{ { .from = from, .to = to, .digest = EVP_sha256() }, 0, 0, NULL },
		{ { .from = from, .to = to, .signer = &pki.other_ca }, 0, -EINVAL, "nobody whom" },
		{ { .from = 60, .to = to }, 0, 0, NULL },
		{ { .from = from, .to = to, .about = &pki.rsa }, -ENODATA, -ENODATA, "for another" },
		{ { .from = from, .to = to, .issuer = &pki.other_ca }, -ENODATA, -ENODATA,
		  "is for another certificate" },
		{ { .from = from, .to = to, .issuer_key = &pki.other_ca, .signer = &pki.ca }, 0,
		  -ENODATA, "is for another certificate" },
		{ { .from = from, .to = -1 }, -EKEYEXPIRED, -EKEYEXPIRED, "was good until " },
		{ { .from = from }, -EINVAL, -EINVAL, "does not say until when" },
		{ { .from = HOUR, .to = 2 * to }, -EINVAL, -EINVAL, "is from the future" },
		{ { .from = 60, .to = 30 }, -EINVAL, -EINVAL, "times of the OCSP response are" },
		{ { .from = from, .to = to, .status = REVOKED }, -EKEYREVOKED, -EKEYREVOKED,
		  "says that the certificate is revoked" },
		{ { .from = from, .to = to, .status = UNKNOWN }, -EINVAL, -EINVAL,
		  "does not know the certificate" },
	};

	(void)state;
	for (size_t i = 0; i < 2 * LENGTH(cases); i++) {
		const struct case_ *k = &cases[i / 2];
		struct ocsp ocsp = k->ocsp;
		struct tlsfd_config *config = i & 1 ? config_with_chain(&pki.good) :
						      config_of(&pki.good);
		int want = i & 1 ? k->chain : k->bare, got;

		ocsp.about = ocsp.about ? ocsp.about : &pki.good;
		ocsp.issuer = ocsp.issuer ? ocsp.issuer : &pki.ca;
		got = set(config, &ocsp);
		if (got != want)
			fail_msg("case %zu: %d, want %d: %s", i / 2, got, want,
				 tlsfd_config_error(config));
		if (want)
			assert_says(tlsfd_config_error(config), k->says);
		else
			assert_null(tlsfd_config_error(config));
		tlsfd_config_free(config);
	}
}

static void assert_refused(const void *der, size_t size, const char *says)
{
	struct tlsfd_config *config = config_with_chain(&pki.good);

	assert_int_equal(tlsfd_config_set_ocsp_mem(config, der, size), -EINVAL);
	assert_says(tlsfd_config_error(config), says);
	tlsfd_config_free(config);
}

static void test_no_response(void **state)
{
	const struct ocsp good = good_for(&pki.good);
	OCSP_RESPONSE *later = OCSP_response_create(OCSP_RESPONSE_STATUS_TRYLATER, NULL);
	size_t size;
	uint8_t *der = pki_ocsp(&good, &size), *more = malloc(size + 1), *answer = NULL;
	int n = i2d_OCSP_RESPONSE(later, &answer);

	(void)state;
	assert_refused(NULL, 0, "not given");
	assert_refused("", 0, "no OCSP response in DER");
	assert_refused(pki.good.cert_pem, strlen(pki.good.cert_pem), "no OCSP response in DER");
	for (size_t cut = 1; cut < size; cut += 7)
		assert_refused(der, cut, "no OCSP response in DER");
	assert_refused(answer, (size_t)n, "the responder said \"trylater\"");
	memcpy(more, der, size);
	more[size] = 0;
	assert_refused(more, size + 1, "more behind");
	der[size - 1] ^= 1; /* of the signature */
	assert_refused(der, size, "signature of the OCSP response is wrong");
	free(more);
	OPENSSL_free(der);
	OPENSSL_free(answer);
	OCSP_RESPONSE_free(later);
}

/* Nothing of one that is broken anywhere brings the parser down or is taken. */
static void test_every_byte(void **state)
{
	const struct ocsp good = good_for(&pki.good);
	struct tlsfd_config *config = config_with_chain(&pki.good);
	size_t size;
	uint8_t *der = pki_ocsp(&good, &size);

	(void)state;
	for (size_t i = 0; i < size; i++) {
		der[i] ^= 0x41;
		assert_int_not_equal(tlsfd_config_set_ocsp_mem(config, der, size), 0);
		assert_non_null(tlsfd_config_error(config));
		der[i] ^= 0x41;
	}
	assert_int_equal(tlsfd_config_set_ocsp_mem(config, der, size), 0);
	tlsfd_config_free(config);
	OPENSSL_free(der);
}

static void test_setters(void **state)
{
	char path[] = "/tmp/tlsfd-staple.XXXXXX";
	const struct ocsp good = good_for(&pki.good);
	struct tlsfd_config *config = config_of(NULL), *used = config_of(&pki.good);
	struct tlsfd *c;
	size_t size;
	uint8_t *der = pki_ocsp(&good, &size);
	int fd[2], file = mkstemp(path);

	(void)state;
	assert_int_equal(write(file, der, size), size);
	close(file);
	assert_int_equal(tlsfd_config_set_ocsp_file(config, path), -EINVAL);
	assert_says(tlsfd_config_error(config), "certificate that it is for has to be set before");
	assert_says(tlsfd_config_error(config), path);
	assert_int_equal(tlsfd_config_set_ocsp_file(used, NULL), -EINVAL);
	assert_int_equal(tlsfd_config_set_ocsp_file(used, "/tmp"), -EISDIR);
	assert_int_equal(tlsfd_config_set_ocsp_file(used, path), 0);
	unlink(path);
	assert_int_equal(tlsfd_config_set_ocsp_file(used, path), -ENOENT);
	assert_says(tlsfd_config_error(used), "No such file");
	tcp_pair(fd);
	assert_int_equal(tlsfd_accept(&c, used, fd[0]), 0);
	assert_int_equal(tlsfd_config_set_ocsp_file(used, path), -EBUSY);
	assert_int_equal(tlsfd_config_set_ocsp_mem(used, der, size), -EBUSY);
	assert_int_equal(tlsfd_config_set_ocsp_mem(NULL, der, size), -EINVAL);
	tlsfd_free(c);
	tlsfd_config_free(used);
	tlsfd_config_free(config);
	OPENSSL_free(der);
	close(fd[0]);
	close(fd[1]);
}

/* ---- what clients get ---- */

struct visit {
	int version;      /* 0: any */
	const char *name; /* SNI */
	const char *sigalgs;
	bool asks;
};

/* What is stapled: its size, 0: nothing; *der lives as long as m. */
static size_t visit(struct meeting *m, struct tlsfd_config *config, const struct visit *v,
		    const uint8_t **der)
{
	SSL_CTX *peer = peer_context(NULL);
	long size;

	SSL_CTX_set_min_proto_version(peer, v->version);
	SSL_CTX_set_max_proto_version(peer, v->version);
	meet_open(m, config, true, peer, NULL);
	SSL_CTX_free(peer);
	if (v->asks)
		SSL_set_tlsext_status_type(m->peer, TLSEXT_STATUSTYPE_ocsp);
	if (v->name)
		SSL_set_tlsext_host_name(m->peer, v->name);
	if (v->sigalgs)
		assert_int_equal(SSL_set1_sigalgs_list(m->peer, v->sigalgs), 1);
	meet_shake(m);
	if (m->err)
		fail_msg("%s", tlsfd_error(m->c));
	meet_talk(m);
	/* where OpenSSL goes on, its copy has gone */
	assert_true(!m->c->ssl || SSL_get_tlsext_status_ocsp_resp(m->c->ssl, der) <= 0);
	size = SSL_get_tlsext_status_ocsp_resp(m->peer, der);
	return size > 0 ? (size_t)size : 0;
}

static void assert_gets(struct tlsfd_config *config, const struct visit *v, const void *want,
			size_t want_size)
{
	const uint8_t *got = NULL;
	struct meeting m;
	size_t size = visit(&m, config, v, &got);

	assert_int_equal(size, want_size);
	if (size)
		assert_memory_equal(got, want, size);
	meet_close(&m);
}

static void assert_gets_nothing(struct tlsfd_config *config, const struct visit *v)
{
	assert_gets(config, v, NULL, 0);
}

/* As a client that insists does it. */
static void assert_peer_is_content(const uint8_t *der, size_t size)
{
	OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &der, (long)size);
	OCSP_BASICRESP *basic = OCSP_response_get1_basic(response);
	OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), pki.good.cert, pki.ca.cert);
	X509_STORE *store = X509_STORE_new();
	STACK_OF(X509) *certs = sk_X509_new_null();
	ASN1_GENERALIZEDTIME *from, *to;
	int status;

	X509_STORE_add_cert(store, pki.ca.cert);
	sk_X509_push(certs, pki.ca.cert);
	assert_int_equal(OCSP_basic_verify(basic, certs, store, 0), 1);
	assert_int_equal(OCSP_resp_find_status(basic, id, &status, NULL, NULL, &from, &to), 1);
	assert_int_equal(status, V_OCSP_CERTSTATUS_GOOD);
	assert_int_equal(OCSP_check_validity(from, to, 0, -1), 1);
	sk_X509_free(certs);
	X509_STORE_free(store);
	OCSP_CERTID_free(id);
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(response);
}

static void test_sent(void **state)
{
	const struct ocsp good = good_for(&pki.good);
	size_t size;
	uint8_t *der = pki_ocsp(&good, &size);

	(void)state;
	assert_peer_is_content(der, size);
	for (int i = 0; i < 4; i++) {
		struct visit v = { .version = i & 1 ? TLS1_3_VERSION : TLS1_2_VERSION };
		struct tlsfd_config *config = config_of(&pki.good);

		if (i & 2)
			assert_int_equal(tlsfd_config_set_kernel(config, TLSFD_KERNEL_NEVER), 0);
		assert_int_equal(tlsfd_config_set_ocsp_mem(config, der, size), 0);
		assert_gets_nothing(config, &v);
		v.asks = true;
		assert_gets(config, &v, der, size);
		tlsfd_config_free(config);
		config = config_of(&pki.good);
		assert_gets_nothing(config, &v);
		tlsfd_config_free(config);
	}
	OPENSSL_free(der);
}

static time_t ahead;

/* Takes libc's place for the library in this program: time passes when we say so. */
time_t time(time_t *now)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += ahead;
	if (now)
		*now = ts.tv_sec;
	return ts.tv_sec;
}

static void test_expires_in_use(void **state)
{
	const struct ocsp good = good_for(&pki.good);
	struct tlsfd_config *config = config_of(&pki.good);
	const struct visit v = { .asks = true };
	size_t size;
	uint8_t *der = pki_ocsp(&good, &size);

	(void)state;
	assert_int_equal(tlsfd_config_set_ocsp_mem(config, der, size), 0);
	assert_gets(config, &v, der, size);
	ahead = HOUR / 2;
	assert_gets(config, &v, der, size);
	ahead = HOUR + 1;
	assert_gets_nothing(config, &v);
	ahead = 0;
	tlsfd_config_free(config);
	OPENSSL_free(der);
}

/* Each certificate of a server has its own. */
static void test_names(void **state)
{
	const struct ocsp good = good_for(&pki.good), other = good_for(&pki.elsewhere);
	struct tlsfd_config *config = config_of(&pki.good), *named = config_of(&pki.elsewhere),
			    *without = config_of(&pki.elsewhere);
	size_t size, other_size;
	uint8_t *der = pki_ocsp(&good, &size), *other_der = pki_ocsp(&other, &other_size);

	(void)state;
	assert_int_equal(tlsfd_config_set_ocsp_mem(named, der, size), -ENODATA);
	assert_int_equal(tlsfd_config_set_ocsp_mem(named, other_der, other_size), 0);
	assert_int_equal(tlsfd_config_set_ocsp_mem(config, der, size), 0);
	assert_int_equal(tlsfd_config_add_name(config, "elsewhere.test", named), 0);
	assert_int_equal(tlsfd_config_add_name(config, "without.test", without), 0);
	/* a name's config may get it later, too */
	assert_int_equal(tlsfd_config_set_ocsp_mem(named, other_der, other_size), 0);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct visit v = { .version = version, .asks = true };

		assert_gets(config, &v, der, size);
		v.name = "localhost";
		assert_gets(config, &v, der, size);
		v.name = "elsewhere.test";
		assert_gets(config, &v, other_der, other_size);
		v.name = "without.test";
		assert_gets_nothing(config, &v);
	}
	tlsfd_config_free(without);
	tlsfd_config_free(named);
	tlsfd_config_free(config);
	OPENSSL_free(der);
	OPENSSL_free(other_der);
}

static void use(struct tlsfd_config *config, const struct identity *id)
{
	assert_int_equal(tlsfd_config_set_certificate_mem(config, id->cert_pem,
							  strlen(id->cert_pem), id->key_pem,
							  strlen(id->key_pem)), 0);
}

/* A config with a certificate for each of two types of key. */
static void test_types_of_key(void **state)
{
	const struct ocsp ecdsa = good_for(&pki.good), rsa = good_for(&pki.rsa);
	struct tlsfd_config *config = config_of(&pki.good);
	struct visit v = { .asks = true };
	size_t ecdsa_size, rsa_size;
	uint8_t *ecdsa_der = pki_ocsp(&ecdsa, &ecdsa_size), *rsa_der = pki_ocsp(&rsa, &rsa_size);

	(void)state;
	use(config, &pki.rsa);
	assert_int_equal(tlsfd_config_set_ocsp_mem(config, ecdsa_der, ecdsa_size), 0);
	assert_int_equal(tlsfd_config_set_ocsp_mem(config, rsa_der, rsa_size), 0);
	for (v.version = TLS1_2_VERSION; v.version <= TLS1_3_VERSION; v.version++) {
		v.sigalgs = "RSA-PSS+SHA256";
		assert_gets(config, &v, rsa_der, rsa_size);
		v.sigalgs = "ECDSA+SHA256";
		assert_gets(config, &v, ecdsa_der, ecdsa_size);
	}
	tlsfd_config_free(config);
	OPENSSL_free(ecdsa_der);
	OPENSSL_free(rsa_der);
}

/* A newer one for the same certificate is in its place; one that failed leaves it; none goes
 * with another certificate. */
static void test_replaced(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good);
	struct ocsp old = good_for(&pki.good), new = old, bad = old;
	const struct visit v = { .asks = true };
	size_t old_size, new_size;
	uint8_t *old_der = pki_ocsp(&old, &old_size), *new_der;

	(void)state;
	new.to = 2 * HOUR;
	bad.to = -1;
	new_der = pki_ocsp(&new, &new_size);
	assert_int_equal(tlsfd_config_set_ocsp_mem(config, old_der, old_size), 0);
	assert_int_equal(tlsfd_config_set_ocsp_mem(config, new_der, new_size), 0);
	assert_int_equal(set(config, &bad), -EKEYEXPIRED);
	assert_gets(config, &v, new_der, new_size);
	tlsfd_config_free(config);

	config = config_of(&pki.good);
	assert_int_equal(tlsfd_config_set_ocsp_mem(config, old_der, old_size), 0);
	use(config, &pki.elsewhere);
	assert_gets_nothing(config, &v);
	tlsfd_config_free(config);
	OPENSSL_free(old_der);
	OPENSSL_free(new_der);
}

/* A client with the same config is who it was; so are its sessions, which go by OpenSSL's
 * current certificate. */
static void test_client(void **state)
{
	const struct ocsp rsa = good_for(&pki.rsa);
	SSL_CTX *peer = peer_context(&pki.good);
	struct tlsfd_config *config = config_of(&pki.client);
	struct meeting m;

	(void)state;
	use(config, &pki.rsa);
	use(config, &pki.client);
	assert_int_equal(set(config, &rsa), 0);
	assert_int_equal(X509_cmp(SSL_CTX_get0_certificate(config->ctx), pki.client.cert), 0);
	SSL_CTX_set_verify(peer, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	meet(&m, config, false, peer, "localhost");
	assert_int_equal(m.err, 0);
	assert_int_equal(X509_cmp(SSL_get0_peer_certificate(m.peer), pki.client.cert), 0);
	meet_talk(&m);
	meet_close(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_it_says),
		cmocka_unit_test(test_no_response),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_setters),
		cmocka_unit_test(test_sent),
		cmocka_unit_test(test_expires_in_use),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_types_of_key),
		cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_client),
	};

	return meet_run(tests, LENGTH(tests), NULL, NULL);
}
