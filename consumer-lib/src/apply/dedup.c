/*
 * Dedup in two statements for a batch. Which of its messages have been applied is asked once, before
 * any handler; the rows of those whose handlers have run are written once, before the COMMIT. Between
 * them only one row in each chunk is written at once, before its handler: the mark. It tells, when a
 * handler has ended the transaction, what has become of the handlers since: the mark is there, and
 * they are committed, or it is not, and they are undone. See docs/adr/0027-dedup-by-batch.md.
 *
 * Grouped is what can be: a delivery that nobody else may hold, whose id is in the batch once, and
 * about which nothing is in doubt. Everything else has its row written before its handler, as in a
 * batch that is not grouped at all.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "run.h"

/* A second message with the same id: both get their rows one by one, so that the second meets the
 * first one's. The table is open addressing, at most half full. */
static void ungroup_twins(struct item **items, size_t count, struct item **table, size_t mask)
{
    for (size_t i = 0; i < count; i++) {
        struct item *item = items[i];
        size_t at = (size_t)bytes_hash(item->msg.message_id) & mask;

        if (!item_has_id(item))
            continue;
        while (table[at] != NULL && !bytes_equal(table[at]->msg.message_id, item->msg.message_id))
            at = (at + 1) & mask;
        if (table[at] == NULL) {
            table[at] = item;
            continue;
        }
        if (table[at]->found == FOUND_GROUPED)
            table[at]->found = FOUND_NOTHING;
        if (item->found == FOUND_GROUPED)
            item->found = FOUND_NOTHING;
    }
}

enum obx_code run_find_applied(struct run *run)
{
    const struct store *store = &run->apply->store;
    struct item **table = NULL;
    size_t size = 2;
    size_t grouped = 0;

    if (!run->is_grouped || run->is_wary)
        return OBX_OK;
    while (size < 2 * run->count)
        size *= 2;
    table = obx_calloc(size, sizeof(struct item *));
    if (table == NULL)
        return OBX_OK; /* one by one, then */
    for (size_t i = 0; i < run->count; i++) {
        struct item *item = run->items[i];

        if (item->found == FOUND_NOTHING && item->parked_id == 0 && !item->msg.redelivered &&
            item->plan == PLAN_TOGETHER && item->dedup == DEDUP_NONE && item_has_id(item))
            item->found = FOUND_GROUPED;
    }
    ungroup_twins(run->items, run->count, table, size - 1);
    obx_free(table);
    for (size_t i = 0; i < run->count; i++)
        grouped += run->items[i]->found == FOUND_GROUPED;
    if (grouped == 0)
        return OBX_OK;
    return store->ops->find_applied(store->ctx, run->items, run->count, &run->report->err);
}

bool run_is_grouped(const struct run *run, const struct item *item)
{
    return item->found == FOUND_GROUPED && run->mark != NULL;
}

static enum obx_code settle_copy(struct run *run, struct item *item)
{
    const struct store *store = &run->apply->store;
    enum dedup_outcome outcome = OUTCOME_APPLIED;
    enum obx_code rc = OBX_OK;

    if (item->wants_receipt && item->dedup != DEDUP_IN_DOUBT)
        rc = store->ops->read_outcome(store->ctx, item, &outcome, &run->report->err);
    if (rc != OBX_OK)
        return rc;
    item_set(item, ITEM_READY);
    if (item->dedup == DEDUP_IN_DOUBT)
        item_set(item, ITEM_APPLIED);
    else
        item_set(item, outcome == OUTCOME_REJECTED ? ITEM_WAS_REJECTED : ITEM_DUPLICATE);
    return OBX_OK;
}

enum obx_code run_find_copies(struct run *run)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = OBX_OK;
    size_t waiting = 0;

    for (size_t i = 0; i < run->count; i++) {
        struct item *item = run->items[i];
        const bool waits = item->state == ITEM_BLOCKED || item->state == ITEM_SUSPECT ||
                           item->state == ITEM_HELD || item->state == ITEM_STALLED;

        /* Asked for are dedup rows that were not, or before the others' handlers ran; what was found
         * of the others has been acted on. One to be retracted has none that stands for its effect. */
        item->found = FOUND_NOTHING;
        if (waits && item->parked_id == 0 && item->plan != PLAN_RETRACT && item_has_id(item))
            item->found = FOUND_GROUPED;
        waiting += item->found == FOUND_GROUPED;
    }
    if (waiting > 0)
        rc = store->ops->find_applied(store->ctx, run->items, run->count, &run->report->err);
    for (size_t i = 0; i < run->count && rc == OBX_OK; i++) {
        if (run->items[i]->found == FOUND_DUPLICATE)
            rc = settle_copy(run, run->items[i]);
    }
    return rc;
}

enum obx_code run_write_rows(struct run *run)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = OBX_OK;
    size_t later = 0;

    for (size_t i = 0; i < run->count; i++)
        later += run->items[i]->dedup == DEDUP_LATER;
    if (later == 0)
        return OBX_OK;
    rc = store->ops->insert_many(store->ctx, run->items, run->count, &run->report->err);
    for (size_t i = 0; i < run->count && rc == OBX_OK; i++) {
        if (run->items[i]->dedup == DEDUP_LATER)
            run->items[i]->dedup = DEDUP_WRITTEN;
    }
    return rc;
}

enum obx_code run_write_each(struct run *run, size_t count)
{
    const struct store *store = &run->apply->store;

    for (size_t i = 0; i < count; i++) {
        struct item *item = run->items[i];
        enum obx_code rc = OBX_OK;

        if (item->dedup != DEDUP_LATER)
            continue;
        rc = store->ops->insert(store->ctx, item->msg.message_id, &run->report->err);
        if (rc != OBX_OK && rc != OBX_E_DB_DUPLICATE)
            return rc;
        item->dedup = DEDUP_WRITTEN;
    }
    return OBX_OK;
}
