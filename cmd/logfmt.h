/*
 * Events on stderr, as logfmt: one line each, name=value, quoted where needed, in one
 * write(2) so that the lines of several processes don't mix.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_LOGFMT_H
#define TLSFD_LOGFMT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct logline {
	size_t size;
	char text[2048]; /* what doesn't fit is left out */
};

/* From now on a line that nobody takes (the reader of a pipe is slow, a terminal is stopped) is
 * kept, 1 MiB of them; those behind are left out, and how many were is said later: event=log
 * lost=NUMBER. It can take SIGALRM. */
void log_without_waiting(void);
/* Writes what was kept. False: not all; call again soon. */
bool log_flush(void);
/* The same, before the process ends: waits, but not for long; then what is left is lost. */
void log_finish(void);

/* event=NAME */
void log_begin(struct logline *line, const char *event);
/* NULL is written as "". */
void log_text(struct logline *line, const char *name, const char *value);
void log_format(struct logline *line, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void log_number(struct logline *line, const char *name, uint64_t value);
void log_end(struct logline *line);

/* A whole line: event=NAME error="...". */
void log_error(const char *event, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A whole line, for a person: as it is. */
void log_sentence(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
