/* SPDX-License-Identifier: MIT */
#include "met.h"

#include <errno.h>

#include "sys.h"

static void keep(struct tlsfd *c, ssize_t err)
{
	int none = 0;

	atomic_compare_exchange_strong(&c->met, &none, (int)err);
}

/* Nothing will be read behind what is there; but poll(2) doesn't tell any more, and
 * recv(2) would wait. */
static void keep_header(struct tlsfd *c, ssize_t err)
{
	keep(c, err);
	sys_clear_error(c->fd);
	sys_shutdown(c->fd, SHUT_RD);
}

bool met_sending(struct tlsfd *c, ssize_t sent)
{
	if (sent == -ECONNRESET)
		keep(c, -ECONNRESET);
	if (!c->kernel[RX] || (sent != -EBADMSG && sent != -EMSGSIZE && sent != -EINVAL))
		return false;
	keep_header(c, sent);
	return true;
}

void met_bare(struct tlsfd *c, ssize_t said)
{
	switch (said) {
	case -EBADMSG:
	case -EMSGSIZE:
		keep_header(c, said);
		break;
	case -ECONNRESET:
	case -EPIPE:
	case -ETIMEDOUT:
	case -EHOSTUNREACH:
	case -ENETUNREACH:
	case -EHOSTDOWN:
	case -ENETDOWN:
	case -EPROTO:
		keep(c, said);
	}
}

int met(const struct tlsfd *c)
{
	return atomic_load(&c->met);
}
