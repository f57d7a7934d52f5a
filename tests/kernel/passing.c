/*
 * Moving a connection: it goes on as if it had stayed, and the ways in which it can't go.
 * Both ends of the Unix socket are here; see processes.c for others.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"
#include "link.h"
#include "parcel.h"
#include "suite.h"

static void begin(struct tested *t, void **state)
{
	place_connect(t, *state, KERNEL);
}

/* ---- it goes on ---- */

static void test_goes_on(void **state)
{
	struct tested t;

	begin(&t, state);
	for (int i = 0; i < 20; i++) {
		move_on(&t.c, &t.fd);
		assert_int_equal(tlsfd_fd(t.c), t.fd);
		expect_works(&t);
	}
	place_close(&t);
}

/* A part of a record is read before, the rest after; and what the peer sent meanwhile. */
static void test_data_waits(void **state)
{
	struct tested t;
	char got[5];

	begin(&t, state);
	say(&t.peer, "01234rest");
	assert_int_equal(patient_read(&t, got, 5), 5);
	say(&t.peer, " and more");
	move_on(&t.c, &t.fd);
	expect_read(&t, "rest and more");
	place_close(&t);
}

/* A full socket: what was taken comes out whole, and what the next owner writes behind it. */
static void test_record_under_way(void **state)
{
	static uint8_t data[16384], got[16384];
	uint64_t taken = 0, came = 0;
	struct tested t;
	uint8_t type;
	ssize_t n;

	begin(&t, state);
	while ((n = tlsfd_write(t.c, pattern_at(taken), 16000)) > 0)
		taken += (uint64_t)n;
	assert_int_equal(n, -EAGAIN);
	move_on(&t.c, &t.fd);
	while (came < taken) {
		assert_true((n = raw_receive(&t.peer, &type, data)) > 0);
		memcpy(got, pattern_at(came), (size_t)n);
		assert_memory_equal(data, got, n);
		came += (uint64_t)n;
		if (came < 100000 && (n = tlsfd_write(t.c, pattern_at(taken), 16000)) > 0)
			taken += (uint64_t)n;
	}
	place_close(&t);
}

static void test_peer_closed(void **state)
{
	struct tested t;
	char got[8];

	begin(&t, state);
	raw_send_alert(&t.peer, 1, 0);
	raw_fin(&t.peer);
	assert_int_equal(patient_read(&t, got, sizeof(got)), 0);
	move_on(&t.c, &t.fd);
	assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), 0);
	assert_int_equal(tlsfd_write(t.c, "goodbye", 7), 7);
	expect_record(&t, DATA, "goodbye", 7);
	assert_int_equal(tlsfd_finish(t.c, PATIENCE_MS), 0);
	expect_record(&t, ALERT, "\1\0", 2);
	place_close(&t);
}

static void test_we_closed(void **state)
{
	struct tested t;
	uint8_t type, data[16384];

	begin(&t, state);
	assert_int_equal(tlsfd_shutdown(t.c), 0);
	move_on(&t.c, &t.fd);
	assert_int_equal(tlsfd_write(t.c, "late", 4), -EPIPE);
	assert_int_equal(tlsfd_shutdown(t.c), 0);
	say(&t.peer, "still read");
	expect_read(&t, "still read");
	expect_record(&t, ALERT, "\1\0", 2); /* one only */
	assert_int_equal(raw_receive(&t.peer, &type, data), -1);
	place_close(&t);
}

static void test_peer_reset_before(void **state)
{
	struct tested t;
	char got[8];

	begin(&t, state);
	raw_reset(&t.peer);
	wait_for(t.fd, POLLIN);
	move_on(&t.c, &t.fd);
	assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -ECONNRESET);
	assert_int_equal(tlsfd_write(t.c, "x", 1), -EPIPE);
	tlsfd_free(t.c);
	close(t.fd);
}

/* ---- control state ---- */

