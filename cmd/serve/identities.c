/* SPDX-License-Identifier: MIT */
#include "identities.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "logfmt.h"

struct load {
	const struct service *service;
	struct tlsfd_config *base;
	bool *stapled; /* of each --ocsp: there is a certificate that it is for */
	char *error;
	size_t size;
};

static int fail(const struct load *l, int err, const char *sentence)
{
	if (sentence)
		snprintf(l->error, l->size, "%s", sentence);
	else
		snprintf(l->error, l->size, "certificates: %s", strerror(-err));
	return err;
}

static int fail_config(const struct load *l, int err, const struct tlsfd_config *config)
{
	return err ? fail(l, err, tlsfd_config_error(config)) : 0;
}

/* ---- files ---- */

static int check_file(const struct load *l, const char *path)
{
	struct stat st;

	if (!path || stat(path, &st) < 0 || !S_ISFIFO(st.st_mode))
		return 0;
	snprintf(l->error, l->size, "%s: " SETTINGS_NO_PIPE, path);
	return -EINVAL;
}

static int check_texts(const struct load *l, const struct texts *paths)
{
	int err = 0;

	for (size_t i = 0; i < paths->count && !err; i++)
		err = check_file(l, paths->at[i]);
	return err;
}

static int check_files(const struct load *l)
{
	const struct service *s = l->service;
	int err = check_texts(l, &s->cert);

	if (!err)
		err = check_texts(l, &s->key);
	if (!err)
		err = check_texts(l, &s->ocsp);
	if (!err)
		err = check_file(l, s->client_ca);
	return err ? err : check_file(l, s->crl);
}

/* ---- what holds for every certificate ---- */

static int read_trust(const struct service *s, struct tlsfd_config *config)
{
	int err = tlsfd_config_set_ca_file(config, s->client_ca);

	return !err && s->crl ? tlsfd_config_set_crl_file(config, s->crl) : err;
}

/* One copy for all: a revocation list of 10,000 entries takes 2 MB. */
static int set_trust(const struct load *l, struct tlsfd_config *config)
{
	const struct service *s = l->service;
	int err = tlsfd_config_set_client_auth(config, s->client_auth);

	if (!err && s->client_ca)
		err = config == l->base ? read_trust(s, config) :
					  tlsfd_config_share_trust(config, l->base);
	if (!err)
		err = tlsfd_config_set_verify_depth(config, s->verify_depth);
	return fail_config(l, err, config);
}

static int set_offer(const struct load *l, struct tlsfd_config *config)
{
	const struct service *s = l->service;
	int err = tlsfd_config_set_versions(config, s->min_version, s->max_version);

	if (!err && s->ciphers)
		err = tlsfd_config_set_ciphers(config, s->ciphers);
	if (!err && s->groups)
		err = tlsfd_config_set_groups(config, s->groups);
	if (!err && s->alpn)
		err = tlsfd_config_set_alpn(config, s->alpn);
	if (!err)
		err = tlsfd_config_set_kernel(config, s->require_kernel ? TLSFD_KERNEL_REQUIRE :
									  TLSFD_KERNEL_IF_THERE);
	/* one for each connection, resumed or not, is enough; a second costs 6 % of a handshake */
	if (!err)
		err = tlsfd_config_set_tickets(config, 1);
	return fail_config(l, err, config);
}

/* ---- warnings ---- */

static void warn_of(const char *path, const char *error)
{
	struct logline line;

	log_begin(&line, "warning");
	log_text(&line, "file", path);
	log_text(&line, "error", error);
	log_end(&line);
}

/* To clients whose clock is right it is worth nothing. */
static void warn_of_dates(const char *path, const X509 *cert, bool leaf)
{
	bool early = X509_cmp_current_time(X509_get0_notBefore(cert)) > 0;
	bool late = X509_cmp_current_time(X509_get0_notAfter(cert)) < 0;

	if (late)
		warn_of(path, leaf ? "the certificate has expired" :
				     "a certificate of the chain has expired");
	if (early)
		warn_of(path, leaf ? "the certificate is not valid yet" :
				     "a certificate of the chain is not valid yet");
}

static void warn_of_list(const char *path, const X509_CRL *crl)
{
	const ASN1_TIME *from = X509_CRL_get0_lastUpdate(crl), *to = X509_CRL_get0_nextUpdate(crl);

	if (to && X509_cmp_current_time(to) < 0)
		warn_of(path, "a revocation list has expired: without another one the clients "
			      "of its authority are refused");
	if (X509_cmp_current_time(from) > 0)
		warn_of(path, "a revocation list is not valid yet: without another one the clients "
			      "of its authority are refused");
}

