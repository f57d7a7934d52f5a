/*
 * Who we are and whom we trust: the certificates of a service, as a config of the library.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_IDENTITIES_H
#define TLSFD_IDENTITIES_H

#include <stdbool.h>
#include <stddef.h>
#include <tlsfd.h>

#include "ratchet.h"
#include "service.h"

/* A certificate that nobody signed, with its key, in memory: it stays over reloads. */
struct self_signed {
	char *pem, *key;
	size_t pem_size, key_size;
	char fingerprint[65]; /* SHA-256, hex */
	bool told;
};

/* 0 or -ENOMEM. */
int self_signed_make(struct self_signed *self);
void self_signed_free(struct self_signed *self);

/*
 * The config for a service: the first certificate is for all names that no other has.
 * self: NULL, or the certificate to use; ratchet: the keys of session tickets. Expired
 * certificates, and those that no client gets, are said on stderr. 0, or a negative errno with a
 * sentence in error.
 */
int identities_load(struct tlsfd_config **config, const struct service *service,
		    const struct self_signed *self, const struct ratchet *ratchet, char *error,
		    size_t size);

#endif
