/*
 * The receipts thread. See receipts.h.
 *
 * A turn services the consumer, which puts deliveries into `taken`; when there are enough reports,
 * or the oldest has waited long enough, they run in transactions of a batch and
 * acknowledged. A transaction that fails because of one of its reports is done in parts
 * (isolate.c); what is stuck then is left: its message stays in outbox_awaiting, is sent again and
 * reported again. Any other failure is tried again with the same reports after a backoff, over a
 * new connection where that is called for, and nothing is acknowledged until then.
 *
 * Reports that no row awaited are remembered for a second check a moment later: the row may just
 * have been on its way into outbox_awaiting. That memory is bounded, and what it forgets the lane's
 * scan finds.
 */
#include "receipts.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/wake.h"
#include "bridge/consumer.h"
#include "isolate.h"
#include "outbox/receipt_key.h"
#include "receipt_batch.h"
#include "sql/schema.h"

enum {
    PREFETCH = 500,
    DEFAULT_AGE_MS = 100,
    BATCH_WANTED = RECEIPT_BATCH_MAX,
    MESSAGES_WANTED = PREFETCH / 2,    /* a message may have one report only */
    TAKEN_BYTES_MAX = 4 * 1024 * 1024, /* of reports in memory; then reading rests */
    /* Several times what a consumer writes: two hundred reports with the longest ids, tokens and
     * reasons there can be. Anybody who may write to the queue could send more. */
    MESSAGE_BYTES_MAX = 4 * 1024 * 1024,
    RETRY_MIN_MS = 20,
    RETRY_CAP_MS = 5000,
    LOCK_WAIT_S = 1,   /* for a row that somebody holds; then it is isolated */
    ISOLATE_MS = 8000, /* at most so long in a flush */
    AGAIN_MS = 1000,
    AGAIN_MAX = 4096,
    CLEAN_FULL_MS = 100, /* after a page that had old ones */
    CLEAN_BUSY_MS = 1000,
    CLEAN_IDLE_MS = 20000, /* which also keeps the session from being idle */
    IDLE_S = 60,           /* then the server ends it, and the locks of a relay that was stopped */
    WAIT_MAX_MS = 1000,
    LOG_EVERY_MS = 10000,
};

/* A delivery whose reports are not committed yet. */
struct taken {
    struct taken *next;
    uint32_t epoch;
    uint64_t tag;
    struct receipt_list list;
};

/* A message to check a second time. */
struct recheck {
    char message_id[RECEIPT_ID_MAX + 1];
    uint64_t due_ms;
};

struct receipts {
    struct receipts_opts opts;
    char *source;
    char *queue;
    struct thread thread;
    struct wake wake;
    _Atomic bool stop_wanted;
    pthread_mutex_t lock;
    struct receipts_stats shared; /* under lock */

    /* The thread's own. */
    struct bridge_consumer *consumer;
    struct db *db;
    struct receipt_keys keys;
    struct receipt_batch batch;
    struct taken *head, *tail;
    size_t message_count;   /* in the list */
    size_t taken_bytes;     /* of their memory */
    bool is_paused;         /* reading, while there is enough of them */
    size_t report_count;    /* in them */
    uint64_t first_ms;      /* when the oldest came; UINT64_MAX none */
    uint64_t not_before_ms; /* after a failure */
    bool are_keys_fresh;    /* read since what is flushed came in */
    uint64_t clean_due_ms;
    char clean_cursor[RECEIPT_ID_MAX + 1];
    struct recheck *again; /* a ring of AGAIN_MAX */
    size_t again_head, again_count;
    struct backoff backoff;
    struct receipts_stats stats;
    struct log_limit forged_limit, malformed_limit;
};

/* ---- what came ---- */

/* The broker's window counts messages; this counts their bytes. */
static void pause_reading(struct receipts *receipts, bool pause)
{
    if (pause == receipts->is_paused)
        return;
    receipts->is_paused = pause;
    bridge_consumer_pause(receipts->consumer, pause);
}