static void test_message_under_way(void **state)
{
	const struct raw_variant *v = *state;
	uint8_t ticket[] = { 4, 0, 0, 6, 1, 2, 3, 4, 5, 6 };
	struct tlsfd_counters n;
	struct tested t;
	char got[8];

	begin(&t, state);
	if (v->tls13 && !v->server) {
		for (size_t at = 0; at < sizeof(ticket); at += 2) {
			raw_send(&t.peer, HANDSHAKE, ticket + at, 2);
			wait_for(t.fd, POLLIN);
			assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -EAGAIN);
			move_on(&t.c, &t.fd);
		}
		assert_int_equal(tlsfd_counters(t.c, &n), 0);
		assert_int_equal(n.skipped, 1);
		expect_works(&t);
		raw_send(&t.peer, HANDSHAKE, ticket, 7);
		wait_for(t.fd, POLLIN);
		assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -EAGAIN);
		move_on(&t.c, &t.fd);
		say(&t.peer, "in between");
		assert_int_equal(patient_read(&t, got, sizeof(got)), -EPROTO);
	}
	place_close(&t);
}

static void test_warnings_count(void **state)
{
	struct tested t;
	char got[8];

	begin(&t, state);
	for (int i = 0; i < 4; i++) {
		raw_send_alert(&t.peer, 1, 90);
		wait_for(t.fd, POLLIN);
		assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -EAGAIN);
		move_on(&t.c, &t.fd);
	}
	raw_send_alert(&t.peer, 1, 90);
	assert_int_equal(patient_read(&t, got, sizeof(got)), -EPROTO);
	place_close(&t);
}

static void test_fatal_alert(void **state)
{
	struct tested t;
	char got[8], sentence[128];

	begin(&t, state);
	raw_send_alert(&t.peer, 2, 80);
	assert_int_equal(patient_read(&t, got, sizeof(got)), -EPROTO);
	snprintf(sentence, sizeof(sentence), "%s", tlsfd_error(t.c));
	move_on(&t.c, &t.fd);
	move_on(&t.c, &t.fd);
	assert_int_equal(tlsfd_alert(t.c), 80);
	assert_string_equal(tlsfd_error(t.c), sentence);
	assert_int_equal(tlsfd_read(t.c, got, sizeof(got)), -EPROTO);
	assert_int_equal(tlsfd_write(t.c, "x", 1), -EPIPE);
	place_close(&t);
}

/* Until TCP takes nothing more for a while. */
static void fill(struct tested *t)
{
	static const uint8_t data[16384];
	struct pollfd room = { .fd = t->fd, .events = POLLOUT };

	do
		while (tlsfd_write(t->c, data, sizeof(data)) > 0)
			;
	while (poll(&room, 1, 100) == 1);
	while (tlsfd_write(t->c, data, 1) > 0)
		;
}

/* An alert that TCP has no room for stays here until it has gone out. */
static void test_alert_waits(void **state)
{
	uint8_t record[RAW_RECORD_MAX], type, data[16384];
	int pair[2], alerts = 0;
	struct tested t;
	ssize_t n;

	begin(&t, state);
	open_pair(SOCK_STREAM, pair);
	fill(&t);
	n = (ssize_t)raw_seal(&t.peer, DATA, "forged", 6, record);
	record[n - 1] ^= 1;
	raw_send_bytes(&t.peer, record, (size_t)n);
	assert_int_equal(patient_read(&t, data, sizeof(data)), -EBADMSG);
	assert_int_equal(tlsfd_pass(&t.c, pair[0]), -EAGAIN);
	assert_non_null(t.c);
	assert_int_equal(recv(pair[1], data, 1, MSG_DONTWAIT), -1);
	while (raw_receive(&t.peer, &type, data) > 0 && type == DATA)
		if (!alerts && tlsfd_pass(&t.c, pair[0]) == 0)
			alerts++; /* from now on it is on its way */
	assert_int_equal(type, ALERT);
	assert_int_equal(data[1], 20);
	assert_int_equal(tlsfd_take(&t.c, pair[1]), 0);
	assert_int_equal(tlsfd_read(t.c, data, sizeof(data)), -EBADMSG);
	close(tlsfd_fd(t.c));
	close_pair(pair);
	place_close(&t);
}

/* ---- facts ---- */

struct known {
	char cipher[64], alpn[64], name[64], sentence[256];
	uint8_t binding[2][64];
	ssize_t binding_size[2];
	uint8_t *der[4];
	size_t der_size[4];
	struct tlsfd_counters n;
};

