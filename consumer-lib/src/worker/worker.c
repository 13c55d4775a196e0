/*
 * The worker thread: connect, take a batch, apply it, post the outcome, again. It sleeps on the
 * wake of its mailbox and on nothing else; every blocking call it makes is the database client's,
 * which has deadlines, or the handler's.
 *
 * Its items are in ready, in the order in which they are to be applied, or in the batch in work.
 * Nothing waits in memory: what waits has its row in inbox_parked. An item leaves through `back`, in
 * a final state, and through nothing else.
 */
#include "worker.h"

#include <limits.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "core/embed.h"
#include "settle.h"
#include "sql/db.h"
#include "tx.h"

enum {
    UNDONE_MIN_MS = 5,
    UNDONE_CAP_MS = 2000,
    WARY_MS = 10000,
    HELD_MS = 100,
    CHUNK = 20, /* messages between two savepoints */
    US_PER_MS = 1000
};
#define US_PER_S UINT64_C(1000000)

static void free_batch(struct worker *worker)
{
    obx_free(worker->batch);
    obx_free(worker->called);
    obx_free(worker->messages);
}

enum obx_code worker_init(struct worker *worker, struct shared *shared, unsigned index,
                          store_open_fn *open, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    *worker = (struct worker){.shared = shared, .index = index};
    worker->batch_limit = shared->settings.batch_max;
    backoff_init(&worker->undone_wait, UNDONE_MIN_MS, UNDONE_CAP_MS);
    circuit_init(&worker->circuit, shared->settings.outage_messages,
                 shared->settings.outage_pause_max_ms);
    parked_init(&worker->parked, shared, index);
    rc = mailbox_init(&worker->box, err);
    if (rc != OBX_OK)
        return rc;
    rc = worker_link_init(&worker->link, shared, index, open, err);
    if (rc != OBX_OK)
        goto no_link;
    worker->batch = obx_calloc(shared->settings.batch_max, sizeof(struct item *));
    worker->called = obx_calloc(shared->settings.batch_max, sizeof(struct item *));
    worker->messages = obx_calloc(shared->settings.batch_max, sizeof(const struct obx_message *));
    if (worker->batch != NULL && worker->called != NULL && worker->messages != NULL)
        return OBX_OK;
    rc = obx_fail(err, OBX_E_NOMEM, "batch of %u", shared->settings.batch_max);
    free_batch(worker);
    worker_link_fini(&worker->link);
no_link:
    mailbox_fini(&worker->box);
    return rc;
}

void worker_fini(struct worker *worker)
{
    parked_fini(&worker->parked);
    free_batch(worker);
    worker_link_fini(&worker->link);
    mailbox_fini(&worker->box);
}

/* ------------------------------------------------------------------ items that come and go */

static void post_back(struct worker *worker)
{
    mailbox_post(&worker->shared->to_io, &worker->back);
}

static void drop(struct worker *worker, struct item *item)
{
    settle_drop(worker->shared, item);
    item_list_push(&worker->back, item);
}

/* Deliveries that have not begun will be delivered again. All at once, or those after them would
 * overtake. Rows stay: no broker has a say in them. */
static void drop_deliveries(struct worker *worker)
{
    struct item_list all = worker->ready;
    struct item *item = NULL;

    worker->ready = (struct item_list){0};
    while ((item = item_list_pop(&all)) != NULL) {
        if (item->parked_id == 0)
            drop(worker, item);
        else
            item_list_push(&worker->ready, item);
    }
}

/* A dedup row that stands for no effect is removed before its message goes: who takes the message up
 * next would take it for applied. False: it could not be, and the message stays. */
