/*
 * The queue of half-message requests and the workers that run them in batches.
 *
 * Invariant: an accepted request gets exactly one done call. The queue is bounded; a request
 * belongs to the queue until a worker takes it, then to that worker's batch. A batch never holds
 * one gid twice: the second stays in the queue, in order. One whose rows somebody holds goes back
 * into the queue, to be tried again a little later, for a second; the others go on meanwhile.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "half/half.h"
#include "sql/schema.h"

#define BATCH_LIMIT      256
#define PART_COST        128 /* of a part's names and small values, in bytes of a statement */
#define BUSY_WAIT_MIN_MS 10
#define BUSY_WAIT_MAX_MS 160
#define IDLE_S           10   /* of a session that stands still within a transaction */
#define IDLE_PING_MS     1000 /* a connection that was not used for longer is tried first */

struct half_store {
    struct half_store_opts opts;
    struct db_opts db_opts;
    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t work;   /* a request came, or is_closing: for a worker with a connection */
    pthread_cond_t down;   /* the same for one without, which only refuses: a wake-up that it took
                              would be missing where the work is done */
    TAILQ_HEAD(, half_request) queue;
    uint32_t waiting;
    uint32_t workers_up;
    bool is_closing;
    struct half_store_stats stats;
    struct thread *threads;
    uint32_t thread_count;
};

static uint32_t or_default(uint32_t value, uint32_t def)
{
    return value == 0 ? def : value;
}

enum obx_code half_store_submit(struct half_store *store, struct half_request *req,
                                struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    req->gid_hash = bytes_hash(req->gid);
    req->cost = req->gid.len;
    for (size_t i = 0; i < req->part_count; i++) {
        const struct half_part *part = &req->parts[i];

        req->cost += PART_COST + part->payload.len + part->headers.len + part->topic.len +
                     part->ordering_key.len + part->receipt_from.len + part->on_rejected.len;
    }
    req->is_answered = false;
    req->busy_since_ms = req->due_ms = 0;
    req->busy_wait_ms = 0;
    pthread_mutex_lock(&store->mutex);
    if (store->is_closing) {
        rc = obx_fail(err, OBX_E_CLOSED, "half-message store");
    } else if (store->waiting >= store->opts.queue_max) {
        store->stats.overloads++;
        rc = obx_fail(err, OBX_E_FULL, "%u half-message requests wait", store->waiting);
    } else {
        TAILQ_INSERT_TAIL(&store->queue, req, in_queue);
        store->waiting++;
        pthread_cond_signal(store->workers_up > 0 ? &store->work : &store->down);
    }
    pthread_mutex_unlock(&store->mutex);
    return rc;
}

/* Take what fits into one transaction and is due by now_ms, oldest first. Called with the mutex
 * held. */
static size_t take_batch(struct half_store *store, uint64_t now_ms, struct half_request **batch)
{
    struct half_request *req, *next;
    size_t count = 0, cost = 0;

    for (req = TAILQ_FIRST(&store->queue); req != NULL && count < store->opts.batch_max;
         req = next) {
        size_t same = 0;

        next = TAILQ_NEXT(req, in_queue);
        if (req->due_ms > now_ms)
            continue;
        if (count > 0 && cost + req->cost > store->opts.batch_max_bytes)
            break;
        while (same < count &&
               !(batch[same]->gid_hash == req->gid_hash && bytes_equal(batch[same]->gid, req->gid)))
            same++;
        if (same < count)
            continue;
        TAILQ_REMOVE(&store->queue, req, in_queue);
        cost += req->cost;
        batch[count++] = req;
    }
    store->waiting -= (uint32_t)count;
    return count;
}

static void count_verdict(struct half_store_stats *stats, const struct half_request *req)
{
    if (req->verdict == HALF_COMMIT)
        stats->committed++;
    else
        stats->rolled_back++;
    if (strcmp(req->actor, "producer") == 0)
        stats->verdicts_by_producer++;
    else if (strcmp(req->actor, "check") == 0)
        stats->verdicts_by_check++;
    else if (strcmp(req->actor, "barrier") == 0)
        stats->verdicts_by_barrier++;
}

