/* SPDX-License-Identifier: MIT */
#include "counts.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const char *const counted_ends[COUNTED_ENDS] = {
	"closed", "truncated", "alert",	  "reset",     "bad-record", "backend-reset",
	"idle",	  "stopped",   "backend", "handshake", "error",
};

enum {
	NUMBERS = sizeof(struct counts) / sizeof(counter),
	GROWING = offsetof(struct counts, connections) / sizeof(counter),
	MOST_LOOKS = 1000,
};

static struct counts nowhere;
static struct counts *mine = &nowhere;

/* ---- a process's own ---- */

static void add(counter *to, uint64_t n)
{
	atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}

static void set(counter *to, uint64_t n)
{
	atomic_store_explicit(to, n, memory_order_relaxed);
}

static uint64_t get(const counter *from)
{
	return atomic_load_explicit(from, memory_order_relaxed);
}

int counts_use(int fd, unsigned page)
{
	void *own = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			 (off_t)page * PAGE_BYTES);
	int err = own == MAP_FAILED ? -errno : 0;

	close(fd);
	if (!err)
		mine = own;
	return err;
}

void count_handshake(const struct tlsfd *c)
{
	bool tx = tlsfd_kernel(c, TLSFD_TX), rx = tlsfd_kernel(c, TLSFD_RX);
	enum tlsfd_why why = why_of(c);

	add(&mine->handshakes[tx][rx], 1);
	if ((!tx || !rx) && (unsigned)why < COUNTED_WHYS)
		add(&mine->why[why], 1);
}

static unsigned end_number(const char *end)
{
	unsigned i = 0;

	while (i < COUNTED_ENDS - 1 && strcmp(counted_ends[i], end) != 0)
		i++;
	return i;
}

void count_end(const struct peer *peer, const struct tlsfd *c, const struct account *account)
{
	add(&mine->ended[end_number(account->end)], 1);
	add(&mine->in, account->in);
	add(&mine->out, account->out);
	peer_log(peer, c, account);
}

void count_connections(unsigned now)
{
	set(&mine->connections, now);
}

void count_connecting(unsigned now)
{
	set(&mine->connecting, now);
}

void count_replaced(enum role role)
{
	if (role < ROLES)
		add(&mine->replaced[role], 1);
}

void count_reload(bool done)
{
	add(&mine->reloads[done], 1);
}

uint64_t counted_before(void)
{
	return get(&mine->before);
}

/* ---- all of them ---- */

/* The master's page. */
struct head {
	struct counts counts;
	_Atomic uint32_t pages;	 /* that were ever used: the others are holes */
	_Atomic uint32_t moving; /* odd while a page is added to this one */
};

_Static_assert(sizeof(struct head) <= PAGE_BYTES, "one page");

static struct counts *page_of(const struct counts *first, unsigned page)
{
	return (struct counts *)(void *)((char *)first + (size_t)page * PAGE_BYTES);
}

static struct head *head_of(const struct counts *first)
{
	return (struct head *)(void *)first;
}

/* A process must not be able to make it shorter under the others. */
static int make(void)
{
	int err, fd = memfd_create("counts", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)PAGES * PAGE_BYTES) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int ledger_open(struct ledger *l)
{
	void *all;
	int err;

	l->fd = make();
	if (l->fd < 0)
		return l->fd;
	all = mmap(NULL, (size_t)PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd, 0);
	if (all == MAP_FAILED) {
		err = -errno;
		close(l->fd);
		l->fd = -1;
		return err;
	}
	l->first = mine = all;
	l->used[0] = true;
	atomic_store(&head_of(l->first)->pages, 1);
	return 0;
}

void ledger_close(struct ledger *l)
{
	if (l->fd < 0)
		return;
	mine = &nowhere;
	munmap(l->first, (size_t)PAGES * PAGE_BYTES);
	close(l->fd);
	l->fd = -1;
}

int ledger_leave(struct ledger *l, unsigned page)
{
	if (l->fd < 0)
		return 0;
	munmap(l->first, (size_t)PAGES * PAGE_BYTES);
	mine = &nowhere;
	if (page)
		return counts_use(l->fd, page);
	close(l->fd);
	return 0;
}

unsigned ledger_take(struct ledger *l)
{
	unsigned page = 1;

	if (l->fd < 0)
		return 0;
	while (page < PAGES && l->used[page])
		page++;
	if (page == PAGES)
		return 0;
	l->used[page] = true;
	if (atomic_load(&head_of(l->first)->pages) <= page)
		atomic_store(&head_of(l->first)->pages, page + 1);
	return page;
}

uint32_t ledger_connections(const struct ledger *l, unsigned page)
{
	return page ? (uint32_t)get(&page_of(l->first, page)->connections) : 0;
}

void ledger_tell_before(struct ledger *l, unsigned page, uint64_t connections)
{
	if (page)
		set(&page_of(l->first, page)->before, connections);
}

void ledger_settle(struct ledger *l, unsigned page)
{
	struct head *head;
	counter *to, *from;

	if (l->fd < 0 || !page)
		return;
	head = head_of(l->first);
	to = (counter *)l->first;
	from = (counter *)page_of(l->first, page);
	atomic_fetch_add(&head->moving, 1);
	for (size_t i = 0; i < GROWING; i++)
		add(&to[i], get(&from[i]));
	for (size_t i = 0; i < NUMBERS; i++)
		set(&from[i], 0);
	atomic_fetch_add(&head->moving, 1);
	l->used[page] = false;
}

/* Private, or mprotect(2) could make it writable. What others write is seen all the same:
 * only a page that this process wrote would be a copy (mm/memory.c: do_read_fault). */
const struct counts *ledger_read(int fd)
{
	void *all = mmap(NULL, (size_t)PAGES * PAGE_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);

	close(fd);
	return all == MAP_FAILED ? NULL : all;
}

static void sum_once(const struct counts *first, struct counts *sum)
{
	unsigned pages = atomic_load(&head_of(first)->pages);
	counter *to = (counter *)sum;

	memset(sum, 0, sizeof(*sum));
	for (unsigned page = 0; page < pages && page < PAGES; page++) {
		const counter *from = (const counter *)page_of(first, page);

		for (size_t i = 0; i < NUMBERS; i++)
			add(&to[i], get(&from[i]));
	}
}

/* A master that died in between must not keep the reader for ever. */
void ledger_sum(const struct counts *first, struct counts *sum)
{
	const struct head *head = head_of(first);
	uint32_t before = 0, after = 1;

	for (int i = 0; i < MOST_LOOKS && (before != after || before % 2); i++) {
		before = atomic_load(&head->moving);
		sum_once(first, sum);
		after = atomic_load(&head->moving);
	}
}
