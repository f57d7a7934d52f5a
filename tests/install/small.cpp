// SPDX-License-Identifier: MIT
#include <iostream>
#include <memory>
#include <tlsfd/openssl.h>

int main()
{
	std::unique_ptr<SSL_CTX, void (*)(SSL_CTX *)> ctx(SSL_CTX_new(TLS_method()), SSL_CTX_free);
	int error = tlsfd_prepare(ctx.get());

	std::cout << (error ? "not prepared, " : "prepared, ") << tlsfd_why_name(TLSFD_WHY_NONE) << "\n";
	return error != 0;
}