static void count_answers(struct half_store *store, struct half_request *const *batch, size_t count)
{
    struct half_store_stats *stats = &store->stats;

    stats->batches++;
    for (size_t i = 0; i < count; i++) {
        switch (batch[i]->answer) {
        case HALF_ANS_OK:
            if (batch[i]->is_repeat)
                stats->repeats++;
            else if (batch[i]->kind == HALF_REQ_PREPARE)
                stats->prepared++;
            else if (batch[i]->kind == HALF_REQ_VERDICT)
                count_verdict(stats, batch[i]);
            break;
        case HALF_ANS_NOT_FOUND:
            stats->not_found++;
            break;
        case HALF_ANS_CONFLICT:
            stats->conflicts++;
            break;
        case HALF_ANS_REUSED:
            stats->reused++;
            break;
        case HALF_ANS_BUSY:
            stats->busy++;
            break;
        case HALF_ANS_FAILED:
            stats->failed++;
            break;
        }
    }
}

/* Answer all of a batch: numbers first, because done may free the requests. */
static void answer_batch(struct half_store *store, struct half_request **batch, size_t count)
{
    void (*after)(void *) = NULL;
    void *after_ctx = NULL;

    pthread_mutex_lock(&store->mutex);
    count_answers(store, batch, count);
    pthread_mutex_unlock(&store->mutex);
    for (size_t i = 0; i < count; i++) {
        void (*const next)(void *) = batch[i]->after;
        void *const next_ctx = batch[i]->after_ctx;

        if (after != NULL && next != NULL && (next != after || next_ctx != after_ctx))
            after(after_ctx);
        if (next != NULL) {
            after = next;
            after_ctx = next_ctx;
        }
        batch[i]->done(batch[i], batch[i]->ctx);
    }
    if (after != NULL)
        after(after_ctx);
}

/* Put a request at the end of the queue again. Called with the mutex held. */
static void put_back(struct half_store *store, struct half_request *req)
{
    req->is_answered = false;
    TAILQ_INSERT_TAIL(&store->queue, req, in_queue);
    store->waiting++;
}

/* Whether a request that found its rows held may be tried again, and when. */
static bool may_wait(const struct half_store *store, struct half_request *req, uint64_t now_ms)
{
    if (req->answer != HALF_ANS_BUSY || store->is_closing)
        return false;
    if (req->busy_since_ms == 0)
        req->busy_since_ms = now_ms;
    else if (now_ms - req->busy_since_ms >= store->opts.busy_ms)
        return false;
    req->busy_wait_ms = req->busy_wait_ms == 0 ? BUSY_WAIT_MIN_MS : req->busy_wait_ms * 2;
    if (req->busy_wait_ms > BUSY_WAIT_MAX_MS)
        req->busy_wait_ms = BUSY_WAIT_MAX_MS;
    req->due_ms = now_ms + req->busy_wait_ms;
    return true;
}

/* Those whose rows are held go back into the queue; the others stay in the batch, to be answered.
 */
static size_t keep_answered(struct half_store *store, struct half_request **batch, size_t count)
{
    const uint64_t now_ms = clock_now_ms();
    size_t kept = 0;

    pthread_mutex_lock(&store->mutex);
    for (size_t i = 0; i < count; i++) {
        if (may_wait(store, batch[i], now_ms))
            put_back(store, batch[i]);
        else
            batch[kept++] = batch[i];
    }
    pthread_mutex_unlock(&store->mutex);
    return kept;
}

static void fail_batch(struct half_store *store, struct half_request **batch, size_t count,
                       const struct obx_err *why)
{
    for (size_t i = 0; i < count; i++) {
        batch[i]->answer = HALF_ANS_FAILED;
        batch[i]->err = *why;
    }
    answer_batch(store, batch, count);
}

/* A worker has a connection now (+1), or has none any more (-1). */
static void count_worker(struct half_store *store, int change)
{
    pthread_mutex_lock(&store->mutex);
    store->workers_up += (uint32_t)change;
    store->stats.is_up = store->workers_up > 0;
    if (change > 0)
        store->stats.trouble[0] = '\0';
    if (store->workers_up == 0) /* what waits is refused now */
        pthread_cond_signal(&store->down);
    pthread_mutex_unlock(&store->mutex);
}