static void warn_of_lists(const char *path)
{
	FILE *file = path ? fopen(path, "re") : NULL;
	X509_CRL *crl;

	while (file && (crl = PEM_read_X509_CRL(file, NULL, NULL, NULL))) {
		warn_of_list(path, crl);
		X509_CRL_free(crl);
	}
	if (file)
		fclose(file);
	ERR_clear_error();
}

/* ---- names ---- */

/* NULL: there is none. */
static X509 *read_leaf(const char *path)
{
	FILE *file = fopen(path, "re");
	X509 *leaf = NULL, *cert = NULL;

	while (file && (cert = PEM_read_X509(file, NULL, NULL, NULL))) {
		warn_of_dates(path, cert, !leaf);
		if (leaf)
			X509_free(cert);
		else
			leaf = cert;
	}
	if (file)
		fclose(file);
	ERR_clear_error();
	return leaf;
}

/* Two certificates for one name, of RSA and of ECDSA perhaps: the first one is used. Nobody
 * asks for what is no server's name. */
static int add_name(const struct load *l, const ASN1_STRING *name, struct tlsfd_config *config,
		    unsigned *added)
{
	char text[256];
	int n = ASN1_STRING_length(name), err;

	if (n <= 0 || n >= (int)sizeof(text) || memchr(ASN1_STRING_get0_data(name), 0, (size_t)n))
		return 0;
	memcpy(text, ASN1_STRING_get0_data(name), (size_t)n);
	text[n] = '\0';
	err = tlsfd_config_add_name(l->base, text, config);
	*added += !err;
	if (err == -EINVAL)
		log_error("warning", "%s", tlsfd_config_error(l->base));
	return err == -EEXIST || err == -EINVAL ? 0 : fail_config(l, err, l->base);
}

static int add_names(const struct load *l, X509 *cert, struct tlsfd_config *config, unsigned *added)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int err = 0;

	for (int i = 0; !err && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_DNS)
			err = add_name(l, name->d.dNSName, config, added);
	}
	GENERAL_NAMES_free(names);
	return err;
}

/* ---- OCSP responses ---- */

/* One that is out of date is left out, as it will be when it gets so: clients do without,
 * and a restart is not the time to stop serving. */
static int set_response(const struct load *l, struct tlsfd_config *config, const char *path)
{
	int err = tlsfd_config_set_ocsp_file(config, path);

	if (err != -EKEYEXPIRED)
		return err;
	if (config != l->base) /* said once */
		log_error("warning", "%s; it is not sent", tlsfd_config_error(config));
	return 0;
}

/* Each file of --ocsp goes to the certificate that it is for. */
static int set_responses(const struct load *l, struct tlsfd_config *config)
{
	const struct texts *ocsp = &l->service->ocsp;
	int err = 0;

	for (size_t i = 0; i < ocsp->count && (!err || err == -ENODATA); i++) {
		err = set_response(l, config, ocsp->at[i]);
		l->stapled[i] = l->stapled[i] || !err;
	}
	return err == -ENODATA ? 0 : fail_config(l, err, config);
}

static int check_responses(const struct load *l)
{
	const struct texts *ocsp = &l->service->ocsp;

	for (size_t i = 0; i < ocsp->count; i++)
		if (!l->stapled[i]) {
			snprintf(l->error, l->size,
				 "%s: the OCSP response is for none of the certificates",
				 ocsp->at[i]);
			return -ENODATA;
		}
	return 0;
}

/* ---- certificates ---- */

struct files {
	const char *cert, *key, *ocsp; /* ocsp NULL: none of its own */
};

static int set_certificate(const struct load *l, struct tlsfd_config *config,
			   const struct files *files)
{
	int err = tlsfd_config_set_certificate_file(config, files->cert, files->key);

	if (!err && files->ocsp)
		err = set_response(l, config, files->ocsp);
	return err ? fail_config(l, err, config) : set_responses(l, config);
}

static int add_for_names(const struct load *l, X509 *leaf, const struct files *files, bool others)
{
	struct tlsfd_config *config;
	unsigned added = 0;
	int err = tlsfd_config_new(&config);

	if (err)
		return fail(l, err, NULL);
	err = set_certificate(l, config, files);
	if (!err)
		err = set_trust(l, config);
	if (!err)
		err = add_names(l, leaf, config, &added);
	if (!err && !added && !others)
		warn_of(files->cert, "no client gets this certificate: it has no name "
				     "(subjectAltName) that none before it has");
	tlsfd_config_free(config);
	return err;
}

