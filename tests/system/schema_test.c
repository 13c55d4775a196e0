/* System tests of sql/schema.h and of the tables themselves against a real server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cut_proxy.h"
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
    /* Without the side it makes the producer's tables, and the message comes again. */
    assert_non_null(strstr(err.text, "outboxctl migrate --side consumer"));
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

/* ---- versions that do not fit ---- */

static void a_schema_newer_than_this_program(void **state)
{
    uint32_t version = 0;

    (void)state;
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    test_db_run(db,
                "INSERT INTO rowpost_schema (side, version, name) VALUES ('producer', 99, 'x')");
    assert_int_equal(schema_version(db, SCHEMA_PRODUCER, &version, &err), OBX_OK);
    assert_int_equal(version, 99);
    assert_int_equal(schema_check(db, SCHEMA_PRODUCER, &err), OBX_E_DB_SCHEMA);
    assert_non_null(strstr(err.text, "upgrade"));
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_E_DB_SCHEMA);
    /* The other sides are none of its business, and the lock was given back. */
    assert_int_equal(schema_migrate(db, SCHEMA_CONSUMER, NULL, NULL, &err), OBX_OK);
}

static void a_database_that_has_other_sides_only(void **state)
{
    (void)state;
    assert_int_equal(schema_migrate(db, SCHEMA_CONSUMER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_check(db, SCHEMA_PRODUCER, &err), OBX_E_DB_NO_TABLE);
}

/* ---- migrations that are disturbed ---- */

static void tables_of_the_same_name_that_are_there_already(void **state)
{
    (void)state;
    test_db_run(db, "CREATE TABLE rowpost_schema (id INT)");
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_E_DB_NO_TABLE);
    assert_int_equal(schema_check(db, SCHEMA_PRODUCER, &err), OBX_E_DB_NO_TABLE);
}

static void an_error_names_file_and_statement(void **state)
{
    struct test_user user;
    struct db *poor = NULL;

    (void)state;
    /* The relay may not make tables. */
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    test_user_create(&user, &test, "relay");
    test_db_run(db, "DELETE FROM rowpost_schema");
    poor = test_db_open(&user.opts);
    assert_int_equal(schema_migrate(poor, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_E_DB_DENIED);
    assert_non_null(strstr(err.text, "producer_0001_outbox.sql, statement 1 (CREATE TABLE"));
    db_close(poor);
    test_user_drop(&user);
}

static void a_transaction_or_no_database_is_refused(void **state)
{
    struct db_opts opts = test.opts;
    struct db *nowhere = NULL;

    (void)state;
    assert_int_equal(db_begin(db, &err), OBX_OK);
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_E_INVALID);
    assert_int_equal(schema_add_outbox(db, "outbox_two", &err), OBX_E_INVALID);
    assert_true(db_in_transaction(db));
    assert_int_equal(db_rollback(db, &err), OBX_OK);
    opts.database = NULL;
    nowhere = test_db_open(&opts);
    assert_int_equal(schema_migrate(nowhere, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_E_INVALID);
    db_close(nowhere);
}

/* The answers are cut at many of their bytes; whatever is left, the next run makes it whole. */
static void a_migration_that_was_cut_off_is_run_again(void **state)
{
    enum { STEP = 11, CUTS_AT_LEAST = 10 };
    struct cut_proxy *proxy = cut_proxy_create(test.opts.host, test.opts.port);
    struct db_opts opts = test.opts;
    enum obx_code code = OBX_E_DB_GONE;
    unsigned cuts = 0;

    (void)state;
    assert_non_null(proxy);
    opts.port = cut_proxy_port(proxy);
    opts.tls = DB_TLS_DISABLED;
    for (uint64_t at = 0; code != OBX_OK; at += STEP) {
        struct db *cut = test_db_open(&opts);

        cut_proxy_cut_after(proxy, CUT_TO_CLIENT, at);
        code = schema_migrate(cut, SCHEMA_PRODUCER, NULL, NULL, &err);
        assert_true(code == OBX_OK || code == OBX_E_DB_GONE);
        db_close(cut);
        cuts += code == OBX_E_DB_GONE;
        assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
        assert_int_equal(schema_check(db, SCHEMA_PRODUCER, &err), OBX_OK);
        test_db_run(db, "INSERT INTO outbox (topic, payload) VALUES ('t', 'p')");
        test_db_run(
            db, "DROP TABLE outbox, outbox_parked, outbox_lease, outbox_awaiting, outbox_receipt, "
                "outbox_delayed, outbox_secret, outbox_audit, "
                "outbox_action, outbox_relay, rowpost_schema");
    }
    assert_true(cuts > CUTS_AT_LEAST);
    cut_proxy_destroy(proxy);
}

static void *migrate_in_thread(void *arg)
{
    struct db *mine = arg;
    enum obx_code code = schema_migrate(mine, SCHEMA_PRODUCER, NULL, NULL, NULL);

    if (code == OBX_OK)
        code = schema_check(mine, SCHEMA_PRODUCER, NULL);
    db_thread_end();
    return code == OBX_OK ? mine : NULL;
}

static void several_migrations_at_once(void **state)
{
    enum { RUNS = 6 };
    pthread_t threads[RUNS];
    struct db *connections[RUNS];

    (void)state;
    for (int i = 0; i < RUNS; i++)
        connections[i] = test_db_open(&test.opts);
    for (int i = 0; i < RUNS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, migrate_in_thread, connections[i]), 0);
    for (int i = 0; i < RUNS; i++) {
        void *result = NULL;

        pthread_join(threads[i], &result);
        assert_ptr_equal(result, connections[i]);
        db_close(connections[i]);
    }
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM rowpost_schema"),
                     schema_latest(SCHEMA_PRODUCER));
}