static void free_taken(struct receipts *receipts)
{
    while (receipts->head != NULL) {
        struct taken *taken = receipts->head;

        receipts->head = taken->next;
        receipt_list_fini(&taken->list);
        obx_free(taken);
    }
    receipts->tail = NULL;
    receipts->report_count = 0;
    receipts->message_count = 0;
    receipts->taken_bytes = 0;
    receipts->first_ms = UINT64_MAX;
}

static void say(struct receipts *receipts, struct log_limit *limit, const char *event,
                const char *why)
{
    uint64_t dropped = 0;

    if (log_limit_pass(limit, LOG_EVERY_MS, &dropped))
        OBX_LOG(LOG_LVL_WARN, "receipts", event, KV_STR("source", receipts->source),
                KV_STR("why", why), KV_U64("held_back", dropped));
}

static void take(struct receipts *receipts, struct taken *taken)
{
    if (receipts->tail == NULL)
        receipts->head = taken;
    else
        receipts->tail->next = taken;
    receipts->tail = taken;
    receipts->report_count += taken->list.count;
    receipts->message_count++;
    if (receipts->first_ms == UINT64_MAX)
        receipts->first_ms = clock_now_ms();
}

/* One that cannot be read is taken too, with nothing in it: so it is acknowledged in its turn. One
 * for which there is no memory goes with the next acknowledgement; who waits for its reports asks
 * for them again. */
static void on_delivery(struct bridge_delivery *delivery, void *ctx)
{
    struct receipts *receipts = ctx;
    struct taken *taken = obx_calloc(1, sizeof(*taken));
    struct obx_err err = {0};

    receipts->stats.messages++;
    if (taken != NULL) {
        taken->epoch = delivery->epoch;
        taken->tag = delivery->tag;
        if (receipt_list_read(&taken->list, delivery->msg.body, &err) != OBX_OK) {
            receipts->stats.malformed++;
            say(receipts, &receipts->malformed_limit, "receipt.malformed", err.text);
        }
        receipts->stats.malformed += taken->list.malformed;
        receipts->taken_bytes += sizeof(*taken) + taken->list.bytes;
        take(receipts, taken);
        pause_reading(receipts, receipts->taken_bytes >= TAKEN_BYTES_MAX);
    }
    bridge_delivery_free(delivery);
}

/* What is unacknowledged comes again. */
static void on_state(enum bridge_state state, uint32_t epoch, const struct obx_err *why, void *ctx)
{
    struct receipts *receipts = ctx;

    (void)epoch;
    if (state != BRIDGE_CLOSED)
        free_taken(receipts);
    pause_reading(receipts, false);
    receipts->stats.broker_up = state == BRIDGE_UP;
    if (state == BRIDGE_DOWN && why != NULL)
        OBX_LOG(LOG_LVL_WARN, "receipts", "broker.down", KV_STR("source", receipts->source),
                KV_STR("queue", receipts->queue), KV_ERR(why));
}

/* ---- running it ---- */

static void set_trouble(struct receipts *receipts, const char *text)
{
    (void)snprintf(receipts->stats.trouble, sizeof(receipts->stats.trouble), "%s", text);
}

static void failed(struct receipts *receipts, enum obx_code rc, const struct obx_err *err)
{
    uint32_t wait_ms = backoff_next_ms(&receipts->backoff);

    receipts->stats.failures++;
    receipts->not_before_ms = clock_now_ms() + wait_ms;
    set_trouble(receipts, err->text);
    OBX_LOG(LOG_LVL_WARN, "receipts", "batch.failed", KV_STR("source", receipts->source),
            KV_ERR(err), KV_U64("retry_ms", wait_ms));
    if (obx_code_action(rc) == OBX_DO_RETRY || rc == OBX_E_CONFLICT)
        return;
    db_close(receipts->db);
    receipts->db = NULL;
    receipts->stats.db_up = 0;
}

