/*
 * System tests of what operators ask for: a frozen key comes back whole and in order, a discarded
 * head lets its followers go, and a request that cannot be carried out says so. P4, P6.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lane_rig.h"

#define PARKED "SELECT COUNT(*) FROM outbox_parked"

enum { FOLLOWERS = 520 }; /* more than one transaction moves */

/* A head of key k0 that was given up, and its followers behind it. Returns the head's id. */
static uint64_t park_key(struct lane_rig *rig)
{
    uint64_t head = rig_insert(rig, "nowhere", "k0", "x");

    rig->opts.max_tries = 1;
    rig_fill(rig, FOLLOWERS, 1, 16);
    rig_start(rig);
    rig_wait_number(rig, FOLLOWERS + 1, PARKED);
    return head;
}

static void ask(struct lane_rig *rig, uint64_t id, const char *what)
{
    rig_run(rig,
            "UPDATE outbox_parked SET request = '%s', requested_at = UTC_TIMESTAMP(6),"
            " requested_by = 'test' WHERE id = %llu",
            what, (unsigned long long)id);
}

static void a_frozen_key_comes_back_in_order(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t head = park_key(rig);
    uint64_t newer = 0;

    rig_bind(rig, "nowhere");
    ask(rig, head, "resume");
    for (int i = 0; i < 20; i++) /* while it goes on */
        newer = rig_insert(rig, "t", "k0", "x");
    rig_wait_number(rig, 0, PARKED);
    rig_wait_empty(rig);
    rig_collect(rig, FOLLOWERS + 21);
    rig_assert_order(rig);
    assert_int_equal(rig_place(rig, head), 0);
    assert_int_equal(rig_place(rig, newer), FOLLOWERS + 20);
    assert_in_range(rig_stats(rig->lane).resumed, FOLLOWERS + 1, FOLLOWERS + 21);
}

/* The cause is still there: it is parked again, whole. */
static void a_resume_in_vain_changes_nothing(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t head = park_key(rig);

    ask(rig, head, "resume");
    rig_wait_number(rig, FOLLOWERS + 1, PARKED " WHERE request IS NULL");
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig, PARKED " WHERE behind_id = %llu", (unsigned long long)head),
                     FOLLOWERS);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 0);
}

static void a_discarded_head_lets_its_followers_go(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t head = park_key(rig);

    ask(rig, head, "discard");
    rig_wait_number(rig, 0, PARKED);
    rig_wait_empty(rig);
    rig_collect(rig, FOLLOWERS);
    rig_assert_order(rig);
    assert_int_equal(rig_place(rig, head), SIZE_MAX);
    assert_int_equal(rig_stats(rig->lane).discarded, 1);
}

/* A follower cannot go before its head; asking for it asks for the head. One that is discarded goes
 * alone. */
static void a_follower_is_asked_for(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t head = park_key(rig);

    ask(rig, head + 1, "discard");
    rig_wait_number(rig, FOLLOWERS, PARKED);
    rig_bind(rig, "nowhere");
    ask(rig, head + 2, "resume");
    rig_wait_number(rig, 0, PARKED);
    rig_wait_empty(rig);
    rig_collect(rig, FOLLOWERS);
    assert_int_equal(rig_place(rig, head + 1), SIZE_MAX);
    assert_int_equal(rig_place(rig, head), 0);
    rig_assert_order(rig);
}

static void a_request_that_cannot_be_carried_out_says_so(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t id = rig_insert(rig, "nowhere", NULL, "x");

    rig->opts.max_tries = 1;
    rig_start(rig);
    rig_wait_number(rig, 1, PARKED);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    /* The id is in use again. */
    rig_run(rig, "INSERT INTO outbox (id, topic, payload) VALUES (%llu, 't', 'x')",
            (unsigned long long)id);
    rig->opts.gated = true; /* it stays there */
    ask(rig, id, "resume");
    rig_start(rig);
    rig_wait_number(rig, 1, PARKED " WHERE request IS NULL AND request_note <> ''");
    lane_open_gate(rig->lane);
    rig_wait_empty(rig);
    ask(rig, id, "resume"); /* now it can be */
    rig_bind(rig, "nowhere");
    rig_wait_number(rig, 0, PARKED);
    rig_wait_empty(rig);
    rig_collect(rig, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_frozen_key_comes_back_in_order, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_resume_in_vain_changes_nothing, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_discarded_head_lets_its_followers_go, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_follower_is_asked_for, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_request_that_cannot_be_carried_out_says_so, rig_setup,
                                        rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
