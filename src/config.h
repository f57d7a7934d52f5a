/*
 * What is wanted of connections: an SSL_CTX for both roles, and what it can't hold.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_CONFIG_H
#define TLSFD_CONFIG_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <tlsfd.h>

#include "attach.h"

/* Which ciphers; see offer.c. */
struct offer {
	bool given;            /* by tlsfd_config_set_ciphers */
	bool tls12, tls13;     /* has ciphers of this version */
	uint64_t in_ctx;       /* the default suites that the SSL_CTX has, a bit for each */
	uint64_t taken;        /* and those that the kernel takes by its last answer */
	bool ask_again;        /* it said no to some */
	int64_t asked_at;      /* CLOCK_MONOTONIC, seconds */
};

/* One of a server; see names.c. */
struct name {
	struct name *next;
	struct tlsfd_config *config;
	char text[]; /* "www.example.org" or "*.example.org" */
};

struct tlsfd_config {
	int refs;
	/* since the first use as a client that verifies (trust.c); not beside what is read plainly:
	 * a compiler may read neighbours at once */
	bool has_system_trust;
	pthread_mutex_t lock;  /* of the first use, and of offer's questions */
	/* used: nothing below changes, but offer, error, last_chain */
	bool frozen;
	SSL_CTX *ctx;
	char *error;
	struct offer offer;
	enum tlsfd_version min, max;
	enum tlsfd_kernel kernel;
	struct refusal absent; /* TLSFD_KERNEL_IF_THERE, and it is not */
	enum tlsfd_client_auth client_auth;
	enum tlsfd_rekey rekey;
	uint64_t rekey_records; /* 0: the cipher's limit */
	bool has_certificate, has_trust;
	bool shares_trust;     /* its X509_STORE is another config's, too */
	bool no_verify_chain, no_verify_name;
	bool is_name;          /* other configs refer to it */
	bool has_realm;        /* as a name's: sessions of that server outlast it */
	const char *common;    /* a setting that was made and is not a name's; NULL: none */
	struct chain *last_chain; /* a peer's, to be shared; see chain.h */
	struct name *names;
	struct staple *staples; /* OCSP responses; see staple.c */
	unsigned server_sessions;
	struct keyring *keyring; /* NULL: OpenSSL's own ticket key */
	tlsfd_session_fn *on_session; /* a client's; NULL: not wanted */
	void *on_session_arg;
	uint8_t *alpn;         /* as on the wire, RFC 7301 section 3.1; NULL: none */
	unsigned alpn_size;
};

/* 0: may be changed; -EINVAL: there is none; -EBUSY: in use. */
int config_change(struct tlsfd_config *config);

/* For what holds for all of a server's names: likewise; -EINVAL with a sentence if
 * config is a name's. */
int config_change_common(struct tlsfd_config *config, const char *what);

/* Notes the sentence, returns err. */
int config_fail(struct tlsfd_config *config, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same, of what sys_read_file said. */
int config_fail_file(struct tlsfd_config *config, int err, const char *path);

/* What OpenSSL's error queue (emptied) comes to: -ENOMEM, else -EINVAL. */
int config_openssl_errno(void);

/* The same; ": " and what OpenSSL says last is added. */
int config_fail_openssl(struct tlsfd_config *config, const char *what);

/* Does it say whom a server trusts, if it asks for certificates? 0, or -EINVAL with
 * a sentence. */
int config_check_client_auth(struct tlsfd_config *config);
/* Which sessions OpenSSL keeps and tells of. */
void config_settle_cache(struct tlsfd_config *config);

/* What a server of this config asks of its clients' certificates, SSL_VERIFY_*. */
int config_server_verify(const struct tlsfd_config *config);

#endif
