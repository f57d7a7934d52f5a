/* SPDX-License-Identifier: MIT */
#include "logfmt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
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

enum { KEPT_MAX = 1 << 20, KEPT_LEAST = 1 << 14, FINISH_MS = 1000, WAIT_US = 1000 };

/* What a write(2) to it would do where there is no room. */
static enum {
	RETURNS, /* or there is always room: a file */
	SOCKET,	 /* a journal's */
	WAITS,
} kind;

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

/* A pipe that another user made can't be, and for all there must be a /proc. */
static bool open_once_more(void)
{
	int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return false;
	dup2(fd, STDERR_FILENO);
	close(fd);
	return true;
}

static void interrupt(int number)
{
	(void)number;
}

/* There is one timer of this kind, and alarm(2) of who started us goes on in us. */
static bool ours;

/* Not restarted: a write(2) that waits ends with EINTR. */
static void heed_alarm(void)
{
	const struct sigaction action = { .sa_handler = interrupt };
	struct itimerval timer = { 0 };
	sigset_t alarm;

	getitimer(ITIMER_REAL, &timer);
	ours = !timer.it_value.tv_sec && !timer.it_value.tv_usec;
	if (!ours)
		return;
	sigaction(SIGALRM, &action, NULL);
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &alarm, NULL);
}

/* O_NONBLOCK would be for all who have this file, the shell that started us, too. */
void log_without_waiting(void)
{
	struct stat st;

	if (fstat(STDERR_FILENO, &st) < 0)
		return;
	pthread_atfork(NULL, NULL, forget_all); /* the parent has them, too */
	if (S_ISSOCK(st.st_mode))
		kind = SOCKET;
	else if (isatty(STDERR_FILENO) || (S_ISFIFO(st.st_mode) && !open_once_more()))
		kind = WAITS;
	if (kind == WAITS)
		heed_alarm();
}

/* poll(2) tells whether there is room, but not how much a terminal has, and of a pipe somebody
 * else can take it. The timer repeats: its first signal can come before write(2) waits. */
static ssize_t write_with_alarm(const char *text, size_t size)
{
	static const struct itimerval soon = { { 0, WAIT_US }, { 0, WAIT_US } };
	static const struct itimerval never = { 0 };
	struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };
	ssize_t n;
	int err;

	if (poll(&room, 1, 0) < 1) {
		errno = EAGAIN;
		return -1;
	}
	if (ours)
		setitimer(ITIMER_REAL, &soon, NULL);
	n = write(STDERR_FILENO, text, size);
	err = errno;
	if (ours)
		setitimer(ITIMER_REAL, &never, NULL);
	errno = err == EINTR ? EAGAIN : err;
	return n;
}

static ssize_t write_once(const char *text, size_t size)
{
	if (kind == SOCKET)
		return send(STDERR_FILENO, text, size, MSG_DONTWAIT);
	if (kind == WAITS)
		return write_with_alarm(text, size);
	return write(STDERR_FILENO, text, size);
}

/* How much there was room for. pipe(7): up to PIPE_BUF bytes go at once or not at all; a terminal
 * takes a part. After an error nobody ever will: it counts as gone. */
static size_t write_line(const char *text, size_t size)
{
	ssize_t n;

	do
		n = write_once(text, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : size;
	return (size_t)n;
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

static void keep(const struct logline *line, size_t from)
{
	size_t size = line->size - from;

	if (!size)
		return;
	/* none behind a gap */
	if (kept.lost || !make_room(size)) {
		kept.lost++;
		return;
	}
	memcpy(kept.text + kept.end, line->text + from, size);
	kept.end += size;
}

/* A line at a time: those of other processes can be between them. */
static bool flush_kept(void)
{
	while (kept.at < kept.end) {
		const char *line = kept.text + kept.at;
		size_t size = (size_t)((char *)memchr(line, '\n', kept.end - kept.at) - line) + 1;
		size_t n = write_line(line, size);

		kept.at += n;
		if (n < size)
			return false;
	}
	forget_kept();
	return true;
}

static bool tell_lost(void)
{
	struct logline line;
	size_t n;

	log_begin(&line, "log");
	log_number(&line, "lost", kept.lost);
	line.text[line.size++] = '\n';
	n = write_line(line.text, line.size);
	if (n) {
		kept.lost = 0;
		keep(&line, n);
	}
	return n == line.size;
}

bool log_flush(void)
{
	return flush_kept() && (!kept.lost || tell_lost());
}

void log_finish(void)
{
	struct deadline deadline = deadline_in(FINISH_MS);

	while (!log_flush() && !deadline_wait(&deadline, STDERR_FILENO, POLLOUT))
		;
	forget_all();
}

void log_end(struct logline *line)
{
	line->text[line->size++] = '\n';
	keep(line, log_flush() ? write_line(line->text, line->size) : 0);
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

/* A name or a word of a file can have them: it stays one line, and moves nobody's cursor. */
static void hide_controls(struct logline *line)
{
	for (size_t i = 0; i < line->size; i++)
		if ((unsigned char)line->text[i] < ' ' || line->text[i] == 0x7f)
			line->text[i] = '?';
}

void log_sentence(const char *format, ...)
{
	struct logline line;
	va_list args;
	int size;

	va_start(args, format);
	size = vsnprintf(line.text, sizeof(line.text), format, args);
	va_end(args);
	if (size < 0)
		return;
	/* the last is for the end of the line */
	line.size = (size_t)size < sizeof(line.text) ? (size_t)size : sizeof(line.text) - 1;
	hide_controls(&line);
	log_end(&line);
}
