/*
 * The plain dialogue that leads to TLS: STARTTLS and its like, a client's side.
 *
 * Bounded: three answers of at most 8 KiB. Bytes behind an answer were put there for the
 * session that follows (CVE-2011-0411, CVE-2021-23222) and end it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_STARTTLS_H
#define TLSFD_STARTTLS_H

#include <stdbool.h>

struct protocol;
struct starttls;

/* By name: smtp, imap, pop3, postgres, xmpp. NULL: none of them. */
const struct protocol *starttls_protocol(const char *name);

/* fd: connected, and non-blocking or not; it stays the caller's. name: the server's. 0,
 * -EINVAL: name can't stand in what this protocol sends; -ENOMEM. */
int starttls_start(struct starttls **s, const struct protocol *protocol, int fd, const char *name);

/* 0: TLS may begin; -EAGAIN: poll for starttls_wants, call again; else the end:
 * -EOPNOTSUPP: not offered; -ECONNREFUSED: refused; -EPROTO: another protocol;
 * -EMSGSIZE: too long; -EBADMSG: bytes behind an answer; -ECONNABORTED: closed; what TCP
 * said. */
int starttls_step(struct starttls *s);

short starttls_wants(const struct starttls *s);
/* The error in a sentence, with what the server said. */
const char *starttls_error(const struct starttls *s);
void starttls_free(struct starttls *s);

#endif
