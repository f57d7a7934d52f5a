/* SPDX-License-Identifier: MIT */
#include "peer.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

void address_text(const struct sockaddr *address, char text[ADDRESS_TEXT])
{
	const struct sockaddr_in *in = (const void *)address;
	const struct sockaddr_in6 *in6 = (const void *)address;
	char host[INET6_ADDRSTRLEN];

	if (address->sa_family == AF_INET) {
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(text, ADDRESS_TEXT, "%s:%u", host, ntohs(in->sin_port));
	} else if (address->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof(host));
		snprintf(text, ADDRESS_TEXT, "%s:%u", host, ntohs(in6->sin6_port));
	} else if (address->sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(text, ADDRESS_TEXT, "[%s]:%u", host, ntohs(in6->sin6_port));
	} else {
		snprintf(text, ADDRESS_TEXT, "local");
	}
}

void peer_of(struct peer *peer, int fd)
{
	socklen_t len = sizeof(peer->address);

	*peer = (struct peer){ .began_ms = 0 };
	if (getpeername(fd, &peer->address.any, &len) < 0)
		peer->address.any.sa_family = AF_UNSPEC;
}

static const char *version_name(enum tlsfd_version version)
{
	switch (version) {
	case TLSFD_TLS_1_2:
		return "TLSv1.2";
	case TLSFD_TLS_1_3:
		return "TLSv1.3";
	default:
		return "";
	}
}

static const char *place(const struct tlsfd *c, enum tlsfd_direction dir)
{
	return !c || !tlsfd_report(c) ? "" : tlsfd_kernel(c, dir) ? "kernel" : "user";
}

enum tlsfd_why why_of(const struct tlsfd *c)
{
	const struct tlsfd_report *report = tlsfd_report(c);
	enum tlsfd_why rx = tlsfd_report_why(report, TLSFD_RX);
	enum tlsfd_why tx = tlsfd_report_why(report, TLSFD_TX);

	return rx && rx != TLSFD_WHY_OTHER_DIRECTION ? rx : tx;
}

static const char *resumed(const struct tlsfd *c)
{
	return !c || !tlsfd_report(c) ? "" : tlsfd_resumed(c) ? "yes" : "no";
}

void log_tls(struct logline *line, const struct tlsfd *c)
{
	enum tlsfd_why why = c ? why_of(c) : TLSFD_WHY_NONE;

	log_text(line, "sni", c ? tlsfd_server_name(c) : "");
	log_text(line, "version", c ? version_name(tlsfd_version(c)) : "");
	log_text(line, "cipher", c ? tlsfd_cipher(c) : "");
	log_text(line, "alpn", c ? tlsfd_alpn(c) : "");
	log_text(line, "tx", place(c, TLSFD_TX));
	log_text(line, "rx", place(c, TLSFD_RX));
	log_text(line, "why", why ? tlsfd_why_name(why) : "");
	log_text(line, "resumed", resumed(c));
}

void peer_log(const struct peer *peer, const struct tlsfd *c, const struct account *a)
{
	char address[ADDRESS_TEXT];
	struct logline line;

	address_text(&peer->address.any, address);
	log_begin(&line, "connection");
	log_text(&line, "peer", address);
	if (a->to)
		log_text(&line, "to", a->to);
	log_tls(&line, c);
	log_number(&line, "in", a->in);
	log_number(&line, "out", a->out);
	/* a loop's clock stands still for a turn, and another process's can be ahead of it */
	log_number(&line, "ms", a->now_ms > peer->began_ms ? a->now_ms - peer->began_ms : 0);
	log_text(&line, "end", a->end);
	if (a->error)
		log_text(&line, "error", a->error);
	log_end(&line);
}
