/* SPDX-License-Identifier: MIT */
#include "starttls.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "sys.h"

enum {
	REPLY_MAX = 8192,
	COMMAND_MAX = 512,
	SHOWN_MAX = 120, /* of what a server says, in a sentence of ours */
	STEPS_MAX = 3,
};

/* What has come so far. The size of the answer if it is complete and good; -EAGAIN: more
 * must come; or why it is no good. */
typedef ssize_t judge_fn(const char *text, size_t n);

struct step {
	const char *say; /* NULL: nothing; %s: who we are, or for xmpp the server's name */
	judge_fn *judge;
};

struct protocol {
	const char *name;
	bool binary;	   /* the command is eight bytes, not text */
	bool names_server; /* in the command */
	struct step steps[STEPS_MAX];
};

struct starttls {
	const struct protocol *protocol;
	const struct step *step;
	int fd;
	size_t to_send, sent, have;
	char name[256];
	char command[COMMAND_MAX];
	char reply[REPLY_MAX + 1];
	char error[2 * SHOWN_MAX];
};

/* ---- lines ---- */

/* The size of the line that text begins with, its end included; 0: not complete. */
static size_t line_size(const char *text, size_t n)
{
	const char *end = memchr(text, '\n', n);

	return end ? (size_t)(end - text) + 1 : 0;
}

static bool begins(const char *text, size_t n, const char *word)
{
	return n >= strlen(word) && strncasecmp(text, word, strlen(word)) == 0;
}

/* ---- SMTP: RFC 3207, replies as RFC 5321 section 4.2 ---- */

static bool smtp_line(const char *line, size_t size, const char *code)
{
	return size > 4 && memcmp(line, code, 3) == 0 && strchr(" -\r\n", line[3]);
}

/* wanted: a keyword that one of the lines must have, or NULL. */
static ssize_t smtp_reply(const char *text, size_t n, const char *code, const char *wanted)
{
	bool found = !wanted;
	size_t at = 0, size;

	while ((size = line_size(text + at, n - at))) {
		const char *line = text + at;

		if (!isdigit((unsigned char)line[0]))
			return -EPROTO;
		if (!smtp_line(line, size, code))
			return -ECONNREFUSED;
		found = found || (begins(line + 4, size - 4, wanted) &&
				  isspace((unsigned char)line[4 + strlen(wanted)]));
		at += size;
		if (line[3] != '-')
			return found ? (ssize_t)at : -EOPNOTSUPP;
	}
	return -EAGAIN;
}

static ssize_t smtp_ready(const char *text, size_t n)
{
	return smtp_reply(text, n, "220", NULL);
}

static ssize_t smtp_offers(const char *text, size_t n)
{
	return smtp_reply(text, n, "250", "STARTTLS");
}

/* ---- IMAP: RFC 9051 section 6.2.1 ---- */

#define TAG "tlsfd "

/* PREAUTH can't be followed by STARTTLS: somebody in between may have put it there. */
static ssize_t imap_greeting(const char *text, size_t n)
{
	size_t size = line_size(text, n);

	if (!size)
		return -EAGAIN;
	if (begins(text, size, "* OK"))
		return (ssize_t)size;
	return begins(text, size, "* ") ? -ECONNREFUSED : -EPROTO;
}

static ssize_t imap_go_ahead(const char *text, size_t n)
{
	size_t at = 0, size;

	while ((size = line_size(text + at, n - at))) {
		const char *line = text + at;

		at += size;
		if (begins(line, size, TAG "OK"))
			return (ssize_t)at;
		if (begins(line, size, TAG) || begins(line, size, "* BYE"))
			return -ECONNREFUSED;
		if (!begins(line, size, "* "))
			return -EPROTO;
	}
	return -EAGAIN;
}

/* ---- POP3: RFC 2595 section 4 ---- */

static ssize_t pop3_ok(const char *text, size_t n)
{
	size_t size = line_size(text, n);

	if (!size)
		return -EAGAIN;
	if (begins(text, size, "+OK"))
		return (ssize_t)size;
	return begins(text, size, "-ERR") ? -ECONNREFUSED : -EPROTO;
}

