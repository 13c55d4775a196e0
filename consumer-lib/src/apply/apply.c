/*
 * One batch, one transaction.
 *
 *     BEGIN; look up what waits for the messages' keys, and which have been applied; SAVEPOINT tx
 *     for each chunk: SAVEPOINT chunk;
 *         for each message: INSERT dedup row, of the first one at least (1062: duplicate); handler
 *     RELEASE SAVEPOINT tx; the other dedup rows; the rows of what was not applied; COMMIT
 *
 * A dedup row is written right before its handler or after it, never earlier: what a handler that
 * commits by itself makes durable is the rows of messages whose handlers have been run, so nothing
 * can be marked as applied that was not. Which rows can wait is in dedup.c.
 *
 * A failing message: ROLLBACK TO chunk, the messages of the chunk before it run again, a new chunk
 * begins after it. The transaction stays whole and the failing message is not called again.
 *
 * A transaction ended by a handler: known at once from the server's status after the handler, or,
 * when the handler began another one, from the missing savepoint (1305) at the end. What had been
 * inserted is then of unknown fate, and settled as after a lost COMMIT: the messages run again, and
 * the plain dedup INSERT decides, since it waits for the session that has written the row. See
 * docs/adr/0003-consumer.md for the interleavings.
 */
#include "apply.h"

#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "core/settings.h"
#include "run.h"

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

#define MS_TO_US    1000
#define SETUP_TIMES 5

/* ------------------------------------------------------------------ one message */

/* Why it is never given to the handler: it cannot be deduplicated. NULL: it can. A row was looked
 * at when it came; as long as it is there no copy of the message is applied, so it does not get too
 * old. */
