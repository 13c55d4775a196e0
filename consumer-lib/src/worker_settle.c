/*
 * Where a worker's items are between batches: ready, waiting for their next attempt, or queued
 * behind the head of their key. Invariant: of one key, the items are, in delivery order, its
 * waiting head, the followers queued behind it, those in ready. An item leaves through `back`,
 * decided, and through nothing else.
 */
#include "worker.h"

#include "base/clock.h"
#include "base/log.h"

/* A lock that somebody holds for long is looked at again after this at first, then less often. */
enum { ALONE_WAIT_MIN_MS = 50 };

static void level_waiting(struct worker *worker, uint64_t before)
{
    uint64_t now = worker->waiting.count + worker->keys.waiting;

    if (now > before)
        counters_add(&worker->shared->counters, CNT_WAITING, now - before);
    else
        counters_sub(&worker->shared->counters, CNT_WAITING, before - now);
}

static uint64_t waiting_now(const struct worker *worker)
{
    return worker->waiting.count + worker->keys.waiting;
}

void worker_post_back(struct worker *worker)
{
    mailbox_post(&worker->shared->to_io, &worker->back);
}

static void release_key(struct worker *worker, struct item *item)
{
    struct item_list followers = {0};

    keys_release(&worker->keys, item, &followers);
    item_list_prepend(&worker->ready, &followers);
}

/* The item is decided for good: its key is free, the I/O thread does the rest. */
static void finish(struct worker *worker, struct item *item)
{
    release_key(worker, item);
    item_list_push(&worker->back, item);
}

static void drop(struct worker *worker, struct item *item)
{
    item->outcome = ITEM_DROPPED;
    counters_add(&worker->shared->counters, CNT_DROPPED, 1);
    finish(worker, item);
}

static void drop_list(struct worker *worker, struct item_list *list)
{
    struct item *item = NULL;

    while ((item = item_list_pop(list)) != NULL)
        drop(worker, item);
}

/* ------------------------------------------------------------------ taking in */

static bool is_stale(const struct worker *worker, const struct item *item)
{
    return item->delivery->epoch != worker->epoch;
}

/* Everything that has not begun will be delivered again. All at once, or a key's followers would
 * overtake its head. */
static void drop_all(struct worker *worker)
{
    struct item_list followers = {0};

    keys_clear(&worker->keys, &followers);
    drop_list(worker, &worker->waiting);
    drop_list(worker, &followers);
    drop_list(worker, &worker->ready);
}

static void take_one(struct worker *worker, struct item *item)
{
    if (item->outcome == ITEM_SETTLED || item->outcome == ITEM_DROPPED) {
        finish(worker, item); /* a dead letter whose key may go on */
    } else if (is_stale(worker, item)) {
        drop(worker, item);
    } else {
        if (!retry_is_empty(worker->shared->retry))
            item->attempts = retry_attempts(worker->shared->retry, item->msg.message_id);
        item_list_push(&worker->ready, item);
    }
}

void worker_take_in(struct worker *worker)
{
    struct item_list in = {0};
    struct item *item = NULL;
    uint64_t before = waiting_now(worker);
    uint32_t epoch = 0;

    mailbox_take(&worker->box, &in);
    epoch = atomic_load(&worker->shared->epoch);
    if (epoch != worker->epoch) {
        worker->epoch = epoch;
        drop_all(worker);
    }
    while ((item = item_list_pop(&in)) != NULL)
        take_one(worker, item);
    level_waiting(worker, before);
}

void worker_give_back(struct worker *worker)
{
    uint64_t before = waiting_now(worker);

    drop_all(worker);
    level_waiting(worker, before);
}

void worker_wake_due(struct worker *worker)
{
    struct item_list due = {0};
    uint64_t before = waiting_now(worker);
    uint64_t now = clock_now_ms();

    while (worker->waiting.head != NULL && worker->waiting.head->due_ms <= now)
        item_list_push(&due, item_list_pop(&worker->waiting));
    item_list_prepend(&worker->ready, &due);
    level_waiting(worker, before);
}

/* ------------------------------------------------------------------ after a batch */

static void wait_until_due(struct worker *worker, struct item *item, uint32_t wait_ms)
{
    struct item **at = &worker->waiting.head;

    item->outcome = ITEM_PENDING;
    item->due_ms = clock_now_ms() + wait_ms;
    keys_hold(&worker->keys, item);
    while (*at != NULL && (*at)->due_ms <= item->due_ms)
        at = &(*at)->next;
    item->next = *at;
    *at = item;
    if (item->next == NULL)
        worker->waiting.tail = item;
    worker->waiting.count++;
}

