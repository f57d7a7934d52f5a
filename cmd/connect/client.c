/* SPDX-License-Identifier: MIT */
#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dial.h"
#include "sys.h"

struct client {
	const struct destination *to;
	enum stage stage;
	struct dial *dial;
	struct starttls *starttls;
	struct tlsfd *tls;
	int fd;
	struct session offered; /* data NULL: none */
	char *error;
};

static int fail(struct client *c, int err, const char *sentence)
{
	if (!c->error && sentence)
		c->error = strdup(sentence);
	return err;
}

/* ---- stages ---- */

/* Whatever is wrong with the session, the handshake is a full one then. */
static void offer_session(struct client *c)
{
	if (c->to->sessions && pool_take(c->to->sessions, &c->offered))
		(void)!tlsfd_set_session(c->tls, c->offered.data, c->offered.size);
}

/* A session of TLS 1.2 is good for more. */
static void settle_session(struct client *c)
{
	if (c->offered.data && tlsfd_resumed(c->tls) && tlsfd_version(c->tls) == TLSFD_TLS_1_2)
		pool_put(c->to->sessions, &c->offered);
	session_clear(&c->offered);
}

static int start_tls(struct client *c)
{
	int err = tlsfd_connect(&c->tls, c->to->config, c->fd, c->to->name);

	c->stage = STAGE_HANDSHAKE;
	if (err)
		return fail(c, err, tlsfd_config_error(c->to->config));
	offer_session(c);
	return 0;
}

static int after_dial(struct client *c)
{
	int err;

	if (!c->to->starttls)
		return start_tls(c);
	c->stage = STAGE_STARTTLS;
	err = starttls_start(&c->starttls, c->to->starttls, c->fd, c->to->name);
	return err == -EINVAL ? fail(c, err, "the server's name has characters that no name has") :
				err;
}

static int dial_on(struct client *c)
{
	int fd = dial_step(c->dial);

	if (fd < 0)
		return fd;
	c->fd = fd;
	dial_free(c->dial);
	c->dial = NULL;
	return after_dial(c);
}

static int starttls_on(struct client *c)
{
	int err = starttls_step(c->starttls);

	if (err)
		return err == -EAGAIN ? err : fail(c, err, starttls_error(c->starttls));
	starttls_free(c->starttls);
	c->starttls = NULL;
	return start_tls(c);
}

static int handshake_on(struct client *c)
{
	int err = tlsfd_handshake(c->tls);

	if (!err)
		settle_session(c);
	return err && err != -EAGAIN ? fail(c, err, tlsfd_error(c->tls)) : err;
}

int client_step(struct client *c)
{
	int err = 0;

	if (c->stage == STAGE_DIAL)
		err = dial_on(c);
	if (!err && c->stage == STAGE_STARTTLS)
		err = starttls_on(c);
	if (!err)
		err = handshake_on(c);
	return err;
}

/* ---- waiting ---- */

int client_fd(const struct client *c)
{
	return c->dial ? dial_fd(c->dial) : c->fd;
}

short client_wants(const struct client *c)
{
	if (c->stage == STAGE_HANDSHAKE)
		return tlsfd_wants(c->tls, TLSFD_RX);
	return c->stage == STAGE_STARTTLS ? starttls_wants(c->starttls) : POLLIN;
}

int client_wait(const struct client *c)
{
	return c->dial ? dial_wait(c->dial) : -1;
}

static int wait_for(const struct client *c, const struct deadline *deadline)
{
	int left = deadline_left(deadline), next = client_wait(c);
	int n = sys_poll(client_fd(c), client_wants(c),
			 next >= 0 && (left < 0 || next < left) ? next : left);

	if (n < 0 && n != -EINTR)
		return n;
	return deadline_left(deadline) ? 0 : -ETIMEDOUT;
}

int client_finish(struct client *c, const struct deadline *deadline)
{
	int err;

	while ((err = client_step(c)) == -EAGAIN) {
		err = wait_for(c, deadline);
		if (err)
			break;
	}
	return err;
}

/* ---- facts and ends ---- */

enum stage client_stage(const struct client *c)
{
	return c->stage;
}

const char *client_error(const struct client *c)
{
	return c->error;
}

const struct tlsfd *client_tls(const struct client *c)
{
	return c->tls;
}

int client_start(struct client **client, const struct destination *to)
{
	struct client *c = calloc(1, sizeof(*c));
	int err;

	*client = c;
	if (!c)
		return -ENOMEM;
	c->to = to;
	c->fd = -1;
	err = dial_start(&c->dial, to->target);
	if (err) {
		client_free(c);
		*client = NULL;
	}
	return err;
}

struct tlsfd *client_take(struct client *c)
{
	struct tlsfd *tls = c->tls;

	c->tls = NULL;
	c->fd = -1;
	return tls;
}

void client_free(struct client *c)
{
	if (!c)
		return;
	dial_free(c->dial);
	starttls_free(c->starttls);
	tlsfd_free(c->tls);
	if (c->fd >= 0)
		close(c->fd);
	session_clear(&c->offered);
	free(c->error);
	free(c);
}
