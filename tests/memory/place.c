/*
 * Where the records are made after the handshake: as asked, as the kernel takes them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "meet.h"
#include "attach.h"
#include "config.h"
#include "ktls.h"
#include "sys.h"

/* ---- where the records are made ---- */

static void check_kernel(enum tlsfd_kernel kernel, const char *cipher, int want)
{
	struct tlsfd_config *config = config_of(&pki.good);
	struct meeting m;

	assert_int_equal(tlsfd_config_set_kernel(config, kernel), 0);
	assert_int_equal(tlsfd_config_set_ciphers(config, cipher), 0);
	{
		SSL_CTX *peer = peer_context(NULL);

		if (SSL_CTX_set_ciphersuites(peer, cipher) != 1)
			SSL_CTX_set_cipher_list(peer, cipher);
		meet(&m, config, true, peer, NULL);
	}
	assert_int_equal(m.err, want);
	if (want) {
		assert_non_null(tlsfd_error(m.c));
		assert_int_equal(tlsfd_write(m.c, "x", 1), want);
	} else {
		meet_talk(&m);
	}
	if (!want && kernel == TLSFD_KERNEL_NEVER) {
		assert_false(tlsfd_kernel(m.c, TLSFD_RX) || tlsfd_kernel(m.c, TLSFD_TX));
		assert_int_equal(tlsfd_report_why(tlsfd_report(m.c), TLSFD_TX),
				 TLSFD_WHY_NOT_ASKED);
		assert_int_equal(attach_has_ulp(m.fd[0]), 0);
	}
	meet_close(&m);
}

static void test_kernel(void **state)
{
	static const char good[] = "TLS_AES_128_GCM_SHA256", refused[] = "ECDHE-ECDSA-AES256-CCM";

	(void)state;
	check_kernel(TLSFD_KERNEL_PREFER, good, 0);
	check_kernel(TLSFD_KERNEL_PREFER, refused, 0);
	check_kernel(TLSFD_KERNEL_NEVER, good, 0);
	check_kernel(TLSFD_KERNEL_IF_THERE, good, 0);
	check_kernel(TLSFD_KERNEL_IF_THERE, refused, 0);
	check_kernel(TLSFD_KERNEL_REQUIRE, good, kernel_has_tls() ? 0 : -ENOENT);
	check_kernel(TLSFD_KERNEL_REQUIRE, refused, -EOPNOTSUPP);
}

/* ---- what the kernel takes is what is offered ---- */

static int asked, refused_at;

static int refuse_one(int fd, int level, int name)
{
	(void)fd;
	return level == SOL_TLS && name == TLS_RX && asked++ == refused_at ? -EINVAL : 0;
}

static int refuse_all(int fd, int level, int name)
{
	(void)fd;
	return level == SOL_TLS && name == TLS_RX ? -EINVAL : 0;
}

static int refuse_ulp(int fd, int level, int name)
{
	(void)fd;
	return level == IPPROTO_TCP && name == TCP_ULP ? -EPERM : 0;
}

/* A client that has nothing but AES-128-GCM; fault: while the kernel is asked. */
static void check_offer(int (*fault)(int fd, int level, int name), int want)
{
	struct tlsfd_config *config = config_of(&pki.good);
	SSL_CTX *peer = peer_context(NULL);
	struct meeting m;

	SSL_CTX_set_ciphersuites(peer, "TLS_AES_128_GCM_SHA256");
	SSL_CTX_set_min_proto_version(peer, TLS1_3_VERSION);
	asked = 0;
	sys_fault = fault;
	meet_open(&m, config, true, peer, NULL);
	sys_fault = NULL;
	meet_shake(&m);
	assert_int_equal(m.err, want);
	if (!want)
		meet_talk(&m);
	meet_close(&m);
	SSL_CTX_free(peer);
	tlsfd_config_free(config);
}