static bool has_no_row_of_ours(struct worker *worker, struct item *item)
{
    const struct store *store = &worker->link.store;

    /* One that was removed already may be there again, of another process that has applied a copy. */
    if (item->plan != PLAN_RETRACT || item->dedup != DEDUP_IN_DOUBT)
        return true;
    if (store->ops->remove(store->ctx, item->msg.message_id, NULL) != OBX_OK ||
        store->ops->commit(store->ctx, NULL) != OBX_OK) {
        (void)store->ops->rollback(store->ctx, NULL);
        return false;
    }
    item->plan = PLAN_TOGETHER;
    item->dedup = DEDUP_NONE;
    return true;
}

/*
 * What was taken up and not tried goes back into the table, with its attempt. When that fails, the
 * rows are due when their claims have expired: a little later. Without a connection they stay: their
 * claims are still ours when there is one again, or are not.
 */
static void give_rows_back(struct worker *worker)
{
    const struct store *store = &worker->link.store;
    struct item_list all = worker->ready;
    struct item_list rows = {0};
    struct item *item = NULL;
    struct obx_err err = {0};

    if (worker->parked.rows_held == 0 || !worker_link_is_up(&worker->link))
        return;
    worker->ready = (struct item_list){0};
    while ((item = item_list_pop(&all)) != NULL)
        item_list_push(item->parked_id != 0 && has_no_row_of_ours(worker, item) ? &rows
                                                                                : &worker->ready,
                       item);
    if (store->ops->give_back(store->ctx, &rows, &err) != OBX_OK)
        OBX_LOG(LOG_LVL_INFO, "consumer", "parked.not_given_back",
                KV_STR("group", worker->shared->settings.group), KV_ERR(&err));
    worker->parked.rows_held -= rows.count;
    while ((item = item_list_pop(&rows)) != NULL)
        drop(worker, item);
}

/* A letter that comes back, or a delivery; one of a lost broker connection comes again. */
static void take_one(struct worker *worker, struct item *item)
{
    if (item->state == ITEM_CONFIRMED || item->state == ITEM_DROPPED) {
        if (!parked_take_letter(&worker->parked, item))
            item_list_push(&worker->back, item);
    } else if (item->delivery->epoch != worker->epoch) {
        drop(worker, item);
    } else {
        item_list_push(&worker->ready, item);
    }
}

static void take_in(struct worker *worker)
{
    struct item_list in = {0};
    struct item *item = NULL;
    uint32_t epoch = 0;

    mailbox_take(&worker->box, &in);
    epoch = atomic_load(&worker->shared->epoch);
    if (epoch != worker->epoch) {
        worker->epoch = epoch;
        drop_deliveries(worker);
    }
    while ((item = item_list_pop(&in)) != NULL)
        take_one(worker, item);
}

/* ------------------------------------------------------------------ a batch */

static void end_call(struct obx_tx *tx, struct apply_answer *answer)
{
    answer->failed = tx->failed;
    answer->has_ended_tx = tx->has_ended;
    answer->is_uncertain = tx->is_uncertain;
    snprintf(answer->reason, sizeof(answer->reason), "%s", tx->reason);
    /* It takes what was refused for done: that it is applied says nothing then. */
    if (tx->is_refused && answer->verdict == OBX_APPLIED) {
        answer->verdict = OBX_RETRY;
        answer->is_for_each = false;
        snprintf(answer->reason, sizeof(answer->reason),
                 "the handler tried to end its transaction");
    }
    tx_fini(tx);
}

static void call_handler(void *ctx, struct item *item, struct apply_answer *answer)
{
    struct worker *worker = ctx;
    const struct shared *shared = worker->shared;
    const struct store *store = &worker->link.store;
    struct obx_tx tx;

    tx_init(&tx, store->ops->session(store->ctx));
    tx.worker = worker->shared->settings.worker_base + worker->index;
    item->msg.attempt = item_attempt(item);
    answer->verdict = shared->handler(&item->msg, &tx, shared->handler_ctx);
    item->is_stored = shared->settings.embed != NULL && answer->verdict == OBX_APPLIED;
    end_call(&tx, answer);
}

