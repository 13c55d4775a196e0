/*
 * What waits in inbox_parked: attempts counted exactly whatever dies, order per key through the
 * table, frozen and skipped keys, an operator's replays and discards, several processes, restarts.
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
#include "consumer_rig.h"
#include "process.h"
#include "wait.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { RANDOM_MESSAGES = 1000 };
#else
enum { RANDOM_MESSAGES = 5000 };
#endif

enum { KEYS = 300, FAIL_PERCENT = 30, FOLLOWERS = 5, GATHER_US = 200000, KILLS_MAX = 30 };

#define COUNT_ROWS(where) "SELECT COUNT(*) FROM inbox_parked WHERE " where
#define ALL_ROWS          "SELECT COUNT(*) FROM inbox_parked"

/* ------------------------------------------------------------------ handlers */

/* "fail" until a test says otherwise, "reject", anything else is applied. */
static enum obx_verdict obey(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    const _Atomic bool *is_fixed = ctx;

    if (rig_write(msg, tx) != OBX_APPLIED)
        return OBX_RETRY;
    if (bytes_is(msg->body, "reject") && (is_fixed == NULL || !atomic_load(is_fixed))) {
        obx_tx_reason(tx, "not this one");
        return OBX_REJECT;
    }
    if (bytes_is(msg->body, "fail") && (is_fixed == NULL || !atomic_load(is_fixed))) {
        obx_tx_reason(tx, "not yet");
        return OBX_RETRY;
    }
    return OBX_APPLIED;
}

static unsigned mix(struct obx_bytes id, uint32_t attempt)
{
    const unsigned char *p = id.p;
    uint64_t hash = attempt * UINT64_C(0x9E3779B97F4A7C15);

    for (size_t i = 0; i < id.len; i++)
        hash = (hash ^ p[i]) * UINT64_C(1099511628211);
    hash ^= hash >> 29;
    return (unsigned)(hash % 100);
}

/* Fails by a die that says the same for the same attempt of the same message. */
static enum obx_verdict roll(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    (void)ctx;
    if (rig_write(msg, tx) != OBX_APPLIED)
        return OBX_RETRY;
    return mix(msg->message_id, msg->attempt) < FAIL_PERCENT ? OBX_RETRY : OBX_APPLIED;
}

/* ------------------------------------------------------------------ attempts */

static void check_attempts(struct rig *rig)
{
    struct db_rows *rows = NULL;
    struct obx_err err = {0};

    if (db_query(rig->db, "SELECT message_id, attempt FROM applied", DB_NO_ARGS, &rows, &err) !=
        OBX_OK)
        fail_msg("%s", err.text);
    while (db_rows_next(rows)) {
        struct obx_bytes id = db_rows_bytes(rows, 0);
        uint32_t attempt = 1;

        while (mix(id, attempt) < FAIL_PERCENT)
            attempt++;
        if (attempt != db_rows_u64(rows, 1))
            fail_msg("%.*s was applied by attempt %" PRIu64 ", not %" PRIu32, (int)id.len,
                     (const char *)id.p, db_rows_u64(rows, 1), attempt);
    }
    db_rows_free(rows);
}

/* OBX_TEST_MESSAGES=50000 for a long run by hand. */
static int random_messages(void)
{
    const char *wanted = getenv("OBX_TEST_MESSAGES");

    return wanted != NULL ? atoi(wanted) : RANDOM_MESSAGES;
}

static void failing_at_random_keeps_order_and_counts(void **state)
{
    enum { STEPS = 20 };
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    const int messages = random_messages();

    rig_declare(rig);
    rig_fill(rig, "m", messages, KEYS);
    rig->opts.workers = 2;
    rig->opts.max_attempts = 1000;
    rig->opts.retry_min_ms = 5;
    rig->opts.retry_cap_ms = 20;
    consumer = rig_start(rig, roll, NULL);
    for (int step = 1; step <= STEPS; step++)
        RIG_WAIT_STAT(consumer, applied, (uint64_t)messages * (uint64_t)step / STEPS);
    rig_wait_number(rig, ALL_ROWS, 0);
    assert_int_equal(rig_stats(consumer).duplicates, 0);
    assert_int_equal(rig_stats(consumer).dead, 0);
    rig_stop(consumer);
    rig_audit(rig, (uint64_t)messages);
    check_attempts(rig);
    rig_assert_empty(rig, rig->queue);
}

