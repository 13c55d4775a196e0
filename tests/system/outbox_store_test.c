/*
 * System test of the statements that read an outbox: what they show of rows of every shape, that
 * pages of a snapshot are of one moment, that none of their plans reads the table, and what a
 * reader over them costs the server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "lane/read/outbox_store.h"
#include "lane/read/reader.h"
#include "reader_opts.h"
#include "sql/schema.h"
#include "test_db.h"

enum { INLINE = 1000 };

struct bench {
    struct test_db test_db;
    struct db *db, *other;
    struct outbox_store store;
    struct row_batch batch;
};

static int setup(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));

    if (bench == NULL)
        return -1;
    test_db_create(&bench->test_db, "store");
    bench->db = test_db_open(&bench->test_db.opts);
    bench->other = test_db_open(&bench->test_db.opts);
    if (schema_migrate(bench->db, SCHEMA_PRODUCER, NULL, NULL, NULL) != OBX_OK)
        return -1;
    *state = bench;
    if (outbox_store_init(&bench->store, "outbox", INLINE, NULL) != OBX_OK)
        return -1;
    bench->store.db = bench->db;
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;

    row_batch_fini(&bench->batch);
    outbox_store_fini(&bench->store);
    db_close(bench->other);
    db_close(bench->db);
    test_db_drop(&bench->test_db);
    free(bench);
    return 0;
}

static void forward(struct bench *bench, uint64_t from)
{
    struct obx_err err = {0};

    row_batch_clear(&bench->batch);
    if (outbox_store_forward(&bench->store, from, 100, &bench->batch, &err) != OBX_OK)
        fail_msg("%s", err.text);
}

static void rows_of_every_shape(void **state)
{
    struct bench *bench = *state;
    const struct outbox_row *row = NULL;
    struct outbox_large large;
    struct db_rows *rows = NULL;

    test_db_run(bench->db, "INSERT INTO outbox (id, topic, ordering_key, headers, payload) VALUES"
                           " (1, 't', NULL, NULL, ''), (2, 't', '', '{}', REPEAT('x', 1000)),"
                           " (3, 't', 'k', NULL, REPEAT('x', 1001)),"
                           " (4, 't', 'k', CONCAT('{\"a\":\"', REPEAT('h', 1000), '\"}'), 'x'),"
                           " (5, 't', 'k', CONCAT('{\"a\":\"', REPEAT('h', 2000000), '\"}'), 'x')");
    forward(bench, 0);
    assert_int_equal(bench->batch.count, 5);
    row = bench->batch.rows[0];
    assert_true(bytes_is_absent(row->key));
    assert_true(bytes_is_absent(row->headers));
    assert_false(bytes_is_absent(row->payload)); /* empty is not absent */
    assert_true(row->created_us > UINT64_C(1600000000000000));
    row = bench->batch.rows[1];
    assert_false(bytes_is_absent(row->key));
    assert_int_equal(row->payload.len, 1000);
    assert_true(bytes_is(row->headers, "{}"));
    /* Too large to come with the batch: the payload, or the headers. */
    assert_true(bytes_is_absent(bench->batch.rows[2]->payload));
    assert_int_equal(bench->batch.rows[2]->payload_len, 1001);
    assert_true(bytes_is_absent(bench->batch.rows[3]->payload));
    assert_true(bytes_is_absent(bench->batch.rows[3]->headers));
    assert_true(bench->batch.rows[4]->size < 2000);
    assert_int_equal(outbox_store_large(&bench->store, 4, &rows, &large, NULL), OBX_OK);
    assert_int_equal(large.headers.len, 1008);
    assert_int_equal(large.payload.len, 1);
    db_rows_free(rows);
    assert_int_equal(outbox_store_large(&bench->store, 5, &rows, &large, NULL), OBX_OK);
    assert_true(bytes_is_absent(large.headers));
    assert_int_equal(large.headers_len, 2000008);
    db_rows_free(rows);
    assert_int_equal(outbox_store_large(&bench->store, 6, &rows, &large, NULL), OBX_OK);
    assert_true(bytes_is_absent(large.payload)); /* gone */
    db_rows_free(rows);
}

static void behind(struct bench *bench, const struct id_range *ranges, size_t count, uint32_t limit)
{
    struct obx_err err = {0};

    row_batch_clear(&bench->batch);
    if (outbox_store_behind(&bench->store, ranges, count, limit, &bench->batch, &err) != OBX_OK)
        fail_msg("%s", err.text);
}

