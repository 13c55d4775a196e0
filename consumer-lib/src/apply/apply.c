/*
 * One batch, one transaction.
 *
 *     BEGIN; look what waits for the messages' keys; SAVEPOINT tx
 *     for each chunk: SAVEPOINT chunk;
 *         for each message: INSERT dedup row (1062: duplicate, skip); handler
 *     RELEASE SAVEPOINT tx; the rows of what was not applied; COMMIT
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

#include "api/settings.h"
#include "apply_run.h"
#include "base/bytes.h"
#include "base/clock.h"

/* A delivery that the broker has given out so often before without hearing of it again. */
#define KILLER_DELIVERIES 2
#define COUNT_HEADER      "x-delivery-count"

/* What one message did to the batch. */
enum step {
    STEP_ON,     /* go on with the next one                           */
    STEP_FAILED, /* undo this message, go on without it               */
    STEP_BROKEN, /* its handler ended the transaction                 */
    STEP_ABORT   /* the whole transaction is gone or has to be undone */
};

#define MS_TO_US 1000

/* ------------------------------------------------------------------ one message */

static bool is_too_old(const struct apply *apply, const struct item *item)
{
    return apply->refuse_us != 0 && item->event_us != 0 && item->event_us < apply->refuse_us;
}

/*
 * A message that cannot be deduplicated is never given to the handler. A row was looked at when it
 * came; as long as it is there no copy of the message is applied, so it does not get too old.
 */
static bool refuse(const struct apply *apply, struct item *item)
{
    struct obx_bytes id = item->msg.message_id;

    if (item->parked_id != 0)
        return false;
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

/* It may be the one that ends the process each time: then its attempts have to be counted. */
static bool may_be_killer(const struct item *item)
{
    const struct obx_header *count = NULL;

    if (item->parked_id != 0 || !item->msg.redelivered)
        return false;
    count = obx_message_header(&item->msg, COUNT_HEADER);
    return count != NULL && count->type == OBX_H_I64 && count->v.i64 >= KILLER_DELIVERIES;
}

/* A row that is behind a lost or blocked one may not overtake it either. */
bool run_holds_key(const struct run *run, const struct item *item)
{
    switch (item->outcome) {
    case ITEM_FAILED:
    case ITEM_REJECTED:
        return !item->is_dead || !(run->apply->policy.skips_dead || run_is_reported(run, item));
    case ITEM_BEHIND:
    case ITEM_CAREFUL:
    case ITEM_STALLED:
    case ITEM_DROPPED:
        return true;
    case ITEM_PENDING:
    case ITEM_APPLIED:
    case ITEM_DUPLICATE:
    case ITEM_PARKED:
    case ITEM_DEAD:
    case ITEM_LETTER:
    case ITEM_SETTLED:
        break;
    }
    return false;
}

static bool is_behind(const struct run *run, const struct item *item)
{
    if (item->survey.is_blocked)
        return true;
    if (run->failures == 0 || !item_has_key(item))
        return false;
    for (size_t i = 0; i < run->at; i++) {
        const struct item *before = run->items[i];

        if (run_holds_key(run, before) && item_same_key(before, item))
            return true;
    }
    return false;
}

uint32_t run_attempt(const struct item *item)
{
    return item->parked_id != 0 ? item->attempts : 1;
}

/* Decided without the handler. */
static enum step decide(struct run *run, struct item *item, enum item_outcome outcome)
{
    item->outcome = outcome;
    run->failures++;
    return STEP_ON;
}

static bool is_last_attempt(const struct run *run, const struct item *item)
{
    return run_attempt(item) >= run->apply->policy.max_attempts;
}

static enum step fail_step(const struct run *run, struct item *item, enum item_outcome outcome,
                           enum obx_code code, const char *reason)
{
    item_decide(item, outcome, code, reason[0] != '\0' ? reason : obx_code_text(code));
    item->is_dead = outcome == ITEM_REJECTED || is_last_attempt(run, item);
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
        return fail_step(run, item, ITEM_REJECTED, OBX_E_REJECTED, reason);
    if (verdict != OBX_APPLIED)
        return fail_step(run, item, ITEM_FAILED, OBX_E_HANDLER, reason);
    item->outcome = ITEM_APPLIED;
    return STEP_ON;
}

/*
 * The row is written. When the server says that no transaction is open, the handler that ran
 * last has ended it in a way that its last answer did not show, and our insert was committed by
 * itself: take it back before anybody relies on it.
 */
static enum step after_insert(struct run *run, struct item *item)
{
    const struct store *store = &run->apply->store;

    if (!store->ops->in_transaction(store->ctx)) {
        (void)store->ops->remove(store->ctx, item->msg.message_id, NULL);
        (void)store->ops->commit(store->ctx, NULL);
        run->culprit = run->report->suspect;
        return STEP_BROKEN;
    }
    item->inserted = true;
    item->maybe_committed = false;
    if (item->broken)
        return fail_step(run, item, ITEM_FAILED, OBX_E_TX_BROKEN, "");
    return call_handler(run, item);
}

/*
 * There is a dedup row. If it says that the message was rejected for good, an operator may have
 * forced its replay: then it makes room, within this transaction.
 */
static enum step met_duplicate(struct run *run, struct item *item)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = OBX_OK;

    item->outcome = item->maybe_committed ? ITEM_APPLIED : ITEM_DUPLICATE;
    if (item->maybe_committed || !(item->wants_receipt || item->is_forced))
        return STEP_ON;
    rc = store->ops->read_outcome(store->ctx, item, &run->report->err);
    if (rc == OBX_OK && item->was_rejected && item->is_forced) {
        item->was_rejected = false;
        item->outcome = ITEM_PENDING;
        rc = store->ops->remove(store->ctx, item->msg.message_id, &run->report->err);
        if (rc == OBX_OK)
            rc = store->ops->insert(store->ctx, item->msg.message_id, &run->report->err);
        if (rc == OBX_OK)
            return after_insert(run, item);
    }
    return rc == OBX_OK ? STEP_ON : STEP_ABORT;
}

