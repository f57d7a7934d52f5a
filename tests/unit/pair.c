/* SPDX-License-Identifier: MIT */
#include "pair.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "credentials.h"
#include "suite.h"

SSL_CTX *pair_context(bool server)
{
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

	assert_non_null(ctx);
	if (server)
		use_credentials(ctx, KEY_P256);
	return ctx;
}

static void make_ssls(struct pair *p, SSL_CTX *client, SSL_CTX *server)
{
	p->client = SSL_new(client);
	p->server = SSL_new(server);
	assert_non_null(p->client);
	assert_non_null(p->server);
	SSL_set_connect_state(p->client);
	SSL_set_accept_state(p->server);
}

void pair_open(struct pair *p, SSL_CTX *client, SSL_CTX *server)
{
	BIO *a, *b;

	make_ssls(p, client, server);
	assert_int_equal(BIO_new_bio_pair(&a, 1 << 17, &b, 1 << 17), 1);
	SSL_set_bio(p->client, a, a);
	SSL_set_bio(p->server, b, b);
}

static void on_socket(SSL *ssl, int fd)
{
	BIO *bio = BIO_new_socket(fd, BIO_CLOSE);

	assert_non_null(bio);
	SSL_set_bio(ssl, bio, bio);
}

void pair_open_sockets(struct pair *p, SSL_CTX *client, SSL_CTX *server)
{
	int fd[2];

	make_ssls(p, client, server);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	on_socket(p->client, fd[0]);
	on_socket(p->server, fd[1]);
}

static bool step(SSL *ssl)
{
	int ret = SSL_do_handshake(ssl);

	if (ret == 1)
		return true;
	assert_int_equal(SSL_get_error(ssl, ret), SSL_ERROR_WANT_READ);
	return false;
}

void pair_handshake(struct pair *p)
{
	bool done = false;

	for (int i = 0; i < 10 && !done; i++) {
		bool client = step(p->client), server = step(p->server);

		done = client && server;
	}
	assert_true(done);
}

static void say(SSL *from, SSL *to, const char *text)
{
	char heard[32] = "";
	int n = (int)strlen(text);

	assert_int_equal(SSL_write(from, text, n), n);
	assert_int_equal(SSL_read(to, heard, sizeof(heard)), n);
	assert_string_equal(heard, text);
}

void pair_talk(struct pair *p)
{
	say(p->client, p->server, "a question");
	say(p->server, p->client, "an answer");
}

void pair_close(struct pair *p)
{
	SSL_free(p->client);
	SSL_free(p->server);
	p->client = p->server = NULL;
}
