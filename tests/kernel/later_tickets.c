/*
 * Tickets of a real server after the handover, whoever has moved RX: what the program's
 * new-session callback gets resumes, and what comes of that does too.
 *
 * SPDX-License-Identifier: MIT
 */
#include "link.h"
#include "suite.h"

static void resume(struct link *l)
{
	l->v.resume = RESUME_TICKET;
	link_disconnect(l);
	link_open(l);
	link_handshake(l, NULL);
	assert_int_equal(SSL_session_reused(l->us.ssl), 1);
	assert_int_equal(SSL_session_reused(l->peer.ssl), 1);
}

static void test_server(void **state)
{
	struct link *l = link_made(*state);

	hand_over(l, VIA_CONN);
	leave_openssl(l);
	move(l, 1000, 1000);
	assert_int_equal(l->us.sessions, 2);
	for (int i = 3; i < 6; i++) {
		assert_int_equal(SSL_new_session_ticket(l->peer.ssl), 1);
		move(l, 50000, 50000);
		assert_int_equal(l->us.sessions, i);
	}
	resume(l);
	hand_over(l, VIA_CONN);
	move(l, 1000, 1000);
	assert_true(l->us.sessions > 5);
	resume(l);
	link_free(l);
}

int main(int argc, char **argv)
{
	static const char *const suites[] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
					      "TLS_CHACHA20_POLY1305_SHA256",
					      "TLS_AES_128_CCM_SHA256" };

	for (size_t i = 0; i < LENGTH(suites); i++)
		for (int ktls = 0; ktls < 2; ktls++)
			for (int read = 0; read < 3; read++) {
				struct variant v = { .version = TLS1_3_VERSION,
						     .suite = suites[i],
						     .tickets = 2,
						     .tickets_read = read,
						     .ktls = ktls };

				suite_add(test_server, &v, sizeof(v), "%s%s, %d tickets before",
					  v.suite, ktls ? ", OpenSSL's kTLS" : "", read);
			}
	return suite_run(argc, argv);
}
