/* SPDX-License-Identifier: MIT */
#include "tell.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "logfmt.h"

int tell(int status, const char *about, const char *what)
{
	log_sentence("tlsfd connect: %s%s%s", about ? about : "", about ? ": " : "", what);
	return status;
}

/* The handshake was done, and then the kernel said no. */
static const struct tlsfd_report *kernel_refusal(const struct client *client)
{
	const struct tlsfd *tls = client ? client_tls(client) : NULL;

	return tls ? tlsfd_report(tls) : NULL;
}

/* What the sentences of the library and of OpenSSL begin or end with, and what helps. */
static const char *remedy_of(const char *sentence)
{
	static const struct {
		const char *part, *remedy;
	} known[] = {
		{ "does not speak TLS", "one that begins in plain text wants --starttls" },
		{ "local issuer certificate",
		  "--ca FILE if its authority is not one of the system's; or it sends no chain" },
		{ "self-signed certificate", "--ca FILE with it, if it is to be trusted" },
		{ "hostname mismatch", "--name NAME if it is for another name" },
		{ "IP address mismatch", "--name NAME if it is for a name" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strstr(sentence, known[i].part))
			return known[i].remedy;
	return NULL;
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

	if (sentence && !remedy)
		remedy = remedy_of(sentence);
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
