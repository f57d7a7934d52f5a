/* SPDX-License-Identifier: MIT */
#include "names.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "connection.h"
#include "failure.h"
#include "offer.h"

enum { NAME_MAX_SIZE = 255 };

/* ---- the table ---- */

/* Labels of letters, digits, '-' and '_' with dots between; the first may be "*". */
static bool is_name(const char *text)
{
	size_t label = 0;

	if (text[0] == '*' && text[1] == '.')
		text += 2;
	if (strlen(text) > NAME_MAX_SIZE)
		return false;
	for (; *text; text++) {
		if (*text == '.' ? !label : !isalnum((unsigned char)*text) && !strchr("-_", *text))
			return false;
		label = *text == '.' ? 0 : label + 1;
	}
	return label;
}

/* One level is enough, and makes circles of references impossible. */
static int check(struct tlsfd_config *config, const char *name, struct tlsfd_config *for_name)
{
	if (!name || !for_name || !is_name(name))
		return config_fail(config, -EINVAL, "name: \"%.64s\" is no name of a server",
				   name ? name : "");
	if (for_name == config || for_name->names || config->is_name)
		return config_fail(config, -EINVAL, "name: a config for a name has no names");
	if (!for_name->has_certificate)
		return config_fail(config, -EINVAL,
				   "name: the config for \"%s\" has no certificate", name);
	if (for_name->common)
		return config_fail(config, -EINVAL,
				   "name: the config for \"%s\" can't have its own %s", name,
				   for_name->common);
	if (config_check_client_auth(for_name) < 0)
		return config_fail(config, -EINVAL, "name: the config for \"%s\": %s", name,
				   tlsfd_config_error(for_name));
	for (const struct name *n = config->names; n; n = n->next)
		if (strcasecmp(n->text, name) == 0)
			return config_fail(config, -EEXIST, "name: \"%s\" is there already", name);
	return 0;
}

int tlsfd_config_add_name(struct tlsfd_config *config, const char *name,
			  struct tlsfd_config *for_name)
{
	int err = config_change(config);
	struct name *n;

	if (!err)
		err = check(config, name, for_name);
	if (err)
		return err;
	n = calloc(1, sizeof(*n) + strlen(name) + 1);
	if (!n)
		return -ENOMEM;
	memcpy(n->text, name, strlen(name));
	n->config = tlsfd_config_ref(for_name);
	for_name->is_name = true;
	n->next = config->names;
	config->names = n;
	return 0;
}

static const struct name *find(const struct name *names, const char *text)
{
	for (; names; names = names->next)
		if (strcasecmp(names->text, text) == 0)
			return names;
	return NULL;
}

/* The name itself, else its parent's wildcard: "*" stands for one label. */
static const struct tlsfd_config *look_up(const struct name *names, const char *text)
{
	const struct name *n = find(names, text);
	const char *dot = strchr(text, '.');
	char wildcard[NAME_MAX_SIZE + 2] = "*";

	if (!n && dot && dot != text && strlen(dot) <= NAME_MAX_SIZE) {
		memcpy(wildcard + 1, dot, strlen(dot) + 1);
		n = find(names, wildcard);
	}
	return n ? n->config : NULL;
}

/* ---- the ClientHello ---- */

static size_t number16(const unsigned char *p)
{
	return (size_t)p[0] << 8 | p[1];
}

/* The host name in a ClientHello as a string: its size, 0: none, or none to use. */
static size_t host_name(SSL *ssl, char name[NAME_MAX_SIZE + 1])
{
	const unsigned char *ext;
	size_t size, n;

	/* a list of one: its length, type 0, the name's length, the name */
	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &ext, &size) || size < 5 ||
	    number16(ext) + 2 != size || ext[2] != TLSEXT_NAMETYPE_host_name)
		return 0;
	n = number16(ext + 3);
	if (n + 5 != size || n > NAME_MAX_SIZE || memchr(ext + 5, 0, n))
		return 0;
	memcpy(name, ext + 5, n);
	name[n] = 0;
	return is_name(name) && name[0] != '*' ? n : 0;
}

static int refuse(struct tlsfd *c, int *alert, int number, const char *why)
{
	failf(c, RX, -EPROTO, "%s", why);
	*alert = number;
	return SSL_CLIENT_HELLO_ERROR;
}

/* After HelloRetryRequest the name is the same (RFC 8446 section 4.1.2), or one name's
 * config would serve another's client. */
static int check_second_hello(struct tlsfd *c, const char *name, int *alert)
{
	if (strcmp(name, c->server_name ? c->server_name : "") == 0)
		return SSL_CLIENT_HELLO_SUCCESS;
	return refuse(c, alert, SSL_AD_ILLEGAL_PARAMETER,
		      "the second ClientHello asks for another name");
}

static int go_by_name(SSL *ssl, const struct tlsfd_config *for_name, int *alert)
{
	if (!offer_keep(ssl) || !SSL_set_SSL_CTX(ssl, for_name->ctx)) {
		*alert = SSL_AD_INTERNAL_ERROR;
		return SSL_CLIENT_HELLO_ERROR;
	}
	SSL_set_verify(ssl, config_server_verify(for_name), NULL);
	SSL_set_verify_depth(ssl, SSL_CTX_get_verify_depth(for_name->ctx));
	return SSL_CLIENT_HELLO_SUCCESS;
}

/* Without a certificate for all others. RFC 8446 section 9.2 has missing_extension for clients
 * that ask for no name; of that OpenSSL makes handshake_failure as long as there is no version. */
static int refuse_others(struct tlsfd *c, int *alert, bool named)
{
	return refuse(c, alert, SSL_AD_UNRECOGNIZED_NAME,
		      named ? "no certificate is for the name that the client asks for" :
			      "the client asks for no name");
}

/*
 * Here and not in the servername callback: that comes after resumption was decided,
 * and a session made under one name's client authentication would do for another
 * name's. SSL_set_SSL_CTX brings the other context's session id context.
 */
static int on_client_hello(SSL *ssl, int *alert, void *arg)
{
	struct tlsfd *c = SSL_get_app_data(ssl);
	char name[NAME_MAX_SIZE + 1] = "";
	const struct tlsfd_config *for_name;

	(void)arg;
	if (!c || !c->config)
		return SSL_CLIENT_HELLO_SUCCESS;
	host_name(ssl, name);
	if (c->greeted)
		return check_second_hello(c, name, alert);
	c->greeted = true;
	for_name = *name ? look_up(c->config->names, name) : NULL;
	c->server_name = *name ? strdup(name) : NULL;
	c->for_name = for_name;
	if (for_name)
		return go_by_name(ssl, for_name, alert);
	return c->config->has_certificate ? SSL_CLIENT_HELLO_SUCCESS :
					    refuse_others(c, alert, *name);
}

/* RFC 6066 section 3: a server that went by the name says so. OpenSSL asks with or without a
 * name, in either role, when the version has just been agreed on. */
static int on_server_name(SSL *ssl, int *alert, void *arg)
{
	struct tlsfd *c = SSL_get_app_data(ssl);

	(void)alert, (void)arg;
	if (c)
		c->version = (uint16_t)SSL_version(ssl);
	return SSL_TLSEXT_ERR_OK;
}

void names_serve(SSL_CTX *ctx)
{
	SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL);
	SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
}