static void connect_db(struct receipts *receipts)
{
    struct obx_err err = {0};
    enum obx_code rc = db_open(&receipts->opts.db, &receipts->db, &err);

    if (rc == OBX_OK)
        rc = schema_check(receipts->db, SCHEMA_PRODUCER, &err);
    if (rc == OBX_OK)
        rc = receipt_keys_load(&receipts->keys, receipts->db, &err);
    if (rc != OBX_OK) {
        db_close(receipts->db);
        receipts->db = NULL;
        failed(receipts, OBX_E_DB_GONE, &err);
        return;
    }
    receipts->stats.db_up = 1;
    set_trouble(receipts, "");
}

static void recheck_later(struct receipts *receipts)
{
    const struct receipt_batch *batch = &receipts->batch;

    for (size_t i = 0; i < batch->early_count; i++) {
        struct recheck *next = NULL;

        if (receipts->again_count == AGAIN_MAX) {
            receipts->again_head = (receipts->again_head + 1) % AGAIN_MAX;
            receipts->again_count--;
        }
        next = &receipts->again[(receipts->again_head + receipts->again_count++) % AGAIN_MAX];
        (void)bytes_to_text(batch->early[i], next->message_id, sizeof(next->message_id));
        next->due_ms = clock_now_ms() + AGAIN_MS;
    }
}

static void count(struct receipts *receipts, const struct receipt_counts *counts)
{
    receipts->stats.batches++;
    receipts->stats.noted += counts->noted;
    receipts->stats.unasked += counts->unasked;
    receipts->stats.early += counts->early;
    receipts->stats.settled += counts->settled;
    receipts->stats.rejected += counts->rejected;
    receipts->stats.compensations += counts->compensations;
    backoff_reset(&receipts->backoff);
    set_trouble(receipts, "");
}

/* The batch at hand, of reports out of one or many deliveries. */
struct gather {
    struct receipts *receipts;
    struct isolate isolate;
    struct receipt items[RECEIPT_BATCH_MAX];
    size_t count;
};

static enum obx_code run_reports(void *ctx, size_t from, size_t report_count, struct obx_err *err)
{
    struct gather *gather = ctx;
    struct receipts *receipts = gather->receipts;
    struct receipt_counts counts;
    enum obx_code rc = receipt_batch_run(&receipts->batch, receipts->db, &gather->items[from],
                                         report_count, &counts, err);

    if (rc != OBX_OK)
        return rc;
    count(receipts, &counts);
    recheck_later(receipts);
    return OBX_OK;
}

static enum obx_code run_batch(struct gather *gather, struct obx_err *err)
{
    size_t report_count = gather->count;

    gather->count = 0;
    return isolate_run(&gather->isolate, 0, report_count, err);
}

/* A secret may have been added since ours were read: an unknown one is looked for once in each
 * flush. What came in before that look and is unknown after it is nobody's. */
static enum obx_code check_token(struct receipts *receipts, const struct receipt *receipt,
                                 enum receipt_token_fate *fate, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    *fate =
        receipt_token_check(&receipts->keys, receipt->message_id, receipt->token, receipt->group);
    if (*fate != RECEIPT_TOKEN_UNKNOWN || receipts->are_keys_fresh)
        return OBX_OK;
    rc = receipt_keys_load(&receipts->keys, receipts->db, err);
    if (rc != OBX_OK)
        return rc;
    receipts->are_keys_fresh = true;
    *fate =
        receipt_token_check(&receipts->keys, receipt->message_id, receipt->token, receipt->group);
    return OBX_OK;
}

static enum obx_code gather_one(struct gather *gather, const struct receipt *receipt,
                                struct obx_err *err)
{
    struct receipts *receipts = gather->receipts;
    enum receipt_token_fate fate = RECEIPT_TOKEN_UNKNOWN;
    enum obx_code rc = check_token(receipts, receipt, &fate, err);

    if (rc != OBX_OK)
        return rc;
    if (fate == RECEIPT_TOKEN_GOOD) {
        gather->items[gather->count++] = *receipt;
        return gather->count < RECEIPT_BATCH_MAX ? OBX_OK : run_batch(gather, err);
    }
    if (fate == RECEIPT_TOKEN_UNASKED) {
        receipts->stats.unasked++;
        say(receipts, &receipts->forged_limit, "receipt.unasked", "the token names other groups");
        return OBX_OK;
    }
    receipts->stats.forged++;
    say(receipts, &receipts->forged_limit, "receipt.forged", "the token is not ours");
    return OBX_OK;
}

