/*
 * A peer that shakes hands by OpenSSL and then makes and opens records by hand: any
 * type, any content, any split of the bytes, at any moment.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef RAW_PEER_H
#define RAW_PEER_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <tlsfd.h>

enum { RAW_RECORD_MAX = 5 + 16384 + 256 };

/* One direction, seen from the raw peer. */
struct raw_way {
	uint8_t key[32], iv[12];
	uint64_t sequence; /* of the next record */
};

struct raw_peer {
	int fd;
	bool server, tls13;
	bool chacha; /* no explicit nonce in TLS 1.2 */
	const EVP_CIPHER *cipher;
	const char *digest;
	struct raw_way in, out;
	uint8_t nonce[12]; /* of the record received last */
	uint8_t secret[2][64]; /* TLS 1.3: the client's, the server's */
	size_t secret_size;
	SSL *ssl; /* the one that shook hands, on memory BIOs now; NULL: not kept */
};

/* What the connection is like. */
struct raw_variant {
	bool tls13;
	bool server;	   /* the end under test is the server */
	const char *suite; /* OpenSSL's name; NULL: AES-128-GCM */
	bool keep;	   /* raw_peer.ssl */
	int window;	   /* the peer's SO_RCVBUF, also of raw_pair's second end; 0: as it is */
};

/*
 * Connects the raw peer with an SSL of ours (on *fd, non-blocking, its context prepared),
 * both handshakes done, no tickets, nothing on its way. Asserts that all goes well.
 */
SSL *raw_connect(struct raw_peer *p, const struct raw_variant *v, int *fd);
/* Two ends of ours, the variant's first; likewise. */
void raw_pair(const struct raw_variant *v, SSL *ssl[2], int fd[2]);
/* The same, our end by tlsfd_accept or tlsfd_connect. */
struct tlsfd *raw_open(struct raw_peer *p, const struct raw_variant *v, enum tlsfd_kernel kernel,
		       int *fd);
void raw_open_pair(const struct raw_variant *v, const enum tlsfd_kernel kernel[2],
		   struct tlsfd *c[2], int fd[2]);
void raw_close(struct raw_peer *p);
/* Takes the keys of ssl, the peer's end (p->server, p->tls13), whose handshake is done. */
void raw_take_keys(struct raw_peer *p, SSL *ssl);

/* A record of this type, sealed: its size; out has RAW_RECORD_MAX bytes. */
size_t raw_seal(struct raw_peer *p, uint8_t type, const void *data, size_t n, uint8_t *out);

/* Bytes as they are; a record of this type. */
void raw_send_bytes(struct raw_peer *p, const void *data, size_t n);
void raw_send(struct raw_peer *p, uint8_t type, const void *data, size_t n);
void raw_send_alert(struct raw_peer *p, uint8_t level, uint8_t number);

/* TLS 1.3: KeyUpdate, and what comes after it under the next keys. */
void raw_update_keys(struct raw_peer *p, bool answer_requested);
/* The next keys without a word, of what we send; of what we receive. */
void raw_next_out(struct raw_peer *p);
void raw_next_in(struct raw_peer *p);

/* FIN; RST. */
void raw_fin(struct raw_peer *p);
void raw_reset(struct raw_peer *p);

/* The next record of the other end (waits up to 5 s): its size and type; -1: FIN, -2: RST,
 * -3: nothing came, -4: no record, or one that doesn't open. */
ssize_t raw_receive(struct raw_peer *p, uint8_t *type, uint8_t *data);

#endif
