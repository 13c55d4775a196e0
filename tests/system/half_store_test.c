/*
 * The half-message store against a real database: one verdict, idempotence, group commit, and races
 * between verdicts (P2, P5).
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "half/half.h"
#include "sql/schema.h"
#include "test_db.h"
#include "wait.h"

struct rig {
    struct test_db database;
    struct db *db;
    struct half_store *store;
};

/* A request with its own waiting, as a caller of the HTTP front would wait. */
struct waiter {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    unsigned left;
};

static void on_done(struct half_request *req, void *ctx)
{
    struct waiter *waiter = ctx;

    (void)req;
    pthread_mutex_lock(&waiter->mutex);
    waiter->left--;
    pthread_cond_signal(&waiter->cond);
    pthread_mutex_unlock(&waiter->mutex);
}

static void wait_all(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->mutex);
    while (waiter->left > 0)
        pthread_cond_wait(&waiter->cond, &waiter->mutex);
    pthread_mutex_unlock(&waiter->mutex);
}

static int setup(void **state)
{
    static struct rig rig;
    struct half_store_opts opts = {0};
    struct obx_err err = {0};

    test_db_create(&rig.database, "half");
    rig.db = test_db_open(&rig.database.opts);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    opts.db = rig.database.opts;
    assert_int_equal(half_store_create(&opts, &rig.store, &err), OBX_OK);
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    half_store_destroy(rig->store);
    db_close(rig->db);
    test_db_drop(&rig->database);
    return 0;
}

static struct half_part part(enum half_verdict on, const char *topic, const char *payload)
{
    return (struct half_part){.on = on, .topic = bytes_of(topic), .payload = bytes_of(payload)};
}

static struct half_request prepare_of(const char *gid, const struct half_part *parts, size_t count)
{
    struct half_request req = {.kind = HALF_REQ_PREPARE,
                               .gid = bytes_of(gid),
                               .producer = bytes_of("orders"),
                               .first_check_ms = 60000,
                               .parts = parts,
                               .part_count = count};

    memset(req.digest, (int)count, sizeof(req.digest));
    return req;
}

static struct half_request verdict_of(const char *gid, enum half_verdict verdict, const char *actor)
{
    return (struct half_request){
        .kind = HALF_REQ_VERDICT, .gid = bytes_of(gid), .verdict = verdict, .actor = actor};
}

static void run_all(struct rig *rig, struct half_request *reqs, unsigned count)
{
    struct waiter waiter = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, count};
    struct obx_err err = {0};

    for (unsigned i = 0; i < count; i++) {
        reqs[i].done = on_done;
        reqs[i].ctx = &waiter;
        assert_int_equal(half_store_submit(rig->store, &reqs[i], &err), OBX_OK);
    }
    wait_all(&waiter);
}

static enum half_answer run_one(struct rig *rig, struct half_request *req)
{
    run_all(rig, req, 1);
    if (req->answer == HALF_ANS_FAILED)
        print_message("failed: %s\n", req->err.text);
    return req->answer;
}

static void a_commit_makes_its_messages_outbox_rows(void **state)
{
    struct rig *rig = *state;
    struct half_part parts[3] = {part(HALF_COMMIT, "order.paid", "one"),
                                 part(HALF_COMMIT, "order.audit", "two"),
                                 part(HALF_ROLLBACK, "order.dropped", "three")};
    struct half_request req = prepare_of("g-1", parts, 3);

    parts[0].payload = (struct obx_bytes){"a'\\\0\xff"
                                          "b",
                                          6};
    parts[0].headers = bytes_of("{\"tenant\":\"a'b\"}");
    parts[0].ordering_key = bytes_of("key-1");
    parts[0].receipt_from = bytes_of("stock,mail");
    parts[0].on_rejected = bytes_of("order.refused");
    assert_int_equal(run_one(rig, &req), HALF_ANS_OK);
    assert_false(req.is_repeat);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 0);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_part"), 3);

    req = verdict_of("g-1", HALF_COMMIT, "producer");
    assert_int_equal(run_one(rig, &req), HALF_ANS_OK);
    assert_int_equal(req.rec.state, HALF_COMMITTED);
    assert_int_equal(
        test_db_number(rig->db,
                       "SELECT COUNT(*) FROM outbox WHERE topic IN ('order.paid', 'order.audit')"),
        2);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 2);
    assert_int_equal(
        test_db_number(rig->db, "SELECT payload = X'61275C00FF62' AND ordering_key = 'key-1' AND "
                                "JSON_UNQUOTE(JSON_EXTRACT(headers, '$.tenant')) = 'a''b' AND "
                                "receipt_from = 'stock,mail' AND on_rejected = 'order.refused' "
                                "FROM outbox WHERE topic = 'order.paid'"),
        1);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_part"), 0);
    assert_int_equal(test_db_number(rig->db, "SELECT next_check_at IS NULL FROM half_message"), 1);
}

