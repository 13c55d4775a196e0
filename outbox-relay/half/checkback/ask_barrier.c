/* The client that asks the barrier: see ask_barrier.h, and docs/adr/0004-half-messages.md for what
 * each meeting of the INSERT means. */
#include "ask_barrier.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/thread.h"
#include "half/half.h"

#define LOCK_WAIT_S 1 /* the shortest that MySQL knows; MariaDB is told not to wait at all */

struct barrier_job {
    char gid[HALF_GID_MAX + 1];
    bool may_decide;
    void *ctx;
    struct barrier_job *next;
};

struct ask_barrier {
    struct db_opts db;
    ask_barrier_done_fn *done;
    pthread_mutex_t mutex; /* guards the list and is_closing */
    pthread_cond_t work;
    struct barrier_job *head, **tail;
    bool is_closing;
    struct thread *threads;
    uint32_t thread_count;
};

static enum check_answer answer_of(struct obx_bytes reason)
{
    if (bytes_is(reason, "rollback"))
        return CHECK_ROLLED_BACK;
    return bytes_is(reason, "commit") ? CHECK_COMMITTED : CHECK_UNKNOWN;
}

/* *found tells whether the key is there, committed. */
static enum obx_code look(struct db *db, const char *gid, bool *found, enum check_answer *answer,
                          struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(db, "SELECT reason FROM half_barrier WHERE gid = ? AND branch = '' AND op = 'msg'",
                 DB_ARGS(DB_TEXT(gid)), &rows, err);

    *found = rc == OBX_OK && db_rows_next(rows);
    if (*found)
        *answer = answer_of(db_rows_bytes(rows, 0));
    db_rows_free(rows);
    return rc;
}

enum obx_code barrier_ask(struct db *db, const char *gid, bool may_decide,
                          enum check_answer *answer, struct obx_err *err)
{
    bool found = false;
    enum obx_code rc;

    *answer = CHECK_NO_ANSWER;
    rc = look(db, gid, &found, answer, err);
    if (rc != OBX_OK || found)
        return rc;
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
        /* Committed between the look and the insert. Gone again (a cleanup that comes too early):
         * no answer. */
        rc = look(db, gid, &found, answer, err);
    }
    return rc;
}

static struct db *connect_barrier(struct ask_barrier *asker, struct obx_err *err)
{
    struct db *db = NULL;

    if (db_open(&asker->db, &db, err) != OBX_OK)
        return NULL;
    if (db_server_is_mariadb(db) &&
        db_exec_text(db, bytes_of("SET SESSION innodb_lock_wait_timeout = 0"), NULL, err) !=
            OBX_OK) {
        db_close(db);
        return NULL;
    }
    return db;
}

static bool is_sound(enum obx_code rc)
{
    return rc != OBX_E_TIMEOUT && obx_code_action(rc) != OBX_DO_RECONNECT;
}

/* Ask once; *db is closed and NULL when it is of no more use. */
static void run_job(struct ask_barrier *asker, struct db **db, const struct barrier_job *job)
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
        *db = connect_barrier(asker, &err);
    if (*db != NULL)
        rc = barrier_ask(*db, job->gid, job->may_decide, &answer, &err);
    if (*db != NULL && !is_sound(rc)) {
        db_close(*db);
        *db = NULL;
    }
    asker->done(job->ctx, answer, err.text[0] != '\0' ? err.text : "barrier");
}

static struct barrier_job *take_job(struct ask_barrier *asker)
{
    struct barrier_job *job;

    pthread_mutex_lock(&asker->mutex);
    while (asker->head == NULL && !asker->is_closing)
        pthread_cond_wait(&asker->work, &asker->mutex);
    job = asker->is_closing ? NULL : asker->head;
    if (job != NULL) {
        asker->head = job->next;
        if (asker->head == NULL)
            asker->tail = &asker->head;
    }
    pthread_mutex_unlock(&asker->mutex);
    return job;
}

static void *barrier_main(void *arg)
{
    struct ask_barrier *asker = arg;
    struct db *db = NULL;
    struct barrier_job *job;

    while ((job = take_job(asker)) != NULL) {
        run_job(asker, &db, job);
        obx_free(job);
    }
    db_close(db);
    db_thread_end();
    return NULL;
}

enum obx_code ask_barrier_start(struct ask_barrier *asker, const char *gid, bool may_decide,
                                void *ctx, struct obx_err *err)
{
    struct barrier_job *job = obx_calloc(1, sizeof(*job));

    if (job == NULL)
        return obx_fail(err, OBX_E_NOMEM, "barrier ask");
    (void)bytes_to_text(bytes_of(gid), job->gid, sizeof(job->gid));
    job->may_decide = may_decide;
    job->ctx = ctx;
    pthread_mutex_lock(&asker->mutex);
    *asker->tail = job;
    asker->tail = &job->next;
    pthread_cond_signal(&asker->work);
    pthread_mutex_unlock(&asker->mutex);
    return OBX_OK;
}

enum obx_code ask_barrier_create(const struct ask_barrier_opts *opts, struct ask_barrier **out,
                                 struct obx_err *err)
{
    uint32_t threads = opts->threads == 0 ? 4 : opts->threads;
    struct ask_barrier *asker = obx_calloc(1, sizeof(*asker));
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (asker == NULL)
        return obx_fail(err, OBX_E_NOMEM, "barrier client");
    asker->db = opts->db;
    asker->db.lock_wait_s = LOCK_WAIT_S;
    asker->done = opts->done;
    asker->tail = &asker->head;
    pthread_mutex_init(&asker->mutex, NULL);
    pthread_cond_init(&asker->work, NULL);
    asker->threads = obx_calloc(threads, sizeof(*asker->threads));
    if (asker->threads == NULL)
        rc = obx_fail(err, OBX_E_NOMEM, "%u threads of check-back by the barrier", threads);
    for (; rc == OBX_OK && asker->thread_count < threads; asker->thread_count++)
        rc = thread_start(&asker->threads[asker->thread_count], barrier_main, asker,
                          "check-back by the barrier", err);
    if (rc != OBX_OK) {
        ask_barrier_destroy(asker);
        return rc;
    }
    *out = asker;
    return OBX_OK;
}

void ask_barrier_destroy(struct ask_barrier *asker)
{
    if (asker == NULL)
        return;
    pthread_mutex_lock(&asker->mutex);
    asker->is_closing = true;
    pthread_cond_broadcast(&asker->work);
    pthread_mutex_unlock(&asker->mutex);
    for (uint32_t i = 0; i < asker->thread_count; i++)
        thread_join(&asker->threads[i]);
    while (asker->head != NULL) {
        struct barrier_job *job = asker->head;

        asker->head = job->next;
        obx_free(job);
    }
    pthread_cond_destroy(&asker->work);
    pthread_mutex_destroy(&asker->mutex);
    obx_free(asker->threads);
    obx_free(asker);
}
