/* SPDX-License-Identifier: MIT */
#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <tlsfd/openssl.h>
#include <unistd.h>

#include "connection.h"
#include "suite.h"

const char *const place_names[PLACES] = { "kernel", "userspace", "rx-kernel", "tx-kernel" };

bool place_expected(enum place place)
{
	const char *tls = getenv("TLSFD_EXPECT_TLS");

	return place == USERSPACE || !tls || strcmp(tls, "0") != 0;
}

/* What tlsfd_handshake does where the kernel takes neither direction. */
static struct tlsfd *stay(SSL *ssl, int fd)
{
	struct plan plan = { .ssl = ssl, .fd = fd };
	struct tlsfd *c = connection_new();

	assert_non_null(c);
	assert_int_equal(connection_start(c, &plan), 0);
	return c;
}

struct tlsfd *place_put(SSL *ssl, int fd, enum place place)
{
	static const unsigned directions[PLACES] = {
		[KERNEL] = TLSFD_RX | TLSFD_TX, [RX_KERNEL] = TLSFD_RX, [TX_KERNEL] = TLSFD_TX
	};
	struct tlsfd *c = NULL;
	int err = 0;

	if (place == USERSPACE)
		c = stay(ssl, fd);
	else
		err = tlsfd_handover_directions(ssl, directions[place], &c, NULL);
	SSL_free(ssl);
	if (err == -ENOENT)
		skip_because("this kernel has no TLS");
	assert_int_equal(err, 0);
	assert_int_equal(tlsfd_kernel(c, TLSFD_RX), place == KERNEL || place == RX_KERNEL);
	assert_int_equal(tlsfd_kernel(c, TLSFD_TX), place == KERNEL || place == TX_KERNEL);
	return c;
}

void place_connect(struct tested *t, const struct raw_variant *v, enum place place)
{
	SSL *ssl = raw_connect(&t->peer, v, &t->fd);

	t->c = place_put(ssl, t->fd, place);
}

void place_close(struct tested *t)
{
	tlsfd_free(t->c);
	close(t->fd);
	raw_close(&t->peer);
}

void place_block(struct tested *t)
{
	struct timeval limit = { .tv_sec = 5 };

	fcntl(t->fd, F_SETFL, 0);
	setsockopt(t->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

static int patience(struct tested *t, enum tlsfd_direction dir)
{
	struct pollfd wait = { .fd = t->fd, .events = tlsfd_wants(t->c, dir) };

	return poll(&wait, 1, 5000);
}

ssize_t patient_read(struct tested *t, void *buf, size_t n)
{
	ssize_t got;

	while ((got = tlsfd_read(t->c, buf, n)) == -EAGAIN && patience(t, TLSFD_RX) == 1)
		;
	return got;
}

ssize_t patient_write(struct tested *t, const void *buf, size_t n)
{
	ssize_t sent;

	while ((sent = tlsfd_write(t->c, buf, n)) == -EAGAIN && patience(t, TLSFD_TX) == 1)
		;
	return sent;
}