static void set_trouble(struct half_store *store, const struct obx_err *why)
{
    pthread_mutex_lock(&store->mutex);
    memcpy(store->stats.trouble, why->text, sizeof(store->stats.trouble));
    pthread_mutex_unlock(&store->mutex);
}

static struct db *try_connect(struct half_store *store, struct obx_err *err)
{
    struct db *db = NULL;
    enum obx_code rc = db_open(&store->db_opts, &db, err);

    if (rc == OBX_OK)
        rc = schema_check(db, SCHEMA_HALF, err);
    if (rc != OBX_OK) {
        db_close(db);
        return NULL;
    }
    return db;
}

/* Wait until something comes, or until what is in the queue is due. Called with the mutex held. */
static void wait_for_work(struct half_store *store)
{
    const struct half_request *req;
    uint64_t due_ms = UINT64_MAX;

    TAILQ_FOREACH(req, &store->queue, in_queue)
    if (req->due_ms < due_ms)
        due_ms = req->due_ms;
    if (TAILQ_EMPTY(&store->queue))
        pthread_cond_wait(&store->work, &store->mutex);
    else
        (void)cond_wait_ms(&store->work, &store->mutex, (uint32_t)clock_left_ms(due_ms) + 1);
}

/* The next batch; 0 when the store closes. */
static size_t wait_for_batch(struct half_store *store, struct half_request **batch)
{
    size_t count = 0;

    pthread_mutex_lock(&store->mutex);
    while (!store->is_closing && (count = take_batch(store, clock_now_ms(), batch)) == 0)
        wait_for_work(store);
    pthread_mutex_unlock(&store->mutex);
    return count;
}

/* Nothing has been done yet: they wait for the next connection. */
static void return_batch(struct half_store *store, struct half_request **batch, size_t count)
{
    pthread_mutex_lock(&store->mutex);
    for (size_t i = 0; i < count; i++)
        put_back(store, batch[i]);
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->mutex);
}

/* Work on one connection until it fails or the store closes. A connection that was idle may have
 * been closed by the server or by something in between; that is found out before a batch is given
 * to it, for afterwards its outcome would be unknown. */
static void serve(struct half_store *store, struct db *db)
{
    struct half_request *batch[BATCH_LIMIT];
    uint64_t used_ms = clock_now_ms();
    size_t count;

    while ((count = wait_for_batch(store, batch)) > 0) {
        struct obx_err err = {0};
        bool outbox_rows = false;
        enum obx_code rc = clock_now_ms() - used_ms >= IDLE_PING_MS ? db_ping(db, &err) : OBX_OK;

        if (rc != OBX_OK) {
            OBX_LOG(LOG_LVL_INFO, "half", "connection.closed_while_idle", KV_ERR(&err));
            return_batch(store, batch, count);
            return;
        }
        rc = half_batch_run(db, store->opts.outbox, batch, count, &outbox_rows, &err);
        used_ms = clock_now_ms();
        if (outbox_rows && store->opts.on_outbox_rows != NULL)
            store->opts.on_outbox_rows(store->opts.ctx);
        count = keep_answered(store, batch, count);
        answer_batch(store, batch, count);
        if (rc != OBX_OK) {
            OBX_LOG(LOG_LVL_WARN, "half", "connection.lost", KV_ERR(&err));
            set_trouble(store, &err);
            return;
        }
    }
}

/* Without a database requests do not wait: they are refused at once, so that the caller can go on.
 */
static void refuse_until(struct half_store *store, uint64_t due_ms, const struct obx_err *why)
{
    struct half_request *batch[BATCH_LIMIT];

    pthread_mutex_lock(&store->mutex);
    while (!store->is_closing && clock_left_ms(due_ms) > 0) {
        size_t count = store->workers_up == 0 ? take_batch(store, UINT64_MAX, batch) : 0;

        if (count > 0) {
            pthread_mutex_unlock(&store->mutex);
            fail_batch(store, batch, count, why);
            pthread_mutex_lock(&store->mutex);
            continue;
        }
        (void)cond_wait_ms(&store->down, &store->mutex, (uint64_t)clock_left_ms(due_ms) + 1);
    }
    pthread_mutex_unlock(&store->mutex);
}

