/* System tests of sql/schema.h and of the tables themselves against a real server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"
#include "sql/schema.h"
#include "test_db.h"

static struct test_db test;
static struct db *db;
static struct obx_err err;

static int open_empty(void **state)
{
    (void)state;
    obx_err_clear(&err);
    test_db_create(&test, "schema");
    db = test_db_open(&test.opts);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    db_close(db);
    db = NULL;
    test_db_drop(&test);
    return 0;
}

static void count_step(const struct schema_step *step, void *ctx)
{
    unsigned *steps = ctx;

    assert_int_equal(step->version, ++*steps);
}

static void migrating_an_empty_database(void **state)
{
    uint32_t version = 99;
    unsigned steps = 0;

    (void)state;
    assert_int_equal(schema_version(db, SCHEMA_PRODUCER, &version, &err), OBX_OK);
    assert_int_equal(version, 0);
    assert_int_equal(schema_check(db, SCHEMA_PRODUCER, &err), OBX_E_DB_NO_TABLE);
    assert_non_null(strstr(err.text, "outboxctl migrate"));
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, count_step, &steps, &err), OBX_OK);
    assert_int_equal(steps, schema_latest(SCHEMA_PRODUCER));
    assert_int_equal(schema_version(db, SCHEMA_PRODUCER, &version, &err), OBX_OK);
    assert_int_equal(version, schema_latest(SCHEMA_PRODUCER));
    assert_int_equal(schema_check(db, SCHEMA_PRODUCER, &err), OBX_OK);
    assert_int_equal(schema_check(db, SCHEMA_CONSUMER, &err), OBX_E_DB_NO_TABLE);
}

static void migrating_again_does_nothing(void **state)
{
    unsigned steps = 0;

    (void)state;
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    test_db_run(db, "INSERT INTO outbox (topic, payload) VALUES ('t', 'p')");
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, count_step, &steps, &err), OBX_OK);
    assert_int_equal(steps, 0);
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM outbox"), 1);
}

static void both_sides_live_in_one_database(void **state)
{
    (void)state;
    assert_int_equal(schema_migrate(db, SCHEMA_CONSUMER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_check(db, SCHEMA_PRODUCER, &err), OBX_OK);
    assert_int_equal(schema_check(db, SCHEMA_CONSUMER, &err), OBX_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(migrating_an_empty_database, open_empty, drop),
        cmocka_unit_test_setup_teardown(migrating_again_does_nothing, open_empty, drop),
        cmocka_unit_test_setup_teardown(both_sides_live_in_one_database, open_empty, drop),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    db_thread_end();
    return failed;
}
