/* SPDX-License-Identifier: MIT */
#include "expect.h"

#include <string.h>

#include "suite.h"

void say(struct raw_peer *p, const char *text)
{
	raw_send(p, DATA, text, strlen(text));
}

void expect_read(struct tested *t, const char *text)
{
	char got[256] = "";

	assert_int_equal(patient_read(t, got, sizeof(got)), strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

void expect_record(struct tested *t, int type, const void *data, size_t n)
{
	uint8_t got[16384], got_type = 0;

	assert_int_equal(raw_receive(&t->peer, &got_type, got), n);
	assert_int_equal(got_type, type);
	assert_memory_equal(got, data, n);
}

void expect_goodbye(struct tested *t)
{
	uint8_t got[16384], type;

	expect_record(t, ALERT, "\1\0", 2);
	assert_int_equal(raw_receive(&t->peer, &type, got), -1);
}

void expect_works(struct tested *t)
{
	say(&t->peer, "to us");
	expect_read(t, "to us");
	assert_int_equal(tlsfd_write(t->c, "to the peer", 11), 11);
	expect_record(t, DATA, "to the peer", 11);
}
