/* SPDX-License-Identifier: MIT */
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	TURN_STEPS = 32, /* of a half before others have their turn */
	LINGER_MS = 1000,
	TICK_MS = 10,
	DRAIN_STEPS = 16, /* reads of up to PIPE_ROOM in a tick */
};

struct relay {
	struct relays *set;
	struct relay *next, **link;
	struct source tls_source, plain_source; /* fd -1: none */
	struct timer turn; /* there is more to do; or, lingering, the next look */
	struct timer idle;
	struct sides sides;
	struct half half[HALVES];
	uint64_t active_ms;
	uint32_t idle_ms; /* the set's when it began */
	int err;
	enum relay_how how : 16;
	bool hurry; /* don't linger */
	relay_ended *ended;
	void *arg;
};

const char *relay_how_name(enum relay_how how)
{
	static const char *const names[] = {
		[RELAY_CLOSED] = "closed",
		[RELAY_TRUNCATED] = "truncated",
		[RELAY_ALERT] = "alert",
		[RELAY_RESET] = "reset",
		[RELAY_BAD_RECORD] = "bad-record",
		[RELAY_BACKEND_RESET] = "backend-reset",
		[RELAY_IDLE] = "idle",
		[RELAY_STOPPED] = "stopped",
		[RELAY_ERROR] = "error",
	};

	return names[how];
}

/* The library knows more than an errno about what came from the TLS peer. */
const char *relay_end_error(const struct relay_end *end, const struct tlsfd *c)
{
	switch (end->how) {
	case RELAY_CLOSED:
	case RELAY_IDLE:
	case RELAY_STOPPED:
		return NULL;
	case RELAY_ALERT:
	case RELAY_BAD_RECORD:
	case RELAY_TRUNCATED:
		return tlsfd_error(c);
	default:
		return strerror(-end->err);
	}
}

/* ---- the end ---- */

static void unlink_relay(struct relay *r)
{
	*r->link = r->next;
	if (r->next)
		r->next->link = r->link;
	r->set->count--;
}

/* Whoever reads the plain side must not take a cut for an end: RST instead of FIN.
 * (A Unix socket has no such thing.) */
