/* SPDX-License-Identifier: MIT */
#include "endpoint.h"

#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

static const char *write_text(const struct sockaddr_storage *a, socklen_t len,
			      char text[ENDPOINT_SIZE])
{
	char host[64], port[8];

	text[0] = 0;
	if (getnameinfo((const struct sockaddr *)a, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		snprintf(text, ENDPOINT_SIZE, a->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
			 port);
	return text;
}

const char *endpoint_local(int fd, char text[ENDPOINT_SIZE])
{
	struct sockaddr_storage a = { 0 };
	socklen_t len = sizeof(a);

	return getsockname(fd, (struct sockaddr *)&a, &len) < 0 ? "" : write_text(&a, len, text);
}

const char *endpoint_peer(int fd, char text[ENDPOINT_SIZE])
{
	struct sockaddr_storage a = { 0 };
	socklen_t len = sizeof(a);

	return getpeername(fd, (struct sockaddr *)&a, &len) < 0 ? "" : write_text(&a, len, text);
}
