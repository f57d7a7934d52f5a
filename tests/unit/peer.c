/*
 * The log line of a connection.
 *
 * SPDX-License-Identifier: MIT
 */
#include "peer.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "suite.h"

/* What peer_log writes. */
static void logged(const struct peer *peer, const struct account *account, char text[2048])
{
	int log = memfd_create("log", MFD_CLOEXEC), old = dup(STDERR_FILENO);
	ssize_t n;

	dup2(log, STDERR_FILENO);
	peer_log(peer, NULL, account);
	dup2(old, STDERR_FILENO);
	n = pread(log, text, 2047, 0);
	assert_true(n > 0);
	text[n] = '\0';
	close(old);
	close(log);
}

/* A connection of another process can begin after the loop's clock was read, and end before
 * it is read again. */
static void test_duration(void **state)
{
	static const struct {
		uint64_t began, now;
		const char *field;
	} times[] = { { 1000, 1250, " ms=250 " },
		      { 1000, 1000, " ms=0 " },
		      { 1007, 1000, " ms=0 " } };
	char text[2048];

	(void)state;
	for (size_t i = 0; i < LENGTH(times); i++) {
		struct peer peer = { .began_ms = times[i].began };
		struct account account = { .end = "backend", .now_ms = times[i].now };

		logged(&peer, &account, text);
		assert_non_null(strstr(text, times[i].field));
	}
}

int main(int argc, char **argv)
{
	suite_add(test_duration, NULL, 0, "duration");
	return suite_run(argc, argv);
}
