/*
 * The audit has to find each kind of damage: a loss, a double, a ghost, a disorder, an altered
 * message and what is left over. Each test begins with two databases in perfect order and spoils
 * one thing. Needs the database server only.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "crash/audit.h"
#include "test_db.h"

enum {
    KEYLESS = 5, /* messages without a key; with those below, 20 in all */
    KEYED = 15   /* messages of three keys in turn */
};

static void fill(struct db *db)
{
    char sql[512];

    for (int i = 0; i < KEYED + KEYLESS; i++) {
        char key[16] = "NULL";

        if (i < KEYED)
            snprintf(key, sizeof(key), "'key-%d'", i % 3);
        snprintf(sql, sizeof(sql),
                 "INSERT INTO " LEDGER_PRODUCER_DB ".orders VALUES ('m%02d', %s, %d)", i, key,
                 i < KEYED ? 1 + i / 3 : 0);
        test_db_run(db, sql);
    }
    test_db_run(db, "INSERT INTO " LEDGER_CONSUMER_DB ".applied (message_id, okey, key_seq) "
                    "SELECT message_id, okey, key_seq FROM " LEDGER_PRODUCER_DB
                    ".orders ORDER BY message_id");
}

static int set_up(void **state)
{
    const struct db_opts root = test_db_root_opts();
    struct db *db = test_db_open(&root);

    struct obx_err err = {0};

    *state = db;
    if (ledger_create(db, &err) != OBX_OK)
        fail_msg("%s", err.text);
    fill(db);
    return 0;
}

static int tear_down(void **state)
{
    db_close(*state);
    return 0;
}

static struct audit_report audit(struct db *db)
{
    struct audit_report report;
    struct obx_err err = {0};

    if (audit_run(db, &report, &err) != OBX_OK)
        fail_msg("%s", err.text);
    return report;
}

static void perfect_order_is_clean(void **state)
{
    struct audit_report report = audit(*state);

    assert_true(audit_is_clean(&report));
    assert_int_equal(report.committed, KEYED + KEYLESS);
    assert_int_equal(report.applied, KEYED + KEYLESS);
    assert_string_equal(report.sample, "");
}

static void nothing_at_all_is_not_clean(void **state)
{
    struct audit_report report;

    test_db_run(*state, "DELETE FROM " LEDGER_PRODUCER_DB ".orders");
    test_db_run(*state, "DELETE FROM " LEDGER_CONSUMER_DB ".applied");
    report = audit(*state);
    assert_false(audit_is_clean(&report));
}

static void loss_is_found(void **state)
{
    struct audit_report report;

    test_db_run(*state, "DELETE FROM " LEDGER_CONSUMER_DB ".applied WHERE message_id = 'm04'");
    report = audit(*state);
    assert_false(audit_is_clean(&report));
    assert_int_equal(report.lost, 1);
    assert_int_equal(report.doubled + report.ghosts + report.disorder, 0);
    assert_string_equal(report.sample, "m04");
}

static void double_is_found(void **state)
{
    struct audit_report report;

    test_db_run(*state, "INSERT INTO " LEDGER_CONSUMER_DB ".applied (message_id, okey, key_seq) "
                        "VALUES ('m17', NULL, 0)");
    report = audit(*state);
    assert_false(audit_is_clean(&report));
    assert_int_equal(report.doubled, 1);
    assert_int_equal(report.lost + report.ghosts + report.disorder, 0);
    assert_string_equal(report.sample, "m17");
}

/* A loss and a double together leave the two totals equal, which must not calm the audit. */
static void loss_does_not_hide_a_double(void **state)
{
    struct audit_report report;

    test_db_run(*state, "UPDATE " LEDGER_CONSUMER_DB ".applied SET message_id = 'm16' "
                        "WHERE message_id = 'm17'");
    report = audit(*state);
    assert_int_equal(report.applied, report.committed);
    assert_false(audit_is_clean(&report));
    assert_int_equal(report.lost, 1);
    assert_int_equal(report.doubled, 1);
}

static void ghost_is_found(void **state)
{
    struct audit_report report;

    test_db_run(*state, "INSERT INTO " LEDGER_CONSUMER_DB ".applied (message_id, okey, key_seq) "
                        "VALUES ('rolled-back', 'key-0', 99)");
    report = audit(*state);
    assert_false(audit_is_clean(&report));
    assert_int_equal(report.ghosts, 1);
    assert_int_equal(report.lost + report.doubled + report.disorder, 0);
    assert_string_equal(report.sample, "rolled-back");
}

static void disorder_is_found(void **state)
{
    struct audit_report report;

    /* m00 is the first of key-0; now it comes after all the others. */
    test_db_run(*state,
                "UPDATE " LEDGER_CONSUMER_DB ".applied SET seq = 1000 WHERE message_id = 'm00'");
    report = audit(*state);
    assert_false(audit_is_clean(&report));
    assert_int_equal(report.disorder, 1);
    assert_int_equal(report.lost + report.doubled + report.ghosts, 0);
}

static void order_between_keys_is_free(void **state)
{
    struct audit_report report;

    /* All of key-1 after all the others, and the messages without a key first. */
    test_db_run(*state,
                "UPDATE " LEDGER_CONSUMER_DB ".applied SET seq = seq + 1000 WHERE okey = 'key-1'");
    test_db_run(*state,
                "UPDATE " LEDGER_CONSUMER_DB ".applied SET seq = seq + 2000 WHERE okey IS NULL "
                "ORDER BY seq DESC");
    report = audit(*state);
    assert_true(audit_is_clean(&report));
}

static void altered_message_is_found(void **state)
{
    struct audit_report report;

    test_db_run(*state,
                "UPDATE " LEDGER_CONSUMER_DB ".applied SET okey = NULL WHERE message_id = 'm08'");
    report = audit(*state);
    assert_false(audit_is_clean(&report));
    assert_int_equal(report.disorder, 1);
}

static void leftovers_are_found(void **state)
{
    struct audit_report report;

    test_db_run(*state,
                "INSERT INTO " LEDGER_PRODUCER_DB ".outbox (topic, payload) VALUES ('t', 'p')");
    report = audit(*state);
    assert_false(audit_is_clean(&report));
    assert_int_equal(report.outbox, 1);
    report.outbox = 0;
    assert_true(audit_is_clean(&report));
    report.queued = 1;
    assert_false(audit_is_clean(&report));
    report.queued = 0;
    report.dead = 1;
    assert_false(audit_is_clean(&report));
    report.dead = 0;
    report.parked = 1;
    assert_false(audit_is_clean(&report));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(perfect_order_is_clean, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_at_all_is_not_clean, set_up, tear_down),
        cmocka_unit_test_setup_teardown(loss_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(double_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(loss_does_not_hide_a_double, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ghost_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(disorder_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(order_between_keys_is_free, set_up, tear_down),
        cmocka_unit_test_setup_teardown(altered_message_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(leftovers_are_found, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
