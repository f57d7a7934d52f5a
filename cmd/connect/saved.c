/* SPDX-License-Identifier: MIT */
#include "saved.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE_MAX_SAVED = 1 << 20 };

static const char magic[] = "TLSFDS"; /* how a session begins: tlsfd_session(3) */

const char *saved_why(enum saved saved)
{
	switch (saved) {
	case SAVED_OPEN:
		return "not used: it belongs to, or can be written by, somebody else";
	case SAVED_ALIEN:
		return "this is no session; it stays as it is";
	default:
		return NULL;
	}
}

/* ---- reading ---- */

/* All of an open file, whose size is known. */
static void *read_all(int fd, size_t size)
{
	char *data = OPENSSL_malloc(size);
	size_t have = 0;
	ssize_t n;

	while (data && have < size && (n = read(fd, data + have, size - have)) > 0)
		have += (size_t)n;
	if (have == size)
		return data;
	OPENSSL_clear_free(data, size);
	return NULL;
}

static enum saved judge(const struct stat *st, const char *data)
{
	size_t size = (size_t)st->st_size;

	if (memcmp(data, magic, size < strlen(magic) ? size : strlen(magic)) != 0)
		return SAVED_ALIEN;
	/* who can write a session can pose as the server */
	return st->st_uid != geteuid() || st->st_mode & (S_IWGRP | S_IWOTH) ? SAVED_OPEN :
									      SAVED_TAKEN;
}

static enum saved read_open(int fd, struct pool *pool)
{
	struct session session = { NULL, 0, 0 };
	enum saved saved = SAVED_ALIEN;
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > SIZE_MAX_SAVED)
		return SAVED_ALIEN;
	if (!st.st_size)
		return SAVED_ABSENT;
	session.size = (size_t)st.st_size;
	session.data = read_all(fd, session.size);
	if (session.data)
		saved = judge(&st, session.data);
	if (saved == SAVED_TAKEN)
		pool_keep(pool, NULL, session.data, session.size);
	session_clear(&session);
	return saved;
}

enum saved saved_read(const char *path, struct pool *pool)
{
	/* a pipe with nobody at its other end would be waited for */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	enum saved saved;

	if (fd < 0)
		return errno == ENOENT ? SAVED_ABSENT : SAVED_ALIEN;
	saved = read_open(fd, pool);
	close(fd);
	return saved;
}

/* ---- writing ---- */

static int fill(int fd, const struct session *s)
{
	const char *at = s->data;
	size_t left = s->size;
	ssize_t n;

	for (; left; at += n, left -= (size_t)n) {
		n = write(fd, at, left);
		if (n < 0)
			return -errno;
	}
	return 0;
}

/* A reader sees the old one or the new one, and mkostemp gives it mode 0600. */
static int replace(const char *path, const struct session *s)
{
	char *new;
	int fd, err;

	if (asprintf(&new, "%s.XXXXXX", path) < 0)
		return -ENOMEM;
	fd = mkostemp(new, O_CLOEXEC);
	err = fd < 0 ? -errno : fill(fd, s);
	if (fd >= 0 && close(fd) < 0 && !err)
		err = -errno;
	if (!err && rename(new, path) < 0)
		err = -errno;
	if (err && fd >= 0)
		unlink(new);
	free(new);
	return err;
}

int saved_write(const char *path, struct pool *pool, bool used_up)
{
	struct session newest;
	int err = 0;

	if (pool_take(pool, &newest)) {
		err = replace(path, &newest);
		session_clear(&newest);
	} else if (used_up && unlink(path) < 0 && errno != ENOENT) {
		err = -errno;
	}
	return err;
}
