/*
 * The ledger: what each process counts is in the sum, also when it has died, and its reader
 * changes nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve/counts.h"
#include "suite.h"

static uint64_t sum_of(const struct counts *first, size_t at)
{
	struct counts sum;

	ledger_sum(first, &sum);
	return *(const counter *)(const void *)((const char *)&sum + at);
}

#define sum(first, what) sum_of(first, offsetof(struct counts, what))

/* Counts in a page of its own, and dies. */
static void live(struct ledger *ledger, unsigned page, unsigned connections)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (ledger_leave(ledger, page))
			_exit(1);
		count_connections(connections);
		count_reload(true);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_sum(void **state)
{
	struct ledger ledger = { .fd = -1 };
	const struct counts *seen;
	unsigned first, second;

	(void)state;
	assert_int_equal(ledger_open(&ledger), 0);
	seen = ledger_read(dup(ledger.fd));
	assert_non_null(seen);
	first = ledger_take(&ledger);
	second = ledger_take(&ledger);
	assert_true(first && second && first != second);
	assert_int_equal(sum(seen, connections), 0); /* all pages have been looked at */
	live(&ledger, first, 3);
	live(&ledger, second, 4);
	assert_int_equal(sum(seen, connections), 7);
	assert_int_equal(sum(seen, reloads[1]), 2);
	assert_int_equal(ledger_connections(&ledger, second), 4);
	ledger_settle(&ledger, first);
	assert_int_equal(sum(seen, connections), 4);
	assert_int_equal(sum(seen, reloads[1]), 2);
	assert_int_equal(ledger_take(&ledger), first);
	live(&ledger, first, 5);
	assert_int_equal(sum(seen, connections), 9);
	assert_int_equal(munmap((void *)seen, (size_t)PAGES * PAGE_BYTES), 0);
	ledger_close(&ledger);
}

static void test_reader(void **state)
{
	struct ledger ledger = { .fd = -1 };
	struct counts *seen;

	(void)state;
	assert_int_equal(ledger_open(&ledger), 0);
	count_reload(true);
	seen = (struct counts *)ledger_read(dup(ledger.fd));
	assert_int_equal(sum(seen, reloads[1]), 1);
	if (mprotect(seen, PAGE_BYTES, PROT_READ | PROT_WRITE) == 0)
		atomic_store(&seen->reloads[1], 1000);
	assert_int_equal(sum(ledger.first, reloads[1]), 1);
	assert_int_equal(munmap(seen, (size_t)PAGES * PAGE_BYTES), 0);
	ledger_close(&ledger);
}

int main(int argc, char **argv)
{
	suite_add(test_sum, NULL, 0, "the sum of all pages");
	suite_add(test_reader, NULL, 0, "the reader changes nothing");
	return suite_run(argc, argv);
}
