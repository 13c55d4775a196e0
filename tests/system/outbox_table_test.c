/*
 * System tests of the tables in sql/schema as an application and the relay meet them: defaults,
 * limits, the message id, and the plans of the statements that must never scan.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "sql/schema.h"
#include "test_db.h"

/* The form of a UUID of version 7. */
#define ID_FORM "'^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}$'"

static struct test_db test;
static struct db *db;
static struct obx_err err;

static int make_tables(void **state)
{
    (void)state;
    obx_err_clear(&err);
    test_db_create(&test, "tables");
    db = test_db_open(&test.opts);
    assert_int_equal(schema_migrate(db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(db, SCHEMA_CONSUMER, NULL, NULL, &err), OBX_OK);
    return 0;
}

static int drop_tables(void **state)
{
    (void)state;
    db_close(db);
    test_db_drop(&test);
    return 0;
}

static int empty_tables(void **state)
{
    (void)state;
    test_db_run(db, "DELETE FROM outbox");
    test_db_run(db, "DELETE FROM outbox_parked");
    test_db_run(db, "DELETE FROM inbox_applied");
    return 0;
}

/* ---- defaults ---- */

/* Whatever the application has set in its session. */
static void defaults_do_not_depend_on_the_session(void **state)
{
    static const char *const sessions[] = {
        "SET time_zone = '+13:00'",
        "SET sql_mode = ''",
        "SET sql_mode = "
        "'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,NO_UNSIGNED_SUBTRACTION'",
        "SET sql_mode = 'TRADITIONAL'",
        "SET NAMES latin1",
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET div_precision_increment = 0",
    };
    struct db *app = test_db_open(&test.opts);

    (void)state;
    for (size_t i = 0; i < sizeof(sessions) / sizeof(sessions[0]); i++) {
        test_db_run(app, sessions[i]);
        test_db_run(app, "INSERT INTO outbox (topic, payload) VALUES ('t', 'p')");
        assert_int_equal(
            test_db_number(db,
                           "SELECT COUNT(*) FROM outbox WHERE message_id REGEXP " ID_FORM
                           " AND ordering_key IS NULL AND headers IS NULL "
                           "AND content_type = 'application/json' AND ABS(TIMESTAMPDIFF(SECOND, "
                           "created_at, UTC_TIMESTAMP(6))) <= 60"),
            i + 1);
    }
    db_close(app);
}

/* The first 48 bits are the milliseconds of created_at, the next 12 four times the microseconds
 * behind them. */
static void the_message_id_tells_its_time(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++)
        test_db_run(db, "INSERT INTO outbox (topic, payload) VALUES ('t', 'p')");
    assert_int_equal(
        test_db_number(
            db, "SELECT COUNT(*) FROM outbox WHERE "
                "CONV(CONCAT(LEFT(message_id, 8), SUBSTR(message_id, 10, 4)), 16, 10) * 1000 + "
                "CONV(SUBSTR(message_id, 16, 3), 16, 10) DIV 4 = "
                "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', created_at)"),
        50);
}

/* ---- the message id ---- */

enum { SESSIONS = 4, STATEMENTS = 100, ROWS = 500 };

static void *fill(void *arg)
{
    struct db *mine = arg;
    struct obx_buf sql = {0};
    enum obx_code code =
        buf_addf(&sql, "INSERT INTO outbox (topic, payload) VALUES ('%" PRIu64 "', '')",
                 db_connection_id(mine));

    for (int i = 1; i < ROWS && code == OBX_OK; i++)
        code = buf_addf(&sql, ", ('%" PRIu64 "', '')", db_connection_id(mine));
    for (int i = 0; i < STATEMENTS && code == OBX_OK; i++)
        code = db_exec_text(mine, buf_bytes(&sql), NULL, NULL);
    buf_fini(&sql);
    db_thread_end();
    return code == OBX_OK ? mine : NULL;
}

static void fill_from_all_sessions(void)
{
    pthread_t threads[SESSIONS];
    struct db *sessions[SESSIONS];

    for (int i = 0; i < SESSIONS; i++)
        sessions[i] = test_db_open(&test.opts);
    for (int i = 0; i < SESSIONS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fill, sessions[i]), 0);
    for (int i = 0; i < SESSIONS; i++) {
        void *result = NULL;

        pthread_join(threads[i], &result);
        assert_ptr_equal(result, sessions[i]);
        db_close(sessions[i]);
    }
}

