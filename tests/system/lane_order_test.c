/*
 * System tests of order and of late commits: transactions that are held open while later ids go
 * out, rollbacks, producers side by side, and a table whose dead rows purge cannot remove. P1, P2,
 * P4.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/bytes.h"
#include "lane_rig.h"
#include "wait.h"

static uint64_t insert_on(struct db *db, const char *key)
{
    struct obx_err err = {0};

    if (db_exec(db, "INSERT INTO outbox (topic, ordering_key, payload) VALUES ('t', ?, 'x')",
                DB_ARGS(DB_TEXT(key)), NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
    return db_insert_id(db);
}

/* An id that was given out long ago becomes visible: it comes out, and before what its producer
 * wrote afterwards. */
static void late_commits_come_out_before_what_follows_them(void **state)
{
    struct lane_rig *rig = *state;
    struct db *slow[3];
    uint64_t late[3];
    uint64_t after[3];

    rig_start(rig);
    for (int round = 0; round < 3; round++) {
        slow[round] = test_db_open(&rig->test_db.opts);
        test_db_run(slow[round], "START TRANSACTION");
        late[round] = insert_on(slow[round], "slow");
        rig_fill(rig, 400, 50, 64);
        rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox");
    }
    for (int round = 2; round >= 0; round--) { /* the youngest first */
        test_db_run(slow[round], "COMMIT");
        rig_wait_empty(rig);
        after[round] = insert_on(slow[round], "slow");
        db_close(slow[round]);
    }
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 1206);
    for (int round = 0; round < 3; round++)
        assert_true(rig_place(rig, late[round]) < rig_place(rig, after[round]));
    assert_true(rig_stats(rig->lane).late >= 3);
}

static void rollbacks_never_come_out(void **state)
{
    struct lane_rig *rig = *state;
    struct db *other = test_db_open(&rig->test_db.opts);
    uint64_t ghosts[60];

    rig_start(rig);
    for (int i = 0; i < 60; i++) {
        test_db_run(other, "START TRANSACTION");
        ghosts[i] = insert_on(other, i % 2 == 0 ? "k" : NULL);
        rig_insert(rig, "t", "k", "x");
        lane_ring(rig->lane);
        if (i % 8 == 0)
            rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox");
        test_db_run(other, "ROLLBACK");
    }
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 60);
    for (int i = 0; i < 60; i++)
        assert_int_equal(rig_place(rig, ghosts[i]), SIZE_MAX);
    rig_assert_order(rig);
    db_close(other);
}

/* ---- producers side by side ---- */

enum { PRODUCERS = 4, PRODUCER_TXS = 120, TX_ROWS = 4 };

struct producer {
    pthread_t thread;
    struct db_opts opts;
    int number;
    bool locks; /* the row that stands for the one key of all producers, before it inserts */
    uint64_t committed[PRODUCER_TXS * TX_ROWS];
    size_t count;
    uint64_t ghosts[PRODUCER_TXS * TX_ROWS];
    size_t ghost_count;
    bool is_broken;
};

/* One transaction: some rows of its own keys, held open for a moment, committed or not. */
static bool produce(struct producer *producer, struct db *db, unsigned *random)
{
    char key[16];
    uint64_t ids[TX_ROWS];
    size_t count = 1 + (unsigned)rand_r(random) % TX_ROWS;
    bool is_good = rand_r(random) % 5 != 0;

    if (db_begin(db, NULL) != OBX_OK)
        return false;
    if (producer->locks &&
        db_exec(db, "UPDATE account SET n = n + 1", DB_NO_ARGS, NULL, NULL) != OBX_OK)
        return false;
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(key, sizeof(key), "p%d-%d", producer->locks ? 0 : producer->number,
                       producer->locks ? 0 : rand_r(random) % 3);
        if (db_exec(db, "INSERT INTO outbox (topic, ordering_key, payload) VALUES ('t', ?, 'x')",
                    DB_ARGS(DB_TEXT(key)), NULL, NULL) != OBX_OK)
            return false;
        ids[i] = db_insert_id(db);
        if (rand_r(random) % 4 == 0 &&
            db_exec(db, "DO SLEEP(0.003)", DB_NO_ARGS, NULL, NULL) != OBX_OK)
            return false;
    }
    if ((is_good ? db_commit(db, NULL) : db_rollback(db, NULL)) != OBX_OK)
        return false;
    for (size_t i = 0; i < count && is_good; i++)
        producer->committed[producer->count++] = ids[i];
    for (size_t i = 0; i < count && !is_good; i++)
        producer->ghosts[producer->ghost_count++] = ids[i];
    return true;
}

