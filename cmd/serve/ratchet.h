/*
 * The keys of session tickets, renewed in time. Those to come follow from a secret that is
 * replaced at each turn by what follows from it, so that processes which began with the same
 * one agree without a word, and none has a key that is gone.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_RATCHET_H
#define TLSFD_RATCHET_H

#include <stdint.h>
#include <tlsfd.h>

enum { RATCHET_SECRET = 32, RATCHET_KEYS = 2 };

struct ratchet {
	unsigned period_ms;
	uint64_t next_ms; /* the next turn is then; CLOCK_MONOTONIC */
	unsigned count;	  /* of keys: the present one and, after a turn, the one before */
	uint8_t keys[RATCHET_KEYS][TLSFD_TICKET_KEY];
	uint8_t secret[RATCHET_SECRET];
};

/* 0, or -EIO: there is no randomness. */
int ratchet_start(struct ratchet *ratchet, unsigned period_ms);
/* A shorter period holds from now on, a longer one from the next turn on. */
void ratchet_set_period(struct ratchet *ratchet, unsigned period_ms, uint64_t now_ms);
/* As many turns as are due. 0 or -ENOMEM; a turn that failed is still due. */
int ratchet_turn(struct ratchet *ratchet, uint64_t now_ms);
/* Its keys become config's. What tlsfd_config_set_ticket_keys says. */
int ratchet_give(const struct ratchet *ratchet, struct tlsfd_config *config);
/* Both, in time. When to call again: failing, after another period; till then the keys stay. */
uint64_t ratchet_renew(struct ratchet *ratchet, struct tlsfd_config *config, uint64_t now_ms);
void ratchet_wipe(struct ratchet *ratchet);

#endif
