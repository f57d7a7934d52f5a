/*
 * Where a server's session is good: among configs, of several processes perhaps, that ask
 * the same of their clients, trust the same, and are the same server.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_REALM_H
#define TLSFD_REALM_H

struct tlsfd_config;

/* OpenSSL's session id context of config, in place of the random one that it has. 0, or
 * -ENOMEM with a sentence. */
int realm_settle(struct tlsfd_config *config);

#endif
