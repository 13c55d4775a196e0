/*
 * System tests of packs: rows of one route share a message, each comes out once and in the order of
 * its key; what is returned, refused or too large as a pack goes through, or is parked, row by row;
 * and what cannot be in a pack goes beside it. P1, P4, P6, P10.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lane_rig.h"
#include "wait.h"

#define PARKED "SELECT COUNT(*) FROM outbox_parked"

enum { PACK = 100, ROWS = 1000, SMALL_MESSAGE = 3000 };

static const struct topic_rule rules[] = {{.pattern = "*", .pack = PACK}};

static int setup(void **state)
{
    struct lane_rig *rig = NULL;

    if (rig_setup(state) != 0)
        return -1;
    rig = *state;
    rig->opts.rules = rules;
    rig->opts.rule_count = 1;
    return 0;
}

static void assert_each_once(const struct lane_rig *rig, size_t rows)
{
    assert_int_equal(rig->seen_count, rows);
    for (size_t i = 0; i < rows; i++)
        assert_int_equal(rig_times(rig, rig->seen[i].id), 1);
    rig_assert_order(rig);
}

static void a_backlog_goes_in_packs(void **state)
{
    struct lane_rig *rig = *state;
    struct lane_stats stats;

    rig_fill(rig, ROWS, 7, 64);
    rig_fill(rig, ROWS, 0, 64);
    rig_start(rig);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_each_once(rig, 2 * ROWS);
    stats = rig_stats(rig->lane);
    assert_int_equal(stats.published, 2 * ROWS);
    assert_int_equal(stats.confirmed, 2 * ROWS);
    assert_int_equal(stats.packs, rig->packs);
    assert_true(rig->packed > ROWS && rig->packs < ROWS / 10);
}

/* Unpacked, it has one message in flight. */
static void one_key_goes_in_packs_and_in_order(void **state)
{
    struct lane_rig *rig = *state;

    rig_fill(rig, 6 * ROWS, 1, 64); /* more than a key may have waiting in memory */
    rig_start(rig);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_each_once(rig, 6 * (size_t)ROWS);
    assert_true(rig->packed > 5 * ROWS && rig->packs < ROWS);
}

/* Nobody is bound: each row is tried alone, and parked for its own sake or after its head. */
static void a_returned_pack_is_parked_row_by_row(void **state)
{
    struct lane_rig *rig = *state;

    for (int i = 0; i < 20; i++) {
        rig_insert(rig, "nowhere", NULL, "x");
        rig_insert(rig, "nowhere", "k", "x");
        rig_insert(rig, "t", NULL, "x");
    }
    rig->opts.max_attempts = 3;
    rig_start(rig);
    rig_wait_number(rig, 40, PARKED);
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig, PARKED " WHERE reason_code = 'OBX_E_MQ_UNROUTABLE'"), 21);
    assert_int_equal(rig_number(rig, PARKED " WHERE reason_code = 'KEY_FROZEN'"), 19);
    assert_int_equal(rig_number(rig, PARKED " WHERE holds_key = 1"), 1);
    rig_collect_all(rig);
    assert_each_once(rig, 20);
}

static bool was_returned(void *ctx)
{
    return rig_stats(ctx).returned >= 200;
}

static void a_queue_that_comes_later_gets_all_in_order(void **state)
{
    struct lane_rig *rig = *state;

    for (int i = 0; i < 200; i++)
        rig_insert(rig, "later", i % 3 == 0 ? NULL : i % 3 == 1 ? "a" : "b", "x");
    rig->opts.max_attempts = 100000;
    rig_start(rig);
    assert_true(wait_until(RIG_WAIT_MS, was_returned, rig->lane));
    assert_true(rig_stats(rig->lane).packs > 0);
    rig_bind(rig, "later");
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_each_once(rig, 200);
    assert_int_equal(rig_number(rig, PARKED), 0);
}

static bool was_nacked(void *lane)
{
    return rig_stats(lane).nacked > 0;
}

static void a_full_queue_holds_packs_back(void **state)
{
    struct lane_rig *rig = *state;
    const struct broker_arg full[] = {{.name = "x-max-length", .number = 10},
                                      {.name = "x-overflow", .text = "reject-publish"}};
    const int64_t until_ms = wait_now_ms() + RIG_WAIT_MS;

    broker_queue(rig->admin, rig->queue, full, 2);
    rig_bind(rig, "t");
    rig->opts.max_attempts = 2; /* nacks do not count */
    rig_fill(rig, 4 * ROWS, 5, 64);
    rig_start(rig);
    assert_true(wait_until(RIG_WAIT_MS, was_nacked, rig->lane));
    while (rig_number(rig, "SELECT COUNT(*) FROM outbox") > 0 && wait_now_ms() < until_ms)
        rig_collect_all(rig);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_each_once(rig, 4 * (size_t)ROWS);
    assert_int_equal(rig_number(rig, PARKED), 0);
}

