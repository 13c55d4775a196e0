/*
 * Unit test of the reader, with a store that commits late, between any two statements, that fails,
 * and that can be looked at from one moment. lane_sim_test.c does the same by chance. P1, P4, P9.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "lane/read/reader.h"

enum { IDS = 2000 };

#define MS UINT64_C(1000) /* in microseconds */
#define S  (1000 * MS)

static const char *const keys[] = {"a", "b", "c", NULL};

/* A table: which ids are visible, and what happens with the next statements. */
struct table {
    bool is_there[IDS + 1];
    bool was_there[IDS + 1]; /* when the snapshot was taken */
    bool has_snapshot;
    uint64_t key_of[IDS + 1];  /* index in keys */
    uint64_t hold[IDS + 1];    /* what mark_frozen says */
    uint64_t after_forward[4]; /* become visible when the forward read has ended */
    uint64_t after_behind[4];  /* the same, after a page of a rescan */
    int fail_in;               /* the statement that fails; 0 none */
    uint64_t now_us, cost_us;
    uint64_t forward_limit; /* of the last forward read */
    uint64_t behind_us;     /* what a page of a look costs more than a forward read */
    size_t behind_calls, behind_rows, snapshots, payload_len;
};

struct bench {
    struct table table;
    struct flight *flight;
    struct reader *reader;
    struct flight_opts flight_opts;
};

static struct bench *bench;

static enum obx_code statement(struct obx_err *err)
{
    struct table *table = &bench->table;

    table->now_us += table->cost_us;
    if (table->fail_in > 0 && --table->fail_in == 0)
        return obx_fail(err, OBX_E_DB_LOCK_WAIT, "as asked");
    return OBX_OK;
}

static void make_visible(uint64_t *ids)
{
    for (int i = 0; i < 4; i++) {
        if (ids[i] != 0)
            bench->table.is_there[ids[i]] = true;
        ids[i] = 0;
    }
}

static void add_row(struct row_batch *batch, uint64_t id, bool is_full)
{
    const struct outbox_row row = {.id = id,
                                   .is_full = is_full,
                                   .created_us = 1,
                                   .payload_len = bench->table.payload_len,
                                   .topic = bytes_of("t"),
                                   .key = bytes_of(keys[bench->table.key_of[id]])};
    struct outbox_row *copy = outbox_row_copy(&row);

    assert_non_null(copy);
    assert_int_equal(row_batch_add_take(batch, copy), OBX_OK);
}

static enum obx_code forward(void *ctx, uint64_t from, uint32_t limit, struct row_batch *batch,
                             struct obx_err *err)
{
    enum obx_code rc = statement(err);

    (void)ctx;
    bench->table.forward_limit = limit;
    for (uint64_t id = from; rc == OBX_OK && id <= IDS && batch->count < limit; id++) {
        if (bench->table.is_there[id])
            add_row(batch, id, true);
    }
    make_visible(bench->table.after_forward);
    return rc;
}

static enum obx_code behind(void *ctx, const struct id_range *ranges, size_t count, uint32_t limit,
                            struct row_batch *batch, struct obx_err *err)
{
    const bool *there = bench->table.has_snapshot ? bench->table.was_there : bench->table.is_there;
    enum obx_code rc = statement(err);

    (void)ctx;
    bench->table.behind_calls++;
    bench->table.now_us += bench->table.behind_us;
    for (size_t i = 0; rc == OBX_OK && i < count; i++) {
        for (uint64_t id = ranges[i].lo; id <= ranges[i].hi && id <= IDS && batch->count < limit;
             id++) {
            if (there[id]) {
                add_row(batch, id, false);
                bench->table.behind_rows++;
            }
        }
    }
    make_visible(bench->table.after_behind);
    return rc;
}

static enum obx_code snapshot(void *ctx, bool on, struct obx_err *err)
{
    struct table *table = &bench->table;
    enum obx_code rc = statement(err);