static const char *refusal(const struct apply *apply, const struct item *item, enum obx_code *code)
{
    if (item->is_bad_pack) { /* from the table, too: a replay makes it no better */
        *code = item->why.code != OBX_OK ? item->why.code : OBX_E_FORMAT;
        return item->why.text[0] != '\0' ? item->why.text : "a pack that cannot be taken apart";
    }
    if (item->parked_id != 0)
        return NULL;
    if (bytes_is_absent(item->msg.message_id)) {
        *code = OBX_E_FORMAT;
        return "no message id";
    }
    if (item->msg.message_id.len > SETTINGS_MESSAGE_ID_MAX) {
        *code = OBX_E_TOO_LARGE;
        return "message id longer than 255 bytes";
    }
    if (apply->refuse_us != 0 && item->event_us != 0 && item->event_us < apply->refuse_us) {
        *code = OBX_E_CONFLICT;
        return "older than the retention of the dedup rows: cannot tell whether it was applied";
    }
    return NULL;
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

/* Its key waits, in the table or in this batch. */
static bool is_blocked(const struct run *run, const struct item *item)
{
    if (item->found == FOUND_BLOCKED)
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

/* Not applied, and without a handler or a statement that would have to be undone. */
static enum step decide(struct run *run, struct item *item, enum item_state state)
{
    item_set(item, state);
    run->failures++;
    return STEP_ON;
}

static enum item_state failed_state(const struct run *run, const struct item *item)
{
    return item_attempt(item) >= run->apply->policy.max_attempts ? ITEM_EXHAUSTED : ITEM_FAILED;
}

/* Not applied, and what it has written has to be undone. */
static enum step fail_step(struct item *item, enum item_state state, enum obx_code code,
                           const char *reason)
{
    item_reason(item, code, reason[0] != '\0' ? reason : obx_code_text(code));
    item_set(item, state);
    return STEP_FAILED;
}

static bool is_whole(const struct apply_answer *answer)
{
    return answer->failed.code == OBX_OK && answer->verdict == OBX_APPLIED && !answer->is_for_each;
}

/* The messages of a call that has not applied them, in a transaction that was ended: no row of theirs
 * stands for an effect. */
static void disown_rows(struct run *run, struct item **items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (items[i]->dedup == DEDUP_WRITTEN)
            run->unapplied = items[i];
        else if (items[i]->dedup == DEDUP_LATER)
            items[i]->dedup = DEDUP_NONE;
    }
}

/* Whether the call has left the transaction as it was; ended_at: what has run by now. */
static enum step check_transaction(struct run *run, const struct apply_answer *answer,
                                   size_t ended_at)
{
    const struct store *store = &run->apply->store;

    /* One that ends it and then fails has not written for all of its messages: how many does not
     * show, and what runs again for nothing is better than what never runs. */
    run->ended_at = is_whole(answer) || run->pending <= 1 ? ended_at : 0;
    /* In a group it is not left to the end, when others would be in it; nor is one that fails, which
     * would end as a failure alone. */
    if (answer->has_ended_tx && (run->is_grouped || answer->failed.code != OBX_OK))
        return STEP_BROKEN;
    if (answer->failed.code != OBX_OK) {
        run->report->err = answer->failed;
        return STEP_ABORT;
    }
    /* Nor is it when it is alone: what it did to the connection would look like nobody's fault. */
    if ((run->is_grouped || run->count == 1) && answer->is_uncertain &&
        store->ops->ask_status(store->ctx, &run->report->err) != OBX_OK)
        return STEP_ABORT;
    if (!store->ops->in_transaction(store->ctx))
        return STEP_BROKEN;
    run->ended_at = 0;
    return STEP_ON;
}

/* What the verdict makes of one message. */
static enum step judge(const struct run *run, struct item *item, enum obx_verdict verdict,
                       const char *reason)
{
    if (verdict == OBX_REJECT)
        return fail_step(item, ITEM_REJECTED, OBX_E_REJECTED, reason);
    if (verdict != OBX_APPLIED)
        return fail_step(item,
                         run->apply->policy.keeps_attempts ? ITEM_STALLED : failed_state(run, item),
                         OBX_E_HANDLER, reason);
    item_set(item, ITEM_APPLIED);
    return STEP_ON;
}

static enum step call_handler(struct run *run, struct item *item)
{
    const struct apply *apply = run->apply;
    struct apply_answer answer = {.verdict = OBX_RETRY};
    enum step result = STEP_ON;

    if (apply->handler.call_many != NULL) { /* with the others, by call_pending */
        apply->room[run->pending++] = item;
        return STEP_ON;
    }
    run->report->suspect = item;
    apply->handler.call(apply->handler.ctx, item, &answer);
    result = check_transaction(run, &answer, run->at + 1);
    if (result == STEP_BROKEN)
        run->culprit = item;
    if (result == STEP_BROKEN && !is_whole(&answer))
        disown_rows(run, &item, 1);
    return result == STEP_ON ? judge(run, item, answer.verdict, answer.reason) : result;
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
    /* The insert has waited for whatever had written the row: there is no doubt any more. */
    item->dedup = DEDUP_WRITTEN;
    run->mark = item;
    if (item->plan == PLAN_LEARN || item->plan == PLAN_RETRACT)
        return fail_step(item, failed_state(run, item), OBX_E_TX_BROKEN, "");
    return call_handler(run, item);
}

/*
 * There is a dedup row. If it says that the message was rejected for good, an operator may have
 * forced its replay: then it makes room, within this transaction.
 */
static enum step met_duplicate(struct run *run, struct item *item)
{
    const struct store *store = &run->apply->store;
    enum dedup_outcome outcome = OUTCOME_APPLIED;
    enum obx_code rc = OBX_OK;

    if (item->dedup == DEDUP_IN_DOUBT && item->plan == PLAN_RETRACT) {
        /* The row goes in the transaction that counts the attempt as failed. */
        if (store->ops->remove(store->ctx, item->msg.message_id, &run->report->err) != OBX_OK)
            return STEP_ABORT;
        item_reason(item, OBX_E_TX_BROKEN, obx_code_text(OBX_E_TX_BROKEN));
        return decide(run, item, failed_state(run, item));
    }
    if (item->dedup == DEDUP_IN_DOUBT) {
        item_set(item, ITEM_APPLIED);
        return STEP_ON;
    }
    if (item->wants_receipt || item->is_forced)
        rc = store->ops->read_outcome(store->ctx, item, &outcome, &run->report->err);
    if (rc == OBX_OK && outcome == OUTCOME_REJECTED && item->is_forced) {
        rc = store->ops->remove(store->ctx, item->msg.message_id, &run->report->err);
        if (rc == OBX_OK)
            rc = store->ops->insert(store->ctx, item->msg.message_id, &run->report->err);
        if (rc == OBX_OK)
            return after_insert(run, item);
    }
    if (rc != OBX_OK)
        return STEP_ABORT;
    item_set(item, outcome == OUTCOME_REJECTED ? ITEM_WAS_REJECTED : ITEM_DUPLICATE);
    return STEP_ON;
}

/* What the broker has given out before may still be in the hands of the one that had it then. */
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

    if (run_is_grouped(run, item)) {
        item->dedup = DEDUP_LATER;
        return call_handler(run, item);
    }
    if (may_be_held(run, item))
        rc = store->ops->probe(store->ctx, item->msg.message_id, &run->report->err);
    if (rc == OBX_OK)
        rc = store->ops->insert(store->ctx, item->msg.message_id, &run->report->err);
    if (rc == OBX_OK)
        return after_insert(run, item);
    if (rc == OBX_E_DB_LOCK_WAIT) {
        /* Another transaction has written the dedup row and has not ended: of a process that is slow,
         * that stands still, or whose host is gone. Nobody knows how it ends, so the message waits in
         * inbox_parked (and its key behind it), and costs the others no more than the one wait that
         * found it. */
        run->is_wary = true;
        run->report->met_lock = true;
        return fail_step(item, ITEM_HELD, rc, run->report->err.text);
    }
    if (rc == OBX_E_DB_DEADLOCK)
        run->report->suspect = item;
    if (rc == OBX_E_DB_DUPLICATE)
        return met_duplicate(run, item);
    if (rc == OBX_E_DB_DATA) {
        item_reason(item, rc, run->report->err.text);
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

    if (item->dedup == DEDUP_IN_DOUBT &&
        store->ops->has(store->ctx, item->msg.message_id, &has, &run->report->err) != OBX_OK)
        return STEP_ABORT;
    if (!has)
        return decide(run, item, ITEM_LEFT);
    item_set(item, ITEM_APPLIED);
    return STEP_ON;
}

static enum step run_one(struct run *run, struct item *item)
{
    const char *refused = NULL;
    enum obx_code code = OBX_OK;

    if (item->found == FOUND_LOST)
        return lose(run, item);
    if (item->found == FOUND_ROW) {
        item_set(item, ITEM_HAS_ROW);
        return STEP_ON;
    }
    refused = refusal(run->apply, item, &code);
    if (refused != NULL) {
        if (refused != item->why.text)
            item_reason(item, code, refused);
        return decide(run, item, ITEM_REJECTED);
    }
    if (item->found == FOUND_APPLIED || item->found == FOUND_REJECTED) {
        item_set(item, item->found == FOUND_APPLIED ? ITEM_DUPLICATE : ITEM_WAS_REJECTED);
        return STEP_ON;
    }
    if (item->found == FOUND_DUPLICATE)
        return met_duplicate(run, item);
    if (is_blocked(run, item))
        return decide(run, item, ITEM_BLOCKED);
    if (item->plan == PLAN_GIVE_UP)
        return decide(run, item, failed_state(run, item));
    if (item->plan == PLAN_STALL)
        return decide(run, item, ITEM_STALLED);
    if (may_be_killer(item))
        return decide(run, item, ITEM_SUSPECT);
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
static enum obx_code begin_chunk(struct run *run)
{
    const struct store *store = &run->apply->store;
    size_t size = run->apply->chunk;

    while (size > 1 && size * size * run->undone > run->at + run->apply->chunk)
        size--;
    run->chunk_start = run->at;
    run->chunk_end = run->at + size;
    run->mark = NULL;
    if (chunk_mark(run) == STORE_MARK_TX)
        return OBX_OK;
    return store->ops->set_mark(store->ctx, STORE_MARK_CHUNK, &run->report->err);
}

/* Undo the chunk, keep the verdict on the item that failed (NULL: on none in particular), run the
 * others up to here again. */
static enum step undo_chunk(struct run *run, const struct item *failed)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = store->ops->undo_to(store->ctx, chunk_mark(run), &run->report->err);

    if (rc == OBX_E_DB_NO_SAVEPOINT && failed != NULL && failed->state == ITEM_HELD) {
        /* The server undoes a whole transaction for a lock wait if it is told to
         * (innodb_rollback_on_timeout): no handler has done that. */
        run->report->err = failed->why;
        run->report->suspect = run->items[run->at];
        return STEP_ABORT;
    }
    if (rc != OBX_OK)
        return rc == OBX_E_DB_NO_SAVEPOINT ? STEP_BROKEN : STEP_ABORT;
    if (failed != NULL) {
        run->failures++;
        run->undone++;
    }
    run->chunk_end = run->at;
    run->mark = NULL; /* undone with the others */
    run->pending = 0;
    for (size_t i = run->chunk_start; i < run->count && i <= run->at; i++) {
        struct item *item = run->items[i];

        if (item->dedup == DEDUP_WRITTEN || item->dedup == DEDUP_LATER)
            item->dedup = DEDUP_NONE;
        /* These decisions rest on a row that is undone now, or may be. */
        if (item->state == ITEM_APPLIED || item->state == ITEM_DUPLICATE ||
            item->state == ITEM_WAS_REJECTED)
            item_set(item, ITEM_READY);
    }
    run->at = run->chunk_start;
    return STEP_ON;
}

/* Those that have an answer of their own are decided by it. Returns the last of them: undo_chunk counts
 * that one. */
static const struct item *judge_each(struct run *run, size_t count)
{
    const struct item *last = NULL;

    for (size_t i = 0; i < count; i++) {
        struct item *item = run->apply->room[i];
        char reason[OBX_ERR_TEXT_MAX];

        if (item->answer == OBX_APPLIED)
            continue;
        memcpy(reason, item->why.text, sizeof(reason));
        (void)judge(run, item, item->answer, reason);
        run->failures += last != NULL;
        last = item;
    }
    return last;
}

/*
 * Call the handler for all that is pending. A call that fails for some of them costs the others a
 * second one without those; one that fails for none in particular is made again in halves, each in a
 * chunk of its own, until it is about one.
 */
static enum step call_pending(struct run *run)
{
    const struct apply *apply = run->apply;
    const size_t count = run->pending;
    struct apply_answer answer = {.verdict = OBX_RETRY};
    enum step result = STEP_ON;

    run->report->suspect = count == 1 ? apply->room[0] : NULL;
    apply->handler.call_many(apply->handler.ctx, apply->room, count, &answer);
    result = check_transaction(run, &answer, run->at);
    if (result == STEP_BROKEN && count == 1)
        run->culprit = apply->room[0];
    if (result == STEP_BROKEN && !is_whole(&answer))
        disown_rows(run, apply->room, count);
    if (result != STEP_ON)
        return result;
    if (answer.verdict == OBX_APPLIED && !answer.is_for_each) {
        for (size_t i = 0; i < count; i++)
            item_set(apply->room[i], ITEM_APPLIED);
        run->pending = 0;
        if (run->limit < run->count) {
            run->chunk_end = run->at;
            run->limit *= 2;
        }
        return STEP_ON;
    }
    if (answer.is_for_each) {
        result = undo_chunk(run, judge_each(run, count));
    } else if (count == 1) {
        (void)judge(run, apply->room[0], answer.verdict, answer.reason);
        result = undo_chunk(run, apply->room[0]);
    } else {
        run->limit = count / 2;
        result = undo_chunk(run, NULL);
    }
    if (result == STEP_BROKEN)
        disown_rows(run, apply->room, count);
    return result;
}

static enum step step(struct run *run)
{
    struct item *item = run->items[run->at];
    enum step result = STEP_ON;

    if (item->state == ITEM_READY)
        result = run_one(run, item);
    if (result == STEP_FAILED) {
        result = undo_chunk(run, item);
        if (result == STEP_BROKEN)
            disown_rows(run, &item, 1);
        return result;
    }
    if (result == STEP_ON)
        run->at++;
    if (run->reached < run->at)
        run->reached = run->at;
    return result;
}

static bool has_ended(const struct run *run)
{
    if (run->at >= run->count)
        return true;
    if (run->until_us == 0 || run->at == 0 || run->at < run->reached)
        return false;
    return clock_now_us() >= run->until_us;
}

/* One call has one row before it at most: what a handler commits in mid-work, and then fails, may
 * not mark messages that it has not come to. */
static bool is_call_due(const struct run *run)
{
    const struct item *next = run->at < run->count ? run->items[run->at] : NULL;

    if (run->pending == 0)
        return false;
    if (next == NULL || run->pending >= run->limit || run->at >= run->chunk_end || has_ended(run))
        return true;
    /* The next one may have its row written before its handler. */
    return next->state == ITEM_READY && next->found == FOUND_NOTHING;
}

static enum step run_items(struct run *run)
{
    for (;;) {
        enum step result = STEP_ON;

        if (is_call_due(run)) {
            result = call_pending(run);
        } else if (has_ended(run)) {
            return STEP_ON;
        } else {
            if (run->at >= run->chunk_end && begin_chunk(run) != OBX_OK)
                return STEP_ABORT;
            result = step(run);
        }
        if (result != STEP_ON)
            return result;
    }
}

/* ------------------------------------------------------------------ the whole */

/* Rows of the items' own have to be locked; what else there is matters while there is anything. */
static enum obx_code look_up(struct run *run)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < run->count; i++)
        run->report->has_rows = run->report->has_rows || run->items[i]->parked_id != 0;
    if (!run->report->has_rows)
        rc = store->ops->any_parked(store->ctx, &run->report->has_rows, &run->report->err);
    if (rc == OBX_OK && run->report->has_rows)
        rc = store->ops->lookup(store->ctx, run->items, run->count, &run->report->err);
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
        rc = look_up(run);
    if (rc == OBX_OK)
        rc = run_find_applied(run);
    if (rc == OBX_OK)
        rc = store->ops->set_mark(store->ctx, STORE_MARK_TX, &run->report->err);
    counters_add(run->apply->counters, CNT_BATCHES, 1);
    return rc;
}

