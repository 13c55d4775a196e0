/*
 * The worker thread: connect, take a batch, apply it, post the outcome, again. It sleeps on the
 * mailbox and on nothing else; every blocking call it makes is the database client's,
 * which has deadlines, or the handler's.
 */
#include "worker.h"

#include <limits.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    CONNECT_MIN_MS = 100,
    CONNECT_CAP_MS = 5000,
    UNDONE_MIN_MS = 5,
    UNDONE_CAP_MS = 2000,
    PING_EVERY_MS = 15000,
    PINGS_PER_IDLE = 3, /* before the server would end the session */
    WARY_MS = 10000,
    HELD_MS = 100,
    MS_PER_S = 1000,
    CHUNK = 20, /* messages between two savepoints */
    US_PER_MS = 1000
};
#define US_PER_S UINT64_C(1000000)

enum obx_code worker_init(struct worker *worker, struct shared *shared, unsigned index,
                          struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    *worker = (struct worker){.shared = shared, .index = index};
    worker->batch_limit = shared->settings.batch_max;
    backoff_init(&worker->connect_wait, CONNECT_MIN_MS, CONNECT_CAP_MS);
    backoff_init(&worker->undone_wait, UNDONE_MIN_MS, UNDONE_CAP_MS);
    rc = mailbox_init(&worker->box, err);
    if (rc != OBX_OK)
        return rc;
    rc = trouble_init(&worker->trouble, err);
    if (rc != OBX_OK)
        goto no_trouble;
    worker->batch = obx_calloc(shared->settings.batch_max, sizeof(struct item *));
    if (worker->batch != NULL)
        return OBX_OK;
    rc = obx_fail(err, OBX_E_NOMEM, "batch of %u", shared->settings.batch_max);
    trouble_fini(&worker->trouble);
no_trouble:
    mailbox_fini(&worker->box);
    return rc;
}

void worker_fini(struct worker *worker)
{
    buf_fini(&worker->orphans_from);
    obx_free(worker->batch);
    trouble_fini(&worker->trouble);
    mailbox_fini(&worker->box);
}

/* ------------------------------------------------------------------ the connection */

void worker_set_trouble(struct worker *worker, const struct obx_err *err)
{
    if (err == NULL && !worker->is_troubled)
        return;
    worker->is_troubled = err != NULL;
    trouble_set(&worker->trouble, err);
}

void worker_disconnect(struct worker *worker)
{
    if (worker->db == NULL)
        return;
    store_db_close(worker->db);
    worker->db = NULL;
    counters_sub(&worker->shared->counters, CNT_DATABASES_UP, 1);
}

static void connect_failed(struct worker *worker, const struct obx_err *err)
{
    uint32_t wait_ms = backoff_next_ms(&worker->connect_wait);

    worker_set_trouble(worker, err);
    worker->not_before_ms = clock_now_ms() + wait_ms;
    OBX_LOG(LOG_LVL_WARN, "consumer", "database.down",
            KV_STR("group", worker->shared->settings.group), KV_U64("worker", worker->index),
            KV_U64("retry_ms", wait_ms), KV_ERR(err));
}

static void connect_store(struct worker *worker)
{
    struct obx_err err = {0};

    if (store_db_open(&worker->shared->settings, &worker->db, &err) != OBX_OK) {
        connect_failed(worker, &err);
        return;
    }
    backoff_reset(&worker->connect_wait);
    worker->used_ms = clock_now_ms();
    counters_add(&worker->shared->counters, CNT_DATABASES_UP, 1);
    counters_add(&worker->shared->counters, CNT_DATABASE_CONNECTS, 1);
    /* While batches are still being undone the reason stays visible until one commits. */
    if (worker->undone_wait.tries == 0)
        worker_set_trouble(worker, NULL);
    OBX_LOG(LOG_LVL_INFO, "consumer", "database.up",
            KV_STR("group", worker->shared->settings.group), KV_U64("worker", worker->index),
            KV_U64("connection", db_connection_id(store_db_handle(worker->db))));
}

