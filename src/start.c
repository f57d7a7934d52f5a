/*
 * From a connected socket to an open connection.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "alpn.h"
#include "config.h"
#include "connection.h"
#include "deadline.h"
#include "facts.h"
#include "failure.h"
#include "handover.h"
#include "offer.h"
#include "settle.h"
#include "session.h"
#include "staple.h"
#include "sys.h"
#include "tickets.h"
#include "trust.h"

enum { BOTH = TLSFD_RX | TLSFD_TX };

/* ---- the connection ---- */

static int check_socket(struct tlsfd_config *config, int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);
	int err = sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);

	if (!err && type != SOCK_STREAM)
		err = -EPROTOTYPE;
	return err ? config_fail(config, err, "fd %d: %s", fd, strerrordesc_np(-err)) : 0;
}

/* Why a connection is not even tried to move; TLSFD_WHY_NONE: it is. */
static struct refusal stays(const struct tlsfd_config *config)
{
	if (config->kernel == TLSFD_KERNEL_NEVER)
		return (struct refusal){ TLSFD_WHY_NOT_ASKED, 0 };
	return config->absent;
}

static int attach_ssl(struct tlsfd *c)
{
	int err;

	c->ssl = SSL_new(c->config->ctx);
	if (!c->ssl || !SSL_set_app_data(c->ssl, c))
		return -ENOMEM;
	err = wire_attach(&c->wire, c->ssl);
	if (err)
		return err;
	offer_renew(c->config, c->ssl);
	/* else watch.c sets the ULP */
	c->wire.hidden = stays(c->config).why;
	if (!c->wire.hidden)
		attach_early(c->fd);
	return 0;
}

static int start(struct tlsfd **conn, struct tlsfd_config *config, int fd)
{
	struct tlsfd *c;
	int err = check_socket(config, fd);

	if (!err)
		err = settle(config);
	if (err)
		return err;
	c = connection_new();
	if (!c)
		return -ENOMEM;
	c->fd = c->wire.fd = fd;
	c->wants = POLLIN;
	c->config = tlsfd_config_ref(config);
	c->rekey.policy = (uint8_t)config->rekey;
	c->rekey.records = config->rekey_records;
	err = attach_ssl(c);
	if (err) {
		ERR_clear_error();
		tlsfd_free(c);
		return err;
	}
	*conn = c;
	return 0;
}

int tlsfd_accept(struct tlsfd **conn, struct tlsfd_config *config, int fd)
{
	int err;

	if (!conn || !config)
		return -EINVAL;
	*conn = NULL;
	if (!config->has_certificate && !config->names)
		return config_fail(config, -EINVAL, "accept: a server needs a certificate");
	err = config_check_client_auth(config);
	if (!err)
		err = start(conn, config, fd);
	if (err)
		return err;
	SSL_set_verify((*conn)->ssl, config_server_verify(config), NULL);
	SSL_set_accept_state((*conn)->ssl);
	return 0;
}

/* ---- a client's checks ---- */

/* Is it an IP address? Then address is it without its zone ("fe80::1%eth0", RFC 4007
 * section 11), which is this machine's and in no certificate. */
static bool is_address(const char *name, char address[INET6_ADDRSTRLEN])
{
	struct in6_addr in;
	size_t n = strcspn(name, "%");

	if (n >= INET6_ADDRSTRLEN)
		return false;
	memcpy(address, name, n);
	address[n] = 0;
	return (!name[n] && inet_pton(AF_INET, address, &in) == 1) ||
	       inet_pton(AF_INET6, address, &in) == 1;
}

/* Chain errors pass, a wrong name doesn't. */
static int any_chain(int ok, X509_STORE_CTX *store)
{
	int error = X509_STORE_CTX_get_error(store);

	return ok ||
	       (error != X509_V_ERR_HOSTNAME_MISMATCH && error != X509_V_ERR_IP_ADDRESS_MISMATCH);
}

static int check_name(SSL *ssl, const char *name)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	char address[INET6_ADDRSTRLEN];

	/* RFC 9525 section 2: a Common Name is no name of a server */
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
						       X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (is_address(name, address))
		return X509_VERIFY_PARAM_set1_ip_asc(param, address) == 1 ? 0 : -ENOMEM;
	return SSL_set1_host(ssl, name) == 1 ? 0 : -ENOMEM;
}

/* RFC 6066 section 3: names only, no addresses. */
static int send_name(struct tlsfd *c, const char *name)
{
	char address[INET6_ADDRSTRLEN];

	if (!name || is_address(name, address))
		return 0;
	c->server_name = strdup(name);
	return c->server_name && SSL_set_tlsext_host_name(c->ssl, name) == 1 ? 0 : -ENOMEM;
}

static int set_up_client(struct tlsfd *c, const char *name)
{
	const struct tlsfd_config *config = c->config;
	int err = send_name(c, name);

	SSL_set_connect_state(c->ssl);
	if (!err && !config->no_verify_name)
		err = check_name(c->ssl, name);
	if (!err)
		err = alpn_offer(config, c->ssl);
	if (!err)
		err = sessions_new(c, name);
	if (config->no_verify_chain && config->no_verify_name)
		SSL_set_verify(c->ssl, SSL_VERIFY_NONE, NULL);
	else
		SSL_set_verify(c->ssl, SSL_VERIFY_PEER, config->no_verify_chain ? any_chain : NULL);
	return err;
}

