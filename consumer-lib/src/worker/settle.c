/* See settle.h. Nothing waits in memory: what waits has its row in inbox_parked. */
#include "settle.h"

#include "base/clock.h"
#include "base/log.h"

enum { HOLD_MS = 1000 };

void settle_drop(struct shared *shared, struct item *item)
{
    if (item->parked_id == 0)
        counters_add(&shared->counters, CNT_DROPPED, 1);
    item_set(item, ITEM_DROPPED);
}

/* What each decision adds up to in the statistics; a row that stays a row is not parked again. */
static void count(struct counters *counters, const struct item *item)
{
    const bool is_delivery = item->parked_id == 0;

    switch (item->state) {
    case ITEM_APPLIED:
        counters_add(counters, CNT_APPLIED, 1);
        break;
    case ITEM_DUPLICATE:
    case ITEM_WAS_REJECTED:
        counters_add(counters, CNT_DUPLICATES, 1);
        break;
    case ITEM_FAILED:
        counters_add(counters, CNT_RETRIED, 1);
        counters_add(counters, CNT_PARKED, is_delivery);
        break;
    case ITEM_REJECTED:
        counters_add(counters, CNT_REJECTED, 1);
        counters_add(counters, CNT_DEAD, 1);
        counters_add(counters, CNT_PARKED, is_delivery);
        break;
    case ITEM_EXHAUSTED:
        counters_add(counters, CNT_DEAD, 1);
        counters_add(counters, CNT_PARKED, is_delivery);
        break;
    case ITEM_STALLED:
        counters_add(counters, CNT_ATTEMPTS_KEPT, item->why.code == OBX_E_HANDLER);
        counters_add(counters, CNT_PARKED, is_delivery);
        break;
    case ITEM_BLOCKED:
    case ITEM_SUSPECT:
    case ITEM_HELD:
        counters_add(counters, CNT_PARKED, is_delivery);
        break;
    case ITEM_LEFT:
        counters_add(counters, CNT_DROPPED, is_delivery);
        break;
    case ITEM_READY:
    case ITEM_HAS_ROW:
    case ITEM_DONE:
    case ITEM_DEAD:
    case ITEM_PARKED:
    case ITEM_DROPPED:
    case ITEM_LETTER:
    case ITEM_CONFIRMED:
        break;
    }
}

/* Its decision is committed: the log says what an operator wants to know of it. */
static void settle_one(struct shared *shared, struct item *item)
{
    const bool is_dead = item->state == ITEM_EXHAUSTED || item->state == ITEM_REJECTED;

    count(&shared->counters, item);
    if (item->plan == PLAN_LEARN || item->plan == PLAN_RETRACT)
        OBX_LOG(LOG_LVL_ERROR, "consumer", "tx.broken.settled",
                KV_STR("group", shared->settings.group),
                KV_BYTES("message_id", item->msg.message_id),
                KV_STR("effect", item->state == ITEM_FAILED || item->state == ITEM_EXHAUSTED
                                     ? "undone"
                                     : "committed"));
    if (item->state == ITEM_FAILED || is_dead)
        OBX_LOG(is_dead ? LOG_LVL_WARN : LOG_LVL_INFO, "consumer",
                is_dead ? "message.dead" : "message.retry", KV_STR("group", shared->settings.group),
                KV_BYTES("message_id", item->msg.message_id), KV_BYTES("topic", item->msg.topic),
                KV_U64("attempts", item_attempt(item)),
                KV_STR("code", obx_code_name(item->why.code)), KV_STR("reason", item->why.text));
    item_set(item, item_final(item->state));
}

/*
 * The transaction is undone. Where it went wrong is where it is likely to go wrong again: that
 * message gets a transaction of its own. If it was alone already, it is parked, and the others go
 * on. Counted as its attempt is only what the handler's statements have done to the connection or
 * the transaction, not a lock that somebody else holds or a server that is away.
 */
static void isolate(size_t batch_count, const struct apply_report *report, struct settled *settled)
{
    struct item *suspect = report->suspect;
    const enum obx_code code = report->err.code;
    const bool is_stall =
        report->at_end || obx_code_action(code) == OBX_DO_RETRY || code == OBX_E_DB_READ_ONLY;

    if (suspect == NULL)
        return;
    if (suspect->plan == PLAN_TOGETHER) {
        suspect->plan = PLAN_ALONE;
    } else if (batch_count == 1 && report->is_unparkable) {
        suspect->hold_until_ms = clock_now_ms() + HOLD_MS;
        settled->held_until_ms = suspect->hold_until_ms;
    } else if (batch_count == 1 && suspect->plan != PLAN_RETRACT) {
        item_reason(suspect, code, report->err.text);
        suspect->plan = is_stall ? PLAN_STALL : PLAN_GIVE_UP;
    }
}

void settle_batch(struct shared *shared, struct item **batch, size_t batch_count,
                  const struct apply_report *report, struct settled *settled)
{
    *settled = (struct settled){0};
    if (report->end == APPLY_AGAIN || report->end == APPLY_RECONNECT) {
        counters_add(&shared->counters, CNT_RERUNS, 1);
        isolate(batch_count, report, settled);
    }
    for (size_t i = 0; i < batch_count; i++) {
        struct item *item = batch[i];

        if (item->state == ITEM_READY) {
            item_list_push(&settled->again, item);
            continue;
        }
        settled->rows += item->parked_id != 0;
        settle_one(shared, item);
        item_list_push(&settled->back, item);
    }
}
