/*
 * The state of a connection as bytes, for the process that takes it up.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_LETTER_H
#define TLSFD_LETTER_H

#include "connection.h"
#include "fields.h"

/* Bytes; a pipe of an ordinary user can have as many (fs.pipe-max-size). */
enum { LETTER_MAX = 1 << 20 };

/* By what a socket is known again, and its keys. */
struct identity {
	uint64_t cookie;       /* SO_COOKIE */
	uint64_t number[WAYS]; /* of the next record */
	uint16_t version, cipher; /* as in struct tls_crypto_info; the same both ways */
};

/* As the kernel has it. 0 or a negative errno: not TLS both ways, for one. */
int identity_of(int fd, struct identity *id);

/* Can the socket that now is `now` be the one that was `then`? */
bool identity_fits(const struct identity *then, const struct identity *now);

/* c, which no thread uses, as bytes: wipe and free them by OPENSSL_clear_free. 0, -ENOMEM,
 * -EMSGSIZE. */
int letter_write(struct tlsfd *c, struct identity *id, uint8_t **data, size_t *size);

/*
 * Fills in c (new) and id, with memory of the reserve, which is for so many bytes. 0;
 * -EPROTO: no letter; -EPROTONOSUPPORT: of another version of the format. c is to be freed
 * in any case.
 */
int letter_read(struct tlsfd *c, struct identity *id, uint8_t *data, size_t size,
		struct reserve *reserve);

#endif