static void a_rollback_sends_only_what_was_prepared_for_it(void **state)
{
    struct rig *rig = *state;
    struct half_part parts[2] = {part(HALF_COMMIT, "confirm", "c"),
                                 part(HALF_ROLLBACK, "cancel", "r")};
    struct half_request req = prepare_of("g-2", parts, 2);

    assert_int_equal(run_one(rig, &req), HALF_ANS_OK);
    req = verdict_of("g-2", HALF_ROLLBACK, "producer");
    assert_int_equal(run_one(rig, &req), HALF_ANS_OK);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox WHERE topic = 'cancel'"),
                     1);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 1);
}

static void the_same_again_is_the_same_answer_and_the_opposite_is_refused(void **state)
{
    struct rig *rig = *state;
    struct half_part one = part(HALF_COMMIT, "t", "p");
    struct half_request req = prepare_of("g-3", &one, 1);

    assert_int_equal(run_one(rig, &req), HALF_ANS_OK);
    req = prepare_of("g-3", &one, 1);
    assert_int_equal(run_one(rig, &req), HALF_ANS_OK);
    assert_true(req.is_repeat);
    req = prepare_of("g-3", &one, 1);
    req.digest[0] ^= 1;
    assert_int_equal(run_one(rig, &req), HALF_ANS_REUSED);

    req = verdict_of("g-3", HALF_COMMIT, "producer");
    assert_int_equal(run_one(rig, &req), HALF_ANS_OK);
    req = verdict_of("g-3", HALF_COMMIT, "producer");
    assert_int_equal(run_one(rig, &req), HALF_ANS_OK);
    assert_true(req.is_repeat);
    req = verdict_of("g-3", HALF_ROLLBACK, "check");
    assert_int_equal(run_one(rig, &req), HALF_ANS_CONFLICT);
    assert_int_equal(req.rec.state, HALF_COMMITTED);
    assert_string_equal(req.rec.decided_by, "producer");
    assert_true(req.rec.decided_us > 0);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 1);
    assert_int_equal(
        test_db_number(
            rig->db,
            "SELECT COUNT(*) FROM half_history WHERE event = 'conflict' AND actor = 'check'"),
        1);

    req = verdict_of("no-such", HALF_COMMIT, "producer");
    assert_int_equal(run_one(rig, &req), HALF_ANS_NOT_FOUND);
}

static void a_batch_of_many_has_each_its_own_answer(void **state)
{
    enum { COUNT = 200 };
    struct rig *rig = *state;
    struct half_part one = part(HALF_COMMIT, "t", "p");
    static struct half_request reqs[COUNT];
    static char gids[COUNT][32];

    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(gids[i], sizeof(gids[i]), "many-%u", i / 2); /* every gid twice */
        reqs[i] = prepare_of(gids[i], &one, 1);
    }
    run_all(rig, reqs, COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(reqs[i].answer, HALF_ANS_OK);
    /* Two workers may share a pair between them, so either one may be the first. */
    for (unsigned i = 0; i < COUNT; i += 2)
        assert_int_equal(reqs[i].is_repeat + reqs[i + 1].is_repeat, 1);
    for (unsigned i = 0; i < COUNT; i++)
        reqs[i] = verdict_of(gids[i], i % 4 < 2 ? HALF_COMMIT : HALF_ROLLBACK, "producer");
    run_all(rig, reqs, COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(reqs[i].answer, HALF_ANS_OK);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), COUNT / 4);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE state = 'rolled_back'"),
        COUNT / 4);
}

