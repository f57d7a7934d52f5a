/*
 * Every errno of every setsockopt of a handover, put in at the seam of src/sys.h;
 * the state after it, found out by moving data. And one direction on request.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ktls.h"
#include "refused.h"
#include "suite.h"
#include "sys.h"

/* ---- the seam ---- */

static struct {
	int level, name, err;
	int calls; /* that the fault answered */
} fault;

static int answer(int fd, int level, int name)
{
	(void)fd;
	if (level != fault.level || name != fault.name)
		return 0;
	fault.calls++;
	return -fault.err;
}

static void fault_on(int level, int name, int err)
{
	fault.level = level;
	fault.name = name;
	fault.err = err;
	fault.calls = 0;
	sys_fault = answer;
}

static int fault_off(void **state)
{
	(void)state;
	sys_fault = NULL;
	return 0;
}

/* ---- the table ---- */

struct meaning {
	int err;
	enum tlsfd_why why;
	int ret; /* negative */
};

static const struct meaning of_ulp[] = {
	{ ENOENT, TLSFD_WHY_NO_TLS, -ENOENT },
	{ EEXIST, TLSFD_WHY_OTHER_ULP, -EOPNOTSUPP },
	{ ENOTCONN, TLSFD_WHY_NOT_ESTABLISHED, -ENOTCONN },
	{ ENOPROTOOPT, TLSFD_WHY_NOT_TCP, -EOPNOTSUPP },
	{ EOPNOTSUPP, TLSFD_WHY_NOT_TCP, -EOPNOTSUPP },
	{ EPERM, TLSFD_WHY_FORBIDDEN, -EPERM },
	{ EACCES, TLSFD_WHY_FORBIDDEN, -EACCES },
	{ ENOSYS, TLSFD_WHY_FORBIDDEN, -ENOSYS },
	{ ENOMEM, TLSFD_WHY_MEMORY, -ENOMEM },
	{ ENOBUFS, TLSFD_WHY_MEMORY, -ENOMEM },
	{ EINVAL, TLSFD_WHY_SOCKET, -EINVAL },
	{ EBUSY, TLSFD_WHY_SOCKET, -EBUSY },
	{ EFAULT, TLSFD_WHY_SOCKET, -EFAULT },
};

static const struct meaning of_keys[] = {
	{ ENOENT, TLSFD_WHY_ALGORITHM, -ENOENT },
	{ EEXIST, TLSFD_WHY_SOCKET, -EEXIST },
	{ ENOTCONN, TLSFD_WHY_SOCKET, -ENOTCONN },
	{ ENOPROTOOPT, TLSFD_WHY_KERNEL_CIPHER, -EOPNOTSUPP },
	{ EOPNOTSUPP, TLSFD_WHY_SOCKET, -EOPNOTSUPP },
	{ EPERM, TLSFD_WHY_FORBIDDEN, -EPERM },
	{ EACCES, TLSFD_WHY_FORBIDDEN, -EACCES },
	{ ENOSYS, TLSFD_WHY_FORBIDDEN, -ENOSYS },
	{ ENOMEM, TLSFD_WHY_MEMORY, -ENOMEM },
	{ ENOBUFS, TLSFD_WHY_MEMORY, -ENOMEM },
	{ EINVAL, TLSFD_WHY_KERNEL_CIPHER, -EOPNOTSUPP },
	{ EBUSY, TLSFD_WHY_FOREIGN_KEYS, -EEXIST },
	{ EFAULT, TLSFD_WHY_SOCKET, -EFAULT },
};

struct row {
	struct variant v;
	struct meaning m;
};

/* ---- TCP_ULP, TLS_RX: nothing has changed ---- */

static void ulp_refused(void **state)
{
	const struct row *row = *state;
	const struct meaning *m = &row->m;
	struct link *l;

	fault_on(SOL_TCP, TCP_ULP, m->err);
	l = link_made(&row->v); /* tlsfd_prepare tries early, too */
	fault.calls = 0;
	assert_refused_as(l->us.ssl, &(struct refusal_expected){
					     m->ret, { m->why, m->err }, { m->why, m->err } });
	assert_int_equal(fault.calls, 2); /* each call asks the real socket again */
	assert_goes_on(l);
	fault_off(NULL);
	assert_moves(l);
	link_free(l);
}

