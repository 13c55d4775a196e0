/*
 * One batch, one transaction.
 *
 *     BEGIN; SAVEPOINT tx;
 *     for each chunk: SAVEPOINT chunk;
 *         for each message: INSERT dedup row (1062: duplicate, skip); handler
 *     RELEASE SAVEPOINT tx; COMMIT
 *
 * The dedup row is written right before its handler, never earlier: what a handler that commits by
 * itself makes durable is the rows of messages whose handlers have been run, so nothing can be
 * marked as applied that was not.
 *
 * A failing message: ROLLBACK TO chunk, the messages of the chunk before it run again, a new chunk
 * begins behind it. The transaction stays whole and the failing message is not called again.
 *
 * A transaction ended by a handler: known at once from the server's status after the handler, or,
 * when the handler began another one, from the missing savepoint (1305) at the end. What had been
 * inserted is then of unknown fate, and settled as after a lost COMMIT: the messages run again, and
 * the plain dedup INSERT decides, since it waits for whoever has written the row. See
 * docs/adr/0003-consumer.md for the interleavings.
 */
#include "apply.h"

#include <stdio.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "settings.h"

/* What one message did to the batch. */
enum step {
    STEP_ON,     /* go on with the next one                           */
    STEP_FAILED, /* undo this message, go on without it               */
    STEP_BROKEN, /* its handler ended the transaction                 */
    STEP_ABORT   /* the whole transaction is gone or has to be undone */
};

struct run {
    const struct apply *apply;
    struct item **items;
    size_t count;
    size_t at;
    size_t reached; /* the highest at so far: below it messages may be running again */
    size_t chunk_start;
    size_t chunk_end;
    size_t failures;      /* messages FAILED or REJECTED so far */
    struct item *culprit; /* whose handler ended the transaction; NULL: not known */
    uint64_t until_us;    /* 0: no limit */
    struct apply_report *report;
};

#define MS_TO_US 1000

/* ------------------------------------------------------------------ ends of a run */

static void forget_outcomes(struct run *run)
{
    for (size_t i = 0; i < run->count; i++)
        run->items[i]->outcome = ITEM_PENDING;
}

/* From now on a dedup row that is found may be the one that this run has written. */
static void doubt_commit(struct run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        if (run->items[i]->inserted)
            run->items[i]->maybe_committed = true;
    }
}

static bool needs_new_connection(enum obx_code code)
{
    return code == OBX_E_TIMEOUT || obx_code_action(code) != OBX_DO_RETRY;
}

/* report->err says why. Everything is undone; where that is not certain, the connection is given
 * up. */
static void abort_run(struct run *run)
{
    const struct store *store = &run->apply->store;
    struct apply_report *report = run->report;

    forget_outcomes(run);
    report->end = APPLY_RECONNECT;
    if (needs_new_connection(report->err.code))
        return;
    if (store->ops->rollback(store->ctx, NULL) == OBX_OK)
        report->end = APPLY_AGAIN;
}

static void say_broken(const struct run *run, const struct item *culprit, const char *how)
{
    counters_add(run->apply->counters, CNT_TX_BROKEN, 1);
    if (culprit != NULL) {
        OBX_LOG(LOG_LVL_ERROR, "consumer", "tx.broken", KV_STR("group", run->apply->group),
                KV_BYTES("message_id", culprit->msg.message_id),
                KV_BYTES("topic", culprit->msg.topic), KV_STR("how", how));
    } else {
        OBX_LOG(LOG_LVL_ERROR, "consumer", "tx.broken", KV_STR("group", run->apply->group),
                KV_STR("message_id", "unknown"), KV_U64("batch", run->count), KV_STR("how", how));
    }
}

/*
 * A handler has ended the transaction. Undo what is open, let a new session find out what was
 * committed. culprit NULL: unknown, then each message gets a transaction of its own, which will
 * tell.
 */