static void call_batch_handler(void *ctx, struct item **items, size_t count,
                               struct apply_answer *answer)
{
    struct worker *worker = ctx;
    const struct shared *shared = worker->shared;
    const struct store *store = &worker->link.store;
    struct obx_tx tx;

    tx_init(&tx, store->ops->session(store->ctx));
    tx.worker = worker->shared->settings.worker_base + worker->index;
    tx.items = items;
    tx.item_count = count;
    for (size_t i = 0; i < count; i++) {
        items[i]->answer = OBX_APPLIED;
        items[i]->msg.attempt = item_attempt(items[i]);
        worker->messages[i] = &items[i]->msg;
    }
    answer->verdict = shared->batch_handler(worker->messages, count, &tx, shared->handler_ctx);
    if (tx.is_blaming && answer->verdict != OBX_APPLIED)
        obx_tx_answer(&tx, tx.blamed, answer->verdict, "%s", tx.reason);
    for (size_t i = 0; i < count; i++)
        answer->is_for_each = answer->is_for_each || items[i]->answer != OBX_APPLIED;
    end_call(&tx, answer);
}

/* Whether an item has to stay where it is: for a lock on its own row, or since one of its key was
 * passed over for that. */
static bool is_held(const struct worker *worker, const struct item_list *passed_over,
                    const struct item *item)
{
    const uint64_t now_ms = clock_now_ms();

    if (now_ms >= worker->held_until_ms)
        return false;
    if (item->hold_until_ms > now_ms)
        return true;
    for (const struct item *before = passed_over->head; before != NULL; before = before->next) {
        if (item_same_key(before, item))
            return true;
    }
    return false;
}

/* Ready items up to the limit; one that has to be alone is. What can be neither applied nor parked
 * for now is passed over, with those of its key. */
static size_t take_batch(struct worker *worker)
{
    const bool is_probe = worker->circuit.state != CIRCUIT_CLOSED;
    const uint32_t most =
        is_probe && worker->batch_limit > CIRCUIT_PROBE ? CIRCUIT_PROBE : worker->batch_limit;
    struct item_list passed_over = {0};
    size_t count = 0;

    while (count < most && worker->ready.head != NULL) {
        struct item *item = worker->ready.head;
        const bool is_alone = item->plan != PLAN_TOGETHER;

        if (is_held(worker, &passed_over, item)) {
            item_list_push(&passed_over, item_list_pop(&worker->ready));
            continue;
        }
        if (is_alone && count > 0)
            break;
        worker->batch[count++] = item_list_pop(&worker->ready);
        if (is_alone)
            break;
    }
    item_list_prepend(&worker->ready, &passed_over);
    return count;
}

static void apply(struct worker *worker, size_t count, struct apply_report *report)
{
    const struct settings *settings = &worker->shared->settings;
    const uint64_t now_us = clock_wall_us();
    const uint64_t retention_us = (uint64_t)settings->dedup_retention_s * US_PER_S;
    const bool refuses = !settings->accept_older_than_retention && now_us >= retention_us;
    const struct apply apply = {
        .store = worker->link.store,
        .handler = {.call = call_handler,
                    .call_many = worker->shared->batch_handler != NULL ? call_batch_handler : NULL,
                    .ctx = worker},
        .room = worker->called,
        .counters = &worker->shared->counters,
        .chunk = worker->shared->batch_handler != NULL ? settings->batch_max : CHUNK,
        .max_ms = settings->batch_max_ms,
        .refuse_us = refuses ? now_us - retention_us : 0,
        /* A handler that stores for others says so in the dedup row: it has to be there. */
        .is_single = worker->is_single || settings->embed != NULL,
        .is_wary = clock_now_ms() < worker->wary_until_ms,
        .group = settings->group,
        .policy = {.max_attempts = settings->max_attempts,
                   .retry_min_ms = settings->retry_min_ms,
                   .retry_cap_ms = settings->retry_cap_ms,
                   .skips_dead = settings->skips_dead,
                   .sends_letters = settings->dead_letter_queue != NULL,
                   .keeps_attempts = worker->circuit.state != CIRCUIT_CLOSED},
    };

    apply_batch(&apply, worker->batch, count, report);
    worker_link_used(&worker->link);
    worker->is_single = worker->is_single || report->is_broken;
    if (report->met_lock)
        worker->wary_until_ms = worker->link.used_ms + WARY_MS;
}