static void message_ids_are_unique_and_in_order(void **state)
{
    (void)state;
    fill_from_all_sessions();
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM outbox"),
                     SESSIONS * STATEMENTS * ROWS);
    assert_int_equal(test_db_number(db, "SELECT COUNT(DISTINCT message_id) FROM outbox"),
                     SESSIONS * STATEMENTS * ROWS);
    /* Without the random part too: it is the counter that makes them unique. */
    assert_int_equal(test_db_number(db, "SELECT COUNT(DISTINCT LEFT(message_id, 29)) FROM outbox"),
                     SESSIONS * STATEMENTS * ROWS);
    assert_int_equal(
        test_db_number(db, "SELECT COUNT(*) FROM outbox WHERE message_id NOT REGEXP " ID_FORM), 0);
    /* Ascending within a statement and from one to the next of a session. */
    assert_int_equal(
        test_db_number(db, "SELECT COUNT(*) FROM (SELECT message_id, LAG(message_id) OVER "
                           "(PARTITION BY topic ORDER BY id) AS before_it FROM outbox) AS pairs "
                           "WHERE message_id <= before_it"),
        0);
    /* Emptying the table brings the row ids back, and no message id. */
    test_db_run(db,
                "CREATE TABLE old_ids (PRIMARY KEY (message_id)) SELECT message_id FROM outbox");
    test_db_run(db, "TRUNCATE TABLE outbox");
    fill_from_all_sessions();
    assert_int_equal(
        test_db_number(db, "SELECT COUNT(*) FROM outbox JOIN old_ids USING (message_id)"), 0);
    test_db_run(db, "DROP TABLE old_ids");
}

/* ---- what columns take ---- */

static enum obx_code insert(const char *topic, struct obx_bytes key, const char *headers)
{
    return db_exec(
        db, "INSERT INTO outbox (topic, ordering_key, headers, payload) VALUES (?, ?, ?, '')",
        DB_ARGS(DB_TEXT(topic), DB_BYTES(key), DB_TEXT(headers)), NULL, &err);
}

static void what_an_outbox_row_takes(void **state)
{
    const struct obx_bytes none = {NULL, 0};
    const struct obx_bytes empty = {"", 0};
    const struct obx_bytes with_nul = {"a\0b", 3};
    char longest[1025];

    (void)state;
    memset(longest, 'x', sizeof(longest));
    longest[255] = '\0';
    assert_int_equal(insert(longest, (struct obx_bytes){longest, 255}, "{}"), OBX_OK);
    assert_int_equal(insert("t", empty, "[1, \"not an object\"]"), OBX_OK);
    assert_int_equal(insert("t", with_nul, NULL), OBX_OK);
    assert_int_equal(insert("t", none, "{broken"), OBX_E_DB_DATA);
    assert_int_equal(insert("t", (struct obx_bytes){"\xff", 1}, NULL), OBX_E_DB_DATA);
    longest[255] = 'x';
    assert_int_equal(insert("t", (struct obx_bytes){longest, 256}, NULL), OBX_E_DB_DATA);
    assert_int_equal(insert(NULL, none, NULL), OBX_E_DB_DATA);
    assert_int_equal(db_exec(db, "INSERT INTO outbox (topic) VALUES ('t')", DB_NO_ARGS, NULL, &err),
                     OBX_E_DB_DATA);
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM outbox"), 3);
    /* Keys and topics are told apart by case and accents. */
    assert_int_equal(insert("T", (struct obx_bytes){"K", 1}, NULL), OBX_OK);
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM outbox WHERE topic = 'T'"), 1);
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM outbox WHERE ordering_key = 'k'"), 0);
}

