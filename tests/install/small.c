/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <tlsfd/openssl.h>

int main(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	int error = tlsfd_prepare(ctx);

	printf("%s, %s\n", error ? "not prepared" : "prepared", tlsfd_why_name(TLSFD_WHY_NONE));
	SSL_CTX_free(ctx);
	return error != 0;
}
