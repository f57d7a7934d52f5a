/* SPDX-License-Identifier: MIT */
#include "ratchet.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>
#include <time.h>

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* HKDF-Expand (RFC 5869 section 2.3) of the secret: a key, and the next secret. */
static int expand(const uint8_t *secret, uint8_t *out, size_t size)
{
	static const char info[] = "tlsfd serve: session tickets";
	uint8_t block[RATCHET_SECRET + sizeof(info) + 1];
	size_t before = 0, done = 0;

	for (uint8_t n = 1; done < size; n++) {
		size_t take = size - done < RATCHET_SECRET ? size - done : RATCHET_SECRET;

		memcpy(block + before, info, sizeof(info));
		block[before + sizeof(info)] = n;
		if (!HMAC(EVP_sha256(), secret, RATCHET_SECRET, block, before + sizeof(info) + 1,
			  block, NULL))
			break;
		memcpy(out + done, block, take);
		done += take;
		before = RATCHET_SECRET;
	}
	OPENSSL_cleanse(block, sizeof(block));
	return done == size ? 0 : -ENOMEM;
}

static int turn(struct ratchet *r)
{
	uint8_t out[TLSFD_TICKET_KEY + RATCHET_SECRET];
	int err = expand(r->secret, out, sizeof(out));

	if (!err) {
		memcpy(r->keys[1], r->keys[0], sizeof(r->keys[1]));
		memcpy(r->keys[0], out, sizeof(r->keys[0]));
		memcpy(r->secret, out + sizeof(r->keys[0]), sizeof(r->secret));
		r->count += r->count < RATCHET_KEYS;
		r->next_ms += r->period_ms;
	}
	OPENSSL_cleanse(out, sizeof(out));
	return err;
}

int ratchet_turn(struct ratchet *r, uint64_t now)
{
	int err = 0;

	while (!err && r->next_ms <= now)
		err = turn(r);
	return err;
}

void ratchet_set_period(struct ratchet *r, unsigned period_ms, uint64_t now)
{
	r->period_ms = period_ms;
	if (r->next_ms > now + period_ms)
		r->next_ms = now + period_ms;
}

int ratchet_start(struct ratchet *r, unsigned period_ms)
{
	*r = (struct ratchet){ .period_ms = period_ms, .next_ms = now_ms() };
	return RAND_priv_bytes(r->secret, sizeof(r->secret)) == 1 && turn(r) == 0 ? 0 : -EIO;
}

uint64_t ratchet_renew(struct ratchet *r, struct tlsfd_config *config, uint64_t now)
{
	if (!ratchet_turn(r, now))
		(void)!ratchet_give(r, config);
	return r->next_ms > now ? r->next_ms : now + r->period_ms;
}

int ratchet_give(const struct ratchet *r, struct tlsfd_config *config)
{
	return tlsfd_config_set_ticket_keys(config, r->keys, r->count);
}

void ratchet_wipe(struct ratchet *r)
{
	OPENSSL_cleanse(r, sizeof(*r));
}