/* ---- PostgreSQL: protocol-flow, "SSL Session Encryption" ---- */

static const char postgres_request[8] = "\0\0\0\x08\x04\xd2\x16\x2f";

static ssize_t postgres_answer(const char *text, size_t n)
{
	if (!n)
		return -EAGAIN;
	if (text[0] == 'N')
		return -EOPNOTSUPP;
	return text[0] == 'S' ? 1 : -EPROTO;
}

/* ---- XMPP: RFC 6120 section 5 ---- */

#define XMPP_TLS "urn:ietf:params:xml:ns:xmpp-tls"

/* The answers are ended by tags that nothing before them can contain unescaped. */
static ssize_t after(const char *text, const char *tag)
{
	const char *found = strstr(text, tag);

	return found ? found + strlen(tag) - text : -EAGAIN;
}

static ssize_t xmpp_features(const char *text, size_t n)
{
	ssize_t size = after(text, "</stream:features>");

	if (n && text[0] != '<')
		return -EPROTO;
	if (strstr(text, "<stream:error"))
		return -ECONNREFUSED;
	if (size < 0 && !strstr(text, "<stream:features/>"))
		return size;
	return size > 0 && strstr(text, "<starttls") && strstr(text, XMPP_TLS) ? size : -EOPNOTSUPP;
}

static ssize_t xmpp_proceed(const char *text, size_t n)
{
	ssize_t size;

	if (begins(text, n, "<failure"))
		return -ECONNREFUSED;
	size = after(text, ">");
	if (size < 0)
		return size;
	if (!begins(text, n, "<proceed") || !strstr(text, XMPP_TLS))
		return -EPROTO;
	return text[size - 2] == '/' ? size : after(text, "</proceed>");
}

/* ---- the protocols ---- */

static const struct protocol protocols[] = {
	{ .name = "smtp",
	  .steps = { { NULL, smtp_ready },
		     { "EHLO %s\r\n", smtp_offers },
		     { "STARTTLS\r\n", smtp_ready } } },
	{ .name = "imap",
	  .steps = { { NULL, imap_greeting }, { TAG "STARTTLS\r\n", imap_go_ahead } } },
	{ .name = "pop3", .steps = { { NULL, pop3_ok }, { "STLS\r\n", pop3_ok } } },
	{ .name = "postgres", .binary = true, .steps = { { postgres_request, postgres_answer } } },
	{ .name = "xmpp",
	  .names_server = true,
	  .steps = { { "<?xml version='1.0'?><stream:stream to='%s' version='1.0' "
		       "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
		       xmpp_features },
		     { "<starttls xmlns='" XMPP_TLS "'/>", xmpp_proceed } } },
};

const struct protocol *starttls_protocol(const char *name)
{
	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
		if (strcmp(protocols[i].name, name) == 0)
			return &protocols[i];
	return NULL;
}

/* ---- sentences ---- */

/* What the server said first, fit for a terminal. */
static void show_reply(const struct starttls *s, char shown[SHOWN_MAX])
{
	size_t n = 0;

	while (n < s->have && n < SHOWN_MAX - 1 && !strchr("\r\n", s->reply[n])) {
		shown[n] = isprint((unsigned char)s->reply[n]) ? s->reply[n] : '?';
		n++;
	}
	shown[n] = 0;
}

static const char *sentence_of(int err)
{
	switch (err) {
	case -EOPNOTSUPP:
		return "the server does not offer TLS";
	case -ECONNREFUSED:
		return "the server refuses to start TLS";
	case -EPROTO:
		return "this is another protocol";
	case -EMSGSIZE:
		return "the answer is too long";
	case -EBADMSG:
		return "bytes came behind the server's answer, before TLS: somebody may have put "
		       "them there";
	case -ECONNABORTED:
		return "the server closed the connection before TLS";
	default:
		return strerrordesc_np(-err);
	}
}