static void a_migration_that_never_ends_is_not_waited_for_for_ever(void **state)
{
    struct db *other = test_db_open(&test.opts);

    (void)state;
    assert_int_equal(
        test_db_number(
            other,
            "SELECT GET_LOCK(CONCAT('rowpost_migrate_', LEFT(SHA2(DATABASE(), 256), 40)), 0)"),
        1);
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_E_DB_LOCK_WAIT);
    db_close(other);
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
}

/* ---- by hand ---- */

static void add_definition(struct obx_buf *out, const char *table)
{
    struct obx_buf sql = {0};
    struct db_rows *rows = NULL;
    struct obx_bytes text = {NULL, 0};

    assert_int_equal(buf_addf(&sql, "SHOW CREATE TABLE `%s`", table), OBX_OK);
    assert_int_equal(db_query_text(db, buf_bytes(&sql), &rows, &err), OBX_OK);
    assert_true(db_rows_next(rows));
    text = db_rows_bytes(rows, 1);
    assert_int_equal(buf_add(out, text.p, text.len), OBX_OK);
    db_rows_free(rows);
    buf_fini(&sql);
}

static void add_all_definitions(struct obx_buf *out)
{
    struct db_rows *rows = NULL;

    assert_int_equal(db_query(db, "SHOW TABLES", DB_NO_ARGS, &rows, &err), OBX_OK);
    while (db_rows_next(rows))
        add_definition(out, db_rows_bytes(rows, 0).p);
    db_rows_free(rows);
    assert_int_equal(db_query(db, "SELECT side, version, name FROM rowpost_schema ORDER BY side",
                              DB_NO_ARGS, &rows, &err),
                     OBX_OK);
    while (db_rows_next(rows)) {
        assert_int_equal(buf_add_text(out, db_rows_bytes(rows, 0).p), OBX_OK);
        assert_int_equal(buf_add_text(out, db_rows_bytes(rows, 2).p), OBX_OK);
    }
    db_rows_free(rows);
}

/* Through the command line client, as somebody without outboxctl would do it; twice, because that
 * is promised too. */
static void run_file_by_hand(const struct schema_step *step)
{
    char command[512];

    (void)snprintf(command, sizeof(command), "'%s' sql '%s' < '%s/%s.sql'",
                   test_env("OBX_TEST_SERVERS"), test.name, OBX_TEST_SCHEMA_DIR, step->name);
    assert_int_equal(system(command), 0);
    assert_int_equal(system(command), 0);
}