static enum obx_code gather_all(struct gather *gather, struct obx_err *err)
{
    const struct taken *taken = gather->receipts->head;
    enum obx_code rc = OBX_OK;

    gather->receipts->are_keys_fresh = false;
    for (; taken != NULL; taken = taken->next) {
        for (size_t i = 0; i < taken->list.count && rc == OBX_OK; i++)
            rc = gather_one(gather, &taken->list.items[i], err);
    }
    return rc == OBX_OK ? run_batch(gather, err) : rc;
}

/* Reports that fail while others succeed are at fault themselves, and are left. With
 * no success the fault may be anywhere, and all of them are kept. */
static bool run_waiting(struct receipts *receipts)
{
    struct gather gather = {
        .receipts = receipts,
        .isolate = {.run = run_reports, .until_ms = clock_now_ms() + ISOLATE_MS}};
    struct isolate *isolate = &gather.isolate;
    struct obx_err err = {0};
    enum obx_code rc = OBX_OK;

    isolate->ctx = &gather;
    rc = gather_all(&gather, &err);
    if (rc == OBX_OK && isolate->stuck > 0 && isolate->done == 0) {
        err = isolate->why;
        rc = err.code;
    }
    if (rc != OBX_OK) {
        failed(receipts, rc, &err);
        return false;
    }
    if (isolate->stuck > 0) {
        receipts->stats.deferred += isolate->stuck;
        OBX_LOG(LOG_LVL_WARN, "receipts", "receipt.deferred", KV_STR("source", receipts->source),
                KV_U64("count", isolate->stuck), KV_ERR(&isolate->why));
    }
    return true;
}

/* All or nothing: after a failure all of it is done again, of which nothing is the worse. */
static void flush(struct receipts *receipts)
{
    struct obx_err err = {0};

    if (receipts->head == NULL || receipts->db == NULL || !run_waiting(receipts))
        return;
    if (bridge_consumer_ack(receipts->consumer, receipts->tail->epoch, receipts->tail->tag, true,
                            &err) != OBX_OK)
        OBX_LOG(LOG_LVL_DEBUG, "receipts", "ack.failed", KV_STR("source", receipts->source),
                KV_ERR(&err)); /* they come again, and change nothing */
    free_taken(receipts);
    pause_reading(receipts, false);
}

/* The messages of a recheck. Their ids are copied: the ring takes some of them back. */
struct rechecks {
    struct receipts *receipts;
    char ids[RECEIPT_BATCH_MAX][RECEIPT_ID_MAX + 1];
    size_t count;
};

static void take_due(struct rechecks *rechecks, uint64_t now_ms)
{
    struct receipts *receipts = rechecks->receipts;

    while (rechecks->count < receipts->again_count && rechecks->count < RECEIPT_BATCH_MAX) {
        const struct recheck *next =
            &receipts->again[(receipts->again_head + rechecks->count) % AGAIN_MAX];

        if (next->due_ms > now_ms)
            break;
        memcpy(rechecks->ids[rechecks->count++], next->message_id, sizeof(next->message_id));
    }
}

static enum obx_code run_rechecks(void *ctx, size_t from, size_t recheck_count, struct obx_err *err)
{
    struct rechecks *rechecks = ctx;
    struct receipts *receipts = rechecks->receipts;
    struct obx_bytes ids[RECEIPT_BATCH_MAX];
    struct receipt_counts counts;
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < recheck_count; i++)
        ids[i] = bytes_of(rechecks->ids[from + i]);
    rc = receipt_batch_again(&receipts->batch, receipts->db, ids, recheck_count, &counts, err);
    if (rc != OBX_OK)
        return rc;
    counts.early = 0; /* they were counted */
    count(receipts, &counts);
    recheck_later(receipts); /* somebody has them still */
    return OBX_OK;
}