/*
 * The limit counts from here, where the handlers begin: what came before is round trips, which cost a
 * database far away more than the whole limit, and then each message would have a transaction of its
 * own. Nor do the handlers get less than a few times as long as that took, so that what a batch pays
 * once stays a small part of it.
 */
static void set_limit(struct run *run, uint64_t began_us)
{
    const uint64_t now_us = clock_now_us();
    const uint64_t least_us = (now_us - began_us) * SETUP_TIMES;
    const uint64_t most_us = (uint64_t)run->apply->max_ms * MS_TO_US;

    run->until_us = most_us == 0 ? 0 : now_us + (most_us > least_us ? most_us : least_us);
}

static void run_once(struct run *run)
{
    const uint64_t began_us = clock_now_us();
    enum step result = STEP_ABORT;

    for (size_t i = 0; i < run->count; i++)
        run->items[i]->found = FOUND_NOTHING;
    if (begin_run(run) == OBX_OK) {
        set_limit(run, began_us);
        result = run_items(run);
    }
    switch (result) {
    case STEP_ON:
        run_commit(run);
        break;
    case STEP_BROKEN:
        run_break(run);
        break;
    case STEP_FAILED:
    case STEP_ABORT:
        run_abort(run);
        break;
    }
}

void apply_batch(const struct apply *apply, struct item **items, size_t count,
                 struct apply_report *report)
{
    const struct run fresh = {
        .apply = apply,
        .items = items,
        .count = count,
        .limit = count,
        .report = report,
        .is_wary = apply->is_wary,
    };
    struct run run = fresh;

    *report = (struct apply_report){.end = APPLY_COMMITTED, .due_in_ms = APPLY_NEVER};
    run.is_grouped = !apply->is_single && count > 1;
    run_once(&run);
    if (!run.wants_single)
        return;
    /* Whose row it was does not show; one by one, each message meets its own. */
    run = fresh;
    run.is_wary = run.is_wary || report->err.code == OBX_E_DB_LOCK_WAIT;
    *report = (struct apply_report){.end = APPLY_COMMITTED, .due_in_ms = APPLY_NEVER};
    run_once(&run);
}