/* The first one is for all other names, too, unless these are refused. */
static int add(const struct load *l, const struct files *files, bool first)
{
	bool others = first && !l->service->refuse_unknown;
	int err = others ? set_certificate(l, l->base, files) : 0;
	X509 *leaf;

	if (err)
		return err;
	leaf = read_leaf(files->cert);
	if (!leaf) { /* or it is being replaced, and was there a moment ago */
		snprintf(l->error, l->size, "%s: no certificate can be read from it", files->cert);
		return -EINVAL;
	}
	err = add_for_names(l, leaf, files, others);
	X509_free(leaf);
	return err;
}

static int is_certificate(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name);

	return n > 4 && entry->d_name[0] != '.' &&
	       (!strcmp(entry->d_name + n - 4, ".pem") || !strcmp(entry->d_name + n - 4, ".crt"));
}

/* name's, with another end if it is given; NULL: no memory. */
static char *path_of(const char *folder, const char *name, const char *end)
{
	char *path;
	size_t n = strlen(name) - (end ? 4 : 0);

	return asprintf(&path, "%s/%.*s%s", folder, (int)n, name, end ? end : "") < 0 ? NULL : path;
}

static int add_from_folder(const struct load *l, const char *folder, const char *name, bool first)
{
	char *cert = path_of(folder, name, NULL), *key = path_of(folder, name, ".key"),
	     *ocsp = path_of(folder, name, ".ocsp");
	int err = cert && key && ocsp ? 0 : fail(l, -ENOMEM, NULL);

	if (!err)
		err = add(l,
			  &(struct files){ .cert = cert,
					   .key = access(key, F_OK) == 0 ? key : cert,
					   .ocsp = access(ocsp, F_OK) == 0 ? ocsp : NULL },
			  first);
	free(cert);
	free(key);
	free(ocsp);
	return err;
}

static int add_folder(const struct load *l, const char *folder, bool first)
{
	struct dirent **entries;
	int n = scandir(folder, &entries, is_certificate, alphasort), err = 0;

	if (n < 0) {
		err = -errno;
		snprintf(l->error, l->size, "%s: %s", folder, strerror(-err));
		return err;
	}
	if (n == 0 && first) {
		err = -ENOENT;
		snprintf(l->error, l->size, "%s: no *.pem or *.crt in it", folder);
	}
	for (int i = 0; i < n; i++) {
		if (!err)
			err = add_from_folder(l, folder, entries[i]->d_name, first && i == 0);
		free(entries[i]);
	}
	free(entries);
	return err;
}

static int add_all(const struct load *l, const struct self_signed *self)
{
	const struct service *s = l->service;
	int err = 0;

	for (size_t i = 0; i < s->cert.count && !err; i++)
		err = add(l,
			  &(struct files){ .cert = s->cert.at[i],
					   .key = s->key.count ? s->key.at[i] : s->cert.at[i] },
			  i == 0);
	if (!err && s->cert_dir)
		err = add_folder(l, s->cert_dir, !s->cert.count);
	if (!err && self && !s->cert.count && !s->cert_dir)
		err = fail_config(l,
				  tlsfd_config_set_certificate_mem(l->base, self->pem,
								   self->pem_size, self->key,
								   self->key_size),
				  l->base);
	return err ? err : check_responses(l);
}

/* Loopback's shortest connection: a socket to itself. */
static int connect_to_itself(int fd)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(at);

	return bind(fd, (struct sockaddr *)&at, size) == 0 &&
			       getsockname(fd, (struct sockaddr *)&at, &size) == 0 ?
		       connect(fd, (struct sockaddr *)&at, size) :
		       -1;
}

/* The first use of a config asks the kernel what it takes, and says what doesn't fit: now,
 * and not in a process that can't ask. */
static int use_once(const struct load *l)
{
	int err = 0, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct tlsfd *c = NULL;

	if (fd >= 0 && connect_to_itself(fd) == 0)
		err = tlsfd_accept(&c, l->base, fd);
	if (err)
		fail_config(l, err, l->base);
	tlsfd_free(c);
	if (fd >= 0)
		close(fd);
	return err;
}