static void rx_refused(void **state)
{
	const struct row *row = *state;
	const struct meaning *m = &row->m;
	struct link *l = link_made(&row->v);

	fault_on(SOL_TLS, TLS_RX, m->err);
	assert_refused_as(l->us.ssl, &(struct refusal_expected){
					     m->ret,
					     { m->why, m->err },
					     { TLSFD_WHY_OTHER_DIRECTION, 0 } });
	assert_int_equal(fault.calls, 2);
	assert_goes_on(l);
	fault_off(NULL);
	assert_moves(l);
	link_free(l);
}

/* ---- TLS_TX: half-moved ---- */

static void assert_half_moved(struct link *l)
{
	char byte;

	assert_non_null(l->us.conn);
	assert_true(tlsfd_kernel(l->us.conn, TLSFD_RX));
	assert_false(tlsfd_kernel(l->us.conn, TLSFD_TX));
	assert_int_equal(tlsfd_fd(l->us.conn), l->us.fd);
	assert_int_equal(tlsfd_release(&l->us.conn), -EXDEV);
	assert_non_null(l->us.conn);
	l->us.via = VIA_CONN;
	assert_goes_on(l);
	/* what the peer sends is not OpenSSL's any more, and isn't lost by asking it */
	assert_true(SSL_write(l->peer.ssl, pattern_at(l->peer.sent), 100) == 100);
	l->peer.sent += 100;
	wait_for(l->us.fd, POLLIN);
	assert_true(SSL_read(l->us.ssl, &byte, 1) <= 0);
	{
		struct flow f = { .end = &l->us, .left = 100 };

		assert_null(run_flows(&f, 1));
	}
	assert_goes_on(l);
}

static void assert_rx_moved_tx_not(const struct tlsfd_report *r, const struct meaning *m)
{
	assert_true(tlsfd_report_kernel(r, TLSFD_RX));
	assert_false(tlsfd_report_kernel(r, TLSFD_TX));
	assert_int_equal(tlsfd_report_mover(r, TLSFD_RX), TLSFD_MOVER_TLSFD);
	assert_int_equal(tlsfd_report_mover(r, TLSFD_TX), TLSFD_MOVER_NONE);
	assert_int_equal(tlsfd_report_why(r, TLSFD_RX), TLSFD_WHY_NONE);
	assert_int_equal(tlsfd_report_why(r, TLSFD_TX), m->why);
	assert_int_equal(tlsfd_report_errno(r, TLSFD_TX), m->err);
	assert_words(r, m->why, m->err);
}

static void tx_refused(void **state)
{
	const struct row *row = *state;
	struct link *l = link_made(&row->v);
	struct tlsfd_report *r = NULL;

	fault_on(SOL_TLS, TLS_TX, row->m.err);
	assert_int_equal(tlsfd_handover(l->us.ssl, &l->us.conn, &r), row->m.ret);
	assert_rx_moved_tx_not(r, &row->m);
	tlsfd_report_free(r);
	assert_half_moved(l);
	/* the end: close_notify through OpenSSL, and the peer's through the kernel */
	assert_int_equal(tlsfd_shutdown(l->us.conn), 0);
	link_free(l);
}

/* Nobody asked for a connection: the caller asks again, and gets one. */
static void asked_again_with_conn(void **state)
{
	const struct row *row = *state;
	struct link *l = link_made(&row->v);
	struct tlsfd_report *r = NULL;

	fault_on(SOL_TLS, TLS_TX, row->m.err);
	assert_int_equal(tlsfd_handover(l->us.ssl, NULL, NULL), row->m.ret);
	assert_int_equal(tlsfd_handover(l->us.ssl, &l->us.conn, &r), row->m.ret);
	assert_int_equal(fault.calls, 2);
	assert_rx_moved_tx_not(r, &row->m);
	tlsfd_report_free(r);
	assert_half_moved(l);
	link_free(l);
}

