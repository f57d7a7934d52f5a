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
#include "probe.h"
#include "suite.h"

const char *const place_names[PLACES] = {
	"kernel", "userspace", "rx-kernel", "tx-kernel", "opened-kernel", "opened-userspace",
};

bool place_in_kernel(enum place place, enum tlsfd_direction dir)
{
	static const unsigned directions[PLACES] = {
		[KERNEL] = TLSFD_RX | TLSFD_TX,
		[RX_KERNEL] = TLSFD_RX,
		[TX_KERNEL] = TLSFD_TX,
		[OPENED_KERNEL] = TLSFD_RX | TLSFD_TX,
	};

	return directions[place] & dir;
}

void place_need(enum place place)
{
	static int has = -1;

	if (has < 0)
		has = probe_kernel(PROBE_ULP).verdict == PROBE_YES;
	if (!has && (place_in_kernel(place, TLSFD_RX) || place_in_kernel(place, TLSFD_TX)))
		skip_because("this kernel has no TLS");
}

static void check_place(const struct tlsfd *c, enum place place)
{
	assert_int_equal(tlsfd_kernel(c, TLSFD_RX), place_in_kernel(place, TLSFD_RX));
	assert_int_equal(tlsfd_kernel(c, TLSFD_TX), place_in_kernel(place, TLSFD_TX));
}

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
	unsigned directions = (place_in_kernel(place, TLSFD_RX) ? TLSFD_RX : 0) |
			      (place_in_kernel(place, TLSFD_TX) ? TLSFD_TX : 0);
	struct tlsfd *c = NULL;
	int err = 0;

	if (place == USERSPACE)
		c = stay(ssl, fd);
	else
		err = tlsfd_handover_directions(ssl, directions, &c, NULL);
	SSL_free(ssl);
	assert_int_equal(err, 0);
	check_place(c, place);
	return c;
}

void place_connect(struct tested *t, const struct raw_variant *v, enum place place)
{
	place_need(place);
	if (place < SSL_PLACES) {
		SSL *ssl = raw_connect(&t->peer, v, &t->fd);

		t->c = place_put(ssl, t->fd, place);
		return;
	}
	t->c = raw_open(&t->peer, v,
			place == OPENED_KERNEL ? TLSFD_KERNEL_REQUIRE : TLSFD_KERNEL_NEVER, &t->fd);
	check_place(t->c, place);
}

void place_close(struct tested *t)
{
	tlsfd_free(t->c);
	close(t->fd);
	raw_close(&t->peer);
}

void place_block(struct tested *t)
{
	struct timeval limit = { .tv_sec = PATIENCE_MS / 1000 };

	fcntl(t->fd, F_SETFL, 0);
	setsockopt(t->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

void place_wait_until_full(int fd)
{
	enum { STEP_MS = 20, TIMES = 10 };
	int full = 0;

	for (int ms = 0; full < TIMES; ms += STEP_MS) {
		assert_true(ms < PATIENCE_MS);
		full = poll(&(struct pollfd){ fd, POLLOUT, 0 }, 1, 0) ? 0 : full + 1;
		poll(NULL, 0, STEP_MS);
	}
}

static int patience(struct tested *t, enum tlsfd_direction dir)
{
	struct pollfd wait = { .fd = t->fd, .events = tlsfd_wants(t->c, dir) };

	return poll(&wait, 1, PATIENCE_MS);
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