/* OpenSSL takes ".example.org" for any name below example.org, and "*.example.org" for
 * the name in a certificate. */
static int check_argument(struct tlsfd_config *config, const char *name)
{
	if (!name && config->no_verify_name)
		return 0;
	if (!name || !*name)
		return config_fail(config, -EINVAL,
				   "connect: the server's name is needed to verify it");
	if (*name == '.' || strchr(name, '*') || strlen(name) > TLSEXT_MAXLEN_host_name)
		return config_fail(config, -EINVAL, "connect: \"%.64s\" is no name of a server",
				   name);
	return 0;
}

/* RFC 6066 section 3, RFC 9525 section 6.3: the dot that ends a DNS name is neither sent nor in a
 * certificate. */
static const char *without_dot(const char *name, char copy[TLSEXT_MAXLEN_host_name + 1])
{
	size_t n = name ? strlen(name) : 0;

	if (!n || name[n - 1] != '.')
		return name;
	memcpy(copy, name, n - 1);
	copy[n - 1] = 0;
	return copy;
}

int tlsfd_connect(struct tlsfd **conn, struct tlsfd_config *config, int fd, const char *name)
{
	char copy[TLSEXT_MAXLEN_host_name + 1];
	int err;

	if (!conn || !config)
		return -EINVAL;
	*conn = NULL;
	err = check_argument(config, name);
	if (!err)
		err = start(conn, config, fd);
	if (err)
		return err;
	err = trust_system(config);
	if (!err)
		err = set_up_client(*conn, without_dot(name, copy));
	if (err) {
		tlsfd_free(*conn);
		*conn = NULL;
	}
	return err;
}

/* ---- the handshake ---- */

static int fail_both(struct tlsfd *c, int err)
{
	gate_shut(&c->gate);
	connection_fail(c, RX, err, c->error);
	return connection_fail(c, TX, err, c->error);
}

/* Where the kernel can't, OpenSSL goes on: c takes over its SSL. It does for good, also
 * if handover says -EAGAIN: through our BIO, and without read-ahead, OpenSSL has read
 * more than the handshake only if Finished shared its record with another message (TLS
 * 1.2 allows it), and a part of one can't be seen in it. */
static int move(struct tlsfd *c)
{
	struct plan plan = {
		.ssl = c->ssl, .want = BOTH, .fd = c->fd, .rekey = &c->rekey, .facts = c->facts
	};
	struct refusal no = stays(c->config);
	int err = 0, no_memory = tickets_new(&plan.tickets, c->ssl);

	if (no_memory)
		return failf(c, RX, no_memory, "memory is short");
	if (no.why)
		plan.no[RX] = plan.no[TX] = no;
	else
		err = handover(&plan);
	c->ssl = NULL;
	no_memory = connection_start(c, &plan);
	SSL_free(plan.ssl);
	if (no_memory)
		return failf(c, RX, no_memory, "memory is short");
	if (err && c->config->kernel == TLSFD_KERNEL_REQUIRE)
		return failf(c, RX, err == -EAGAIN ? -EOPNOTSUPP : err, "%s",
			     tlsfd_report_sentence(&c->report));
	return 0;
}

/* What was for the handshake only goes. */
static void forget_handshake(struct tlsfd *c)
{
	tlsfd_config_free(c->config);
	c->config = NULL;
	c->for_name = NULL;
	free(c->server_name);
	c->server_name = NULL;
	sessions_settle(c);
}

static int finish(struct tlsfd *c)
{
	int err = facts_take(&c->facts, c->ssl, c->server_name ? c->server_name : "",
			     sessions_chain(c), &c->config->last_chain);

	if (err)
		return failf(c, RX, err, "memory is short");
	staple_drop(c->ssl);
	err = move(c);
	forget_handshake(c);
	return err;
}

static int step(struct tlsfd *c)
{
	int ret;

	ERR_clear_error();
	errno = 0;
	ret = SSL_do_handshake(c->ssl);
	c->wants = SSL_want_write(c->ssl) ? POLLOUT : POLLIN;
	return ret == 1 ? finish(c) : failure_of(c, RX, ret);
}

int tlsfd_handshake(struct tlsfd *c)
{
	int err;

	if (c->err[RX])
		return c->err[RX];
	if (c->open)
		return 0;
	err = step(c);
	ERR_clear_error();
	if (err == -EPROTO && c->ssl)
		failure_answer(c);
	if (!err)
		sessions_tell(c);
	return err && err != -EAGAIN ? fail_both(c, err) : err;
}

int tlsfd_handshake_within(struct tlsfd *c, int timeout_ms)
{
	struct deadline deadline = deadline_in(timeout_ms);
	int err;

	/* a blocking fd keeps the deadline too */
	c->wire.nowait = true;
	while ((err = tlsfd_handshake(c)) == -EAGAIN) {
		err = deadline_wait(&deadline, c->fd, tlsfd_wants(c, TLSFD_RX));
		if (err)
			break;
	}
	c->wire.nowait = false;
	if (err == -ETIMEDOUT && !c->open)
		failf(c, RX, err, "the handshake was not done in time");
	return err && !c->open ? fail_both(c, err) : err;
}
