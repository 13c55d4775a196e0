/*
 * The story of a message: each table that knows something of it says so, with its name; what cannot
 * be known is said with the reason; a database that is away does not silence the others; and however
 * large the tables are, every statement reads by index and few rows. OBX_TEST_ROWS=5000000 for large
 * tables, by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "ops/trace/trace.h"
#include "sql/schema.h"
#include "test_db.h"

/* Rows of a trace that has to look through windows of a table: three of 2000, read twice. */
enum { ROWS = 20000, READ_MAX = 30000, TRIES_MAX = 200, US_PER_MS = 1000 };

static struct {
    struct test_db shop, stock;
    struct db *shop_db, *stock_db;
    struct trace_place places[2];
    uint64_t rows;
} rig;

static const char *const shop_fills[] = {
    "INSERT INTO outbox (message_id, topic, ordering_key, payload, created_at) SELECT CONCAT('o-', "
    "n),"
    " 't', 'k', 'x', '2026-11-01' + INTERVAL n SECOND FROM numbers ORDER BY n",
    "INSERT INTO outbox_parked (outbox, id, message_id, topic, ordering_key, content_type, payload,"
    " created_at, reason_code, reason, attempts, holds_key, blocked_by) SELECT 'outbox', n + "
    "1000000,"
    " CONCAT('p-', n), 't', IF(n < 100, 'few', 'many'), 'c', 'x', UTC_TIMESTAMP(6), 'unroutable',"
    " 'no queue', 3, n = 1, IF(n = 1, NULL, 1) FROM numbers",
    "INSERT INTO outbox_audit (action, actor, note, outbox, id, message_id, topic, reason_code)"
    " SELECT 'discard', 'anna', 'was wrong', 'outbox', n, CONCAT('a-', n), 't', 'r' FROM numbers",
    "INSERT INTO outbox_delayed (message_id, topic, payload, deliver_at) SELECT CONCAT('l-', n), "
    "'t',"
    " 'x', '2030-01-01' FROM numbers",
    "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, payload, created_at,"
    " receipt_from, next_send_at) SELECT CONCAT('w-', n), 'outbox', n + 2000000, 't', 'c', 'x',"
    " UTC_TIMESTAMP(6), 'stock', UTC_TIMESTAMP(6) + INTERVAL 1 DAY FROM numbers",
    "INSERT INTO outbox_receipt (message_id, consumer_group, outcome, reason) SELECT CONCAT('w-', "
    "n),"
    " 'stock', 'rejected', 'no such item' FROM numbers",
    "INSERT INTO outbox_receipt (message_id, consumer_group, outcome) VALUES ('w-78', '', "
    "'rejected')",
    "INSERT INTO outbox_journal (is_custom, message_id, outbox, topic, created_at) SELECT 1,"
    " CONCAT('j-', n), 'outbox', 't', UTC_TIMESTAMP(6) - INTERVAL 1 HOUR FROM numbers",
    "INSERT INTO half_message (gid, producer, state, next_check_at, decided_at, decided_by, note)"
    " SELECT CONCAT('h-', n), 'pay', 'parked', NULL, NULL, NULL, 'too many answers' FROM numbers",
    "INSERT INTO half_part (gid, message_id, topic, payload) SELECT CONCAT('h-', n), CONCAT('hm-', "
    "n),"
    " 't', 'x' FROM numbers",
    "INSERT INTO half_history (gid, event, actor, detail) SELECT CONCAT('h-', n), 'asked', 'check',"
    " 'unknown' FROM numbers",
};
static const char *const stock_fills[] = {
    "INSERT INTO inbox_applied (consumer_group, message_id, applied_at) SELECT IF(n % 2, 'g', 'h'),"
    " CONCAT('j-', n), '2026-11-01' + INTERVAL n SECOND FROM numbers",
    "INSERT INTO inbox_parked (consumer_group, message_id, ordering_key, lane, state, reason_code,"
    " reason, attempts, first_failed_at, last_failed_at, replay_until, queue, topic, properties, "
    "body,"
    " size) SELECT IF(n % 2, 'g', 'h'), CONCAT('d-', n), IF(n < 100, 'few', 'many'), 1, 'dead',"
    " 'rejected', 'no such item', 2, UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE, UTC_TIMESTAMP(6),"
    " UTC_TIMESTAMP(6), 'q', 't', 'a=b', 'x', 1 FROM numbers",
    "INSERT INTO inbox_audit (action, actor, note, consumer_group, parked_id, message_id, topic,"
    " reason_code) SELECT 'discard', 'anna', 'n', 'g', n, CONCAT('ad-', n), 't', 'r' FROM numbers",
    "INSERT INTO inbox_call (consumer_group, endpoint, state, message_id, topic, body, attempts,"
    " last_at, last_status) SELECT 'g', 'shipping', 'given_up', CONCAT('c-', n), 't', 'x', 4,"
    " UTC_TIMESTAMP(6), 503 FROM numbers",
    "INSERT INTO inbox (queue, state, message_id, topic, ordering_key, key_hash, received_at, size,"
    " payload) SELECT 'q', IF(n = 7777, 'dead', 'blocked'), CONCAT('j-', n), 't', 'few', IF(n < "
    "100,"
    " UNHEX(LEFT(SHA2('few', 256), 32)), NULL), '2026-11-01' + INTERVAL n SECOND, 1, 'x' FROM "
    "numbers"
    " ORDER BY n",
};