/* One transaction with all kinds in it, as the API makes them. */
static void a_batch_may_hold_every_kind(void **state)
{
    struct rig *rig = *state;
    struct half_part one = part(HALF_COMMIT, "t", "p");
    struct half_request old = prepare_of("old", &one, 1);
    struct half_list list = {.limit = 10};
    struct half_request reqs[4];
    struct half_request *batch[4] = {&reqs[0], &reqs[1], &reqs[2], &reqs[3]};
    struct obx_err err = {0};
    bool outbox_rows = false;

    assert_int_equal(run_one(rig, &old), HALF_ANS_OK);
    reqs[0] = prepare_of("new", &one, 1);
    reqs[1] = verdict_of("old", HALF_COMMIT, "producer");
    reqs[2] = (struct half_request){.kind = HALF_REQ_LOOKUP, .gid = bytes_of("nobody")};
    reqs[3] = (struct half_request){.kind = HALF_REQ_LIST, .list = &list};
    assert_int_equal(half_batch_run(rig->db, "outbox", batch, 4, &outbox_rows, &err), OBX_OK);
    assert_true(outbox_rows);
    assert_int_equal(reqs[0].answer, HALF_ANS_OK);
    assert_int_equal(reqs[1].answer, HALF_ANS_OK);
    assert_int_equal(reqs[2].answer, HALF_ANS_NOT_FOUND);
    assert_int_equal(reqs[3].answer, HALF_ANS_OK);
    assert_int_equal(list.count, 1);
    assert_string_equal(list.items[0].gid, "old");
    half_list_fini(&list);
}

static void one_bad_request_costs_the_others_nothing(void **state)
{
    enum { COUNT = 20 };
    struct rig *rig = *state;
    struct half_part good = part(HALF_COMMIT, "t", "p"), bad = part(HALF_COMMIT, "t", "p");
    struct half_request reqs[COUNT];
    char gids[COUNT][32];

    bad.headers = bytes_of("{not json");
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(gids[i], sizeof(gids[i]), "mixed-%u", i);
        reqs[i] = prepare_of(gids[i], i == 7 ? &bad : &good, 1);
    }
    run_all(rig, reqs, COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(reqs[i].answer, i == 7 ? HALF_ANS_FAILED : HALF_ANS_OK);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"), COUNT - 1);
}

/* ---- rows that somebody holds ---- */

struct count {
    pthread_mutex_t mutex;
    unsigned done;
};

static void on_counted(struct half_request *req, void *ctx)
{
    struct count *count = ctx;

    (void)req;
    pthread_mutex_lock(&count->mutex);
    count->done++;
    pthread_mutex_unlock(&count->mutex);
}

static unsigned counted(struct count *count)
{
    unsigned done;

    pthread_mutex_lock(&count->mutex);
    done = count->done;
    pthread_mutex_unlock(&count->mutex);
    return done;
}

struct counted_wait {
    struct count *count;
    unsigned wanted;
};

static bool has_counted(void *ctx)
{
    struct counted_wait *wait = ctx;

    return counted(wait->count) >= wait->wanted;
}

enum { HELD = 3, OTHERS = 60, WAIT_MS = 10000 };

/* Submit the requests of the held gids again and again, as their callers do, and OTHERS of others
 * meanwhile: these are all answered while the rows are still held, and the held ones with "busy".
 */
