/*
 * A link: two ends of a TLS connection over loopback TCP in one process. One end
 * ("us") is under test and is handed over, the other ("peer") is plain OpenSSL in
 * user space. Helpers assert: call them from the thread that runs the test.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef LINK_H
#define LINK_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tlsfd/openssl.h>

enum resumption { RESUME_NOT, RESUME_TICKET, RESUME_SESSION_ID, RESUME_EXTERNAL_PSK };

/* What a connection is like; all zero but version and suite is the plain case. */
struct variant {
	int version;	   /* TLS1_2_VERSION or TLS1_3_VERSION */
	const char *suite; /* OpenSSL's name; NULL: its first choice */
	bool server;	   /* the end under test */
	bool ktls;	   /* SSL_OP_ENABLE_KTLS on it */
	int tickets;	   /* that a TLS 1.3 server sends */
	int tickets_read;  /* TLS 1.3 client under test: before the handover */
	bool no_ems;	   /* without extended master secret */
	bool ipv6;
	bool blocking;	  /* our socket; the peer handshakes in a thread */
	bool two_bios;	  /* SSL_set_rfd on the fd and SSL_set_wfd on a dup of it */
	bool bio_connect; /* client under test through BIO_s_connect */
	bool client_cert;
	bool alpn;
	bool retry_request; /* HelloRetryRequest */
	bool wire;	    /* the peer's ciphertext passes through our hands */
	bool unprepared;    /* no tlsfd_prepare */
	enum resumption resume;
};

/* How an end takes and gives application data. */
enum via { VIA_SSL, VIA_FD, VIA_CONN };

struct bytes {
	uint8_t *data;
	size_t size;
};

/* The peer's SSL works on memory; we carry the bytes to and from its socket. */
struct wire {
	BIO *in, *out;
	size_t allowed;		     /* bytes that may still leave; SIZE_MAX: any number */
	struct bytes sent, received; /* all that passed */
};

struct end {
	SSL_CTX *ctx;
	SSL *ssl;
	int fd, write_fd; /* write_fd: a dup of fd, or fd itself */
	enum via via;
	struct tlsfd *conn;
	struct wire *wire;
	BIO *connector;		 /* BIO_s_connect: ours too, see connect_by_bio */
	SSL_SESSION *session;	 /* client: the newest that it was given */
	int sessions;		 /* client: how many that were */
	int hellos;		 /* ClientHellos seen (peer only) */
	uint64_t sent, received; /* application data so far: places in the pattern */
};

struct link {
	struct variant v;
	struct end us, peer;
};

/* Contexts only; tests may change them before link_connect. */
struct link *link_new(const struct variant *v);
/* Sockets and SSLs, without a handshake. */
void link_open(struct link *l);
/* Both handshakes. after_peer (may be NULL) is called once, as soon as the peer's is
 * finished: ours often isn't yet, and what the peer sends then waits in our socket. */
void link_handshake(struct link *l, void (*after_peer)(struct link *l));

/* Until something has come at either end. */
void link_wait(const struct link *l);
/* All of it, a first connection for resumption and ticket reading included. */
void link_connect(struct link *l);
void link_connect_then(struct link *l, void (*after_peer)(struct link *l));
struct link *link_made(const struct variant *v); /* link_new and link_connect */
/* Ends the connection (cleanly where OpenSSL still has it), keeps the contexts. */
void link_disconnect(struct link *l);
void link_free(struct link *l);

struct end *link_client(struct link *l);
struct end *link_server(struct link *l);

/* Client under test: reads until `count` tickets have been taken by OpenSSL. */
void read_tickets(struct link *l, int count);

/* tlsfd_handover on us, asserting success and what the report and the BIOs say.
 * VIA_FD: no conn; VIA_CONN: l->us.conn. The SSL stays: see leave_openssl. */
void hand_over(struct link *l, enum via via);
/* The same, but 0 or -EAGAIN, in which case nothing has changed. */
int try_hand_over(struct link *l, enum via via);
void leave_openssl(struct link *l); /* SSL_free */
/* Both; VIA_CONN where tickets wait in the socket, else VIA_FD. */
void hand_over_and_leave(struct link *l);

/* Moves data both ways at once, checking every byte. */
void move(struct link *l, size_t from_us, size_t from_peer);

/* The pieces of that, for threads: NULL or what went wrong. */
struct flow {
	struct end *end;
	bool out;	  /* end sends */
	size_t left;	  /* bytes */
	size_t chunk;	  /* most per call; 0: 64 KiB */
	uint64_t *random; /* state: chunks of random size up to chunk; may be NULL */
	size_t again;	  /* OpenSSL wants a write repeated with no fewer bytes */
};
const char *run_flows(struct flow *flows, size_t n);
/* One step of one flow: NULL or what went wrong; *moved is set if something moved. */
const char *flow_step(struct flow *f, bool *moved);
/* Until one of them can go on; false: none can, for five seconds. */
bool wait_for_flows(const struct flow *flows, size_t n);

/* One read or write at an end: the count, 0 at the end of the stream, or a negative errno. */
ssize_t end_read(struct end *e, void *buf, size_t n);
ssize_t end_write(struct end *e, const void *buf, size_t n);

/* The pattern that the data of both directions is made of: up to PATTERN_RUN bytes at
 * the place that `pos` bytes before have led to. */
enum { PATTERN_RUN = 65536 };
const uint8_t *pattern_at(uint64_t pos);
uint64_t random_next(uint64_t *state);

/* Wire: carry what is there, as far as allowed. True if any byte moved. */
bool wire_carry(struct end *e);

/* Waits until fd has events; asserts that it does within five seconds. */
void wait_for(int fd, short events);
void set_blocking(int fd, bool blocking);

/* A counter of /proc/net/tls_stat; -1: there is none of this name. */
long tls_stat(const char *name);
/* Bytes that TCP has been given to send (ciphertext included), tcpi_bytes_sent. */
uint64_t tcp_bytes_sent(int fd);

#endif
