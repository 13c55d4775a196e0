/*
 * Plans are part of the contract: what a batch, a worker's look and the search for forgotten rows
 * read of inbox_parked does not grow with the table, whatever the server's optimiser would like. P9.
 *
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

#include "base/alloc.h"
#include "base/bytes.h"
#include "consumer_rig.h"
#include "core/item.h"
#include "core/settings.h"
#include "store/store_db.h"

enum { ROWS = 8000, FEW = 150, PAGE_READS = 2500, LOOK_ROWS = 200 };

struct bench {
    struct rig *rig;
    struct settings settings;
    struct store store;
    struct counters counters;
};

static uint64_t wanted_rows(void)
{
    const char *text = getenv("OBX_TEST_ROWS");

    return text != NULL ? strtoull(text, NULL, 10) : ROWS;
}

/* Doubles what is there until it is enough; id grows with it. */
static void multiply(struct rig *rig, const char *key, const char *state, int is_reported,
                     const char *next_at, uint64_t rows)
{
    char sql[1024];

    (void)snprintf(
        sql, sizeof(sql),
        "INSERT INTO inbox_parked (consumer_group, message_id, ordering_key, lane, state, "
        "next_at, is_reported, replay_until, queue, properties, body, size) "
        "SELECT 'group-a', CONCAT('%s-', s.n), %s, s.n %% 1000, '%s', %s, %d, "
        "UTC_TIMESTAMP(6), 'q', '', 'body', 4 FROM numbers s WHERE s.n <= %" PRIu64,
        state, key, state, next_at, is_reported, rows);
    test_db_run(rig->db, sql);
}

static void make_numbers(struct rig *rig, uint64_t rows)
{
    test_db_run(rig->db, "CREATE TABLE numbers (n BIGINT PRIMARY KEY)");
    test_db_run(rig->db, "INSERT INTO numbers VALUES (1)");
    for (uint64_t have = 1; have < rows; have *= 2)
        test_db_run(rig->db, "INSERT INTO numbers SELECT n + (SELECT MAX(n) FROM "
                             "(SELECT n FROM numbers) AS m) FROM numbers");
}

/* A quarter each: keys that wait, one behind a dead one, what has ended, what is in no key's way.
 */
static void fill(struct rig *rig)
{
    const uint64_t rows = wanted_rows() / 4;

    make_numbers(rig, rows);
    test_db_run(rig->db,
                "INSERT INTO inbox_parked (consumer_group, message_id, ordering_key, lane, state, "
                "replay_until, queue, properties, body, size) VALUES ('group-a', 'head', 'frozen', "
                "0, 'dead', UTC_TIMESTAMP(6), 'q', '', 'body', 4)");
    multiply(rig, "'frozen'", "blocked", 0, "NULL", rows);
    multiply(rig, "'busy'", "dead", 1, "NULL", rows);
    multiply(rig, "CONCAT('key-', s.n)", "waiting", 0, "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR", rows);
    test_db_run(rig->db, "ANALYZE TABLE inbox_parked");
}

static struct bench open_bench(struct rig *rig, enum obx_on_dead on_dead)
{
    struct bench bench = {.rig = rig};
    struct obx_err err = {0};

    rig->opts.on_dead = on_dead;
    if (settings_init(&bench.settings, &rig->opts, &err) != OBX_OK)
        fail_msg("%s", err.text);
    return bench;
}

static void connect(struct bench *bench)
{
    struct obx_err err = {0};

    if (store_db_open(&bench->settings, &bench->store, &err) != OBX_OK)
        fail_msg("%s", err.text);
}

static void close_bench(struct bench *bench)
{
    bench->store.ops->close(bench->store.ctx);
    settings_fini(&bench->settings);
}

static uint64_t reads(struct bench *bench)
{
    return test_db_rows_read(bench->store.ops->session(bench->store.ctx));
}

/* ------------------------------------------------------------------ what a batch reads */

static struct item *make_item(struct bench *bench, const char *id, const char *key)
{
    struct bridge_delivery *delivery = obx_calloc(1, sizeof(*delivery) + sizeof(struct obx_header));
    struct obx_header *header = NULL;
    struct item *item = NULL;

    assert_non_null(delivery);
    header = (struct obx_header *)(void *)(delivery + 1);
    *header = (struct obx_header){
        .name = bytes_of("cloudEvents:partitionkey"), .type = OBX_H_TEXT, .v.text = bytes_of(key)};
    delivery->msg =
        (struct bridge_message){.message_id = bytes_of(id), .headers = header, .header_count = 1};
    assert_int_equal(item_create(delivery, &bench->counters, &item), OBX_OK);
    return item;
}

