/*
 * What the peer sent before the handover and nobody has read: it waits in the socket
 * when the keys are installed, and nothing of it may be lost.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"
#include "suite.h"

/* Connections in which the peer speaks last, or can speak before we go on. */
static const struct {
	const char *name;
	struct variant v;
} speakers[] = {
	{ "TLSv1.3/server", { .version = TLS1_3_VERSION, .server = true, .tickets = 2 } },
	{ "TLSv1.3/server/ktls-on", { .version = TLS1_3_VERSION, .server = true, .ktls = true } },
	{ "TLSv1.3/server/chacha",
	  { .version = TLS1_3_VERSION, .server = true, .suite = "TLS_CHACHA20_POLY1305_SHA256" } },
	{ "TLSv1.3/server/resumed",
	  { .version = TLS1_3_VERSION, .server = true, .tickets = 1, .resume = RESUME_TICKET } },
	{ "TLSv1.3/client", { .version = TLS1_3_VERSION } },
	{ "TLSv1.3/client/tickets", { .version = TLS1_3_VERSION, .tickets = 2 } },
	{ "TLSv1.2/client",
	  { .version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-AES256-GCM-SHA384" } },
	{ "TLSv1.2/client/ktls-on",
	  { .version = TLS1_2_VERSION, .ktls = true, .suite = "ECDHE-ECDSA-AES128-GCM-SHA256" } },
	{ "TLSv1.2/client/BIO_s_connect",
	  { .version = TLS1_2_VERSION,
	    .suite = "ECDHE-ECDSA-AES128-GCM-SHA256",
	    .bio_connect = true } },
	{ "TLSv1.2/client/ccm", { .version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-AES128-CCM" } },
	{ "TLSv1.2/server/resumed",
	  { .version = TLS1_2_VERSION,
	    .server = true,
	    .resume = RESUME_TICKET,
	    .suite = "ECDHE-ECDSA-CHACHA20-POLY1305" } },
};

struct queue {
	struct variant v;
	size_t before, size; /* bytes of data: whole records, then (test_cut) the one cut */
	int cut;	     /* bytes of that record sent before the handover; < 0: from its end */
};

static const struct queue *queue; /* of the test that runs */

static void expect(const char *what_went_wrong)
{
	if (what_went_wrong)
		fail_msg("%s", what_went_wrong);
}

static void peer_sends(struct link *l, size_t n)
{
	expect(run_flows(&(struct flow){ .end = &l->peer, .out = true, .left = n }, 1));
}

static void we_read(struct link *l, size_t n)
{
	expect(run_flows(&(struct flow){ .end = &l->us, .left = n }, 1));
}

static void queue_data(struct link *l)
{
	peer_sends(l, queue->size);
}

/* Bytes in TCP's queue; poll(2) would not tell of a part of a record where OpenSSL
 * has given the kernel its keys. */
static bool queued(int fd)
{
	int n = 0;

	assert_int_equal(ioctl(fd, SIOCINQ, &n), 0);
	return n > 0;
}

static void hand_over_with_queue(struct link *l)
{
	for (int ms = 0; !queued(l->us.fd); ms++) {
		assert_true(ms < PATIENCE_MS);
		poll(NULL, 0, 1);
	}
	hand_over_and_leave(l);
}

static void end_well(struct link *l)
{
	move(l, 20000, 30000);
	link_free(l);
}

/* ---- whole records ---- */

static void test_whole(void **state)
{
	struct link *l;

	queue = *state;
	l = link_new(&queue->v);
	link_connect_then(l, queue_data);
	hand_over_with_queue(l);
	we_read(l, queue->size);
	end_well(l);
}

/* ---- more than the socket holds, while it arrives ---- */

static pthread_t sender;

static void *send_much(void *arg)
{
	struct link *l = arg;

	return (void *)run_flows(
		&(struct flow){ .end = &l->peer, .out = true, .left = queue->size }, 1);
}

static void start_sender(struct link *l)
{
	assert_int_equal(pthread_create(&sender, NULL, send_much, l), 0);
}

static void test_much(void **state)
{
	struct link *l;
	void *what_went_wrong;

	queue = *state;
	l = link_new(&queue->v);
	link_connect_then(l, start_sender);
	hand_over_with_queue(l);
	we_read(l, queue->size);
	pthread_join(sender, &what_went_wrong);
	expect(what_went_wrong ? "the sender failed" : NULL);
	end_well(l);
}

/* ---- a part of a record ---- */

static void queue_part(struct link *l)
{
	struct wire *w = l->peer.wire;
	size_t record;

	peer_sends(l, queue->before);
	w->allowed = 0;
	peer_sends(l, queue->size);
	record = BIO_pending(w->out);
	w->allowed = queue->cut < 0 ? record - (size_t)-queue->cut : (size_t)queue->cut;
	wire_carry(&l->peer);
	assert_int_equal(w->allowed, 0);
}

static void test_cut(void **state)
{
	struct link *l;

	queue = *state;
	l = link_new(&queue->v);
	link_connect_then(l, queue_part);
	hand_over_with_queue(l);
	we_read(l, queue->before);
	l->peer.wire->allowed = SIZE_MAX;
	wire_carry(&l->peer);
	we_read(l, queue->size);
	end_well(l);
}

/* ---- the peer's end as well ---- */

static void queue_end(struct link *l)
{
	peer_sends(l, queue->size);
	assert_int_equal(SSL_shutdown(l->peer.ssl), 0);
	assert_int_equal(shutdown(l->peer.fd, SHUT_WR), 0);
}

/* The peer has ended its direction only. */
static void we_still_send(struct link *l)
{
	struct flow flows[2] = { { .end = &l->us, .out = true, .left = 30000 },
				 { .end = &l->peer, .left = 30000 } };

	expect(run_flows(flows, 2));
}

static void test_end(void **state)
{
	struct link *l;
	char byte;

	queue = *state;
	l = link_new(&queue->v);
	link_connect_then(l, queue_end);
	wait_for(l->us.fd, POLLRDHUP);
	hand_over(l, VIA_CONN);
	leave_openssl(l);
	we_read(l, queue->size);
	assert_int_equal(tlsfd_read(l->us.conn, &byte, 1), 0);
	assert_int_equal(tlsfd_read(l->us.conn, &byte, 1), 0);
	assert_int_equal(tlsfd_alert(l->us.conn), -1);
	we_still_send(l);
	link_free(l);
}

static void test_end_bare(void **state)
{
	struct link *l;
	char byte;

	queue = *state;
	l = link_new(&queue->v);
	link_connect_then(l, queue_end);
	wait_for(l->us.fd, POLLRDHUP);
	hand_over(l, VIA_FD);
	leave_openssl(l);
	we_read(l, queue->size);
	/* close_notify on the bare fd */
	assert_int_equal(read(l->us.fd, &byte, 1), -1);
	assert_int_equal(errno, EIO);
	we_still_send(l);
	link_free(l);
}

static void queue_bare_fin(struct link *l)
{
	peer_sends(l, queue->size);
	assert_int_equal(shutdown(l->peer.fd, SHUT_WR), 0);
}

static void test_truncation(void **state)
{
	struct link *l;
	char byte;

	queue = *state;
	l = link_new(&queue->v);
	link_connect_then(l, queue_bare_fin);
	wait_for(l->us.fd, POLLRDHUP);
	hand_over(l, VIA_CONN);
	leave_openssl(l);
	we_read(l, queue->size);
	assert_int_equal(tlsfd_read(l->us.conn, &byte, 1), -ECONNABORTED);
	link_free(l);
}

/* ---- */

static void add(CMUnitTestFunction test, size_t speaker, struct queue q, const char *what)
{
	q.v = speakers[speaker].v;
	q.v.wire = test == test_cut;
	suite_add(test, &q, sizeof(q), "%s/%s", speakers[speaker].name, what);
}

static void add_cuts(size_t speaker)
{
	static const int cuts[] = { 1,	2,  3,	4,   5,	  6,   8,   12, 13,
				    14, 20, 33, 100, 500, -17, -16, -2, -1 };

	for (size_t i = 0; i < LENGTH(cuts); i++) {
		struct queue q = { .size = 1000, .cut = cuts[i] };
		char what[80];

		snprintf(what, sizeof(what), "record cut at byte %d", cuts[i]);
		add(test_cut, speaker, q, what);
		if (i % 3)
			continue;
		q = (struct queue){ .before = 20000, .size = 16384, .cut = cuts[i] };
		snprintf(what, sizeof(what), "whole records and one cut at byte %d", cuts[i]);
		add(test_cut, speaker, q, what);
	}
}

static bool has_tickets_first(size_t speaker)
{
	return !speakers[speaker].v.server && speakers[speaker].v.tickets;
}

int main(int argc, char **argv)
{
	suite_slice(9);
	for (size_t i = 0; i < LENGTH(speakers); i++) {
		add(test_whole, i, (struct queue){ .size = 1 }, "1 byte");
		add(test_whole, i, (struct queue){ .size = 16384 }, "1 record");
		add(test_whole, i, (struct queue){ .size = 100000 }, "7 records");
		add(test_much, i, (struct queue){ .size = 1 << 20 }, "1 MiB");
		add_cuts(i);
		add(test_end, i, (struct queue){ .size = 5000 }, "data, close_notify and FIN");
		if (!has_tickets_first(i))
			add(test_end_bare, i, (struct queue){ .size = 5000 },
			    "data, close_notify and FIN, bare fd");
		add(test_truncation, i, (struct queue){ .size = 5000 }, "data and FIN");
	}
	return suite_run(argc, argv);
}