static void fill(struct db *db, const char *const *fills, size_t count)
{
    char sql[96];

    test_db_run(db, "CREATE TABLE numbers (n BIGINT PRIMARY KEY)");
    test_db_run(db, "INSERT INTO numbers VALUES (1)");
    for (uint64_t have = 1; have < rig.rows; have *= 2)
        test_db_run(db, "INSERT INTO numbers SELECT n + (SELECT MAX(n) FROM (SELECT n FROM"
                        " numbers) AS m) FROM numbers");
    snprintf(sql, sizeof(sql), "DELETE FROM numbers WHERE n > %llu", (unsigned long long)rig.rows);
    test_db_run(db, sql);
    for (size_t i = 0; i < count; i++)
        test_db_run(db, fills[i]);
}

static int setup(void **state)
{
    static const enum schema_side shop[] = {SCHEMA_PRODUCER, SCHEMA_HALF, SCHEMA_JOURNAL};
    static const enum schema_side stock[] = {SCHEMA_CONSUMER, SCHEMA_NOTIFY, SCHEMA_INBOX};
    const char *rows = getenv("OBX_TEST_ROWS");
    struct obx_err err = {0};

    (void)state;
    rig.rows = rows == NULL ? ROWS : strtoull(rows, NULL, 10);
    test_db_create(&rig.shop, "trshop");
    test_db_create(&rig.stock, "trstock");
    rig.shop_db = test_db_open(&rig.shop.opts);
    rig.stock_db = test_db_open(&rig.stock.opts);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(schema_migrate(rig.shop_db, shop[i], NULL, NULL, &err), OBX_OK);
        assert_int_equal(schema_migrate(rig.stock_db, stock[i], NULL, NULL, &err), OBX_OK);
    }
    fill(rig.shop_db, shop_fills, sizeof(shop_fills) / sizeof(shop_fills[0]));
    fill(rig.stock_db, stock_fills, sizeof(stock_fills) / sizeof(stock_fills[0]));
    rig.places[0] = (struct trace_place){.name = "shop", .db = rig.shop.opts, .has_journal = true};
    rig.places[1] =
        (struct trace_place){.name = "stock", .db = rig.stock.opts, .is_consumer = true};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    db_close(rig.shop_db);
    db_close(rig.stock_db);
    test_db_drop(&rig.shop);
    test_db_drop(&rig.stock);
    db_thread_end();
    return 0;
}

static bool says(const struct trace *trace, const char *source, const char *text)
{
    for (size_t i = 0; i < trace->count; i++)
        if (strcmp(trace->items[i].source, source) == 0 &&
            strstr(trace->items[i].text, text) != NULL)
            return true;
    return false;
}