static void assert_both_by_us(struct link *l, struct tlsfd_report *r)
{
	assert_int_equal(tlsfd_report_mover(r, TLSFD_RX), TLSFD_MOVER_TLSFD);
	assert_int_equal(tlsfd_report_mover(r, TLSFD_TX), TLSFD_MOVER_TLSFD);
	assert_int_equal(tlsfd_report_why(r, TLSFD_RX), TLSFD_WHY_NONE);
	assert_int_equal(tlsfd_report_why(r, TLSFD_TX), TLSFD_WHY_NONE);
	assert_null(tlsfd_report_remedy(r));
	tlsfd_report_free(r);
	l->us.via = VIA_CONN;
	assert_goes_on(l);
	assert_int_equal(tlsfd_release(&l->us.conn), l->us.fd);
	assert_null(l->us.conn);
	l->us.via = VIA_FD;
	assert_goes_on(l);
}

/* The fault has gone (memory is there again): the second call does the rest. */
static void completed_by_a_second_call(void **state)
{
	const struct row *row = *state;
	struct link *l = link_made(&row->v);
	struct tlsfd_report *r = NULL;

	fault_on(SOL_TLS, TLS_TX, row->m.err);
	assert_int_equal(tlsfd_handover(l->us.ssl, NULL, NULL), row->m.ret);
	fault_off(NULL);
	/* OpenSSL still writes: numbers and nonces go on */
	for (int i = 0; i < 3; i++) {
		struct flow f[2] = { { .end = &l->us, .out = true, .left = 1000 },
				     { .end = &l->peer, .left = 1000 } };

		assert_null(run_flows(f, 2));
	}
	assert_int_equal(tlsfd_handover(l->us.ssl, &l->us.conn, &r), 0);
	assert_both_by_us(l, r);
	link_free(l);
}

/* A third call, after success, says the same. */
static void again_after_success(void **state)
{
	struct link *l = link_made(*state);
	struct tlsfd_report *r = NULL;

	assert_int_equal(tlsfd_handover(l->us.ssl, NULL, NULL), 0);
	assert_int_equal(tlsfd_handover(l->us.ssl, &l->us.conn, &r), 0);
	assert_both_by_us(l, r);
	link_free(l);
}

/* ---- one direction on request ---- */

struct request {
	struct variant v;
	enum tlsfd_direction dir;
};

static void one_direction(void **state)
{
	const struct request *q = *state;
	enum tlsfd_direction other = q->dir == TLSFD_RX ? TLSFD_TX : TLSFD_RX;
	struct link *l = link_made(&q->v);
	struct tlsfd_report *r = NULL;
	struct tlsfd *half;

	assert_int_equal(tlsfd_handover_directions(l->us.ssl, q->dir, &l->us.conn, &r), 0);
	assert_true(tlsfd_report_kernel(r, q->dir));
	assert_false(tlsfd_report_kernel(r, other));
	assert_int_equal(tlsfd_report_why(r, q->dir), TLSFD_WHY_NONE);
	assert_int_equal(tlsfd_report_why(r, other), TLSFD_WHY_NOT_ASKED);
	tlsfd_report_free(r);
	assert_true(tlsfd_kernel(l->us.conn, q->dir));
	assert_false(tlsfd_kernel(l->us.conn, other));
	assert_int_equal(tlsfd_release(&l->us.conn), -EXDEV);
	l->us.via = VIA_CONN;
	assert_goes_on(l);
	/* the rest later */
	half = l->us.conn;
	l->us.conn = NULL;
	assert_int_equal(tlsfd_handover(l->us.ssl, &l->us.conn, &r), 0);
	tlsfd_free(half);
	assert_both_by_us(l, r);
	link_free(l);
}

/* ---- the first error of a direction is kept ---- */

/* What a call says of an errno of its system call. Reading: EPIPE is how TCP calls a
 * reset behind a FIN. Writing: EBADMSG is what the reader met. */
static const struct said {
	int err, read, write;
} kept[] = {
	{ EBADMSG, EBADMSG, EPIPE },	     { EMSGSIZE, EMSGSIZE, EMSGSIZE },
	{ EINVAL, EINVAL, EINVAL },	     { ECONNRESET, ECONNRESET, ECONNRESET },
	{ ETIMEDOUT, ETIMEDOUT, ETIMEDOUT }, { EPIPE, ECONNRESET, EPIPE },
	{ ENOMEM, ENOMEM, ENOMEM },
};