static void after_undone(struct worker *worker, size_t count, const struct apply_report *report)
{
    const uint32_t wait_ms = backoff_next_ms(&worker->undone_wait);

    worker->batch_limit = count > 1 ? (uint32_t)(count / 2) : 1;
    worker->not_before_ms = clock_now_ms() + wait_ms;
    worker_link_set_error(&worker->link, &report->err);
    OBX_LOG(LOG_LVL_WARN, "consumer", "batch.undone",
            KV_STR("group", worker->shared->settings.group), KV_U64("worker", worker->index),
            KV_U64("messages", count), KV_U64("retry_ms", wait_ms), KV_ERR(&report->err));
}

/* ------------------------------------------------------------------ outages */

/* Never 0, which is of no message. */
static uint64_t hash_of(const struct item *item)
{
    return bytes_hash(item->msg.message_id) | 1;
}

/* What the messages of a batch say of the handler and the database. An undone batch says it once:
 * else a message that brings down each batch it is in would look like many. */
static void note_attempts(struct worker *worker, size_t count, const struct apply_report *report,
                          bool is_committed)
{
    struct circuit *circuit = &worker->circuit;
    const uint64_t now_ms = clock_now_ms();

    /* A row that is not taken says something about that row, and would be met in every probe. */
    if (!is_committed && !report->is_unparkable) {
        circuit_undone(circuit, report->suspect != NULL ? hash_of(report->suspect) : 0, now_ms);
        worker->outage = report->err;
    }
    for (size_t i = 0; i < count && is_committed; i++) {
        const struct item *item = worker->batch[i];
        const bool was_retry = item->state == ITEM_FAILED || item->state == ITEM_EXHAUSTED ||
                               item->state == ITEM_STALLED;

        if (item->state == ITEM_APPLIED ||
            (item->state == ITEM_REJECTED && item->why.code == OBX_E_REJECTED)) {
            circuit_good(circuit, hash_of(item));
        } else if (was_retry && item->why.code == OBX_E_HANDLER && item->plan != PLAN_GIVE_UP) {
            circuit_retry(circuit, hash_of(item), item->state == ITEM_EXHAUSTED, now_ms);
            worker->outage = item->why;
        }
    }
}

static void end_outage(struct worker *worker)
{
    const struct circuit *circuit = &worker->circuit;

    counters_sub(&worker->shared->counters, CNT_WORKERS_PAUSING, 1);
    worker_link_set_error(&worker->link, NULL);
    worker->parked.rows_max = 0;
    OBX_LOG(LOG_LVL_INFO, "consumer", "outage.ended",
            KV_STR("group", worker->shared->settings.group), KV_U64("worker", worker->index),
            KV_U64("lasted_ms", circuit->ended_ms - circuit->begun_ms));
}

/* After a batch. While it lasts nothing is held that others could try, but the deliveries: those the
 * broker would count as tried. */