static void break_run(struct run *run, struct item *culprit)
{
    const struct store *store = &run->apply->store;

    doubt_commit(run);
    if (culprit != NULL) {
        culprit->broken = true;
        say_broken(run, culprit, "handler ended the transaction");
    } else {
        for (size_t i = 0; i < run->count; i++)
            run->items[i]->alone = true;
        OBX_LOG(LOG_LVL_WARN, "consumer", "tx.broken.search", KV_STR("group", run->apply->group),
                KV_U64("batch", run->count));
    }
    /* When it fails the server undoes it as the connection closes. */
    (void)store->ops->rollback(store->ctx, NULL);
    forget_outcomes(run);
    obx_fail(&run->report->err, OBX_E_TX_BROKEN, "batch of %zu", run->count);
    run->report->suspect = NULL;
    run->report->end = APPLY_RECONNECT;
}

/* ------------------------------------------------------------------ one message */

static bool is_too_old(const struct apply *apply, const struct item *item)
{
    return apply->refuse_us != 0 && item->event_us != 0 && item->event_us < apply->refuse_us;
}

/* A message that cannot be deduplicated is never given to the handler. */
static bool refuse(const struct apply *apply, struct item *item)
{
    struct obx_bytes id = item->msg.message_id;

    if (bytes_is_absent(id))
        item_decide(item, ITEM_REJECTED, OBX_E_FORMAT, "no message id");
    else if (id.len > SETTINGS_MESSAGE_ID_MAX)
        item_decide(item, ITEM_REJECTED, OBX_E_TOO_LARGE, "message id longer than 255 bytes");
    else if (is_too_old(apply, item))
        item_decide(
            item, ITEM_REJECTED, OBX_E_CONFLICT,
            "older than the retention of the dedup rows: cannot tell whether it was applied");
    else
        return false;
    return true;
}

static bool is_behind(const struct run *run, const struct item *item)
{
    if (run->failures == 0 || !item_has_key(item))
        return false;
    for (size_t i = 0; i < run->at; i++) {
        const struct item *before = run->items[i];

        if ((before->outcome == ITEM_FAILED || before->outcome == ITEM_REJECTED) &&
            item_same_key(before, item))
            return true;
    }
    return false;
}

static enum step fail_step(struct item *item, enum item_outcome outcome, enum obx_code code,
                           const char *reason)
{
    item_decide(item, outcome, code, reason[0] != '\0' ? reason : obx_code_text(code));
    return STEP_FAILED;
}

static enum step call_handler(struct run *run, struct item *item)
{
    const struct apply *apply = run->apply;
    struct obx_err failed = {0};
    char reason[OBX_ERR_TEXT_MAX] = "";
    enum obx_verdict verdict = OBX_RETRY;

    run->report->suspect = item;
    verdict = apply->handler.call(apply->handler.ctx, item, &failed, reason, sizeof(reason));
    if (failed.code != OBX_OK) {
        run->report->err = failed;
        return STEP_ABORT;
    }
    if (!apply->store.ops->in_transaction(apply->store.ctx)) {
        run->culprit = item;
        return STEP_BROKEN;
    }
    if (verdict == OBX_REJECT)
        return fail_step(item, ITEM_REJECTED, OBX_E_REJECTED, reason);
    if (verdict != OBX_APPLIED)
        return fail_step(item, ITEM_FAILED, OBX_E_HANDLER, reason);
    item->outcome = ITEM_APPLIED;
    return STEP_ON;
}

/*
 * The row is written. When the server says that no transaction is open, an earlier handler has
 * ended it in a way that its last answer did not show, and our insert was committed by itself: take
 * it back before anybody relies on it.
 */
static enum step after_insert(struct run *run, struct item *item)
{
    const struct store *store = &run->apply->store;

    if (!store->ops->in_transaction(store->ctx)) {
        (void)store->ops->remove(store->ctx, item->msg.message_id, NULL);
        (void)store->ops->commit(store->ctx, NULL);
        return STEP_BROKEN;
    }
    item->inserted = true;
    item->maybe_committed = false;
    if (item->broken)
        return fail_step(item, ITEM_FAILED, OBX_E_TX_BROKEN, "");
    return call_handler(run, item);
}

