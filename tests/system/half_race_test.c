/*
 * Verdict and check at the same instant, some thousand times (P2, P5): a producer runs its local
 * transaction under the barrier and reports, while a checker asks the barrier and reports. Exactly
 * one verdict, nobody is contradicted, and it is what the business table says.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "half/checkback/ask_barrier.h"
#include "half/half.h"
#include "sql/schema.h"
#include "test_db.h"

enum {
    LANES = 24, /* pairs of a producer and a checker */
    RACES = 100,
    JITTER_US = 3000,
    NS_PER_US = 1000,
    CONNECT_MS = 60000,
    CONNECT_TRIES = 5,
    ROLLBACK_ONE_IN = 4
};

struct rig {
    struct test_db messages, business;
    struct db *db;
    struct half_store *store;
};

struct lane {
    struct rig *rig;
    unsigned index;
    pthread_barrier_t gate;
    unsigned producer_seed, checker_seed;
    unsigned conflicts, failures; /* guarded by mutex */
    pthread_mutex_t mutex;
};

/* ---------------------------------------------------------------- one request, waited for */

struct waiter {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool is_done;
};

static void on_done(struct half_request *req, void *ctx)
{
    struct waiter *waiter = ctx;

    (void)req;
    pthread_mutex_lock(&waiter->mutex);
    waiter->is_done = true;
    pthread_cond_signal(&waiter->cond);
    pthread_mutex_unlock(&waiter->mutex);
}

static void run_request(struct lane *lane, struct half_request *req)
{
    struct waiter waiter = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};

    req->done = on_done;
    req->ctx = &waiter;
    if (half_store_submit(lane->rig->store, req, NULL) != OBX_OK) {
        req->answer = HALF_ANS_FAILED;
    } else {
        pthread_mutex_lock(&waiter.mutex);
        while (!waiter.is_done)
            pthread_cond_wait(&waiter.cond, &waiter.mutex);
        pthread_mutex_unlock(&waiter.mutex);
    }
    pthread_mutex_lock(&lane->mutex);
    lane->conflicts += req->answer == HALF_ANS_CONFLICT;
    lane->failures += req->answer != HALF_ANS_CONFLICT && req->answer != HALF_ANS_OK;
    pthread_mutex_unlock(&lane->mutex);
}

static void give_verdict(struct lane *lane, const char *gid, enum half_verdict verdict,
                         const char *actor)
{
    struct half_request req = {
        .kind = HALF_REQ_VERDICT, .gid = bytes_of(gid), .verdict = verdict, .actor = actor};

    run_request(lane, &req);
}

static void count_failure(struct lane *lane)
{
    pthread_mutex_lock(&lane->mutex);
    lane->failures++;
    pthread_mutex_unlock(&lane->mutex);
}

/* Both start at once, each a little late by chance. */
static void start_line(struct lane *lane, unsigned *seed)
{
    struct timespec late = {.tv_nsec = (long)(rand_r(seed) % JITTER_US) * NS_PER_US};

    pthread_barrier_wait(&lane->gate);
    nanosleep(&late, NULL);
}

/* ---------------------------------------------------------------- the two */

/* Many connect at once, perhaps under a sanitizer on a busy machine. */
static struct db *open_business(const struct lane *lane)
{
    struct db_opts opts = lane->rig->business.opts;
    struct obx_err err = {0};
    struct db *db = NULL;

    opts.lock_wait_s = 1;
    opts.connect_timeout_ms = CONNECT_MS;
    opts.tls = DB_TLS_DISABLED;
    for (unsigned i = 0; i < CONNECT_TRIES; i++)
        if (db_open(&opts, &db, &err) == OBX_OK)
            return db;
    fprintf(stderr, "%s\n", err.text);
    abort();
}

static enum half_verdict local_transaction(struct db *db, const char *gid, bool is_declined,
                                           struct lane *lane)
{
    struct obx_err err = {0};
    enum obx_code rc = db_begin(db, &err);

    if (rc == OBX_OK)
        rc = db_exec(db, "INSERT INTO half_barrier (gid) VALUES (?)", DB_ARGS(DB_TEXT(gid)), NULL,
                     &err);
    if (rc == OBX_OK)
        rc =
            db_exec(db, "INSERT INTO purchase (gid) VALUES (?)", DB_ARGS(DB_TEXT(gid)), NULL, &err);
    if (rc == OBX_OK && !is_declined && db_commit(db, &err) == OBX_OK)
        return HALF_COMMIT;
    if (rc != OBX_OK && rc != OBX_E_DB_DUPLICATE)
        count_failure(lane);
    if (db_rollback(db, NULL) != OBX_OK)
        count_failure(lane);
    return HALF_ROLLBACK;
}

