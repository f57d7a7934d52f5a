/* SPDX-License-Identifier: MIT */
#include "pipes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	KEEP = 64, /* idle ones */
	REFUSED_MS = 100,
};

/*
 * A user who has many pipes gets small ones (fs/pipe.c: pipe-user-pages-soft). Those would
 * not do: kernels before 7.1 (6.12.113, 6.1.190) drop what of a TLS record doesn't fit.
 */
static struct pipe *make(void)
{
	struct pipe *pipe = malloc(sizeof(*pipe));
	int fd[2];

	if (!pipe || pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(pipe);
		return NULL;
	}
	*pipe = (struct pipe){ .out = fd[0], .in = fd[1] };
	if (fcntl(fd[0], F_GETPIPE_SZ) >= PIPE_ROOM)
		return pipe;
	pipes_drop(pipe);
	return NULL;
}

struct pipe *pipes_take(struct pipes *pool, uint64_t now_ms)
{
	struct pipe *pipe = pool->idle;

	if (pipe) {
		pool->idle = pipe->next;
		pool->n_idle--;
		return pipe;
	}
	if (now_ms < pool->refused_until_ms)
		return NULL;
	pipe = make();
	if (!pipe)
		pool->refused_until_ms = now_ms + REFUSED_MS;
	return pipe;
}

void pipes_put(struct pipes *pool, struct pipe *pipe)
{
	if (pool->n_idle == KEEP) {
		pipes_drop(pipe);
		return;
	}
	pipe->next = pool->idle;
	pool->idle = pipe;
	pool->n_idle++;
}

void pipes_drop(struct pipe *pipe)
{
	close(pipe->out);
	close(pipe->in);
	free(pipe);
}

void pipes_close(struct pipes *pool)
{
	while (pool->idle) {
		struct pipe *pipe = pool->idle;

		pool->idle = pipe->next;
		pipes_drop(pipe);
	}
	pool->n_idle = 0;
}
