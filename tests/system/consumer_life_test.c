/*
 * The life of a consumer: options, drain, stop, signals, batches that gather, memory, several
 * workers, cleanup of dedup rows, refusal of what is too old to be known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "consumer_rig.h"
#include "wait.h"

/* ------------------------------------------------------------------ ends */

/* A handler that waits until the test lets it go on. */
struct gate {
    _Atomic int entered;
    _Atomic bool is_open;
};

static bool is_open(void *ctx)
{
    struct gate *gate = ctx;

    return atomic_load(&gate->is_open);
}

static bool has_entered(void *ctx)
{
    struct gate *gate = ctx;

    return atomic_load(&gate->entered) > 0;
}

static enum obx_verdict wait_at_gate(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct gate *gate = ctx;
    enum obx_verdict verdict = rig_write(msg, tx);

    atomic_fetch_add(&gate->entered, 1);
    return wait_until(RIG_WAIT_MS, is_open, gate) ? verdict : OBX_RETRY;
}

struct drainer {
    struct obx_consumer *consumer;
    uint32_t timeout_ms;
    enum obx_code rc;
};

static void *drain(void *arg)
{
    struct drainer *drainer = arg;

    drainer->rc = obx_consumer_drain(drainer->consumer, drainer->timeout_ms, NULL);
    return NULL;
}

static bool is_draining(void *ctx)
{
    return rig_stats(ctx).state == OBX_CONSUMER_DRAINING;
}

static bool is_stopping(void *ctx)
{
    return rig_stats(ctx).state == OBX_CONSUMER_STOPPING;
}

/* What the broker had sent and nobody had read goes back a moment after the connection. */
static bool has_the_rest(void *ctx)
{
    const struct rig *rig = ctx;

    return broker_count(rig->admin, rig->queue) == 200;
}

static void a_drain_finishes_what_has_been_delivered(void **state)
{
    struct rig *rig = *state;
    struct gate gate = {0};
    struct drainer drainer = {.timeout_ms = RIG_WAIT_MS};
    pthread_t thread;

    rig_declare(rig);
    rig_fill(rig, "m", 300, 7);
    rig->opts.prefetch = 100;
    rig->opts.batch_max = 10;
    drainer.consumer = rig_start(rig, wait_at_gate, &gate);
    RIG_WAIT_STAT(drainer.consumer, delivered, 100);
    assert_true(wait_until(RIG_WAIT_MS, has_entered, &gate));
    assert_int_equal(pthread_create(&thread, NULL, drain, &drainer), 0);
    assert_true(wait_until(RIG_WAIT_MS, is_draining, drainer.consumer));
    assert_int_equal(rig_stats(drainer.consumer).acked, 0);
    atomic_store(&gate.is_open, true);
    pthread_join(thread, NULL);
    assert_int_equal(drainer.rc, OBX_OK);
    assert_int_equal(rig_stats(drainer.consumer).state, OBX_CONSUMER_STOPPED);
    assert_int_equal(rig_stats(drainer.consumer).acked, 100);
    assert_int_equal(rig_stats(drainer.consumer).in_flight, 0);
    obx_consumer_close(drainer.consumer);
    rig_audit(rig, 100);
    assert_true(wait_until(RIG_WAIT_MS, has_the_rest, rig));
}

static void a_drain_that_takes_too_long_gives_back(void **state)
{
    struct rig *rig = *state;
    struct gate gate = {0};
    struct drainer drainer = {.timeout_ms = 100};
    struct obx_consumer *next = NULL;
    pthread_t thread;

    rig_declare(rig);
    rig_fill(rig, "m", 50, 0);
    rig->opts.batch_max = 1;
    drainer.consumer = rig_start(rig, wait_at_gate, &gate);
    RIG_WAIT_STAT(drainer.consumer, delivered, 50);
    assert_true(wait_until(RIG_WAIT_MS, has_entered, &gate));
    assert_int_equal(pthread_create(&thread, NULL, drain, &drainer), 0);
    assert_true(wait_until(RIG_WAIT_MS, is_stopping, drainer.consumer));
    atomic_store(&gate.is_open, true); /* the batch in work is finished nevertheless */
    pthread_join(thread, NULL);
    assert_int_equal(drainer.rc, OBX_E_TIMEOUT);
    assert_int_equal(rig_stats(drainer.consumer).applied, 1);
    assert_int_equal(rig_stats(drainer.consumer).in_flight, 0);
    obx_consumer_close(drainer.consumer);
    next = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(next, acked, 49);
    rig_stop(next);
    rig_audit(rig, 50);
}