static void a_restart_goes_on_where_it_was(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    _Atomic bool is_fixed = false;

    rig_declare(rig);
    rig_put(rig, "m-0", "k", "fail");
    rig_put(rig, "m-1", "k", "ok");
    rig_put(rig, "m-2", NULL, "fail");
    rig_put(rig, "m-3", "other", "ok");
    rig_flush(rig);
    consumer = rig_start(rig, obey, &is_fixed);
    rig_wait_applied(rig, 1);
    RIG_WAIT_STAT(consumer, retried, 4);
    obx_consumer_close(consumer); /* in the middle of it */
    assert_int_equal(rig_number(rig, ALL_ROWS), 3);
    assert_true(rig_number(rig, "SELECT MIN(attempts) FROM inbox_parked WHERE state = 'waiting'") >=
                1);
    /* What waits does not depend on the broker: its queue may lose everything. */
    broker_delete_queue(rig->admin, rig->queue);
    rig_declare(rig);
    atomic_store(&is_fixed, true);
    rig->opts.retry_cap_ms = 20;
    consumer = rig_start(rig, obey, &is_fixed);
    rig_wait_applied(rig, 4);
    rig_wait_number(rig, ALL_ROWS, 0);
    rig_stop(consumer);
    rig_audit(rig, 4);
    assert_true(rig_number(rig, "SELECT attempt FROM applied WHERE message_id = 'm-0'") > 1);
    assert_int_equal(rig_number(rig, "SELECT attempt FROM applied WHERE message_id = 'm-1'"), 1);
}

/* Two processes have the same rows: each attempt is made by one of them. */
static void two_processes_share_the_rows(void **state)
{
    enum { ROWS = 300 };
    struct rig *rig = *state;
    struct obx_consumer *both[2] = {NULL, NULL};

    rig_declare(rig);
    rig_fill(rig, "m", ROWS, 0);
    rig->opts.max_attempts = 1000;
    rig->opts.retry_min_ms = 1;
    rig->opts.retry_cap_ms = 5;
    rig->opts.batch_max = 20;
    rig->opts.prefetch = 50;
    for (size_t i = 0; i < 2; i++)
        both[i] = rig_start(rig, roll, NULL);
    rig_wait_applied(rig, ROWS);
    rig_wait_number(rig, ALL_ROWS, 0);
    assert_true(rig_stats(both[0]).taken_up > 0);
    assert_true(rig_stats(both[1]).taken_up > 0);
    for (size_t i = 0; i < 2; i++)
        rig_stop(both[i]);
    rig_audit(rig, ROWS);
    check_attempts(rig);
}

static enum obx_verdict fail_first(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    _Atomic int *left = ctx;

    if (atomic_load(left) > 0) {
        atomic_fetch_sub(left, 1);
        return OBX_RETRY;
    }
    return rig_write(msg, tx);
}

/* Somebody (a report, an operator) has locked a row while the head of its key is taken up: those
 * after it wait for it. */
static void a_locked_row_keeps_its_place(void **state)
{
    enum { MESSAGES = 6 };
    struct rig *rig = *state;
    struct db *other = test_db_open(&rig->test_db.opts);
    struct db_rows *rows = NULL;
    struct obx_consumer *consumer = NULL;
    _Atomic int left = 1;
    struct obx_err err = {0};

    rig->opts.retry_min_ms = rig->opts.retry_cap_ms = 1500; /* time to lock before the next try */
    rig_declare(rig);
    rig_fill(rig, "m", MESSAGES, 1);
    consumer = rig_start(rig, fail_first, &left);
    rig_wait_number(rig, ALL_ROWS, MESSAGES);
    test_db_run(other, "START TRANSACTION");
    if (db_query(other,
                 "SELECT id FROM inbox_parked WHERE consumer_group = 'group-a' AND "
                 "message_id = 'm-000002' FOR UPDATE",
                 DB_NO_ARGS, &rows, &err) != OBX_OK)
        fail_msg("%s", err.text);
    assert_int_equal(db_rows_count(rows), 1);
    db_rows_free(rows);
    rig_wait_applied(rig, 2);
    /* What follows has had its chances by when others that fail have been tried again. */
    rig_put(rig, "n-000000", "other", "ok");
    rig_put(rig, "n-000001", "third", "ok");
    rig_flush(rig);
    atomic_store(&left, 1);
    rig_wait_number(rig, "SELECT COUNT(*) FROM applied WHERE message_id LIKE 'n%'", 2);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied WHERE message_id LIKE 'm%'"), 2);
    test_db_run(other, "ROLLBACK");
    db_close(other);
    rig_wait_applied(rig, MESSAGES + 2);
    rig_wait_number(rig, ALL_ROWS, 0);
    rig_stop(consumer);
    rig_audit(rig, MESSAGES + 2);
}

