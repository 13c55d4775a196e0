/*
 * System tests of the lane: everything that is committed comes out once, in order, and nothing is
 * left. P1, P4.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lane_rig.h"
#include "wait.h"

static void drains_a_backlog_in_order(void **state)
{
    struct lane_rig *rig = *state;

    rig_fill(rig, 5000, 50, 256);
    rig_start(rig);
    rig_wait_empty(rig);
    rig_collect(rig, 5000);
    rig_assert_order(rig);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 5000);
}

/* However long a confirmed row may wait for company. */
static void settles_a_burst_when_it_is_over(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.settle_max_age_ms = 10 * 60 * 1000;
    rig_fill(rig, 300, 0, 256);
    rig_start(rig);
    rig_wait_empty(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(drains_a_backlog_in_order, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(settles_a_burst_when_it_is_over, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