/* Whatever an outbox row can hold can be parked, and come back unchanged. */
static void a_row_is_parked_and_comes_back(void **state)
{
    char key[1021];

    (void)state;
    for (size_t i = 0; i < 1020; i += 4)
        memcpy(key + i, "\xf0\x9f\x90\x87", 4);
    assert_int_equal(insert("t", (struct obx_bytes){key, 1020}, "{\"a\": \"\xc3\xa9\"}"), OBX_OK);
    test_db_run(
        db, "INSERT INTO outbox_parked (outbox, id, message_id, topic, ordering_key, headers, "
            "content_type, payload, created_at, reason_code, holds_key) "
            "SELECT 'outbox', id, message_id, topic, ordering_key, headers, content_type, payload, "
            "created_at, 'OBX_E_FORMAT', 1 FROM outbox");
    test_db_run(db, "CREATE TABLE before_it SELECT * FROM outbox");
    test_db_run(db, "DELETE FROM outbox");
    test_db_run(
        db,
        "INSERT INTO outbox (id, message_id, topic, ordering_key, headers, content_type, payload, "
        "created_at) SELECT id, message_id, topic, ordering_key, headers, content_type, payload, "
        "created_at FROM outbox_parked");
    assert_int_equal(
        test_db_number(db, "SELECT COUNT(*) FROM outbox o JOIN before_it b ON o.id = b.id AND "
                           "o.message_id = b.message_id AND o.topic = b.topic AND "
                           "o.ordering_key = b.ordering_key AND o.created_at = b.created_at AND "
                           "o.content_type = b.content_type AND o.payload = b.payload AND "
                           "CAST(o.headers AS CHAR) = CAST(b.headers AS CHAR)"),
        1);
    /* Once only under each outbox. */
    assert_int_equal(
        db_exec(
            db,
            "INSERT INTO outbox_parked (outbox, id, message_id, topic, content_type, payload, "
            "created_at, "
            "reason_code) SELECT outbox, id, message_id, topic, content_type, payload, created_at, "
            "reason_code FROM outbox_parked",
            DB_NO_ARGS, NULL, &err),
        OBX_E_DB_DUPLICATE);
    assert_int_equal(
        db_exec(db, "UPDATE outbox_parked SET request = 'explode'", DB_NO_ARGS, NULL, &err),
        OBX_E_DB_DATA);
    test_db_run(db, "DROP TABLE before_it");
}

static void dedup_tells_ids_apart_by_their_bytes(void **state)
{
    (void)state;
    test_db_run(db, "INSERT INTO inbox_applied (consumer_group, message_id) VALUES "
                    "('g', 'a'), ('g', 'A'), ('g', 'a '), ('g', 'a\\0'), ('G', 'a')");
    assert_int_equal(db_exec(db,
                             "INSERT INTO inbox_applied (consumer_group, message_id) VALUES (?, ?)",
                             DB_ARGS(DB_TEXT("g"), DB_TEXT("a")), NULL, &err),
                     OBX_E_DB_DUPLICATE);
    /* Too long is an error, not a shorter id. */
    assert_int_equal(
        db_exec(
            db,
            "INSERT INTO inbox_applied (consumer_group, message_id) VALUES ('g', REPEAT('x', 256))",
            DB_NO_ARGS, NULL, &err),
        OBX_E_DB_DATA);
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM inbox_applied"), 5);
}

/* ---- plans ---- */

struct plan {
    char type[32];
    char key[64];
};

/* The row of the plan about one table; columns are found by their names, which differ in place
 * between the servers. */
static struct plan plan_of(const char *statement, const char *table)
{
    struct obx_buf sql = {0};
    struct db_rows *rows = NULL;
    struct plan plan = {.type = "no row"};
    /* EXPLAIN's columns: id, select_type, table, [partitions,] type, possible_keys, key, ... */
    const unsigned type_at = db_server_is_mariadb(db) ? 3 : 4;

    assert_int_equal(buf_addf(&sql, "EXPLAIN FORMAT=TRADITIONAL %s", statement), OBX_OK);
    if (db_query_text(db, buf_bytes(&sql), &rows, &err) != OBX_OK)
        fail_msg("%.200s: %s", sql.data, err.text);
    while (db_rows_next(rows)) {
        if (!bytes_is(db_rows_bytes(rows, 2), table))
            continue;
        (void)bytes_to_text(db_rows_bytes(rows, type_at), plan.type, sizeof(plan.type));
        (void)bytes_to_text(db_rows_bytes(rows, type_at + 2), plan.key, sizeof(plan.key));
    }
    db_rows_free(rows);
    buf_fini(&sql);
    return plan;
}

static void assert_plan(const char *statement, const char *table, const char *types,
                        const char *key)
{
    const struct plan plan = plan_of(statement, table);

    if (strstr(types, plan.type) == NULL || strcmp(plan.key, key) != 0)
        fail_msg("%.200s: access %s by key %s", statement, plan.type, plan.key);
}

static void add_ids(struct obx_buf *sql, const char *before, const char *between, uint64_t step)
{
    assert_int_equal(buf_add_text(sql, before), OBX_OK);
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(buf_addf(sql, "%s%" PRIu64, i == 0 ? "" : between, 1000 + i * step),
                         OBX_OK);
}

