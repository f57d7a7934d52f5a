/*
 * Certificates, keys, authorities and revocation lists of struct tlsfd_config, good and
 * bad, from files and from memory.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <sys/wait.h>
#include <signal.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "meet.h"

static char dir[] = "/tmp/tlsfd-config.XXXXXX";

static const char *path(const char *name)
{
	static char paths[4][128];
	static unsigned next;
	char *p = paths[next++ % 4];

	snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
	return p;
}

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(path(name), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int make_files(void **state)
{
	char *two;

	(void)state;
	assert_non_null(mkdtemp(dir));
	write_file("good.pem", pki.good.cert_pem);
	write_file("good.key", pki.good.key_pem);
	write_file("rsa.key", pki.rsa.key_pem);
	write_file("ca.pem", pki.ca.cert_pem);
	write_file("crl.pem", pki.crl_pem);
	write_file("empty", "");
	write_file("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	assert_true(asprintf(&two, "%s# line\n%s", pki.good.cert_pem,
			     "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n") > 0);
	write_file("second-bad.pem", two);
	free(two);
	write_file("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n"
				 "-----END ENCRYPTED PRIVATE KEY-----\n");
	return 0;
}

static int remove_files(void **state)
{
	static const char *const names[] = { "good.pem", "good.key", "rsa.key", "ca.pem",
					     "crl.pem",	 "empty",    "garbage", "second-bad.pem",
					     "locked.key" };

	(void)state;
	for (size_t i = 0; i < LENGTH(names); i++)
		unlink(path(names[i]));
	rmdir(dir);
	return 0;
}

static struct tlsfd_config *fresh(void)
{
	struct tlsfd_config *config;

	assert_int_equal(tlsfd_config_new(&config), 0);
	assert_null(tlsfd_config_error(config));
	return config;
}

/* ---- certificate, trust, revocation: files ---- */

enum file_setter { CERTIFICATE, CA, CRL };

static const struct file_case {
	enum file_setter setter;
	const char *first, *second;
	int want;
	const char *says;
} file_cases[] = {
	{ CERTIFICATE, "good.pem", "good.key", 0, NULL },
	{ CERTIFICATE, "absent", "good.key", -ENOENT, "absent: No such file" },
	{ CERTIFICATE, "good.pem", "absent", -ENOENT, "absent: No such file" },
	{ CERTIFICATE, "good.pem", "rsa.key", -EINVAL, "key is not the first certificate's" },
	{ CERTIFICATE, "good.pem", "good.pem", -EINVAL, "no private key" },
	{ CERTIFICATE, "good.key", "good.key", -EINVAL, "no certificate" },
	{ CERTIFICATE, "empty", "good.key", -EINVAL, "no certificate" },
	{ CERTIFICATE, "garbage", "good.key", -EINVAL, "garbage: line 1: " },
	{ CERTIFICATE, "second-bad.pem", "good.key", -EINVAL, "second-bad.pem: line " },
	{ CERTIFICATE, "good.pem", "locked.key", -EINVAL, "encrypted" },
	{ CERTIFICATE, ".", "good.key", -EISDIR, "Is a directory" },
	{ CERTIFICATE, NULL, "good.key", -EINVAL, "no file is named" },
	{ CERTIFICATE, "good.pem", NULL, -EINVAL, "no file is named" },
	{ CA, "ca.pem", NULL, 0, NULL },
	{ CA, "absent", NULL, -ENOENT, "absent: No such file" },
	{ CA, "empty", NULL, -EINVAL, "no certificate" },
	{ CA, "garbage", NULL, -EINVAL, "garbage: line 1: " },
	{ CA, "crl.pem", NULL, -EINVAL, "no certificate" },
	{ CRL, "crl.pem", NULL, 0, NULL },
	{ CRL, "absent", NULL, -ENOENT, "absent: No such file" },
	{ CRL, "ca.pem", NULL, -EINVAL, "no revocation list" },
};

static void test_files(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENGTH(file_cases); i++) {
		const struct file_case *f = &file_cases[i];
		struct tlsfd_config *config = fresh();
		const char *first = f->first ? path(f->first) : NULL;
		const char *second = f->second ? path(f->second) : NULL;
		int got = f->setter == CERTIFICATE ?
				  tlsfd_config_set_certificate_file(config, first, second) :
			  f->setter == CA ? tlsfd_config_set_ca_file(config, first) :
					    tlsfd_config_set_crl_file(config, first);

		if (got != f->want)
			fail_msg("case %zu: %d, want %d: %s", i, got, f->want,
				 tlsfd_config_error(config));
		if (f->says)
			assert_says(tlsfd_config_error(config), f->says);
		else
			assert_null(tlsfd_config_error(config));
		tlsfd_config_free(config);
	}
}

