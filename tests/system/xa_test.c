/*
 * An outbox row inside an XA branch (P1, P2): nobody sees it before XA COMMIT, it is kept over XA
 * PREPARE and a kill of the server, goes out after XA COMMIT although rows with higher ids have
 * gone before it, and is gone after XA ROLLBACK.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "lane_rig.h"
#include "wait.h"

#define VISIBLE "SELECT COUNT(*) FROM outbox"

/* A branch with a row of its own, prepared; the session that made it is gone, as its application
 * would be. Returns the row's id. */
static uint64_t prepare_branch(struct lane_rig *rig, const char *name, const char *payload)
{
    struct db *db = test_db_open(&rig->test_db.opts);
    char sql[256];
    uint64_t id;

    snprintf(sql, sizeof(sql), "XA START '%s-%s'", rig->exchange, name);
    test_db_run(db, sql);
    snprintf(sql, sizeof(sql), "INSERT INTO outbox (topic, payload) VALUES ('t', '%s')", payload);
    test_db_run(db, sql);
    id = test_db_number(db, "SELECT LAST_INSERT_ID()");
    snprintf(sql, sizeof(sql), "XA END '%s-%s'", rig->exchange, name);
    test_db_run(db, sql);
    snprintf(sql, sizeof(sql), "XA PREPARE '%s-%s'", rig->exchange, name);
    test_db_run(db, sql);
    db_close(db);
    return id;
}

static void end_branch(struct lane_rig *rig, const char *how, const char *name)
{
    rig_run(rig, "XA %s '%s-%s'", how, rig->exchange, name);
}

static void restart_database(struct lane_rig *rig)
{
    db_close(rig->db);
    broker_servers("kill database");
    broker_servers("start database");
    rig->db = test_db_open(&rig->test_db.opts);
}

static void a_row_in_a_branch_shares_the_fate_of_the_branch(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t kept = prepare_branch(rig, "kept", "kept");
    uint64_t dropped = prepare_branch(rig, "dropped", "dropped");
    uint64_t plain = rig_insert(rig, "t", NULL, "plain");

    assert_true(kept < plain && dropped < plain);
    assert_int_equal(rig_number(rig, VISIBLE), 1);
    rig_start(rig);
    rig_collect(rig, 1);
    assert_int_equal(rig_times(rig, plain), 1);
    rig_wait_empty(rig);
    restart_database(rig);
    assert_int_equal(rig_number(rig, VISIBLE), 0);
    end_branch(rig, "ROLLBACK", "dropped");
    end_branch(rig, "COMMIT", "kept");
    rig_collect(rig, 2);
    assert_int_equal(rig_times(rig, kept), 1);
    rig_wait_empty(rig);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    rig_collect_all(rig);
    assert_int_equal(rig_times(rig, dropped), 0);
    assert_int_equal(rig->seen_count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_row_in_a_branch_shares_the_fate_of_the_branch, rig_setup,
                                        rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