/* What is stuck is forgotten here: the lane's scan finds it when it is due to be sent again. */
static void recheck(struct receipts *receipts, uint64_t now_ms)
{
    struct rechecks rechecks = {.receipts = receipts, .count = 0};
    struct isolate isolate = {
        .run = run_rechecks, .ctx = &rechecks, .until_ms = now_ms + ISOLATE_MS};
    struct obx_err err = {0};
    enum obx_code rc = OBX_OK;

    take_due(&rechecks, now_ms);
    if (rechecks.count == 0)
        return;
    receipts->again_head = (receipts->again_head + rechecks.count) % AGAIN_MAX;
    receipts->again_count -= rechecks.count;
    rc = isolate_run(&isolate, 0, rechecks.count, &err);
    if (rc != OBX_OK)
        failed(receipts, rc, &err);
    receipts->stats.deferred += isolate.stuck;
}

/* Rows that somebody holds stay for the next round. */
static void clean(struct receipts *receipts, uint64_t now_ms)
{
    bool is_end = true;
    uint64_t removed = 0;
    struct obx_err err = {0};
    enum obx_code rc = OBX_OK;

    if (now_ms < receipts->clean_due_ms)
        return;
    rc = receipt_batch_clean(&receipts->batch, receipts->db, receipts->clean_cursor,
                             receipts->opts.retention_ms, &removed, &is_end, &err);
    receipts->clean_due_ms = clock_now_ms() + (is_end        ? CLEAN_IDLE_MS
                                               : removed > 0 ? CLEAN_FULL_MS
                                                             : CLEAN_BUSY_MS);
    if (rc != OBX_OK && rc != OBX_E_DB_LOCK_WAIT && rc != OBX_E_DB_DEADLOCK)
        failed(receipts, rc, &err);
}

/* ---- the thread ---- */

static bool has_enough(const struct receipts *receipts)
{
    return receipts->report_count >= BATCH_WANTED || receipts->message_count >= MESSAGES_WANTED ||
           receipts->is_paused;
}

static void work(struct receipts *receipts, bool is_stopping)
{
    uint64_t now_ms = clock_now_ms();
    const bool is_due =
        receipts->head != NULL && (is_stopping || has_enough(receipts) ||
                                   now_ms >= receipts->first_ms + receipts->opts.max_age_ms);

    if (now_ms < receipts->not_before_ms)
        return;
    if (receipts->db == NULL)
        connect_db(receipts);
    if (receipts->db != NULL && is_due)
        flush(receipts);
    if (receipts->db != NULL && !is_stopping)
        recheck(receipts, now_ms);
    if (receipts->db != NULL && !is_stopping)
        clean(receipts, now_ms);
}