static void fail_with(const struct trace *trace, const char *what)
{
    for (size_t i = 0; i < trace->count; i++)
        print_message("  %s %s: %s\n", trace_kind_name(trace->items[i].kind),
                      trace->items[i].source, trace->items[i].text);
    fail_msg("%s", what);
}

/* ---- what it says ---- */

struct story {
    const char *id;
    const char *source, *text; /* a line of it */
    const char *now;           /* is part of this; NULL: where it is, is not known */
};

static const struct story stories[] = {
    {"o-10", "table outbox of shop", "waits here to be published", "to be published"},
    {"o-19990", "table outbox of shop", "row 19990", "to be published"},
    {"p-77", "table outbox_parked of shop", "parked after 3 attempts: unroutable, no queue",
     "waits for row 1 of its frozen key"},
    {"a-77", "table outbox_audit of shop", "discard by anna: was wrong", "discard by anna"},
    {"l-77", "table outbox_delayed of shop", "due: goes into outbox then", "due"},
    {"w-77", "table outbox_awaiting of shop", "waits for receipts of stock", "rejected"},
    {"w-77", "table outbox_receipt of shop", "receipt of stock: rejected, no such item",
     "rejected"},
    {"w-78", "table outbox_receipt of shop", "it was sent, as message rej-w-78", "rejected"},
    {"j-77", "table outbox_journal of shop", "confirmed by the broker", "inbox"},
    {"j-77", "table inbox_applied of stock", "applied by group g", "inbox"},
    {"j-77", "table inbox of stock", "stored in the inbox of queue q", "inbox"},
    {"j-7777", "table inbox of stock", "dead in the inbox of queue q", "dead in the inbox"},
    {"d-77", "table inbox_parked of stock", "attempt 2 of group g failed: rejected, no such item",
     "dead at group g"},
    {"ad-77", "table inbox_audit of stock", "discard at g by anna", "discard"},
    {"c-77", "table inbox_call of stock", "call 4 to shipping: status 503", "was given up"},
    {"h-77", "table half_message of shop", "half-message prepared by pay", "parked"},
    {"h-77", "table half_part of shop", "message hm-77 of topic t goes out on commit", "parked"},
    {"h-77", "table half_history of shop", "asked by check: unknown", "parked"},
    {"none", "table inbox_applied of stock", "no group of this database has applied it", NULL},
    {"none", "table outbox of shop", "unknown, because this table has no index", NULL},
};

static void every_table_says_what_it_knows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        const struct story *story = &stories[i];
        const struct trace_opts opts = {.places = rig.places, .place_count = 2, .id = story->id};
        struct trace trace = {0};
        struct obx_err err = {0};

        if (rig.rows != ROWS && strcmp(story->id, "o-19990") == 0)
            continue;
        assert_int_equal(trace_run(&opts, &trace, &err), OBX_OK);
        if (!says(&trace, story->source, story->text))
            fail_with(&trace, story->text);
        if ((story->now == NULL) != (trace.now == NULL) ||
            (story->now != NULL && strstr(trace.now->text, story->now) == NULL))
            fail_with(&trace, trace.now == NULL ? "nothing is known" : trace.now->text);
        for (size_t k = 1; k < trace.count; k++)
            if (trace.items[k].at_us != 0)
                assert_true(trace.items[k - 1].at_us <= trace.items[k].at_us);
        trace_fini(&trace);
    }
}

