/*
 * Messages that fail, beside messages that do not: attempts, order per key, poison in a batch, dead
 * letters that the broker does not take, locks of other sessions. What fails costs the others
 * nothing but a second run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "consumer_rig.h"
#include "message_header.h"
#include "wait.h"

enum { GATHER_US = 300000, BATCH = 500, POISON_EVERY = 100 };

/* "reject", "retry" for ever, "retry N" until attempt N, anything else is applied. */
static enum obx_verdict obey(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    char body[64];

    (void)ctx;
    (void)bytes_to_text(msg->body, body, sizeof(body));
    if (rig_write(msg, tx) != OBX_APPLIED)
        return OBX_RETRY;
    if (strcmp(body, "reject") == 0)
        return OBX_REJECT;
    if (strcmp(body, "retry") == 0 ||
        (strncmp(body, "retry ", 6) == 0 && msg->attempt < (uint32_t)atoi(body + 6)))
        return OBX_RETRY;
    return OBX_APPLIED;
}

static void poison_in_a_batch_costs_the_others_nothing(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    struct obx_consumer_stats stats = {0};
    const uint64_t poison = BATCH / POISON_EVERY;

    rig_declare(rig);
    for (int i = 0; i < BATCH; i++) {
        char id[32];

        (void)snprintf(id, sizeof(id), "m-%04d", i);
        rig_put(rig, id, NULL, i % POISON_EVERY == POISON_EVERY / 2 ? "reject" : "ok");
    }
    rig_flush(rig);
    rig->opts.batch_max = BATCH;
    rig->opts.batch_wait_us = 10 * GATHER_US;
    rig->opts.batch_max_ms = RIG_WAIT_MS;
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, acked, BATCH);
    RIG_WAIT_STAT(consumer, dead_lettered, poison);
    stats = rig_stats(consumer);
    assert_int_equal(stats.applied, BATCH - poison);
    assert_int_equal(stats.dead_lettered, poison);
    assert_int_equal(stats.commits, 1); /* one batch, not undone */
    assert_int_equal(stats.reruns, 0);
    rig_stop(consumer);
    rig_audit(rig, BATCH - poison);
    for (uint64_t i = 0; i < poison; i++) {
        struct bridge_delivery *dead = rig_take(rig, rig->dead, RIG_WAIT_MS);

        assert_non_null(dead);
        bridge_delivery_free(dead);
    }
    rig_assert_empty(rig, rig->queue);
}

static void a_batch_of_poison_only(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    for (int i = 0; i < 100; i++) {
        char id[32];

        (void)snprintf(id, sizeof(id), "m-%04d", i);
        rig_put(rig, id, NULL, "reject");
    }
    rig_flush(rig);
    rig->opts.batch_wait_us = GATHER_US;
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, acked, 100);
    RIG_WAIT_STAT(consumer, dead_lettered, 100);
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked", 0);
    rig_stop(consumer);
    rig_audit(rig, 0);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_applied"), 0);
}

static void a_retry_keeps_its_key_in_order_and_lets_others_pass(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_put(rig, "m-000", "slow", "retry 4");
    for (int i = 1; i < 200; i++) {
        char id[32];

        (void)snprintf(id, sizeof(id), "m-%03d", i);
        rig_put(rig, id, i % 2 == 0 ? "slow" : "fast", i == 100 ? "retry 3" : "ok");
    }
    rig_put(rig, "m-200", NULL, "retry 2");
    rig_put(rig, "m-201", NULL, "ok");
    rig_flush(rig);
    rig->opts.retry_min_ms = 300;
    rig->opts.retry_cap_ms = 300;
    rig->opts.workers = 2;
    consumer = rig_start(rig, obey, NULL);
    rig_wait_applied(rig, 101);
    /* The key "fast" and the message without a key do not wait for "slow". */
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied WHERE ordering_key = 'slow'"),
                     0);
    assert_true(rig_number(rig, "SELECT COUNT(*) FROM inbox_parked WHERE state = 'blocked'") > 0);
    RIG_WAIT_STAT(consumer, acked, 202);
    rig_wait_applied(rig, 202);
    assert_int_equal(rig_stats(consumer).retried, 3 + 2 + 1);
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked", 0);
    rig_stop(consumer);
    rig_audit(rig, 202);
    assert_int_equal(rig_number(rig, "SELECT attempt FROM applied WHERE message_id = 'm-000'"), 4);
    assert_int_equal(rig_number(rig, "SELECT attempt FROM applied WHERE message_id = 'm-100'"), 3);
}

