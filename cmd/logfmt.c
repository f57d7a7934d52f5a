/* SPDX-License-Identifier: MIT */
#include "logfmt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "deadline.h"

enum { VALUE_MAX = 1024 };

/* One is left for the end of the line. */
static void put(struct logline *line, char c)
{
	if (line->size < sizeof(line->text) - 1)
		line->text[line->size++] = c;
}

static void put_all(struct logline *line, const char *text)
{
	while (*text)
		put(line, *text++);
}

static bool is_plain(const char *value)
{
	const char *p = value;

	for (; *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || strchr("\"\\=", *p))
			return false;
	return p != value;
}

/* A value can come from the other end of a connection. */
static void put_quoted(struct logline *line, const char *value)
{
	static const char hex[] = "0123456789abcdef";

	put(line, '"');
	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;

		if (c == '"' || c == '\\') {
			put(line, '\\');
			put(line, *value);
		} else if (c < ' ' || c >= 0x7f) {
			put_all(line, "\\x");
			put(line, hex[c >> 4]);
			put(line, hex[c & 15]);
		} else {
			put(line, *value);
		}
	}
	put(line, '"');
}

void log_text(struct logline *line, const char *name, const char *value)
{
	if (line->size)
		put(line, ' ');
	put_all(line, name);
	put(line, '=');
	if (value && is_plain(value))
		put_all(line, value);
	else
		put_quoted(line, value ? value : "");
}

void log_begin(struct logline *line, const char *event)
{
	line->size = 0;
	log_text(line, "event", event);
}

static void log_args(struct logline *line, const char *name, const char *format, va_list args)
{
	char value[VALUE_MAX];

	vsnprintf(value, sizeof(value), format, args);
	log_text(line, name, value);
}

void log_format(struct logline *line, const char *name, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_args(line, name, format, args);
	va_end(args);
}

void log_number(struct logline *line, const char *name, uint64_t value)
{
	log_format(line, name, "%llu", (unsigned long long)value);
}

/* ---- stderr ---- */

enum { KEPT_MAX = 1 << 20, KEPT_LEAST = 1 << 14, FINISH_MS = 1000 };

static bool is_socket; /* a journal's */

/* Lines that found no room: most of the time none, and no memory. */
static struct {
	char *text;
	size_t at, end, room;
	unsigned lost; /* behind them */
} kept;

static void forget_kept(void)
{
	free(kept.text);
	kept.text = NULL;
	kept.at = kept.end = kept.room = 0;
}

static void forget_all(void)
{
	forget_kept();
	kept.lost = 0;
}

/* A socket waits by its flags, which are not ours alone; a pipe is opened once more. */
void log_without_waiting(void)
{
	struct stat st;
	int fd;

	if (fstat(STDERR_FILENO, &st) < 0)
		return;
	is_socket = S_ISSOCK(st.st_mode);
	pthread_atfork(NULL, NULL, forget_all); /* the parent has them, too */
	if (!S_ISFIFO(st.st_mode))
		return;
	fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	dup2(fd, STDERR_FILENO);
	close(fd);
}

/* pipe(7): up to PIPE_BUF bytes go at once or not at all. False: there is no room. */
static bool write_line(const char *text, size_t size)
{
	ssize_t n;

	do
		n = is_socket ? send(STDERR_FILENO, text, size, MSG_DONTWAIT) :
				write(STDERR_FILENO, text, size);
	while (n < 0 && errno == EINTR);
	return n >= 0 || errno != EAGAIN;
}

static bool make_room(size_t size)
{
	size_t room = kept.room ? 2 * kept.room : KEPT_LEAST;
	char *more;

	if (kept.text && kept.room - kept.end >= size)
		return true;
	more = room <= KEPT_MAX ? realloc(kept.text, room) : NULL;
	if (!more)
		return false;
	kept.text = more;
	kept.room = room;
	return true;
}

static void keep(const struct logline *line)
{
	/* none behind a gap */
	if (kept.lost || !make_room(line->size)) {
		kept.lost++;
		return;
	}
	memcpy(kept.text + kept.end, line->text, line->size);
	kept.end += line->size;
}

static bool tell_lost(void)
{
	struct logline line;

	log_begin(&line, "log");
	log_number(&line, "lost", kept.lost);
	line.text[line.size++] = '\n';
	return write_line(line.text, line.size);
}

/* A line at a time: those of other processes can be between them. */
bool log_flush(void)
{
	while (kept.at < kept.end) {
		const char *line = kept.text + kept.at;
		size_t size = (size_t)((char *)memchr(line, '\n', kept.end - kept.at) - line) + 1;

		if (!write_line(line, size))
			return false;
		kept.at += size;
	}
	forget_kept();
	if (kept.lost && !tell_lost())
		return false;
	kept.lost = 0;
	return true;
}

void log_finish(void)
{
	struct deadline deadline = deadline_in(FINISH_MS);

	while (!log_flush() && !deadline_wait(&deadline, STDERR_FILENO, POLLOUT))
		;
}

void log_end(struct logline *line)
{
	line->text[line->size++] = '\n';
	if (!log_flush() || !write_line(line->text, line->size))
		keep(line);
}

void log_error(const char *event, const char *format, ...)
{
	struct logline line;
	va_list args;

	log_begin(&line, event);
	va_start(args, format);
	log_args(&line, "error", format, args);
	va_end(args);
	log_end(&line);
}