static void fill_for_plans(uint64_t rows)
{
    test_db_run(db, "TRUNCATE TABLE outbox");
    assert_int_equal(
        db_exec(
            db,
            "INSERT INTO outbox (topic, ordering_key, payload) VALUES ('t', 'k', REPEAT('x', ?))",
            DB_ARGS(DB_U64(256)), NULL, &err),
        OBX_OK);
    while (test_db_number(db, "SELECT COUNT(*) FROM outbox") < rows)
        test_db_run(db, "INSERT INTO outbox (topic, ordering_key, payload) "
                        "SELECT topic, ordering_key, payload FROM outbox LIMIT 20000");
    test_db_run(db, "ANALYZE TABLE outbox");
}

static void the_relays_statements_go_by_the_primary_key(void **state)
{
    struct obx_buf sql = {0};

    (void)state;
    fill_for_plans(40000);
    assert_plan(
        "SELECT id, message_id, topic, ordering_key, headers, content_type, payload, created_at "
        "FROM outbox WHERE id > 2000 ORDER BY id LIMIT 1000",
        "outbox", "range", "PRIMARY");
    assert_plan("SELECT id, payload FROM outbox WHERE id > 0 ORDER BY id LIMIT 1000", "outbox",
                "range index", "PRIMARY");
    assert_int_equal(buf_addf(&sql, "SELECT payload FROM outbox WHERE id = %" PRIu64,
                              test_db_number(db, "SELECT MIN(id) FROM outbox")),
                     OBX_OK);
    assert_plan(sql.data, "outbox", "const", "PRIMARY");
    buf_reset(&sql);
    assert_plan("DELETE FROM outbox WHERE id BETWEEN 2000 AND 2999", "outbox", "range", "PRIMARY");
    add_ids(&sql, "DELETE FROM outbox WHERE id IN (", ", ", 3);
    assert_int_equal(buf_add_text(&sql, ")"), OBX_OK);
    assert_plan(sql.data, "outbox", "range", "PRIMARY");
    buf_reset(&sql);
    add_ids(&sql, "SELECT payload FROM outbox WHERE id IN (", ", ", 3);
    assert_int_equal(buf_add_text(&sql, ")"), OBX_OK);
    assert_plan(sql.data, "outbox", "range eq_ref", "PRIMARY");
    buf_fini(&sql);
}

/* However few rows there are: by a join that starts from the list, each id is looked up. An IN list
 * may become a scan. */
static void deleting_by_a_join_never_scans(void **state)
{
    static const uint64_t sizes[] = {1, 100, 2000, 40000};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct obx_buf sql = {0};

        fill_for_plans(sizes[i]);
        add_ids(&sql, "DELETE o FROM (SELECT ", " AS id UNION ALL SELECT ", 3);
        assert_int_equal(
            buf_add_text(&sql, " AS id) AS k STRAIGHT_JOIN outbox AS o ON o.id = k.id"), OBX_OK);
        assert_plan(sql.data, "o", "eq_ref const", "PRIMARY");
        buf_fini(&sql);
    }
}

static void looking_up_parked_keys_goes_by_their_index(void **state)
{
    (void)state;
    fill_for_plans(10000);
    test_db_run(db,
                "INSERT INTO outbox_parked (outbox, id, message_id, topic, ordering_key, "
                "content_type, payload, "
                "created_at, reason_code) SELECT 'outbox', id, message_id, topic, CONCAT('k', id), "
                "content_type, '', created_at, 'r' FROM outbox");
    test_db_run(db, "ANALYZE TABLE outbox_parked");
    assert_plan("SELECT ordering_key FROM outbox_parked WHERE outbox = 'outbox' AND holds_key = 1 "
                "AND ordering_key IN ('k1', 'k2', 'x')",
                "outbox_parked", "range", "outbox_key");
    assert_plan(
        "SELECT parked_id FROM outbox_parked WHERE outbox = 'outbox' AND request IS NOT NULL",
        "outbox_parked", "range", "outbox_request");
    assert_plan("DELETE FROM outbox_parked WHERE outbox = 'outbox' AND id = 17", "outbox_parked",
                "range const", "outbox_id");
}

