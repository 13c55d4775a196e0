/*
 * What the statements of the inbox read with a long table: half of the rows of one key, a thousand
 * keys that wait for their retry, and the rest free (P9). Judged by the rows and index entries that
 * the server reads (Handler_read), which must be the same with ten rows as with all of them.
 * OBX_TEST_ROWS=1000000 for a large table, by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "inbox/filing.h"
#include "inbox_contract.h"
#include "sql/schema.h"
#include "test_db.h"

enum {
    DEFAULT_ROWS = 20000,
    CHUNK = 2000,
    RETRIES = 1000,
    TEN = 10,
    LOOKING_COSTS = 40, /* reading the counters, and a few entries of slack */
    WORKERS = 4,
    ENDED = 6000
};

static struct test_db database;
static struct db *db;
static struct db *others[WORKERS]; /* that have taken rows */
static struct filing filing;
static const struct inbox_opts opts = {.queue = "q", .consumer.group = "g", .max_attempts = 3};
static struct obx_err err;

static void check(enum obx_code rc)
{
    if (rc != OBX_OK)
        fail_msg("%s", err.text);
}

/* Even ids are the chain of one key, the first RETRIES odd ones wait for an hour. */
static void fill(uint64_t rows)
{
    test_db_run(db, "TRUNCATE inbox");
    for (uint64_t i = 1; i <= rows; i += CHUNK) {
        struct obx_buf sql = {0};
        const char *before = "INSERT INTO inbox (id, queue, state, due_at, key_hash, after_id,"
                             " message_id, topic, size, payload) VALUES ";

        for (uint64_t k = i; k < i + CHUNK && k <= rows; k++) {
            const bool is_hot = k % 2 == 0, waits = !is_hot && k < 2 * RETRIES && rows > 2 * TEN;

            buf_addf(&sql,
                     "%s(%" PRIu64 ", 'q', '%s', %s, %s, %" PRIu64 ", 'm-%" PRIu64
                     "', 't', 1, 'p')",
                     before, k, is_hot && k > 2 ? "blocked" : "ready",
                     is_hot && k > 2 ? "NULL"
                     : waits         ? "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR"
                                     : "UTC_TIMESTAMP(6)",
                     is_hot  ? "REPEAT('h', 16)"
                     : waits ? "UNHEX(LEFT(SHA2(id, 256), 32))"
                             : "NULL",
                     is_hot && k > 2 ? k - 2 : 0, k);
            before = ",";
        }
        check(db_exec_text(db, buf_bytes(&sql), NULL, &err));
        buf_fini(&sql);
    }
    test_db_run(db, "ANALYZE TABLE inbox");
}

static int setup(void **state)
{
    (void)state;
    test_db_create(&database, "inboxplan");
    db = test_db_open(&database.opts);
    check(schema_migrate(db, SCHEMA_CONSUMER, NULL, NULL, &err));
    check(schema_migrate(db, SCHEMA_INBOX, NULL, NULL, &err));
    check(filing_init(&filing, &opts, &err));
    for (int i = 0; i < WORKERS; i++)
        others[i] = test_db_open(&database.opts);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    filing_fini(&filing);
    for (int i = 0; i < WORKERS; i++)
        db_close(others[i]);
    db_close(db);
    test_db_drop(&database);
    return 0;
}

static uint64_t rows_wanted(void)
{
    const char *wanted = getenv("OBX_TEST_ROWS");

    return wanted == NULL ? DEFAULT_ROWS : strtoull(wanted, NULL, 10);
}

/* What each kind of statement has read. */
struct cost {
    const char *what;
    uint64_t read;
};
enum { TAKE, NEXT_AND_DONE, RETRY, LOOK, RESCAN, FILE_ONE, IS_DUE, COSTS };

static void measure(struct cost *cost, const char *what, uint64_t before)
{
    *cost = (struct cost){.what = what, .read = test_db_rows_read(db) - before};
}

static struct inbox_taken take_one(struct db *with)
{
    struct inbox_taken taken = {0};
    bool found = false;

    check(inbox_take(with, "q", NULL, &taken, &found, &err));
    assert_true(found);
    return taken;
}

