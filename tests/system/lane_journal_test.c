/*
 * The journal of what was published: written with the settling and only when it is asked for, ids
 * of the outbox told from custom ones, and removed when its time is over.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lane_rig.h"
#include "sql/schema.h"

static struct lane_rig *with_journal(void **state)
{
    struct lane_rig *rig = *state;
    struct obx_err err = {0};

    if (schema_migrate(rig->db, SCHEMA_JOURNAL, NULL, NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
    rig_bind(rig, "t");
    rig->opts.journal = true;
    return rig;
}

static void what_is_settled_is_in_the_journal(void **state)
{
    struct lane_rig *rig = with_journal(state);

    rig_fill(rig, 500, 0, 10);
    rig_run(rig, "INSERT INTO outbox (message_id, topic, payload) VALUES ('own-1', 't', 'x'), "
                 "('01a20310-77cd-771c-a682-dc6c49529f23', 't', 'x'), "
                 "('01A2031077cd771ca682dc6c49529f23', 't', 'x'), ('g', 't', 'x')");
    rig_run(rig, "CREATE TABLE copy AS SELECT * FROM outbox");
    rig_start(rig);
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_journal"), 504);
    /* An id of another time than the row's is as custom as any. */
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_journal WHERE is_custom = 1"), 4);
    assert_int_equal(
        rig_number(rig, "SELECT COUNT(*) FROM copy c JOIN outbox_journal j ON j.message_id = "
                        "c.message_id AND j.topic = c.topic AND j.created_at = c.created_at AND "
                        "j.outbox = 'outbox' AND j.settled_at >= j.created_at"),
        504);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
}

static void without_being_asked_for_there_is_none(void **state)
{
    struct lane_rig *rig = with_journal(state);

    rig->opts.journal = false;
    rig_fill(rig, 50, 0, 10);
    rig_start(rig);
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_journal"), 0);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
}

static void what_is_over_is_removed(void **state)
{
    struct lane_rig *rig = with_journal(state);

    /* Two days old, with ids of their time; custom ones settled then; and young ones. */
    rig_run(rig,
            "INSERT INTO outbox_journal SELECT 0, CONCAT(INSERT(LPAD(LOWER(HEX((UNIX_TIMESTAMP() - "
            "172800) * 1000 + seq)), 12, '0'), 9, 0, '-'), '-7000-a000-000000000000'), 'outbox', "
            "'t', UTC_TIMESTAMP(6) - INTERVAL 2 DAY, UTC_TIMESTAMP(6) FROM " TEST_SEQ
            " WHERE seq <= 2500");
    rig_run(rig, "INSERT INTO outbox_journal SELECT 1, CONCAT('own-', seq), 'outbox', 't', "
                 "UTC_TIMESTAMP(6) - INTERVAL 2 DAY, UTC_TIMESTAMP(6) - INTERVAL IF(seq <= 1500, "
                 "2, 0) DAY FROM " TEST_SEQ " WHERE seq <= 3000");
    rig_run(rig, "INSERT INTO outbox_journal SELECT 0, CONCAT(INSERT(LPAD(LOWER(HEX("
                 "UNIX_TIMESTAMP() * 1000 - 3600000)), 12, '0'), 9, 0, '-'), '-7000-a'), 'outbox', "
                 "'t', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) FROM DUAL");
    rig->opts.journal_retention_ms = 24U * 3600 * 1000;
    rig_start(rig);
    rig_wait_number(rig, 1501, "SELECT COUNT(*) FROM outbox_journal");
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_journal WHERE is_custom = 0"), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_settled_is_in_the_journal),
        TEST(without_being_asked_for_there_is_none),
        TEST(what_is_over_is_removed),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    db_thread_end();
    return failed;
}