    (void)ctx;
    assert_int_equal(table->has_snapshot, !on); /* never two, never left open */
    table->has_snapshot = on && rc == OBX_OK;
    table->snapshots += on;
    memcpy(table->was_there, table->is_there, sizeof(table->was_there));
    return rc;
}

static enum obx_code mark_frozen(void *ctx, struct row_batch *batch, struct obx_err *err)
{
    (void)ctx;
    for (size_t i = 0; i < batch->count; i++)
        batch->rows[i]->blocked_by = bench->table.hold[batch->rows[i]->id];
    return statement(err);
}

static uint64_t now_us(void *ctx)
{
    (void)ctx;
    return bench->table.now_us;
}

static int open_all(void)
{
    const struct reader_store store = {.forward = forward,
                                       .behind = behind,
                                       .snapshot = snapshot,
                                       .mark_frozen = mark_frozen,
                                       .now_us = now_us};
    const struct reader_opts opts = {
        .batch_rows = 100, .batch_bytes = 100000, .sweep_us = S, .page_rows = 5};

    if (flight_create(&bench->flight_opts, &bench->flight, NULL) != OBX_OK)
        return -1;
    return reader_create(&opts, &store, bench->flight, &bench->reader, NULL) == OBX_OK ? 0 : -1;
}

static int setup(void **state)
{
    (void)state;
    bench = calloc(1, sizeof(*bench));
    if (bench == NULL)
        return -1;
    bench->table.now_us = 100 * S;
    bench->table.cost_us = 10;
    bench->flight_opts = (struct flight_opts){.key_window = 1,
                                              .max_ready = 200,
                                              .max_waiting = 1000,
                                              .max_key_waiting = 1000,
                                              .max_retrying = 100,
                                              .max_topic_retrying = 50,
                                              .max_to_park = 50,
                                              .max_empty_keys = 10,
                                              .max_bytes = 1 << 20};
    return open_all();
}

static int teardown(void **state)
{
    (void)state;
    reader_destroy(bench->reader);
    flight_destroy(bench->flight);
    free(bench);
    bench = NULL;
    return 0;
}

static void put(uint64_t from, uint64_t to, uint64_t key)
{
    for (uint64_t id = from; id <= to; id++) {
        bench->table.is_there[id] = true;
        bench->table.key_of[id] = key;
    }
}

/* One turn of a lane: a poll, and what else is due. */
static enum obx_code turn(void)
{
    struct reader_result result;
    enum obx_code rc = reader_poll(bench->reader, &result, NULL);

    if (rc == OBX_OK && bench->table.now_us >= reader_next_due_us(bench->reader))
        rc = reader_service(bench->reader, NULL);
    assert_false(bench->table.has_snapshot);
    return rc;
}

static void turns(uint64_t for_us)
{
    uint64_t until = bench->table.now_us + for_us;

    while (bench->table.now_us < until) {
        assert_int_equal(turn(), OBX_OK);
        bench->table.now_us += 2 * MS;
    }
}

/* Publishes and settles all that is ready; the ids in that order. Returns how many. */
static size_t take_ready(uint64_t *ids, size_t cap)
{
    struct flight_row *row = NULL;
    size_t count = 0;

    while ((row = flight_first(bench->flight, FLIGHT_READY)) != NULL) {
        assert_true(count < cap);
        ids[count++] = row->id;
        bench->table.is_there[row->id] = false;
        flight_sent(bench->flight, row);
        flight_confirmed(bench->flight, row);
        flight_forget(bench->flight, row);
    }
    return count;
}

static bool is_known(uint64_t id)
{
    return flight_find(bench->flight, id) != NULL;
}

static enum flight_state state_of(uint64_t id)
{
    assert_true(is_known(id));
    return (enum flight_state)flight_find(bench->flight, id)->state;
}

/* ---- the release rule ---- */