static void measure_worker(struct cost *costs)
{
    uint64_t before;
    struct inbox_taken taken;

    check(db_begin(db, &err));
    before = test_db_rows_read(db);
    taken = take_one(db);
    measure(&costs[TAKE], "take", before);
    before = test_db_rows_read(db);
    check(inbox_done(db, "q", &taken, NULL, &err));
    measure(&costs[NEXT_AND_DONE], "next and done", before);
    before = test_db_rows_read(db);
    taken = take_one(db);
    check(inbox_retry(db, &taken, -1, "x", &err));
    measure(&costs[RETRY], "take and retry", before);
    check(db_commit(db, &err));
}

static void measure_filer(struct cost *costs)
{
    unsigned char from[KEY_HASH] = {0};
    struct obx_buf keys = {0};
    struct filed filed = {0};
    uint64_t before, released = 0;
    bool flag = false;

    buf_add(&keys, "hhhhhhhhhhhhhhhh", KEY_HASH);
    before = test_db_rows_read(db);
    check(filing_look(&filing, db, &keys, &released, &err));
    measure(&costs[LOOK], "look", before);
    before = test_db_rows_read(db);
    check(filing_rescan(&filing, db, from, 1, &flag, &released, &err));
    measure(&costs[RESCAN], "rescan of a key", before);
    before = test_db_rows_read(db);
    check(filing_run(&filing, db, 0, &filed, &err));
    measure(&costs[FILE_ONE], "filing", before);
    assert_int_equal(filed.rows, 1);
    filed_fini(&filed);
    before = test_db_rows_read(db);
    check(filing_is_due(&filing, db, &flag, &err));
    measure(&costs[IS_DUE], "whether something is due", before);
    assert_false(flag);
    buf_fini(&keys);
}

/* Some rows are in the hands of other workers meanwhile: as many with few rows as with many. */
static void measure_all(uint64_t rows, struct cost *costs)
{
    fill(rows);
    for (int i = 0; i < WORKERS; i++) {
        check(db_begin(others[i], &err));
        (void)take_one(others[i]);
    }
    measure_worker(costs);
    for (int i = 0; i < WORKERS; i++)
        check(db_rollback(others[i], &err));
    measure_filer(costs);
}

static void a_long_table_costs_what_a_short_one_costs(void **state)
{
    struct cost few[COSTS], many[COSTS];

    (void)state;
    measure_all(2 * TEN, few);
    measure_all(rows_wanted(), many);
    for (int i = 0; i < COSTS; i++) {
        print_message("%s: %" PRIu64 " reads, with %" PRIu64 " rows %" PRIu64 "\n", many[i].what,
                      few[i].read, rows_wanted(), many[i].read);
        if (many[i].read > few[i].read + LOOKING_COSTS)
            fail_msg("%s reads more", many[i].what);
    }
}

/* Each product and version has a JSON of its own; these are their words for the same. */
static void explain(const char *sql, const struct obx_value *args, size_t count, const char *index)
{
    static const char *const bad[] = {"\"using_filesort\": true", "\"filesort\": {", "table_scan",
                                      "\"access_type\": \"ALL\"", "Table scan",      "Sort: "};
    char statement[8192], text[16384] = "", key[64], index_name[64];
    struct db_rows *rows = NULL;

    (void)snprintf(statement, sizeof(statement), "EXPLAIN FORMAT = JSON %s", sql);
    (void)snprintf(key, sizeof(key), "\"key\": \"%s\"", index);
    (void)snprintf(index_name, sizeof(index_name), "\"index_name\": \"%s\"", index);
    check(db_query(db, statement, args, count, &rows, &err));
    assert_true(db_rows_next(rows));
    (void)bytes_to_text(db_rows_bytes(rows, 0), text, sizeof(text));
    db_rows_free(rows);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (strstr(text, bad[i]) != NULL)
            fail_msg("%s: %s", sql, text);
    }
    /* MySQL 9 does not say how it updates; what that reads is counted above. */
    if (strstr(text, "not executable by iterator executor") != NULL)
        return;
    /* By all of a primary key it has read the row before there is a plan. */
    if (strcmp(index, "PRIMARY") == 0 && strstr(text, "rows_fetched_before_execution") != NULL)
        return;
    if (strstr(text, key) == NULL && strstr(text, index_name) == NULL)
        fail_msg("%s does not use %s: %s", sql, index, text);
}