static void test_offer(void **state)
{
	(void)state;
	check_offer(NULL, 0);
	/* the first question is TLS 1.3 with AES-128-GCM */
	refused_at = 0;
	check_offer(refuse_one, kernel_has_tls() ? -EPROTO : 0);
	refused_at = 1;
	check_offer(refuse_one, 0);
	/* a kernel that takes none, or was not asked, changes nothing */
	check_offer(refuse_all, 0);
	check_offer(refuse_ulp, 0);
}

/* ---- and is asked for again after a minute ---- */

static time_t ahead;

/* Takes libc's place for the library in this program: time passes when we say so. */
int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int ret = (int)syscall(SYS_clock_gettime, clock, ts);

	ts->tv_sec += ahead;
	return ret;
}

static int count_questions(int fd, int level, int name)
{
	(void)fd;
	asked += level == SOL_TLS && name == TLS_RX;
	return 0;
}

/* A client that has nothing but AES-128-GCM: what its handshake comes to, and how often
 * the kernel was asked for a cipher meanwhile, at most. */
static void check_asked(struct tlsfd_config *config, int seconds,
			int (*fault)(int fd, int level, int name), int want, bool want_asked)
{
	SSL_CTX *peer = peer_context(NULL);
	struct meeting m;

	ahead += seconds;
	SSL_CTX_set_ciphersuites(peer, "TLS_AES_128_GCM_SHA256");
	SSL_CTX_set_min_proto_version(peer, TLS1_3_VERSION);
	asked = 0;
	sys_fault = fault;
	meet_open(&m, config, true, peer, NULL);
	sys_fault = NULL;
	assert_int_equal(asked > 0, want_asked && kernel_has_tls());
	meet_shake(&m);
	assert_int_equal(m.err, want);
	meet_close(&m);
	SSL_CTX_free(peer);
}

static void test_asked_again(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good);
	int refused = kernel_has_tls() ? -EPROTO : 0;

	(void)state;
	refused_at = 0;
	check_asked(config, 0, refuse_one, refused, true);
	check_asked(config, 50, count_questions, refused, false);
	check_asked(config, 12, count_questions, 0, true);
	/* all was yes: that stays */
	check_asked(config, 1000, refuse_one, 0, false);
	tlsfd_config_free(config);
}

/* The other way round: what the kernel takes no longer is no longer offered. */
static void test_taken_no_longer(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good);
	int refused = kernel_has_tls() ? -EPROTO : 0;

	(void)state;
	refused_at = 1;
	check_asked(config, 0, refuse_one, 0, true);
	refused_at = 0;
	check_asked(config, 62, refuse_one, refused, true);
	tlsfd_config_free(config);
}

static int sockets_left = -1; /* -1: as many as are wanted */

/* Takes libc's place, too. */
int socket(int family, int type, int protocol)
{
	if (sockets_left == 0) {
		errno = EPERM;
		return -1;
	}
	sockets_left -= sockets_left > 0;
	return (int)syscall(SYS_socket, family, type, protocol);
}

/* Who can't ask any more keeps the answer. */
static void test_confined(void **state)
{
	struct tlsfd_config *config = config_of(&pki.good);
	int refused = kernel_has_tls() ? -EPROTO : 0;

	(void)state;
	refused_at = 0;
	check_asked(config, 0, refuse_one, refused, true);
	sockets_left = 2; /* for the connection itself */
	check_asked(config, 62, count_questions, refused, false);
	assert_int_equal(sockets_left, 0);
	sockets_left = -1;
	check_asked(config, 62, count_questions, 0, true);
	tlsfd_config_free(config);
}

/* ---- asked for once ---- */

static int no_ulp(int fd, int level, int name)
{
	(void)fd;
	asked += level == IPPROTO_TCP && name == TCP_ULP;
	return level == IPPROTO_TCP && name == TCP_ULP ? -ENOENT : 0;
}

static int count_ulps(int fd, int level, int name)
{
	(void)fd;
	asked += level == IPPROTO_TCP && name == TCP_ULP;
	return 0;
}

