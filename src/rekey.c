/* SPDX-License-Identifier: MIT */
#include "rekey.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <time.h>

#include "connection.h"
#include "fields.h"
#include "keys.h"
#include "owed.h"
#include "probe.h"
#include "report.h"
#include "sys.h"
#include "userspace.h"

enum { ASK_AGAIN_SECONDS = 60 };

/* ---- what is kept ---- */

static bool yes; /* this kernel can; for ever */

/* The counters came with the ability (Linux 6.14). A pair of sockets has to show it where
 * there is no /proc; that costs a connection in the counters, and wants loopback. */
static bool ask_kernel(void)
{
	int counts = sys_tls_counts("TlsRxRekeyOk");

	return counts < 0 ? probe_kernel(PROBE_REKEY).verdict == PROBE_YES : counts;
}

/* After a no the module may be replaced, but not often. */
static bool kernel_can(void)
{
	static time_t no_until;
	struct timespec now = { 0 };

	if (__atomic_load_n(&yes, __ATOMIC_RELAXED))
		return true;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (now.tv_sec < __atomic_load_n(&no_until, __ATOMIC_RELAXED))
		return false;
	if (ask_kernel()) {
		__atomic_store_n(&yes, true, __ATOMIC_RELAXED);
		return true;
	}
	__atomic_store_n(&no_until, now.tv_sec + ASK_AGAIN_SECONDS, __ATOMIC_RELAXED);
	return false;
}

void rekey_ask(void)
{
	(void)kernel_can();
}

void rekey_keep(struct rekey *r, const struct plan *plan)
{
	if (r->policy != TLSFD_REKEY || SSL_version(plan->ssl) != TLS1_3_VERSION || !kernel_can())
		return;
	for (enum way way = RX; way < WAYS; way++) {
		const struct watched_way *ww = &plan->watch->way[way];

		if (!plan->mover[way] || ww->secret_size > REKEY_SECRET_MAX)
			continue;
		keys_copy(r->secret[way], ww->secret, ww->secret_size);
		r->secret_size[way] = (uint8_t)ww->secret_size;
	}
}

bool rekey_can(const struct tlsfd *c, enum way way)
{
	if (c->kernel[way])
		return c->rekey.secret_size[way] != 0;
	return c->control.tls13 && c->rekey.policy == TLSFD_REKEY;
}

static void set_limit(struct rekey *r)
{
	uint64_t own = r->cipher && r->cipher->limit ? r->cipher->limit : UINT64_MAX;

	r->limit = r->records && r->records < own ? r->records : own;
	r->left = r->limit == UINT64_MAX ? UINT64_MAX : 0;
	r->shift = REKEY_RECORD_SHIFT;
}

static void warn(struct tlsfd *c)
{
	if (c->rekey.policy != TLSFD_REKEY || !c->control.tls13 ||
	    (rekey_can(c, RX) && rekey_can(c, TX)))
		return;
	report_warn(&c->report, kernel_can() ?
					"keys can't be changed: the traffic secrets are gone" :
					"keys can't be changed: this kernel can't, Linux 6.14 can");
}

int tlsfd_set_rekey(struct tlsfd *c, enum tlsfd_rekey policy, uint64_t records)
{
	if (!rekey_is_valid(policy, records))
		return -EINVAL;
	c->rekey.policy = (uint8_t)policy;
	c->rekey.records = records;
	if (policy != TLSFD_REKEY)
		rekey_forget(&c->rekey);
	if (c->open) {
		set_limit(&c->rekey);
		warn(c);
	}
	return 0;
}

void rekey_start(struct tlsfd *c, const struct plan *plan)
{
	const SSL_CIPHER *suite = SSL_get_current_cipher(plan->ssl);

	c->rekey.cipher = cipher_find(SSL_CIPHER_get_cipher_nid(suite), SSL_CIPHER_get_name(suite));
	c->rekey.in_kernel = c->control.tls13 && c->kernel[RX] && kernel_can();
	set_limit(&c->rekey);
	warn(c);
}