static void show_stats(struct receipts *receipts, bool has_ended)
{
    const struct obx_err *broker = bridge_consumer_trouble(receipts->consumer);

    receipts->stats.has_ended = has_ended;
    (void)pthread_mutex_lock(&receipts->lock);
    receipts->shared = receipts->stats;
    if (receipts->shared.trouble[0] == '\0' && !receipts->stats.broker_up)
        (void)snprintf(receipts->shared.trouble, sizeof(receipts->shared.trouble), "%s",
                       broker->text);
    (void)pthread_mutex_unlock(&receipts->lock);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_due_ms(const struct receipts *receipts)
{
    uint64_t due = receipts->clean_due_ms;

    if (receipts->head != NULL)
        due = has_enough(receipts) ? 0 : least(due, receipts->first_ms + receipts->opts.max_age_ms);
    if (receipts->again_count > 0)
        due = least(due, receipts->again[receipts->again_head].due_ms);
    if (receipts->db == NULL || due < receipts->not_before_ms)
        due = receipts->not_before_ms;
    return least(due, bridge_consumer_next_due_ms(receipts->consumer));
}

static void sleep_until_needed(struct receipts *receipts)
{
    struct pollfd fds[2] = {{.fd = receipts->wake.fd, .events = POLLIN},
                            {.fd = bridge_consumer_fd(receipts->consumer), .events = POLLIN}};
    int wait_ms = clock_left_ms(next_due_ms(receipts));

    if (poll(fds, 2, wait_ms < WAIT_MAX_MS ? wait_ms : WAIT_MAX_MS) > 0 &&
        (fds[0].revents & POLLIN) != 0)
        (void)wake_clear(&receipts->wake);
}

static void *run(void *ctx)
{
    struct receipts *receipts = ctx;

    while (!atomic_load(&receipts->stop_wanted)) {
        bridge_consumer_service(receipts->consumer);
        work(receipts, false);
        show_stats(receipts, false);
        sleep_until_needed(receipts);
    }
    /* What was taken is finished, if that is possible at once; else the broker has it still. */
    receipts->not_before_ms = 0;
    work(receipts, true);
    bridge_consumer_service(receipts->consumer); /* the last acknowledgement */
    db_close(receipts->db);
    receipts->db = NULL;
    db_thread_end();
    show_stats(receipts, true);
    return NULL;
}

/* ---- calls from other threads ---- */

static enum obx_code make_parts(struct receipts *receipts, const struct receipts_opts *opts,
                                struct obx_err *err)
{
    struct bridge_consumer_opts consumer = {.bridge = opts->bridge,
                                            .prefetch = PREFETCH,
                                            .body_max = MESSAGE_BYTES_MAX,
                                            .on_delivery = on_delivery,
                                            .on_state = on_state,
                                            .ctx = receipts};
    enum obx_code rc = OBX_OK;

    receipts->source = obx_strdup(opts->source);
    receipts->queue = obx_strdup(opts->queue);
    receipts->again = obx_calloc(AGAIN_MAX, sizeof(*receipts->again));
    if (receipts->source == NULL || receipts->queue == NULL || receipts->again == NULL)
        return obx_fail(err, OBX_E_NOMEM, "receipts");
    consumer.queue = receipts->queue;
    rc = wake_init(&receipts->wake, err);
    return rc == OBX_OK ? bridge_consumer_create(&consumer, &receipts->consumer, err) : rc;
}

enum obx_code receipts_create(const struct receipts_opts *opts, struct receipts **out,
                              struct obx_err *err)
{
    struct receipts *receipts = obx_calloc(1, sizeof(*receipts));
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (receipts == NULL)
        return obx_fail(err, OBX_E_NOMEM, "receipts");
    receipts->opts = *opts;
    receipts->opts.db.lock_wait_s = LOCK_WAIT_S;
    receipts->opts.db.idle_s = IDLE_S;
    receipts->wake.fd = -1;
    receipts->first_ms = UINT64_MAX;
    if (receipts->opts.max_age_ms == 0)
        receipts->opts.max_age_ms = DEFAULT_AGE_MS;
    backoff_init(&receipts->backoff, RETRY_MIN_MS, RETRY_CAP_MS);
    (void)pthread_mutex_init(&receipts->lock, NULL);
    rc = make_parts(receipts, opts, err);
    if (rc == OBX_OK)
        rc = thread_start(&receipts->thread, run, receipts, "receipts", err);
    if (rc != OBX_OK) {
        receipts_destroy(receipts);
        return rc;
    }
    *out = receipts;
    return OBX_OK;
}

void receipts_stop(struct receipts *receipts)
{
    if (receipts == NULL)
        return;
    atomic_store(&receipts->stop_wanted, true);
    wake_up(&receipts->wake);
}

void receipts_destroy(struct receipts *receipts)
{
    if (receipts == NULL)
        return;
    receipts_stop(receipts);
    thread_join(&receipts->thread);
    bridge_consumer_destroy(receipts->consumer);
    free_taken(receipts);
    receipt_batch_fini(&receipts->batch);
    wake_fini(&receipts->wake);
    (void)pthread_mutex_destroy(&receipts->lock);
    obx_free(receipts->again);
    obx_free(receipts->source);
    obx_free(receipts->queue);
    obx_free(receipts);
}

void receipts_get_stats(struct receipts *receipts, struct receipts_stats *out)
{
    (void)pthread_mutex_lock(&receipts->lock);
    *out = receipts->shared;
    (void)pthread_mutex_unlock(&receipts->lock);
}