static void dead_letter(struct worker *worker, struct item *item)
{
    OBX_LOG(LOG_LVL_WARN, "consumer", "message.dead",
            KV_STR("group", worker->shared->settings.group),
            KV_BYTES("message_id", item->msg.message_id), KV_BYTES("topic", item->msg.topic),
            KV_U64("attempts", item->attempts), KV_STR("code", obx_code_name(item->why.code)),
            KV_STR("reason", item->why.text));
    item->outcome = ITEM_DEAD;
    /* Its key waits until the broker has the dead letter. A key held already stays held. */
    keys_hold(&worker->keys, item);
    item_list_push(&worker->back, item);
}

static void failed(struct worker *worker, struct item *item)
{
    struct shared *shared = worker->shared;
    struct retry_decision next = retry_failed(shared->retry, item->msg.message_id, item->attempts);

    item->attempts = next.attempts;
    if (next.is_over) {
        dead_letter(worker, item);
        return;
    }
    counters_add(&shared->counters, CNT_RETRIED, 1);
    OBX_LOG(LOG_LVL_INFO, "consumer", "message.retry", KV_STR("group", shared->settings.group),
            KV_BYTES("message_id", item->msg.message_id), KV_U64("attempts", item->attempts),
            KV_U64("wait_ms", next.wait_ms), KV_STR("code", obx_code_name(item->why.code)),
            KV_STR("reason", item->why.text));
    wait_until_due(worker, item, next.wait_ms);
}

static void rejected(struct worker *worker, struct item *item)
{
    counters_add(&worker->shared->counters, CNT_REJECTED, 1);
    item->attempts++;
    dead_letter(worker, item);
}

static void applied(struct worker *worker, struct item *item)
{
    counters_add(&worker->shared->counters,
                 item->outcome == ITEM_APPLIED ? CNT_APPLIED : CNT_DUPLICATES, 1);
    if (item->attempts > 0)
        retry_forget(worker->shared->retry, item->msg.message_id);
    finish(worker, item);
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

static void settle_one(struct worker *worker, struct item *item, struct item_list *again)
{
    item->alone = false;
    say_how_broken_ended(worker, item);
    switch (item->outcome) {
    case ITEM_APPLIED:
    case ITEM_DUPLICATE:
        applied(worker, item);
        break;
    case ITEM_FAILED:
        failed(worker, item);
        break;
    case ITEM_REJECTED:
        rejected(worker, item);
        break;
    case ITEM_BEHIND:
        item->outcome = ITEM_PENDING;
        if (!keys_queue_behind(&worker->keys, item))
            item_list_push(again, item);
        break;
    case ITEM_PENDING:
    case ITEM_DEAD:
    case ITEM_SETTLED:
    case ITEM_DROPPED:
        item_list_push(again, item);
        break;
    }
}

/*
 * The transaction is undone. Where it went wrong is where it is likely to go wrong again: that
 * message gets a transaction of its own. If it was alone already, it waits, and the others go on.
 * Counted as its attempt is only what the handler's statements have done to the connection or the
 * transaction, not a lock that somebody else holds or a server that is away.
 */
static bool isolate(struct worker *worker, size_t count, const struct apply_report *report)
{
    struct item *suspect = report->suspect;
    enum obx_code code = report->err.code;

    if (suspect == NULL)
        return false;
    if (count > 1 || !suspect->alone) {
        suspect->alone = true;
        return false;
    }
    item_decide(suspect, ITEM_FAILED, code, report->err.text);
    if (obx_code_action(code) == OBX_DO_RETRY || code == OBX_E_DB_READ_ONLY) {
        wait_until_due(worker, suspect,
                       backoff_nth_ms(ALONE_WAIT_MIN_MS, worker->shared->settings.retry_cap_ms,
                                      ++suspect->stalls, random_u64()));
    } else {
        failed(worker, suspect);
    }
    return true;
}

static void settle_undone(struct worker *worker, size_t count, const struct apply_report *report)
{
    struct item_list again = {0};

    counters_add(&worker->shared->counters, CNT_RERUNS, 1);
    if (isolate(worker, count, report))
        return;
    for (size_t i = 0; i < count; i++)
        item_list_push(&again, worker->batch[i]);
    item_list_prepend(&worker->ready, &again);
}

void worker_settle(struct worker *worker, size_t count, const struct apply_report *report)
{
    uint64_t before = waiting_now(worker);
    struct item_list again = {0};

    if (report->end == APPLY_AGAIN || report->end == APPLY_RECONNECT) {
        settle_undone(worker, count, report);
    } else {
        for (size_t i = 0; i < count; i++) {
            if (worker->batch[i]->outcome == ITEM_PENDING)
                item_list_push(&again, worker->batch[i]);
            else
                settle_one(worker, worker->batch[i], &again);
        }
        item_list_prepend(&worker->ready, &again);
    }
    level_waiting(worker, before);
}