/* The oldest row in doubt is held: its owner is slower than its claim, or stands still. */
static void a_held_row_in_doubt_holds_up_no_other(void **state)
{
    enum { MESSAGES = 3 };
    struct rig *rig = *state;
    struct db *owner = test_db_open(&rig->test_db.opts);
    _Atomic int left = MESSAGES;
    struct obx_consumer *consumer = NULL;

    rig->opts.retry_min_ms = rig->opts.retry_cap_ms = RIG_WAIT_MS; /* due when this test says so */
    rig_declare(rig);
    rig_fill(rig, "m", MESSAGES, 0);
    consumer = rig_start(rig, fail_first, &left);
    rig_wait_number(rig, ALL_ROWS, MESSAGES);
    rig_stop(consumer);
    test_db_run(rig->db, "UPDATE inbox_parked SET next_at = UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE, "
                         "claim = IF(message_id = 'm-000002', 0, 7), claim_size = 1");
    test_db_run(rig->db, "UPDATE inbox_parked SET next_at = next_at - INTERVAL 1 MINUTE "
                         "WHERE message_id = 'm-000000'");
    test_db_run(owner, "START TRANSACTION");
    test_db_run(owner, "UPDATE inbox_parked SET attempts = attempts WHERE consumer_group = "
                       "'group-a' AND message_id = 'm-000000'");
    consumer = rig_start(rig, fail_first, &left);
    rig_wait_applied(rig, MESSAGES - 1);
    assert_int_equal(rig_number(rig, ALL_ROWS), 1);
    test_db_run(owner, "ROLLBACK");
    db_close(owner);
    rig_wait_applied(rig, MESSAGES);
    rig_wait_number(rig, ALL_ROWS, 0);
    rig_stop(consumer);
    rig_audit(rig, MESSAGES);
}

/* The oldest row has lost its body: it waits for an operator, and the others do not. */
static void an_unreadable_row_holds_up_no_other(void **state)
{
    enum { MESSAGES = 3 };
    struct rig *rig = *state;
    _Atomic int left = MESSAGES;
    struct obx_consumer *consumer = NULL;

    rig->opts.retry_min_ms = rig->opts.retry_cap_ms = RIG_WAIT_MS; /* due when this test says so */
    rig_declare(rig);
    rig_fill(rig, "m", MESSAGES, 0);
    consumer = rig_start(rig, fail_first, &left);
    rig_wait_number(rig, ALL_ROWS, MESSAGES);
    rig_stop(consumer);
    test_db_run(rig->db, "UPDATE inbox_parked SET next_at = UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE");
    test_db_run(rig->db,
                "UPDATE inbox_parked SET next_at = next_at - INTERVAL 1 MINUTE, pieces = 2 "
                "WHERE message_id = 'm-000000'");
    consumer = rig_start(rig, fail_first, &left);
    rig_wait_applied(rig, MESSAGES - 1);
    rig_wait_number(rig, ALL_ROWS, 1);
    test_db_run(rig->db, "UPDATE inbox_parked SET pieces = 0, next_at = UTC_TIMESTAMP(6)");
    rig_wait_applied(rig, MESSAGES);
    rig_wait_number(rig, ALL_ROWS, 0);
    rig_stop(consumer);
    rig_audit(rig, MESSAGES);
}

struct lock_watch {
    struct rig *rig;
    _Atomic int calls;
    _Atomic uint64_t free_rows;
};

/* The head fails once, alone; then its follower does, which undoes the head: while that runs again,
 * its row has to be locked still. */