/* Row 10 is committed after the forward read that shows 11, and before the look: it goes first. */
static void a_look_comes_before_the_release(void **state)
{
    (void)state;
    put(9, 9, 3);
    assert_int_equal(turn(), OBX_OK);
    put(12, 12, 3);
    assert_int_equal(turn(), OBX_OK); /* 10 and 11 are a gap */
    put(13, 13, 0);
    bench->table.after_forward[0] = 10;
    assert_int_equal(turn(), OBX_OK);
    assert_int_equal(state_of(10), FLIGHT_READY);
    assert_int_equal(state_of(13), FLIGHT_WAITING);
    assert_int_equal(reader_cursor(bench->reader), 14);
}

/* A look of several pages: row 20 becomes visible behind the first of them, together with row 40
 * of its key, which a later page would show. */
static void a_look_of_many_pages_is_of_one_moment(void **state)
{
    (void)state;
    put(1, 1, 3);
    put(100, 100, 3);
    assert_int_equal(turn(), OBX_OK); /* 2 to 99 are a gap */
    put(21, 30, 1);                   /* late, two pages of them */
    put(101, 101, 2);
    bench->table.after_behind[0] = 20; /* of key a, as 40 */
    bench->table.after_behind[1] = 40;
    assert_int_equal(turn(), OBX_OK);
    assert_int_equal(bench->table.snapshots, 1);
    assert_true(is_known(30));
    assert_true(is_known(20) || !is_known(40));
    turns(100 * MS);
    assert_int_equal(state_of(20), FLIGHT_READY);
    assert_int_equal(state_of(40), FLIGHT_WAITING);
}

/* However far away the server is, however long the transaction was open, and whatever the first
 * row's id was: what was committed before goes before. */
static void no_age_and_no_distance_excuses_a_look(void **state)
{
    for (int distance_ms = 0; distance_ms <= 20; distance_ms += 5) {
        uint64_t ids[10];

        bench->table.cost_us = 10 + (uint64_t)distance_ms * MS;
        put(1900, 1900, 3);
        assert_int_equal(turn(), OBX_OK);
        (void)take_ready(ids, 10);
        turns(20 * S);
        put(1901, 1901, 0);
        bench->table.key_of[7] = 0;
        bench->table.after_forward[0] = 7; /* committed before 1901 was, and hours old */
        while (!is_known(1901))
            turns(2 * MS);
        assert_int_equal(state_of(7), FLIGHT_READY);
        assert_int_equal(state_of(1901), FLIGHT_WAITING);
        (void)teardown(state);
        assert_int_equal(setup(state), 0);
    }
}

/* A look that adds much is waited for; meanwhile nothing with a key goes, and looks leave the
 * server three quarters of the time. */
static void a_dear_look_is_spaced_and_waited_for(void **state)
{
    uint64_t ids[IDS];
    uint64_t began_us = bench->table.now_us;

    (void)state;
    bench->table.behind_us = 100 * MS;
    for (uint64_t id = 10; id <= 1000; id += 10) {
        put(id, id, 0);
        bench->table.key_of[id - 5] = 0;
        bench->table.after_forward[0] = id - 5;
        turns(2 * MS);
        for (size_t i = 0, n = take_ready(ids, IDS), last = 0; i < n; last = ids[i++])
            assert_true(ids[i] > last);
    }
    turns(2 * S);
    (void)take_ready(ids, IDS);
    for (uint64_t id = 5; id <= 1000; id++)
        assert_false(bench->table.is_there[id]);
    assert_in_range(bench->table.behind_calls, 1,
                    (bench->table.now_us - began_us) / (400 * MS) + 2);
}

static void rows_without_a_key_wait_for_no_look(void **state)
{
    uint64_t ids[IDS];

    (void)state;
    bench->table.behind_us = 100 * MS;
    put(10, 10, 0);
    turns(100 * MS);
    for (uint64_t id = 12; id <= 40; id += 2) {
        put(id, id, 3);
        turns(2 * MS);
        assert_true(is_known(id));
        (void)take_ready(ids, IDS);
    }
}

