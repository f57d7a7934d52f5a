/* SPDX-License-Identifier: MIT */
#include "ends.h"

#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <tlsfd/openssl.h>
#include <unistd.h>

void connect_pair(int fd[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (struct sockaddr *)&a, len) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&a, &len))
		err(1, "listen");
	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd[0], (struct sockaddr *)&a, len))
		err(1, "connect");
	fd[1] = accept(listener, NULL, NULL);
	close(listener);
}

SSL_CTX *context(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_sign(cert, key, EVP_sha256());
	SSL_CTX_use_certificate(ctx, cert);
	SSL_CTX_use_PrivateKey(ctx, key);
	SSL_CTX_set_num_tickets(ctx, 0);
	if (tlsfd_prepare(ctx))
		errx(1, "tlsfd_prepare failed");
	X509_free(cert);
	EVP_PKEY_free(key);
	return ctx;
}

struct tlsfd *shake_hands(SSL_CTX *ctx, int fd, int server)
{
	SSL *ssl = SSL_new(ctx);
	struct tlsfd_report *report;
	struct tlsfd *c;

	SSL_set_fd(ssl, fd);
	if ((server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		errx(1, "the handshake failed");
	if (tlsfd_handover(ssl, &c, &report))
		errx(1, "%s", tlsfd_report_sentence(report));
	tlsfd_report_free(report);
	SSL_free(ssl);
	return c;
}

double cpu(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e9 +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e3;
}