static void others_go_on(struct rig *rig, struct half_request *held, const char *word)
{
    static struct half_request others[OTHERS];
    static char gids[OTHERS][32];
    static struct count held_count, other_count;
    struct counted_wait wait_others = {&other_count, OTHERS};
    struct counted_wait wait_held = {&held_count, HELD};
    struct half_part one = part(HALF_COMMIT, "t", "p");
    struct obx_err err = {0};
    unsigned rounds = 0;

    held_count = (struct count){.mutex = PTHREAD_MUTEX_INITIALIZER, .done = HELD};
    other_count = (struct count){.mutex = PTHREAD_MUTEX_INITIALIZER};
    for (unsigned i = 0; i < OTHERS; i++) {
        if (counted(&held_count) == HELD) {
            held_count.done = 0;
            for (unsigned k = 0; k < HELD; k++) {
                if (rounds > 0)
                    assert_int_equal(held[k].answer, HALF_ANS_BUSY);
                held[k].done = on_counted;
                held[k].ctx = &held_count;
                assert_int_equal(half_store_submit(rig->store, &held[k], &err), OBX_OK);
            }
            rounds++;
        }
        snprintf(gids[i], sizeof(gids[i]), "%s-%u", word, i);
        others[i] = prepare_of(gids[i], &one, 1);
        others[i].done = on_counted;
        others[i].ctx = &other_count;
        assert_int_equal(half_store_submit(rig->store, &others[i], &err), OBX_OK);
        /* One after the other, so that each has a batch of its own to be held up in. */
        wait_others.wanted = i + 1;
        if (!wait_until(WAIT_MS, has_counted, &wait_others))
            fail_msg("%u of %d others are answered", counted(&other_count), OTHERS);
        assert_int_equal(others[i].answer, HALF_ANS_OK);
    }
    assert_true(wait_until(WAIT_MS, has_counted, &wait_held));
    for (unsigned k = 0; k < HELD; k++)
        assert_int_equal(held[k].answer, HALF_ANS_BUSY);
}

/* P7: a transaction that hangs (an application's, a stopped relay's) holds the rows of a few
 * half-messages. Everybody else's are prepared as ever. */
static void a_held_row_holds_up_no_other(void **state)
{
    struct rig *rig = *state;
    struct db *other = test_db_open(&rig->database.opts);
    struct half_part one = part(HALF_COMMIT, "t", "p");
    static char gids[HELD][32];
    struct half_request held[HELD];

    for (unsigned i = 0; i < HELD; i++) {
        snprintf(gids[i], sizeof(gids[i]), "held-%u", i);
        held[i] = prepare_of(gids[i], &one, 1);
    }
    run_all(rig, held, HELD);
    /* A verdict whose half-message is held. */
    test_db_run(other, "START TRANSACTION");
    test_db_run(other, "UPDATE half_message SET note = 'hangs' WHERE gid LIKE 'held-%'");
    for (unsigned i = 0; i < HELD; i++)
        held[i] = verdict_of(gids[i], HALF_COMMIT, "producer");
    others_go_on(rig, held, "while-held");
    test_db_run(other, "ROLLBACK");
    /* A verdict whose messages are held. */
    test_db_run(other, "START TRANSACTION");
    test_db_run(other, "UPDATE half_part SET topic = 'hangs' WHERE gid LIKE 'held-%'");
    for (unsigned i = 0; i < HELD; i++)
        held[i] = verdict_of(gids[i], HALF_ROLLBACK, "producer");
    others_go_on(rig, held, "part-held");
    test_db_run(other, "ROLLBACK");
    /* A prepare whose gid somebody is preparing by SQL. */
    test_db_run(other, "START TRANSACTION");
    for (unsigned i = 0; i < HELD; i++) {
        char sql[200];

        snprintf(gids[i], sizeof(gids[i]), "new-%u", i);
        snprintf(sql, sizeof(sql),
                 "INSERT INTO half_message (gid, producer) VALUES ('%s', 'orders')", gids[i]);
        test_db_run(other, sql);
        held[i] = prepare_of(gids[i], &one, 1);
    }
    others_go_on(rig, held, "new-held");
    test_db_run(other, "ROLLBACK");
    /* Let go, each one runs. */
    for (unsigned i = 0; i < HELD; i++)
        held[i] = prepare_of(gids[i], &one, 1);
    run_all(rig, held, HELD);
    for (unsigned i = 0; i < HELD; i++)
        assert_int_equal(held[i].answer, HALF_ANS_OK);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"),
                     HELD * 2 + OTHERS * 3);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 0);
    db_close(other);
}