static enum obx_verdict retry_first(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    (void)ctx;
    return bytes_is(msg->body, "later") ? OBX_RETRY : rig_write(msg, tx);
}

static void a_drain_leaves_what_waits_for_a_retry_in_its_table(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_put(rig, "m-0", "k", "later");
    rig_put(rig, "m-1", "k", "ok");
    rig_put(rig, "m-2", NULL, "ok");
    rig_flush(rig);
    rig->opts.retry_min_ms = 600000;
    rig->opts.retry_cap_ms = 600000;
    consumer = rig_start(rig, retry_first, NULL);
    RIG_WAIT_STAT(consumer, acked, 3);
    assert_int_equal(rig_stats(consumer).parked, 2);
    rig_stop(consumer);
    rig_audit(rig, 1);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_parked"), 2);
    test_db_run(rig->db,
                "UPDATE inbox_parked SET next_at = UTC_TIMESTAMP(6) WHERE state = 'waiting'");
    consumer = rig_start(rig, rig_apply, NULL); /* a handler that can do it */
    RIG_WAIT_STAT(consumer, applied, 2);
    rig_stop(consumer);
    rig_audit(rig, 3);
    rig_assert_empty(rig, rig->queue);
}

static struct obx_consumer *to_be_stopped;

static void on_signal(int number)
{
    (void)number;
    obx_consumer_stop(to_be_stopped);
}

static void *run(void *arg)
{
    struct drainer *drainer = arg;

    drainer->rc = obx_consumer_run(drainer->consumer, NULL);
    return NULL;
}

static void a_signal_handler_may_stop_it(void **state)
{
    struct rig *rig = *state;
    struct drainer runner = {0};
    struct sigaction action = {.sa_handler = on_signal};
    struct sigaction before;
    struct obx_err err = {0};
    pthread_t thread;

    rig_declare(rig);
    rig_fill(rig, "m", 100, 0);
    assert_int_equal(obx_consumer_open(&rig->opts, &runner.consumer, &err), OBX_OK);
    assert_int_equal(obx_consumer_subscribe(runner.consumer, rig_apply, NULL, &err), OBX_OK);
    to_be_stopped = runner.consumer;
    sigaction(SIGUSR1, &action, &before);
    assert_int_equal(pthread_create(&thread, NULL, run, &runner), 0);
    RIG_WAIT_STAT(runner.consumer, acked, 100);
    raise(SIGUSR1);
    pthread_join(thread, NULL);
    sigaction(SIGUSR1, &before, NULL);
    assert_int_equal(runner.rc, OBX_OK);
    obx_consumer_close(runner.consumer);
    rig_audit(rig, 100);
}

static void closing_at_any_time_loses_nothing(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    uint64_t before = 0;

    rig_declare(rig);
    rig_fill(rig, "m", 1000, 11);
    rig->opts.workers = 2;
    rig->opts.batch_max = 20;
    while (before < 1000) {
        consumer = rig_start(rig, rig_apply, NULL);
        rig_wait_applied(rig, before + 1);
        obx_consumer_close(consumer);
        before = rig_number(rig, "SELECT COUNT(*) FROM applied");
    }
    consumer = rig_start(rig, rig_apply, NULL); /* for what was applied and not acknowledged */
    RIG_WAIT_STAT(consumer, broker_connects, 1);
    rig_stop(consumer);
    rig_audit(rig, 1000);
}

/* ------------------------------------------------------------------ options and misuse */

static void expect_invalid(const struct obx_consumer_opts *opts, const char *word)
{
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};

    assert_int_equal(obx_consumer_open(opts, &consumer, &err), OBX_E_INVALID);
    assert_null(consumer);
    if (strstr(err.text, word) == NULL)
        fail_msg("'%s' does not name %s", err.text, word);
}