/* More late rows than a turn may hold; the batch behind them waits for all of them. */
static void a_look_may_take_more_than_a_turn(void **state)
{
    uint64_t ids[IDS];
    size_t count = 0;

    (void)state;
    put(1, 1, 3);
    put(1500, 1500, 3);
    turns(20 * MS);
    put(100, 999, 0);
    put(1501, 1501, 0);
    for (int i = 0; i < 1000 && count < 903; i++) {
        assert_int_equal(turn(), OBX_OK);
        count += take_ready(&ids[count], IDS - count);
    }
    assert_int_equal(count, 903);
    assert_int_equal(ids[902], 1501);
}

/* ---- late rows ---- */

static void a_late_row_comes_out_without_a_new_one(void **state)
{
    (void)state;
    put(1, 1, 3);
    put(5, 5, 3);
    assert_int_equal(turn(), OBX_OK);
    put(3, 3, 0);
    turns(30 * MS);
    assert_true(is_known(3));
}

/* Of a transaction that was open for longer than gaps are kept. */
static void a_very_late_row_comes_out_too(void **state)
{
    uint64_t ids[10];
    struct reader_stats stats;

    (void)state;
    put(1, 1, 3);
    put(5, 5, 3);
    assert_int_equal(turn(), OBX_OK);
    (void)take_ready(ids, 10);
    turns(15 * S);
    bench->table.behind_calls = 0;
    turns(990 * MS);
    assert_in_range(bench->table.behind_calls, 0, 3); /* the gap costs nothing any more */
    put(3, 3, 0);
    turns(1500 * MS);
    assert_true(is_known(3));
    reader_get_stats(bench->reader, &stats);
    assert_int_equal(stats.late, 1);
}

static void more_gaps_than_are_kept(void **state)
{
    uint64_t ids[IDS];
    size_t count = 0;

    (void)state;
    for (uint64_t id = 1; id <= IDS; id += 2)
        put(id, id, 3);
    for (int i = 0; i < 40; i++) {
        turns(10 * MS);
        count += take_ready(ids, IDS);
    }
    assert_int_equal(count, IDS / 2);
    for (uint64_t id = 2; id <= IDS; id += 2)
        put(id, id, id % 3);
    for (int i = 0; i < 400 && count < IDS; i++) {
        turns(30 * MS);
        count += take_ready(ids, IDS);
    }
    assert_int_equal(count, IDS);
}

/* ---- bounds and rescans ---- */

/* A key with more followers than there is room for; the rest is passed over, and taken in, in
 * order, when there is room. */
static void what_was_passed_over_comes_in_order(void **state)
{
    uint64_t last = 0;
    uint64_t others = 0;

    (void)state;
    reader_destroy(bench->reader);
    flight_destroy(bench->flight);
    bench->flight_opts.max_key_waiting = 20;
    assert_int_equal(open_all(), 0);
    for (uint64_t id = 1; id <= 600; id++)
        put(id, id, id % 10 == 0 ? 3 : 0);
    for (int i = 0; i < 3000 && last < 599; i++) {
        struct flight_row *row = NULL;

        turns(2 * MS);
        assert_in_range(flight_count(bench->flight, FLIGHT_WAITING), 0, 20);
        row = flight_first(bench->flight, FLIGHT_READY);
        if (row == NULL)
            continue;
        if (flight_key_name(row).p != NULL) {
            assert_true(row->id > last);
            last = row->id;
        } else {
            others++;
        }
        bench->table.is_there[row->id] = false;
        flight_sent(bench->flight, row);
        flight_confirmed(bench->flight, row);
        flight_forget(bench->flight, row);
    }
    assert_int_equal(last, 599);
    assert_int_equal(others, 60);
}

/* A key that stands still, a hole in every third id, and rows without a key between: what was
 * passed over is not read again for each of them, nor when nothing comes. */