static void know(struct known *k, const struct tlsfd *c)
{
	const uint8_t *der;

	memset(k, 0, sizeof(*k));
	snprintf(k->cipher, sizeof(k->cipher), "%x %s", tlsfd_version(c), tlsfd_cipher(c));
	snprintf(k->alpn, sizeof(k->alpn), "%s", tlsfd_alpn(c));
	snprintf(k->name, sizeof(k->name), "%s, %d", tlsfd_server_name(c), tlsfd_resumed(c));
	snprintf(k->sentence, sizeof(k->sentence), "%s", tlsfd_report_sentence(tlsfd_report(c)));
	for (enum tlsfd_binding b = TLSFD_TLS_EXPORTER; b <= TLSFD_TLS_SERVER_END_POINT; b++)
		k->binding_size[b] = tlsfd_channel_binding(c, b, k->binding[b], 64);
	for (unsigned i = 0; tlsfd_peer_certificate(c, i, &der, &k->der_size[i]) == 0; i++) {
		assert_true(i < LENGTH(k->der));
		k->der[i] = memcpy(malloc(k->der_size[i]), der, k->der_size[i]);
	}
	assert_int_equal(tlsfd_counters(c, &k->n), 0);
	assert_true(tlsfd_kernel(c, TLSFD_RX) && tlsfd_kernel(c, TLSFD_TX));
	assert_int_equal(tlsfd_wants(c, TLSFD_RX), POLLIN);
}

static void forget(struct known *k)
{
	for (size_t i = 0; i < LENGTH(k->der); i++)
		free(k->der[i]);
}

static void expect_known(const struct known *k, const struct tlsfd *c)
{
	struct known now;

	know(&now, c);
	assert_string_equal(k->cipher, now.cipher);
	assert_string_equal(k->alpn, now.alpn);
	assert_string_equal(k->name, now.name);
	assert_string_equal(k->sentence, now.sentence);
	assert_memory_equal(k->binding_size, now.binding_size, sizeof(k->binding_size));
	assert_memory_equal(k->binding, now.binding, sizeof(k->binding));
	assert_memory_equal(k->der_size, now.der_size, sizeof(k->der_size));
	assert_memory_equal(&k->n, &now.n, sizeof(k->n));
	for (size_t i = 0; k->der[i]; i++)
		assert_memory_equal(k->der[i], now.der[i], k->der_size[i]);
	forget(&now);
}

static void test_facts(void **state)
{
	const struct variant *v = *state;
	struct link *l = link_made(v);
	struct known k;
	int fd = dup(l->us.fd);

	hand_over(l, VIA_CONN);
	leave_openssl(l);
	know(&k, l->us.conn);
	assert_true(k.binding_size[0] > 0);
	assert_true(!v->client_cert || !v->server || k.der[0]);
	for (int i = 0; i < 3; i++) {
		move_on(&l->us.conn, &fd);
		expect_known(&k, l->us.conn);
	}
	close(fd);
	forget(&k);
	link_free(l);
}

/* ---- where it can't go ---- */

static void test_other_places(void **state)
{
	struct tested t;
	int pair[2];

	open_pair(SOCK_STREAM, pair);
	for (enum place place = KERNEL; place < PLACES; place++) {
		if (place_in_kernel(place, TLSFD_RX) && place_in_kernel(place, TLSFD_TX))
			continue;
		place_connect(&t, *state, place);
		assert_int_equal(tlsfd_pass(&t.c, pair[0]), -EXDEV);
		expect_works(&t);
		place_close(&t);
	}
	assert_int_equal(tlsfd_take(&t.c, pair[1]), -EAGAIN);
	close_pair(pair);
}

static void test_arguments(void **state)
{
	struct tlsfd *none = NULL, *c;
	struct tlsfd_config *config;
	struct tested t;
	int pair[2], pipes[2], lone = socket(AF_UNIX, SOCK_STREAM, 0);

	begin(&t, state);
	open_pair(SOCK_STREAM, pair);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(tlsfd_pass(NULL, pair[0]), -EINVAL);
	assert_int_equal(tlsfd_pass(&none, pair[0]), -EINVAL);
	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_int_equal(tlsfd_connect(&c, config, lone, "localhost"), 0);
	assert_int_equal(tlsfd_pass(&c, pair[0]), -ENOTCONN);
	tlsfd_free(c);
	tlsfd_config_free(config);
	assert_int_equal(tlsfd_take(NULL, pair[0]), -EINVAL);
	assert_int_equal(tlsfd_pass(&t.c, -1), -EBADF);
	assert_int_equal(tlsfd_pass(&t.c, pipes[1]), -ENOTSOCK);
	assert_int_equal(tlsfd_pass(&t.c, t.fd), -EAFNOSUPPORT);
	assert_int_equal(tlsfd_pass(&t.c, lone), -EPERM);
	c = t.c;
	assert_int_equal(tlsfd_take(&c, -1), -EBADF);
	assert_null(c);
	assert_int_equal(tlsfd_take(&c, t.fd), -EAFNOSUPPORT);
	assert_int_equal(tlsfd_take(&c, lone), -EPERM);
	expect_works(&t);
	close(pipes[0]);
	close(pipes[1]);
	close(lone);
	close_pair(pair);
	place_close(&t);
}