static enum obx_verdict watch_locks(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct lock_watch *watch = ctx;
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    struct db *other = NULL;

    switch (atomic_fetch_add(&watch->calls, 1)) {
    case 0: /* m-000000, a delivery */
    case 2: /* m-000001, out of the table */
        return OBX_RETRY;
    case 3: /* m-000000 again */
        other = test_db_open(&watch->rig->test_db.opts);
        if (db_query(other,
                     "SELECT id FROM inbox_parked FORCE INDEX (PRIMARY) FOR UPDATE SKIP LOCKED",
                     DB_NO_ARGS, &rows, &err) != OBX_OK)
            fail_msg("%s", err.text);
        atomic_store(&watch->free_rows, db_rows_count(rows));
        db_rows_free(rows);
        db_close(other);
        break;
    default:
        break;
    }
    return rig_write(msg, tx);
}

static void a_failing_message_gives_no_lock_back(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    struct lock_watch watch = {.rig = rig, .free_rows = 99};

    rig_declare(rig);
    rig_fill(rig, "m", 2, 1);
    consumer = rig_start(rig, watch_locks, &watch);
    rig_wait_applied(rig, 2);
    rig_wait_number(rig, ALL_ROWS, 0);
    rig_stop(consumer);
    assert_int_equal(atomic_load(&watch.free_rows), 0);
    rig_audit(rig, 2);
}

/* ------------------------------------------------------------------ a handler that kills its
 * process */

#define KILLER_ENV "OBX_TEST_KILLER"

static enum obx_verdict kill_process(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    (void)ctx;
    if (bytes_is(msg->body, "kill"))
        raise(SIGKILL);
    return rig_write(msg, tx);
}

/* The child: a consumer with the parent's rig, until it is stopped. */
static int be_consumer(char **argv)
{
    struct broker broker;
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};
    struct obx_consumer_opts opts = {.size = sizeof(opts), .group = "group-a", .queue = argv[1]};

    if (!broker_from_env(&broker))
        return EXIT_FAILURE;
    opts.broker_addresses = broker.address;
    opts.broker_vhost = broker.vhost;
    opts.broker_user = broker.user;
    opts.broker_password = broker.password;
    opts.db_host = argv[2];
    opts.db_port = (uint16_t)strtoul(argv[3], NULL, 10);
    opts.db_user = argv[4];
    opts.db_password = argv[5];
    opts.db_name = argv[6];
    opts.max_attempts = 3;
    opts.retry_min_ms = 10;
    opts.retry_cap_ms = 50;
    opts.batch_wait_us = GATHER_US;
    opts.no_cleanup = true;
    if (obx_consumer_open(&opts, &consumer, &err) != OBX_OK ||
        obx_consumer_subscribe(consumer, kill_process, NULL, &err) != OBX_OK ||
        obx_consumer_run(consumer, &err) != OBX_OK)
        (void)fprintf(stderr, "%s\n", err.text);
    obx_consumer_close(consumer);
    return EXIT_FAILURE;
}

static struct proc *start_child(struct rig *rig)
{
    const struct db_opts *db = &rig->test_db.opts;
    const char *const env[] = {KILLER_ENV "=1", NULL};
    char port[16];
    const char *const argv[] = {"/proc/self/exe", rig->queue,   db->host,     port,
                                db->user,         db->password, db->database, NULL};
    const struct proc_opts opts = {.argv = argv, .env = env};
    struct proc *proc = NULL;

    (void)snprintf(port, sizeof(port), "%u", (unsigned)db->port);
    proc = proc_start(&opts);
    assert_non_null(proc);
    return proc;
}

static bool is_over(void *ctx)
{
    return rig_number(ctx, COUNT_ROWS("state = 'dead'")) == 1;
}

static void a_handler_that_kills_its_process_uses_up_its_attempts(void **state)
{
    struct rig *rig = *state;
    int kills = 0;

    rig_declare(rig);
    rig_fill(rig, "a", 30, 0);
    rig_put(rig, "killer", "k", "kill");
    rig_put(rig, "later", "k", "ok");
    rig_fill(rig, "b", 30, 0);
    for (bool is_dead = false; !is_dead; kills++) {
        struct proc *proc = start_child(rig);
        struct proc_exit how = {0};
        const int64_t deadline = wait_now_ms() + RIG_WAIT_MS;

        assert_true(kills < KILLS_MAX);
        while (proc_is_alive(proc) && !is_dead && wait_now_ms() < deadline)
            is_dead = wait_until(100, is_over, rig);
        if (is_dead)
            proc_kill(proc);
        else if (!proc_wait(proc, RIG_WAIT_MS, &how) || how.signal != SIGKILL)
            fail_msg("the consumer ended by itself: %d", how.code);
        proc_destroy(proc);
    }
    /* Twice as a delivery, once in a batch of the table, then its three attempts: those beside it
     * paid for none of that. */
    print_message("  processes started: %d\n", kills);
    assert_true(kills >= 4 && kills <= 9);
    assert_int_equal(
        rig_number(rig, "SELECT attempts FROM inbox_parked WHERE message_id = 'killer'"), 3);
    assert_int_equal(rig_number(rig, COUNT_ROWS("message_id = 'later' AND state = 'blocked'")), 1);
    rig_wait_applied(rig, 60);
    rig_audit(rig, 60);
    assert_int_equal(rig_number(rig, "SELECT MAX(attempt) FROM applied"), 1);
}