static void a_backlog_with_holes_is_not_read_again(void **state)
{
    size_t others = 0;
    struct reader_stats stats;
    uint64_t rescans = 0;

    (void)state;
    reader_destroy(bench->reader);
    flight_destroy(bench->flight);
    bench->flight_opts.max_key_waiting = 20;
    assert_int_equal(open_all(), 0);
    for (uint64_t id = 1; id <= IDS; id++) {
        if (id % 3 != 0)
            put(id, id, id % 3 == 1 ? 0 : 3);
    }
    for (int i = 0; i < 4000 && others <= IDS / 3; i++) {
        struct flight_row *next = NULL;

        turns(2 * MS);
        for (struct flight_row *row = flight_first(bench->flight, FLIGHT_READY); row != NULL;
             row = next) {
            next = flight_next(row);
            flight_sent(bench->flight, row);
            if (row->id % 3 == 1)
                continue; /* never answered */
            bench->table.is_there[row->id] = false;
            flight_confirmed(bench->flight, row);
            flight_forget(bench->flight, row);
            others++;
        }
    }
    assert_int_equal(others, IDS / 3 + 1);
    assert_in_range(bench->table.behind_rows, 0, 2 * others);
    turns(10 * S); /* looks have become rare */
    reader_get_stats(bench->reader, &stats);
    rescans = stats.rescans;
    bench->table.behind_rows = 0;
    bench->table.behind_calls = 0;
    turns(10 * S);
    reader_get_stats(bench->reader, &stats);
    rescans = stats.rescans - rescans; /* over all of it, as a net; spaced by what they cost */
    assert_in_range(rescans, 1, 10);
    assert_in_range(bench->table.behind_rows, 1, rescans * IDS / 3);
    assert_in_range(bench->table.behind_calls, 1, rescans * (IDS / 3 / 5 + 1) + 60);
}

/* A row stays in memory for ever, at the lowest id; gaps above it are joined all the same. */
static void one_row_that_stays_keeps_no_gaps_apart(void **state)
{
    uint64_t ids[IDS];

    (void)state;
    put(1, 1, 0);
    turns(2 * MS);
    flight_sent(bench->flight, flight_find(bench->flight, 1));
    for (uint64_t id = 3; id <= IDS; id += 2) {
        put(id, id, 3);
        if (id % 50 == 1) {
            turns(2 * MS);
            (void)take_ready(ids, IDS);
        }
    }
    turns(S);
    bench->table.behind_rows = 0;
    bench->table.snapshots = 0;
    turns(S);
    assert_int_equal(bench->table.snapshots, 0); /* one statement is enough */
    put(1000, 1000, 0);
    turns(S);
    assert_int_equal(state_of(1000), FLIGHT_WAITING); /* behind row 1 */
    assert_in_range(bench->table.behind_rows, 1, 100);
}

/* An id that an application or a dump gave. */
static void the_id_zero_is_an_id(void **state)
{
    (void)state;
    put(0, 0, 0);
    put(4, 4, 0);
    assert_int_equal(turn(), OBX_OK);
    assert_int_equal(state_of(0), FLIGHT_READY);
    assert_int_equal(state_of(4), FLIGHT_WAITING);
    (void)teardown(state);
    assert_int_equal(setup(state), 0);
    put(4, 4, 0); /* and when it comes late */
    assert_int_equal(turn(), OBX_OK);
    put(0, 0, 0);
    turns(100 * MS);
    assert_int_equal(state_of(0), FLIGHT_READY);
}

