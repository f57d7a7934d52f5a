/* SPDX-License-Identifier: MIT */
#include "connection.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "facts.h"
#include "forget.h"
#include "owed.h"
#include "session.h"
#include "tickets.h"
#include "userspace.h"

struct tlsfd *connection_new(void)
{
	struct tlsfd *c = calloc(1, sizeof(*c));

	if (c) {
		c->fd = -1;
		c->reader_pays = OWED_ALL;
		gate_init(&c->gate);
	}
	return c;
}

int connection_start(struct tlsfd *c, const struct plan *plan)
{
	if (plan->fd >= 0)
		c->fd = plan->fd;
	for (enum way way = RX; way < WAYS; way++)
		c->kernel[way] = plan->mover[way] != TLSFD_MOVER_NONE;
	c->control.client = !SSL_is_server(plan->ssl);
	c->control.tls13 = SSL_version(plan->ssl) == TLS1_3_VERSION;
	rekey_start(c, plan);
	c->control.tickets = tickets_start(plan->tickets, c);
	report_write(&c->report, plan);
	c->wants = 0;
	c->open = true;
	return c->kernel[RX] && c->kernel[TX] ? 0 : userspace_take(c, plan->ssl);
}

/* ---- errors ---- */

int connection_fail(struct tlsfd *c, enum way way, int err, const char *sentence)
{
	const char *none = NULL;
	int fine = 0;

	if (sentence)
		atomic_compare_exchange_strong(&c->error, &none, sentence);
	atomic_compare_exchange_strong(&c->err[way], &fine, err);
	return fine ? fine : err;
}

int connection_fail_tcp(struct tlsfd *c, enum way way, int err)
{
	const char *text = strerrordesc_np(-err);

	if (err == -ECONNRESET)
		text = "the peer reset the connection";
	if (err == -EPIPE)
		text = "the connection is closed for writing";
	return connection_fail(c, way, err, text ? text : "the socket failed");
}

void connection_note_alert(struct tlsfd *c, uint8_t number)
{
	int none = 0;

	atomic_compare_exchange_strong(&c->alert, &none, 1 + number);
}

int tlsfd_alert(const struct tlsfd *c)
{
	return atomic_load(&c->alert) - 1;
}

const char *tlsfd_error(const struct tlsfd *c)
{
	return atomic_load(&c->error);
}

/* ---- facts ---- */

int tlsfd_fd(const struct tlsfd *c)
{
	return c->fd;
}

bool tlsfd_kernel(const struct tlsfd *c, enum tlsfd_direction dir)
{
	return c->kernel[way_of(dir)];
}

short tlsfd_wants(const struct tlsfd *c, enum tlsfd_direction dir)
{
	enum way way = way_of(dir);
	short owes;

	if (c->wants)
		return c->wants;
	if (way == TX)
		return c->kernel[TX] || !c->user ? POLLOUT : userspace_wants(c, TX);
	owes = gate_is_owing(&c->gate) ? POLLOUT : 0;
	if (!c->kernel[RX] && c->user)
		return userspace_wants(c, RX) | owes;
	return POLLIN | owes;
}

/* ---- ends ---- */

void tlsfd_free(struct tlsfd *c)
{
	if (!c)
		return;
	tickets_free(c->control.tickets);
	sessions_free(c->sessions);
	userspace_free(c);
	if (c->ssl && SSL_get_app_data(c->ssl) == c) /* nobody else's */
		forget_secrets(c->ssl);
	SSL_free(c->ssl);
	tlsfd_config_free(c->config);
	facts_free(c->facts);
	report_clear(&c->report);
	free(c->server_name);
	free(c->text);
	gate_free(&c->gate);
	rekey_forget(&c->rekey);
	free(c);
}