/* An id of ours has its time in it: the row is found in the middle of a table of any size. */
static void a_row_in_the_middle_is_found_by_its_time(void **state)
{
    static const char sql[] =
        "UPDATE outbox SET message_id = LOWER(CONCAT(INSERT(LPAD(HEX(UNIX_TIMESTAMP(created_at) *"
        " 1000), 12, '0'), 9, 0, '-'), '-7000-8000-000000000001')) WHERE id = 9000";
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    struct trace trace = {0};
    char id[64];
    const struct trace_opts opts = {.places = rig.places, .place_count = 2, .id = id};

    (void)state;
    test_db_run(rig.shop_db, sql);
    assert_int_equal(db_query(rig.shop_db, "SELECT message_id FROM outbox WHERE id = 9000",
                              DB_NO_ARGS, &rows, &err),
                     OBX_OK);
    assert_true(db_rows_next(rows));
    bytes_to_text(db_rows_bytes(rows, 0), id, sizeof(id));
    db_rows_free(rows);
    assert_int_equal(trace_run(&opts, &trace, &err), OBX_OK);
    if (!says(&trace, "table outbox of shop", "row 9000;"))
        fail_with(&trace, id);
    trace_fini(&trace);
}

static void a_key_has_the_story_of_its_messages(void **state)
{
    const struct trace_opts opts = {.places = rig.places, .place_count = 2, .key = "few"};
    struct trace trace = {0};
    struct obx_err err = {0};

    (void)state;
    assert_int_equal(trace_run(&opts, &trace, &err), OBX_OK);
    if (!says(&trace, "table outbox_parked of shop", "its key is frozen by it") ||
        !says(&trace, "table inbox_parked of stock", "dead at group") ||
        !says(&trace, "table inbox of stock", "waits for an earlier message of its key"))
        fail_with(&trace, "the key");
    trace_fini(&trace);
}

/* ---- what it cannot know ---- */

static void what_is_unknown_says_why(void **state)
{
    struct trace_place places[2] = {rig.places[0], rig.places[1]};
    const struct trace_opts opts = {.places = places, .place_count = 2, .id = "j-77"};
    struct trace trace = {0};
    struct obx_err err = {0};

    (void)state;
    places[0].has_journal = false;
    test_db_run(rig.shop_db, "RENAME TABLE outbox_journal TO outbox_journal_away");
    test_db_run(rig.shop_db, "DELETE FROM rowpost_schema WHERE side = 'journal'");
    assert_int_equal(trace_run(&opts, &trace, &err), OBX_OK);
    test_db_run(rig.shop_db, "RENAME TABLE outbox_journal_away TO outbox_journal");
    test_db_run(rig.shop_db,
                "INSERT INTO rowpost_schema (side, version, name) VALUES ('journal', 1,"
                " 'journal_0001_journal')");
    if (!says(&trace, "table outbox_journal of shop", "unknown, because the journal is off"))
        fail_with(&trace, "the journal");
    trace_fini(&trace);
}

static void a_database_that_is_away_silences_no_other(void **state)
{
    struct trace_place places[2] = {rig.places[1], rig.places[0]};
    const struct trace_opts opts = {.places = places, .place_count = 2, .id = "p-77"};
    struct trace trace = {0};
    struct obx_err err = {0};

    (void)state;
    places[0].db.port = 1;
    places[0].db.connect_timeout_ms = 1000;
    assert_int_equal(trace_run(&opts, &trace, &err), OBX_OK);
    if (!says(&trace, "stock", "unknown, because the database has not answered") ||
        !says(&trace, "table outbox_parked of shop", "parked after 3 attempts"))
        fail_with(&trace, "one is away");
    trace_fini(&trace);
}

/* A message id is any text that somebody types. */
static void hostile_ids_are_values(void **state)
{
    static const char *const ids[] = {"' OR '1'='1", "\\", "%", "\xff\xfe", "0", "?", "x' -- "};

    (void)state;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        const struct trace_opts opts = {.places = rig.places, .place_count = 2, .id = ids[i]};
        struct trace trace = {0};
        struct obx_err err = {0};

        assert_int_equal(trace_run(&opts, &trace, &err), OBX_OK);
        if (trace.now != NULL)
            fail_with(&trace, ids[i]);
        for (size_t k = 0; k < trace.count; k++)
            if (trace.items[k].kind == TRACE_FAILED)
                fail_with(&trace, ids[i]);
        trace_fini(&trace);
    }
}

/* ---- what it costs ---- */