static void test_ends_of_socket(void **state)
{
	struct tlsfd *c;
	struct tested t;
	int pair[2];

	begin(&t, state);
	open_pair(SOCK_STREAM, pair);
	assert_int_equal(tlsfd_take(&c, pair[1]), -EAGAIN);
	close(pair[0]);
	assert_int_equal(tlsfd_take(&c, pair[1]), -EPIPE);
	assert_int_equal(tlsfd_pass(&t.c, pair[1]), -EPIPE);
	expect_works(&t);
	close(pair[1]);
	place_close(&t);
}

static void test_full(void **state)
{
	static const char filler[65536];
	struct tested t;
	int pair[2], small = 4096;

	begin(&t, state);
	open_pair(SOCK_STREAM, pair);
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	while (send(pair[0], filler, sizeof(filler), MSG_DONTWAIT) > 0)
		;
	for (int i = 0; i < 3; i++)
		assert_int_equal(tlsfd_pass(&t.c, pair[0]), -EAGAIN);
	expect_works(&t);
	while (recv(pair[1], (char[4096]){ 0 }, 4096, MSG_DONTWAIT) > 0)
		;
	assert_int_equal(tlsfd_pass(&t.c, pair[0]), 0);
	assert_int_equal(tlsfd_take(&t.c, pair[1]), 0);
	close(t.fd);
	t.fd = tlsfd_fd(t.c);
	expect_works(&t);
	close_pair(pair);
	place_close(&t);
}

static void test_no_fds(void **state)
{
	struct rlimit before, none;
	struct tested t;
	int pair[2], fd;

	begin(&t, state);
	open_pair(SOCK_STREAM, pair);
	fd = dup(t.fd); /* the lowest one that is free */
	close(fd);
	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = (rlim_t)fd;
	setrlimit(RLIMIT_NOFILE, &none);
	assert_int_equal(tlsfd_pass(&t.c, pair[0]), -EMFILE);
	setrlimit(RLIMIT_NOFILE, &before);
	expect_works(&t);
	assert_int_equal(tlsfd_pass(&t.c, pair[0]), 0);
	none.rlim_cur++;
	setrlimit(RLIMIT_NOFILE, &none);
	assert_int_equal(tlsfd_take(&t.c, pair[1]), -EMFILE); /* one fd is too few */
	setrlimit(RLIMIT_NOFILE, &before);
	assert_int_equal(tlsfd_take(&t.c, pair[1]), 0); /* nothing is lost */
	close(t.fd);
	t.fd = tlsfd_fd(t.c);
	expect_works(&t);
	close_pair(pair);
	place_close(&t);
}

/* ---- sockets of other kinds, and more than one message ---- */

static void test_kinds(void **state)
{
	static const int kinds[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
	int on = 1;

	for (size_t i = 0; i < LENGTH(kinds) * 2; i++) {
		struct tested t[3];
		int pair[2];

		open_pair(kinds[i % LENGTH(kinds)], pair);
		if (i >= LENGTH(kinds)) /* its message comes with more than fds */
			setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
		for (size_t k = 0; k < LENGTH(t); k++) {
			begin(&t[k], state);
			assert_int_equal(tlsfd_pass(&t[k].c, pair[0]), 0);
			assert_null(t[k].c);
		}
		for (size_t k = 0; k < LENGTH(t); k++) {
			assert_int_equal(tlsfd_take(&t[k].c, pair[1]), 0);
			assert_int_equal(fcntl(tlsfd_fd(t[k].c), F_GETFD), FD_CLOEXEC);
			close(t[k].fd);
			t[k].fd = tlsfd_fd(t[k].c);
			expect_works(&t[k]);
			place_close(&t[k]);
		}
		assert_int_equal(tlsfd_take(&t[0].c, pair[1]), -EAGAIN);
		if (kinds[i % LENGTH(kinds)] != SOCK_STREAM) {
			assert_int_equal(send(pair[0], "", 0, 0), 0);
			assert_int_equal(tlsfd_take(&t[0].c, pair[1]), -EPROTO);
			assert_int_equal(tlsfd_take(&t[0].c, pair[1]), -EAGAIN);
		}
		close(pair[0]);
		if (kinds[i % LENGTH(kinds)] != SOCK_DGRAM)
			assert_int_equal(tlsfd_take(&t[0].c, pair[1]), -EPIPE);
		close(pair[1]);
	}
}

/* ---- whose socket ---- */

static const uid_t nobody = 65534;

/* A process of another user connects; our end. */
static int stranger(pid_t *pid)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(at);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;

	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	fflush(stdout);
	*pid = fork();
	if (*pid == 0) {
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if (setuid(nobody) || connect(fd, (struct sockaddr *)&at, len))
			_exit(1);
		pause();
	}
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	close(listener);
	return fd;
}

