/* SPDX-License-Identifier: MIT */
#include "data.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cmd.h"
#include "logfmt.h"
#include "counts.h"
#include "mover.h"
#include "roles/image.h"
#include "teams.h"

enum {
	PLAN_FD = IMAGE_FIRST_FD,
	CHANNEL_FD,
	COUNTS_FD,
	ROOT_FD,
	BEGIN_FD,
	TURN_TAKES = 16, /* before others have their turn */
	RETRY_MS = 20,
	TELL_MS = 10, /* the other process need not wake for each connection */
};

struct data {
	struct data_plan plan;
	struct role_run run;
	struct source channel;
	struct timer more; /* look into the channel again */
	struct timer tell;
	struct mover mover;
	struct passed passed;
	uint32_t seen;
	bool last_calls; /* nobody sends any more */
	bool draining;
};

/* ---- the plan: bytes from one process to another of the same program ---- */

struct forward {
	struct sockaddr_storage address;
	socklen_t size;
	char text[512];
};

static int write_all(int fd, const void *bytes, size_t n)
{
	ssize_t put = write(fd, bytes, n);

	return put == (ssize_t)n ? 0 : put < 0 ? -errno : -ENOSPC;
}

static int write_plan(int fd, const struct data_plan *plan, const struct backends *backends)
{
	int err = write_all(fd, plan, sizeof(*plan));

	for (size_t i = 0; i < backends->count && !err; i++) {
		struct forward t = { backends->at[i].address, backends->at[i].size, "" };

		strncpy(t.text, backends->at[i].text, sizeof(t.text) - 1);
		err = write_all(fd, &t, sizeof(t));
	}
	return err;
}

