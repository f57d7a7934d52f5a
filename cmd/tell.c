/* SPDX-License-Identifier: MIT */
#include "tell.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"

int tell(int status, const char *about, const char *what)
{
	fprintf(stderr, "tlsfd connect: %s%s%s\n", about ? about : "", about ? ": " : "", what);
	return status;
}

/* The handshake was done, and then the kernel said no. */
static const struct tlsfd_report *kernel_refusal(const struct client *client)
{
	const struct tlsfd *tls = client ? client_tls(client) : NULL;

	return tls ? tlsfd_report(tls) : NULL;
}

const char *tell_failure(const struct client *client, int err, char *text, size_t size)
{
	static const char *const stages[] = {
		[STAGE_DIAL] = "connect",
		[STAGE_STARTTLS] = "STARTTLS",
		[STAGE_HANDSHAKE] = "handshake",
	};
	const char *sentence = client ? client_error(client) : NULL;
	const struct tlsfd_report *report = kernel_refusal(client);
	const char *remedy = report ? tlsfd_report_remedy(report) : NULL;

	snprintf(text, size, "%s: %s%s%s", stages[client ? client_stage(client) : STAGE_DIAL],
		 sentence ? sentence : strerrordesc_np(-err), remedy ? "; " : "",
		 remedy ? remedy : "");
	return text;
}

int tell_status(const struct client *client, int err)
{
	if (!client || err == -ENOMEM || err == -EMFILE || err == -ENFILE)
		return EXIT_FAILED;
	if (err == -ETIMEDOUT)
		return EXIT_TIMEOUT;
	if (client_stage(client) == STAGE_DIAL)
		return EXIT_UNREACHABLE;
	if (err == -EKEYREJECTED)
		return EXIT_UNVERIFIED;
	return kernel_refusal(client) ? EXIT_KERNEL : EXIT_HANDSHAKE;
}

static const char *place(const struct tlsfd *tls, enum tlsfd_direction dir)
{
	return tlsfd_kernel(tls, dir) ? "kernel" : "user";
}

static const char *why(const struct tlsfd_report *report)
{
	enum tlsfd_why tx = tlsfd_report_why(report, TLSFD_TX),
		       rx = tlsfd_report_why(report, TLSFD_RX);

	return tlsfd_why_name(tx > TLSFD_WHY_OTHER_DIRECTION ? tx : rx);
}

void tell_facts(struct logline *line, const struct tlsfd *tls)
{
	const struct tlsfd_report *report = tlsfd_report(tls);

	log_text(line, "version", tlsfd_version(tls) == TLSFD_TLS_1_3 ? "TLSv1.3" : "TLSv1.2");
	log_text(line, "cipher", tlsfd_cipher(tls));
	log_text(line, "alpn", tlsfd_alpn(tls));
	log_text(line, "tx", place(tls, TLSFD_TX));
	log_text(line, "rx", place(tls, TLSFD_RX));
	if (!tlsfd_kernel(tls, TLSFD_TX) || !tlsfd_kernel(tls, TLSFD_RX))
		log_text(line, "why", why(report));
}
