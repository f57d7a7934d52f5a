/*
 * On a kernel without TLS (lab/run --no-tls): said at once, with the remedy that
 * fits who asks; user space goes on. On other kernels there is nothing to test.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ktls.h"
#include "refused.h"
#include "suite.h"
#include "sys.h"

enum { NOBODY = 65534 };

static void assert_absent(struct link *l, enum tlsfd_why why)
{
	assert_refused_as(l->us.ssl, &(struct refusal_expected){ -ENOENT,
								  { why, ENOENT },
								  { why, ENOENT } });
}

static void as_root(void **state)
{
	struct link *l;

	if (geteuid() != 0)
		skip_because("not root");
	l = link_made(*state);
	assert_absent(l, TLSFD_WHY_NO_TLS);
	assert_goes_on(l);
	link_free(l);
}

static void as_nobody(void **state)
{
	struct link *l;

	if (geteuid() == 0) {
		assert_int_equal(setegid(NOBODY), 0);
		assert_int_equal(seteuid(NOBODY), 0); /* drops the effective capabilities */
	}
	l = link_made(*state);
	assert_absent(l, TLSFD_WHY_MODULE);
	assert_goes_on(l);
	link_free(l);
	if (getuid() == 0) {
		assert_int_equal(seteuid(0), 0);
		assert_int_equal(setegid(0), 0);
	}
}

static bool contains(const char *text, const char *what)
{
	return text && strstr(text, what);
}

static void remedy_names_modprobe(void **state)
{
	struct link *l = link_made(*state);
	struct tlsfd_report *r;

	assert_int_equal(tlsfd_handover(l->us.ssl, NULL, &r), -ENOENT);
	assert_true(contains(tlsfd_report_remedy(r), "modprobe tls"));
	tlsfd_report_free(r);
	link_free(l);
}

/* The kernel runs modprobe for each try of root's: a server must not pay for it with
 * every connection. */
static void many_connections_in_a_moment(void **state)
{
	struct variant v = *(const struct variant *)*state;
	struct timespec a, b;

	v.ktls = false; /* OpenSSL's own tries run modprobe each time */
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < 100; i++) {
		struct link *l = link_made(&v);

		link_free(l);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("# 100 connections: %ld ms\n",
	       (long)(b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
	assert_true(b.tv_sec - a.tv_sec <= 10);
}

static bool kernel_has_tls(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has;

	if (bind(listener, (struct sockaddr *)&a, len) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&a, &len) ||
	    connect(fd, (struct sockaddr *)&a, len))
		return false;
	has = setsockopt(fd, SOL_TCP, TCP_ULP, "tls", 3) == 0;
	close(fd);
	close(listener);
	return has;
}

/* ---- a kernel with TLS whose crypto lacks an algorithm (modprobe refuses it) ---- */

static void no_algorithm(void **state)
{
	struct link *l = link_made(*state);

	assert_refused_as(l->us.ssl, &(struct refusal_expected){
					     -ENOENT,
					     { TLSFD_WHY_ALGORITHM, ENOENT },
					     { TLSFD_WHY_OTHER_DIRECTION, 0 } });
	assert_goes_on(l);
	link_free(l);
}

static bool crypto_has(const char *algorithm)
{
	char line[256], name[64];
	FILE *f = fopen("/proc/crypto", "re");
	bool found = false;

	while (f && fgets(line, sizeof(line), f))
		found |= sscanf(line, "name : %63s", name) == 1 && strcmp(name, algorithm) == 0;
	if (f)
		fclose(f);
	return found;
}

/* modprobe may not load it: the lab's guest was told so (without-algorithms). */
static bool add_missing_algorithms(void)
{
	static const struct {
		const char *algorithm;
		struct variant v;
	} rows[] = {
		{ "rfc7539(chacha20,poly1305)",
		  { .version = TLS1_3_VERSION, .suite = "TLS_CHACHA20_POLY1305_SHA256" } },
		{ "rfc7539(chacha20,poly1305)",
		  { .version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-CHACHA20-POLY1305",
		    .server = true } },
		{ "ccm(aes)", { .version = TLS1_3_VERSION, .suite = "TLS_AES_128_CCM_SHA256" } },
	};

	bool any = false;

	if (access("/etc/modprobe.d/tlsfd-test.conf", F_OK) < 0)
		return false;
	for (size_t i = 0; i < LENGTH(rows); i++) {
		if (crypto_has(rows[i].algorithm))
			continue;
		suite_add(no_algorithm, &rows[i].v, sizeof(rows[i].v), "no %s: algorithm, %s",
			  rows[i].algorithm, rows[i].v.suite);
		any = true;
	}
	return any;
}

static void not_this_kernel(void **state)
{
	(void)state;
	skip_because("this kernel has TLS: run under lab/run --no-tls");
}

int main(int argc, char **argv)
{
	static const struct variant variants[] = {
		TLS13,
		{ .version = TLS1_3_VERSION, .suite = "TLS_AES_256_GCM_SHA384", .server = true,
		  .ktls = true },
		TLS12,
		{ .version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-CHACHA20-POLY1305", .server = true,
		  .ktls = true },
	};
	static const struct {
		const char *name;
		CMUnitTestFunction test;
	} tests[] = {
		{ "root: no-tls", as_root },
		{ "nobody: module", as_nobody },
		{ "the remedy names modprobe", remedy_names_modprobe },
		{ "100 connections in a moment", many_connections_in_a_moment },
	};

	if (kernel_has_tls()) {
		if (!add_missing_algorithms())
			suite_add(not_this_kernel, NULL, 0, "a kernel without TLS");
		return suite_run(argc, argv);
	}
	for (size_t i = 0; i < LENGTH(tests); i++)
		for (size_t k = 0; k < LENGTH(variants); k++)
			suite_add(tests[i].test, &variants[k], sizeof(variants[k]), "%s, %s",
				  tests[i].name, variants[k].suite);
	return suite_run(argc, argv);
}
