/*
 * What is wanted of connections. Included by <tlsfd.h>.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_PUBLIC_CONFIG_H
#define TLSFD_PUBLIC_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <tlsfd/report.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what is wanted: tlsfd_config(3) --------------------------------------
 * One config serves any number of connections and threads once the first
 * tlsfd_accept or tlsfd_connect has used it; setters after that say -EBUSY, or
 * do nothing if they return nothing. A setter that fails leaves the config as it
 * was; tlsfd_config_error has the sentence of the last failure. *_mem takes PEM
 * text (set_ocsp_mem: DER); the bytes are copied. Keys are not encrypted.
 */
struct tlsfd_config;
struct tlsfd;

TLSFD_CHECKED int tlsfd_config_new(struct tlsfd_config **config);
TLSFD_API struct tlsfd_config *tlsfd_config_ref(struct tlsfd_config *config);
TLSFD_API void tlsfd_config_free(struct tlsfd_config *config); /* drops one reference */
TLSFD_API const char *tlsfd_config_error(const struct tlsfd_config *config); /* NULL: none */

/* Certificate with its chain, leaf first, and its key; a mismatch is -EINVAL. */
TLSFD_CHECKED int tlsfd_config_set_certificate_file(struct tlsfd_config *, const char *chain,
						    const char *key);
TLSFD_CHECKED int tlsfd_config_set_certificate_mem(struct tlsfd_config *, const void *chain,
						   size_t chain_size, const void *key,
						   size_t key_size);
/* For servers: the OCSP response, in DER, that says that a certificate set before is good;
 * sent to clients that ask until it expires. -EKEYEXPIRED: it has; -EKEYREVOKED; -ENODATA:
 * it is for another certificate. */
TLSFD_CHECKED int tlsfd_config_set_ocsp_file(struct tlsfd_config *, const char *path);
TLSFD_CHECKED int tlsfd_config_set_ocsp_mem(struct tlsfd_config *, const void *der, size_t size);

/* Whom to trust; a client without: the system's store. */
TLSFD_CHECKED int tlsfd_config_set_ca_file(struct tlsfd_config *, const char *path);
TLSFD_CHECKED int tlsfd_config_set_ca_mem(struct tlsfd_config *, const void *pem, size_t size);
/* Revocation lists; with one, every certificate of a chain must be covered. */
TLSFD_CHECKED int tlsfd_config_set_crl_file(struct tlsfd_config *, const char *path);
TLSFD_CHECKED int tlsfd_config_set_crl_mem(struct tlsfd_config *, const void *pem, size_t size);
/* The authorities and lists of another, which must have some, instead of one's own, and one
 * copy in memory for both; neither takes more from then on: -EBUSY. */
TLSFD_CHECKED int tlsfd_config_share_trust(struct tlsfd_config *, struct tlsfd_config *with);
/* How many intermediate authorities a peer's chain may have; default: 100. */
TLSFD_CHECKED int tlsfd_config_set_verify_depth(struct tlsfd_config *, unsigned depth);

enum tlsfd_version { TLSFD_TLS_1_2 = 0x0303, TLSFD_TLS_1_3 = 0x0304 };

/* Default: TLS 1.2 to 1.3. */
TLSFD_CHECKED int tlsfd_config_set_versions(struct tlsfd_config *, enum tlsfd_version min,
					    enum tlsfd_version max);
/* Names of OpenSSL or IANA, separated by colons; both versions' in one list, in a server's order
 * of preference. Default: of Mozilla's "intermediate" what this kernel takes both ways, all of a
 * version's where it takes none of them; clients choose. */
TLSFD_CHECKED int tlsfd_config_set_ciphers(struct tlsfd_config *, const char *list);
/* Default: X25519MLKEM768 (from OpenSSL 3.5 on), X25519, P-256, P-384. */
TLSFD_CHECKED int tlsfd_config_set_groups(struct tlsfd_config *, const char *list);
/* In order of preference, separated by commas: "h2,http/1.1". A server without a common
 * one refuses (no_application_protocol). */
