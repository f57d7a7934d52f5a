/* SPDX-License-Identifier: MIT */
#include "metrics.h"

#include <dlfcn.h>
#include <errno.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd.h"
#include "exposition.h"
#include "files.h"
#include "logfmt.h"
#include "roles/image.h"

enum {
	LISTEN_FD = IMAGE_FIRST_FD,
	COUNTS_FD,
	PLAN_FD,
	ROOT_FD,
	RESTART_MS = 1000,
	CLIENTS = 32,
	CLIENT_SECONDS = 10,
	CLIENT_MEMORY = 8192,
};

/* ---- HTTP, by libmicrohttpd ---- */

/* Loaded by this process only: it brings GnuTLS along, which has no business where the
 * private keys are. */
struct http {
	__typeof__(&MHD_start_daemon) start;
	__typeof__(&MHD_run) run;
	__typeof__(&MHD_get_timeout) timeout;
	__typeof__(&MHD_get_daemon_info) info;
	__typeof__(&MHD_create_response_from_buffer) response;
	__typeof__(&MHD_destroy_response) destroy;
	__typeof__(&MHD_add_response_header) header;
	__typeof__(&MHD_queue_response) queue;
};

static const char library[] = "libmicrohttpd.so.12";

static int load(struct http *http)
{
	static const char *const names[] = { "MHD_start_daemon",
					     "MHD_run",
					     "MHD_get_timeout",
					     "MHD_get_daemon_info",
					     "MHD_create_response_from_buffer",
					     "MHD_destroy_response",
					     "MHD_add_response_header",
					     "MHD_queue_response" };
	void *symbols[sizeof(names) / sizeof(names[0])], *lib = dlopen(library, RTLD_NOW);

	_Static_assert(sizeof(symbols) == sizeof(*http), "a name for each");
	if (!lib)
		return -ENOENT;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		symbols[i] = dlsym(lib, names[i]);
		if (!symbols[i])
			return -ENOENT;
	}
	memcpy(http, symbols, sizeof(symbols));
	return 0;
}

int metrics_possible(char *error, size_t size)
{
	struct http http;
	int status = 0;
	pid_t pid = fork(); /* not into this process: see above */

	if (pid == 0)
		_exit(load(&http) ? 1 : 0);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && status == 0)
		return 0;
	snprintf(error, size, "metrics: %s is needed; on Debian: apt install libmicrohttpd12",
		 library);
	return -ENOENT;
}

/* ---- the process ---- */

struct reader {
	struct role_plan plan;
	struct role_run run;
	const struct counts *first;
	struct http http;
	struct MHD_Daemon *daemon;
	struct source source;
	struct timer timer;
};

static enum MHD_Result send_text(struct reader *r, struct MHD_Connection *client, unsigned status,
				 char *text, size_t size)
{
	struct MHD_Response *response = r->http.response(
		size, text, status == MHD_HTTP_OK ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	enum MHD_Result result = MHD_NO;

	if (!response)
		return MHD_NO;
	if (r->http.header(response, "Content-Type",
			   status == MHD_HTTP_OK ? EXPOSITION_TYPE : "text/plain") == MHD_YES)
		result = r->http.queue(client, status, response);
	r->http.destroy(response);
	return result;
}

static enum MHD_Result answer(void *arg, struct MHD_Connection *client, const char *path,
			      const char *method, const char *version, const char *body,
			      size_t *body_size, void **seen)
{
	static char not_found[] = "there is /metrics\n", not_allowed[] = "GET is allowed\n";
	struct reader *r = arg;
	struct counts sum;
	size_t size = 0;
	char *text;

	(void)version, (void)body;
	if (!*seen) { /* the header is there, the answer comes with the end of the body */
		*seen = r;
		return MHD_YES;
	}
	if (*body_size) {
		*body_size = 0;
		return MHD_YES;
	}
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return send_text(r, client, MHD_HTTP_METHOD_NOT_ALLOWED, not_allowed,
				 sizeof(not_allowed) - 1);
	if (strcmp(path, "/metrics") != 0)
		return send_text(r, client, MHD_HTTP_NOT_FOUND, not_found, sizeof(not_found) - 1);
	ledger_sum(r->first, &sum);
	text = exposition(&sum, &size);
	return text ? send_text(r, client, MHD_HTTP_OK, text, size) : MHD_NO;
}

static void go_on(struct reader *r)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (r->http.run(r->daemon) != MHD_YES)
		loop_stop(&r->run.loop);
	else if (r->http.timeout(r->daemon, &ms) == MHD_YES)
		loop_at(&r->run.loop, &r->timer, r->run.loop.now_ms + ms);
}