static void *producer_main(void *arg)
{
    struct lane *lane = arg;
    struct half_part part = {
        .on = HALF_COMMIT, .topic = bytes_of("bought"), .payload = bytes_of("x")};
    struct db *db = open_business(lane);

    for (unsigned i = 0; i < RACES; i++) {
        char gid[32];
        struct half_request prepare = {.kind = HALF_REQ_PREPARE,
                                       .producer = bytes_of("p"),
                                       .first_check_ms = 60000,
                                       .parts = &part,
                                       .part_count = 1};

        snprintf(gid, sizeof(gid), "r-%u-%u", lane->index, i);
        prepare.gid = bytes_of(gid);
        run_request(lane, &prepare);
        start_line(lane, &lane->producer_seed);
        give_verdict(
            lane, gid,
            local_transaction(db, gid, rand_r(&lane->producer_seed) % ROLLBACK_ONE_IN == 0, lane),
            "producer");
        pthread_barrier_wait(&lane->gate);
    }
    db_close(db);
    db_thread_end();
    return NULL;
}

/* Asks until the barrier decides, as check-back would with time in between. */
static void check(struct lane *lane, struct db *db, const char *gid)
{
    enum check_answer answer = CHECK_IN_PROGRESS;

    while (answer == CHECK_IN_PROGRESS || answer == CHECK_NO_ANSWER)
        if (barrier_ask(db, gid, true, &answer, NULL) != OBX_OK)
            (void)db_rollback(db, NULL); /* a deadlock is no answer */
    give_verdict(lane, gid, answer == CHECK_COMMITTED ? HALF_COMMIT : HALF_ROLLBACK, "barrier");
}

static void *checker_main(void *arg)
{
    struct lane *lane = arg;
    struct db *db = open_business(lane);

    for (unsigned i = 0; i < RACES; i++) {
        char gid[32];

        snprintf(gid, sizeof(gid), "r-%u-%u", lane->index, i);
        start_line(lane, &lane->checker_seed);
        check(lane, db, gid);
        pthread_barrier_wait(&lane->gate);
    }
    db_close(db);
    db_thread_end();
    return NULL;
}

/* ---------------------------------------------------------------- the test */

static int setup(void **state)
{
    static struct rig rig;
    struct half_store_opts opts = {.workers = 4};
    struct db *business = NULL;
    struct obx_err err = {0};

    test_db_create(&rig.messages, "race");
    test_db_create(&rig.business, "racebiz");
    rig.db = test_db_open(&rig.messages.opts);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    business = test_db_open(&rig.business.opts);
    assert_int_equal(schema_migrate(business, SCHEMA_BARRIER, NULL, NULL, &err), OBX_OK);
    test_db_run(business, "CREATE TABLE purchase (gid VARCHAR(128) CHARACTER SET ascii COLLATE "
                          "ascii_bin PRIMARY KEY)");
    db_close(business);
    opts.db = rig.messages.opts;
    assert_int_equal(half_store_create(&opts, &rig.store, &err), OBX_OK);
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    half_store_destroy(rig->store);
    db_close(rig->db);
    test_db_drop(&rig->messages);
    test_db_drop(&rig->business);
    return 0;
}

static uint64_t count(struct rig *rig, const char *condition)
{
    char sql[512];

    snprintf(sql, sizeof(sql),
             "SELECT COUNT(*) FROM half_message h LEFT JOIN %s.purchase p ON p.gid = h.gid "
             "WHERE %s",
             rig->business.name, condition);
    return test_db_number(rig->db, sql);
}

static void verdict_and_check_at_once_agree_with_the_business_table(void **state)
{
    struct rig *rig = *state;
    struct lane lanes[LANES];
    pthread_t threads[LANES][2];

    for (unsigned i = 0; i < LANES; i++) {
        lanes[i] = (struct lane){.rig = rig,
                                 .index = i,
                                 .producer_seed = 2 * i + 1,
                                 .checker_seed = 2 * i + 2,
                                 .mutex = PTHREAD_MUTEX_INITIALIZER};
        pthread_barrier_init(&lanes[i].gate, NULL, 2);
        assert_int_equal(pthread_create(&threads[i][0], NULL, producer_main, &lanes[i]), 0);
        assert_int_equal(pthread_create(&threads[i][1], NULL, checker_main, &lanes[i]), 0);
    }
    for (unsigned i = 0; i < LANES; i++) {
        pthread_join(threads[i][0], NULL);
        pthread_join(threads[i][1], NULL);
        pthread_barrier_destroy(&lanes[i].gate);
        assert_int_equal(lanes[i].conflicts, 0);
        assert_int_equal(lanes[i].failures, 0);
    }
    assert_int_equal(count(rig, "(h.state = 'committed') = (p.gid IS NOT NULL) AND h.state IN "
                                "('committed', 'rolled_back')"),
                     LANES * RACES);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"),
                     count(rig, "h.state = 'committed'"));
    /* Each of them was first now and then, else nothing was raced. */
    assert_true(count(rig, "h.decided_by = 'producer'") > LANES * RACES / 50);
    assert_true(count(rig, "h.decided_by = 'barrier'") > LANES * RACES / 50);
    assert_true(count(rig, "h.state = 'committed'") > LANES * RACES / 50);
    assert_true(count(rig, "h.state = 'rolled_back'") > LANES * RACES / 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(verdict_and_check_at_once_agree_with_the_business_table,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