/* A limit that the relay has not been told: no row is too large, only all together. */
static void a_pack_over_the_brokers_limit_goes_in_smaller_ones(void **state)
{
    struct lane_rig *rig = *state;
    char large[2 * SMALL_MESSAGE];
    uint64_t too_large = 0;

    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    broker_max_message_size(SMALL_MESSAGE);
    rig_fill(rig, 300, 3, 64);
    too_large = rig_insert(rig, "t", NULL, large);
    rig_start(rig);
    rig_wait_empty(rig);
    broker_max_message_size(BROKER_MAX_MESSAGE_DEFAULT);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count,
                     300); /* those beside it in flight may have come twice, in order */
    rig_assert_order(rig);
    assert_int_equal(rig_number(rig, PARKED), 1);
    assert_int_equal(rig_number(rig, PARKED " WHERE id = %llu AND reason_code = 'OBX_E_TOO_LARGE'",
                                (unsigned long long)too_large),
                     1);
}

/* Rows that cannot be in a pack, or be no message at all, cost those around them nothing. */
static void what_does_not_fit_goes_beside(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t bad = 0;

    for (int i = 0; i < 30; i++) {
        rig_insert(rig, "t", "k", "{\"a\":1}");
        if (i == 10)
            rig_run(rig, "INSERT INTO outbox (topic, ordering_key, payload, message_id)"
                         " VALUES ('t', 'k', 'x', 'same'), ('t', 'k', 'x', 'same')");
        if (i == 15)
            rig_run(rig, "INSERT INTO outbox (topic, ordering_key, payload)"
                         " VALUES ('t', 'k', REPEAT('x', 100000))");
        if (i == 20)
            rig_run(rig, "INSERT INTO outbox (topic, ordering_key, payload) VALUES ('t', '', 'x')");
        if (i == 25) {
            rig_run(rig, "INSERT INTO outbox (topic, headers, payload) VALUES ('t', '[1]', 'x')");
            bad = rig_number(rig, "SELECT MAX(id) FROM outbox");
        }
    }
    rig_start(rig);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_each_once(rig, 34);
    assert_true(rig->packs > 0 && rig->packed < 34);
    assert_int_equal(rig_number(rig, PARKED " WHERE id = %llu", (unsigned long long)bad), 1);
    assert_int_equal(rig_number(rig, PARKED), 1);
}

static void receipts_are_asked_for_in_a_pack(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.receipt_queue = "rowpost.receipts.packs";
    for (int i = 0; i < 50; i++)
        rig_run(rig, "INSERT INTO outbox (topic, ordering_key, payload, receipt_from)"
                     " VALUES ('t', 'k', 'x', 'g')");
    rig_start(rig);
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_awaiting"), 50);
    rig_collect_all(rig);
    assert_each_once(rig, 50);
    assert_true(rig->packed > 40);
    for (size_t i = 0; i < rig->seen_count; i++) {
        assert_string_equal(rig->seen[i].receipt_to, "rowpost.receipts.packs");
        assert_string_equal(rig->seen[i].receipt_from, "g");
        assert_true(strlen(rig->seen[i].receipt_token) > 0);
    }
}

/* Killed again and again: all of it comes, the first copies in order. */
static void packs_outlive_their_lane(void **state)
{
    struct lane_rig *rig = *state;

    rig_fill(rig, 4 * ROWS, 3, 64);
    for (uint64_t confirms = 300; confirms <= 1500; confirms += 300) {
        rig_start(rig);
        rig_wait_confirmed(rig->lane, 300);
        rig_end_lane(rig->lane);
        rig->lane = NULL;
    }
    rig_start(rig);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_true(rig->seen_count >= 4 * ROWS);
    rig_assert_order(rig);
    for (uint64_t id = 1; id <= 4 * ROWS; id++)
        assert_true(rig_times(rig, id) >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_backlog_goes_in_packs, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(one_key_goes_in_packs_and_in_order, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_returned_pack_is_parked_row_by_row, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_queue_that_comes_later_gets_all_in_order, setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_full_queue_holds_packs_back, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_pack_over_the_brokers_limit_goes_in_smaller_ones, setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(what_does_not_fit_goes_beside, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(receipts_are_asked_for_in_a_pack, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(packs_outlive_their_lane, setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