static void after_the_last_attempt_it_is_dead_lettered_and_its_key_goes_on(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    struct bridge_delivery *dead = NULL;

    rig_declare(rig);
    rig_put(rig, "m-0", "k", "retry");
    rig_put(rig, "m-1", "k", "ok");
    rig_put(rig, "m-2", "k", "ok");
    rig_flush(rig);
    rig->opts.max_attempts = 4;
    consumer = rig_start(rig, obey, NULL);
    rig_wait_applied(rig, 2);
    assert_int_equal(rig_stats(consumer).acked, 3);
    assert_int_equal(rig_stats(consumer).retried, 3);
    assert_int_equal(rig_stats(consumer).dead_lettered, 1);
    rig_stop(consumer);
    rig_audit(rig, 2);
    dead = rig_take(rig, rig->dead, RIG_WAIT_MS);
    assert_non_null(dead);
    assert_string_equal(rig_header(dead, "x-obx-attempts"), "4");
    assert_string_equal(rig_header(dead, "x-obx-reason-code"), "OBX_E_HANDLER");
    bridge_delivery_free(dead);
}

static void a_dead_letter_replayed_is_applied(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    struct bridge_delivery *dead = NULL;

    rig_declare(rig);
    rig_put(rig, "m-0", NULL, "retry 3");
    rig_flush(rig);
    rig->opts.max_attempts = 2;
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, dead_lettered, 1);
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked", 0);
    dead = rig_take(rig, rig->dead, RIG_WAIT_MS);
    assert_non_null(dead);
    dead->msg.body = bytes_of("ok");
    rig_put_message(rig, &dead->msg);
    rig_flush(rig);
    rig_wait_applied(rig, 1);
    assert_int_equal(rig_number(rig, "SELECT attempt FROM applied"), 1);
    bridge_delivery_free(dead);
    rig_stop(consumer);
    rig_audit(rig, 1);
}

static void what_the_dead_letter_queue_does_not_take_is_kept(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    const struct broker_arg quorum[] = {{.name = "x-queue-type", .text = "quorum"}};

    rig_declare(rig);
    broker_delete_queue(rig->admin, rig->dead);
    rig->opts.declare_topology = false;
    rig_put(rig, "m-0", "k", "reject");
    rig_put(rig, "m-1", "k", "ok");
    rig_put(rig, "m-2", NULL, "ok");
    rig_flush(rig);
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, dead_letter_failed, 2);
    rig_wait_applied(rig, 1); /* the message without a key; the key waits */
    assert_int_equal(rig_stats(consumer).dead_letter_pending, 1);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead'"), 1);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_parked WHERE state = 'blocked'"),
                     1);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied"), 1);
    broker_queue(rig->admin, rig->dead, quorum, 1);
    rig_wait_applied(rig, 2);
    assert_int_equal(rig_stats(consumer).dead_letter_pending, 0);
    rig_stop(consumer);
    rig_audit(rig, 2);
    assert_int_equal(broker_count(rig->admin, rig->dead), 1);
}

/* Headers that leave no room for ours: the body and the reason are kept. */
static void a_dead_letter_with_huge_headers_loses_them_and_not_itself(void **state)
{
    enum { HUGE = 126800 }; /* fills what a publisher of ours puts into a header frame */
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    struct bridge_delivery *dead = NULL;
    char *huge = calloc(1, HUGE);
    const struct obx_header header = {bytes_of("huge"), OBX_H_TEXT, {.text = {huge, HUGE}}};
    const struct bridge_message msg = {.message_id = bytes_of("m-0"),
                                       .headers = &header,
                                       .header_count = 1,
                                       .body = bytes_of("reject")};

    assert_non_null(huge);
    memset(huge, 'x', HUGE);
    rig_declare(rig);
    rig_put_message(rig, &msg);
    rig_flush(rig);
    rig->opts.max_memory_bytes = 0;
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, dead_lettered, 1);
    rig_stop(consumer);
    dead = rig_take(rig, rig->dead, RIG_WAIT_MS);
    assert_non_null(dead);
    assert_true(bytes_is(dead->msg.body, "reject"));
    assert_null(message_header(&dead->msg, "huge"));
    assert_string_equal(rig_header(dead, "x-obx-headers-dropped"), "1");
    assert_string_equal(rig_header(dead, "x-obx-reason-code"), "OBX_E_REJECTED");
    bridge_delivery_free(dead);
    free(huge);
}