TLSFD_CHECKED int tlsfd_config_set_alpn(struct tlsfd_config *, const char *protocols);

enum tlsfd_client_auth { TLSFD_CLIENT_AUTH_NONE, TLSFD_CLIENT_AUTH_OPTIONAL, TLSFD_CLIENT_AUTH_REQUIRED };

/* What a server asks of clients; default: nothing. Needs authorities of its own. */
TLSFD_CHECKED int tlsfd_config_set_client_auth(struct tlsfd_config *, enum tlsfd_client_auth);
/* Certificate by server name: connections whose SNI matches name ("*.example.org" too)
 * use that config's certificate, OCSP response, trust (with CRLs, depth), client
 * authentication and ALPN; -EINVAL if anything else was set on it. Keeps a reference. */
TLSFD_CHECKED int tlsfd_config_add_name(struct tlsfd_config *, const char *name,
					struct tlsfd_config *for_name);
/* Session tickets that a TLS 1.3 server sends (default 2; 0: none), and sessions that
 * it keeps for TLS 1.2 (default 0). */
TLSFD_CHECKED int tlsfd_config_set_tickets(struct tlsfd_config *, unsigned count);
TLSFD_CHECKED int tlsfd_config_set_session_cache(struct tlsfd_config *, unsigned sessions);

enum { TLSFD_TICKET_KEY = 80, TLSFD_TICKET_KEYS = 8 };

/* count keys of TLSFD_TICKET_KEY random bytes each, one behind the other, instead of one that
 * nobody else has: the first seals tickets, all of them open. With the same keys any config,
 * of any process, resumes the sessions of another that asks the same of clients, trusts the
 * same, and has a certificate for the same names. The first time before the config is used;
 * then at any time, by any thread. */
TLSFD_CHECKED int tlsfd_config_set_ticket_keys(struct tlsfd_config *, const void *keys,
					       unsigned count);

/* A client's sessions, for tlsfd_set_session later on: fn is called by tlsfd_handshake and
 * by what reads, with bytes that are valid in the call. They hold a secret, and who can
 * change them can pose as the server: keep them like a private key. fn must not read from c
 * or free it. NULL (default): none are wanted, nothing is kept. tlsfd_session(3). */
typedef void tlsfd_session_fn(void *arg, struct tlsfd *c, const void *session, size_t size);
TLSFD_CHECKED int tlsfd_config_on_session(struct tlsfd_config *, tlsfd_session_fn *fn, void *arg);

enum tlsfd_kernel {
	TLSFD_KERNEL_PREFER,
	TLSFD_KERNEL_REQUIRE,
	TLSFD_KERNEL_NEVER,
	TLSFD_KERNEL_IF_THERE,
};

/* PREFER (default): user space where the kernel can't. REQUIRE: tlsfd_handshake fails then.
 * IF_THERE: as PREFER, but a kernel without TLS at the first use is not asked again, and
 * handshakes don't pay for what they don't need then. */
TLSFD_CHECKED int tlsfd_config_set_kernel(struct tlsfd_config *, enum tlsfd_kernel);

enum tlsfd_rekey { TLSFD_REKEY, TLSFD_REKEY_CLOSE, TLSFD_REKEY_CONTINUE };

/* KeyUpdate, and what happens after so many records under one key (0: the cipher's own
 * limit): new keys (default), no more data, or nothing. tlsfd_rekey(3). */
TLSFD_CHECKED int tlsfd_config_set_rekey(struct tlsfd_config *, enum tlsfd_rekey policy,
					 uint64_t records);

/* A client takes any chain; any name. Who can be in between reads everything. */
TLSFD_API void tlsfd_config_insecure_no_verify_chain(struct tlsfd_config *);
TLSFD_API void tlsfd_config_insecure_no_verify_name(struct tlsfd_config *);

#ifdef __cplusplus
}
#endif
#endif
