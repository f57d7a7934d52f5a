/*
 * The gate: what is owed is sent once, by whoever is inside or comes first.
 *
 * SPDX-License-Identifier: MIT
 */
#include "gate.h"

#include "control.h"
#include "suite.h"

enum {
	REFUSAL = ALERT_WARNING << 8 | ALERT_NO_RENEGOTIATION,
	BAD_MAC = ALERT_FATAL << 8 | ALERT_BAD_RECORD_MAC,
	INTERNAL = ALERT_FATAL << 8 | ALERT_INTERNAL_ERROR,
	ROUNDS = 200000,
};

static void a_warning_gives_way(void **state)
{
	struct gate g;

	(void)state;
	gate_init(&g);
	gate_post_alert(&g, REFUSAL, false);
	assert_int_equal(gate_alert(&g), REFUSAL);
	assert_false(gate_is_shut(&g));
	/* while the warning is being sent */
	gate_post_alert(&g, BAD_MAC, true);
	gate_alert_sent(&g, REFUSAL);
	assert_int_equal(gate_alert(&g), BAD_MAC);
	assert_true(gate_is_shut(&g));
	gate_post_alert(&g, REFUSAL, false);
	gate_post_alert(&g, INTERNAL, true);
	assert_int_equal(gate_alert(&g), BAD_MAC);
	gate_alert_sent(&g, BAD_MAC);
	assert_int_equal(gate_owes(&g), 0);
	gate_free(&g);
}

static void nothing_after_close_notify(void **state)
{
	struct gate g;

	(void)state;
	gate_init(&g);
	gate_close(&g);
	gate_post_alert(&g, BAD_MAC, true);
	gate_post_key_update(&g);
	assert_int_equal(gate_owes(&g), 0);
	assert_int_equal(gate_alert(&g), 0);
	assert_false(gate_take_key_update(&g));
	gate_free(&g);
}

static void no_key_update_once_shut(void **state)
{
	struct gate g;

	(void)state;
	gate_init(&g);
	gate_post_key_update(&g);
	gate_post_key_update(&g); /* answered once */
	assert_true(gate_take_key_update(&g));
	assert_false(gate_take_key_update(&g));
	gate_post_key_update(&g);
	gate_post_alert(&g, INTERNAL, true);
	assert_false(gate_take_key_update(&g));
	assert_int_equal(gate_alert(&g), INTERNAL);
	gate_free(&g);
}

static void only_one_is_inside(void **state)
{
	struct gate g;

	(void)state;
	gate_init(&g);
	assert_int_equal(gate_enter(&g), 0);
	assert_false(gate_try(&g));
	gate_post_key_update(&g);
	assert_int_equal(gate_leave(&g), GATE_KEY_UPDATE);
	assert_true(gate_try(&g));
	assert_int_equal(gate_leave(&g), GATE_KEY_UPDATE);
	gate_shut(&g);
	assert_int_equal(gate_enter(&g) & GATE_SHUT, GATE_SHUT);
	assert_int_equal(gate_leave(&g), 0);
	gate_free(&g);
}

/* ---- a reader that posts, a writer that goes in and out ---- */

struct race {
	struct gate g;
	atomic_uint posted, answered;
	atomic_bool over;
	unsigned inside; /* the gate's to protect: a race that ThreadSanitizer would see */
};

static void settle(struct race *r)
{
	while (gate_owes(&r->g) && gate_try(&r->g)) {
		r->inside++;
		if (gate_take_key_update(&r->g))
			atomic_store(&r->answered, atomic_load(&r->posted));
		gate_leave(&r->g);
	}
}

static void *writer(void *arg)
{
	struct race *r = arg;

	while (!atomic_load(&r->over)) {
		gate_enter(&r->g);
		r->inside++;
		if (gate_leave(&r->g))
			settle(r);
	}
	return NULL;
}

/* An answer that is left lying would be found when both are through. */
static void nothing_is_left_lying(void **state)
{
	struct race r = { .inside = 0 };
	pthread_t thread;

	(void)state;
	gate_init(&r.g);
	pthread_create(&thread, NULL, writer, &r);
	for (unsigned i = 1; i <= ROUNDS; i++) {
		atomic_store(&r.posted, i);
		gate_post_key_update(&r.g);
		settle(&r);
		if (i % 64 == 0) /* the writer, if it has it, gives it back by itself */
			while (atomic_load(&r.answered) != i)
				;
	}
	atomic_store(&r.over, true);
	pthread_join(thread, NULL);
	assert_int_equal(gate_owes(&r.g), 0);
	assert_int_equal(r.answered, ROUNDS);
	gate_free(&r.g);
}

int main(int argc, char **argv)
{
	suite_add(a_warning_gives_way, NULL, 0, "a warning gives way to a fatal alert");
	suite_add(nothing_after_close_notify, NULL, 0, "nothing after close_notify");
	suite_add(no_key_update_once_shut, NULL, 0, "no KeyUpdate once the gate is shut");
	suite_add(only_one_is_inside, NULL, 0, "only one is inside");
	suite_add(nothing_is_left_lying, NULL, 0, "nothing is left lying");
	return suite_run(argc, argv);
}