/* ------------------------------------------------------------------ the dead, and their keys */

static void put_key_of_dead(struct rig *rig)
{
    rig_declare(rig);
    rig->opts.dead_letter_queue = NULL;
    rig_put(rig, "m-0", "k", "reject");
    for (int i = 1; i <= FOLLOWERS; i++) {
        char id[32];

        (void)snprintf(id, sizeof(id), "m-%d", i);
        rig_put(rig, id, "k", "ok");
    }
    rig_put(rig, "n-0", "other", "ok");
    rig_flush(rig);
}

static void request(struct rig *rig, const char *what, const char *where)
{
    char sql[512];

    (void)snprintf(sql, sizeof(sql),
                   "UPDATE inbox_parked SET request = '%s', requested_at = UTC_TIMESTAMP(6), "
                   "requested_by = 'test', next_at = UTC_TIMESTAMP(6) "
                   "WHERE state = 'dead' AND request IS NULL AND %s",
                   what, where);
    test_db_run(rig->db, sql);
}

static void a_dead_message_freezes_its_key(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    _Atomic bool is_fixed = false;

    put_key_of_dead(rig);
    consumer = rig_start(rig, obey, &is_fixed);
    RIG_WAIT_STAT(consumer, acked, FOLLOWERS + 2);
    rig_wait_applied(rig, 1);
    assert_int_equal(rig_number(rig, COUNT_ROWS("state = 'blocked'")), FOLLOWERS);
    assert_int_equal(rig_number(rig, COUNT_ROWS("state = 'dead' AND reason = 'not this one' AND "
                                                "reason_code = 'OBX_E_REJECTED' AND attempts = 1 "
                                                "AND first_failed_at IS NOT NULL AND "
                                                "last_failed_at >= first_failed_at AND "
                                                "replay_until > parked_at AND next_at IS NULL")),
                     1);
    assert_int_equal(rig_stats(consumer).dead, 1);
    atomic_store(&is_fixed, true);
    request(rig, "replay", "message_id = 'm-0'");
    rig_wait_applied(rig, FOLLOWERS + 2);
    rig_wait_number(rig, ALL_ROWS, 0);
    assert_int_equal(rig_stats(consumer).replayed, 1);
    rig_stop(consumer);
    rig_audit(rig, FOLLOWERS + 2);
}

static void a_discarded_message_lets_its_key_go_on(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    put_key_of_dead(rig);
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, acked, FOLLOWERS + 2);
    request(rig, "discard", "message_id = 'm-0'");
    rig_wait_applied(rig, FOLLOWERS + 1);
    rig_wait_number(rig, ALL_ROWS, 0);
    assert_int_equal(rig_stats(consumer).discarded, 1);
    rig_stop(consumer);
    rig_audit(rig, FOLLOWERS + 1);
}

static void a_dead_message_may_be_skipped(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    _Atomic bool is_fixed = false;

    put_key_of_dead(rig);
    rig->opts.on_dead = OBX_ON_DEAD_SKIP;
    consumer = rig_start(rig, obey, &is_fixed);
    RIG_WAIT_STAT(consumer, acked, FOLLOWERS + 2);
    rig_wait_applied(rig, FOLLOWERS + 1);
    assert_int_equal(rig_number(rig, ALL_ROWS), 1);
    atomic_store(&is_fixed, true);
    request(rig, "replay", "message_id = 'm-0'");
    rig_wait_applied(rig, FOLLOWERS + 2);
    rig_wait_number(rig, ALL_ROWS, 0);
    rig_stop(consumer);
}

