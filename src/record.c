/* SPDX-License-Identifier: MIT */
#include "record.h"

#include <string.h>

#include "ktls.h"

static size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

bool record_flow_at_boundary(const struct record_flow *flow)
{
	return !flow->lost && flow->have == 0;
}

void record_flow_new_keys(struct record_flow *flow)
{
	flow->records = 0;
}

static uint16_t payload_length(const struct record_flow *flow)
{
	return (uint16_t)(flow->head[3] << 8 | flow->head[4]);
}

static void end_record(struct record_flow *flow)
{
	flow->records++;
	if (flow->head[0] == RECORD_CHANGE_CIPHER_SPEC) {
		flow->change_cipher_specs++;
		flow->records = 0;
	}
	flow->last_length = payload_length(flow);
	memcpy(flow->last_nonce, flow->head + RECORD_HEADER, RECORD_NONCE);
	flow->have = 0;
}

static void begin_payload(struct record_flow *flow)
{
	flow->left = payload_length(flow);
	flow->lost = flow->head[0] < RECORD_CHANGE_CIPHER_SPEC || flow->head[0] > RECORD_DATA ||
		     flow->head[1] != 3 || flow->left > RECORD_PAYLOAD_MAX;
}

/* Takes what it can of the header or the payload; returns how much. */
static size_t take(struct record_flow *flow, const uint8_t *data, size_t n)
{
	size_t limit = flow->have < RECORD_HEADER ? RECORD_HEADER : sizeof(flow->head);
	size_t copied = min(n, limit - flow->have);

	if (flow->have < RECORD_HEADER) {
		memcpy(flow->head + flow->have, data, copied);
		flow->have += (uint8_t)copied;
		if (flow->have == RECORD_HEADER)
			begin_payload(flow);
		return copied;
	}
	n = min(n, flow->left);
	copied = min(copied, n);
	memcpy(flow->head + flow->have, data, copied);
	flow->have += (uint8_t)copied;
	flow->left -= (uint16_t)n;
	return n;
}

void record_flow_feed(struct record_flow *flow, const uint8_t *data, size_t n)
{
	flow->bytes += n;
	while (n && !flow->lost) {
		size_t taken = take(flow, data, n);

		data += taken;
		n -= taken;
		if (flow->have >= RECORD_HEADER && flow->left == 0)
			end_record(flow);
	}
}
