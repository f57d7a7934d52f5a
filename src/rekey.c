/* SPDX-License-Identifier: MIT */
#include "rekey.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <time.h>

#include "connection.h"
#include "keys.h"
#include "owed.h"
#include "probe.h"
#include "sys.h"
#include "userspace.h"

enum { ASK_AGAIN_SECONDS = 60 };

/* ---- what is kept ---- */

/* A yes is for ever. After a no the module may be replaced, but not often. */
static bool kernel_can(void)
{
	static bool yes;
	static time_t no_until;
	struct timespec now = { 0 };

	if (__atomic_load_n(&yes, __ATOMIC_RELAXED))
		return true;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (now.tv_sec < __atomic_load_n(&no_until, __ATOMIC_RELAXED))
		return false;
	if (probe_kernel(PROBE_REKEY).verdict == PROBE_YES) {
		__atomic_store_n(&yes, true, __ATOMIC_RELAXED);
		return true;
	}
	__atomic_store_n(&no_until, now.tv_sec + ASK_AGAIN_SECONDS, __ATOMIC_RELAXED);
	return false;
}

void rekey_keep(struct rekey *r, const struct plan *plan)
{
	if (SSL_version(plan->ssl) != TLS1_3_VERSION || !kernel_can())
		return;
	for (enum way way = RX; way < WAYS; way++) {
		const struct watched_way *ww = &plan->watch->way[way];

		if (!plan->mover[way] || ww->secret_size > REKEY_SECRET_MAX)
			continue;
		memcpy(r->secret[way], ww->secret, ww->secret_size);
		r->secret_size[way] = ww->secret_size;
	}
}

void rekey_start(struct tlsfd *c, const struct plan *plan)
{
	const SSL_CIPHER *suite = SSL_get_current_cipher(plan->ssl);

	c->rekey.cipher = cipher_find(SSL_CIPHER_get_cipher_nid(suite),
				      SSL_CIPHER_get_name(suite));
	c->rekey.in_kernel = c->control.tls13 && c->kernel[RX] && kernel_can();
}

void rekey_forget(struct rekey *r)
{
	OPENSSL_cleanse(r->secret, sizeof(r->secret));
	memset(r->secret_size, 0, sizeof(r->secret_size));
}

bool rekey_can(const struct tlsfd *c, enum way way)
{
	return c->kernel[way] ? c->rekey.secret_size[way] != 0 : c->control.tls13;
}

/* ---- the two halves ---- */

struct next {
	uint8_t secret[REKEY_SECRET_MAX];
	struct crypto_info info;
};

static int derive(const struct rekey *r, enum way way, struct next *next)
{
	return keys_update(r->cipher, r->secret[way], r->secret_size[way], next->secret,
			   &next->info);
}

static int install(struct tlsfd *c, enum way way, const struct next *next)
{
	struct rekey *r = &c->rekey;
	struct refusal no;

	if (!attach_keys(c->fd, way, &next->info, &no))
		return -no.err;
	memcpy(r->secret[way], next->secret, r->secret_size[way]);
	atomic_fetch_add_explicit(&r->done[way], 1, memory_order_relaxed);
	return 0;
}

int rekey_rx(struct tlsfd *c)
{
	struct next next;
	int err;

	if (!rekey_can(c, RX))
		return -EOPNOTSUPP;
	err = derive(&c->rekey, RX, &next);
	if (!err)
		err = install(c, RX, &next);
	OPENSSL_cleanse(&next, sizeof(next));
	return err;
}

int rekey_resume(const struct tlsfd *c)
{
	struct crypto_info info = { .size = 0 };
	struct refusal no;
	int err = attach_get_keys(c->fd, RX, &info);

	if (!err && !attach_keys(c->fd, RX, &info, &no))
		err = -no.err;
	OPENSSL_cleanse(&info, sizeof(info));
	return err;
}

/* The record is out: without the key that it announces nothing can be sent any more. */
static int lost(struct tlsfd *c, int err)
{
	gate_shut(&c->gate);
	return connection_fail(c, TX, err, "the next key could not be set after KeyUpdate");
}

static int update_tx(struct tlsfd *c, bool request, int flags, struct next *next)
{
	const uint8_t message[] = { CONTROL_MESSAGE_KEY_UPDATE, 0, 0, 1, request };
	int err = derive(&c->rekey, TX, next);

	if (!err)
		err = owed_send(c, RECORD_HANDSHAKE, message, sizeof(message), flags);
	if (err)
		return err;
	err = install(c, TX, next);
	return err ? lost(c, err) : 0;
}

int rekey_tx(struct tlsfd *c, bool request, int flags)
{
	struct next next;
	int err;

	if (!rekey_can(c, TX))
		return -EOPNOTSUPP;
	if (!c->kernel[TX])
		return userspace_rekey(c, request);
	err = update_tx(c, request, flags, &next);
	OPENSSL_cleanse(&next, sizeof(next));
	return err;
}
