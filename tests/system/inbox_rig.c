/* See inbox_rig.h. */
#include "inbox_rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "sql/schema.h"
#include "wait.h"

enum { IDLE_MS = 5 };

static const char queue_name[] = "orders";

static void grant_effects(struct inbox_rig *rig)
{
    struct db_opts root = test_db_root_opts();
    struct db *db = test_db_open(&root);
    char sql[512];

    (void)snprintf(sql, sizeof(sql), "GRANT SELECT, INSERT ON `%s`.applied TO '%s'@'%%'",
                   rig->rig->test_db.name, rig->worker_user.name);
    test_db_run(db, sql);
    db_close(db);
}

void inbox_rig_configure(struct inbox_rig *rig, const char *lines)
{
    const struct db_opts *db = &rig->relay_user.opts;
    FILE *file = fopen(rig->config, "w");

    assert_non_null(file);
    fprintf(file,
            "[notify]\nhttp_port = 0\nname = test\ndrain = 20s\n"
            "[broker]\naddresses = %s\nvhost = %s\nuser = %s\npassword = %s\n"
            "[database]\nhost = %s\nport = %u\nuser = %s\npassword = %s\ndatabase = %s\n"
            "[queue %s]\nqueue = %s\ngroup = group-a\nmax_attempts = 3\nretry_min = 20ms\n"
            "retry_max = 100ms\nwake = %s\n%s",
            rig->rig->broker.address, rig->rig->broker.vhost, rig->rig->broker.user,
            rig->rig->broker.password, db->host, (unsigned)db->port, db->user, db->password,
            db->database, queue_name, rig->rig->queue, rig->wake, lines);
    assert_int_equal(fclose(file), 0);
}

int inbox_rig_setup(void **state)
{
    struct inbox_rig *rig = calloc(1, sizeof(*rig));
    void *inner = NULL;
    struct obx_err err = {0};

    if (rig == NULL || rig_setup(&inner) != 0)
        return -1;
    rig->rig = inner;
    rig->rig->opts.single_active_consumer = true;
    assert_int_equal(schema_migrate(rig->rig->db, SCHEMA_INBOX, NULL, NULL, &err), OBX_OK);
    test_user_create(&rig->relay_user, &rig->rig->test_db, "inbox-relay");
    test_user_create(&rig->worker_user, &rig->rig->test_db, "inbox worker");
    grant_effects(rig);
    rig->worker_opts = rig->worker_user.opts;
    (void)snprintf(rig->dir, sizeof(rig->dir), "/tmp/inbox-XXXXXX");
    assert_non_null(mkdtemp(rig->dir));
    (void)snprintf(rig->config, sizeof(rig->config), "%s/relay.conf", rig->dir);
    (void)snprintf(rig->log, sizeof(rig->log), "%s/relay.log", rig->dir);
    (void)snprintf(rig->wake, sizeof(rig->wake), "%s/wake", rig->dir);
    assert_int_equal(mkdir(rig->wake, 0700), 0);
    inbox_rig_configure(rig, "");
    rig_declare(rig->rig);
    *state = rig;
    return 0;
}

static void print_log(const struct inbox_rig *rig)
{
    char command[256];

    if (getenv("OBX_TEST_LOG") == NULL)
        return;
    (void)snprintf(command, sizeof(command), "cat '%s' >&2", rig->log);
    if (system(command) != 0)
        print_message("no log\n");
}

int inbox_rig_teardown(void **state)
{
    struct inbox_rig *rig = *state;
    void *inner = rig->rig;
    char command[128];

    if (rig->workers != NULL)
        (void)inbox_workers_stop(rig->workers);
    proc_destroy(rig->relay[0]);
    proc_destroy(rig->relay[1]);
    print_log(rig);
    test_user_drop(&rig->relay_user);
    test_user_drop(&rig->worker_user);
    (void)snprintf(command, sizeof(command), "rm -r '%s'", rig->dir);
    if (system(command) != 0)
        print_message("%s stays\n", rig->dir);
    free(rig);
    return rig_teardown(&inner);
}

void inbox_rig_start(struct inbox_rig *rig, int which, const char *env)
{
    const char *const argv[] = {INBOX_PROGRAM, "--config", rig->config, NULL};
    const char *const envs[] = {env, NULL};
    const struct proc_opts opts = {.argv = argv, .env = envs, .log_path = rig->log};

    proc_destroy(rig->relay[which]);
    rig->relay[which] = proc_start(&opts);
    assert_non_null(rig->relay[which]);
}

void inbox_rig_stop(struct inbox_rig *rig, int which)
{
    struct proc_exit how = {0};

    assert_true(proc_signal(rig->relay[which], SIGTERM));
    assert_true(proc_wait(rig->relay[which], RIG_WAIT_MS, &how));
    if (how.code != 0)
        print_log(rig);
    assert_int_equal(how.code, 0);
    proc_destroy(rig->relay[which]);
    rig->relay[which] = NULL;
}

/* ------------------------------------------------------------------ workers */

struct inbox_worker {
    pthread_t thread;
    struct inbox_workers *all;
    uint64_t done;
};

struct inbox_workers {
    struct inbox_rig *rig;
    struct db_opts opts;
    inbox_act_fn *act;
    atomic_bool is_stopping;
    int count;
    struct inbox_worker workers[INBOX_WORKERS_MAX];
};

