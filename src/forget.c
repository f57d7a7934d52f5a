/* SPDX-License-Identifier: MIT */
#include "forget.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <string.h>

/* Bytes of the block that ssl starts; 0 if it isn't malloc's. */
static size_t ssl_size(SSL *ssl)
{
	CRYPTO_malloc_fn alloc;

	CRYPTO_get_mem_functions(&alloc, NULL, NULL);
	return alloc == CRYPTO_malloc ? malloc_usable_size(ssl) : 0;
}

/*
 * OpenSSL keeps the traffic secrets inside the SSL and SSL_free returns that to
 * malloc as it is. No call of OpenSSL wipes them; they are found by their value.
 */
static void wipe_in_ssl(SSL *ssl, const uint8_t *secret, size_t size)
{
	uint8_t *at = (uint8_t *)ssl, *end = at + ssl_size(ssl);

	while (size && at < end && (at = memmem(at, (size_t)(end - at), secret, size)))
		OPENSSL_cleanse(at, size);
}

static void close_way(struct plan *p, enum way way)
{
	struct watched_way *ww = &p->watch->way[way];

	ww->moved = p->mover[way] == TLSFD_MOVER_TLSFD;
	watch_close(p->watch, p->bio[way], way);
	wipe_in_ssl(p->ssl, ww->secret, ww->secret_size);
	OPENSSL_cleanse(ww->secret, sizeof(ww->secret));
	ww->secret_size = 0;
}

void forget_secrets(SSL *ssl)
{
	struct watch *w = watch_of(ssl);

	for (enum way way = RX; w && way < WAYS; way++)
		wipe_in_ssl(ssl, w->way[way].secret, w->way[way].secret_size);
}

void forget(struct plan *p)
{
	bool all = p->mover[RX] && p->mover[TX];

	for (enum way way = RX; way < WAYS; way++)
		if (all || p->mover[way] == TLSFD_MOVER_TLSFD)
			close_way(p, way);
	/* Without both flags SSL_free takes the session for a broken one; with them
	 * SSL_read, SSL_write and SSL_shutdown do nothing. */
	if (all) {
		SSL_set_shutdown(p->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		/* OpenSSL up to 3.1 forgets its write buffer, without freeing it, at the
		 * first write that it tries on a BIO which says that it has kTLS */
		SSL_free_buffers(p->ssl);
	}
}