static void judge(struct worker *worker, bool is_committed)
{
    struct circuit *circuit = &worker->circuit;
    const enum circuit_event event = circuit_judge(circuit, is_committed, clock_now_ms());

    if (event == CIRCUIT_ENDED)
        end_outage(worker);
    if (event != CIRCUIT_BEGUN && event != CIRCUIT_LASTS)
        return;
    if (event == CIRCUIT_BEGUN) {
        counters_add(&worker->shared->counters, CNT_OUTAGES, 1);
        counters_add(&worker->shared->counters, CNT_WORKERS_PAUSING, 1);
        worker->parked.rows_max = CIRCUIT_PROBE / 2;
    }
    worker_link_set_error(&worker->link, &worker->outage);
    OBX_LOG(event == CIRCUIT_BEGUN ? LOG_LVL_WARN : LOG_LVL_INFO, "consumer",
            event == CIRCUIT_BEGUN ? "outage.begun" : "outage.lasts",
            KV_STR("group", worker->shared->settings.group), KV_U64("worker", worker->index),
            KV_U64("pause_ms", circuit->pause_ms), KV_ERR(&worker->outage));
    give_rows_back(worker);
}

static void sleep_until(struct worker *worker, uint64_t due_ms)
{
    wake_wait(&worker->box.wake, due_ms == UINT64_MAX ? -1 : clock_left_ms(due_ms));
}

/* Nothing is taken: until the next probe, or the connection has to be kept alive. */
static void rest(struct worker *worker)
{
    const uint64_t due_ms = worker->circuit.due_ms;
    uint64_t ping_ms = UINT64_MAX;

    /* Nothing is waited for that an outage would not let begin: all of it goes back unbegun, in order. */
    if (shared_phase(worker->shared) == OBX_CONSUMER_DRAINING) {
        drop_deliveries(worker);
        post_back(worker);
        wake_up(&worker->shared->to_io.wake);
    }
    worker_link_ping_when_idle(&worker->link);
    if (worker_link_is_up(&worker->link))
        ping_ms = worker_link_ping_due_ms(&worker->link);
    sleep_until(worker, due_ms < ping_ms ? due_ms : ping_ms);
}

static void run_batch(struct worker *worker)
{
    const struct consumer_embed *embed = worker->shared->settings.embed;
    const uint32_t most = worker->shared->settings.batch_max;
    const size_t count = take_batch(worker);
    struct apply_report report;
    struct settled settled;
    bool is_committed = false;

    if (count == 0) { /* all that is ready is held */
        worker->not_before_ms = clock_now_ms() + HELD_MS;
        return;
    }
    apply(worker, count, &report);
    is_committed = report.end == APPLY_COMMITTED || report.end == APPLY_RENEW;
    if (report.end == APPLY_RECONNECT || report.end == APPLY_RENEW)
        worker_link_disconnect(&worker->link);
    if (is_committed) {
        backoff_reset(&worker->undone_wait);
        if (worker->circuit.state == CIRCUIT_CLOSED)
            worker_link_set_error(&worker->link, NULL);
        worker->batch_limit = worker->batch_limit > most / 2 ? most : worker->batch_limit * 2;
    } else {
        after_undone(worker, count, &report);
    }
    if (embed != NULL)
        embed->after_batch(embed->ctx, worker->shared->settings.worker_base + worker->index,
                           is_committed);
    note_attempts(worker, count, &report, is_committed);
    settle_batch(worker->shared, worker->batch, count, &report, &settled);
    worker->parked.rows_held -= settled.rows;
    if (settled.held_until_ms != 0)
        worker->held_until_ms = settled.held_until_ms;
    item_list_prepend(&worker->ready, &settled.again);
    item_list_append(&worker->back, &settled.back);
    parked_note(&worker->parked, report.due_in_ms);
    judge(worker, is_committed);
    post_back(worker);
}

/* ------------------------------------------------------------------ the loop */

/* How long the batch may still be waited for to grow: 0 when it should begin now. */
static uint64_t left_to_gather_us(const struct worker *worker)
{
    const struct settings *settings = &worker->shared->settings;
    const uint64_t age_us = clock_now_us() - worker->ready.head->arrived_us;

    if (settings->batch_wait_us == 0 || worker->parked.rows_held > 0 ||
        worker->ready.count >= worker->batch_limit || age_us >= settings->batch_wait_us ||
        shared_phase(worker->shared) != OBX_CONSUMER_RUNNING)
        return 0;
    return settings->batch_wait_us - age_us;
}