static int fail(struct starttls *s, int err)
{
	char shown[SHOWN_MAX];

	show_reply(s, shown);
	snprintf(s->error, sizeof(s->error), "%s: %s%s%s%s", s->protocol->name, sentence_of(err),
		 *shown ? " (\"" : "", shown, *shown ? "\")" : "");
	return err;
}

/* ---- the dialogue ---- */

/* Who we are, as RFC 5321 section 4.1.3 lets a client say that has no name. */
static int address_literal(int fd, char *out, size_t size)
{
	struct sockaddr_storage a = { 0 };
	socklen_t len = sizeof(a);
	char text[INET6_ADDRSTRLEN];
	bool v6;

	if (getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return -errno;
	v6 = a.ss_family == AF_INET6;
	if (!inet_ntop(a.ss_family,
		       v6 ? (void *)&((struct sockaddr_in6 *)&a)->sin6_addr :
			    (void *)&((struct sockaddr_in *)&a)->sin_addr,
		       text, sizeof(text)))
		return -errno;
	snprintf(out, size, v6 ? "[IPv6:%s]" : "[%s]", text);
	return 0;
}

/* Nothing that means something in XML. */
static bool is_plain(const char *name)
{
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("-._:", *name))
			return false;
	return true;
}

static void prepare(struct starttls *s)
{
	const char *say = s->step->say;

	s->have = s->sent = s->to_send = 0;
	if (say && s->protocol->binary) {
		s->to_send = sizeof(postgres_request);
		memcpy(s->command, say, s->to_send);
	} else if (say) {
		s->to_send = (size_t)snprintf(s->command, sizeof(s->command), say, s->name);
	}
}

int starttls_start(struct starttls **starttls, const struct protocol *protocol, int fd,
		   const char *name)
{
	struct starttls *s = calloc(1, sizeof(*s));
	int err = 0;

	*starttls = s;
	if (!s)
		return -ENOMEM;
	s->protocol = protocol;
	s->step = protocol->steps;
	s->fd = fd;
	if (!protocol->names_server)
		err = address_literal(fd, s->name, sizeof(s->name));
	else if (strlen(name) < sizeof(s->name) && is_plain(name))
		memcpy(s->name, name, strlen(name));
	else
		err = -EINVAL;
	prepare(s);
	if (!err)
		return 0;
	free(s);
	*starttls = NULL;
	return err;
}

static int send_command(struct starttls *s)
{
	while (s->sent < s->to_send) {
		ssize_t n = sys_send(s->fd, s->command + s->sent, s->to_send - s->sent,
				     MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return (int)n;
		s->sent += (size_t)n;
	}
	return 0;
}

/* The size of the answer to the command, or a negative errno. */
static ssize_t read_reply(struct starttls *s)
{
	ssize_t n, size;

	do {
		n = sys_recv(s->fd, s->reply + s->have, REPLY_MAX - s->have, MSG_DONTWAIT);
		if (n < 0)
			return n;
		s->have += (size_t)n;
		s->reply[s->have] = 0;
		size = s->step->judge(s->reply, s->have);
		if (size == -EAGAIN && n == 0)
			return s->have == REPLY_MAX ? -EMSGSIZE : -ECONNABORTED;
	} while (size == -EAGAIN);
	return size;
}

int starttls_step(struct starttls *s)
{
	const struct step *end = s->protocol->steps + STEPS_MAX;

	while (s->step < end && s->step->judge) {
		ssize_t size = send_command(s);

		if (!size)
			size = read_reply(s);
		if (size > 0 && (size_t)size != s->have)
			size = -EBADMSG;
		if (size < 0)
			return size == -EAGAIN ? -EAGAIN : fail(s, (int)size);
		s->step++;
		if (s->step < end)
			prepare(s);
	}
	return 0;
}

short starttls_wants(const struct starttls *s)
{
	return s->sent < s->to_send ? POLLOUT : POLLIN;
}

const char *starttls_error(const struct starttls *s)
{
	return s->error;
}

void starttls_free(struct starttls *s)
{
	free(s);
}