static void check_batch(struct rig *rig, enum obx_on_dead on_dead)
{
    struct bench bench = open_bench(rig, on_dead);
    struct store store;
    struct item *items[3];
    struct obx_err err = {0};
    uint64_t before = 0;

    connect(&bench);
    store = bench.store;
    items[0] = make_item(&bench, "m-0", "nobody");
    items[1] = make_item(&bench, "m-1", "busy");
    items[2] = make_item(&bench, "m-2", "frozen");
    before = reads(&bench);
    assert_int_equal(store.ops->begin(store.ctx, &err), OBX_OK);
    assert_int_equal(store.ops->lookup(store.ctx, items, 3, &err), OBX_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(store.ops->promote(store.ctx, items[i], &err), OBX_OK);
    assert_int_equal(store.ops->rollback(store.ctx, &err), OBX_OK);
    assert_in_range(reads(&bench) - before, 1, FEW);
    assert_int_equal(items[0]->found, FOUND_NOTHING);
    assert_int_equal(items[1]->found, FOUND_NOTHING); /* what has ended is in nobody's way */
    assert_int_equal(items[2]->found, FOUND_BLOCKED);
    for (size_t i = 0; i < 3; i++)
        item_free(items[i], &bench.counters);
    close_bench(&bench);
}

static void a_batch_reads_a_few_rows(void **state)
{
    fill(*state);
    check_batch(*state, OBX_ON_DEAD_FREEZE);
    check_batch(*state, OBX_ON_DEAD_SKIP);
}

/* ------------------------------------------------------------------ what a worker reads */

static void a_look_reads_a_few_rows(void **state)
{
    struct bench bench;
    struct due_taken taken;
    struct obx_err err = {0};
    uint64_t before = 0;

    fill(*state);
    bench = open_bench(*state, OBX_ON_DEAD_FREEZE);
    connect(&bench);
    before = reads(&bench);
    {
        const struct due_opts opts = {.settings = &bench.settings,
                                      .counters = &bench.counters,
                                      .workers = 2,
                                      .max_rows = LOOK_ROWS,
                                      .max_bytes = 1000000,
                                      .takes_letters = true};

        assert_int_equal(bench.store.ops->take_due(bench.store.ctx, &opts, &taken, &err), OBX_OK);
    }
    assert_null(taken.items.head);
    assert_in_range(reads(&bench) - before, 1, 4 * LOOK_ROWS);
    close_bench(&bench);
}

/* Page by page, however many rows wait in one key; and each that waits behind nothing is found. */
static void the_search_for_orphans_goes_by_keys(void **state)
{
    struct bench bench;
    struct obx_buf from = {0};
    struct obx_err err = {0};
    uint64_t found = 0;
    uint64_t all = 0;

    fill(*state);
    bench = open_bench(*state, OBX_ON_DEAD_FREEZE);
    connect(&bench);
    test_db_run(bench.rig->db, "DELETE FROM inbox_parked WHERE message_id = 'head'");
    test_db_run(bench.rig->db, "UPDATE inbox_parked SET state = 'blocked', next_at = NULL "
                               "WHERE message_id = 'waiting-7'");
    do {
        const uint64_t before = reads(&bench);

        assert_int_equal(bench.store.ops->free_keys(bench.store.ctx, &from, &found, &err), OBX_OK);
        assert_in_range(reads(&bench) - before, 1, PAGE_READS);
        all += found;
    } while (from.len > 0);
    assert_int_equal(all, 2);
    assert_int_equal(rig_number(bench.rig,
                                "SELECT COUNT(*) FROM inbox_parked WHERE state = 'waiting' "
                                "AND next_at <= UTC_TIMESTAMP(6)"),
                     2);
    buf_fini(&from);
    close_bench(&bench);
}

/* ------------------------------------------------------------------ what the server is trusted in
 */

/*
 * What a batch has locked stays locked when a failing message undoes it to a savepoint, provided
 * that a statement came before the savepoint.
 */
static void rolling_back_to_a_savepoint_keeps_row_locks(void **state)
{
    struct rig *rig = *state;
    struct db *other = test_db_open(&rig->test_db.opts);
    struct db_rows *rows = NULL;
    struct obx_err err = {0};

    test_db_run(other, "START TRANSACTION");
    (void)test_db_number(other, "SELECT COUNT(*) FROM inbox_parked");
    test_db_run(other, "SAVEPOINT s");
    test_db_run(other, "UPDATE stock SET n = n + 1 WHERE id = 1");
    assert_int_equal(
        db_query(other, "SELECT id FROM stock WHERE id = 2 FOR UPDATE", DB_NO_ARGS, &rows, &err),
        OBX_OK);
    db_rows_free(rows);
    test_db_run(other, "ROLLBACK TO s");
    assert_int_equal(
        db_query(rig->db, "SELECT id FROM stock FOR UPDATE SKIP LOCKED", DB_NO_ARGS, &rows, &err),
        OBX_OK);
    assert_int_equal(db_rows_count(rows), 0);
    db_rows_free(rows);
    db_close(other);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_batch_reads_a_few_rows),
        CASE(a_look_reads_a_few_rows),
        CASE(the_search_for_orphans_goes_by_keys),
        CASE(rolling_back_to_a_savepoint_keeps_row_locks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