/* Nothing is ready: until a delivery comes, a row is due, or the connection has to be kept alive. */
static void idle(struct worker *worker)
{
    uint64_t due = 0;

    /* The drain has to see that nothing is left. */
    if (shared_phase(worker->shared) == OBX_CONSUMER_DRAINING)
        wake_up(&worker->shared->to_io.wake);
    worker_link_ping_when_idle(&worker->link);
    if (!worker_link_is_up(&worker->link))
        return;
    if (!worker->parked.has_rows && circuit_has_nothing_left(&worker->circuit, clock_now_ms()))
        end_outage(worker);
    due = parked_due_ms(&worker->parked, false);
    sleep_until(worker, due < worker_link_ping_due_ms(&worker->link)
                            ? due
                            : worker_link_ping_due_ms(&worker->link));
}

static void ask_for_rows(struct worker *worker)
{
    struct obx_err err = {0};

    worker_link_used(&worker->link);
    if (parked_turn(&worker->parked, &worker->link.store, &worker->ready, &worker->back, &err) ==
        OBX_OK)
        return;
    worker_link_set_error(&worker->link, &err);
    OBX_LOG(LOG_LVL_WARN, "consumer", "parked.failed",
            KV_STR("group", worker->shared->settings.group), KV_U64("worker", worker->index),
            KV_ERR(&err));
    if (obx_code_action(err.code) != OBX_DO_RETRY || err.code == OBX_E_TIMEOUT)
        worker_link_disconnect(&worker->link);
}

static void do_one_thing(struct worker *worker)
{
    const bool is_busy = worker->ready.head != NULL;
    /* Every other probe is for deliveries alone: with one message to a batch, rows that can never
     * succeed would be all that is ever tried. */
    const bool skips_rows =
        is_busy && worker->circuit.state == CIRCUIT_PROBING && worker->circuit.probes % 2 == 0;
    uint64_t gather_us = 0;

    if (clock_now_ms() < worker->not_before_ms)
        sleep_until(worker, worker->not_before_ms);
    else if (!circuit_admits(&worker->circuit, clock_now_ms()))
        rest(worker);
    else if (!worker_link_is_up(&worker->link))
        worker->not_before_ms =
            clock_now_ms() +
            worker_link_connect(&worker->link, worker->undone_wait.tries > 0 ||
                                                   worker->circuit.state != CIRCUIT_CLOSED);
    else if (!skips_rows && parked_due_ms(&worker->parked, is_busy) <= clock_now_ms())
        ask_for_rows(worker);
    else if (!is_busy)
        idle(worker);
    else if ((gather_us = left_to_gather_us(worker)) > 0)
        wake_wait(&worker->box.wake, (int)((gather_us + US_PER_MS - 1) / US_PER_MS));
    else
        run_batch(worker);
}

bool worker_turn(struct worker *worker)
{
    take_in(worker);
    if (shared_phase(worker->shared) >= OBX_CONSUMER_STOPPING)
        return false;
    post_back(worker);
    do_one_thing(worker);
    return true;
}

void worker_end(struct worker *worker)
{
    struct item *item = NULL;

    drop_deliveries(worker);
    give_rows_back(worker);
    if (worker->circuit.state != CIRCUIT_CLOSED)
        counters_sub(&worker->shared->counters, CNT_WORKERS_PAUSING, 1);
    item_list_append(&worker->ready, &worker->parked.confirmed);
    while ((item = item_list_pop(&worker->ready)) != NULL)
        drop(worker, item);
    worker_link_disconnect(&worker->link);
    post_back(worker);
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;

    while (worker_turn(worker))
        ;
    worker_end(worker);
    db_thread_end();
    /* The thread that reads the full count finds everything in the mailbox. */
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