static struct link *link_for_errors(void)
{
	struct link *l = link_made(&(struct variant)TLS13);
	char buf[16];

	hand_over(l, VIA_CONN);
	fault_on(0, 0, EAGAIN);
	assert_int_equal(tlsfd_read(l->us.conn, buf, sizeof(buf)), -EAGAIN);
	assert_int_equal(tlsfd_write(l->us.conn, "x", 1), -EAGAIN);
	assert_null(tlsfd_error(l->us.conn));
	fault_off(NULL);
	assert_goes_on(l);
	return l;
}

static void first_read_error_is_kept(void **state)
{
	const struct said *said = *state;
	struct link *l = link_for_errors();
	char buf[16];

	fault_on(0, 0, said->err);
	assert_int_equal(tlsfd_read(l->us.conn, buf, sizeof(buf)), -said->read);
	assert_non_null(tlsfd_error(l->us.conn));
	fault_off(NULL);
	assert_int_equal(tlsfd_read(l->us.conn, buf, sizeof(buf)), -said->read);
	/* a connection that can't be read is not written to */
	assert_int_equal(tlsfd_write(l->us.conn, "x", 1), -EPIPE);
	assert_int_equal(tlsfd_alert(l->us.conn), -1);
	link_free(l);
}

static void first_write_error_is_kept(void **state)
{
	const struct said *said = *state;
	struct link *l = link_for_errors();
	char byte;

	fault_on(0, 0, said->err);
	assert_int_equal(tlsfd_write(l->us.conn, "x", 1), -said->write);
	fault_off(NULL);
	assert_int_equal(tlsfd_write(l->us.conn, "x", 1), -said->write);
	assert_int_equal(tlsfd_shutdown(l->us.conn), -said->write);
	if (said->err == EBADMSG || said->err == EMSGSIZE || said->err == EINVAL)
		assert_int_equal(tlsfd_read(l->us.conn, &byte, 1), -said->err); /* it was the reader's */
	else
		move(l, 0, 1000); /* reading goes on */
	link_free(l);
}

/* ---- */

static const struct variant variants[] = {
	TLS13,
	{ .version = TLS1_3_VERSION, .suite = "TLS_CHACHA20_POLY1305_SHA256", .server = true },
	TLS12,
	{ .version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-AES256-GCM-SHA384", .server = true },
};

static void add_table(const struct meaning *m, size_t n, CMUnitTestFunction test, const char *what)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < LENGTH(variants); k++) {
			struct row row = { variants[k], m[i] };

			suite_add(test, &row, sizeof(row), "%s %s, %s %s", what,
				  strerrorname_np(m[i].err), row.v.suite,
				  row.v.server ? "server" : "client");
		}
	}
}

int main(int argc, char **argv)
{
	add_table(of_ulp, LENGTH(of_ulp), ulp_refused, "TCP_ULP");
	add_table(of_keys, LENGTH(of_keys), rx_refused, "TLS_RX");
	add_table(of_keys, LENGTH(of_keys), tx_refused, "TLS_TX");
	add_table(of_keys, LENGTH(of_keys), asked_again_with_conn, "TLS_TX, then with conn,");
	add_table(of_keys, LENGTH(of_keys), completed_by_a_second_call, "TLS_TX once");
	for (size_t k = 0; k < LENGTH(variants); k++) {
		struct request rx = { variants[k], TLSFD_RX }, tx = { variants[k], TLSFD_TX };

		suite_add(again_after_success, &variants[k], sizeof(variants[k]),
			  "again after success, %s", variants[k].suite);
		suite_add(one_direction, &rx, sizeof(rx), "RX only, %s", variants[k].suite);
		suite_add(one_direction, &tx, sizeof(tx), "TX only, %s", variants[k].suite);
	}
	for (size_t i = 0; i < LENGTH(kept); i++) {
		suite_add(first_read_error_is_kept, &kept[i], sizeof(kept[i]),
			  "the first error of reading is kept: %s", strerrorname_np(kept[i].err));
		suite_add(first_write_error_is_kept, &kept[i], sizeof(kept[i]),
			  "the first error of writing is kept: %s", strerrorname_np(kept[i].err));
	}
	return suite_run(argc, argv);
}