int data_plan_write(const struct data_plan *plan, const struct backends *backends)
{
	int err, fd = memfd_create("plan", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	err = write_plan(fd, plan, backends);
	if (!err)
		return fd;
	close(fd);
	return err;
}

static int read_backends(struct backends *b)
{
	off_t at = sizeof(struct data_plan);
	struct forward t;
	int err = 0;

	for (; !err && pread(PLAN_FD, &t, sizeof(t), at) == sizeof(t); at += (off_t)sizeof(t))
		err = backends_add(b, t.text, &t.address, t.size);
	return err ? err : b->count ? 0 : -EPROTO;
}

static int read_plan(struct data *d)
{
	/* gcc 12 takes the first member's size for pread's room */
	const struct iovec plan = { &d->plan, sizeof(d->plan) };
	struct confinement *c = &d->plan.role.confinement;
	int err;

	if (preadv(PLAN_FD, &plan, 1, 0) != sizeof(d->plan))
		return -EPROTO;
	if (c->root >= 0)
		c->root = ROOT_FD;
	err = read_backends(&d->mover.backends);
	close(PLAN_FD);
	if (err)
		return err;
	c->ports = backends_ports(&d->mover.backends, &c->n_ports);
	return c->ports ? 0 : -ENOMEM;
}

/* ---- the start, in the master's child ---- */

int data_exec(int image, int plan, int root, int channel, int counts, unsigned page, int begin)
{
	const int fds[IMAGE_FDS] = { plan, channel, page ? counts : -1, root, begin };

	return image_exec(image, "data-process", page, fds);
}

/* ---- the end ---- */

static void weigh(struct data *d)
{
	if (d->draining && !d->mover.count)
		loop_stop(&d->run.loop);
}

static void no_more(struct data *d)
{
	if (d->draining)
		return;
	d->draining = true;
	loop_remove(&d->run.loop, &d->channel);
	loop_cancel(&d->run.loop, &d->more);
	weigh(d);
}

/* ---- what comes, and what is told ---- */

static void tell_soon(struct data *d)
{
	if (!d->tell.place)
		loop_at(&d->run.loop, &d->tell, d->run.loop.now_ms + TELL_MS);
}

static void on_tell(struct timer *timer)
{
	struct data *d = owner_of(timer, struct data, tell);
	struct tally tally = { d->seen, d->mover.count };

	if (channel_tell(d->channel.fd, &tally) == -EAGAIN)
		loop_at(&d->run.loop, &d->tell, d->run.loop.now_ms + RETRY_MS);
}

static int take_one(struct data *d)
{
	struct tlsfd *c;
	int err = channel_take(d->channel.fd, &c, &d->passed);

	if (err)
		return err;
	if (d->passed.number)
		d->seen = d->passed.number;
	d->passed.number = 0;
	mover_take(&d->mover, c, &d->passed.peer);
	tell_soon(d);
	return 0;
}

/* This one is lost; those behind it are not. */
static bool is_lost(int err)
{
	return err == -EALREADY || err == -EPROTONOSUPPORT || err == -ESTALE || err == -EPROTO;
}

static void take(struct data *d)
{
	int err = 0;

	for (int i = 0; i < TURN_TAKES && !err; i++) {
		err = take_one(d);
		if (is_lost(err)) {
			log_error("data", "a connection was lost on its way: %s", strerror(-err));
			err = 0;
		}
	}
	if (err == -EPIPE || err == -ECONNRESET || (err == -EAGAIN && d->last_calls))
		no_more(d);
	else if (err != -EAGAIN) /* its turn is over, or it lacks file descriptors or memory */
		loop_at(&d->run.loop, &d->more, d->run.loop.now_ms + (err ? RETRY_MS : 0));
}

static void on_channel(struct source *source, uint32_t events)
{
	(void)events;
	take(owner_of(source, struct data, channel));
}

static void on_more(struct timer *timer)
{
	take(owner_of(timer, struct data, more));
}

static void on_left(void *arg)
{
	struct data *d = arg;

	if (!d->draining)
		tell_soon(d);
	weigh(d);
}

/* ---- signals ---- */

static void drain(void *arg)
{
	struct data *d = arg;

	d->last_calls = true;
	if (!d->draining)
		take(d);
}

static void term(void *arg)
{
	(void)arg;
}

static void stop(void *arg)
{
	struct data *d = arg;

	mover_stop(&d->mover);
}

/* ---- the process ---- */

static void set_up(struct data *d)
{
	d->run.plan = &d->plan.role;
	d->run.drain = drain;
	d->run.term = term;
	d->run.stop = stop;
	d->run.arg = d;
	d->channel = (struct source){ CHANNEL_FD, on_channel };
	d->more.due = on_more;
	d->tell.due = on_tell;
	d->mover.relays.loop = &d->run.loop;
	d->mover.relays.idle_ms = d->plan.idle_ms;
	d->mover.left = on_left;
	d->mover.arg = d;
}

static int start(struct data *d, unsigned page)
{
	int err = image_own();

	snprintf(d->run.step, sizeof(d->run.step), "plan");
	if (!err && page)
		err = counts_use(COUNTS_FD, page);
	if (!err)
		err = read_plan(d);
	if (err)
		return err;
	set_up(d);
	err = role_start(&d->run);
	if (!err)
		err = loop_add(&d->run.loop, &d->channel, EPOLLIN | EPOLLET);
	return err;
}

static int run(struct data *d, unsigned page)
{
	int err = start(d, page);

	if (err) {
		teams_say_failed(BEGIN_FD, d->run.step, err);
		return err;
	}
	err = teams_say_begun(BEGIN_FD);
	if (!err) {
		tell_soon(d);
		err = loop_run(&d->run.loop);
	}
	if (err)
		log_error("data", "%s", strerror(-err));
	return err;
}

int data_process(int argc, char **argv)
{
	struct data *d = calloc(1, sizeof(*d));
	int err = -ENOMEM;

	prctl(PR_SET_NAME, "tlsfd-data");
	if (d)
		err = run(d, argc > 1 ? (unsigned)atoi(argv[1]) : 0);
	else
		teams_say_failed(BEGIN_FD, "memory", err);
	log_finish();
	_exit(err ? EXIT_FAILED : EXIT_OK);
}
