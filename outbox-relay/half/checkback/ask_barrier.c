/* The client that asks the barrier: see ask_barrier.h, and docs/adr/0004-half-messages.md for what
 * each meeting of the INSERT means. */
#include "ask_barrier.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/random.h"
#include "base/thread.h"
#include "half/half.h"

#define LOCK_WAIT_S 1 /* the shortest that MySQL knows; MariaDB does not wait at all then */

struct barrier_job {
    char gid[HALF_GID_MAX + 1];
    bool may_decide;
    void *ctx;
    STAILQ_ENTRY(barrier_job) in_queue;
};

struct ask_barrier {
    struct db_opts db;
    ask_barrier_done_fn *done;
    pthread_mutex_t mutex; /* guards the list and is_closing */
    pthread_cond_t work;
    STAILQ_HEAD(, barrier_job) jobs;
    bool is_closing;
    struct thread *threads;
    uint32_t thread_count;
};

/* *found: the key is there, committed. */
static enum obx_code read_key(struct db *db, const char *gid, bool *found,
                              enum check_answer *answer, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(db, "SELECT reason FROM half_barrier WHERE gid = ? AND branch = '' AND op = 'msg'",
                 DB_ARGS(DB_TEXT(gid)), &rows, err);

    *found = rc == OBX_OK && db_rows_next(rows);
    if (*found)
        *answer = bytes_is(db_rows_bytes(rows, 0), "rollback") ? CHECK_ROLLED_BACK
                  : bytes_is(db_rows_bytes(rows, 0), "commit") ? CHECK_COMMITTED
                                                               : CHECK_UNKNOWN;
    db_rows_free(rows);
    return rc;
}

/*
 * Without a binary log InnoDB shows what others have committed before it is in the log, and a server
 * that dies takes it back: the message would have been sent for a transaction that never was. A row
 * of our own, committed after the reading, has everything in the log that was seen. It goes with the
 * others, by outboxctl barrier clean. See docs/adr/0025-published-when-durable.md.
 */
static enum obx_code believe(struct db *db, const char *gid, enum check_answer *answer,
                             struct obx_err *err)
{
    char branch[32];
    enum obx_code rc = OBX_OK;

    (void)snprintf(branch, sizeof(branch), "seen-%016" PRIx64, random_u64());
    rc = db_exec(db,
                 "INSERT INTO half_barrier (gid, branch, op, reason) "
                 "SELECT ?, ?, 'msg', 'seen' FROM DUAL WHERE @@log_bin = 0",
                 DB_ARGS(DB_TEXT(gid), DB_TEXT(branch)), NULL, err);
    if (rc != OBX_OK)
        *answer = CHECK_NO_ANSWER;
    return rc;
}

enum obx_code barrier_ask(struct db *db, const char *gid, bool may_decide,
                          enum check_answer *answer, struct obx_err *err)
{
    bool found = false;
    enum obx_code rc;

    *answer = CHECK_NO_ANSWER;
    rc = read_key(db, gid, &found, answer, err);
    if (rc != OBX_OK)
        return rc;
    if (found)
        return believe(db, gid, answer, err);
    if (!may_decide) {
        *answer = CHECK_UNKNOWN;
        return OBX_OK;
    }
    rc = db_exec(
        db, "INSERT INTO half_barrier (gid, branch, op, reason) VALUES (?, '', 'msg', 'rollback')",
        DB_ARGS(DB_TEXT(gid)), NULL, err);
    if (rc == OBX_OK) {
        *answer = CHECK_ROLLED_BACK;
    } else if (rc == OBX_E_DB_LOCK_WAIT) {
        *answer = CHECK_IN_PROGRESS;
        rc = OBX_OK;
    } else if (rc == OBX_E_DB_DUPLICATE) {
        /* Committed between the reading and the insert. Gone again (a cleanup that comes too early):
         * no answer. */
        rc = read_key(db, gid, &found, answer, err);
        if (rc == OBX_OK && found)
            rc = believe(db, gid, answer, err);
    }
    return rc;
}

static struct db *connect_barrier(struct ask_barrier *client, struct obx_err *err)
{
    struct db *db = NULL;

    if (db_open(&client->db, &db, err) != OBX_OK)
        return NULL;
    if (db_server_is_mariadb(db) &&
        db_exec_text(db, bytes_of("SET SESSION innodb_lock_wait_timeout = 0"), NULL, err) !=
            OBX_OK) {
        db_close(db);
        return NULL;
    }
    return db;
}

