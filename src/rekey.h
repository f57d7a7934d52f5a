/*
 * New keys for a living connection, TLS 1.3: KeyUpdate, RFC 8446 section 4.6.3. Each
 * direction has its half: the reader installs the peer's next key (RX); the record that
 * announces ours and the key go out together, inside the gate (TX).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_REKEY_H
#define TLSFD_REKEY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <tlsfd.h>

#include "validate.h"

enum {
	REKEY_SECRET_MAX = 48,
	REKEY_LEAST = 2, /* records under one key: one of data, one for KeyUpdate */
	REKEY_RECORD_SHIFT = 14,
};

struct rekey {
	uint64_t records; /* the limit that was asked for; 0: the cipher's */
	uint64_t limit;	  /* the one that holds; UINT64_MAX: none */
	uint64_t left;	  /* for who is inside the gate: records that surely fit under this key */
	const struct cipher *cipher; /* NULL: none of the kernel's */
	_Atomic uint32_t done[WAYS]; /* how often */
	/* kept for as long as keys are to be changed: RX the reader's, TX for who is inside
	 * the gate; size 0: not kept */
	uint8_t secret[WAYS][REKEY_SECRET_MAX];
	uint8_t secret_size[WAYS];
	uint8_t policy;	/* enum tlsfd_rekey */
	uint8_t shift;	/* a record has at least 1 << shift bytes, but for the last of a write */
	bool in_kernel; /* RX is, TLS 1.3, and this kernel can change keys */
};

/* Finds out whether this kernel can change keys, while the process still can. */
void rekey_ask(void);

/* Before the handover forgets the traffic secrets: keeps those that will be needed. */
void rekey_keep(struct rekey *r, const struct plan *plan);
void rekey_start(struct tlsfd *c, const struct plan *plan);
static inline bool rekey_is_valid(enum tlsfd_rekey policy, uint64_t records)
{
	return policy <= TLSFD_REKEY_CONTINUE && (!records || records >= REKEY_LEAST);
}

/* The writer's, inside: may n bytes be sent without a thought for the limit? */
static inline bool rekey_spend(struct rekey *r, size_t n)
{
	uint64_t records = (n >> r->shift) + 1;

	if (records >= r->left)
		return false;
	r->left -= records;
	return true;
}

/*
 * What to do else: asks how many records have been sent, changes keys if it is time, and
 * returns how many bytes may be sent before asking again. -EAGAIN; -EKEYEXPIRED: the
 * policy forbids to send more; or as rekey_tx.
 */
ssize_t rekey_room(struct tlsfd *c, int flags);

/* For writes of the bare fd, which nobody counts: changes keys at half of the limit. */
int rekey_check(struct tlsfd *c);

/* As it goes with a connection to another process (fields.h), secrets included; there it
 * goes on, if the secrets are those of the kernel's keys: 0 or -ESTALE. */
struct fields;
void rekey_describe(struct fields *f, struct rekey *r);
int rekey_go_on(struct tlsfd *c, uint16_t cipher);

/* Wipes the secrets. */
void rekey_forget(struct rekey *r);

/* The reader's, after the peer's KeyUpdate. 0; -EOPNOTSUPP: can't be had; or what the
 * kernel said. */
int rekey_rx(struct tlsfd *c);

/*
 * The kernel stops reading behind each handshake record that starts like a KeyUpdate
 * (net/tls/tls_sw.c: tls_check_pending_rekey). When it was none, or a part of one, the
 * keys that it has make it go on. 0 or a negative errno.
 */
int rekey_resume(const struct tlsfd *c);

/* KeyUpdate and our next key, for who is inside the gate; request: the peer is asked for
 * the same. 0; -EAGAIN: no room; -EOPNOTSUPP; -ESTALE: the kernel's key is no longer ours;
 * or another error. The gate is shut after both. */
int rekey_tx(struct tlsfd *c, bool request, int flags);

/* Can this direction be given new keys? */
bool rekey_can(const struct tlsfd *c, enum way way);

#endif