static bool is_closing(struct half_store *store)
{
    bool closing;

    pthread_mutex_lock(&store->mutex);
    closing = store->is_closing;
    pthread_mutex_unlock(&store->mutex);
    return closing;
}

static void *worker_main(void *arg)
{
    struct half_store *store = arg;
    struct backoff backoff;

    backoff_init(&backoff, 100, 5000);
    while (!is_closing(store)) {
        struct obx_err err = {0};
        struct db *db = try_connect(store, &err);

        if (db == NULL) {
            OBX_LOG(LOG_LVL_WARN, "half", "connect.failed", KV_ERR(&err));
            set_trouble(store, &err);
            refuse_until(store, clock_now_ms() + backoff_next_ms(&backoff), &err);
            continue;
        }
        backoff_reset(&backoff);
        count_worker(store, 1);
        serve(store, db);
        count_worker(store, -1);
        db_close(db);
    }
    db_thread_end();
    return NULL;
}

enum obx_code half_store_create(const struct half_store_opts *opts, struct half_store **out,
                                struct obx_err *err)
{
    struct half_store *store = obx_calloc(1, sizeof(*store));

    *out = NULL;
    if (store == NULL)
        return obx_fail(err, OBX_E_NOMEM, "half-message store");
    store->opts = *opts;
    store->opts.outbox = opts->outbox != NULL ? opts->outbox : "outbox";
    store->opts.workers = or_default(opts->workers, HALF_WORKERS);
    store->opts.queue_max = or_default(opts->queue_max, HALF_QUEUE_MAX);
    store->opts.batch_max = or_default(opts->batch_max, HALF_BATCH_MAX);
    if (store->opts.batch_max > BATCH_LIMIT)
        store->opts.batch_max = BATCH_LIMIT;
    store->opts.batch_max_bytes = or_default(opts->batch_max_bytes, 1024 * 1024);
    store->db_opts = opts->db;
    store->opts.busy_ms = or_default(opts->busy_ms, 1000);
    store->db_opts.lock_wait_s = or_default(opts->db.lock_wait_s, 1);
    store->db_opts.idle_s = or_default(opts->db.idle_s, IDLE_S);
    TAILQ_INIT(&store->queue);
    pthread_mutex_init(&store->mutex, NULL);
    cond_init(&store->work);
    cond_init(&store->down);
    store->threads = obx_calloc(store->opts.workers, sizeof(*store->threads));
    if (store->threads == NULL) {
        half_store_destroy(store);
        return obx_fail(err, OBX_E_NOMEM, "%u workers", store->opts.workers);
    }
    for (; store->thread_count < store->opts.workers; store->thread_count++) {
        enum obx_code rc = thread_start(&store->threads[store->thread_count], worker_main, store,
                                        "the half-message store", err);

        if (rc != OBX_OK) {
            half_store_destroy(store);
            return rc;
        }
    }
    *out = store;
    return OBX_OK;
}

void half_store_destroy(struct half_store *store)
{
    struct obx_err why = {0};

    if (store == NULL)
        return;
    pthread_mutex_lock(&store->mutex);
    store->is_closing = true;
    pthread_cond_broadcast(&store->work);
    pthread_cond_broadcast(&store->down);
    pthread_mutex_unlock(&store->mutex);
    for (uint32_t i = 0; i < store->thread_count; i++)
        thread_join(&store->threads[i]);
    /* Nobody else is left: what waits is answered here. */
    (void)obx_fail(&why, OBX_E_CLOSED, "half-message store");
    while (!TAILQ_EMPTY(&store->queue)) {
        struct half_request *batch[BATCH_LIMIT];
        size_t count = take_batch(store, UINT64_MAX, batch);

        fail_batch(store, batch, count, &why);
    }
    pthread_cond_destroy(&store->work);
    pthread_cond_destroy(&store->down);
    pthread_mutex_destroy(&store->mutex);
    obx_free(store->threads);
    obx_free(store);
}

void half_store_get_stats(struct half_store *store, struct half_store_stats *out)
{
    pthread_mutex_lock(&store->mutex);
    *out = store->stats;
    out->waiting = store->waiting;
    out->workers_up = store->workers_up;
    pthread_mutex_unlock(&store->mutex);
}
