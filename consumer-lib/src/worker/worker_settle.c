/*
 * Where a worker's items are between batches: in ready, in the order in which they are to be
 * applied. Nothing waits in memory: what waits has its row in inbox_parked. An item leaves through
 * `back`, decided, and through nothing else.
 */
#include "worker.h"

#include "base/clock.h"
#include "base/log.h"

enum { HOLD_MS = 1000 };

bool worker_holds(const struct worker *worker, const struct item_list *passed_over,
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

void worker_post_back(struct worker *worker)
{
    mailbox_post(&worker->shared->to_io, &worker->back);
}

static void finish(struct worker *worker, struct item *item, enum item_outcome outcome)
{
    item->outcome = outcome;
    item_list_push(&worker->back, item);
}

static void drop(struct worker *worker, struct item *item)
{
    if (item->parked_id == 0)
        counters_add(&worker->shared->counters, CNT_DROPPED, 1);
    finish(worker, item, ITEM_DROPPED);
}

/* ------------------------------------------------------------------ taking in */

/* Deliveries that have not begun will be delivered again. All at once, or those behind them would
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

static void take_letter(struct worker *worker, struct item *item)
{
    worker->letters_out--;
    if (item->outcome == ITEM_SETTLED)
        item_list_push(&worker->confirmed, item);
    else
        drop(worker, item);
}

static void take_one(struct worker *worker, struct item *item)
{
    if (item->outcome == ITEM_SETTLED || item->outcome == ITEM_DROPPED)
        take_letter(worker, item);
    else if (item->delivery->epoch != worker->epoch)
        drop(worker, item);
    else
        item_list_push(&worker->ready, item);
}

void worker_take_in(struct worker *worker)
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

void worker_give_back(struct worker *worker)
{
    struct item *item = NULL;

    drop_deliveries(worker);
    worker_parked_give_back(worker, &worker->ready);
    while ((item = item_list_pop(&worker->ready)) != NULL)
        drop(worker, item);
    while ((item = item_list_pop(&worker->confirmed)) != NULL)
        drop(worker, item);
}

/* ------------------------------------------------------------------ after a batch */

static void say(const struct worker *worker, enum log_level level, const char *event,
                const struct item *item, uint32_t attempts)
{
    OBX_LOG(level, "consumer", event, KV_STR("group", worker->shared->settings.group),
            KV_BYTES("message_id", item->msg.message_id), KV_BYTES("topic", item->msg.topic),
            KV_U64("attempts", attempts), KV_STR("code", obx_code_name(item->why.code)),
            KV_STR("reason", item->why.text));
}

/* Its row is committed, dead or waiting. */
static void failed(struct worker *worker, struct item *item)
{
    struct counters *counters = &worker->shared->counters;
    const uint32_t attempts = item->parked_id != 0 ? item->attempts : 1;

    if (item->outcome == ITEM_REJECTED)
        counters_add(counters, CNT_REJECTED, 1);
    counters_add(counters, item->is_dead ? CNT_DEAD : CNT_RETRIED, 1);
    say(worker, item->is_dead ? LOG_LVL_WARN : LOG_LVL_INFO,
        item->is_dead ? "message.dead" : "message.retry", item, attempts);
    finish(worker, item, item->is_dead ? ITEM_DEAD : ITEM_PARKED);
}

static void say_how_broken_ended(const struct worker *worker, struct item *item)
{
    if (!item->broken)
        return;
    OBX_LOG(LOG_LVL_ERROR, "consumer", "tx.broken.settled",
            KV_STR("group", worker->shared->settings.group),
            KV_BYTES("message_id", item->msg.message_id),
            KV_STR("effect", item->outcome == ITEM_FAILED ? "undone" : "committed"));
    item->broken = false;
}

static void settle_one(struct worker *worker, struct item *item)
{
    struct counters *counters = &worker->shared->counters;

    say_how_broken_ended(worker, item);
    switch (item->outcome) {
    case ITEM_APPLIED:
    case ITEM_DUPLICATE:
        counters_add(counters, item->outcome == ITEM_APPLIED ? CNT_APPLIED : CNT_DUPLICATES, 1);
        finish(worker, item, item->outcome);
        break;
    case ITEM_FAILED:
    case ITEM_REJECTED:
        if (item->parked_id == 0)
            counters_add(counters, CNT_PARKED, 1);
        failed(worker, item);
        break;
    case ITEM_BEHIND:
    case ITEM_CAREFUL:
    case ITEM_STALLED:
        if (item->parked_id == 0)
            counters_add(counters, CNT_PARKED, 1);
        finish(worker, item, ITEM_PARKED);
        break;
    case ITEM_PARKED:
        finish(worker, item, ITEM_PARKED);
        break;
    case ITEM_DROPPED:
        drop(worker, item);
        break;
    case ITEM_PENDING:
    case ITEM_DEAD:
    case ITEM_LETTER:
    case ITEM_SETTLED:
        break;
    }
}

/*
 * The transaction is undone. Where it went wrong is where it is likely to go wrong again: that
 * message gets a transaction of its own. If it was alone already, it is parked, and the others go
 * on. Counted as its attempt is only what the handler's statements have done to the connection or
 * the transaction, not a lock that somebody else holds or a server that is away.
 */
static void isolate(struct worker *worker, size_t count, const struct apply_report *report)
{
    struct item *suspect = report->suspect;
    enum obx_code code = report->err.code;

    if (suspect == NULL)
        return;
    if (count > 1 || !suspect->alone) {
        suspect->alone = true;
        return;
    }
    if (report->is_unparkable) {
        suspect->hold_until_ms = clock_now_ms() + HOLD_MS;
        worker->held_until_ms = suspect->hold_until_ms;
        return;
    }
    item_decide(suspect, ITEM_PENDING, code, report->err.text);
    suspect->gives_up = true;
    suspect->is_stall = obx_code_action(code) == OBX_DO_RETRY || code == OBX_E_DB_READ_ONLY;
}

void worker_settle(struct worker *worker, size_t count, const struct apply_report *report)
{
    struct item_list again = {0};

    if (report->end == APPLY_AGAIN || report->end == APPLY_RECONNECT) {
        counters_add(&worker->shared->counters, CNT_RERUNS, 1);
        isolate(worker, count, report);
    }
    for (size_t i = 0; i < count; i++) {
        if (worker->batch[i]->outcome == ITEM_PENDING) {
            item_list_push(&again, worker->batch[i]);
        } else {
            worker->rows_held -= worker->batch[i]->parked_id != 0;
            settle_one(worker, worker->batch[i]);
        }
    }
    item_list_prepend(&worker->ready, &again);
}