static void *produce_all(void *ctx)
{
    struct producer *producer = ctx;
    unsigned random = (unsigned)producer->number + 1;
    struct db *db = NULL;

    producer->is_broken = db_open(&producer->opts, &db, NULL) != OBX_OK;
    for (int i = 0; i < PRODUCER_TXS && !producer->is_broken; i++)
        producer->is_broken = !produce(producer, db, &random);
    db_close(db);
    db_thread_end();
    return NULL;
}

static void check_producer(const struct lane_rig *rig, const struct producer *producer)
{
    assert_false(producer->is_broken);
    for (size_t i = 0; i < producer->count; i++) {
        if (rig_place(rig, producer->committed[i]) == SIZE_MAX)
            fail_msg("row %llu is lost", (unsigned long long)producer->committed[i]);
    }
    for (size_t i = 0; i < producer->ghost_count; i++)
        assert_int_equal(rig_place(rig, producer->ghosts[i]), SIZE_MAX);
}

static void producers_side_by_side(void **state)
{
    struct lane_rig *rig = *state;
    struct producer *producers = calloc(PRODUCERS, sizeof(*producers));
    size_t committed = 0;

    assert_non_null(producers);
    rig->opts.lease_ms = 1000;
    rig_start(rig);
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i].number = i;
        producers[i].opts = rig->test_db.opts;
        assert_int_equal(pthread_create(&producers[i].thread, NULL, produce_all, &producers[i]), 0);
    }
    for (int i = 0; i < 2; i++) { /* and the lane is killed meanwhile */
        uint64_t before = rig_stats(rig->lane).confirmed;

        rig_wait_state(rig->lane, LANE_OWNER);
        rig_wait_confirmed(rig->lane, before + 50);
        rig_end_lane(rig->lane);
        rig_start(rig);
    }
    for (int i = 0; i < PRODUCERS; i++)
        (void)pthread_join(producers[i].thread, NULL);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    for (int i = 0; i < PRODUCERS; i++) {
        check_producer(rig, &producers[i]);
        committed += producers[i].count;
    }
    assert_true(rig->seen_count >= committed);
    rig_assert_order(rig);
    free(producers);
}

/* The server's setting, where there is such a one. Returns what it was; "" there is none. */
static void set_commit_order(const char *wanted, char *was, size_t cap)
{
    struct db_opts root_opts = test_db_root_opts();
    struct db *root = test_db_open(&root_opts);
    struct db_rows *rows = NULL;
    char sql[64];

    assert_int_equal(db_query(root, "SHOW GLOBAL VARIABLES LIKE 'binlog_order_commits'", DB_NO_ARGS,
                              &rows, NULL),
                     OBX_OK);
    if (was != NULL) {
        was[0] = '\0';
        if (db_rows_next(rows))
            (void)bytes_to_text(db_rows_bytes(rows, 1), was, cap);
    }
    db_rows_free(rows);
    if (wanted[0] != '\0' && (was == NULL || was[0] != '\0')) {
        (void)snprintf(sql, sizeof(sql), "SET GLOBAL binlog_order_commits = %s", wanted);
        test_db_run(root, sql);
    }
    db_close(root);
}

/* Four producers of one key, each of which has its row locked while it inserts: what the release
 * rule rests on is that a commit is visible when its locks are free, however commits are ordered in
 * the binary log. */