static void misuse_is_refused(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer_opts opts = rig->opts;
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};

    opts.group = NULL;
    expect_invalid(&opts, "group");
    opts.group = "has a blank";
    expect_invalid(&opts, "group");
    opts = rig->opts;
    opts.queue = "";
    expect_invalid(&opts, "queue");
    opts = rig->opts;
    opts.size = 0;
    expect_invalid(&opts, "size");
    opts = rig->opts;
    opts.workers = 1000000;
    expect_invalid(&opts, "workers");
    opts = rig->opts;
    opts.retry_min_ms = 5000;
    expect_invalid(&opts, "retry_min_ms");

    assert_int_equal(obx_consumer_open(&rig->opts, &consumer, &err), OBX_OK);
    assert_int_equal(obx_consumer_start(consumer, &err), OBX_E_INVALID);
    assert_int_equal(obx_consumer_subscribe(consumer, NULL, NULL, &err), OBX_E_INVALID);
    assert_int_equal(obx_consumer_subscribe(consumer, rig_apply, NULL, &err), OBX_OK);
    assert_int_equal(obx_consumer_subscribe(consumer, rig_apply, NULL, &err), OBX_E_INVALID);
    assert_int_equal(obx_consumer_drain(consumer, 0, &err), OBX_OK);
    assert_int_equal(rig_stats(consumer).state, OBX_CONSUMER_NEW);
    obx_consumer_close(consumer);
    obx_consumer_close(NULL);
    obx_consumer_stop(NULL);
}

/* ------------------------------------------------------------------ batches, memory, workers */

static void a_batch_gathers_no_longer_than_its_oldest_may_wait(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    uint64_t began_us = 0;

    rig_declare(rig);
    rig->opts.batch_wait_us = 400000;
    consumer = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(consumer, broker_connects, 1);
    RIG_WAIT_STAT(consumer, database_connects, 1);
    began_us = clock_now_us();
    for (int i = 0; i < 50;
         i++) { /* one after the other: each would restart a timer that counts from the last */
        char id[32];

        (void)snprintf(id, sizeof(id), "m-%03d", i);
        rig_put(rig, id, NULL, "ok");
        rig_flush(rig);
    }
    RIG_WAIT_STAT(consumer, acked, 50);
    assert_true(clock_now_us() - began_us >= 400000);
    assert_true(rig_stats(consumer).commits <= 1 + (clock_now_us() - began_us) / 400000);
    rig_stop(consumer);
    rig_audit(rig, 50);
}

static void memory_is_bounded_whatever_the_window(void **state)
{
    enum { BODY = 200000, COUNT = 100, MOST = 2000000 };
    struct rig *rig = *state;
    struct gate gate = {0};
    struct obx_consumer *consumer = NULL;
    char *body = calloc(1, BODY);
    struct bridge_message msg = {.body = {body, BODY}};

    assert_non_null(body);
    test_db_run(rig->db, "ALTER TABLE applied MODIFY body LONGBLOB");
    rig_declare(rig);
    for (int i = 0; i < COUNT; i++) {
        char id[32];

        (void)snprintf(id, sizeof(id), "m-%03d", i);
        msg.message_id = bytes_of(id);
        rig_put_message(rig, &msg);
    }
    rig_flush(rig);
    rig->opts.max_memory_bytes = MOST;
    consumer = rig_start(rig, wait_at_gate, &gate);
    assert_true(wait_until(RIG_WAIT_MS, has_entered, &gate));
    RIG_WAIT_STAT(consumer, in_flight_bytes, MOST);
    assert_true(rig_stats(consumer).in_flight_bytes < MOST + 2 * BODY);
    assert_true(rig_stats(consumer).in_flight < COUNT / 2);
    atomic_store(&gate.is_open, true);
    RIG_WAIT_STAT(consumer, acked, COUNT);
    rig_stop(consumer);
    rig_audit(rig, COUNT);
    free(body);
}

static void several_workers_keep_the_order_of_each_key(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig->opts.workers = 4;
    rig->opts.batch_max = 30;
    consumer = rig_start(rig, rig_apply, NULL);
    rig_fill(rig, "m", 3000, 13);
    rig_fill(rig, "n", 500, 0);
    RIG_WAIT_STAT(consumer, acked, 3500);
    assert_int_equal(rig_stats(consumer).databases_up, 4);
    rig_stop(consumer);
    rig_audit(rig, 3500);
}

/* ------------------------------------------------------------------ dedup rows */

static bool only_young_left(void *ctx)
{
    return rig_number(ctx, "SELECT COUNT(*) FROM inbox_applied WHERE consumer_group = 'group-a'") ==
           1500;
}