void rekey_forget(struct rekey *r)
{
	OPENSSL_cleanse(r->secret, sizeof(r->secret));
	memset(r->secret_size, 0, sizeof(r->secret_size));
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
	keys_copy(r->secret[way], next->secret, r->secret_size[way]);
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

/* 0; -ESTALE: it isn't; -EIO: OpenSSL can't derive the keys. */
static int prove_secret(const struct tlsfd *c, enum way way)
{
	const struct rekey *r = &c->rekey;
	struct crypto_info info = { .size = 0 };
	int err = keys_of_secret(r->cipher, r->secret[way], r->secret_size[way], &info);

	if (!err && !attach_same_keys(c->fd, way, r->cipher, &info))
		err = -ESTALE;
	OPENSSL_cleanse(&info, sizeof(info));
	return err;
}

/* The record is out: without the key that it announces nothing can be sent any more. */
static int lost(struct tlsfd *c, int err)
{
	gate_shut(&c->gate);
	return connection_fail(c, TX, err, "the next key could not be set after KeyUpdate");
}

/* After fork, or once two have taken copies of a connection, each has a secret. To set the
 * next key twice would be to use its nonces twice. */
static int stale(struct tlsfd *c)
{
	gate_shut(&c->gate);
	return connection_fail(c, TX, -ESTALE, "another process has changed the keys");
}

static int update_tx(struct tlsfd *c, bool request, int flags, struct next *next)
{
	const uint8_t message[] = { CONTROL_MESSAGE_KEY_UPDATE, 0, 0, 1, request };
	int err;

	if (prove_secret(c, TX))
		return stale(c);
	err = derive(&c->rekey, TX, next);
	if (!err)
		err = owed_send(c, RECORD_HANDSHAKE, message, sizeof(message), flags);
	if (err)
		return err;
	err = install(c, TX, next);
	if (err)
		return lost(c, err);
	c->rekey.left = 0;
	return 0;
}

int rekey_tx(struct tlsfd *c, bool request, int flags)
{
	struct next next;
	int err;

	if (!rekey_can(c, TX))
		return -EOPNOTSUPP;
	if (c->kernel[TX]) {
		err = update_tx(c, request, flags, &next);
		OPENSSL_cleanse(&next, sizeof(next));
	} else {
		err = userspace_rekey(c, request, flags);
	}
	if (!err && request)
		control_request(&c->control);
	return err;
}

/* ---- limits ---- */

/* Where the kernel makes smaller records (Linux 6.19), more of them are needed. */
static unsigned record_shift(const struct tlsfd *c)
{
	uint16_t payload = 0;
	socklen_t size = sizeof(payload);
	unsigned shift = REKEY_RECORD_SHIFT;

	if (!c->kernel[TX] ||
	    sys_getsockopt(c->fd, SOL_TLS, TLS_TX_MAX_PAYLOAD_LEN, &payload, &size) || !payload)
		return shift;
	while (payload < 1U << shift)
		shift--;
	return shift;
}

/* How many records of data may still be sent under this key: the last one of the limit is
 * for KeyUpdate or close_notify. */
static int count_left(const struct tlsfd *c, uint64_t *left)
{
	const uint64_t limit = c->rekey.limit;
	uint64_t records = 0;
	int err = 0;

	if (c->kernel[TX])
		err = attach_count(c->fd, TX, &records);
	else
		userspace_count(c, TX, &records);
	*left = records < limit - 1 ? limit - 1 - records : 0;
	return err;
}

static void pass_limit(struct tlsfd *c)
{
	report_warn(&c->report, "more records were sent than one key is good for");
	c->rekey.limit = c->rekey.left = UINT64_MAX;
}

static int at_limit(struct tlsfd *c, int flags)
{
	struct rekey *r = &c->rekey;

	if (r->policy == TLSFD_REKEY && rekey_can(c, TX))
		return rekey_tx(c, false, flags);
	if (r->policy == TLSFD_REKEY_CLOSE)
		return connection_fail(c, TX, -EKEYEXPIRED,
				       "as many records were sent as one key is good for");
	pass_limit(c);
	return 0;
}

ssize_t rekey_room(struct tlsfd *c, int flags)
{
	const uint64_t most = (uint64_t)1 << 40 >> REKEY_RECORD_SHIFT;
	struct rekey *r = &c->rekey;
	uint64_t left;
	int err;

	if (!c->kernel[TX] && !c->user)
		return -ENOTCONN;
	while (!(err = count_left(c, &left)) && !left)
		if ((err = at_limit(c, flags)))
			break;
	if (err)
		return err;
	/* records can be smaller than we think: a half of what is left now, a quarter later */
	r->shift = record_shift(c);
	r->left = left / 4;
	left = (left + 1) / 2;
	return (ssize_t)((left < most ? left : most) << r->shift);
}

int rekey_check(struct tlsfd *c)
{
	uint64_t left;
	bool early = c->rekey.policy == TLSFD_REKEY && rekey_can(c, TX);
	int err = c->rekey.limit == UINT64_MAX ? 0 : count_left(c, &left);

	if (err || c->rekey.limit == UINT64_MAX || left > (early ? c->rekey.limit / 2 : 0))
		return err;
	if (left == c->rekey.limit - 1)
		return 0; /* an unused key, which half of 2 would replace */
	return at_limit(c, MSG_DONTWAIT);
}

/* ---- moving to another process ---- */

void rekey_describe(struct fields *f, struct rekey *r)
{
	uint32_t policy = r->policy;
	bool unlimited = r->limit == UINT64_MAX;

	fields_bytes(f, &policy, sizeof(policy));
	fields_bytes(f, &r->records, sizeof(r->records));
	fields_flag(f, &unlimited);
	if (fields_require(f, rekey_is_valid(policy, r->records)))
		r->policy = (uint8_t)policy;
	r->limit = unlimited ? UINT64_MAX : r->limit;
	for (enum way way = RX; way < WAYS; way++) {
		uint32_t done = r->done[way];
		uint8_t size = (uint8_t)r->secret_size[way];

		fields_bytes(f, &done, sizeof(done));
		r->done[way] = done;
		fields_bytes(f, &size, sizeof(size));
		if (!fields_require(f, size <= REKEY_SECRET_MAX))
			return;
		r->secret_size[way] = size;
		fields_bytes(f, r->secret[way], size);
	}
}

int rekey_go_on(struct tlsfd *c, uint16_t cipher)
{
	struct rekey *r = &c->rekey;
	bool passed = r->limit == UINT64_MAX;

	r->cipher = cipher_of_type(cipher);
	for (enum way way = RX; way < WAYS; way++) {
		/* without memory it isn't known; but that of TX is proved before each use, and
		 * one of RX that is wrong makes a key that opens nothing */
		if (r->secret_size[way] && prove_secret(c, way) == -ESTALE)
			return -ESTALE;
		/* whoever kept it had asked; we may be confined, and can't */
		if (r->secret_size[way])
			__atomic_store_n(&yes, true, __ATOMIC_RELAXED);
	}
	r->in_kernel = c->control.tls13 && kernel_can();
	set_limit(r);
	if (passed && r->limit != UINT64_MAX)
		pass_limit(c);
	warn(c);
	return 0;
}
