/* SPDX-License-Identifier: MIT */
#include "alpn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"

enum { PROTOCOL_MAX = 255, LIST_MAX = 65535 };

/* "h2,http/1.1" to length and name of each; the sizes are the same but for one byte.
 * False: an empty or overlong name. */
static bool encode(const char *protocols, uint8_t *out)
{
	for (const char *at = protocols;; at++) {
		size_t n = strcspn(at, ",");

		if (n == 0 || n > PROTOCOL_MAX)
			return false;
		*out++ = (uint8_t)n;
		memcpy(out, at, n);
		out += n;
		at += n;
		if (!*at)
			return true;
	}
}

int tlsfd_config_set_alpn(struct tlsfd_config *config, const char *protocols)
{
	int err = config_change(config);
	size_t size;
	uint8_t *wire;

	if (err)
		return err;
	size = protocols ? strlen(protocols) + 1 : 0;
	if (size < 2 || size > LIST_MAX)
		return config_fail(config, -EINVAL, "alpn: the list is empty or too long");
	wire = malloc(size);
	if (!wire)
		return -ENOMEM;
	if (!encode(protocols, wire)) {
		free(wire);
		return config_fail(config, -EINVAL,
				   "alpn: a name in \"%.64s\" is not of 1 to 255 bytes", protocols);
	}
	free(config->alpn);
	config->alpn = wire;
	config->alpn_size = (unsigned)size;
	return 0;
}

int alpn_offer(const struct tlsfd_config *config, SSL *ssl)
{
	if (!config->alpn)
		return 0;
	return SSL_set_alpn_protos(ssl, config->alpn, config->alpn_size) == 0 ? 0 : -ENOMEM;
}

/* Our order counts. */
static int choose(SSL *ssl, const unsigned char **out, unsigned char *out_size,
		  const unsigned char *theirs, unsigned theirs_size, void *arg)
{
	const struct tlsfd *c = SSL_get_app_data(ssl);
	const struct tlsfd_config *config = c ? c->config : NULL;

	(void)arg;
	if (config && c->for_name && c->for_name->alpn)
		config = c->for_name;
	if (!config || !config->alpn)
		return SSL_TLSEXT_ERR_NOACK;
	if (SSL_select_next_proto((unsigned char **)out, out_size, config->alpn,
				  config->alpn_size, theirs, theirs_size) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	return SSL_TLSEXT_ERR_OK;
}

void alpn_serve(SSL_CTX *ctx)
{
	SSL_CTX_set_alpn_select_cb(ctx, choose, NULL);
}
