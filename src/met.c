/* SPDX-License-Identifier: MIT */
#include "met.h"

#include <errno.h>

#include "sys.h"

static void keep(struct tlsfd *c, int err)
{
	int none = 0;

	atomic_compare_exchange_strong(&c->met, &none, err);
}

bool met_sending(struct tlsfd *c, ssize_t sent)
{
	if (sent == -ECONNRESET)
		keep(c, -ECONNRESET);
	if (!c->kernel[RX] || (sent != -EBADMSG && sent != -EMSGSIZE && sent != -EINVAL))
		return false;
	keep(c, (int)sent);
	sys_clear_error(c->fd);
	/* poll(2) has nothing to tell any more but this */
	sys_shutdown(c->fd, SHUT_RD);
	return true;
}

void met_bare(struct tlsfd *c, ssize_t said)
{
	switch (said) {
	case -EBADMSG:
	case -EMSGSIZE:
	case -ECONNRESET:
	case -EPIPE:
	case -ETIMEDOUT:
	case -EHOSTUNREACH:
	case -ENETUNREACH:
	case -EHOSTDOWN:
	case -ENETDOWN:
	case -EPROTO:
		keep(c, (int)said);
	}
}

int met(const struct tlsfd *c)
{
	return atomic_load(&c->met);
}