/* The policy is the consumer's, not the row's: who changes it sets frozen keys free. */
static void a_frozen_key_is_set_free_by_the_other_policy(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    put_key_of_dead(rig);
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, acked, FOLLOWERS + 2);
    rig_stop(consumer);
    rig->opts.on_dead = OBX_ON_DEAD_SKIP;
    consumer = rig_start(rig, obey, NULL);
    rig_wait_applied(rig, FOLLOWERS + 1);
    rig_stop(consumer);
    rig_audit(rig, FOLLOWERS + 1);
    assert_int_equal(rig_number(rig, ALL_ROWS), 1);
}

/* ------------------------------------------------------------------ receipts and copies */

#define RECEIPTS "rowpost.receipts.consumer-parked-test"

static void declare_receipts(struct rig *rig)
{
    const struct broker_arg quorum[] = {{.name = "x-queue-type", .text = "quorum"}};

    broker_queue(rig->admin, RECEIPTS, quorum, 1);
}

static void put_with_receipt(struct rig *rig, const char *id, const char *key, const char *body)
{
    const struct obx_header headers[] = {
        {bytes_of("x-obx-receipt-to"), OBX_H_TEXT, {.text = bytes_of(RECEIPTS)}},
        {bytes_of("x-obx-receipt-from"), OBX_H_TEXT, {.text = bytes_of("group-a")}},
        {bytes_of("x-obx-receipt-token"), OBX_H_TEXT, {.text = bytes_of("token")}},
        {bytes_of("cloudEvents:partitionkey"), OBX_H_TEXT, {.text = bytes_of(key)}},
    };
    const struct bridge_message msg = {.message_id = bytes_of(id),
                                       .headers = headers,
                                       .header_count = key != NULL ? 4 : 3,
                                       .body = bytes_of(body)};

    rig_put_message(rig, &msg);
}

static void a_copy_of_a_rejected_message_is_not_applied(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    _Atomic bool is_fixed = false;

    rig_declare(rig);
    declare_receipts(rig);
    rig->opts.dead_letter_queue = NULL;
    put_with_receipt(rig, "m-0", NULL, "reject");
    rig_flush(rig);
    consumer = rig_start(rig, obey, &is_fixed);
    RIG_WAIT_STAT(consumer, dead, 1);
    rig_wait_number(rig,
                    "SELECT COUNT(*) FROM inbox_applied WHERE outcome = 'rejected' AND "
                    "reason = 'not this one'",
                    1);
    atomic_store(&is_fixed, true);
    request(rig, "discard", "message_id = 'm-0'");
    rig_wait_number(rig, ALL_ROWS, 0);
    put_with_receipt(rig, "m-0", NULL, "reject");
    rig_flush(rig);
    RIG_WAIT_STAT(consumer, duplicates, 1);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied"), 0);
    rig_stop(consumer);
    broker_delete_queue(rig->admin, RECEIPTS);
}

/* A plain replay finds the dedup row and does nothing more; a forced one takes it back. */
static void a_rejected_message_is_replayed_only_by_force(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    _Atomic bool is_fixed = false;

    rig_declare(rig);
    declare_receipts(rig);
    rig->opts.dead_letter_queue = NULL;
    put_with_receipt(rig, "m-0", NULL, "reject");
    put_with_receipt(rig, "m-1", NULL, "reject");
    rig_flush(rig);
    consumer = rig_start(rig, obey, &is_fixed);
    RIG_WAIT_STAT(consumer, dead, 2);
    assert_int_equal(rig_number(rig, COUNT_ROWS("is_reported = 1")), 2);
    atomic_store(&is_fixed, true);
    request(rig, "replay", "message_id = 'm-0'");
    request(rig, "force-replay", "message_id = 'm-1'");
    rig_wait_number(rig, ALL_ROWS, 0);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied WHERE message_id = 'm-1'"), 1);
    rig_stop(consumer);
    rig_audit(rig, 1);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_applied WHERE outcome IS NULL"),
                     1);
    broker_delete_queue(rig->admin, RECEIPTS);
}