static bool are_up(void *ctx)
{
    struct rig *rig = ctx;
    struct half_store_stats stats;

    half_store_get_stats(rig->store, &stats);
    return stats.workers_up == 2;
}

/* Two sessions, each of which the server has heard nothing of for a while. */
static bool are_idle(void *ctx)
{
    struct rig *rig = ctx;

    return test_db_number(rig->db, "SELECT COUNT(*) FROM information_schema.processlist WHERE "
                                   "db = DATABASE() AND id <> CONNECTION_ID() AND time >= 2") == 2;
}

static bool is_alone(void *ctx)
{
    struct rig *rig = ctx;

    return test_db_number(rig->db, "SELECT COUNT(*) FROM information_schema.processlist WHERE "
                                   "db = DATABASE() AND id <> CONNECTION_ID()") == 0;
}

static void kill_others(struct rig *rig)
{
    struct db_rows *rows = NULL;
    struct obx_err err = {0};

    if (db_query(rig->db,
                 "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> "
                 "CONNECTION_ID()",
                 DB_NO_ARGS, &rows, &err) != OBX_OK)
        fail_msg("%s", err.text);
    while (db_rows_next(rows)) {
        char sql[64];

        snprintf(sql, sizeof(sql), "KILL %llu", (unsigned long long)db_rows_u64(rows, 0));
        test_db_run(rig->db, sql);
    }
    db_rows_free(rows);
}

/* As after wait_timeout, or behind a firewall that forgets: each worker's first request is
 * done, not answered "outcome unknown". */
static void a_connection_that_was_closed_while_idle_costs_no_request(void **state)
{
    enum { REQUESTS = 8 };
    struct rig *rig = *state;
    struct half_part one = part(HALF_COMMIT, "t", "p");
    struct half_store_stats stats;
    assert_true(wait_until(WAIT_MS, are_up, rig));
    assert_true(wait_until(WAIT_MS, are_idle, rig));
    kill_others(rig);
    assert_true(wait_until(WAIT_MS, is_alone, rig));
    for (unsigned i = 0; i < REQUESTS; i++) {
        char gid[32];
        struct half_request req;

        snprintf(gid, sizeof(gid), "idle-%u", i);
        req = prepare_of(gid, &one, 1);
        assert_int_equal(run_one(rig, &req), HALF_ANS_OK);
    }
    half_store_get_stats(rig->store, &stats);
    assert_int_equal(stats.failed, 0);
    assert_int_equal(stats.prepared, REQUESTS);
}

static bool has_one_of_two(void *ctx)
{
    struct rig *rig = ctx;
    struct half_store_stats stats;

    half_store_get_stats(rig->store, &stats);
    return stats.workers_up == 1 && stats.trouble[0] != '\0';
}

/* One worker finds no connection (the account may have one): it must not take the wake-ups that are
 * for the other, or a request waits until somebody else asks something. */