static enum obx_code write_effect(struct db *db, const struct inbox_taken *taken,
                                  struct obx_err *err)
{
    return db_exec(
        db, "INSERT INTO applied (message_id, ordering_key, body, attempt) VALUES (?, ?, ?, ?)",
        DB_ARGS(DB_TEXT(taken->message_id), DB_TEXT(taken->has_key ? taken->key : NULL),
                DB_TEXT(taken->payload), DB_U64(taken->attempt)),
        NULL, err);
}

static enum obx_code act_on(struct db *db, const struct inbox_taken *taken, enum inbox_act act,
                            struct obx_err *err)
{
    enum obx_code rc = db_exec(db, "SAVEPOINT work", DB_NO_ARGS, NULL, err);

    if (rc == OBX_OK)
        rc = write_effect(db, taken, err);
    if (rc == OBX_OK && act != INBOX_ACT_DONE)
        rc = db_exec(db, "ROLLBACK TO SAVEPOINT work", DB_NO_ARGS, NULL, err);
    if (rc == OBX_OK && act == INBOX_ACT_DONE)
        rc = inbox_done(db, queue_name, taken, NULL, err);
    if (rc == OBX_OK && act == INBOX_ACT_RETRY)
        rc = inbox_retry(db, taken, -1, "not now", err);
    if (rc == OBX_OK && act == INBOX_ACT_REJECT)
        rc = inbox_reject(db, taken, "no such order", err);
    return rc == OBX_OK ? db_commit(db, err) : rc;
}

bool inbox_work_once(struct db *db, struct inbox_from *from, inbox_act_fn *act, struct obx_err *err)
{
    struct inbox_taken taken = {0};
    bool found = false;
    enum obx_code rc = db_begin(db, err);

    if (rc == OBX_OK)
        rc = inbox_take(db, queue_name, from, &taken, &found, err);
    if (rc == OBX_OK && found)
        rc = act_on(db, &taken, act == NULL ? INBOX_ACT_DONE : act(&taken), err);
    if (rc != OBX_OK || !found)
        (void)db_rollback(db, NULL);
    err->code = rc;
    return rc == OBX_OK && found;
}

/* As a service does: a new connection when the old one is lost, again after anything else. */
static void *run_worker(void *arg)
{
    struct inbox_worker *worker = arg;
    struct inbox_workers *all = worker->all;
    struct db *db = NULL;
    struct inbox_from from = {.back_us = 0};
    struct obx_err err = {0};

    while (!atomic_load(&all->is_stopping)) {
        if (db == NULL && db_open(&all->opts, &db, &err) != OBX_OK) {
            (void)poll(NULL, 0, IDLE_MS);
            continue;
        }
        if (inbox_work_once(db, &from, all->act, &err)) {
            worker->done++;
        } else if (db_is_lost(db)) {
            db_close(db);
            db = NULL;
        } else {
            (void)poll(NULL, 0, IDLE_MS);
        }
    }
    db_close(db);
    db_thread_end();
    return NULL;
}

struct inbox_workers *inbox_workers_start(struct inbox_rig *rig, int count, inbox_act_fn *act)
{
    struct inbox_workers *workers = calloc(1, sizeof(*workers));

    assert_non_null(workers);
    assert_null(rig->workers);
    rig->workers = workers;
    workers->rig = rig;
    workers->opts = rig->worker_opts;
    workers->act = act;
    for (int i = 0; i < count; i++) {
        workers->workers[i].all = workers;
        assert_int_equal(
            pthread_create(&workers->workers[i].thread, NULL, run_worker, &workers->workers[i]), 0);
        workers->count++;
    }
    return workers;
}

uint64_t inbox_workers_stop(struct inbox_workers *workers)
{
    uint64_t done = 0;

    atomic_store(&workers->is_stopping, true);
    for (int i = 0; i < workers->count; i++) {
        pthread_join(workers->workers[i].thread, NULL);
        done += workers->workers[i].done;
    }
    workers->rig->workers = NULL;
    free(workers);
    return done;
}

void inbox_rig_put_asking(struct inbox_rig *rig, const char *id, const char *key, const char *body,
                          const char *receipt_queue)
{
    const struct obx_header headers[] = {
        {.name = bytes_of("cloudEvents:partitionkey"), .type = OBX_H_TEXT, .v.text = bytes_of(key)},
        {.name = bytes_of("x-obx-receipt-to"),
         .type = OBX_H_TEXT,
         .v.text = bytes_of(receipt_queue)},
        {.name = bytes_of("x-obx-receipt-from"),
         .type = OBX_H_TEXT,
         .v.text = bytes_of("group-a, other")},
        {.name = bytes_of("x-obx-receipt-token"),
         .type = OBX_H_TEXT,
         .v.text = bytes_of("token-of-the-test")},
    };
    const size_t skip = key == NULL ? 1 : 0;
    const struct bridge_message msg = {.exchange = bytes_of(""),
                                       .routing_key = bytes_of(rig->rig->queue),
                                       .message_id = bytes_of(id),
                                       .type = bytes_of("order.placed"),
                                       .headers = headers + skip,
                                       .header_count = 4 - skip,
                                       .body = bytes_of(body)};

    rig_put_message(rig->rig, &msg);
}