static void test_stranger(void **state)
{
	struct tlsfd *c;
	struct tested t;
	pid_t pid;
	int fd;

	if (geteuid())
		skip_because("not root");
	begin(&t, state);
	fd = stranger(&pid);
	assert_int_equal(tlsfd_pass(&t.c, fd), -EPERM);
	assert_int_equal(tlsfd_take(&c, fd), -EPERM);
	assert_int_equal(seteuid(nobody), 0); /* of the same user he is none */
	assert_int_equal(tlsfd_pass(&t.c, fd), 0);
	assert_int_equal(tlsfd_take(&c, fd), -EAGAIN);
	assert_int_equal(seteuid(0), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fd);
	place_close(&t);
}

/* An ordinary user takes what root passes. */
static void test_from_root(void **state)
{
	struct tested t;
	int pair[2];

	if (geteuid())
		skip_because("not root");
	begin(&t, state);
	open_pair(SOCK_STREAM, pair);
	assert_int_equal(tlsfd_pass(&t.c, pair[0]), 0);
	assert_int_equal(seteuid(nobody), 0);
	assert_int_equal(tlsfd_take(&t.c, pair[1]), 0);
	close(t.fd);
	t.fd = tlsfd_fd(t.c);
	expect_works(&t);
	assert_int_equal(seteuid(0), 0);
	close_pair(pair);
	place_close(&t);
}

int main(int argc, char **argv)
{
	static const struct {
		CMUnitTestFunction test;
		const char *name;
		bool once;
	} tests[] = {
		{ test_goes_on, "goes on", false },
		{ test_data_waits, "data waits in the kernel", false },
		{ test_record_under_way, "a record is under way", false },
		{ test_peer_closed, "the peer has closed", false },
		{ test_we_closed, "we have closed", false },
		{ test_peer_reset_before, "the peer has reset", false },
		{ test_message_under_way, "a message is under way", false },
		{ test_warnings_count, "warnings count", false },
		{ test_fatal_alert, "a fatal alert came", false },
		{ test_alert_waits, "an alert waits", false },
		{ test_other_places, "not from user space", false },
		{ test_arguments, "arguments", true },
		{ test_ends_of_socket, "the ends of the Unix socket", true },
		{ test_full, "the Unix socket is full", true },
		{ test_no_fds, "no fds", true },
		{ test_kinds, "kinds of sockets", true },
		{ test_stranger, "another user's process", true },
		{ test_from_root, "from root", true },
	};

	for (size_t i = 0; i < LENGTH(tests); i++)
		for (int kind = 0; kind < (tests[i].once ? 1 : 4); kind++) {
			struct raw_variant v = { .tls13 = !(kind & 1), .server = kind & 2 };

			suite_add(tests[i].test, &v, sizeof(v), "%s: TLS 1.%d %s", tests[i].name,
				  v.tls13 ? 3 : 2, v.server ? "server" : "client");
		}
	for (int kind = 0; kind < 16; kind++) {
		struct variant v = { .version = kind & 1 ? TLS1_2_VERSION : TLS1_3_VERSION,
				     .server = kind & 2,
				     .alpn = kind & 4,
				     .client_cert = kind & 4,
				     .resume = kind & 8 ? RESUME_TICKET : RESUME_NOT,
				     .tickets = kind & 8 ? 1 : 0 };

		suite_add(test_facts, &v, sizeof(v), "facts: TLS 1.%d %s%s%s", kind & 1 ? 2 : 3,
			  v.server ? "server" : "client",
			  kind & 4 ? ", ALPN and client certificate" : "",
			  kind & 8 ? ", resumed" : "");
	}
	return suite_run(argc, argv);
}