/* Copies of what waits, of what is behind, and of what was applied before its key was frozen. */
static void copies_come_to_nothing_more(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    _Atomic bool is_fixed = false;

    rig_declare(rig);
    rig->opts.dead_letter_queue = NULL;
    rig_put(rig, "m-0", "k", "ok");
    rig_put(rig, "m-1", "k", "reject");
    rig_put(rig, "m-2", "k", "ok");
    rig_flush(rig);
    consumer = rig_start(rig, obey, &is_fixed);
    RIG_WAIT_STAT(consumer, acked, 3);
    rig_wait_applied(rig, 1);
    for (int i = 0; i < 3; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "m-%d", i);
        rig_put(rig, id, "k", "ok");
    }
    rig_flush(rig);
    RIG_WAIT_STAT(consumer, acked, 6);
    assert_int_equal(rig_stats(consumer).duplicates, 1);
    assert_int_equal(rig_number(rig, ALL_ROWS), 2);
    atomic_store(&is_fixed, true);
    request(rig, "replay", "message_id = 'm-1'");
    rig_wait_applied(rig, 3);
    rig_wait_number(rig, ALL_ROWS, 0);
    rig_stop(consumer);
    rig_audit(rig, 3);
}

/* ------------------------------------------------------------------ the same message */

/* What comes out of the table is what went in; cmocka's checks may not run on this thread, so what
 * is wrong is a rejection. */
static enum obx_verdict compare(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    const struct bridge_message *sent = ctx;
    bool is_same = bytes_equal(msg->body, sent->body) && msg->outbox_id == 77 &&
                   bytes_is(msg->topic, "order.created") &&
                   bytes_is(msg->content_type, "a=b%;\n") &&
                   bytes_equal(msg->ordering_key, sent->headers[0].v.text);

    for (size_t i = 0; is_same && i < sent->header_count; i++) {
        char name[64];

        (void)bytes_to_text(sent->headers[i].name, name, sizeof(name));
        is_same = obx_message_header(msg, name) != NULL;
    }
    if (!is_same)
        return OBX_REJECT;
    if (msg->attempt == 1)
        return OBX_RETRY;
    return obx_message_header(msg, "float")->v.f64 == 0.1 &&
                   obx_message_header(msg, "yes")->v.yes &&
                   obx_message_header(msg, "none")->type == OBX_H_NULL
               ? rig_write(msg, tx)
               : OBX_REJECT;
}

static void it_is_the_same_message_the_second_time(void **state)
{
    enum { LONG_KEY = 700 };
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    char key[LONG_KEY];
    const struct obx_header headers[] = {
        {bytes_of("cloudEvents:partitionkey"), OBX_H_TEXT, {.text = {key, LONG_KEY}}},
        {bytes_of("x-obx-outbox-id"), OBX_H_I64, {.i64 = 77}},
        {bytes_of("text = %41\n"), OBX_H_TEXT, {.text = {"\0\r\n=%", 5}}},
        {bytes_of("float"), OBX_H_F64, {.f64 = 0.1}},
        {bytes_of("yes"), OBX_H_BOOL, {.yes = true}},
        {bytes_of("none"), OBX_H_NULL, {.i64 = 0}},
        {bytes_of("empty"), OBX_H_TEXT, {.text = {"", 0}}},
    };
    struct bridge_message msg = {.message_id = bytes_of("m-0"),
                                 .type = bytes_of("order.created"),
                                 .content_type = bytes_of("a=b%;\n"),
                                 .timestamp_s = 1700000000,
                                 .headers = headers,
                                 .header_count = sizeof(headers) / sizeof(headers[0]),
                                 .body = {"\0binary\xff", 8}};

    memset(key, 'k', sizeof(key));
    test_db_run(rig->db, "ALTER TABLE applied MODIFY ordering_key VARBINARY(1000) NULL");
    rig_declare(rig);
    rig_put_message(rig, &msg);
    rig_flush(rig);
    consumer = rig_start(rig, compare, &msg);
    rig_wait_applied(rig, 1);
    rig_wait_number(rig, ALL_ROWS, 0);
    rig_stop(consumer);
    assert_int_equal(rig_number(rig, "SELECT attempt FROM applied"), 2);
}

/* No dedup row could be written for it. Under a made-up id it can be replayed. */
static void an_id_that_is_too_long_is_dead(void **state)
{
    enum { LONG_ID = 300 };
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    char id[LONG_ID + 1] = "";

    memset(id, 'i', LONG_ID);
    rig_declare(rig);
    rig->opts.dead_letter_queue = NULL;
    broker_put_header(rig->admin, rig->queue, "cloudEvents:id", id, "ok");
    consumer = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(consumer, dead, 1);
    assert_int_equal(rig_number(rig, COUNT_ROWS("reason_code = 'OBX_E_TOO_LARGE'")), 1);
    request(rig, "replay", "message_id LIKE 'no-id-%'");
    rig_wait_applied(rig, 1);
    rig_wait_number(rig, ALL_ROWS, 0);
    rig_stop(consumer);
    rig_audit(rig, 1);
}