static void the_statements_use_their_indexes(void **state)
{
    const struct obx_bytes hash = {.p = "hhhhhhhhhhhhhhhh", .len = KEY_HASH};

    (void)state;
    fill(DEFAULT_ROWS);
    explain(inbox_statement_text(INBOX_TAKE), DB_ARGS(DB_TEXT("q"), DB_TEXT("1970-01-01")),
            "inbox_due");
    explain(inbox_statement_text(INBOX_NEXT),
            DB_ARGS(DB_TEXT("q"), DB_BYTES(hash), DB_U64(DEFAULT_ROWS / 2)), "inbox_key");
    explain(inbox_statement_text(INBOX_DONE), DB_ARGS(DB_U64(1), DB_U64(2)), "PRIMARY");
    explain(inbox_statement_text(INBOX_RETRY), DB_ARGS(DB_NULL(), DB_TEXT("x"), DB_U64(1)),
            "PRIMARY");
    explain(inbox_statement_text(INBOX_REJECT), DB_ARGS(DB_TEXT("x"), DB_U64(1)), "PRIMARY");
    explain(inbox_statement_text(INBOX_FAILED), DB_ARGS(DB_U64(1), DB_U64(1)), "PRIMARY");
}

/* ------------------------------------------------------------------ what has ended and is not purged */

/* The quickest of some takes, each rolled back. */
static uint64_t quickest_take_us(struct inbox_from *from)
{
    uint64_t quickest_us = UINT64_MAX;

    for (int i = 0; i < TEN; i++) {
        struct inbox_taken taken = {0};
        struct inbox_from place = {.back_us = 0};
        uint64_t begun_us, took_us;
        bool found = false;

        if (from != NULL)
            place = *from;
        check(db_begin(db, &err));
        begun_us = clock_now_us();
        check(inbox_take(db, "q", from == NULL ? NULL : &place, &taken, &found, &err));
        took_us = clock_now_us() - begun_us;
        assert_true(found);
        check(db_rollback(db, &err));
        quickest_us = took_us < quickest_us ? took_us : quickest_us;
    }
    return quickest_us;
}

/* A session that reads an old snapshot keeps the server from purging the entries of rows that have
 * ended, and a take from the start passes over all of them. One that begins at the row that was
 * taken last does not, however many there are: this is why workers remember it. */
static void rows_that_have_ended_cost_a_worker_nothing(void **state)
{
    struct inbox_from from = {.back_us = 0};
    uint64_t start_us, here_us;

    (void)state;
    fill(2 * ENDED);
    test_db_run(db, "UPDATE inbox SET key_hash = NULL, state = 'ready', due_at = '2026-01-01' +"
                    " INTERVAL id MICROSECOND");
    test_db_run(others[0], "START TRANSACTION WITH CONSISTENT SNAPSHOT");
    for (int i = 0; i < ENDED; i++) {
        struct inbox_taken taken = {0};
        bool found = false;

        if (i % 100 == 0)
            check(db_begin(db, &err));
        check(inbox_take(db, "q", &from, &taken, &found, &err));
        assert_true(found);
        check(inbox_done(db, "q", &taken, NULL, &err));
        if (i % 100 == 99)
            check(db_commit(db, &err));
    }
    from.back_us = UINT64_MAX;
    start_us = quickest_take_us(NULL);
    here_us = quickest_take_us(&from);
    print_message("with %d rows that have ended: %" PRIu64 " us from the start, %" PRIu64
                  " us from the last one\n",
                  ENDED, start_us, here_us);
    if (start_us < 3 * here_us)
        fail_msg("a worker that remembers its place is not spared what has ended");
    test_db_run(others[0], "COMMIT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_long_table_costs_what_a_short_one_costs, setup, teardown),
        cmocka_unit_test_setup_teardown(the_statements_use_their_indexes, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_that_have_ended_cost_a_worker_nothing, setup,
                                        teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    db_thread_end();
    return failed;
}