static void pages_over_ranges(void **state)
{
    struct bench *bench = *state;
    const struct id_range ranges[] = {{1, 10}, {20, 20}, {30, 40}};

    test_db_run(bench->db,
                "INSERT INTO outbox (id, topic, payload) WITH RECURSIVE n (i) AS (SELECT 1 UNION"
                " ALL SELECT i + 1 FROM n WHERE i < 50) SELECT i, 't', 'x' FROM n");
    behind(bench, ranges, 3, 1000);
    assert_int_equal(bench->batch.count, 22);
    behind(bench, ranges, 3, 11);
    assert_int_equal(bench->batch.count, 11);
    assert_int_equal(bench->batch.rows[9]->id, 10);
    assert_int_equal(bench->batch.rows[10]->id, 20);
    behind(bench, &ranges[2], 1, 3);
    assert_int_equal(bench->batch.count, 3);
    assert_int_equal(bench->batch.rows[0]->id, 30);
    behind(bench, ranges, 0, 1000);
    assert_int_equal(bench->batch.count, 0);
}

static void a_snapshot_is_of_one_moment(void **state)
{
    struct bench *bench = *state;
    const struct id_range all = {1, 1000};
    const uint64_t id = 7;

    test_db_run(bench->db, "INSERT INTO outbox (id, topic, payload) VALUES (5, 't', 'x')");
    assert_int_equal(outbox_store_snapshot(&bench->store, true, NULL), OBX_OK);
    test_db_run(bench->other, "INSERT INTO outbox (id, topic, payload) VALUES (7, 't', 'x')");
    behind(bench, &all, 1, 100);
    assert_int_equal(bench->batch.count, 1);
    assert_int_equal(outbox_store_snapshot(&bench->store, false, NULL), OBX_OK);
    behind(bench, &all, 1, 100);
    assert_int_equal(bench->batch.count, 2);
    /* The session is as it was: what others commit is seen within a transaction. */
    assert_false(db_in_transaction(bench->db));
    test_db_run(bench->db, "START TRANSACTION");
    behind(bench, &all, 1, 100);
    test_db_run(bench->other, "INSERT INTO outbox (id, topic, payload) VALUES (9, 't', 'x')");
    behind(bench, &all, 1, 100);
    assert_int_equal(bench->batch.count, 3);
    test_db_run(bench->db, "ROLLBACK");
    row_batch_clear(&bench->batch);
    assert_int_equal(outbox_store_fetch(&bench->store, &id, 1, &bench->batch, NULL), OBX_OK);
    assert_int_equal(bench->batch.count, 1);
}

/* ---- what the server reads ---- */

enum { HOT_ROWS = 3000, STATEMENT_US = 1000 };

/* A reader over the real statements, under a clock that each of them moves on. */
struct reading {
    struct bench *bench;
    struct flight *flight;
    struct reader *reader;
    uint64_t now_us;
};

static enum obx_code read_forward(void *ctx, uint64_t from, uint32_t limit, struct row_batch *batch,
                                  struct obx_err *err)
{
    struct reading *reading = ctx;

    reading->now_us += STATEMENT_US;
    return outbox_store_forward(&reading->bench->store, from, limit, batch, err);
}

static enum obx_code read_behind(void *ctx, const struct id_range *ranges, size_t count,
                                 uint32_t limit, struct row_batch *batch, struct obx_err *err)
{
    struct reading *reading = ctx;

    reading->now_us += STATEMENT_US + count * 5;
    return outbox_store_behind(&reading->bench->store, ranges, count, limit, batch, err);
}

static enum obx_code take_snapshot(void *ctx, bool on, struct obx_err *err)
{
    struct reading *reading = ctx;

    reading->now_us += STATEMENT_US;
    return outbox_store_snapshot(&reading->bench->store, on, err);
}

static enum obx_code nothing_is_frozen(void *ctx, struct row_batch *batch, struct obx_err *err)
{
    (void)ctx;
    (void)batch;
    (void)err;
    return OBX_OK;
}

static uint64_t reading_now_us(void *ctx)
{
    return ((struct reading *)ctx)->now_us;
}

static void open_reading(struct reading *reading)
{
    const struct reader_store store = {.forward = read_forward,
                                       .behind = read_behind,
                                       .snapshot = take_snapshot,
                                       .mark_frozen = nothing_is_frozen,
                                       .now_us = reading_now_us,
                                       .ctx = reading};

    assert_int_equal(flight_create(&default_flight_opts, &reading->flight, NULL), OBX_OK);
    assert_int_equal(
        reader_create(&default_reader_opts, &store, reading->flight, &reading->reader, NULL),
        OBX_OK);
}

/* One turn of a lane; every row but those of the hot key is published and settled at once. */
static size_t take_turn(struct reading *reading)
{
    struct reader_result result;
    struct flight_row *next = NULL;
    size_t taken = 0;

    assert_int_equal(reader_poll(reading->reader, &result, NULL), OBX_OK);
    if (reading->now_us >= reader_next_due_us(reading->reader))
        assert_int_equal(reader_service(reading->reader, NULL), OBX_OK);
    for (struct flight_row *row = flight_first(reading->flight, FLIGHT_READY); row != NULL;
         row = next) {
        next = flight_next(row);
        flight_sent(reading->flight, row);
        if (bytes_is(flight_key_name(row), "hot"))
            continue;
        flight_confirmed(reading->flight, row);
        flight_forget(reading->flight, row);
        taken++;
    }
    reading->now_us += 2000;
    return taken;
}