static enum obx_verdict update_stock(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct obx_err err = {0};
    const char *sql = bytes_is(msg->body, "two") ? "UPDATE stock SET n = n + 1 WHERE id = 2"
                                                 : "UPDATE stock SET n = n + 1 WHERE id = 1";
    enum obx_code rc = obx_tx_exec(tx, sql, OBX_NO_ARGS, NULL, &err);

    (void)ctx;
    if (rc != OBX_OK)
        return OBX_APPLIED; /* wrong, and without consequence: the library has seen the error */
    return rig_write(msg, tx);
}

static void a_lock_of_another_session_holds_up_its_message_alone(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    struct db *other = test_db_open(&rig->test_db.opts);

    rig_declare(rig);
    rig->opts.db_lock_wait_s = 1;
    rig->opts.max_attempts = 2; /* waiting for a lock is no attempt */
    test_db_run(other, "START TRANSACTION");
    test_db_run(other, "UPDATE stock SET n = n WHERE id = 2");
    rig_put(rig, "m-0", NULL, "one");
    rig_put(rig, "m-1", NULL, "two");
    rig_put(rig, "m-2", NULL, "one");
    rig_flush(rig);
    rig->opts.batch_wait_us = GATHER_US;
    consumer = rig_start(rig, update_stock, NULL);
    rig_wait_applied(rig, 2);
    RIG_WAIT_STAT(consumer, reruns, 4);
    assert_int_equal(rig_stats(consumer).dead, 0);
    test_db_run(other, "COMMIT");
    rig_wait_applied(rig, 3);
    rig_stop(consumer);
    rig_audit(rig, 3);
    assert_int_equal(rig_number(rig, "SELECT SUM(n) FROM stock"), 3);
    db_close(other);
}

struct crossing {
    struct rig *rig;
    struct db *other;
    _Atomic int met;
    struct obx_err why;
    _Atomic bool is_victim; /* and why says so */
};

/* Takes row 1, lets the other session (which holds row 2) want row 1, then wants row 2. */
static enum obx_verdict cross(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct crossing *crossing = ctx;
    struct obx_err err = {0};
    enum obx_code rc =
        obx_tx_exec(tx, "UPDATE stock SET n = n + 1 WHERE id = 1", OBX_NO_ARGS, NULL, &err);

    if (rc == OBX_OK && bytes_is(msg->body, "cross")) {
        atomic_fetch_add(&crossing->met, 1);
        rc = obx_tx_exec(tx, "UPDATE stock SET n = n + 1 WHERE id = 2", OBX_NO_ARGS, NULL, &err);
        if (rc != OBX_OK) {
            crossing->why = err;
            atomic_store(&crossing->is_victim, true);
        }
    }
    if (rc == OBX_OK)
        rc = obx_tx_exec(tx, "INSERT INTO applied (message_id, body, attempt) VALUES (?, '', 1)",
                         OBX_ARGS(obx_data(msg->message_id)), NULL, &err);
    return OBX_APPLIED; /* swallows every error */
}

static bool has_met(void *ctx)
{
    struct crossing *crossing = ctx;

    return atomic_load(&crossing->met) > 0;
}

static bool is_victim(void *ctx)
{
    struct crossing *crossing = ctx;

    return atomic_load(&crossing->is_victim);
}

static void a_deadlock_is_run_again_and_not_half_committed(void **state)
{
    struct rig *rig = *state;
    struct crossing crossing = {.rig = rig, .other = test_db_open(&rig->test_db.opts)};
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};

    rig_declare(rig);
    test_db_run(crossing.other, "START TRANSACTION");
    test_db_run(crossing.other, "UPDATE stock SET n = n + 100 WHERE id = 2");
    /* More work in the other transaction, so that ours is the cheaper victim. */
    test_db_run(crossing.other, "CREATE TEMPORARY TABLE weight (id INT PRIMARY KEY) ENGINE=InnoDB");
    for (int i = 0; i < 50; i++)
        test_db_run(crossing.other, "INSERT INTO applied (message_id, body, attempt)"
                                    " VALUES ('other', '', 0)");
    rig_put(rig, "m-0", NULL, "ok");
    rig_put(rig, "m-1", NULL, "cross");
    rig_put(rig, "m-2", NULL, "ok");
    rig_flush(rig);
    rig->opts.batch_wait_us = GATHER_US;
    consumer = rig_start(rig, cross, &crossing);
    assert_true(wait_until(RIG_WAIT_MS, has_met, &crossing));
    /*
     * Whichever is the victim: ours is run again, the other one is rolled back by the close below.
     * The two sessions get their answers in any order, so ours has to be waited for.
     */
    if (db_exec(crossing.other, "UPDATE stock SET n = n + 100 WHERE id = 1", DB_NO_ARGS, NULL,
                &err) == OBX_OK) {
        assert_true(wait_until(RIG_WAIT_MS, is_victim, &crossing));
        assert_int_equal(crossing.why.code, OBX_E_DB_DEADLOCK);
    }
    db_close(crossing.other); /* rolls back */
    rig_wait_applied(rig, 3);
    rig_stop(consumer);
    rig_audit(rig, 3);
    assert_int_equal(rig_number(rig, "SELECT n FROM stock WHERE id = 1"), 3);
    assert_int_equal(rig_number(rig, "SELECT n FROM stock WHERE id = 2"), 1);
}