static uint64_t ping_every_ms(const struct worker *worker)
{
    uint64_t most_ms = (uint64_t)worker->shared->settings.db.idle_s * MS_PER_S / PINGS_PER_IDLE;

    return most_ms < PING_EVERY_MS ? most_ms : PING_EVERY_MS;
}

/* A connection that nothing is sent over for long can be dead without a sign. */
static void ping_when_idle(struct worker *worker)
{
    struct obx_err err = {0};

    if (worker->db == NULL || clock_now_ms() - worker->used_ms < ping_every_ms(worker))
        return;
    worker->used_ms = clock_now_ms();
    if (db_ping(store_db_handle(worker->db), &err) == OBX_OK)
        return;
    worker_disconnect(worker);
    worker_set_trouble(worker, &err);
}

/* ------------------------------------------------------------------ a batch */

static enum obx_verdict call_handler(void *ctx, struct item *item, struct obx_err *failed,
                                     char *reason, size_t reason_size)
{
    struct worker *worker = ctx;
    struct obx_tx tx;
    enum obx_verdict verdict = OBX_RETRY;

    tx_init(&tx, store_db_handle(worker->db));
    item->msg.attempt = item->parked_id != 0 ? item->attempts : 1;
    verdict = worker->shared->handler(&item->msg, &tx, worker->shared->handler_ctx);
    *failed = tx.failed;
    snprintf(reason, reason_size, "%s", tx.reason);
    tx_fini(&tx);
    return verdict;
}

/* Ready items up to the limit; one that has to be alone is. What can be neither applied nor parked
 * for now is passed over, with those of its key. */
static size_t take_batch(struct worker *worker)
{
    struct item_list passed_over = {0};
    size_t count = 0;

    while (count < worker->batch_limit && worker->ready.head != NULL) {
        struct item *item = worker->ready.head;

        if (worker_holds(worker, &passed_over, item)) {
            item_list_push(&passed_over, item_list_pop(&worker->ready));
            continue;
        }
        if (item->alone && count > 0)
            break;
        worker->batch[count++] = item_list_pop(&worker->ready);
        if (item->alone)
            break;
    }
    item_list_prepend(&worker->ready, &passed_over);
    return count;
}

static uint64_t refuse_before_us(const struct settings *settings)
{
    uint64_t now = clock_wall_us();
    uint64_t retention = (uint64_t)settings->dedup_retention_s * US_PER_S;

    return settings->accept_older_than_retention || now < retention ? 0 : now - retention;
}

static void apply(struct worker *worker, size_t count, struct apply_report *report)
{
    const struct shared *shared = worker->shared;
    const struct apply apply = {
        .store = store_db_store(worker->db),
        .handler = {.call = call_handler, .ctx = worker},
        .counters = &worker->shared->counters,
        .chunk = CHUNK,
        .max_ms = shared->settings.batch_max_ms,
        .refuse_us = refuse_before_us(&shared->settings),
        .is_wary = clock_now_ms() < worker->wary_until_ms,
        .group = shared->settings.group,
        .policy = {.max_attempts = shared->settings.max_attempts,
                   .retry_min_ms = shared->settings.retry_min_ms,
                   .retry_cap_ms = shared->settings.retry_cap_ms,
                   .skips_dead = shared->settings.skips_dead,
                   .sends_letters = shared->settings.dead_letter_queue != NULL},
    };

    apply_batch(&apply, worker->batch, count, report);
    worker->used_ms = clock_now_ms();
    if (report->met_lock)
        worker->wary_until_ms = worker->used_ms + WARY_MS;
}

static void after_commit(struct worker *worker)
{
    uint32_t most = worker->shared->settings.batch_max;

    backoff_reset(&worker->undone_wait);
    worker_set_trouble(worker, NULL);
    worker->batch_limit = worker->batch_limit > most / 2 ? most : worker->batch_limit * 2;
}

static void after_undone(struct worker *worker, size_t count, const struct apply_report *report)
{
    uint32_t wait_ms = backoff_next_ms(&worker->undone_wait);

    worker->batch_limit = count > 1 ? (uint32_t)(count / 2) : 1;
    worker->not_before_ms = clock_now_ms() + wait_ms;
    worker_set_trouble(worker, &report->err);
    OBX_LOG(LOG_LVL_WARN, "consumer", "batch.undone",
            KV_STR("group", worker->shared->settings.group), KV_U64("worker", worker->index),
            KV_U64("messages", count), KV_U64("retry_ms", wait_ms), KV_ERR(&report->err));
}