static enum step run_one(struct run *run, struct item *item)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = OBX_OK;

    item->inserted = false;
    if (is_behind(run, item)) {
        item->outcome = ITEM_BEHIND;
        return STEP_ON;
    }
    if (refuse(run->apply, item)) {
        run->failures++;
        return STEP_ON;
    }
    rc = store->ops->insert(store->ctx, item->msg.message_id, &run->report->err);
    if (rc == OBX_OK)
        return after_insert(run, item);
    if (rc == OBX_E_DB_DUPLICATE) {
        item->outcome = item->maybe_committed ? ITEM_APPLIED : ITEM_DUPLICATE;
        return STEP_ON;
    }
    if (rc == OBX_E_DB_DATA) {
        run->failures++;
        item_decide(item, ITEM_REJECTED, rc, run->report->err.text);
        return STEP_ON;
    }
    return STEP_ABORT;
}

/* ------------------------------------------------------------------ chunks */

/* The first chunk begins where the transaction does. */
static enum store_mark chunk_mark(const struct run *run)
{
    return run->chunk_start == 0 ? STORE_MARK_TX : STORE_MARK_CHUNK;
}

static enum obx_code begin_chunk(struct run *run)
{
    const struct store *store = &run->apply->store;

    run->chunk_start = run->at;
    run->chunk_end = run->at + run->apply->chunk;
    if (chunk_mark(run) == STORE_MARK_TX)
        return OBX_OK;
    return store->ops->set_mark(store->ctx, STORE_MARK_CHUNK, &run->report->err);
}

/* Who it was when a savepoint is missing: certain only if one handler has run since it was set. */
static struct item *only_inserted(const struct run *run, size_t from, size_t to)
{
    struct item *only = NULL;

    for (size_t i = from; i < to; i++) {
        if (!run->items[i]->inserted)
            continue;
        if (only != NULL)
            return NULL;
        only = run->items[i];
    }
    return only;
}

/* Undo the chunk, keep the verdict on the item that failed, run those before it again. */
static enum step undo_failed(struct run *run)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = store->ops->undo_to(store->ctx, chunk_mark(run), &run->report->err);

    if (rc == OBX_E_DB_NO_SAVEPOINT) {
        run->culprit = only_inserted(run, run->chunk_start, run->at + 1);
        return STEP_BROKEN;
    }
    if (rc != OBX_OK)
        return STEP_ABORT;
    run->failures++;
    run->items[run->at]->inserted = false;
    run->chunk_end = run->at;
    for (size_t i = run->chunk_start; i < run->at; i++) {
        run->items[i]->inserted = false;
        if (run->items[i]->outcome == ITEM_APPLIED || run->items[i]->outcome == ITEM_DUPLICATE)
            run->items[i]->outcome = ITEM_PENDING;
    }
    run->at = run->chunk_start;
    return STEP_ON;
}

static enum step step(struct run *run)
{
    struct item *item = run->items[run->at];
    enum step result = STEP_ON;

    if (item->outcome == ITEM_PENDING)
        result = run_one(run, item);
    if (result == STEP_FAILED)
        return undo_failed(run);
    if (result == STEP_ON)
        run->at++;
    if (run->reached < run->at)
        run->reached = run->at;
    return result;
}

static bool is_over(const struct run *run)
{
    if (run->at >= run->count)
        return true;
    if (run->until_us == 0 || run->at == 0 || run->at < run->reached)
        return false;
    return clock_now_us() >= run->until_us;
}

static enum step run_items(struct run *run)
{
    while (!is_over(run)) {
        enum step result = STEP_ON;

        if (run->at >= run->chunk_end && begin_chunk(run) != OBX_OK)
            return STEP_ABORT;
        result = step(run);
        if (result != STEP_ON)
            return result;
    }
    return STEP_ON;
}

/* ------------------------------------------------------------------ the end of the transaction */

