/*
 * Handing over: validate, derive, attach, forget; and the two calls of
 * <tlsfd/openssl.h>.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <tlsfd/openssl.h>

#include "connection.h"
#include "facts.h"
#include "forget.h"
#include "handover.h"
#include "keys.h"
#include "rekey.h"
#include "report.h"
#include "tickets.h"
#include "why.h"

enum { BOTH = TLSFD_RX | TLSFD_TX };

static bool derive(struct plan *p)
{
	for (enum way way = RX; way < WAYS; way++) {
		if (!wanted(p, way))
			continue;
		if (keys_derive(p->ssl, p->watch, way, p->cipher, &p->info[way]) < 0) {
			p->no[way] = (struct refusal){ TLSFD_WHY_OPENSSL, 0 };
			return false;
		}
	}
	return true;
}

/* Changes nothing yet, and where it is refused the keys are not needed. */
static bool attach_layer(struct plan *p)
{
	struct refusal no;

	if (attach_ulp(p->fd, &no))
		return true;
	p->no[RX] = p->no[TX] = no;
	return false;
}

/* RX first: if it is refused nothing has changed. A direction once set can't be
 * taken back. */
static bool attach(struct plan *p)
{
	struct refusal no;

	for (enum way way = RX; way < WAYS; way++) {
		if (!wanted(p, way))
			continue;
		if (!attach_keys(p->fd, way, &p->info[way], &no)) {
			p->no[way] = no;
			return false;
		}
		p->mover[way] = TLSFD_MOVER_TLSFD;
	}
	return true;
}

static bool complete(const struct plan *p)
{
	return p->mover[RX] && p->mover[TX];
}

static bool half_moved(const struct plan *p)
{
	return !complete(p) &&
	       (p->mover[RX] == TLSFD_MOVER_TLSFD || p->mover[TX] == TLSFD_MOVER_TLSFD);
}

/* A second call after success: nothing is left to do. The socket is asked, as the fd
 * may be another one by now. */
static bool moved_before(struct plan *p)
{
	const struct watch *w = p->watch;
	int fd = SSL_get_fd(p->ssl);

	if (!w || !w->way[RX].closed || !w->way[TX].closed || attach_has_keys(fd, RX) != 1 ||
	    attach_has_keys(fd, TX) != 1)
		return false;
	for (enum way way = RX; way < WAYS; way++)
		p->mover[way] = w->way[way].moved ? TLSFD_MOVER_TLSFD : TLSFD_MOVER_OPENSSL;
	p->fd = fd;
	return true;
}

/* So that the BIOs can be closed to OpenSSL after the one-way door. */
static bool ensure_watch(struct plan *p)
{
	int err = watch_ensure(p->ssl);

	p->watch = watch_of(p->ssl);
	if (p->watch)
		return true;
	p->no[RX] = p->no[TX] =
		(struct refusal){ err == -EBUSY ? TLSFD_WHY_CALLBACK_REPLACED : TLSFD_WHY_MEMORY,
				  0 };
	return false;
}

/* True: every direction that was wanted is in the kernel. */
static bool move(struct plan *p)
{
	bool moved = moved_before(p);

	if (moved)
		facts_export(p->facts, p->ssl);
	if (moved || !validate(p) || !ensure_watch(p))
		return moved;
	moved = attach_layer(p) && derive(p) && attach(p);
	if (p->tickets)
		tickets_keep(p->tickets, p);
	OPENSSL_cleanse(p->info, sizeof(p->info));
	if (complete(p) || half_moved(p)) { /* no way back from here */
		facts_export(p->facts, p->ssl);
		if (p->rekey)
			rekey_keep(p->rekey, p);
		forget(p);
	}
	return moved;
}

static bool stands_against(const struct plan *p, enum way way)
{
	return wanted(p, way) && p->no[way].why > TLSFD_WHY_OTHER_DIRECTION;
}

/* A direction that stays where it was, though nothing is wrong with it, says so. One
 * that was not to be moved keeps its refusal only where that is the sole one: OpenSSL
 * may have moved it, and have changed its keys since. */