/* No table of any size is read from end to end, and nothing is sorted but what was found. */
static void explain(struct db *db, struct obx_bytes statement, void *ctx)
{
    const unsigned type = db_server_is_mariadb(db) ? 3 : 4;
    struct obx_buf sql = {0};
    struct db_rows *rows = NULL;
    struct obx_err err = {0};

    (void)ctx;
    buf_addf(&sql, "EXPLAIN %.*s", (int)statement.len, (const char *)statement.p);
    if (db_query_text(db, buf_bytes(&sql), &rows, &err) != OBX_OK)
        fail_msg("%s: %s", err.text, sql.data);
    while (db_rows_next(rows)) {
        const struct obx_bytes table = db_rows_bytes(rows, 2);

        if (bytes_is(db_rows_bytes(rows, type), "ALL") && table.len > 0 &&
            ((const char *)table.p)[0] != '<')
            fail_msg("%.*s is scanned: %s", (int)table.len, (const char *)table.p, sql.data);
    }
    db_rows_free(rows);
    buf_fini(&sql);
}

static void every_statement_reads_by_index(void **state)
{
    (void)state;
    for (size_t i = 0; i <= sizeof(stories) / sizeof(stories[0]); i++) {
        const bool is_key = i == sizeof(stories) / sizeof(stories[0]);
        const struct trace_opts opts = {.places = rig.places,
                                        .place_count = 2,
                                        .id = is_key ? NULL : stories[i].id,
                                        .key = "many",
                                        .on_statement = explain};
        struct trace trace = {0};
        struct obx_err err = {0};

        assert_int_equal(trace_run(&opts, &trace, &err), OBX_OK);
        assert_true(trace.statements < 120);
        trace_fini(&trace);
    }
}

static uint64_t rows_read(const char *sql)
{
    return test_db_number(rig.shop_db, sql);
}

/* Over all sessions of the server: others read meanwhile, so it is tried until a run has met few of
 * them; one that reads a table would not pass in any. */
static void a_trace_reads_few_rows(void **state)
{
    static const char sql[] =
        "SELECT SUM(VARIABLE_VALUE) FROM %s.%s WHERE VARIABLE_NAME IN ('Handler_read_next',"
        " 'Handler_read_rnd_next', 'Handler_read_first', 'Handler_read_key', 'Handler_read_prev')";
    const bool is_mariadb = db_server_is_mariadb(rig.shop_db);
    const struct trace_opts opts = {.places = rig.places, .place_count = 2, .id = "none"};
    uint64_t least = UINT64_MAX, least_us = UINT64_MAX;
    char text[320];

    (void)state;
    snprintf(text, sizeof(text), sql, is_mariadb ? "information_schema" : "performance_schema",
             is_mariadb ? "GLOBAL_STATUS" : "global_status");
    for (unsigned i = 0; i < TRIES_MAX && (i < 5 || least >= READ_MAX); i++) {
        const uint64_t before = rows_read(text), at_us = clock_now_us();
        struct trace trace = {0};
        struct obx_err err = {0};
        uint64_t read, took_us;

        assert_int_equal(trace_run(&opts, &trace, &err), OBX_OK);
        took_us = clock_now_us() - at_us;
        read = rows_read(text) - before;
        least = read < least ? read : least;
        least_us = took_us < least_us ? took_us : least_us;
        trace_fini(&trace);
    }
    print_message("%llu rows read, %llu ms, of %llu rows in each table\n",
                  (unsigned long long)least, (unsigned long long)(least_us / US_PER_MS),
                  (unsigned long long)rig.rows);
    assert_true(least < READ_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_says_what_it_knows),
        cmocka_unit_test(a_row_in_the_middle_is_found_by_its_time),
        cmocka_unit_test(a_key_has_the_story_of_its_messages),
        cmocka_unit_test(what_is_unknown_says_why),
        cmocka_unit_test(a_database_that_is_away_silences_no_other),
        cmocka_unit_test(hostile_ids_are_values),
        cmocka_unit_test(every_statement_reads_by_index),
        cmocka_unit_test(a_trace_reads_few_rows),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