/*
 * Another transaction has written the dedup row and has not ended: of a process that is slow, that
 * stands still, or whose host is gone. Nobody knows how it ends, so the message waits in inbox_parked
 * (and its key behind it), and costs the others no more than the one wait that found it.
 */
static enum step hold(struct run *run, struct item *item)
{
    run->is_wary = true;
    run->report->met_lock = true;
    item_decide(item, ITEM_STALLED, run->report->err.code, run->report->err.text);
    item->is_held = true;
    return STEP_FAILED;
}

/* What the broker has given out before may be in the hands of whoever had it then. */
static bool may_be_held(const struct run *run, const struct item *item)
{
    if (item->parked_id != 0)
        return run->is_wary || item->why.code == OBX_E_DB_LOCK_WAIT;
    return run->is_wary || item->msg.redelivered;
}

static enum step insert_one(struct run *run, struct item *item)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = OBX_OK;

    if (may_be_held(run, item))
        rc = store->ops->probe(store->ctx, item->msg.message_id, &run->report->err);
    if (rc == OBX_OK)
        rc = store->ops->insert(store->ctx, item->msg.message_id, &run->report->err);
    if (rc == OBX_OK)
        return after_insert(run, item);
    if (rc == OBX_E_DB_LOCK_WAIT)
        return hold(run, item);
    if (rc == OBX_E_DB_DEADLOCK)
        run->report->suspect = item;
    if (rc == OBX_E_DB_DUPLICATE)
        return met_duplicate(run, item);
    if (rc == OBX_E_DB_DATA) {
        item_decide(item, ITEM_REJECTED, rc, run->report->err.text);
        item->is_dead = true;
        return decide(run, item, ITEM_REJECTED);
    }
    return STEP_ABORT;
}

/*
 * A row that is not there any more, or under somebody else's claim. It may be our own commit of
 * unknown outcome that has removed it.
 */
static enum step lose(struct run *run, struct item *item)
{
    const struct store *store = &run->apply->store;
    bool has = false;

    if (item->maybe_committed &&
        store->ops->has(store->ctx, item->msg.message_id, &has, &run->report->err) != OBX_OK)
        return STEP_ABORT;
    if (has) {
        item->outcome = ITEM_APPLIED;
        return STEP_ON;
    }
    return decide(run, item, ITEM_DROPPED);
}

/* Was it given up in a transaction of its own; then the attempt, if it was one, has been made. */
static enum step give_up(struct run *run, struct item *item)
{
    item->is_dead = !item->is_stall && is_last_attempt(run, item);
    return decide(run, item, item->is_stall ? ITEM_STALLED : ITEM_FAILED);
}