/* ---- pipes: a shell's <(command) ---- */

/* A child writes text in two parts, and ends or (its pid is told then) doesn't. */
static int pipe_with(const char *text, size_t n, pid_t *stays)
{
	int end[2];
	pid_t pid;

	assert_int_equal(pipe(end), 0);
	pid = fork();
	if (!pid) {
		(void)!write(end[1], text, n / 2);
		poll(NULL, 0, 20);
		(void)!write(end[1], text + n / 2, n - n / 2);
		if (stays)
			pause();
		_exit(0);
	}
	close(end[1]);
	if (stays)
		*stays = pid;
	return end[0];
}

static int set_from_pipes(struct tlsfd_config *config, const char *cert, size_t size)
{
	int chain = pipe_with(cert, size, NULL);
	int key = pipe_with(pki.good.key_pem, strlen(pki.good.key_pem), NULL);
	char chain_path[40], key_path[40];
	int got;

	snprintf(chain_path, sizeof(chain_path), "/proc/self/fd/%d", chain);
	snprintf(key_path, sizeof(key_path), "/proc/self/fd/%d", key);
	got = tlsfd_config_set_certificate_file(config, chain_path, key_path);
	close(chain);
	close(key);
	while (wait(NULL) > 0)
		;
	return got;
}

static void test_pipes(void **state)
{
	enum { TOO_BIG = (16 << 20) + 1 };
	struct tlsfd_config *config = fresh();
	char *big = calloc(1, TOO_BIG);

	(void)state;
	assert_non_null(big);
	assert_int_equal(set_from_pipes(config, pki.good.cert_pem, strlen(pki.good.cert_pem)), 0);
	assert_int_equal(set_from_pipes(config, "", 0), -EINVAL);
	assert_says(tlsfd_config_error(config), "no certificate");
	assert_int_equal(set_from_pipes(config, big, TOO_BIG), -EFBIG);
	tlsfd_config_free(config);
	free(big);
}

/* Somebody keeps it open and says no more. */
static void test_silent_pipe(void **state)
{
	struct tlsfd_config *config = fresh();
	pid_t pid;
	int fd = pipe_with(pki.ca.cert_pem, strlen(pki.ca.cert_pem), &pid);
	char name[40];

	(void)state;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	assert_int_equal(tlsfd_config_set_ca_file(config, name), -ETIMEDOUT);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fd);
	tlsfd_config_free(config);
}

/* ---- the same from memory ---- */

static int set_mem(struct tlsfd_config *config, enum file_setter setter, const char *a,
		   const char *b)
{
	size_t a_size = a ? strlen(a) : 0, b_size = b ? strlen(b) : 0;

	switch (setter) {
	case CERTIFICATE:
		return tlsfd_config_set_certificate_mem(config, a, a_size, b, b_size);
	case CA:
		return tlsfd_config_set_ca_mem(config, a, a_size);
	default:
		return tlsfd_config_set_crl_mem(config, a, a_size);
	}
}

static void test_memory(void **state)
{
	const struct mem_case {
		enum file_setter setter;
		const char *a, *b;
		int want;
	} cases[] = {
		{ CERTIFICATE, pki.good.cert_pem, pki.good.key_pem, 0 },
		{ CERTIFICATE, pki.good.cert_pem, pki.rsa.key_pem, -EINVAL },
		{ CERTIFICATE, "junk", pki.good.key_pem, -EINVAL },
		{ CERTIFICATE, pki.good.cert_pem, "junk", -EINVAL },
		{ CERTIFICATE, NULL, pki.good.key_pem, -EINVAL },
		{ CERTIFICATE, pki.good.cert_pem, NULL, -EINVAL },
		{ CA, pki.ca.cert_pem, NULL, 0 },
		{ CA, "junk", NULL, -EINVAL },
		{ CA, NULL, NULL, -EINVAL },
		{ CRL, pki.crl_pem, NULL, 0 },
		{ CRL, "junk", NULL, -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		struct tlsfd_config *config = fresh();
		int got = set_mem(config, cases[i].setter, cases[i].a, cases[i].b);

		if (got != cases[i].want)
			fail_msg("case %zu: %d, want %d", i, got, cases[i].want);
		assert_int_equal(!tlsfd_config_error(config), !got);
		tlsfd_config_free(config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_pipes),
		cmocka_unit_test(test_silent_pipe),
		cmocka_unit_test(test_memory),
	};

	return meet_run(tests, LENGTH(tests), make_files, remove_files);
}