static void producers_that_lock_their_key(void **state)
{
    struct lane_rig *rig = *state;
    struct producer *producers = calloc(PRODUCERS, sizeof(*producers));
    char was[16];

    assert_non_null(producers);
    set_commit_order("OFF", was, sizeof(was));
    rig_run(rig, "CREATE TABLE account (n BIGINT NOT NULL)");
    rig_run(rig, "INSERT INTO account VALUES (0)");
    rig_start(rig);
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i].number = i;
        producers[i].locks = true;
        producers[i].opts = rig->test_db.opts;
        assert_int_equal(pthread_create(&producers[i].thread, NULL, produce_all, &producers[i]), 0);
    }
    for (int i = 0; i < PRODUCERS; i++)
        (void)pthread_join(producers[i].thread, NULL);
    if (was[0] != '\0')
        set_commit_order(was, NULL, 0);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    for (int i = 0; i < PRODUCERS; i++)
        check_producer(rig, &producers[i]);
    rig_assert_order(rig);
    free(producers);
}

/* Ids that no server's counter gives: a dump, or an application under NO_AUTO_VALUE_ON_ZERO. Those
 * that AMQP cannot carry are parked; none is passed over in silence. */
static void ids_at_both_ends(void **state)
{
    struct lane_rig *rig = *state;

    rig_insert(rig, "t", "k", "x");
    rig_start(rig);
    rig_wait_empty(rig);
    rig_run(rig, "SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')");
    rig_run(rig, "INSERT INTO outbox (id, topic, ordering_key, payload) VALUES"
                 " (0, 't', 'k', 'x'), (9223372036854775807, 't', 'k', 'x'),"
                 " (9223372036854775808, 't', 'k', 'x'), (18446744073709551614, 't', 'k', 'x')");
    rig_wait_empty(rig);
    rig_collect(rig, 3);
    assert_int_equal(rig_place(rig, 0), 1);
    assert_int_equal(rig_place(rig, INT64_MAX), 2);
    rig_wait_number(rig, 2, "SELECT COUNT(*) FROM outbox_parked WHERE id > 9223372036854775807");
    /* A head of id 0 freezes nothing: nothing could name it. */
    rig_run(rig, "INSERT INTO outbox (id, topic, ordering_key, payload) VALUES (0, '', 'z', 'x')");
    rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox_parked WHERE id = 0 AND holds_key = 0");
    rig_run(rig, "INSERT INTO outbox (id, topic, ordering_key, payload) VALUES (1, 't', 'z', 'x')");
    rig_collect(rig, 4);
    assert_string_equal(rig->seen[3].key, "z");
}

/* ---- dead rows ---- */

/* A reader elsewhere keeps purge from removing what was deleted: new and late rows come out all the
 * same, also by a lane that begins at the left edge. */
static void purge_lags(void **state)
{
    struct lane_rig *rig = *state;
    struct db *reader = test_db_open(&rig->test_db.opts);
    struct db *slow = test_db_open(&rig->test_db.opts);
    uint64_t late = 0;
    int64_t began_ms = 0;

    test_db_run(reader, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ");
    test_db_run(reader, "START TRANSACTION WITH CONSISTENT SNAPSHOT");
    test_db_run(slow, "START TRANSACTION");
    late = insert_on(slow, "slow");
    rig_fill(rig, 10000, 0, 16);
    rig_start(rig);
    rig_wait_empty(rig);
    rig_drain_lane(rig->lane);
    rig_start(rig);
    rig_wait_state(rig->lane, LANE_OWNER);
    test_db_run(slow, "COMMIT");
    began_ms = wait_now_ms();
    for (int i = 0; i < 5; i++) {
        rig_insert(rig, "t", "slow", "x");
        lane_ring(rig->lane);
        rig_wait_empty(rig);
    }
    assert_in_range(wait_now_ms() - began_ms, 0, RIG_WAIT_MS / 2);
    rig_collect_all(rig);
    assert_true(rig_place(rig, late) != SIZE_MAX);
    db_close(slow);
    db_close(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(late_commits_come_out_before_what_follows_them, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(rollbacks_never_come_out, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(producers_side_by_side, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(producers_that_lock_their_key, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(ids_at_both_ends, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(purge_lags, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