static void run_batch(struct worker *worker)
{
    struct apply_report report;
    size_t count = take_batch(worker);

    if (count == 0) { /* all that is ready is held */
        worker->not_before_ms = clock_now_ms() + HELD_MS;
        return;
    }
    apply(worker, count, &report);
    if (report.end == APPLY_RECONNECT || report.end == APPLY_RENEW)
        worker_disconnect(worker);
    if (report.end == APPLY_COMMITTED || report.end == APPLY_RENEW)
        after_commit(worker);
    else
        after_undone(worker, count, &report);
    worker_settle(worker, count, &report);
    worker_parked_note(worker, &report);
    worker_post_back(worker);
}

/* ------------------------------------------------------------------ the loop */

/* How long the batch may still be waited for to grow: 0 when it should begin now. */
static uint64_t left_to_gather_us(const struct worker *worker)
{
    const struct settings *settings = &worker->shared->settings;
    uint64_t age_us = clock_now_us() - worker->ready.head->arrived_us;

    if (settings->batch_wait_us == 0 || worker->rows_held > 0 ||
        worker->ready.count >= worker->batch_limit || age_us >= settings->batch_wait_us ||
        shared_phase(worker->shared) != OBX_CONSUMER_RUNNING)
        return 0;
    return settings->batch_wait_us - age_us;
}

static void sleep_until(struct worker *worker, uint64_t due_ms)
{
    int timeout_ms = due_ms == UINT64_MAX ? -1 : clock_left_ms(due_ms);

    wake_wait(&worker->box.wake, timeout_ms);
}

static uint64_t next_due_ms(const struct worker *worker)
{
    uint64_t due = worker->used_ms + ping_every_ms(worker);
    uint64_t parked_due = worker_parked_due_ms(worker);

    if (worker->db == NULL)
        return worker->not_before_ms;
    return parked_due < due ? parked_due : due;
}

/* One turn; does at most one thing that takes time. */
static void turn(struct worker *worker)
{
    uint64_t gather_us = 0;

    if (clock_now_ms() < worker->not_before_ms) {
        sleep_until(worker, worker->not_before_ms);
    } else if (worker->db == NULL) {
        connect_store(worker);
    } else if (worker_parked_is_due(worker)) {
        worker_parked_turn(worker);
    } else if (worker->ready.head == NULL) {
        /* Who drains has to see that nothing is left. */
        if (shared_phase(worker->shared) == OBX_CONSUMER_DRAINING)
            wake_up(&worker->shared->to_io.wake);
        ping_when_idle(worker);
        sleep_until(worker, next_due_ms(worker));
    } else if ((gather_us = left_to_gather_us(worker)) > 0) {
        wake_wait(&worker->box.wake, (int)((gather_us + US_PER_MS - 1) / US_PER_MS));
    } else {
        run_batch(worker);
    }
}

static bool take_turn(struct worker *worker)
{
    enum obx_consumer_state phase = OBX_CONSUMER_NEW;

    worker_take_in(worker);
    phase = shared_phase(worker->shared);
    if (phase >= OBX_CONSUMER_STOPPING)
        return false;
    worker_post_back(worker);
    turn(worker);
    return true;
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;

    while (take_turn(worker))
        ;
    worker_give_back(worker);
    worker_disconnect(worker);
    db_thread_end();
    /* Whoever reads the full count finds everything in the mailbox. */
    worker_post_back(worker);
    atomic_fetch_add(&worker->shared->workers_ended, 1);
    wake_up(&worker->shared->to_io.wake);
    return NULL;
}

enum obx_code worker_start(struct worker *worker, struct obx_err *err)
{
    return thread_start(&worker->thread, worker_main, worker, "a worker", err);
}

void worker_join(struct worker *worker)
{
    thread_join(&worker->thread);
}