/* Poison at the head of 500: what the others pay is a second run of their chunk. */
static void poison_in_a_batch_of_500(void **state)
{
    enum { BATCH = 500, POISON_AT = 250 };
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    for (int i = 0; i < BATCH; i++) {
        char id[32];

        (void)snprintf(id, sizeof(id), "m-%04d", i);
        rig_put(rig, id, "k", i == POISON_AT ? "fail" : "ok");
    }
    rig_flush(rig);
    rig->opts.dead_letter_queue = NULL;
    rig->opts.on_dead = OBX_ON_DEAD_SKIP;
    rig->opts.max_attempts = 3;
    rig->opts.batch_max = BATCH;
    rig->opts.batch_wait_us = 10 * GATHER_US;
    rig->opts.batch_max_ms = RIG_WAIT_MS;
    consumer = rig_start(rig, obey, NULL);
    rig_wait_applied(rig, BATCH - 1);
    RIG_WAIT_STAT(consumer, dead, 1);
    assert_int_equal(rig_stats(consumer).acked, BATCH);
    assert_int_equal(rig_stats(consumer).reruns, 0);
    rig_stop(consumer);
    rig_audit(rig, BATCH - 1);
    assert_int_equal(rig_number(rig, "SELECT attempts FROM inbox_parked WHERE state = 'dead'"), 3);
}

/* MySQL with a binary log lets nobody else make triggers. */
static void as_root(const struct rig *rig, const char *sql)
{
    struct db_opts opts = test_db_root_opts();
    struct db *root = NULL;

    opts.database = rig->test_db.opts.database;
    root = test_db_open(&opts);
    test_db_run(root, sql);
    db_close(root);
}

/* Somebody's trigger refuses its row: it waits at the broker, and nobody waits for it. */
static void a_row_that_the_table_refuses_holds_up_nobody(void **state)
{
    enum { OTHERS = 50 };
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    as_root(rig, "CREATE TRIGGER refuse BEFORE INSERT ON inbox_parked FOR EACH ROW "
                 "IF NEW.message_id = 'refused' THEN "
                 "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not here'; END IF");
    rig_declare(rig);
    rig_fill(rig, "a", OTHERS, 0);
    rig_put(rig, "refused", NULL, "reject");
    rig_put(rig, "other", NULL, "reject");
    rig_fill(rig, "b", OTHERS, 0);
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, applied, 2 * OTHERS);
    RIG_WAIT_STAT(consumer, dead, 1);
    RIG_WAIT_STAT(consumer, acked, 2 * OTHERS + 1);
    assert_int_equal(rig_stats(consumer).in_flight, 1);
    as_root(rig, "DROP TRIGGER refuse");
    RIG_WAIT_STAT(consumer, dead, 2);
    RIG_WAIT_STAT(consumer, acked, 2 * OTHERS + 2);
    rig_stop(consumer);
    rig_audit(rig, 2 * OTHERS);
}

int main(int argc, char **argv)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        CASE(failing_at_random_keeps_order_and_counts),
        CASE(a_restart_goes_on_where_it_was),
        CASE(two_processes_share_the_rows),
        CASE(a_locked_row_keeps_its_place),
        CASE(a_held_row_in_doubt_holds_up_no_other),
        CASE(an_unreadable_row_holds_up_no_other),
        CASE(a_row_that_the_table_refuses_holds_up_nobody),
        CASE(a_failing_message_gives_no_lock_back),
        CASE(a_handler_that_kills_its_process_uses_up_its_attempts),
        CASE(a_dead_message_freezes_its_key),
        CASE(a_discarded_message_lets_its_key_go_on),
        CASE(a_dead_message_may_be_skipped),
        CASE(a_frozen_key_is_set_free_by_the_other_policy),
        CASE(a_copy_of_a_rejected_message_is_not_applied),
        CASE(a_rejected_message_is_replayed_only_by_force),
        CASE(copies_come_to_nothing_more),
        CASE(it_is_the_same_message_the_second_time),
        CASE(an_id_that_is_too_long_is_dead),
        CASE(poison_in_a_batch_of_500),
    };

    if (getenv(KILLER_ENV) != NULL && argc == 7)
        return be_consumer(argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