/* What waits for its time or its receipts is never walked, and lists are looked up one by one. */
static void what_waits_goes_by_its_indexes(void **state)
{
    (void)state;
    fill_for_plans(10000);
    test_db_run(db, "INSERT INTO outbox_delayed (message_id, topic, payload, deliver_at) SELECT "
                    "message_id, topic, '', UTC_TIMESTAMP(6) + INTERVAL id SECOND FROM outbox");
    test_db_run(db, "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, "
                    "payload, created_at, receipt_from, next_send_at) SELECT message_id, 'outbox', "
                    "id, topic, content_type, '', created_at, 'g', UTC_TIMESTAMP(6) + INTERVAL id "
                    "SECOND FROM outbox");
    test_db_run(db, "INSERT INTO outbox_receipt (message_id, consumer_group, outcome) SELECT "
                    "message_id, 'g', 'applied' FROM outbox");
    test_db_run(db, "ANALYZE TABLE outbox_delayed, outbox_awaiting, outbox_receipt");
    assert_plan("SELECT id FROM outbox_delayed FORCE INDEX (due) WHERE outbox = 'outbox' AND "
                "deliver_at <= UTC_TIMESTAMP(6) ORDER BY deliver_at, id LIMIT 500",
                "outbox_delayed", "range", "due");
    assert_plan("SELECT message_id FROM outbox_awaiting FORCE INDEX (due) WHERE outbox = 'outbox' "
                "AND next_send_at <= UTC_TIMESTAMP(6) ORDER BY next_send_at LIMIT 200",
                "outbox_awaiting", "range", "due");
    assert_plan("SELECT id FROM outbox_delayed FORCE INDEX (PRIMARY) WHERE id IN (1, 2, 3)",
                "outbox_delayed", "range", "PRIMARY");
    assert_plan("DELETE a FROM outbox_awaiting a FORCE INDEX (PRIMARY) WHERE a.message_id IN "
                "('a', 'b', 'c')",
                "a", "range", "PRIMARY");
    assert_plan("UPDATE outbox_awaiting FORCE INDEX (PRIMARY) SET sends = 2 WHERE message_id IN "
                "('a', 'b', 'c')",
                "outbox_awaiting", "range", "PRIMARY");
    assert_plan("SELECT outcome FROM outbox_receipt FORCE INDEX (PRIMARY) WHERE message_id IN "
                "('a', 'b', 'c') AND consumer_group <> ''",
                "outbox_receipt", "range", "PRIMARY");
    assert_plan("SELECT r.outcome FROM JSON_TABLE('[1,2]', '$[*]' COLUMNS (id BIGINT UNSIGNED PATH "
                "'$')) k STRAIGHT_JOIN outbox o FORCE INDEX (PRIMARY) ON o.id = k.id STRAIGHT_JOIN "
                "outbox_receipt r FORCE INDEX (PRIMARY) ON r.message_id = o.message_id",
                "r", "ref", "PRIMARY");
}

static void dedup_goes_by_the_primary_key(void **state)
{
    (void)state;
    fill_for_plans(10000);
    test_db_run(db, "INSERT INTO inbox_applied (consumer_group, message_id) SELECT 'g', message_id "
                    "FROM outbox");
    test_db_run(db, "ANALYZE TABLE inbox_applied");
    assert_plan("SELECT message_id FROM inbox_applied WHERE consumer_group = 'g' AND message_id IN "
                "('a', 'b', 'c')",
                "inbox_applied", "range", "PRIMARY");
    assert_plan("DELETE FROM inbox_applied WHERE consumer_group = 'g' AND message_id > '0' "
                "AND message_id <= '00000000-0000'",
                "inbox_applied", "range", "PRIMARY");
}

#define TEST(f) cmocka_unit_test_setup(f, empty_tables)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults_do_not_depend_on_the_session),
        TEST(the_message_id_tells_its_time),
        TEST(message_ids_are_unique_and_in_order),
        TEST(what_an_outbox_row_takes),
        TEST(a_row_is_parked_and_comes_back),
        TEST(dedup_tells_ids_apart_by_their_bytes),
        TEST(the_relays_statements_go_by_the_primary_key),
        TEST(deleting_by_a_join_never_scans),
        TEST(looking_up_parked_keys_goes_by_their_index),
        TEST(what_waits_goes_by_its_indexes),
        TEST(dedup_goes_by_the_primary_key),
    };
    int failed = cmocka_run_group_tests(tests, make_tables, drop_tables);

    db_thread_end();
    return failed;
}