static void on_ready(struct source *source, uint32_t events)
{
	(void)events;
	go_on(owner_of(source, struct reader, source));
}

static void on_time(struct timer *timer)
{
	go_on(owner_of(timer, struct reader, timer));
}

static int open_http(struct reader *r)
{
	int err = load(&r->http);

	if (err)
		return err;
	r->daemon = r->http.start(MHD_USE_EPOLL, 0, NULL, NULL, answer, r, MHD_OPTION_LISTEN_SOCKET,
				  LISTEN_FD, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CLIENTS,
				  MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CLIENT_SECONDS,
				  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CLIENT_MEMORY,
				  MHD_OPTION_END);
	if (!r->daemon)
		return -EIO;
	r->source.fd = r->http.info(r->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	r->source.ready = on_ready;
	r->timer.due = on_time;
	return 0;
}

static void no_connections(void *arg)
{
	(void)arg;
}

static void end(void *arg)
{
	struct reader *r = arg;

	loop_stop(&r->run.loop);
}

static int read_plan(struct reader *r)
{
	int err = image_own();

	if (!err && pread(PLAN_FD, &r->plan, sizeof(r->plan), 0) != sizeof(r->plan))
		err = -EPROTO;
	if (r->plan.confinement.root >= 0)
		r->plan.confinement.root = ROOT_FD;
	close(PLAN_FD);
	if (!err)
		r->first = ledger_read(COUNTS_FD);
	return err || r->first ? err : -errno;
}

static int run(struct reader *r)
{
	int err = read_plan(r);

	r->run = (struct role_run){
		.plan = &r->plan, .drain = no_connections, .term = end, .stop = end, .arg = r
	};
	if (!err)
		err = open_http(r);
	if (!err)
		err = role_start(&r->run);
	if (!err)
		err = loop_add(&r->run.loop, &r->source, EPOLLIN);
	return err ? err : loop_run(&r->run.loop);
}

int metrics_process(int argc, char **argv)
{
	static struct reader r;
	int err;

	(void)argc, (void)argv;
	prctl(PR_SET_NAME, "tlsfd-metrics");
	err = run(&r);
	if (err)
		log_error("metrics", "%s%s%s%s", r.run.step, *r.run.step ? ": " : "",
			  strerror(-err), files_remedy(err));
	log_finish();
	_exit(err ? EXIT_FAILED : EXIT_OK);
}

/* ---- the master's side ---- */

static _Noreturn void be(const struct metrics *m)
{
	const int fds[IMAGE_FDS] = { m->listening.fds[0], m->ledger->fd, m->plan_fd,
				     m->plan.confinement.root, -1 };
	int err;

	leave_standard_fds();
	err = image_exec(m->image, "metrics-process", 0, fds);
	log_error("metrics", "start from the program's file: %s%s", strerror(-err),
		  files_remedy(err));
	log_finish();
	_exit(EXIT_FAILED);
}

static void spawn(struct metrics *m)
{
	m->pid = fork();
	if (m->pid == 0)
		be(m);
	if (m->pid < 0)
		loop_at(m->loop, &m->restart, m->loop->now_ms + RESTART_MS);
}

static void on_restart(struct timer *timer)
{
	spawn(owner_of(timer, struct metrics, restart));
}

static void tell(const struct metrics *m)
{
	struct logline line;

	log_begin(&line, "metrics");
	log_text(&line, "addr", m->listening.address);
	log_end(&line);
}

int metrics_start(struct metrics *m)
{
	ssize_t put;

	m->restart.due = on_restart;
	m->plan_fd = memfd_create("plan", MFD_CLOEXEC);
	if (m->plan_fd < 0)
		return -errno;
	put = write(m->plan_fd, &m->plan, sizeof(m->plan));
	if (put != sizeof(m->plan))
		return put < 0 ? -errno : -ENOSPC;
	spawn(m);
	tell(m);
	return 0;
}

bool metrics_bury(struct metrics *m, pid_t pid, int status)
{
	if (!m->pid || pid != m->pid)
		return false;
	role_log_death(ROLE_METRICS, pid, status, true);
	(void)!listening_mend(&m->listening);
	m->pid = 0;
	loop_at(m->loop, &m->restart, m->loop->now_ms + RESTART_MS);
	return true;
}

void metrics_stop(struct metrics *m)
{
	loop_cancel(m->loop, &m->restart);
	if (m->pid > 0)
		kill(m->pid, SIGKILL); /* nobody would look whether it ends */
	m->pid = 0;
	listening_close(&m->listening);
	if (m->plan_fd >= 0)
		close(m->plan_fd);
}