/* Ask once; *db is closed and NULL when it is of no more use. */
static void run_job(struct ask_barrier *client, struct db **db, const struct barrier_job *job)
{
    struct obx_err err = {0};
    enum check_answer answer = CHECK_NO_ANSWER;
    enum obx_code rc = OBX_OK;

    /* It may have been closed while there was nothing to ask; that is not the producer's failure.
     */
    if (*db != NULL && db_ping(*db, NULL) != OBX_OK) {
        db_close(*db);
        *db = NULL;
    }
    if (*db == NULL)
        *db = connect_barrier(client, &err);
    if (*db != NULL)
        rc = barrier_ask(*db, job->gid, job->may_decide, &answer, &err);
    if (*db != NULL && (rc == OBX_E_TIMEOUT || obx_code_action(rc) == OBX_DO_RECONNECT)) {
        db_close(*db);
        *db = NULL;
    }
    client->done(job->ctx, answer, err.text[0] != '\0' ? err.text : "barrier");
}

static struct barrier_job *take_job(struct ask_barrier *client)
{
    struct barrier_job *job;

    pthread_mutex_lock(&client->mutex);
    while (STAILQ_EMPTY(&client->jobs) && !client->is_closing)
        pthread_cond_wait(&client->work, &client->mutex);
    job = client->is_closing ? NULL : STAILQ_FIRST(&client->jobs);
    if (job != NULL)
        STAILQ_REMOVE_HEAD(&client->jobs, in_queue);
    pthread_mutex_unlock(&client->mutex);
    return job;
}

static void *barrier_main(void *arg)
{
    struct ask_barrier *client = arg;
    struct db *db = NULL;
    struct barrier_job *job;

    while ((job = take_job(client)) != NULL) {
        run_job(client, &db, job);
        obx_free(job);
    }
    db_close(db);
    db_thread_end();
    return NULL;
}

enum obx_code ask_barrier_start(struct ask_barrier *client, const char *gid, bool may_decide,
                                void *ctx, struct obx_err *err)
{
    struct barrier_job *job = obx_calloc(1, sizeof(*job));

    if (job == NULL)
        return obx_fail(err, OBX_E_NOMEM, "barrier ask");
    (void)bytes_to_text(bytes_of(gid), job->gid, sizeof(job->gid));
    job->may_decide = may_decide;
    job->ctx = ctx;
    pthread_mutex_lock(&client->mutex);
    STAILQ_INSERT_TAIL(&client->jobs, job, in_queue);
    pthread_cond_signal(&client->work);
    pthread_mutex_unlock(&client->mutex);
    return OBX_OK;
}

enum obx_code ask_barrier_create(const struct ask_barrier_opts *opts, struct ask_barrier **out,
                                 struct obx_err *err)
{
    uint32_t threads = opts->threads == 0 ? 4 : opts->threads;
    struct ask_barrier *client = obx_calloc(1, sizeof(*client));
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (client == NULL)
        return obx_fail(err, OBX_E_NOMEM, "barrier client");
    client->db = opts->db;
    client->db.lock_wait_s = LOCK_WAIT_S;
    client->done = opts->done;
    STAILQ_INIT(&client->jobs);
    pthread_mutex_init(&client->mutex, NULL);
    pthread_cond_init(&client->work, NULL);
    client->threads = obx_calloc(threads, sizeof(*client->threads));
    if (client->threads == NULL)
        rc = obx_fail(err, OBX_E_NOMEM, "%u threads of check-back by the barrier", threads);
    for (; rc == OBX_OK && client->thread_count < threads; client->thread_count++)
        rc = thread_start(&client->threads[client->thread_count], barrier_main, client,
                          "check-back by the barrier", err);
    if (rc != OBX_OK) {
        ask_barrier_destroy(client);
        return rc;
    }
    *out = client;
    return OBX_OK;
}

void ask_barrier_destroy(struct ask_barrier *client)
{
    struct barrier_job *job;

    if (client == NULL)
        return;
    pthread_mutex_lock(&client->mutex);
    client->is_closing = true;
    pthread_cond_broadcast(&client->work);
    pthread_mutex_unlock(&client->mutex);
    for (uint32_t i = 0; i < client->thread_count; i++)
        thread_join(&client->threads[i]);
    while ((job = STAILQ_FIRST(&client->jobs)) != NULL) {
        STAILQ_REMOVE_HEAD(&client->jobs, in_queue);
        obx_free(job);
    }
    pthread_cond_destroy(&client->work);
    pthread_mutex_destroy(&client->mutex);
    obx_free(client->threads);
    obx_free(client);
}
