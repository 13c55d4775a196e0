/*
 * Silence: a consumer process that stands still, a session of which only its locks are left, a lock
 * that somebody does not give back. P3, P4, P7: the others of the group go on, nothing is applied
 * twice or out of order when the silent one comes back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "consumer_rig.h"
#include "wait.h"

enum { HELD = 50, OTHERS = 500, KEYS = 20 };

#define OTHERS_APPLIED "SELECT COUNT(*) FROM applied WHERE message_id LIKE 'q-%'"
#define HELD_APPLIED   "SELECT COUNT(*) FROM applied WHERE message_id LIKE 'p-%'"
#define ALL_ROWS       "SELECT COUNT(*) FROM inbox_parked"

/* A session of somebody else, in a transaction that has written dedup rows. */
static struct db *hold_dedup_rows(struct rig *rig, const char *prefix, int count)
{
    struct db *other = test_db_open(&rig->test_db.opts);
    char sql[256];

    test_db_run(other, "START TRANSACTION");
    for (int i = 0; i < count; i++) {
        (void)snprintf(sql, sizeof(sql),
                       "INSERT INTO inbox_applied (consumer_group, message_id) VALUES "
                       "('group-a', '%s-%06d')",
                       prefix, i);
        test_db_run(other, sql);
    }
    return other;
}

/* What was held at the head of the queue waits in the table, and costs the rest one lock wait. */
static void held_messages_hold_up_nobody(void **state)
{
    struct rig *rig = *state;
    struct db *other = NULL;
    struct obx_consumer *consumer = NULL;

    rig->opts.dead_letter_queue = NULL;
    rig_declare(rig);
    other = hold_dedup_rows(rig, "p", HELD);
    rig_fill(rig, "p", HELD, 0);
    rig_fill(rig, "q", OTHERS, KEYS);
    consumer = rig_start(rig, rig_apply, NULL);
    rig_wait_number(rig, OTHERS_APPLIED, OTHERS);
    assert_int_equal(rig_number(rig, HELD_APPLIED), 0);
    rig_wait_number(rig, ALL_ROWS, HELD);
    RIG_WAIT_STAT(consumer, acked, HELD + OTHERS); /* nothing waits at the broker */
    test_db_run(other, "ROLLBACK");
    db_close(other);
    rig_wait_number(rig, HELD_APPLIED, HELD);
    rig_wait_number(rig, ALL_ROWS, 0);
    assert_int_equal(rig_number(rig, "SELECT MAX(attempt) FROM applied"), 1); /* none was charged */
    rig_stop(consumer);
    rig_audit(rig, HELD + OTHERS);
}

/* The key of a message that is held waits behind it, whichever way the holder's transaction ends.
 */
static void check_key_of_held(struct rig *rig, const char *end, uint64_t applied)
{
    struct db *other = NULL;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    other = hold_dedup_rows(rig, "p", 1);
    for (int i = 0; i < 3; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "p-%06d", i);
        rig_put(rig, id, "k", "ok");
    }
    rig_put(rig, "q-000000", "other", "ok");
    rig_flush(rig);
    consumer = rig_start(rig, rig_apply, NULL);
    rig_wait_number(rig, OTHERS_APPLIED, 1);
    rig_wait_number(rig, ALL_ROWS " WHERE state = 'blocked'", 2);
    /* It is tried again and again meanwhile. */
    RIG_WAIT_STAT(consumer, taken_up, 2);
    assert_int_equal(rig_number(rig, HELD_APPLIED), 0);
    test_db_run(other, end);
    db_close(other);
    rig_wait_number(rig, ALL_ROWS, 0);
    assert_int_equal(rig_number(rig, HELD_APPLIED), applied);
    rig_stop(consumer);
    rig_audit(rig, applied + 1);
}

static void a_key_waits_for_what_is_undone(void **state)
{
    check_key_of_held(*state, "ROLLBACK", 3);
}

static void a_key_waits_for_what_is_committed(void **state)
{
    struct rig *rig = *state;

    check_key_of_held(rig, "COMMIT", 2);
}

/* ------------------------------------------------------------------ a row that a handler wants */

