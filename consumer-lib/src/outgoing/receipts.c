/*
 * Receipts in batches, one message for each queue and turn. Invariant: an item taken is in exactly
 * one batch, and the batch is open, or outgoing, whose one result for it ends it or sends it again.
 */
#include "receipts.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/random.h"
#include "core/json.h"

enum {
    BATCH_MAX = 200, /* receipts in a message */
    RETRY_MIN_MS = 50,
    RETRY_CAP_MS = 2000,
    PATIENCE_MS = 10000,
    HELD_SHARE = 2,
    LOG_EVERY_MS = 1000,
    ID_SIZE = 48,
};

struct receipt_batch {
    struct post post;           /* its ctx is the struct receipts */
    struct receipt_batch *next; /* while open */
    char *queue;
    struct item_list items;
    struct obx_buf body;
    uint64_t give_up_ms;
    char id[ID_SIZE];
};

static const struct post_kind kind;

/* ---- batches ---- */

static struct receipt_batch *batch_of(struct post *post)
{
    return (struct receipt_batch *)(void *)post; /* its first member */
}

static void free_batch(struct receipt_batch *batch)
{
    buf_fini(&batch->body);
    obx_free(batch->queue);
    obx_free(batch);
}

static void end_batch(struct receipts *receipts, struct receipt_batch *batch, bool is_reported)
{
    struct item *item = NULL;

    while ((item = item_list_pop(&batch->items)) != NULL) {
        receipts->held -= item->is_receipt_place;
        item->is_receipt_place = false;
        receipts->on_done(item, is_reported, receipts->ctx);
    }
    free_batch(batch);
}

static struct receipt_batch *open_batch(struct receipts *receipts, struct obx_bytes queue)
{
    struct receipt_batch *batch = NULL;

    for (batch = receipts->open; batch != NULL; batch = batch->next) {
        if (bytes_is(queue, batch->queue) && batch->items.count < BATCH_MAX)
            return batch;
    }
    batch = obx_calloc(1, sizeof(*batch));
    if (batch == NULL)
        return NULL;
    batch->queue = bytes_dup(queue);
    if (batch->queue == NULL) {
        free_batch(batch);
        return NULL;
    }
    (void)snprintf(batch->id, sizeof(batch->id), "receipts-%016" PRIx64 "%016" PRIx64, random_u64(),
                   random_u64());
    batch->post = (struct post){.kind = &kind, .ctx = receipts};
    batch->next = receipts->open;
    receipts->open = batch;
    return batch;
}

/* Queues are named by messages: one line a second is enough about those that are not there. */
static void log_given_up(struct receipts *receipts, struct obx_bytes queue, size_t count,
                         const char *why)
{
    const uint64_t now_ms = clock_now_ms();

    counters_add(receipts->counters, CNT_RECEIPTS_GIVEN_UP, count);
    receipts->unlogged += count;
    if (now_ms < receipts->log_due_ms)
        return;
    OBX_LOG(LOG_LVL_WARN, "consumer", "receipts.given_up",
            KV_STR("group", receipts->settings->group), KV_BYTES("queue", queue),
            KV_U64("receipts", receipts->unlogged), KV_STR("why", why));
    receipts->unlogged = 0;
    receipts->log_due_ms = now_ms + LOG_EVERY_MS;
}

/*
 * What there is to report of a final item: a message that waits is reported when it is decided, and
 * one that is too old to tell whether it was applied never: its producer parks it.
 */
bool receipts_take(struct receipts *receipts, struct item *item)
{
    const char *group = receipts->settings->group;
    const bool is_rejected = item->state == ITEM_DEAD;
    const bool is_counted = item->pack != NULL && item->pack->has_receipt_place;
    struct receipt_batch *batch = NULL;
    struct receipt_line line;

    if (item->is_stored)
        return false;
    if ((item->state != ITEM_DONE && !(is_rejected && item_may_report_rejected(item))) ||
        !item_asks_receipt(item, group))
        return false;
    /* Receipts that cannot go out keep this part of the window at most: the rest is for the others. The
     * window counts what the broker sends: a pack of hundreds takes one place. */
    if (!is_counted && receipts->held >= (size_t)receipts->settings->prefetch / HELD_SHARE + 1) {
        log_given_up(receipts, item_receipt_queue(item), 1, "too many wait already");
        return false;
    }
    batch = open_batch(receipts, item_receipt_queue(item));
    if (batch == NULL)
        return false;
    line = (struct receipt_line){.message_id = item->msg.message_id,
                                 .group = bytes_of(group),
                                 .token = item_receipt_token(item),
                                 .reason = bytes_of(item->why.text),
                                 .is_rejected = is_rejected};
    if (receipt_body_add(&batch->body, &line) != OBX_OK)
        return false;
    item_list_push(&batch->items, item);
    item->is_receipt_place = !is_counted;
    receipts->held += item->is_receipt_place;
    if (item->pack != NULL)
        item->pack->has_receipt_place = true;
    return true;
}

/* ---- publishing ---- */

void receipts_flush(struct receipts *receipts)
{
    const uint64_t now_ms = clock_now_ms();

    while (receipts->open != NULL) {
        struct receipt_batch *batch = receipts->open;

        receipts->open = batch->next;
        batch->give_up_ms = now_ms + PATIENCE_MS;
        if (receipts->is_ending)
            end_batch(receipts, batch, false);
        else if (batch->items.count == 0 || receipt_body_end(&batch->body) != OBX_OK)
            end_batch(receipts, batch, true);
        else
            outgoing_add(receipts->outgoing, &batch->post, now_ms);
    }
}

static enum obx_code send(struct post *post, struct bridge_publisher *publisher,
                          struct obx_err *err)
{
    const struct receipt_batch *batch = batch_of(post);
    const struct bridge_message msg = {.exchange = bytes_of(""),
                                       .routing_key = bytes_of(batch->queue),
                                       .message_id = bytes_of(batch->id),
                                       .type = bytes_of("rowpost.receipts"),
                                       .content_type = bytes_of("application/json"),
                                       .app_id = bytes_of("rowpost"),
                                       .body = buf_bytes(&batch->body)};

    OBX_CRASH_POINT("consumer-receipt-before-publish");
    return bridge_publisher_publish(publisher, &msg, post->number, err);
}

static void on_result(struct post *post, enum pub_outcome outcome, enum obx_code failed,
                      const char *why)
{
    struct receipts *receipts = post->ctx;
    struct receipt_batch *batch = batch_of(post);
    const uint64_t now_ms = clock_now_ms();

    (void)failed;
    if (why == NULL)
        why = pub_outcome_name(outcome);
    if (outcome == PUB_CONFIRMED) {
        OBX_CRASH_POINT("consumer-receipt-confirmed");
        counters_add(receipts->counters, CNT_RECEIPTS, batch->items.count);
        end_batch(receipts, batch, true);
    } else if (receipts->is_ending) {
        end_batch(receipts, batch, false);
    } else if (outcome == PUB_RETURNED || outcome == PUB_DENIED || now_ms >= batch->give_up_ms) {
        /* Returned: nobody listens there. A producer that does so later asks again, and its answer
         * is in the tables. */
        log_given_up(receipts, bytes_of(batch->queue), batch->items.count, why);
        end_batch(receipts, batch, true);
    } else {
        outgoing_add(receipts->outgoing, post,
                     now_ms +
                         backoff_nth_ms(RETRY_MIN_MS, RETRY_CAP_MS, ++post->tries, random_u64()));
    }
}

static const struct post_kind kind = {.send = send, .on_result = on_result, .is_urgent = true};