static void settle(struct plan *p)
{
	bool against[WAYS] = { stands_against(p, RX), stands_against(p, TX) };

	for (enum way way = RX; way < WAYS; way++) {
		if (p->no[way].why && (wanted(p, way) || !against[!way]))
			continue;
		p->no[way].err = 0;
		if (p->mover[way])
			p->no[way].why = TLSFD_WHY_NONE;
		else
			p->no[way].why = p->want & direction(way) ? TLSFD_WHY_OTHER_DIRECTION :
								    TLSFD_WHY_NOT_ASKED;
	}
}

/* The negative errno of a refusal. */
static int error_of(const struct refusal *no)
{
	int err = why_describe(no->why)->err;

	if (err)
		return err;
	return no->err ? -no->err : -EIO;
}

int handover(struct plan *p)
{
	bool moved;

	p->watch = watch_of(p->ssl);
	moved = move(p);
	settle(p);
	return moved ? 0 : error_of(report_cause(p->no));
}

/* ---- for programs that have an SSL ---- */

int tlsfd_prepare(SSL_CTX *ctx)
{
	return ctx ? watch_context(ctx) : -EINVAL;
}

/* What the caller gets, made before anything changes. */
struct outcome {
	struct tlsfd *c;
	struct tlsfd_report *r;
};

static int outcome_new(struct outcome *o, struct plan *p, bool conn, bool report)
{
	int err = 0;

	if (conn) {
		o->c = connection_new();
		err = o->c ? facts_take(&o->c->facts, p->ssl, NULL, NULL, NULL) : -ENOMEM;
		if (!err)
			err = tickets_new(&p->tickets, p->ssl);
	}
	if (report && !err) {
		o->r = calloc(1, sizeof(*o->r));
		err = o->r ? 0 : -ENOMEM;
	}
	if (err) {
		tickets_free(p->tickets);
		tlsfd_free(o->c);
	}
	return err;
}

/* Takes c over. 0, or -ENOMEM. */
static int deliver_conn(const struct plan *p, bool moved, struct tlsfd *c, struct tlsfd **conn)
{
	int err = 0;

	if (moved || half_moved(p)) {
		err = connection_start(c, p);
		*conn = err ? NULL : c;
	} else {
		tickets_free(p->tickets);
	}
	if (!*conn)
		tlsfd_free(c);
	return err;
}

/* 0, or -ENOMEM: a half-moved connection that the caller can't be given. */
static int deliver(const struct plan *p, bool moved, struct outcome *o, struct tlsfd **conn,
		   struct tlsfd_report **report)
{
	int err = o->c ? deliver_conn(p, moved, o->c, conn) : 0;

	if (o->r) {
		report_write(o->r, p);
		if (conn && *conn && tlsfd_report_warning(&(*conn)->report))
			report_warn(o->r, tlsfd_report_warning(&(*conn)->report));
		*report = o->r;
	}
	return err;
}

int tlsfd_handover_directions(SSL *ssl, unsigned directions, struct tlsfd **conn,
			      struct tlsfd_report **report)
{
	struct plan plan = { .ssl = ssl, .want = directions, .fd = -1 };
	struct outcome o = { NULL, NULL };
	int err, no_memory;

	if (conn)
		*conn = NULL;
	if (report)
		*report = NULL;
	if (!ssl || !directions || directions & ~BOTH || (directions != BOTH && !conn))
		return -EINVAL;
	err = outcome_new(&o, &plan, conn, report);
	if (err)
		return err;
	plan.rekey = o.c ? &o.c->rekey : NULL;
	plan.facts = o.c ? o.c->facts : NULL;
	err = handover(&plan);
	no_memory = deliver(&plan, err == 0, &o, conn, report);
	return no_memory ? no_memory : err;
}

int tlsfd_handover(SSL *ssl, struct tlsfd **conn, struct tlsfd_report **report)
{
	return tlsfd_handover_directions(ssl, BOTH, conn, report);
}