static enum obx_verdict take_stock(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct obx_err err = {0};

    (void)ctx;
    if (bytes_is(msg->body, "stock") && obx_tx_exec(tx, "UPDATE stock SET n = n - 1 WHERE id = 1",
                                                    OBX_NO_ARGS, NULL, &err) != OBX_OK)
        return OBX_RETRY;
    return rig_write(msg, tx);
}

/* Somebody keeps a row of the application's locked: the message that wants it waits, no attempt is
 * counted, and the tries become rare. */
static void a_locked_row_of_the_application_holds_up_one_message(void **state)
{
    struct rig *rig = *state;
    struct db *other = test_db_open(&rig->test_db.opts);
    struct obx_consumer *consumer = NULL;

    rig->opts.db_lock_wait_s = 1;   /* by default 3: the same, slower */
    rig->opts.retry_cap_ms = 30000; /* the default, which the rig shortens */
    test_db_run(other, "START TRANSACTION");
    test_db_run(other, "UPDATE stock SET n = 10 WHERE id = 1");
    rig_declare(rig);
    rig_put(rig, "p-000000", "k", "stock");
    rig_put(rig, "p-000001", "k", "ok");
    rig_fill(rig, "q", OTHERS, KEYS);
    consumer = rig_start(rig, take_stock, NULL);
    rig_wait_number(rig, OTHERS_APPLIED, OTHERS);
    /* Taken up again and parked again for longer than the shortest wait. */
    rig_wait_number(rig,
                    ALL_ROWS " WHERE reason_code = 'OBX_E_DB_LOCK_WAIT' AND claim = 0 AND "
                             "attempts = 0 AND next_at > parked_at + INTERVAL 3 SECOND",
                    1);
    test_db_run(other, "ROLLBACK");
    db_close(other);
    rig_wait_number(rig, ALL_ROWS, 0);
    rig_stop(consumer);
    rig_audit(rig, OTHERS + 2);
    assert_int_equal(rig_number(rig, "SELECT MAX(attempt) FROM applied"), 1);
}

/* ------------------------------------------------------------------ a process that stands still */

static int calls_before_stop;

static enum obx_verdict stop_myself(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    enum obx_verdict verdict = rig_write(msg, tx);

    (void)ctx;
    if (--calls_before_stop == 0)
        raise(SIGSTOP);
    return verdict;
}

/* Another process with the rig's options, whose n-th handler stops it. It has the table to itself
 * until then; returns when it stands still. */
static pid_t start_and_stop(struct rig *rig, int calls)
{
    int status = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        calls_before_stop = calls;
        (void)rig_start(rig, stop_myself, NULL);
        for (;;)
            pause();
    }
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    return child;
}

static void end_child(pid_t child)
{
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* The defaults are 20 seconds of heartbeat and a minute of silence in a session: the same, slower.
 */
static void be_quick(struct rig *rig)
{
    rig->opts.broker_heartbeat_s = 2;
    rig->opts.db_idle_s = 3;
}

/* Stopped inside a batch: the others take over its deliveries, and in the end its messages too. */
static void a_stopped_process_stops_nobody(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    pid_t child = 0;

    be_quick(rig);
    rig_declare(rig);
    rig_fill(rig, "p", HELD, 0);
    child = start_and_stop(rig, 10);
    rig_fill(rig, "q", OTHERS, 0);
    consumer = rig_start(rig, rig_apply, NULL);
    rig_wait_number(rig, OTHERS_APPLIED, OTHERS);
    rig_wait_applied(rig, HELD + OTHERS); /* it stands still all the while */
    assert_int_equal(kill(child, SIGCONT), 0);
    rig_fill(rig, "r", OTHERS, 0);
    rig_wait_applied(rig, HELD + 2 * OTHERS);
    rig_wait_number(rig, ALL_ROWS, 0);
    rig_stop(consumer);
    end_child(child);
    rig_audit(rig, HELD + 2 * OTHERS);
}

int main(int argc, char **argv)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        CASE(held_messages_hold_up_nobody),
        CASE(a_key_waits_for_what_is_undone),
        CASE(a_key_waits_for_what_is_committed),
        CASE(a_locked_row_of_the_application_holds_up_one_message),
        CASE(a_stopped_process_stops_nobody),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