/* The trap of a lost COMMIT: the old session's transaction is still open when the message comes
 * again. */
static void waits_for_an_open_transaction_with_the_same_message(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    struct db *old = test_db_open(&rig->test_db.opts);

    rig_declare(rig);
    test_db_run(old, "START TRANSACTION");
    test_db_run(old,
                "INSERT INTO inbox_applied (consumer_group, message_id) VALUES ('group-a', 'm-0')");
    test_db_run(old, "INSERT INTO applied (message_id, body, attempt) VALUES ('m-0', '', 9)");
    rig_put(rig, "m-0", NULL, "ok");
    rig_flush(rig);
    consumer = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(consumer, batches, 1);
    assert_int_equal(rig_stats(consumer).acked, 0);
    test_db_run(old, "COMMIT");
    RIG_WAIT_STAT(consumer, acked, 1);
    assert_int_equal(rig_stats(consumer).duplicates, 1);

    test_db_run(old, "START TRANSACTION");
    test_db_run(old,
                "INSERT INTO inbox_applied (consumer_group, message_id) VALUES ('group-a', 'm-1')");
    rig_put(rig, "m-1", NULL, "ok");
    rig_flush(rig);
    RIG_WAIT_STAT(consumer, batches, 2);
    test_db_run(old, "ROLLBACK");
    RIG_WAIT_STAT(consumer, acked, 2);
    assert_int_equal(rig_stats(consumer).applied, 1);
    rig_stop(consumer);
    rig_audit(rig, 2);
    db_close(old);
}

static enum obx_verdict kill_own_connection(const struct obx_message *msg, struct obx_tx *tx,
                                            void *ctx)
{
    struct obx_err err = {0};

    (void)ctx;
    if (rig_write(msg, tx) == OBX_APPLIED && bytes_is(msg->body, "kill") &&
        obx_tx_exec(tx, "KILL CONNECTION_ID()", OBX_NO_ARGS, NULL, &err) == OBX_OK)
        fail_msg("the connection lives");
    return OBX_APPLIED;
}

static void a_message_that_kills_its_connection_is_dead_lettered(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_fill(rig, "a", 30, 0);
    rig_put(rig, "killer", NULL, "kill");
    rig_fill(rig, "b", 30, 0);
    rig->opts.max_attempts = 3;
    rig->opts.batch_wait_us = GATHER_US;
    consumer = rig_start(rig, kill_own_connection, NULL);
    RIG_WAIT_STAT(consumer, acked, 61);
    RIG_WAIT_STAT(consumer, dead_lettered, 1);
    rig_stop(consumer);
    rig_audit(rig, 60);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        CASE(poison_in_a_batch_costs_the_others_nothing),
        CASE(a_batch_of_poison_only),
        CASE(a_retry_keeps_its_key_in_order_and_lets_others_pass),
        CASE(after_the_last_attempt_it_is_dead_lettered_and_its_key_goes_on),
        CASE(a_dead_letter_replayed_is_applied),
        CASE(what_the_dead_letter_queue_does_not_take_is_kept),
        CASE(a_dead_letter_with_huge_headers_loses_them_and_not_itself),
        CASE(a_lock_of_another_session_holds_up_its_message_alone),
        CASE(a_deadlock_is_run_again_and_not_half_committed),
        CASE(waits_for_an_open_transaction_with_the_same_message),
        CASE(a_message_that_kills_its_connection_is_dead_lettered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
