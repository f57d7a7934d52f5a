/* SPDX-License-Identifier: MIT */
#include "pool.h"

#include <openssl/crypto.h>
#include <string.h>
#include <time.h>

enum { WEEK = 7 * 86400 }; /* no ticket is good for longer, RFC 8446 section 4.6.1 */

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec;
}

void session_clear(struct session *s)
{
	OPENSSL_clear_free(s->data, s->size);
	*s = (struct session){ NULL, 0, 0 };
}

/* The n oldest. */
static void drop(struct pool *pool, unsigned n)
{
	if (!n)
		return;
	for (unsigned i = 0; i < n; i++)
		session_clear(&pool->at[i]);
	pool->count -= n;
	memmove(pool->at, pool->at + n, pool->count * sizeof(pool->at[0]));
	/* what was moved is there once */
	memset(pool->at + pool->count, 0, n * sizeof(pool->at[0]));
}

/* A session that was used and put back can be older than the one below it: it goes with
 * those, or waits for them. */
static void drop_old(struct pool *pool)
{
	int64_t limit = now() - WEEK;
	unsigned n = 0;

	while (n < pool->count && pool->at[n].since < limit)
		n++;
	drop(pool, n);
}

void pool_put(struct pool *pool, struct session *session)
{
	drop_old(pool);
	if (pool->count == POOL_MAX)
		drop(pool, 1);
	pool->at[pool->count++] = *session;
	*session = (struct session){ NULL, 0, 0 };
}

void pool_keep(void *arg, struct tlsfd *c, const void *data, size_t size)
{
	struct pool *pool = arg;
	struct session session = { OPENSSL_memdup(data, size), size, now() };

	if (!session.data)
		return;
	pool_put(pool, &session);
	if (pool->kept)
		pool->kept(pool->arg, c);
}

bool pool_take(struct pool *pool, struct session *session)
{
	drop_old(pool);
	if (!pool->count)
		return false;
	*session = pool->at[--pool->count];
	pool->at[pool->count] = (struct session){ NULL, 0, 0 };
	return true;
}

void pool_move(struct pool *to, struct pool *from)
{
	memcpy(to->at, from->at, sizeof(to->at));
	to->count = from->count;
	memset(from->at, 0, sizeof(from->at));
	from->count = 0;
}

void pool_clear(struct pool *pool)
{
	drop(pool, pool->count);
}
