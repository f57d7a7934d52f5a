/*
 * What `tlsfd serve` was told to do, by its command line and config file.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_SERVICE_H
#define TLSFD_SERVICE_H

#include <tlsfd.h>

#include "settings.h"

struct service {
	struct texts listen, forward;
	struct texts cert, key; /* pairs */
	struct texts ocsp;
	char *cert_dir, *client_ca, *crl, *alpn, *ciphers, *groups, *user, *group, *config;
	char *metrics;
	bool refuse_unknown; /* clients that ask for a name that no certificate has, or for none */
	bool self_signed, require_kernel, check_config, self_check;
	enum tlsfd_client_auth client_auth;
	enum tlsfd_version min_version, max_version;
	unsigned verify_depth;
	unsigned workers;			  /* 0: one per CPU */
	unsigned max_connections, max_handshakes; /* 0: as many as there are file descriptors */
	unsigned handshake_ms, idle_ms, grace_ms, ticket_renewal_ms;
};

extern const struct setting service_settings[];

/* Fills in *service, whose earlier content is forgotten. 0, or a negative errno with the
 * sentence in settings->error, and then there is nothing to free. */
int service_read(struct service *service, struct settings *settings, int argc, char **argv);
/* Is there anything new that a reload can't change? */
bool service_wants_restart(const struct service *old, const struct service *new);
void service_free(struct service *service);

#endif