static void close_plain(struct relay *r)
{
	const struct linger reset = { .l_onoff = 1 };
	const struct sides *s = &r->sides;

	if (r->how != RELAY_CLOSED && r->how != RELAY_BACKEND_RESET)
		setsockopt(s->plain, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(s->plain);
}

static void free_relay(struct relay *r)
{
	int fd = r->sides.splicer.fd;

	tlsfd_free(r->sides.tls);
	close(fd);
	loop_cancel(r->set->loop, &r->turn);
	loop_cancel(r->set->loop, &r->idle);
	unlink_relay(r);
	free(r);
}

static void end(struct relay *r)
{
	struct relay_end e = { r->how, r->err, r->half[HALF_IN].bytes, r->half[HALF_OUT].bytes };

	r->ended(r->arg, &e);
	free_relay(r);
}

/* What still comes is dropped: close(2) with unread data resets the connection, and our last
 * record, an alert perhaps, would be lost on its way. */
static bool delivered(struct relay *r)
{
	struct carriers *c = &r->set->carriers;
	int left = 0;

	for (int i = 0; i < DRAIN_STEPS; i++)
		if (tlsfd_read(r->sides.tls, c->scratch, sizeof(c->scratch)) <= 0)
			break;
	return ioctl(r->sides.splicer.fd, SIOCOUTQ, &left) < 0 || left == 0;
}

static void linger(struct timer *timer)
{
	struct relay *r = owner_of(timer, struct relay, turn);
	uint64_t now = r->set->loop->now_ms;

	if (delivered(r) || now - r->active_ms >= LINGER_MS ||
	    loop_at(r->set->loop, &r->turn, now + TICK_MS))
		end(r);
}

static void forget_source(struct relay *r, struct source *source)
{
	if (source->fd >= 0)
		loop_remove(r->set->loop, source);
	source->fd = -1;
}

/* Only the TLS side may have to wait: for its peer to have all that it was sent. */
static void conclude(struct relay *r)
{
	for (enum half_way way = HALF_IN; way < HALVES; way++)
		half_drop(&r->half[way]);
	forget_source(r, &r->tls_source);
	forget_source(r, &r->plain_source);
	loop_cancel(r->set->loop, &r->idle);
	close_plain(r);
	if (!r->hurry && (r->how == RELAY_BAD_RECORD || r->how == RELAY_BACKEND_RESET)) {
		r->turn.due = linger;
		r->active_ms = r->set->loop->now_ms;
		linger(&r->turn);
	} else {
		end(r);
	}
}

/* ---- errors ---- */

static void note(struct relay *r, enum relay_how how, int err)
{
	if (r->how == RELAY_CLOSED) {
		r->how = how;
		r->err = err;
	}
}

static enum relay_how how_tls_failed(const struct relay *r, int err)
{
	if (tlsfd_alert(r->sides.tls) >= 0)
		return RELAY_ALERT;
	switch (err) {
	case -ECONNABORTED:
		return RELAY_TRUNCATED;
	case -EPROTO:
	case -EBADMSG:
	case -EMSGSIZE:
	case -EINVAL:
	case -EKEYEXPIRED:
		return RELAY_BAD_RECORD;
	case -ENOMEM:
		return RELAY_ERROR;
	default:
		return RELAY_RESET;
	}
}

/* True: the relay is over. */
static bool fail(struct relay *r, enum half_way way, bool giving, int err)
{
	bool tls = giving == (way == HALF_OUT);
	struct half *h = &r->half[way];

	/* the peer has closed, said so, and is gone: our close_notify finds nobody */
	if (tls && giving && !h->held && r->half[HALF_IN].eof) {
		h->done = true;
		return false;
	}
	if (tls) {
		if (giving)
			err = splicer_reason(&r->sides.splicer, err);
		note(r, how_tls_failed(r, err), err);
		return true;
	}
	note(r, err == -ENOMEM ? RELAY_ERROR : RELAY_BACKEND_RESET, err);
	/* it takes nothing more, but what it has sent may still be there to be read */
	half_drop(h);
	h->done = true;
	return way == HALF_OUT;
}

/* ---- moving ---- */

enum pumped { WAITS, HAS_MORE, IS_OVER };

static enum pumped step_on(struct relay *r, enum half_way way)
{
	struct half *h = &r->half[way];

	for (int i = 0; i < TURN_STEPS; i++) {
		bool gives = half_gives(h);
		int err;

		/* after an error of the plain side no close_notify: it would say that all is there
		 */
		if (way == HALF_OUT && h->eof && !h->held && r->how != RELAY_CLOSED)
			return IS_OVER;
		if (h->done || !(gives ? h->can_give : h->can_take))
			return WAITS;
		err = half_step(h, way, &r->sides, &r->set->carriers);
		if (err == -EAGAIN)
			*(gives ? &h->can_give : &h->can_take) = false;
		else if (err && fail(r, way, gives, err))
			return IS_OVER;
	}
	return HAS_MORE;
}

static enum pumped pump(struct relay *r, enum half_way way)
{
	enum pumped so_far = step_on(r, way);

	half_push(&r->half[way], way, &r->sides);
	return so_far;
}

/* Grows with each byte that is taken, and with each that is given. */
static uint64_t progress(const struct relay *r)
{
	const struct half *in = &r->half[HALF_IN], *out = &r->half[HALF_OUT];

	return 2 * (in->bytes + out->bytes) - in->held - out->held;
}

static void go_on(struct relay *r)
{
	uint64_t now = r->set->loop->now_ms, before = progress(r);
	enum pumped in, out;

	r->set->carriers.now_ms = now;
	in = pump(r, HALF_IN);
	out = in == IS_OVER ? IS_OVER : pump(r, HALF_OUT);
	/* a part of a record, or a KeyUpdate, keeps nobody from being idle */
	if (progress(r) != before)
		r->active_ms = now;
	if (out != IS_OVER && (in == HAS_MORE || out == HAS_MORE) &&
	    loop_at(r->set->loop, &r->turn, now)) {
		note(r, RELAY_ERROR, -ENOMEM);
		out = IS_OVER;
	}
	if (out == IS_OVER || (r->half[HALF_IN].done && r->half[HALF_OUT].done))
		conclude(r);
}

static void turn(struct timer *timer)
{
	go_on(owner_of(timer, struct relay, turn));
}

enum {
	READABLE = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR,
	WRITABLE = EPOLLOUT | EPOLLHUP | EPOLLERR,
};

static void tls_ready(struct source *source, uint32_t events)
{
	struct relay *r = owner_of(source, struct relay, tls_source);
	/* OpenSSL may have to write in order to read */
	bool any = !r->sides.kernel[HALF_IN] || !r->sides.kernel[HALF_OUT];

	r->half[HALF_IN].can_take |= any || events & READABLE;
	r->half[HALF_OUT].can_give |= any || events & WRITABLE;
	if (events & WRITABLE)
		splicer_flush(&r->sides.splicer);
	go_on(r);
}

static void plain_ready(struct source *source, uint32_t events)
{
	struct relay *r = owner_of(source, struct relay, plain_source);

	r->half[HALF_OUT].can_take |= !!(events & READABLE);
	r->half[HALF_IN].can_give |= !!(events & WRITABLE);
	go_on(r);
}

static void idle(struct timer *timer)
{
	struct relay *r = owner_of(timer, struct relay, idle);
	uint64_t at = r->active_ms + r->idle_ms;

	if (at > r->set->loop->now_ms) {
		if (loop_at(r->set->loop, timer, at) == 0)
			return;
		note(r, RELAY_ERROR, -ENOMEM);
	}
	note(r, RELAY_IDLE, -ETIMEDOUT);
	conclude(r);
}

/* ---- the start ---- */

/* True: TCP. */
static bool set_up_socket(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (!(flags & O_NONBLOCK))
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	/* what is here is all there is for now; a Unix socket has no such option */
	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) == 0;
}

