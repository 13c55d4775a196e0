/* System tests of sql/db.h against a real server: values, results, transactions, errors. */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include <sys/wait.h>

#include <signal.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
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

/* A process that holds a row and is stopped: it says nothing more, and nobody closes its session.
 */
static pid_t hold_a_row_and_stop(uint32_t idle_s)
{
    struct db_opts opts = test.opts;
    int ready[2];
    char byte = 0;
    pid_t child = -1;

    assert_int_equal(pipe(ready), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct db *own = NULL;

        opts.idle_s = idle_s;
        if (db_open(&opts, &own, NULL) != OBX_OK || db_begin(own, NULL) != OBX_OK ||
            db_exec(own, "UPDATE t SET i = 2 WHERE id = 1", DB_NO_ARGS, NULL, NULL) != OBX_OK ||
            write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            (void)pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    assert_int_equal(kill(child, SIGSTOP), 0);
    return child;
}

static void a_session_ends_soon_after_its_owner_stands_still(void **state)
{
    pid_t child = -1;

    (void)state;
    test_db_run(db, "INSERT INTO t (id, i) VALUES (1, 1)");
    child = hold_a_row_and_stop(1);
    /* This session waits for a lock for 10 s at most, which is long enough. */
    test_db_run(db, "UPDATE t SET i = 3 WHERE id = 1");
    assert_int_equal(test_db_number(db, "SELECT i FROM t WHERE id = 1"), 3);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* Without an idle_s: short where something may be held, long where nothing is. */
static void every_session_has_an_end_by_default(void **state)
{
    struct db_rows *rows = NULL;
    struct db *plain = NULL;

    (void)state;
    assert_int_equal(db_open(&test.opts, &plain, &err), OBX_OK);
    assert_int_equal(db_query(plain,
                              db_server_is_mariadb(plain)
                                  ? "SELECT @@net_read_timeout, @@net_write_timeout, "
                                    "@@idle_transaction_timeout, @@wait_timeout"
                                  : "SELECT @@net_read_timeout, @@net_write_timeout, "
                                    "@@wait_timeout, @@wait_timeout",
                              DB_NO_ARGS, &rows, &err),
                     OBX_OK);
    assert_true(db_rows_next(rows));
    for (unsigned i = 0; i < 3; i++)
        assert_in_range(db_rows_u64(rows, i), 1, 60);
    assert_in_range(db_rows_u64(rows, 3), 1, 3600);
    db_rows_free(rows);
    db_close(plain);
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

/* ---- values ---- */

static struct obx_bytes every_byte(char *space, size_t len)
{
    for (size_t i = 0; i < len; i++)
        space[i] = (char)(i * 7 + i / 256);
    return (struct obx_bytes){space, len};
}

static void assert_body(const char *sql, const struct obx_value *args, size_t arg_count,
                        struct obx_bytes body)
{
    struct db_rows *rows = NULL;

    assert_int_equal(db_query(db, sql, args, arg_count, &rows, &err), OBX_OK);
    assert_true(db_rows_next(rows));
    assert_true(bytes_equal(db_rows_bytes(rows, 0), body));
    db_rows_free(rows);
}

/* Around the sizes at which the reading changes its way, up to 15 MiB, by both protocols. */
static void bodies_of_any_length(void **state)
{
    static const size_t lengths[] = {0,   1,    63,    64,    65,      255,
                                     256, 4095, 65535, 65536, 1000000, 15 << 20};
    char *space = malloc(15 << 20);

    (void)state;
    assert_non_null(space);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        const struct obx_bytes body = every_byte(space, lengths[i]);

        assert_int_equal(db_exec(db, "INSERT INTO t (id, b) VALUES (?, ?)",
                                 DB_ARGS(DB_U64(1), DB_BYTES(body)), NULL, &err),
                         OBX_OK);
        assert_body("SELECT b FROM t WHERE id = ?", DB_ARGS(DB_U64(1)), body);
        assert_body("SELECT b FROM t", DB_NO_ARGS, body);
        test_db_run(db, "DELETE FROM t");
    }
    free(space);
}

static void many_rows_in_one_result(void **state)
{
    struct db_rows *rows = NULL;
    uint64_t expected = 0;

    (void)state;
    test_db_run(db, "INSERT INTO t (id, b) VALUES (0, REPEAT('x', 256))");
    for (int i = 0; i < 10; i++)
        test_db_run(db, "INSERT INTO t (id, b) SELECT id + (SELECT COUNT(*) FROM t), b FROM t");
    assert_int_equal(db_query(db, "SELECT id, b FROM t WHERE id >= ? ORDER BY id LIMIT ?",
                              DB_ARGS(DB_U64(0), DB_U64(1000)), &rows, &err),
                     OBX_OK);
    assert_int_equal(db_rows_count(rows), 1000);
    /* Its own block: other statements do not touch it. */
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM t"), 1024);
    while (db_rows_next(rows)) {
        assert_int_equal(db_rows_u64(rows, 0), expected++);
        assert_int_equal(db_rows_bytes(rows, 1).len, 256);
    }
    assert_int_equal(expected, 1000);
    assert_false(db_rows_next(rows));
    db_rows_free(rows);
}

static void no_rows_is_an_empty_result(void **state)
{
    struct db_rows *rows = NULL;

    (void)state;
    assert_int_equal(
        db_query(db, "SELECT id, b FROM t WHERE id = ?", DB_ARGS(DB_U64(1)), &rows, &err), OBX_OK);
    assert_int_equal(db_rows_count(rows), 0);
    assert_false(db_rows_next(rows));
    /* Columns of no row, or that do not exist, read as NULL. */
    assert_true(db_rows_is_null(rows, 0));
    assert_true(db_rows_is_null(rows, 99));
    assert_int_equal(db_rows_u64(rows, 0), 0);
    db_rows_free(rows);
    db_rows_free(NULL);
}

static void check_numbers(struct db_rows *rows)
{
    assert_true(db_rows_next(rows));
    assert_true(db_rows_u64(rows, 0) == UINT64_MAX);
    assert_true(db_rows_i64(rows, 1) == INT64_MIN);
    assert_true(db_rows_i64(rows, 2) == -1);
    assert_int_equal(db_rows_u64(rows, 2), 0);  /* not an unsigned number */
    assert_int_equal(db_rows_u64(rows, 3), 12); /* a decimal, cut */
    assert_int_equal(db_rows_u64(rows, 4), 0);  /* a text */
    assert_int_equal(db_rows_u64(rows, 5), 0);  /* NULL */
    assert_int_equal(db_rows_i64(rows, 5), 0);
    assert_int_equal(db_rows_u64(rows, 6), 0); /* a number with something behind it */
    assert_true(bytes_is(db_rows_bytes(rows, 7), "2024-02-29 23:59:59.000001"));
    assert_true(bytes_is(db_rows_bytes(rows, 0), "18446744073709551615"));
    db_rows_free(rows);
}

static void numbers_and_times_as_text(void **state)
{
    struct db_rows *rows = NULL;

    (void)state;
    assert_int_equal(
        db_query(
            db,
            "SELECT CAST(18446744073709551615 AS UNSIGNED), -9223372036854775807 - 1, -1, 12.75, "
            "'seven', NULL, '7x', CAST('2024-02-29 23:59:59.000001' AS DATETIME(6))",
            DB_NO_ARGS, &rows, &err),
        OBX_OK);
    check_numbers(rows);
    assert_int_equal(
        db_query(
            db,
            "SELECT CAST(18446744073709551615 AS UNSIGNED), -9223372036854775807 - 1, -1, 12.75, "
            "'seven', NULL, '7x', CAST('2024-02-29 23:59:59.000001' AS DATETIME(6)) FROM DUAL "
            "WHERE ? = 1",
            DB_ARGS(DB_I64(1)), &rows, &err),
        OBX_OK);
    check_numbers(rows);
}

/* Values go as text in the connection's character set: into JSON, against text and binary columns,
 * with their index. */
static void bytes_suit_every_kind_of_column(void **state)
{
    struct db_rows *rows = NULL;
    uint64_t affected = 0;

    (void)state;
    test_db_run(
        db, "CREATE TABLE kinds (a VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY, "
            "v VARBINARY(20), j JSON, e ENUM('x', 'y'))");
    assert_int_equal(
        db_exec(db, "INSERT INTO kinds VALUES (?, ?, ?, ?)",
                DB_ARGS(DB_TEXT("key"), DB_BYTES(((struct obx_bytes){"\xff\0\x80", 3})),
                        DB_TEXT("{\"a\": \"\xc3\xa9\"}"), DB_TEXT("y")),
                NULL, &err),
        OBX_OK);
    assert_int_equal(db_exec(db, "UPDATE kinds SET e = 'x' WHERE a = ? AND v = ? AND e = ?",
                             DB_ARGS(DB_TEXT("key"),
                                     DB_BYTES(((struct obx_bytes){"\xff\0\x80", 3})), DB_TEXT("y")),
                             &affected, &err),
                     OBX_OK);
    assert_int_equal(affected, 1);
    assert_int_equal(
        db_query(db, "SELECT JSON_UNQUOTE(JSON_EXTRACT(j, '$.a')), HEX(v) FROM kinds WHERE a = ?",
                 DB_ARGS(DB_TEXT("key")), &rows, &err),
        OBX_OK);
    assert_true(db_rows_next(rows));
    assert_true(bytes_is(db_rows_bytes(rows, 0), "\xc3\xa9"));
    assert_true(bytes_is(db_rows_bytes(rows, 1), "FF0080"));
    db_rows_free(rows);
    test_db_run(db, "DROP TABLE kinds");
}

static void assert_literal(struct obx_bytes text)
{
    struct obx_buf sql = {0};
    struct db_rows *rows = NULL;

    assert_int_equal(buf_add_text(&sql, "SELECT "), OBX_OK);
    assert_int_equal(db_add_literal(db, &sql, text), OBX_OK);
    assert_int_equal(db_query_text(db, buf_bytes(&sql), &rows, &err), OBX_OK);
    assert_true(db_rows_next(rows));
    assert_true(bytes_equal(db_rows_bytes(rows, 0), text) ||
                (text.p == NULL && db_rows_is_null(rows, 0)));
    db_rows_free(rows);
    buf_fini(&sql);
}

static void assert_literals(void)
{
    static const char nasty[] =
        "it's \\ \\' \" ` %s; -- /* # \0 \n\r\x1a \xc3\xa9 \xf0\x9f\x90\x87 '";

    assert_literal((struct obx_bytes){nasty, sizeof(nasty) - 1});
    assert_literal((struct obx_bytes){"", 0});
    assert_literal((struct obx_bytes){NULL, 0});
    assert_literal((struct obx_bytes){"\\", 1});
    assert_literal((struct obx_bytes){"'", 1});
    assert_literal((struct obx_bytes){"\0", 1});
}

static void literals_are_escaped_as_the_session_wants(void **state)
{
    (void)state;
    assert_literals();
    /* A handler may have changed the mode of the session. */
    test_db_run(db, "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'");
    assert_literals();
}

static void identifiers_are_quoted(void **state)
{
    struct obx_buf sql = {0};

    (void)state;
    assert_int_equal(buf_add_text(&sql, "SELECT 1 AS "), OBX_OK);
    assert_int_equal(db_add_identifier(&sql, "od`d `` name'\\"), OBX_OK);
    assert_string_equal(sql.data, "SELECT 1 AS `od``d ```` name'\\`");
    assert_int_equal(db_exec_text(db, buf_bytes(&sql), NULL, &err), OBX_OK);
    buf_fini(&sql);
}

/* ---- statements ---- */

static uint64_t session_status(const char *name)
{
    char sql[128];
    struct db_rows *rows = NULL;
    uint64_t value = 0;

    (void)snprintf(sql, sizeof(sql), "SHOW SESSION STATUS LIKE '%s'", name);
    assert_int_equal(db_query(db, sql, DB_NO_ARGS, &rows, &err), OBX_OK);
    assert_true(db_rows_next(rows));
    value = db_rows_u64(rows, 1);
    db_rows_free(rows);
    return value;
}

static void a_statement_is_prepared_once(void **state)
{
    char text[64];

    (void)state;
    for (int i = 0; i < 50; i++) {
        /* Found by its text and not by where that is. */
        (void)snprintf(text, sizeof(text), "SELECT id FROM t WHERE id = ?%s", "");
        assert_int_equal(db_exec(db, text, DB_ARGS(DB_U64(1)), NULL, &err), OBX_OK);
    }
    assert_int_equal(session_status("Com_stmt_prepare"), 1);
    assert_int_equal(session_status("Com_stmt_execute"), 50);
}

static void the_statement_cache_is_bounded(void **state)
{
    char text[64];

    (void)state;
    for (int i = 0; i < 300; i++) {
        /* Columns and no bare values: MySQL prepares a statement again, and counts that, when a
         * value is of another type than it guessed. */
        (void)snprintf(text, sizeof(text), "SELECT %d FROM t WHERE id = ?", i);
        assert_int_equal(db_exec(db, text, DB_ARGS(DB_U64(1)), NULL, &err), OBX_OK);
        /* Used all the time, so it is never the one that goes. */
        assert_int_equal(
            db_exec(db, "SELECT id FROM t WHERE id = ?", DB_ARGS(DB_U64(1)), NULL, &err), OBX_OK);
    }
    assert_int_equal(session_status("Com_stmt_prepare"), 301);
    assert_int_equal(session_status("Com_stmt_prepare") - session_status("Com_stmt_close"), 64);
}

static void wrong_number_of_values(void **state)
{
    (void)state;
    assert_int_equal(db_exec(db, "SELECT ?, ?", DB_ARGS(DB_U64(1)), NULL, &err), OBX_E_INVALID);
    assert_int_equal(db_exec(db, "SELECT 1", DB_ARGS(DB_U64(1)), NULL, &err), OBX_E_INVALID);
    assert_int_equal(db_ping(db, &err), OBX_OK);
}

static void a_table_that_changes_under_a_statement(void **state)
{
    static const char *const changes[] = {
        "ALTER TABLE t ADD COLUMN x INT DEFAULT 7 FIRST",
        "ALTER TABLE t ADD COLUMN y LONGBLOB FIRST, DROP COLUMN b",
        "ALTER TABLE t DROP COLUMN x",
    };
    static const unsigned id_column[] = {0, 1, 2, 1};
    struct db *other = test_db_open(&test.opts);

    (void)state;
    test_db_run(db, "INSERT INTO t (id, i) VALUES (1, 5)");
    for (size_t i = 0; i < sizeof(id_column) / sizeof(id_column[0]); i++) {
        struct db_rows *rows = NULL;

        assert_int_equal(
            db_query(db, "SELECT * FROM t WHERE id = ?", DB_ARGS(DB_U64(1)), &rows, &err), OBX_OK);
        assert_true(db_rows_next(rows));
        assert_int_equal(db_rows_u64(rows, id_column[i]), 1);
        assert_int_equal(db_rows_u64(rows, id_column[i] + 1), 5);
        db_rows_free(rows);
        if (i < sizeof(changes) / sizeof(changes[0]))
            test_db_run(other, changes[i]);
    }
    db_close(other);
}

/* What a handler does with the connection it is lent may take our statements away. */
static void statements_that_the_server_has_forgotten(void **state)
{
    int (*reset)(void *) = NULL;
    void *symbol = dlsym(RTLD_DEFAULT, "mysql_reset_connection");

    (void)state;
    assert_non_null(symbol);
    memcpy(&reset, &symbol, sizeof(reset));
    test_db_run(db, "INSERT INTO t (id) VALUES (1)");
    for (int i = 0; i < 3; i++) {
        uint64_t affected = 0;

        assert_int_equal(
            db_exec(db, "UPDATE t SET i = i + ? WHERE id = 1", DB_ARGS(DB_I64(1)), &affected, &err),
            OBX_OK);
        assert_int_equal(affected, 1);
        assert_int_equal(reset(db_native(db)), 0);
    }
}

static void procedures_with_several_results(void **state)
{
    struct db_rows *rows = NULL;
    uint64_t affected = 0;

    (void)state;
    test_db_run(
        db,
        "CREATE PROCEDURE p (n INT) BEGIN SELECT n, 1; SELECT 2; INSERT INTO t (id) VALUES (n); "
        "SELECT 3; END");
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(db_query(db, "CALL p(?)", DB_ARGS(DB_U64(i)), &rows, &err), OBX_OK);
        assert_int_equal(db_rows_count(rows), 1);
        assert_true(db_rows_next(rows));
        assert_int_equal(db_rows_u64(rows, 0), i);
        db_rows_free(rows);
        assert_int_equal(db_exec(db, "CALL p(?)", DB_ARGS(DB_U64(i + 100)), &affected, &err),
                         OBX_OK);
    }
    assert_int_equal(db_query(db, "CALL p(50)", DB_NO_ARGS, &rows, &err), OBX_OK);
    assert_int_equal(db_rows_count(rows), 1);
    db_rows_free(rows);
    assert_int_equal(db_exec(db, "CALL p(51)", DB_NO_ARGS, NULL, &err), OBX_OK);
    /* An error between two results. */
    assert_int_equal(db_query(db, "CALL p(51)", DB_NO_ARGS, &rows, &err), OBX_E_DB_DUPLICATE);
    assert_null(rows);
    assert_int_equal(db_query(db, "CALL p(?)", DB_ARGS(DB_U64(51)), &rows, &err),
                     OBX_E_DB_DUPLICATE);
    assert_null(rows);
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM t"), 8);
    test_db_run(db, "DROP PROCEDURE p");
}

static void a_query_without_a_result_is_a_mistake(void **state)
{
    struct db_rows *rows = NULL;

    (void)state;
    assert_int_equal(db_query(db, "INSERT INTO t (id) VALUES (1)", DB_NO_ARGS, &rows, &err),
                     OBX_E_INVALID);
    assert_null(rows);
    assert_int_equal(db_query(db, "INSERT INTO t (id) VALUES (?)", DB_ARGS(DB_U64(2)), &rows, &err),
                     OBX_E_INVALID);
    assert_null(rows);
    assert_int_equal(db_ping(db, &err), OBX_OK);
}

static enum obx_code run_steps(const char *sql, struct db_step *steps, size_t count, size_t *done)
{
    return db_run_steps(db, bytes_of(sql), steps, count, done, &err);
}

/* In one round trip, each with its own result; where one fails, what comes after it is not run, and
 * no result is left for the next call. */
static void several_statements_at_once(void **state)
{
    struct db_step steps[4];
    const uint64_t before = db_statements(db);
    size_t done = 0;

    (void)state;
    assert_int_equal(run_steps("INSERT INTO t (id, s) VALUES (1, 'a;b'), (2, 'c');"
                               "SELECT id, s FROM t ORDER BY id; DELETE FROM t WHERE id = 2",
                               steps, 3, &done),
                     OBX_OK);
    assert_int_equal(done, 3);
    assert_int_equal(db_statements(db) - before, 3);
    assert_int_equal(steps[0].affected, 2);
    assert_null(steps[0].rows);
    assert_int_equal(db_rows_count(steps[1].rows), 2);
    assert_true(db_rows_next(steps[1].rows));
    assert_true(bytes_is(db_rows_bytes(steps[1].rows, 1), "a;b"));
    db_rows_free(steps[1].rows);
    assert_int_equal(steps[2].affected, 1);

    assert_int_equal(run_steps("SELECT 1; INSERT INTO t (id) VALUES (1); INSERT INTO t (id) VALUES "
                               "(3)",
                               steps, 3, &done),
                     OBX_E_DB_DUPLICATE);
    assert_int_equal(done, 1);
    assert_int_equal(db_rows_count(steps[0].rows), 1);
    db_rows_free(steps[0].rows);
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM t"), 1);
    assert_int_equal(run_steps("SELEKT", steps, 1, &done), OBX_E_DB_QUERY);
    assert_int_equal(done, 0);

    /* A caller that counts wrong learns it, and the connection stays in step. */
    assert_int_equal(run_steps("SELECT 1; SELECT 2; SELECT 3", steps, 2, &done), OBX_E_INVALID);
    assert_int_equal(done, 2);
    db_rows_free(steps[0].rows);
    db_rows_free(steps[1].rows);
    assert_int_equal(test_db_number(db, "SELECT 41 + 1"), 42);
    assert_int_equal(run_steps("SELECT 7", steps, 2, &done), OBX_E_INVALID);
    db_rows_free(steps[0].rows);
    assert_int_equal(test_db_number(db, "SELECT 41 + 2"), 43);
}

static void ids_given_by_the_server(void **state)
{
    (void)state;
    test_db_run(db, "CREATE TABLE auto (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, v INT) "
                    "AUTO_INCREMENT = 18446744073709551610");
    assert_int_equal(db_exec(db, "INSERT INTO auto (v) VALUES (?)", DB_ARGS(DB_U64(1)), NULL, &err),
                     OBX_OK);
    assert_true(db_insert_id(db) == UINT64_C(18446744073709551610));
    test_db_run(db, "INSERT INTO auto (v) VALUES (1)");
    assert_true(db_insert_id(db) == UINT64_C(18446744073709551611));
    test_db_run(db, "DROP TABLE auto");
}

/* ---- transactions ---- */

static void the_state_of_a_transaction_is_current(void **state)
{
    struct db_rows *rows = NULL;

    (void)state;
    test_db_run(db, "INSERT INTO t (id) VALUES (1)");
    assert_false(db_in_transaction(db));
    assert_int_equal(db_begin(db, &err), OBX_OK);
    assert_int_equal(
        db_query(db, "SELECT id FROM t WHERE id >= ?", DB_ARGS(DB_U64(0)), &rows, &err), OBX_OK);
    db_rows_free(rows);
    assert_true(db_in_transaction(db));
    /* Ended behind our back: by a prepared COMMIT, by a statement that commits, by a procedure. */
    assert_int_equal(db_exec(db, "CREATE TABLE IF NOT EXISTS x (id INT)", DB_NO_ARGS, NULL, &err),
                     OBX_OK);
    assert_false(db_in_transaction(db));
    test_db_run(db, "CREATE PROCEDURE p (n INT) BEGIN SELECT n; COMMIT; END");
    assert_int_equal(db_begin(db, &err), OBX_OK);
    assert_int_equal(db_exec(db, "UPDATE t SET i = 1 WHERE id = ?", DB_ARGS(DB_U64(1)), NULL, &err),
                     OBX_OK);
    assert_true(db_in_transaction(db));
    assert_int_equal(db_exec(db, "CALL p(?)", DB_ARGS(DB_U64(1)), NULL, &err), OBX_OK);
    assert_false(db_in_transaction(db));
    test_db_run(db, "DROP PROCEDURE p");
    test_db_run(db, "DROP TABLE x");
    /* An open transaction without BEGIN. */
    test_db_run(db, "SET autocommit = 0");
    assert_int_equal(
        db_query(db, "SELECT id FROM t WHERE id >= ?", DB_ARGS(DB_U64(0)), &rows, &err), OBX_OK);
    db_rows_free(rows);
    assert_true(db_in_transaction(db));
    assert_int_equal(db_rollback(db, &err), OBX_OK);
    assert_false(db_in_transaction(db));
}

static void reads_see_what_was_committed_since(void **state)
{
    struct db *other = test_db_open(&test.opts);

    (void)state;
    assert_int_equal(db_begin(db, &err), OBX_OK);
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM t"), 0);
    test_db_run(other, "INSERT INTO t (id) VALUES (1)");
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM t"), 1);
    assert_int_equal(db_commit(db, &err), OBX_OK);
    db_close(other);
}

/* ---- connections ---- */

static void connecting_by_the_unix_socket(void **state)
{
    struct db_opts opts = test.opts;
    struct db *got = NULL;
    struct db_rows *rows = NULL;

    (void)state;
    opts.host = NULL;
    opts.port = 0;
    opts.unix_socket = test_env("OBX_TEST_DB_SOCKET");
    opts.program_name = NULL;
    got = test_db_open(&opts);
    assert_int_equal(
        db_query(got, "SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()",
                 DB_NO_ARGS, &rows, &err),
        OBX_OK);
    assert_true(db_rows_next(rows));
    assert_true(bytes_is(db_rows_bytes(rows, 0), "localhost"));
    db_rows_free(rows);
    db_close(got);
}

static void the_name_localhost_means_tcp_when_no_socket_is_given(void **state)
{
    struct db_opts opts = test.opts;
    struct db *got = NULL;

    (void)state;
    opts.host = "localhost";
    got = test_db_open(&opts);
    db_close(got);
    opts.host = "";
    opts.unix_socket = "";
    got = test_db_open(&opts);
    db_close(got);
}

static void what_the_server_is(void **state)
{
    struct db_rows *rows = NULL;
    char version[64];

    (void)state;
    assert_int_equal(db_query(db, "SELECT VERSION()", DB_NO_ARGS, &rows, &err), OBX_OK);
    assert_true(db_rows_next(rows));
    assert_true(bytes_to_text(db_rows_bytes(rows, 0), version, sizeof(version)));
    db_rows_free(rows);
    assert_string_equal(db_server_version(db), version);
    assert_int_equal(db_server_is_mariadb(db), strstr(version, "MariaDB") != NULL);
    assert_non_null(db_native(db));
    db_close(NULL);
}

static void *use_elsewhere(void *arg)
{
    struct db *mine = arg;
    struct db_rows *rows = NULL;
    enum obx_code code = db_query(mine, "SELECT ?", DB_ARGS(DB_U64(5)), &rows, NULL);

    if (code == OBX_OK && (!db_rows_next(rows) || db_rows_u64(rows, 0) != 5))
        code = OBX_E_INVALID;
    db_rows_free(rows);
    db_close(mine);
    db_thread_end();
    return code == OBX_OK ? mine : NULL;
}

static void a_connection_may_move_to_another_thread(void **state)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_elsewhere, test_db_open(&test.opts)),
                         0);
    for (int i = 0; i < THREADS; i++) {
        void *result = NULL;

        pthread_join(threads[i], &result);
        assert_non_null(result);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_connection, close_connection)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_session_is_as_promised),
        TEST(a_session_ends_soon_after_its_owner_stands_still),
        TEST(every_session_has_an_end_by_default),
        TEST(values_come_back_as_they_went),
        TEST(bodies_of_any_length),
        TEST(many_rows_in_one_result),
        TEST(no_rows_is_an_empty_result),
        TEST(numbers_and_times_as_text),
        TEST(bytes_suit_every_kind_of_column),
        TEST(literals_are_escaped_as_the_session_wants),
        TEST(identifiers_are_quoted),
        TEST(a_statement_is_prepared_once),
        TEST(the_statement_cache_is_bounded),
        TEST(wrong_number_of_values),
        TEST(a_table_that_changes_under_a_statement),
        TEST(statements_that_the_server_has_forgotten),
        TEST(procedures_with_several_results),
        TEST(a_query_without_a_result_is_a_mistake),
        TEST(several_statements_at_once),
        TEST(ids_given_by_the_server),
        TEST(a_transaction_is_seen_and_undone),
        TEST(the_state_of_a_transaction_is_current),
        TEST(reads_see_what_was_committed_since),
        TEST(a_second_row_with_the_key_is_a_duplicate),
        TEST(connecting_by_the_unix_socket),
        TEST(the_name_localhost_means_tcp_when_no_socket_is_given),
        TEST(what_the_server_is),
        TEST(a_connection_may_move_to_another_thread),
    };

    return cmocka_run_group_tests(tests, make_database, drop_database);
}
