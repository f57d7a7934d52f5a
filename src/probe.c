/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1 /* accept4 */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "sys.h"

enum {
	CONNECT_MS = 1000,  /* a firewall that drops loopback must not hang us */
	PAYLOAD_TRIED = 4096,
};

/* ---- the pair ---- */

static int tcp_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

static int listen_on_loopback(int fd, struct sockaddr_in *addr)
{
	socklen_t len = sizeof(*addr);

	*addr = (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	if (bind(fd, (struct sockaddr *)addr, len) < 0 || listen(fd, 1) < 0 ||
	    getsockname(fd, (struct sockaddr *)addr, &len) < 0)
		return -errno;
	return 0;
}

static int wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	int n;

	do
		n = poll(&p, 1, CONNECT_MS);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n ? 0 : -ETIMEDOUT;
}

static int connect_to(int fd, const struct sockaddr_in *addr)
{
	int err, pending = 0;
	socklen_t len = sizeof(pending);

	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	err = wait_for(fd, POLLOUT);
	if (!err)
		err = sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &pending, &len);
	return err ? err : -pending;
}

/* Anyone on the machine can connect to the port: take our own end only. */
static int accept_from(int listener, int peer)
{
	struct sockaddr_in want = { 0 }, got = { 0 };
	socklen_t want_len = sizeof(want), got_len = sizeof(got);
	int err = wait_for(listener, POLLIN);
	int fd;

	if (err)
		return err;
	fd = accept4(listener, (struct sockaddr *)&got, &got_len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (getsockname(peer, (struct sockaddr *)&want, &want_len) < 0)
		err = -errno;
	else if (want.sin_port != got.sin_port || want.sin_addr.s_addr != got.sin_addr.s_addr)
		err = -ECONNABORTED;
	if (!err)
		return fd;
	close(fd);
	return err;
}

static int connect_pair(int listener, int fd[2])
{
	struct sockaddr_in addr;
	int err = listen_on_loopback(listener, &addr);

	if (err)
		return err;
	fd[0] = tcp_socket();
	if (fd[0] < 0)
		return fd[0];
	err = connect_to(fd[0], &addr);
	if (!err) {
		fd[1] = accept_from(listener, fd[0]);
		if (fd[1] >= 0)
			return 0;
		err = fd[1];
	}
	close(fd[0]);
	return err;
}

int probe_pair(int fd[2])
{
	int listener = tcp_socket();
	int err;

	if (listener < 0)
		return listener;
	err = connect_pair(listener, fd);
	close(listener);
	return err;
}

static void close_pair(const int fd[2])
{
	close(fd[0]);
	close(fd[1]);
}

/* ---- the questions ---- */

static int attach_ulp(int fd)
{
	return sys_setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls"));
}

static int set_keys(int fd, int direction, const struct cipher *cipher, uint16_t version,
		    uint8_t filler)
{
	uint8_t bytes[CIPHER_KEY_MAX];
	struct crypto_info info;

	memset(bytes, filler, sizeof(bytes));
	cipher_pack(cipher, version, bytes, bytes, bytes, 0, &info);
	return sys_setsockopt(fd, SOL_TLS, direction, &info, info.size);
}

/* The first cipher of the table is the one that every kernel with TLS has. */
static int set_common_keys(int fd, int direction, uint8_t filler)
{
	return set_keys(fd, direction, &ciphers[0], TLS_1_3_VERSION, filler);
}

static int ask_rekey(int fd)
{
	return set_common_keys(fd, TLS_TX, 2);
}

static int ask_zerocopy_sendfile(int fd)
{
	return sys_setsockopt(fd, SOL_TLS, TLS_TX_ZEROCOPY_RO, &(unsigned){ 1 }, sizeof(unsigned));
}

static int ask_no_pad(int fd)
{
	return sys_setsockopt(fd, SOL_TLS, TLS_RX_EXPECT_NO_PAD, &(unsigned){ 1 },
			      sizeof(unsigned));
}

static int ask_max_payload(int fd)
{
	return sys_setsockopt(fd, SOL_TLS, TLS_TX_MAX_PAYLOAD_LEN, &(uint16_t){ PAYLOAD_TRIED },
			      sizeof(uint16_t));
}

enum { NEEDS_ULP = 1, NEEDS_TX = 2, NEEDS_RX = 4, MAX_NO = 4 };

/* `no`: the errnos that are an answer; any other leaves the question open. */
static const struct probe {
	const char *name;
	unsigned needs;
	int (*ask)(int fd);
	int no[MAX_NO];
} probes[N_PROBES] = {
	[PROBE_ULP] = { "ulp", 0, attach_ulp, { ENOENT, ENOPROTOOPT, EPERM, EACCES } },
	[PROBE_REKEY] = { "rekey", NEEDS_ULP | NEEDS_TX, ask_rekey, { EBUSY } },
	[PROBE_ZEROCOPY_SENDFILE] = { "zerocopy_sendfile", NEEDS_ULP | NEEDS_TX,
				      ask_zerocopy_sendfile, { ENOPROTOOPT } },
	[PROBE_NO_PAD] = { "no_pad", NEEDS_ULP | NEEDS_RX, ask_no_pad, { ENOPROTOOPT } },
	[PROBE_MAX_PAYLOAD] = { "max_payload", NEEDS_ULP, ask_max_payload, { ENOPROTOOPT } },
};

const char *probe_name(enum probe_id id)
{
	return probes[id].name;
}

static int meet(int fd, unsigned needs)
{
	int err = 0;

	if (needs & NEEDS_ULP)
		err = attach_ulp(fd);
	if (!err && (needs & NEEDS_TX))
		err = set_common_keys(fd, TLS_TX, 1);
	if (!err && (needs & NEEDS_RX))
		err = set_common_keys(fd, TLS_RX, 1);
	return err;
}

static struct probe_answer unknown(int error)
{
	return (struct probe_answer){ PROBE_UNKNOWN, error };
}

static struct probe_answer answer(int error, const int no[MAX_NO])
{
	if (!error)
		return (struct probe_answer){ PROBE_YES, 0 };
	for (int i = 0; i < MAX_NO; i++)
		if (no[i] == -error)
			return (struct probe_answer){ PROBE_NO, error };
	return unknown(error);
}

struct probe_answer probe_kernel(enum probe_id id)
{
	const struct probe *probe = &probes[id];
	struct probe_answer got;
	int fd[2];
	int err = probe_pair(fd);

	if (err)
		return unknown(err);
	err = meet(fd[0], probe->needs);
	got = err ? unknown(err) : answer(probe->ask(fd[0]), probe->no);
	close_pair(fd);
	return got;
}

struct probe_answer probe_cipher(const struct cipher *cipher, uint16_t version)
{
	static const int no[MAX_NO] = { EINVAL, ENOENT };
	struct probe_answer got;
	int fd[2];
	int err = probe_pair(fd);

	if (err)
		return unknown(err);
	err = attach_ulp(fd[0]);
	if (err) {
		got = unknown(err);
	} else {
		err = set_keys(fd[0], TLS_RX, cipher, version, 1);
		if (!err)
			err = set_keys(fd[0], TLS_TX, cipher, version, 1);
		got = answer(err, no);
	}
	close_pair(fd);
	return got;
}