static void old_dedup_rows_are_removed_and_young_ones_kept(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    /* In the order of ids and against it; of this group and of another one; old and young. */
    test_db_run(
        rig->db,
        "INSERT INTO inbox_applied (consumer_group, message_id, applied_at)"
        " SELECT 'group-a', CONCAT('a', LPAD(seq, 6, '0')), UTC_TIMESTAMP(6) - INTERVAL 2 HOUR"
        " FROM " TEST_SEQ " WHERE seq <= 3000");
    test_db_run(rig->db, "INSERT INTO inbox_applied (consumer_group, message_id)"
                         " SELECT 'group-a', CONCAT('b', LPAD(seq, 6, '0')) FROM " TEST_SEQ
                         " WHERE seq <= 1500");
    test_db_run(
        rig->db,
        "INSERT INTO inbox_applied (consumer_group, message_id, applied_at)"
        " SELECT 'group-a', CONCAT('b', LPAD(seq, 6, '0'), 'x'), UTC_TIMESTAMP(6) - INTERVAL 2 HOUR"
        " FROM " TEST_SEQ " WHERE seq <= 1500");
    test_db_run(
        rig->db,
        "INSERT INTO inbox_applied (consumer_group, message_id, applied_at)"
        " SELECT 'group-b', CONCAT('a', LPAD(seq, 6, '0')), UTC_TIMESTAMP(6) - INTERVAL 2 HOUR"
        " FROM " TEST_SEQ " WHERE seq <= 100");
    rig_declare(rig);
    rig->opts.no_cleanup = false;
    rig->opts.cleanup_interval_ms = 50;
    rig->opts.dedup_retention_s = 3600;
    consumer = rig_start(rig, rig_apply, NULL);
    assert_true(wait_until(RIG_WAIT_MS, only_young_left, rig));
    RIG_WAIT_STAT(consumer, dedup_removed, 4500);
    assert_int_equal(
        rig_number(rig, "SELECT COUNT(*) FROM inbox_applied WHERE message_id LIKE 'b______'"),
        1500);
    assert_int_equal(
        rig_number(rig, "SELECT COUNT(*) FROM inbox_applied WHERE consumer_group = 'group-b'"),
        100);
    assert_int_equal(rig_stats(consumer).dedup_removed, 4500);
    rig_stop(consumer);
}

static void what_is_older_than_the_dedup_rows_is_refused(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    struct bridge_delivery *dead = NULL;
    const struct obx_header header = {bytes_of("cloudEvents:time"),
                                      OBX_H_TEXT,
                                      {.text = bytes_of("2001-01-01T00:00:00.000000Z")}};
    const struct bridge_message old = {.message_id = bytes_of("old-1"),
                                       .headers = &header,
                                       .header_count = 1,
                                       .body = bytes_of("ok")};

    rig_declare(rig);
    rig_put_message(rig, &old);
    rig_put(rig, "m-1", NULL, "ok");
    rig_flush(rig);
    consumer = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(consumer, acked, 2);
    RIG_WAIT_STAT(consumer, dead_lettered, 1);
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked", 0);
    rig_stop(consumer);
    rig_audit(rig, 1);
    dead = rig_take(rig, rig->dead, RIG_WAIT_MS);
    assert_non_null(dead);
    assert_non_null(strstr(rig_header(dead, "x-obx-reason"), "older than"));
    rig_put_message(rig, &dead->msg);
    rig_flush(rig);
    bridge_delivery_free(dead);
    rig->opts.accept_older_than_retention = true; /* the operator knows that it was not applied */
    consumer = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(consumer, applied, 1);
    rig_stop(consumer);
    rig_audit(rig, 2);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_drain_finishes_what_has_been_delivered),
        CASE(a_drain_that_takes_too_long_gives_back),
        CASE(a_drain_leaves_what_waits_for_a_retry_in_its_table),
        CASE(a_signal_handler_may_stop_it),
        CASE(closing_at_any_time_loses_nothing),
        CASE(misuse_is_refused),
        CASE(a_batch_gathers_no_longer_than_its_oldest_may_wait),
        CASE(memory_is_bounded_whatever_the_window),
        CASE(several_workers_keep_the_order_of_each_key),
        CASE(old_dedup_rows_are_removed_and_young_ones_kept),
        CASE(what_is_older_than_the_dedup_rows_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
