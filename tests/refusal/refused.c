/* SPDX-License-Identifier: MIT */
#include "refused.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "ktls.h"
#include "suite.h"
#include "why.h"

/* What the socket says of itself: nothing here may change by a refusal. */
struct socket_state {
	char ulp[16];
	bool rx, tx; /* has keys */
};

static bool has_keys(int fd, int option)
{
	struct tls_crypto_info info;
	socklen_t len = sizeof(info);

	return getsockopt(fd, SOL_TLS, option, &info, &len) == 0;
}

static struct socket_state socket_state(int fd)
{
	struct socket_state s = { "", has_keys(fd, TLS_RX), has_keys(fd, TLS_TX) };
	socklen_t len = sizeof(s.ulp);

	if (fd < 0 || getsockopt(fd, SOL_TCP, TCP_ULP, s.ulp, &len) < 0)
		s.ulp[0] = '\0';
	return s;
}

void assert_words(const struct tlsfd_report *r, enum tlsfd_why why, int err)
{
	const struct why *w = why_describe(why);
	const char *sentence = tlsfd_report_sentence(r);

	assert_non_null(sentence);
	if (!strstr(sentence, w->sentence))
		fail_msg("\"%s\" lacks \"%s\"", sentence, w->sentence);
	if (err && !strstr(sentence, strerrordesc_np(err)))
		fail_msg("\"%s\" lacks \"%s\"", sentence, strerrordesc_np(err));
	if (w->remedy)
		assert_string_equal(tlsfd_report_remedy(r), w->remedy);
	else
		assert_null(tlsfd_report_remedy(r));
}

static void assert_verdict(const struct tlsfd_report *r, enum tlsfd_direction dir,
			   const struct verdict *v)
{
	if (tlsfd_report_why(r, dir) != v->why)
		fail_msg("%s: %s, not %s; %s", dir == TLSFD_RX ? "rx" : "tx",
			 tlsfd_why_name(tlsfd_report_why(r, dir)), tlsfd_why_name(v->why),
			 tlsfd_report_sentence(r));
	assert_int_equal(tlsfd_report_errno(r, dir), v->err);
	assert_int_equal(tlsfd_report_kernel(r, dir),
			 tlsfd_report_mover(r, dir) != TLSFD_MOVER_NONE);
	assert_int_not_equal(tlsfd_report_mover(r, dir), TLSFD_MOVER_TLSFD);
}

void assert_refused_as(SSL *ssl, const struct refusal_expected *e)
{
	struct socket_state before = socket_state(SSL_get_fd(ssl)), after;
	struct tlsfd *conn = (struct tlsfd *)1;
	struct tlsfd_report *r = NULL;
	int err = tlsfd_handover(ssl, &conn, &r);
	const struct verdict *cause = e->rx.why > TLSFD_WHY_OTHER_DIRECTION ? &e->rx : &e->tx;

	assert_non_null(r);
	assert_verdict(r, TLSFD_RX, &e->rx);
	assert_verdict(r, TLSFD_TX, &e->tx);
	if (err != e->err)
		fail_msg("returned %s, not %s: %s", strerrorname_np(-err), strerrorname_np(-e->err),
			 tlsfd_report_sentence(r));
	assert_null(conn);
	assert_words(r, cause->why, cause->err);
	tlsfd_report_free(r);
	/* once more, with nowhere to put the answer */
	assert_int_equal(tlsfd_handover(ssl, NULL, NULL), e->err);
	after = socket_state(SSL_get_fd(ssl));
	assert_int_equal(after.rx, before.rx);
	assert_int_equal(after.tx, before.tx);
	/* the ULP without keys lets bytes through: it may have been set before TLS_RX was
	 * refused, if it was not there since before the handshake */
	if (!cause->err)
		assert_string_equal(after.ulp, before.ulp);
}

void assert_refused(SSL *ssl, int err, enum tlsfd_why why)
{
	assert_refused_as(ssl, &(struct refusal_expected){ err, { why, 0 }, { why, 0 } });
}

void assert_refused_rx(SSL *ssl, int err, enum tlsfd_why why)
{
	assert_refused_as(ssl, &(struct refusal_expected){
				       err, { why, 0 }, { TLSFD_WHY_OTHER_DIRECTION, 0 } });
}

void assert_refused_tx(SSL *ssl, int err, enum tlsfd_why why)
{
	assert_refused_as(ssl, &(struct refusal_expected){
				       err, { TLSFD_WHY_OTHER_DIRECTION, 0 }, { why, 0 } });
}

void assert_goes_on(struct link *l)
{
	move(l, 1, 1);
	move(l, 0, 100);
	move(l, 70000, 40000);
}

void assert_moves(struct link *l)
{
	/* with a connection: a client's tickets may still be on their way */
	hand_over(l, VIA_CONN);
	assert_goes_on(l);
}
