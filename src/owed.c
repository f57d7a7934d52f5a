/* SPDX-License-Identifier: MIT */
#include "owed.h"

#include <errno.h>

#include "met.h"
#include "sys.h"
#include "userspace.h"

int owed_send(struct tlsfd *c, uint8_t type, const void *data, size_t n, int flags)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(1)];
	} control = { .align = { .cmsg_len = CMSG_LEN(1),
				 .cmsg_level = SOL_TLS,
				 .cmsg_type = TLS_SET_RECORD_TYPE } };
	struct iovec iov = { (void *)data, n };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t sent;

	*CMSG_DATA(&control.align) = type;
	sent = sys_sendmsg(c->fd, &msg, MSG_NOSIGNAL | flags);
	if (met_sending(c, sent))
		sent = sys_sendmsg(c->fd, &msg, MSG_NOSIGNAL | flags);
	return sent < 0 ? (int)sent : 0;
}

static int pay_alert(struct tlsfd *c, int flags)
{
	uint16_t alert = gate_alert(&c->gate);
	uint8_t bytes[] = { (uint8_t)(alert >> 8), (uint8_t)alert };
	int err;

	if (!alert)
		return 0;
	err = c->kernel[TX] ? owed_send(c, RECORD_ALERT, bytes, sizeof(bytes), flags) :
			      userspace_alert(c, alert, flags);
	if (err == -EAGAIN)
		return err;
	gate_alert_sent(&c->gate, alert);
	return 0;
}

static int pay_key_update(struct tlsfd *c, int flags)
{
	int err;

	if (!gate_take_key_update(&c->gate))
		return 0;
	err = rekey_tx(c, false, flags);
	if (err == -EAGAIN) {
		gate_post_key_update(&c->gate);
	} else if (err) {
		connection_fail_tcp(c, TX, err);
		gate_shut(&c->gate);
	}
	return err;
}

int owed_pay(struct tlsfd *c, unsigned what, int flags)
{
	int err = pay_alert(c, flags);

	return err || !(what & GATE_KEY_UPDATE) ? err : pay_key_update(c, flags);
}

void owed_settle(struct tlsfd *c, unsigned what)
{
	while (gate_owes(&c->gate) & what && gate_try(&c->gate)) {
		int err = owed_pay(c, what, MSG_DONTWAIT);

		gate_leave(&c->gate);
		if (err)
			return;
	}
}

void owed_key_update(struct tlsfd *c)
{
	gate_post_key_update(&c->gate);
	owed_settle(c, c->reader_pays);
}

void owed_alert(struct tlsfd *c, enum alert_level level, enum alert alert)
{
	gate_post_alert(&c->gate, (uint16_t)(level << 8 | alert), level == ALERT_FATAL);
	owed_settle(c, c->reader_pays);
}