/* A connection for "www.example.org": is it where the config says, for the right reason, and
 * by the way (OpenSSL's key log) that this takes? */
static void check_once(struct tlsfd_config *config, struct tlsfd_config *for_name,
		       int (*fault)(int fd, int level, int name), bool moves, bool asks)
{
	SSL_CTX *peer = peer_context(NULL);
	struct meeting m;

	asked = 0;
	sys_fault = fault;
	meet_open(&m, config, true, peer, NULL);
	assert_int_equal(SSL_set_tlsext_host_name(m.peer, "www.example.org"), 1);
	meet_shake(&m);
	sys_fault = NULL;
	assert_int_equal(m.err, 0);
	assert_int_equal(asked > 0, asks);
	assert_int_equal(tlsfd_kernel(m.c, TLSFD_RX), moves);
	assert_int_equal(tlsfd_kernel(m.c, TLSFD_TX), moves);
	for (enum tlsfd_direction d = TLSFD_RX; !moves && d <= TLSFD_TX; d++)
		assert_true(tlsfd_report_why(tlsfd_report(m.c), d) == TLSFD_WHY_NO_TLS ||
			    tlsfd_report_why(tlsfd_report(m.c), d) == TLSFD_WHY_MODULE);
	assert_int_equal(SSL_CTX_get_keylog_callback(config->ctx) != NULL, moves);
	assert_int_equal(SSL_CTX_get_keylog_callback(for_name->ctx) != NULL, moves);
	meet_talk(&m);
	meet_close(&m);
	SSL_CTX_free(peer);
}

static void test_once(void **state)
{
	(void)state;
	for (int there = 0; there <= kernel_has_tls(); there++) {
		struct tlsfd_config *config = config_of(&pki.good), *other = config_of(&pki.good);

		assert_int_equal(tlsfd_config_set_kernel(config, TLSFD_KERNEL_IF_THERE), 0);
		assert_int_equal(tlsfd_config_add_name(config, "www.example.org", other), 0);
		check_once(config, other, there ? count_ulps : no_ulp, there, true);
		/* later it makes no difference that it came */
		check_once(config, other, count_ulps, there, there);
		tlsfd_config_free(config);
		tlsfd_config_free(other);
	}
}

/* ---- one direction only ---- */

static int refuse_tx(int fd, int level, int name)
{
	(void)fd;
	return level == SOL_TLS && name == TLS_TX ? -EINVAL : 0;
}

static int refuse_rx(int fd, int level, int name)
{
	(void)fd;
	return level == SOL_TLS && name == TLS_RX ? -EINVAL : 0;
}

static void check_refused_way(int (*fault)(int fd, int level, int name), enum tlsfd_kernel kernel,
			      bool rx_moves)
{
	struct tlsfd_config *config = config_of(&pki.good);
	SSL_CTX *peer = peer_context(NULL);
	struct meeting m;

	assert_int_equal(tlsfd_config_set_kernel(config, kernel), 0);
	meet_open(&m, config, true, peer, NULL);
	sys_fault = fault;
	meet_shake(&m);
	sys_fault = NULL;
	assert_false(tlsfd_kernel(m.c, TLSFD_TX));
	assert_int_equal(tlsfd_kernel(m.c, TLSFD_RX), rx_moves && kernel_has_tls());
	if (kernel == TLSFD_KERNEL_REQUIRE) {
		assert_int_equal(m.err, kernel_has_tls() ? -EOPNOTSUPP : -ENOENT);
		assert_string_equal(tlsfd_error(m.c), tlsfd_report_sentence(tlsfd_report(m.c)));
	} else {
		assert_int_equal(m.err, 0);
		assert_null(tlsfd_error(m.c));
		meet_talk(&m);
	}
	meet_close(&m);
	SSL_CTX_free(peer);
	tlsfd_config_free(config);
}

