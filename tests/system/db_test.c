/* System tests of sql/db.h against a real server: values, results, transactions, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "test_db.h"

static struct test_db test;
static struct db *db;
static struct obx_err err;

static int make_database(void **state)
{
    (void)state;
    test_db_create(&test, "db");
    return 0;
}

static int drop_database(void **state)
{
    (void)state;
    test_db_drop(&test);
    db_thread_end();
    return 0;
}

static int open_connection(void **state)
{
    (void)state;
    obx_err_clear(&err);
    db = test_db_open(&test.opts);
    test_db_run(db, "CREATE TABLE t (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, i BIGINT NULL, "
                    "f DOUBLE NULL, b LONGBLOB NULL, s VARCHAR(20) NULL) ENGINE = InnoDB");
    return 0;
}

static int close_connection(void **state)
{
    struct db *other = test_db_open(&test.opts);

    (void)state;
    db_close(db);
    db = NULL;
    test_db_run(other, "DROP TABLE IF EXISTS t");
    db_close(other);
    return 0;
}

static void the_session_is_as_promised(void **state)
{
    struct db_rows *rows = NULL;

    (void)state;
    assert_int_equal(
        db_query(db,
                 "SELECT @@autocommit, @@time_zone, @@sql_mode, @@character_set_client, "
                 "@@innodb_lock_wait_timeout, @@lock_wait_timeout, CONNECTION_ID()",
                 DB_NO_ARGS, &rows, &err),
        OBX_OK);
    assert_true(db_rows_next(rows));
    assert_int_equal(db_rows_u64(rows, 0), 1);
    assert_true(bytes_is(db_rows_bytes(rows, 1), "+00:00"));
    assert_non_null(strstr(db_rows_bytes(rows, 2).p, "STRICT_ALL_TABLES"));
    assert_null(strstr(db_rows_bytes(rows, 2).p, "NO_BACKSLASH_ESCAPES"));
    assert_true(bytes_is(db_rows_bytes(rows, 3), "utf8mb4"));
    assert_int_equal(db_rows_u64(rows, 4), 10);
    assert_int_equal(db_rows_u64(rows, 5), 10);
    assert_int_equal(db_rows_u64(rows, 6), db_connection_id(db));
    assert_false(db_rows_next(rows));
    db_rows_free(rows);
}

static void values_come_back_as_they_went(void **state)
{
    static const char nul_inside[] = "a\0b\xff\xfe\r\n'\\";
    const struct obx_bytes body = {nul_inside, sizeof(nul_inside) - 1};
    const struct obx_bytes empty = {"", 0};
    struct db_rows *rows = NULL;
    uint64_t affected = 0;

    (void)state;
    assert_int_equal(
        db_exec(db, "INSERT INTO t (id, i, f, b, s) VALUES (?, ?, ?, ?, ?), (?, ?, ?, ?, ?)",
                DB_ARGS(DB_U64(UINT64_MAX), DB_I64(INT64_MIN), DB_F64(0.1), DB_BYTES(body),
                        DB_TEXT("h\xc3\xa9"), DB_U64(1), DB_NULL(), DB_NULL(), DB_BYTES(empty),
                        DB_TEXT(NULL)),
                &affected, &err),
        OBX_OK);
    assert_int_equal(affected, 2);
    assert_int_equal(db_query(db, "SELECT id, i, f, b, s FROM t WHERE id >= ? ORDER BY id",
                              DB_ARGS(DB_U64(0)), &rows, &err),
                     OBX_OK);
    assert_int_equal(db_rows_count(rows), 2);
    assert_true(db_rows_next(rows));
    assert_true(db_rows_is_null(rows, 1));
    assert_true(db_rows_is_null(rows, 2));
    assert_false(db_rows_is_null(rows, 3));
    assert_int_equal(db_rows_bytes(rows, 3).len, 0);
    assert_true(db_rows_is_null(rows, 4));
    assert_true(db_rows_next(rows));
    assert_true(db_rows_u64(rows, 0) == UINT64_MAX);
    assert_true(db_rows_i64(rows, 1) == INT64_MIN);
    assert_true(bytes_is(db_rows_bytes(rows, 2), "0.1"));
    assert_true(bytes_equal(db_rows_bytes(rows, 3), body));
    assert_true(bytes_is(db_rows_bytes(rows, 4), "h\xc3\xa9"));
    assert_false(db_rows_next(rows));
    db_rows_free(rows);
}

static void a_transaction_is_seen_and_undone(void **state)
{
    uint64_t affected = 0;

    (void)state;
    assert_false(db_in_transaction(db));
    assert_int_equal(db_begin(db, &err), OBX_OK);
    assert_true(db_in_transaction(db));
    assert_int_equal(db_exec(db, "INSERT INTO t (id) VALUES (?)", DB_ARGS(DB_U64(1)), NULL, &err),
                     OBX_OK);
    assert_true(db_in_transaction(db));
    assert_int_equal(db_rollback(db, &err), OBX_OK);
    assert_false(db_in_transaction(db));
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM t"), 0);
    assert_int_equal(db_begin(db, &err), OBX_OK);
    assert_int_equal(db_exec(db, "INSERT INTO t (id) VALUES (?)", DB_ARGS(DB_U64(1)), NULL, &err),
                     OBX_OK);
    assert_int_equal(db_commit(db, &err), OBX_OK);
    assert_false(db_in_transaction(db));
    assert_int_equal(db_exec(db, "UPDATE t SET i = ? WHERE id = ?", DB_ARGS(DB_NULL(), DB_U64(1)),
                             &affected, &err),
                     OBX_OK);
    assert_int_equal(affected, 1); /* matched, although the value is the same */
}

static void a_second_row_with_the_key_is_a_duplicate(void **state)
{
    (void)state;
    test_db_run(db, "INSERT INTO t (id) VALUES (7)");
    assert_int_equal(db_exec(db, "INSERT INTO t (id) VALUES (?)", DB_ARGS(DB_U64(7)), NULL, &err),
                     OBX_E_DB_DUPLICATE);
    assert_int_equal(err.sys, 1062);
    assert_int_equal(db_ping(db, &err), OBX_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_session_is_as_promised, open_connection,
                                        close_connection),
        cmocka_unit_test_setup_teardown(values_come_back_as_they_went, open_connection,
                                        close_connection),
        cmocka_unit_test_setup_teardown(a_transaction_is_seen_and_undone, open_connection,
                                        close_connection),
        cmocka_unit_test_setup_teardown(a_second_row_with_the_key_is_a_duplicate, open_connection,
                                        close_connection),
    };

    return cmocka_run_group_tests(tests, make_database, drop_database);
}
