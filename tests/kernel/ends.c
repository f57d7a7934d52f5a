/*
 * Every way that a connection ends, against a peer that makes its records by hand; in the
 * kernel, in user space and half-moved: one table of answers.
 *
 * SPDX-License-Identifier: MIT
 */
#include "ending.h"
#include "suite.h"

/* ---- what the peer does ---- */

static void data_after_bye(struct raw_peer *p)
{
	bye(p);
	say(p, "too late");
}

static void fatal_bye(struct raw_peer *p)
{
	raw_send_alert(p, 2, 0);
}

static void half_record(struct raw_peer *p)
{
	uint8_t record[RAW_RECORD_MAX];

	raw_seal(p, 23, "never whole", 11, record);
	raw_send_bytes(p, record, 17);
	raw_fin(p);
}

static void half_header(struct raw_peer *p)
{
	raw_send_bytes(p, "\x17\x03", 2);
	raw_fin(p);
}

static void handshake_failure(struct raw_peer *p)
{
	raw_send_alert(p, 2, 40);
}

static void mild_handshake_failure(struct raw_peer *p)
{
	raw_send_alert(p, 1, 40);
	after(p);
}

static void user_canceled(struct raw_peer *p)
{
	raw_send_alert(p, 1, 90);
	after(p);
}

static void fatal_user_canceled(struct raw_peer *p)
{
	raw_send_alert(p, 2, 90);
}

static void no_renegotiation(struct raw_peer *p)
{
	raw_send_alert(p, 1, 100);
}

static void level_3(struct raw_peer *p)
{
	raw_send_alert(p, 3, 40);
}

static void four_warnings(struct raw_peer *p)
{
	for (int i = 0; i < 4; i++)
		raw_send_alert(p, 1, 90);
	after(p);
}

static void five_warnings(struct raw_peer *p)
{
	for (int i = 0; i < 5; i++)
		raw_send_alert(p, 1, 90);
}

static void empty_alert(struct raw_peer *p)
{
	raw_send(p, 21, NULL, 0);
}

static void one_byte_alert(struct raw_peer *p)
{
	raw_send(p, 21, "\x01", 1);
	raw_send(p, 21, "\x00", 1);
}

static void two_alerts(struct raw_peer *p)
{
	raw_send(p, 21, "\x01\x5a\x01\x00", 4);
}

/* Everything that goes on, in one stream that is cut at every byte. */
static void byte_by_byte(struct raw_peer *p)
{
	uint8_t stream[1024];
	size_t n = raw_seal(p, 23, "be", 2, stream);

	n += raw_seal(p, 21, (uint8_t[]){ 1, 90 }, 2, stream + n);
	n += raw_seal(p, 23, "tween", 5, stream + n);
	n += raw_seal(p, 23, NULL, 0, stream + n);
	n += raw_seal(p, 21, (uint8_t[]){ 1, 90 }, 2, stream + n);
	n += raw_seal(p, 21, (uint8_t[]){ 1, 0 }, 2, stream + n);
	for (size_t i = 0; i < n; i++)
		raw_send_bytes(p, stream + i, 1);
}

/* ---- what is to come of it ---- */

static const struct ending endings[] = {
	{ .name = "close_notify", WHEN(BOTH, ANY), .act = bye, .want = GOES_ON("", 0) },
	{ .name = "data after close_notify",
	  WHEN(BOTH, ANY),
	  .act = data_after_bye,
	  .want = GOES_ON("", 0) },
	{ .name = "close_notify as a fatal alert 1.3",
	  WHEN(V13, ANY),
	  .act = fatal_bye,
	  .want = GOES_ON("", 0) },
	{ .name = "close_notify as a fatal alert 1.2",
	  WHEN(V12, ANY),
	  .act = fatal_bye,
	  .want = { .result = -EPROTO, .alert = 0, .reply = NONE, .dead = true } },
	{ .name = "FIN",
	  WHEN(BOTH, ANY),
	  .act = raw_fin,
	  .want = { .result = -ECONNABORTED, .alert = NONE, .reply = NONE } },
	{ .name = "FIN in a record",
	  WHEN(BOTH, ANY),
	  .act = half_record,
	  .want = { .result = -ECONNABORTED, .alert = NONE, .reply = NONE } },
	{ .name = "FIN in a header",
	  WHEN(BOTH, ANY),
	  .act = half_header,
	  .want = { .result = -ECONNABORTED, .alert = NONE, .reply = NONE } },
	{ .name = "RST",
	  WHEN(BOTH, ANY),
	  .act = raw_reset,
	  .want = DEAD(-ECONNRESET, NONE),
	  .one_end_only = true },

	{ .name = "fatal alert",
	  WHEN(BOTH, ANY),
	  .act = handshake_failure,
	  .want = { .result = -EPROTO, .alert = 40, .reply = NONE, .dead = true } },
	{ .name = "alert at level warning 1.3",
	  WHEN(V13, ANY),
	  .act = mild_handshake_failure,
	  .want = { .result = -EPROTO, .alert = 40, .reply = NONE, .dead = true } },
	{ .name = "alert at level warning 1.2",
	  WHEN(V12, ANY),
	  .act = mild_handshake_failure,
	  .want = GOES_ON("after", 1) },
	{ .name = "user_canceled",
	  WHEN(BOTH, ANY),
	  .act = user_canceled,
	  .want = GOES_ON("after", 1) },
	{ .name = "fatal user_canceled",
	  WHEN(V12, ANY),
	  .act = fatal_user_canceled,
	  .want = { .result = -EPROTO, .alert = 90, .reply = NONE, .dead = true } },
	{ .name = "no_renegotiation",
	  WHEN(V12, ANY),
	  .act = no_renegotiation,
	  .want = DEAD(-EPROTO, 40) },
	{ .name = "alert of level 3", WHEN(V12, ANY), .act = level_3, .want = DEAD(-EPROTO, 47) },
	{ .name = "four warnings",
	  WHEN(BOTH, ANY),
	  .act = four_warnings,
	  .want = GOES_ON("after", 4) },
	{ .name = "five warnings",
	  WHEN(BOTH, ANY),
	  .act = five_warnings,
	  .want = { .result = -EPROTO, .alert = NONE, .reply = 10, .skipped = 5, .dead = true } },
	{ .name = "empty alert", WHEN(BOTH, ANY), .act = empty_alert, .want = DEAD(-EPROTO, 10) },
	{ .name = "alert in two records",
	  WHEN(BOTH, ANY),
	  .act = one_byte_alert,
	  .want = DEAD(-EPROTO, 10) },
	{ .name = "two alerts in a record",
	  WHEN(BOTH, ANY),
	  .act = two_alerts,
	  .want = DEAD(-EPROTO, 10) },

	{ .name = "byte by byte",
	  WHEN(BOTH, ANY),
	  .act = byte_by_byte,
	  .want = GOES_ON("between", 2) },
};

int main(int argc, char **argv)
{
	return endings_run(endings, LENGTH(endings), argc, argv);
}