static void test_refused_way(void **state)
{
	(void)state;
	for (int kernel = TLSFD_KERNEL_PREFER; kernel <= TLSFD_KERNEL_REQUIRE; kernel++) {
		check_refused_way(refuse_tx, kernel, true);
		check_refused_way(refuse_rx, kernel, false);
	}
}

/* ---- data on the heels of the handshake ---- */

static void test_early_bytes(void **state)
{
	static const enum tlsfd_kernel kernels[] = { TLSFD_KERNEL_PREFER, TLSFD_KERNEL_NEVER };

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		bool server = i & 1;
		struct tlsfd_config *config = config_of(server ? &pki.good : NULL);
		SSL_CTX *peer = peer_context(server ? NULL : &pki.good);
		struct meeting m;
		char buf[5];

		SSL_CTX_set_max_proto_version(peer, i & 2 ? TLS1_2_VERSION : TLS1_3_VERSION);
		assert_int_equal(tlsfd_config_set_kernel(config, kernels[i / 4]), 0);
		meet_open(&m, config, server, peer, "localhost");
		m.early = "early";
		meet_shake(&m);
		assert_int_equal(m.err, 0);
		if (kernels[i / 4] == TLSFD_KERNEL_PREFER)
			assert_int_equal(tlsfd_kernel(m.c, TLSFD_RX), kernel_has_tls());
		assert_int_equal(tlsfd_read(m.c, buf, sizeof(buf)), sizeof(buf));
		assert_memory_equal(buf, "early", sizeof(buf));
		meet_talk(&m);
		meet_close(&m);
		SSL_CTX_free(peer);
		tlsfd_config_free(config);
	}
}

/* ---- who leaves as soon as the handshake is done ---- */

enum leaving { RESET, FIN, CLOSE_NOTIFY, LEAVINGS };

static void leave(struct meeting *m, enum leaving how)
{
	const struct linger reset = { how == RESET, 0 };

	if (how == CLOSE_NOTIFY)
		SSL_shutdown(m->peer);
	setsockopt(m->fd[1], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(m->fd[1]);
	m->fd[1] = -1;
}

/* A client that is gone before the server reads its Finished: a server's tickets of TLS 1.3
 * find nobody, and no repeating can write them (record-written). */
static void check_gone(enum leaving how, unsigned tickets)
{
	struct tlsfd_config *config = config_of(&pki.good);
	SSL_CTX *peer = peer_context(NULL);
	enum tlsfd_why why;
	struct meeting m;

	assert_int_equal(tlsfd_config_set_tickets(config, tickets), 0);
	meet_open(&m, config, true, peer, NULL);
	while (SSL_do_handshake(m.peer) != 1)
		assert_int_equal(tlsfd_handshake(m.c), -EAGAIN);
	leave(&m, how);
	assert_int_equal(tlsfd_handshake(m.c), 0);
	why = tlsfd_report_why(tlsfd_report(m.c), TLSFD_TX);
	if (tickets)
		assert_int_equal(why, TLSFD_WHY_NOT_ESTABLISHED);
	else
		assert_int_equal(why == TLSFD_WHY_NONE, kernel_has_tls());
	meet_close(&m);
	SSL_CTX_free(peer);
	tlsfd_config_free(config);
}

static void test_gone(void **state)
{
	(void)state;
	for (enum leaving how = 0; how < LEAVINGS; how++)
		for (unsigned tickets = 0; tickets <= 2; tickets += 2)
			check_gone(how, tickets);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_offer),
		cmocka_unit_test(test_asked_again),
		cmocka_unit_test(test_taken_no_longer),
		cmocka_unit_test(test_confined),
		cmocka_unit_test(test_once),
		cmocka_unit_test(test_refused_way),
		cmocka_unit_test(test_early_bytes),
		cmocka_unit_test(test_gone),
	};

	return meet_run(tests, LENGTH(tests), NULL, NULL);
}
