/*
 * What has gone over a connection, as the kernel counts it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>

#include "connection.h"
#include "sys.h"
#include "userspace.h"

static int count_records(const struct tlsfd *c, enum way way, uint64_t *records)
{
	if (c->kernel[way])
		return attach_count(c->fd, way, records);
	if (!c->user)
		return -ENOTCONN;
	userspace_count(c, way, records);
	return 0;
}

int tlsfd_counters(const struct tlsfd *c, struct tlsfd_counters *counters)
{
	struct tlsfd_counters n = { 0 };
	int err = sys_tcp_bytes(c->fd, &n.rx_bytes, &n.tx_bytes);

	if (!err)
		err = count_records(c, RX, &n.rx_records);
	if (!err)
		err = count_records(c, TX, &n.tx_records);
	if (err)
		return err;
	n.skipped = atomic_load_explicit(&c->control.skipped, memory_order_relaxed);
	n.rx_rekeys = atomic_load_explicit(&c->rekey.done[RX], memory_order_relaxed);
	n.tx_rekeys = atomic_load_explicit(&c->rekey.done[TX], memory_order_relaxed);
	*counters = n;
	return 0;
}