/* A key that is being resumed is passed over, whole, until it is not held any more. */
static void a_held_key_waits_for_its_pass(void **state)
{
    (void)state;
    put(5, 7, 0);
    put(8, 8, 1);
    for (uint64_t id = 5; id <= 7; id++)
        bench->table.hold[id] = READER_HOLD;
    turns(20 * MS);
    assert_false(is_known(5));
    assert_true(is_known(8));
    put(3, 3, 0); /* what the resume puts back */
    memset(bench->table.hold, 0, sizeof(bench->table.hold));
    reader_pass_over(bench->reader, 3, bytes_of("a"));
    put(9, 9, 0); /* newer */
    reader_want_rescan(bench->reader);
    turns(20 * MS);
    assert_int_equal(state_of(3), FLIGHT_READY);
    assert_int_equal(state_of(5), FLIGHT_WAITING);
    assert_int_equal(state_of(9), FLIGHT_WAITING);
}

/* A row that is put back is as new as any: a late one of its key that is there goes before it. */
static void a_look_comes_before_what_was_put_back(void **state)
{
    uint64_t ids[10];

    (void)state;
    put(1, 1, 3);
    put(8, 8, 0);
    put(12, 12, 3);
    assert_int_equal(turn(), OBX_OK);
    assert_int_equal(take_ready(ids, 10), 3);
    put(4, 4, 0); /* late, and no look has seen it */
    put(8, 8, 0);
    reader_pass_over(bench->reader, 8, bytes_of("a"));
    reader_want_rescan(bench->reader);
    for (int i = 0; i < 1000 && !is_known(8); i++) {
        assert_int_equal(turn(), OBX_OK);
        bench->table.now_us += 2 * MS;
    }
    assert_int_equal(state_of(4), FLIGHT_READY);
    assert_int_equal(state_of(8), FLIGHT_WAITING);
}

static void large_rows_make_small_batches(void **state)
{
    (void)state;
    bench->table.payload_len = 4000;
    put(1, 600, 3);
    assert_int_equal(turn(), OBX_OK);
    assert_int_equal(turn(), OBX_OK);
    assert_in_range(bench->table.forward_limit, 16, 60); /* 100,000 bytes by 4,000 */
}

/* ---- failures ---- */

/* Whichever statement fails: it is said, and all rows come out in the end, each once, in order. */
static void any_statement_may_fail(void **state)
{
    for (int n = 1; n < 14; n++) {
        uint64_t ids[IDS];
        uint64_t last_of_a = 0;
        size_t count = 0;
        size_t failures = 0;

        put(2, 10, 0);
        put(20, 60, 3);
        assert_int_equal(turn(), OBX_OK);
        put(61, 61, 3);
        put(12, 19, 0); /* late, more than a page */
        bench->table.fail_in = n;
        for (int i = 0; i < 60; i++) {
            failures += turn() != OBX_OK;
            bench->table.now_us += 30 * MS;
        }
        assert_in_range(failures, 0, 1);
        bench->table.fail_in = 0;
        count = take_ready(ids, IDS);
        assert_int_equal(count, 9 + 41 + 8 + 1);
        for (size_t i = 0; i < count; i++) {
            if (ids[i] >= 20)
                continue;
            assert_true(ids[i] > last_of_a);
            last_of_a = ids[i];
        }
        (void)teardown(state);
        assert_int_equal(setup(state), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_look_comes_before_the_release, setup, teardown),
        cmocka_unit_test_setup_teardown(a_look_of_many_pages_is_of_one_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(no_age_and_no_distance_excuses_a_look, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dear_look_is_spaced_and_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_without_a_key_wait_for_no_look, setup, teardown),
        cmocka_unit_test_setup_teardown(a_look_may_take_more_than_a_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(a_backlog_with_holes_is_not_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(one_row_that_stays_keeps_no_gaps_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(the_id_zero_is_an_id, setup, teardown),
        cmocka_unit_test_setup_teardown(a_late_row_comes_out_without_a_new_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_very_late_row_comes_out_too, setup, teardown),
        cmocka_unit_test_setup_teardown(more_gaps_than_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_passed_over_comes_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_held_key_waits_for_its_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(a_look_comes_before_what_was_put_back, setup, teardown),
        cmocka_unit_test_setup_teardown(large_rows_make_small_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(any_statement_may_fail, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