static enum step run_one(struct run *run, struct item *item)
{
    item->inserted = false;
    item->is_dead = false;
    item->is_held = false;
    if (item->survey.is_lost)
        return lose(run, item);
    if (item->survey.is_parked) {
        item->outcome = ITEM_PARKED;
        return STEP_ON;
    }
    if (refuse(run->apply, item)) {
        item->is_dead = true;
        return decide(run, item, ITEM_REJECTED);
    }
    if (item->survey.was_decided) {
        item->outcome = ITEM_DUPLICATE;
        return STEP_ON;
    }
    if (is_behind(run, item))
        return decide(run, item, ITEM_BEHIND);
    if (item->gives_up)
        return give_up(run, item);
    if (may_be_killer(item))
        return decide(run, item, ITEM_CAREFUL);
    return insert_one(run, item);
}

/* ------------------------------------------------------------------ chunks */

/* The first chunk begins where the transaction does. */
static enum store_mark chunk_mark(const struct run *run)
{
    return run->chunk_start == 0 ? STORE_MARK_TX : STORE_MARK_CHUNK;
}

/*
 * Long chunks cost a failing message's neighbours many second runs, short ones cost savepoints.
 * With one message in n failing, the square root of n is about where the two meet.
 */
static size_t chunk_size(const struct run *run)
{
    size_t size = run->apply->chunk;

    while (size > 1 && size * size * run->undone > run->at + run->apply->chunk)
        size--;
    return size;
}

static enum obx_code begin_chunk(struct run *run)
{
    const struct store *store = &run->apply->store;

    run->chunk_start = run->at;
    run->chunk_end = run->at + chunk_size(run);
    if (chunk_mark(run) == STORE_MARK_TX)
        return OBX_OK;
    return store->ops->set_mark(store->ctx, STORE_MARK_CHUNK, &run->report->err);
}

/* The server undoes a whole transaction for a lock wait if it is told to
 * (innodb_rollback_on_timeout): no handler has done that. */
static enum step abort_held(struct run *run, struct item *item)
{
    run->report->err = item->why;
    run->report->suspect = item;
    return STEP_ABORT;
}

/* Undo the chunk, keep the verdict on the item that failed, run those before it again. */
static enum step undo_failed(struct run *run)
{
    const struct store *store = &run->apply->store;
    struct item *failed = run->items[run->at];
    enum obx_code rc = store->ops->undo_to(store->ctx, chunk_mark(run), &run->report->err);

    if (rc == OBX_E_DB_NO_SAVEPOINT)
        return failed->is_held ? abort_held(run, failed) : STEP_BROKEN;
    if (rc != OBX_OK)
        return STEP_ABORT;
    run->failures++;
    run->undone++;
    failed->inserted = false; /* with it everything that it wrote */
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

/* ------------------------------------------------------------------ the whole */

/* Rows of the items' own have to be locked; what else there is matters while there is anything. */
static enum obx_code survey(struct run *run)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < run->count; i++) {
        run->items[i]->survey = (struct item_survey){0};
        run->report->has_rows = run->report->has_rows || run->items[i]->parked_id != 0;
    }
    if (!run->report->has_rows)
        rc = store->ops->any_parked(store->ctx, &run->report->has_rows, &run->report->err);
    if (rc == OBX_OK && run->report->has_rows)
        rc = store->ops->survey(store->ctx, run->items, run->count, &run->report->err);
    return rc;
}

/*
 * The mark comes after the first statement: ROLLBACK TO a savepoint that is older than all
 * statements gives the row locks back too, since to InnoDB the transaction had not begun then.
 */
static enum obx_code begin_run(struct run *run)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = store->ops->begin(store->ctx, &run->report->err);

    if (rc == OBX_OK)
        rc = survey(run);
    if (rc == OBX_OK)
        rc = store->ops->set_mark(store->ctx, STORE_MARK_TX, &run->report->err);
    counters_add(run->apply->counters, CNT_BATCHES, 1);
    return rc;
}

void apply_batch(const struct apply *apply, struct item **items, size_t count,
                 struct apply_report *report)
{
    struct run run = {.apply = apply,
                      .items = items,
                      .count = count,
                      .report = report,
                      .is_wary = apply->is_wary};
    enum step result = STEP_ABORT;

    *report = (struct apply_report){.end = APPLY_COMMITTED, .due_in_ms = APPLY_NEVER};
    if (apply->max_ms != 0)
        run.until_us = clock_now_us() + (uint64_t)apply->max_ms * MS_TO_US;
    run_forget_outcomes(&run);
    for (size_t i = 0; i < count; i++)
        items[i]->inserted = false;
    if (begin_run(&run) == OBX_OK)
        result = run_items(&run);
    switch (result) {
    case STEP_ON:
        run_commit(&run);
        break;
    case STEP_BROKEN:
        run_break(&run);
        break;
    case STEP_FAILED:
    case STEP_ABORT:
        run_abort(&run);
        break;
    }
}