static void by_hand_comes_to_the_same(void **state)
{
    static const enum schema_side sides[] = {SCHEMA_PRODUCER, SCHEMA_CONSUMER, SCHEMA_HALF,
                                             SCHEMA_BARRIER,  SCHEMA_NOTIFY,   SCHEMA_JOURNAL,
                                             SCHEMA_INBOX};
    struct obx_buf by_hand = {0};
    struct obx_buf by_program = {0};

    for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++) {
        size_t count = 0;
        const struct schema_step *steps = schema_steps(sides[i], &count);

        for (size_t j = 0; j < count; j++)
            run_file_by_hand(&steps[j]);
        assert_int_equal(schema_check(db, sides[i], &err), OBX_OK);
    }
    add_all_definitions(&by_hand);
    assert_int_equal(drop(state), 0);
    assert_int_equal(open_empty(state), 0);
    for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++)
        assert_int_equal(schema_migrate(db, sides[i], NULL, NULL, &err), OBX_OK);
    add_all_definitions(&by_program);
    assert_string_equal(by_hand.data, by_program.data);
    buf_fini(&by_hand);
    buf_fini(&by_program);
}

/* ---- further outbox tables ---- */

static void a_further_outbox_is_like_the_first(void **state)
{
    struct obx_buf first = {0};
    struct obx_buf second = {0};
    char *check = NULL;

    (void)state;
    assert_int_equal(schema_add_outbox(db, "outbox_bulk", &err), OBX_E_DB_NO_TABLE);
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_add_outbox(db, "outbox_bulk", &err), OBX_OK);
    test_db_run(db, "INSERT INTO outbox_bulk (topic, payload) VALUES ('t', 'p')");
    assert_int_equal(schema_add_outbox(db, "outbox_bulk", &err), OBX_OK);
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM outbox_bulk"), 1);
    assert_int_equal(test_db_number(db, "SELECT LENGTH(message_id) FROM outbox_bulk"), 36);
    test_db_run(db, "TRUNCATE TABLE outbox_bulk");
    add_definition(&first, "outbox");
    add_definition(&second, "outbox_bulk");
    assert_non_null(strstr(second.data, "`outbox_bulk`"));
    /* MySQL names the check of a column after the table. */
    while ((check = strstr(second.data, "`outbox_bulk_chk_")) != NULL)
        memmove(check + sizeof("`outbox") - 1, check + sizeof("`outbox_bulk") - 1,
                strlen(check + sizeof("`outbox_bulk") - 1) + 1);
    assert_string_equal(strchr(first.data, '('), strchr(second.data, '('));
    buf_fini(&first);
    buf_fini(&second);
}

static void names_that_are_no_outbox(void **state)
{
    static const char long_name[] = "a234567890123456789012345678901234567890123456789012345678";
    static const char too_long[] = "a2345678901234567890123456789012345678901234567890123456789";

    (void)state;
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_add_outbox(db, "", &err), OBX_E_INVALID);
    assert_int_equal(schema_add_outbox(db, "outbox", &err), OBX_E_INVALID);
    assert_non_null(strstr(err.text, "the first outbox"));
    assert_int_equal(schema_add_outbox(db, "a`b", &err), OBX_E_INVALID);
    assert_int_equal(schema_add_outbox(db, "a b", &err), OBX_E_INVALID);
    assert_int_equal(schema_add_outbox(db, "a.b", &err), OBX_E_INVALID);
    assert_int_equal(schema_add_outbox(db, long_name, &err), OBX_OK);
    assert_int_equal(schema_add_outbox(db, too_long, &err), OBX_E_INVALID);
    test_db_run(db, "CREATE TABLE orders (id INT, payload INT)");
    assert_int_equal(schema_add_outbox(db, "orders", &err), OBX_E_DB_SCHEMA);
    assert_int_equal(schema_add_outbox(db, "outbox_lease", &err), OBX_E_DB_SCHEMA);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_empty, drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(migrating_an_empty_database),
        TEST(migrating_again_does_nothing),
        TEST(both_sides_live_in_one_database),
        TEST(a_schema_newer_than_this_program),
        TEST(a_database_that_has_other_sides_only),
        TEST(tables_of_the_same_name_that_are_there_already),
        TEST(an_error_names_file_and_statement),
        TEST(a_transaction_or_no_database_is_refused),
        TEST(a_migration_that_was_cut_off_is_run_again),
        TEST(several_migrations_at_once),
        TEST(a_migration_that_never_ends_is_not_waited_for_for_ever),
        TEST(by_hand_comes_to_the_same),
        TEST(a_further_outbox_is_like_the_first),
        TEST(names_that_are_no_outbox),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    db_thread_end();
    return failed;
}
