/*
 * P2, P3, P5: InnoDB without a binary log shows a transaction to others before it is in the log
 * file. When the server dies in between, the transaction is gone: then its messages must not have
 * been published, a copy of what it had applied not acknowledged, and no verdict been given for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "crash/scene.h"
#include "half/checkback/ask_barrier.h"
#include "sql/schema.h"
#include "test_db.h"
#include "wait.h"

enum { PATIENCE_MS = 60 * 1000, SEEN_MS = 1500, APPLIED_MS = 5000, TRIES = 20 };

#define APPLIED "SELECT COUNT(*) FROM " LEDGER_CONSUMER_DB ".applied"
#define ORDERS  "SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".orders"
/* Whether the relay stands in a statement of its own that has to be written. */
#define RELAY_WAITS                                                                                \
    "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'obx_crash_relay' "          \
    "AND command <> 'Sleep' AND time >= 1"

static enum obx_code write_order(void)
{
    const struct db_opts opts = scene_producer_opts();
    struct db *db = NULL;
    struct obx_err err = {0};
    enum obx_code rc = db_open(&opts, &db, &err);

    if (rc == OBX_OK)
        rc = db_begin(db, &err);
    if (rc == OBX_OK)
        rc = load_write(db, SCENE_TOPIC, "key-1", NULL, bytes_of("x"), &err);
    if (rc == OBX_OK)
        rc = db_commit(db, &err);
    db_close(db);
    return rc;
}

/* Never hears of its COMMIT. */
static void *be_producer(void *ctx)
{
    *(enum obx_code *)ctx = write_order();
    db_thread_end();
    return NULL;
}

struct wait {
    struct scene *scene;
    const char *sql;
    uint64_t least;
};

static bool is_there(void *ctx)
{
    const struct wait *wait = ctx;

    return test_db_number(scene_db(wait->scene), wait->sql) >= wait->least;
}

static void wait_number(struct scene *scene, const char *sql, uint64_t least)
{
    struct wait wait = {scene, sql, least};

    if (!wait_until(PATIENCE_MS, is_there, &wait))
        fail_msg("%s: not %llu in time", sql, (unsigned long long)least);
}

static void restart_database(struct scene *scene, const char *command, bool is_slow)
{
    scene_server(scene, command, "database");
    if (is_slow)
        assert_int_equal(setenv("LD_PRELOAD", CRASH_SLOW_LOG, 1), 0);
    scene_server(scene, "start", "database");
    assert_int_equal(unsetenv("LD_PRELOAD"), 0);
}

struct stage {
    struct scene *scene;
    char path[32]; /* while it is there nothing gets into the log */
    pthread_t producer;
    enum obx_code rc; /* the producer's */
};

static void hold_log(const struct stage *stage)
{
    FILE *file = fopen(stage->path, "w");

    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
}

/* Whether there is an order that others see and that is not in the log. Not always: what stands in
 * the log file's way may be somebody whom the producer waits for, a checkpoint for one. */
static bool write_undurable(struct stage *stage)
{
    struct wait seen = {stage->scene, ORDERS, 0};

    wait_number(stage->scene, "SELECT COUNT(*) = 0 FROM " LEDGER_PRODUCER_DB ".outbox", 1);
    seen.least = test_db_number(scene_db(stage->scene), ORDERS) + 1;
    hold_log(stage);
    assert_int_equal(pthread_create(&stage->producer, NULL, be_producer, &stage->rc), 0);
    if (wait_until(SEEN_MS, is_there, &seen))
        return true;
    assert_int_equal(unlink(stage->path), 0);
    assert_int_equal(pthread_join(stage->producer, NULL), 0);
    return false;
}

static void begin(struct stage *stage)
{
    int fd = mkstemp(stage->path);

    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(stage->path), 0);
    assert_int_equal(setenv("SLOW_LOG_WHILE", stage->path, 1), 0);
    /* The default lease: in a short one the relay may stand in a renewal before it has read. */
    assert_int_equal(setenv("OBX_TEST_DEFAULTS", "1", 1), 0);
    stage->scene = scene_create();
    restart_database(stage->scene, "stop", true);
    scene_start(stage->scene, SCENE_CONSUMER, 0, NULL);
    scene_start(stage->scene, SCENE_RELAY, 0, NULL);
    assert_int_equal(write_order(), OBX_OK);
    wait_number(stage->scene, "SELECT COUNT(*) FROM " LEDGER_CONSUMER_DB ".applied", 1);
}