static void a_worker_without_a_connection_holds_up_nobody(void **state)
{
    enum { REQUESTS = 40 };
    struct rig *rig = *state;
    struct half_part one = part(HALF_COMMIT, "t", "p");
    struct half_store_opts opts = {0};
    struct db_opts root_opts = test_db_root_opts();
    struct db *root = test_db_open(&root_opts);
    struct test_user user;
    struct obx_err err = {0};
    static struct half_request reqs[REQUESTS];
    static char gids[REQUESTS][32];
    static struct count count;
    struct counted_wait wait = {&count, 0};
    char sql[128];

    count = (struct count){.mutex = PTHREAD_MUTEX_INITIALIZER};
    test_user_create(&user, &rig->database, "relay");
    snprintf(sql, sizeof(sql), "ALTER USER %s WITH MAX_USER_CONNECTIONS 1", user.name);
    test_db_run(root, sql);
    half_store_destroy(rig->store);
    opts.db = user.opts;
    assert_int_equal(half_store_create(&opts, &rig->store, &err), OBX_OK);
    assert_true(wait_until(WAIT_MS, has_one_of_two, rig));
    for (unsigned i = 0; i < REQUESTS; i++) {
        snprintf(gids[i], sizeof(gids[i]), "one-%u", i);
        reqs[i] = prepare_of(gids[i], &one, 1);
        reqs[i].done = on_counted;
        reqs[i].ctx = &count;
        assert_int_equal(half_store_submit(rig->store, &reqs[i], &err), OBX_OK);
        wait.wanted = i + 1;
        if (!wait_until(WAIT_MS, has_counted, &wait))
            fail_msg("request %u was not answered", i);
        assert_int_equal(reqs[i].answer, HALF_ANS_OK);
    }
    half_store_destroy(rig->store);
    rig->store = NULL;
    test_user_drop(&user);
    db_close(root);
}

/* Pairs of opposite verdicts, all at once, in an order of chance. */
static void shuffle(struct half_request *reqs, unsigned count, unsigned *seed)
{
    for (unsigned i = count - 1; i > 0; i--) {
        unsigned k = (unsigned)rand_r(seed) % (i + 1);
        struct half_request kept = reqs[i];

        reqs[i] = reqs[k];
        reqs[k] = kept;
    }
}

static unsigned race(struct rig *rig, unsigned round, unsigned *seed)
{
    enum { PAIRS = 256, BOTH = 2 * PAIRS };
    static struct half_request reqs[BOTH];
    static char gids[PAIRS][32];
    struct half_part parts[2] = {part(HALF_COMMIT, "yes", "c"), part(HALF_ROLLBACK, "no", "r")};
    unsigned ok = 0, conflicts = 0, committed = 0;

    for (size_t i = 0; i < PAIRS; i++) {
        snprintf(gids[i], sizeof(gids[i]), "race-%u-%zu", round, i);
        reqs[i] = prepare_of(gids[i], parts, 2);
    }
    run_all(rig, reqs, PAIRS);
    for (size_t i = 0; i < PAIRS; i++) {
        reqs[2 * i] = verdict_of(gids[i], HALF_COMMIT, "producer");
        reqs[2 * i + 1] = verdict_of(gids[i], HALF_ROLLBACK, "check");
    }
    shuffle(reqs, BOTH, seed);
    run_all(rig, reqs, BOTH);
    for (size_t i = 0; i < BOTH; i++) {
        ok += reqs[i].answer == HALF_ANS_OK;
        conflicts += reqs[i].answer == HALF_ANS_CONFLICT;
        committed += reqs[i].answer == HALF_ANS_OK && reqs[i].verdict == HALF_COMMIT;
    }
    assert_int_equal(ok, PAIRS);
    assert_int_equal(conflicts, PAIRS);
    return committed;
}

static void opposite_verdicts_at_once_have_one_outcome(void **state)
{
    enum { ROUNDS = 24, RACES = ROUNDS * 256 };
    struct rig *rig = *state;
    unsigned seed = (unsigned)getpid();
    unsigned committed = 0;

    for (unsigned i = 0; i < ROUNDS; i++)
        committed += race(rig, i, &seed);
    assert_true(committed > 0 && committed < RACES);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), RACES);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox WHERE topic = 'yes'"),
                     committed);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE state = 'committed'"),
        committed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_commit_makes_its_messages_outbox_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rollback_sends_only_what_was_prepared_for_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            the_same_again_is_the_same_answer_and_the_opposite_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_of_many_has_each_its_own_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_may_hold_every_kind, setup, teardown),
        cmocka_unit_test_setup_teardown(one_bad_request_costs_the_others_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_held_row_holds_up_no_other, setup, teardown),
        cmocka_unit_test_setup_teardown(a_connection_that_was_closed_while_idle_costs_no_request,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_worker_without_a_connection_holds_up_nobody, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(opposite_verdicts_at_once_have_one_outcome, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