static void commit_run(struct run *run, enum apply_end good)
{
    const struct store *store = &run->apply->store;
    struct apply_report *report = run->report;
    enum obx_code rc = OBX_OK;

    OBX_CRASH_POINT("consumer-before-commit");
    rc = store->ops->commit(store->ctx, &report->err);
    if (rc == OBX_OK) {
        OBX_CRASH_POINT("consumer-after-commit");
        counters_add(run->apply->counters, CNT_COMMITS, 1);
        report->end = good;
        return;
    }
    /* A COMMIT that failed is nobody's fault in particular. */
    report->suspect = NULL;
    if (needs_new_connection(rc)) {
        counters_add(run->apply->counters, CNT_COMMIT_UNKNOWN, 1);
        doubt_commit(run);
    }
    abort_run(run);
}

/* Whether every dedup row that this run wrote is there, committed or in the transaction that is
 * open now. */
static enum obx_code all_rows_there(struct run *run, bool *all)
{
    const struct store *store = &run->apply->store;

    *all = true;
    for (size_t i = 0; i < run->at && *all; i++) {
        const struct item *item = run->items[i];
        enum obx_code rc = OBX_OK;

        if (item->inserted)
            rc = store->ops->has(store->ctx, item->msg.message_id, all, &run->report->err);
        if (rc != OBX_OK)
            return rc;
    }
    return OBX_OK;
}

/* The last message whose row another session can see is the one whose handler committed; NULL when
 * none can be seen. */
static struct item *last_committed(struct run *run)
{
    const struct store *store = &run->apply->store;

    for (size_t i = run->at; i > 0; i--) {
        struct item *item = run->items[i - 1];
        bool has = false;

        if (!item->inserted)
            continue;
        if (store->ops->has_committed(store->ctx, item->msg.message_id, &has, NULL) != OBX_OK)
            return NULL;
        if (has)
            return item;
    }
    return NULL;
}

/*
 * The savepoint of the transaction is gone: a handler has ended it and another one is open. If
 * every row is there, the handler had committed, and committing the rest too makes the effect of
 * all whole. If rows are missing it had rolled back: then nothing of what is open may stay.
 */
static void end_broken(struct run *run)
{
    struct item *culprit = NULL;
    bool all = false;

    if (all_rows_there(run, &all) != OBX_OK) {
        doubt_commit(run);
        abort_run(run);
        return;
    }
    if (!all) {
        break_run(run, only_inserted(run, 0, run->at));
        return;
    }
    culprit = last_committed(run);
    if (culprit != NULL)
        culprit->broken = true;
    say_broken(run, culprit,
               culprit != NULL ? "handler committed and began another transaction"
                               : "the savepoint of the transaction is gone");
    commit_run(run, APPLY_RENEW);
}

static void end_run(struct run *run)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = store->ops->release(store->ctx, STORE_MARK_TX, &run->report->err);

    if (rc == OBX_E_DB_NO_SAVEPOINT)
        end_broken(run);
    else if (rc != OBX_OK)
        abort_run(run);
    else
        commit_run(run, APPLY_COMMITTED);
}

static enum obx_code begin_run(struct run *run)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = store->ops->begin(store->ctx, &run->report->err);

    if (rc == OBX_OK)
        rc = store->ops->set_mark(store->ctx, STORE_MARK_TX, &run->report->err);
    counters_add(run->apply->counters, CNT_BATCHES, 1);
    return rc;
}

void apply_batch(const struct apply *apply, struct item **items, size_t count,
                 struct apply_report *report)
{
    struct run run = {.apply = apply, .items = items, .count = count, .report = report};
    enum step result = STEP_ABORT;

    *report = (struct apply_report){.end = APPLY_COMMITTED};
    if (apply->max_ms != 0)
        run.until_us = clock_now_us() + (uint64_t)apply->max_ms * MS_TO_US;
    forget_outcomes(&run);
    for (size_t i = 0; i < count; i++)
        items[i]->inserted = false;
    if (begin_run(&run) == OBX_OK)
        result = run_items(&run);
    switch (result) {
    case STEP_ON:
        end_run(&run);
        break;
    case STEP_BROKEN:
        break_run(&run, run.culprit);
        break;
    case STEP_FAILED:
    case STEP_ABORT:
        abort_run(&run);
        break;
    }
}