static void set_up(struct relay *r, struct tlsfd *tls, int plain)
{
	struct sides *s = &r->sides;

	*s = (struct sides){
		.tls = tls,
		.plain = plain,
		.kernel = { tlsfd_kernel(tls, TLSFD_RX), tlsfd_kernel(tls, TLSFD_TX) },
	};
	splicer_start(&s->splicer, tls);
	if (r->set->splices_per_look)
		s->splicer.most = r->set->splices_per_look;
	set_up_socket(s->splicer.fd);
	s->plain_tcp = set_up_socket(plain);
	r->tls_source = (struct source){ s->splicer.fd, tls_ready };
	r->plain_source = (struct source){ plain, plain_ready };
	for (enum half_way way = HALF_IN; way < HALVES; way++)
		r->half[way].can_take = r->half[way].can_give = true;
}

/* Edges only: no call changes what is waited for. */
static int watch(struct relay *r, struct source *source)
{
	int err = loop_add(r->set->loop, source, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);

	if (err)
		source->fd = -1;
	return err;
}

static int watch_all(struct relay *r)
{
	struct loop *loop = r->set->loop;
	int err = watch(r, &r->tls_source);

	if (!err)
		err = watch(r, &r->plain_source);
	if (!err && r->idle_ms)
		err = loop_at(loop, &r->idle, loop->now_ms + r->idle_ms);
	if (!err)
		err = loop_at(loop, &r->turn, loop->now_ms);
	return err;
}

/* Nothing has begun: what was given stays the caller's. */
static void give_up(struct relay *r)
{
	forget_source(r, &r->tls_source);
	forget_source(r, &r->plain_source);
	loop_cancel(r->set->loop, &r->idle);
	loop_cancel(r->set->loop, &r->turn);
	free(r);
}

int relay_start(struct relay **relay, struct relays *set, struct tlsfd *tls, int plain,
		relay_ended *ended, void *arg)
{
	struct relay *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	r->set = set;
	r->ended = ended;
	r->arg = arg;
	r->turn.due = turn;
	r->idle.due = idle;
	r->active_ms = set->loop->now_ms;
	r->idle_ms = set->idle_ms;
	set_up(r, tls, plain);
	err = watch_all(r);
	if (err) {
		give_up(r);
		return err;
	}
	r->next = set->first;
	r->link = &set->first;
	if (r->next)
		r->next->link = &r->next;
	set->first = r;
	set->count++;
	*relay = r;
	return 0;
}

void relay_stop(struct relay *r)
{
	if (r->turn.due == linger) {
		end(r);
		return;
	}
	note(r, RELAY_STOPPED, 0);
	r->hurry = true;
	conclude(r);
}

void relays_stop(struct relays *set)
{
	struct relay *next;

	for (struct relay *r = set->first; r; r = next) {
		next = r->next;
		relay_stop(r);
	}
}

void relays_close(struct relays *set)
{
	relays_stop(set);
	pipes_close(&set->carriers.pipes);
}