/* A hot key whose backlog is passed over, a row of another key beside each of its rows, and a hole
 * in every third id: what the server reads per row that goes out, and when nothing comes any more.
 */
static void a_backlog_with_holes_costs_little(void **state)
{
    struct bench *bench = *state;
    struct reading reading = {.bench = bench, .now_us = UINT64_C(1000000000)};
    uint64_t queries = 0;
    uint64_t before = 0;
    uint64_t quiet_at = 0;
    uint64_t stats_rows = 0;
    size_t taken = 0;

    test_db_run(bench->other, "INSERT INTO outbox (id, topic, ordering_key, payload) WITH RECURSIVE"
                              " n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
                              " SELECT (a.i * 1000 + b.i) * 3 + c.i, 't',"
                              " IF(c.i = 0, 'hot', CONCAT('k', a.i, '-', b.i)), 'x'"
                              " FROM n a JOIN n b JOIN n c ON c.i <= 2 AND a.i <= 3");
    test_db_run(bench->other, "UPDATE outbox SET ordering_key = 'hot' WHERE id % 3 = 1");
    open_reading(&reading);
    before = test_db_rows_read(bench->db);
    for (int turn = 0; turn < 4000 && taken < HOT_ROWS; turn++)
        taken += take_turn(&reading);
    assert_int_equal(taken, HOT_ROWS);
    stats_rows = test_db_rows_read(bench->db) - before;
    assert_in_range(stats_rows, 2 * HOT_ROWS, 10 * HOT_ROWS);
    for (quiet_at = reading.now_us; reading.now_us < quiet_at + 10 * UINT64_C(1000000);)
        (void)take_turn(&reading);
    before = test_db_rows_read(bench->db);
    queries = db_statements(bench->db);
    for (quiet_at = reading.now_us; reading.now_us < quiet_at + 10 * UINT64_C(1000000);)
        (void)take_turn(&reading);
    /* A second has some 300 polls under this clock, each a look-up. The rest is a complete pass and
       a sweep: of the passed-over rows and the holes, and spaced by what they cost. */
    assert_in_range(test_db_rows_read(bench->db) - before, 1, 10 * (400 + 2 * HOT_ROWS * 2));
    assert_in_range(db_statements(bench->db) - queries, 1, 10 * (400 + 40));
    reader_destroy(reading.reader);
    flight_destroy(reading.flight);
}

/* ---- plans ---- */

/* No line of the plan of a statement reads a whole table. */
static void assert_no_scan(struct db *db, const char *sql)
{
    struct obx_buf text = {0};
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    unsigned type = db_server_is_mariadb(db) ? 3 : 4;

    assert_int_equal(buf_addf(&text, "EXPLAIN FORMAT=TRADITIONAL %s", sql), OBX_OK);
    if (db_query_text(db, buf_bytes(&text), &rows, &err) != OBX_OK)
        fail_msg("%s", err.text);
    while (db_rows_next(rows)) {
        if (bytes_is(db_rows_bytes(rows, 2), "outbox") &&
            (bytes_is(db_rows_bytes(rows, type), "ALL") ||
             bytes_is(db_rows_bytes(rows, type), "index")))
            fail_msg("reads the whole table: %.300s", sql);
    }
    db_rows_free(rows);
    buf_fini(&text);
}

static void no_plan_reads_the_table(void **state)
{
    struct bench *bench = *state;
    struct id_range ranges[READER_RANGES];
    uint64_t ids[128];

    for (size_t i = 0; i < READER_RANGES; i++)
        ranges[i] = (struct id_range){i * 7 + 1, i * 7 + 3};
    for (size_t i = 0; i < 128; i++)
        ids[i] = i * 3 + 1;
    for (int size = 0; size < 3; size++) {
        if (size > 0)
            test_db_run(bench->db,
                        size == 1
                            ? "INSERT INTO outbox (topic, payload) VALUES ('t', 'x'), ('t', 'x')"
                            : "INSERT INTO outbox (topic, payload) WITH RECURSIVE n (i) AS (SELECT"
                              " 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)"
                              " SELECT 't', 'x' FROM n");
        test_db_run(bench->db, "ANALYZE TABLE outbox");
        behind(bench, ranges, READER_RANGES, 1000);
        assert_no_scan(bench->db, bench->store.text.data);
        row_batch_clear(&bench->batch);
        assert_int_equal(outbox_store_fetch(&bench->store, ids, 128, &bench->batch, NULL), OBX_OK);
        assert_no_scan(bench->db, bench->store.text.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_of_every_shape, setup, teardown),
        cmocka_unit_test_setup_teardown(pages_over_ranges, setup, teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_is_of_one_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(a_backlog_with_holes_costs_little, setup, teardown),
        cmocka_unit_test_setup_teardown(no_plan_reads_the_table, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
