/*
 * TLS 1.2: a server's Finished and its HelloRequest in one record (RFC 5246 section
 * 6.2.1 allows it). OpenSSL has read what was the kernel's, and keeps the connection.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <tlsfd.h>
#include <unistd.h>

#include "credentials.h"
#include "place.h"
#include "probe.h"
#include "suite.h"

/* A server on memory BIOs. */
static SSL *new_server(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	SSL *ssl;

	use_credentials(ctx, KEY_P256);
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_cipher_list(ctx, "ECDHE-ECDSA-AES128-GCM-SHA256");
	ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_accept_state(ssl);
	return ssl;
}

static void connect_client(struct tested *t, enum tlsfd_kernel kernel)
{
	struct tlsfd_config *config;
	int fd[2];

	assert_int_equal(probe_pair(fd), 0);
	*t = (struct tested){ .peer = { .fd = fd[1], .server = true }, .fd = fd[0] };
	fcntl(fd[1], F_SETFL, O_NONBLOCK);
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	assert_int_equal(tlsfd_config_new(&config), 0);
	tlsfd_config_insecure_no_verify_chain(config);
	tlsfd_config_insecure_no_verify_name(config);
	assert_int_equal(tlsfd_config_set_kernel(config, kernel), 0);
	assert_int_equal(tlsfd_connect(&t->c, config, fd[0], NULL), 0);
	tlsfd_config_free(config);
}

/* What the server has to send; its size. */
static size_t flight(SSL *server, uint8_t *bytes, size_t size)
{
	int n = BIO_read(SSL_get_wbio(server), bytes, (int)size);

	return n > 0 ? (size_t)n : 0;
}

/* Opens a record that p itself has sealed. */
static size_t reopen(const struct raw_peer *p, const uint8_t *record, size_t n, uint8_t *data)
{
	struct raw_peer mirror = *p;
	uint8_t type;
	ssize_t size;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(write(fd[1], record, n), n);
	mirror.fd = fd[0];
	mirror.in = p->out;
	size = raw_receive(&mirror, &type, data);
	assert_true(size > 0);
	close(fd[0]);
	close(fd[1]);
	return (size_t)size;
}

/* ChangeCipherSpec as it is, Finished and HelloRequest in one record. */
static void send_last_flight(struct raw_peer *p, const uint8_t *bytes, size_t n)
{
	enum { CHANGE_CIPHER_SPEC = 6 };
	uint8_t messages[256], record[RAW_RECORD_MAX];
	size_t size;

	raw_send_bytes(p, bytes, CHANGE_CIPHER_SPEC);
	p->out.sequence = 0;
	size = reopen(p, bytes + CHANGE_CIPHER_SPEC, n - CHANGE_CIPHER_SPEC, messages);
	memset(messages + size, 0, 4);
	raw_send_bytes(p, record, raw_seal(p, 22, messages, size + 4, record));
}

static int shake_hands(struct tested *t)
{
	SSL *server = new_server();
	uint8_t bytes[16384];
	int err = -EAGAIN;

	for (int i = 0; i < PATIENCE_MS && err == -EAGAIN; i++) {
		ssize_t n = recv(t->peer.fd, bytes, sizeof(bytes), 0);
		size_t m;

		if (n > 0)
			BIO_write(SSL_get_rbio(server), bytes, (int)n);
		SSL_do_handshake(server);
		m = flight(server, bytes, sizeof(bytes));
		if (m && SSL_is_init_finished(server)) {
			raw_take_keys(&t->peer, server);
			send_last_flight(&t->peer, bytes, m);
		} else if (m) {
			raw_send_bytes(&t->peer, bytes, m);
		}
		err = tlsfd_handshake(t->c);
		if (i > 100)
			poll(NULL, 0, 1);
	}
	SSL_set_shutdown(server, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(server);
	return err;
}

static void test_preferred(void **state)
{
	uint8_t type, data[16384];
	struct tested t;

	(void)state;
	connect_client(&t, TLSFD_KERNEL_PREFER);
	assert_int_equal(shake_hands(&t), 0);
	assert_false(tlsfd_kernel(t.c, TLSFD_RX) || tlsfd_kernel(t.c, TLSFD_TX));
	assert_int_equal(tlsfd_report_why(tlsfd_report(t.c), TLSFD_RX), TLSFD_WHY_RECORD_READ);
	raw_send(&t.peer, 23, "data", 4);
	assert_int_equal(patient_read(&t, data, sizeof(data)), 4);
	assert_int_equal(raw_receive(&t.peer, &type, data), 2);
	assert_int_equal(type, 21);
	assert_memory_equal(data, "\1\144", 2); /* no_renegotiation */
	assert_int_equal(patient_write(&t, "reply", 5), 5);
	assert_int_equal(raw_receive(&t.peer, &type, data), 5);
	place_close(&t);
}

/* -EAGAIN would say that another call could help. */
static void test_required(void **state)
{
	struct tested t;

	(void)state;
	connect_client(&t, TLSFD_KERNEL_REQUIRE);
	assert_int_equal(shake_hands(&t), -EOPNOTSUPP);
	assert_int_equal(tlsfd_handshake(t.c), -EOPNOTSUPP);
	assert_string_equal(tlsfd_error(t.c), tlsfd_report_sentence(tlsfd_report(t.c)));
	place_close(&t);
}

int main(int argc, char **argv)
{
	suite_add(test_preferred, NULL, 0, "kernel preferred");
	suite_add(test_required, NULL, 0, "kernel required");
	return suite_run(argc, argv);
}