static void what_is_not_in_the_log_is_not_published(void **state)
{
    struct stage stage = {.path = "/tmp/obx-slow-log-XXXXXX"};
    uint64_t orders = 0;
    unsigned tries = 1;

    (void)state;
    begin(&stage);
    while (!write_undurable(&stage))
        assert_true(tries++ < TRIES);
    orders = test_db_number(scene_db(stage.scene), ORDERS);
    wait_number(stage.scene, RELAY_WAITS, 1);
    scene_server(stage.scene, "kill", "database");
    assert_int_equal(pthread_join(stage.producer, NULL), 0);
    assert_int_not_equal(stage.rc, OBX_OK);
    assert_int_equal(unlink(stage.path), 0);
    scene_server(stage.scene, "start", "database");
    assert_int_equal(test_db_number(scene_db(stage.scene), ORDERS), orders - 1);
    assert_int_equal(write_order(), OBX_OK);
    scene_finish(stage.scene);
    scene_destroy(stage.scene);
}

/* ---------------------------------------------------------------- a consumer's copy */

/* Consumers that stand in a statement: the one that was killed, in its COMMIT, and another one. */
static uint64_t consumers_waiting(struct scene *scene)
{
    char sql[300];

    (void)snprintf(sql, sizeof(sql),
                   "SELECT COUNT(*) FROM information_schema.processlist WHERE user = '%s' "
                   "AND db = '" LEDGER_CONSUMER_DB "' AND command <> 'Sleep' AND time >= 1",
                   getenv("OBX_TEST_DB_USER"));
    return test_db_number(scene_db(scene), sql);
}

static bool do_two_wait(void *ctx)
{
    return consumers_waiting(ctx) >= 2;
}

/* An order that is with the broker, and in no table of ours that is written any more. */
static void publish_one(struct stage *stage)
{
    scene_start(stage->scene, SCENE_RELAY, 0, NULL);
    assert_int_equal(write_order(), OBX_OK);
    wait_number(stage->scene, "SELECT COUNT(*) = 0 FROM " LEDGER_PRODUCER_DB ".outbox", 1);
    scene_stop(stage->scene, SCENE_RELAY, 0);
}

/* Whether consumer 0 has applied it so that others see it and the log does not have it. */
static bool apply_undurable(struct stage *stage)
{
    struct wait seen = {stage->scene, APPLIED, 0};

    seen.least = test_db_number(scene_db(stage->scene), APPLIED) + 1;
    hold_log(stage);
    scene_start(stage->scene, SCENE_CONSUMER, 0, NULL);
    if (wait_until(APPLIED_MS, is_there, &seen))
        return true;
    assert_int_equal(unlink(stage->path), 0);
    wait_number(stage->scene, APPLIED, seen.least);
    scene_stop(stage->scene, SCENE_CONSUMER, 0);
    return false;
}

static void a_copy_of_what_is_not_in_the_log_is_not_acknowledged(void **state)
{
    struct stage stage = {.path = "/tmp/obx-slow-log-XXXXXX"};
    uint64_t applied = 0;
    unsigned tries = 0;

    (void)state;
    begin(&stage);
    /* Statistics are written by a thread that would stand in the log's way with a table in its
     * hands, and the second consumer with it. */
    test_db_run(scene_db(stage.scene), "SET GLOBAL innodb_stats_auto_recalc = OFF");
    test_db_run(scene_db(stage.scene), "SET GLOBAL innodb_stats_persistent = OFF");
    scene_stop(stage.scene, SCENE_RELAY, 0);
    scene_stop(stage.scene, SCENE_CONSUMER, 0);
    do {
        assert_true(tries++ < TRIES);
        publish_one(&stage);
        applied = test_db_number(scene_db(stage.scene), APPLIED);
    } while (!apply_undurable(&stage));
    /* Its delivery comes to another process, which finds the dedup row. */
    scene_kill(stage.scene, SCENE_CONSUMER, 0);
    scene_start(stage.scene, SCENE_CONSUMER, 1, NULL);
    if (!wait_until(PATIENCE_MS, do_two_wait, stage.scene))
        fail_msg("the copy was acknowledged, or never came");
    scene_server(stage.scene, "kill", "database");
    assert_int_equal(unlink(stage.path), 0);
    scene_server(stage.scene, "start", "database");
    scene_finish(stage.scene); /* everything is applied, and once */
    assert_int_equal(test_db_number(scene_db(stage.scene), APPLIED), applied + 1);
    scene_destroy(stage.scene);
}