int identities_load(struct tlsfd_config **config, const struct service *service,
		    const struct self_signed *self, const struct ratchet *ratchet, char *error,
		    size_t size)
{
	struct load l = { .service = service, .error = error, .size = size };
	int err = tlsfd_config_new(&l.base);

	l.stapled = calloc(service->ocsp.count + 1, sizeof(*l.stapled));
	if (err || !l.stapled) {
		tlsfd_config_free(l.base);
		free(l.stapled);
		return fail(&l, -ENOMEM, NULL);
	}
	err = check_files(&l);
	if (!err)
		err = set_offer(&l, l.base);
	if (!err)
		err = set_trust(&l, l.base);
	if (!err && service->client_auth != TLSFD_CLIENT_AUTH_NONE)
		warn_of_lists(service->crl);
	if (!err)
		err = add_all(&l, self);
	if (!err)
		err = fail_config(&l, ratchet_give(ratchet, l.base), l.base);
	if (!err)
		err = use_once(&l);
	free(l.stapled);
	if (err)
		tlsfd_config_free(l.base);
	else
		*config = l.base;
	return err;
}

/* ---- self-signed ---- */

#define HOST_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

static bool add_extension(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	bool added = extension && X509_add_ext(cert, extension, -1);

	X509_EXTENSION_free(extension);
	return added;
}

/* What clients can reach this machine by. Its host name can be anything: sethostname(2). */
static bool add_own_names(X509 *cert)
{
	char host[256] = "", names[512] = "DNS:localhost,IP:127.0.0.1,IP:::1";

	gethostname(host, sizeof(host) - 1);
	if (*host && !host[strspn(host, HOST_CHARACTERS)])
		snprintf(names, sizeof(names), "DNS:localhost,DNS:%s,IP:127.0.0.1,IP:::1", host);
	else
		log_error("warning",
			  "the certificate is without this machine's host name, '%s', which is no "
			  "name of a server",
			  host);
	return add_extension(cert, NID_subject_alt_name, names);
}

static bool fill_in(X509 *cert, EVP_PKEY *key)
{
	const long day = 24L * 3600, lasts = 30;
	X509_NAME *subject = X509_get_subject_name(cert);
	uint64_t serial;

	return getentropy(&serial, sizeof(serial)) == 0 && X509_set_version(cert, X509_VERSION_3) &&
	       ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1) &&
	       X509_gmtime_adj(X509_getm_notBefore(cert), -day) &&
	       X509_gmtime_adj(X509_getm_notAfter(cert), lasts * day) &&
	       X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (unsigned char *)"localhost",
					  -1, -1, 0) &&
	       X509_set_issuer_name(cert, subject) && X509_set_pubkey(cert, key) &&
	       add_own_names(cert) && X509_sign(cert, key, EVP_sha256());
}

static char *text_of(BIO *bio, size_t *size)
{
	char *data;

	*size = (size_t)BIO_get_mem_data(bio, &data);
	data = *size ? malloc(*size) : NULL;
	if (data && BIO_read(bio, data, (int)*size) != (int)*size) {
		free(data);
		data = NULL;
	}
	return data;
}

static int write_out(struct self_signed *self, X509 *cert, EVP_PKEY *key)
{
	BIO *pem = BIO_new(BIO_s_mem()), *secret = BIO_new(BIO_s_secmem());
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (pem && PEM_write_bio_X509(pem, cert))
		self->pem = text_of(pem, &self->pem_size);
	if (secret && PEM_write_bio_PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL))
		self->key = text_of(secret, &self->key_size);
	BIO_free(pem);
	BIO_free(secret);
	if (!X509_digest(cert, EVP_sha256(), digest, &n))
		return -ENOMEM;
	for (unsigned i = 0; i < n && 2 * i + 2 < sizeof(self->fingerprint); i++)
		snprintf(self->fingerprint + 2 * (size_t)i, 3, "%02x", digest[i]);
	return self->pem && self->key ? 0 : -ENOMEM;
}

int self_signed_make(struct self_signed *self)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	int err = -ENOMEM;

	*self = (struct self_signed){ 0 };
	if (key && cert && fill_in(cert, key))
		err = write_out(self, cert, key);
	X509_free(cert);
	EVP_PKEY_free(key);
	if (err)
		self_signed_free(self);
	return err;
}

void self_signed_free(struct self_signed *self)
{
	free(self->pem);
	if (self->key)
		OPENSSL_cleanse(self->key, self->key_size);
	free(self->key);
	*self = (struct self_signed){ 0 };
}
