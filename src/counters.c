/*
 * What has gone over a connection, as the kernel counts it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <endian.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#include "connection.h"
#include "sys.h"
#include "userspace.h"

static size_t info_size(uint16_t type)
{
	for (size_t i = 0; i < n_ciphers; i++)
		if (ciphers[i].type == type)
			return sizeof(struct tls_crypto_info) + ciphers[i].iv_size +
			       ciphers[i].key_size + ciphers[i].salt_size + SEQUENCE_SIZE;
	return 0;
}

/* The number of the next record, which the kernel tells with the keys only. */
static int next_record(int fd, enum way way, uint64_t *number)
{
	struct crypto_info info = { .size = 0 };
	socklen_t size = sizeof(info.head);
	int option = way == RX ? TLS_RX : TLS_TX;
	int err = sys_getsockopt(fd, SOL_TLS, option, info.bytes, &size);

	if (err)
		return err;
	size = (socklen_t)info_size(info.head.cipher_type);
	if (!size)
		return -EOPNOTSUPP;
	err = sys_getsockopt(fd, SOL_TLS, option, info.bytes, &size);
	if (!err) {
		memcpy(number, info.bytes + size - SEQUENCE_SIZE, SEQUENCE_SIZE);
		*number = be64toh(*number);
	}
	OPENSSL_cleanse(&info, sizeof(info));
	return err;
}

static int count_records(const struct tlsfd *c, enum way way, uint64_t *records)
{
	if (c->kernel[way])
		return next_record(c->fd, way, records);
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
	*counters = n;
	return 0;
}