/* ---------------------------------------------------------------- a producer's barrier */

static enum obx_code in_producer(enum obx_code (*run)(struct db *db, void *ctx), void *ctx)
{
    const struct db_opts opts = scene_producer_opts();
    struct db *db = NULL;
    struct obx_err err = {0};
    enum obx_code rc = db_open(&opts, &db, &err);

    if (rc == OBX_OK)
        rc = run(db, ctx);
    db_close(db);
    return rc;
}

static enum obx_code write_barrier(struct db *db, void *ctx)
{
    return db_exec(db, "INSERT INTO half_barrier (gid) VALUES ('gid-1')", DB_NO_ARGS, NULL, ctx);
}

static enum obx_code ask(struct db *db, void *ctx)
{
    return barrier_ask(db, "gid-1", true, ctx, NULL);
}

struct asking {
    enum check_answer answer;
    enum obx_code rc;
    _Atomic bool has_ended;
};

static void *be_local_transaction(void *ctx)
{
    *(enum obx_code *)ctx = in_producer(write_barrier, NULL);
    db_thread_end();
    return NULL;
}

static void *be_check(void *ctx)
{
    struct asking *asking = ctx;

    asking->rc = in_producer(ask, &asking->answer);
    asking->has_ended = true;
    db_thread_end();
    return NULL;
}

static bool has_ended(void *ctx)
{
    return ((struct asking *)ctx)->has_ended;
}

static void a_verdict_waits_for_the_log(void **state)
{
    struct stage stage = {.path = "/tmp/obx-slow-log-XXXXXX"};
    struct asking asking = {.answer = CHECK_NO_ANSWER};
    struct wait seen = {NULL, "SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".half_barrier", 1};
    struct obx_err err = {0};
    pthread_t check;

    (void)state;
    begin(&stage);
    scene_stop(stage.scene, SCENE_RELAY, 0);
    scene_stop(stage.scene, SCENE_CONSUMER, 0);
    test_db_run(scene_db(stage.scene), "USE " LEDGER_PRODUCER_DB);
    assert_int_equal(schema_migrate(scene_db(stage.scene), SCHEMA_BARRIER, NULL, NULL, &err),
                     OBX_OK);
    seen.scene = stage.scene;
    hold_log(&stage);
    assert_int_equal(pthread_create(&stage.producer, NULL, be_local_transaction, &stage.rc), 0);
    assert_true(wait_until(PATIENCE_MS, is_there, &seen));
    assert_int_equal(pthread_create(&check, NULL, be_check, &asking), 0);
    assert_false(wait_until(SEEN_MS, has_ended, &asking)); /* it waits for the log */
    scene_server(stage.scene, "kill", "database");
    assert_int_equal(pthread_join(check, NULL), 0);
    assert_int_equal(pthread_join(stage.producer, NULL), 0);
    assert_int_not_equal(asking.rc, OBX_OK);
    assert_int_equal(asking.answer, CHECK_NO_ANSWER);
    assert_int_equal(unlink(stage.path), 0);
    scene_server(stage.scene, "start", "database");
    assert_int_equal(in_producer(ask, &asking.answer), OBX_OK);
    assert_int_equal(asking.answer, CHECK_ROLLED_BACK);
    scene_finish(stage.scene);
    scene_destroy(stage.scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_in_the_log_is_not_published),
        cmocka_unit_test(a_copy_of_what_is_not_in_the_log_is_not_acknowledged),
        cmocka_unit_test(a_verdict_waits_for_the_log),
    };

    return cmocka_run_group_tests_name("undurable", tests, NULL, NULL);
}
