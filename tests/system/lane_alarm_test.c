/*
 * System tests of servers that say no to everybody, for a while: a broker with a memory alarm, a
 * database that became read-only. Both are visible, and the lane goes on by itself. P1, P7.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lane_rig.h"
#include "wait.h"

static bool is_blocked(void *ctx)
{
    struct lane_stats stats;

    lane_get_stats(ctx, &stats);
    return stats.broker_state == BRIDGE_BLOCKED && stats.trouble[0] != '\0';
}

static void a_broker_with_an_alarm(void **state)
{
    struct lane_rig *rig = *state;

    rig_start(rig);
    rig_insert(rig, "t", "k", "x");
    rig_wait_empty(rig);
    broker_servers("rabbitmqctl set_vm_memory_high_watermark 0.000001");
    rig_fill(rig, 300, 10, 64); /* the first of them makes the broker say so */
    if (!wait_until(RIG_WAIT_MS, is_blocked, rig->lane)) {
        broker_servers("rabbitmqctl set_vm_memory_high_watermark 0.4");
        fail_msg("the lane does not say that it is blocked");
    }
    assert_true(rig_number(rig, "SELECT COUNT(*) FROM outbox") > 0);
    assert_int_equal(rig_stats(rig->lane).state, LANE_OWNER);
    assert_true(rig_stats(rig->lane).broker_blocked >= 1);
    broker_servers("rabbitmqctl set_vm_memory_high_watermark 0.4");
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 301);
    rig_assert_order(rig);
    assert_string_equal(rig_stats(rig->lane).trouble, "");
}

static bool is_down(void *ctx)
{
    struct lane_stats stats;

    lane_get_stats(ctx, &stats);
    return stats.state == LANE_DB_DOWN && strstr(stats.trouble, "read-only") != NULL;
}

/* As after a failover, when the old primary comes back as a replica. */
static void a_database_that_is_read_only(void **state)
{
    struct lane_rig *rig = *state;
    struct db_opts root_opts = test_db_root_opts();
    struct db *root = test_db_open(&root_opts);
    bool says_so = false;

    rig->opts.settle_max_age_ms = 60 * 1000;
    rig_start(rig);
    rig_wait_state(rig->lane, LANE_OWNER);
    rig_fill(rig, 100, 10, 64);
    rig_wait_confirmed(rig->lane, 1);
    test_db_run(root, "SET GLOBAL read_only = 1");
    says_so = wait_until(RIG_WAIT_MS, is_down, rig->lane);
    test_db_run(root, "SET GLOBAL read_only = 0");
    db_close(root);
    if (!says_so)
        fail_msg("the lane says '%s'", rig_stats(rig->lane).trouble);
    rig_wait_state(rig->lane, LANE_OWNER);
    rig_drain_lane(rig->lane);
    rig->opts.settle_max_age_ms = 0;
    rig_start(rig);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_in_range(rig->seen_count, 100, 300);
    rig_assert_order(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_broker_with_an_alarm, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_database_that_is_read_only, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
