/*
 * The end of a batch's transaction: committed, undone, of unknown fate, or ended already by a
 * handler.
 *
 * Unknown fate, whatever the reason, is settled in one way: the messages whose dedup rows the run
 * had written are marked (DEDUP_IN_DOUBT) and run again over a new connection. The plain dedup
 * INSERT waits for a transaction of the old connection that the server has not finished yet, and
 * then decides: error 1062 says that the effect is there.
 */
#include "run.h"

#include "base/crash.h"
#include "base/log.h"

/* Nothing of what was decided counts. */
static void undecide(struct run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        struct item *item = run->items[i];

        if (item->state != ITEM_READY)
            item_set(item, ITEM_READY);
        if (item->dedup == DEDUP_WRITTEN || item->dedup == DEDUP_LATER)
            item->dedup = DEDUP_NONE;
    }
}

/* From now on a dedup row that is found may be the one that this run has written. */
static void doubt_commit(struct run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        if (run->items[i]->dedup == DEDUP_WRITTEN)
            run->items[i]->dedup = DEDUP_IN_DOUBT;
    }
}

static bool needs_new_connection(enum obx_code code)
{
    return code == OBX_E_TIMEOUT || obx_code_action(code) != OBX_DO_RETRY;
}

void run_abort(struct run *run)
{
    const struct store *store = &run->apply->store;
    struct apply_report *report = run->report;
    const enum obx_code code = report->err.code;

    undecide(run);
    report->end = APPLY_RECONNECT;
    /* A statement that was cut short by the server, and not by our own deadline: what that has done to
     * the connection shows the ROLLBACK. MySQL reports both KILL and KILL QUERY by error 1317. */
    if (!report->is_unparkable && needs_new_connection(code) &&
        (code != OBX_E_TIMEOUT || store->ops->is_lost(store->ctx)))
        return;
    if (store->ops->rollback(store->ctx, NULL) == OBX_OK)
        report->end = APPLY_AGAIN;
    else
        report->err.code = OBX_E_DB_GONE;
}

static void commit(struct run *run, enum apply_end good)
{
    const struct store *store = &run->apply->store;
    struct apply_report *report = run->report;
    enum obx_code rc = OBX_OK;

    OBX_CRASH_POINT("consumer-before-commit");
    rc = store->ops->commit(store->ctx, &report->err);
    if (rc == OBX_OK) {
        OBX_CRASH_POINT("consumer-after-commit");
        if (report->due_in_ms != APPLY_NEVER)
            OBX_CRASH_POINT("consumer-parked");
        counters_add(run->apply->counters, CNT_COMMITS, 1);
        report->end = good;
        return;
    }
    report->suspect = run->count == 1 ? run->items[0] : NULL;
    if (needs_new_connection(rc)) {
        counters_add(run->apply->counters, CNT_COMMIT_UNKNOWN, 1);
        doubt_commit(run);
    }
    run_abort(run);
}

/*
 * What is acknowledged because somebody else has committed it has to be in the log first: a database
 * that dies would undo it, and the message would be gone. A dedup row of this transaction brings that
 * with its COMMIT; the row of a copy may have been written by another process instead, so it proves
 * nothing.
 */
static enum obx_code make_durable(struct run *run)
{
    const struct store *store = &run->apply->store;

    for (size_t i = 0; i < run->count; i++) {
        if (run->items[i]->state == ITEM_APPLIED && run->items[i]->dedup == DEDUP_WRITTEN)
            return OBX_OK;
    }
    return store->ops->make_durable(store->ctx, &run->report->err);
}

/*
 * The rows of inbox_parked are written only now that it is known what the handlers' statements have
 * come to: a row removed in a transaction that a handler has ended would be gone for good, and its
 * message with it.
 */
static void park_and_commit(struct run *run, enum apply_end good)
{
    if (run_park(run) == OBX_OK && make_durable(run) == OBX_OK)
        commit(run, good);
    else
        run_abort(run);
}

/* ------------------------------------------------------------------ ended by a handler */

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
 * The last message whose row this session does not see, neither committed nor in the transaction
 * that is open now: its handler has rolled back and begun another one, which has the rows of those
 * after it. NULL: every row is there.
 */
static enum obx_code last_missing(struct run *run, struct item **missing)
{
    const struct store *store = &run->apply->store;

    *missing = NULL;
    for (size_t i = run->count; i > 0; i--) {
        struct item *item = run->items[i - 1];
        bool has = true;
        enum obx_code rc = OBX_OK;

        if (item->dedup == DEDUP_WRITTEN)
            rc = store->ops->has(store->ctx, item->msg.message_id, &has, &run->report->err);
        if (rc != OBX_OK)
            return rc;
        if (!has) {
            *missing = item;
            return OBX_OK;
        }
    }
    return OBX_OK;
}

/* The last message whose row another session sees: its handler has committed. NULL when none is
 * seen. */
static struct item *last_committed(struct run *run)
{
    const struct store *store = &run->apply->store;

    for (size_t i = run->count; i > 0; i--) {
        struct item *item = run->items[i - 1];
        bool has = false;

        if (item->dedup != DEDUP_WRITTEN)
            continue;
        if (store->ops->has_committed(store->ctx, item->msg.message_id, &has, NULL) != OBX_OK)
            return NULL;
        if (has)
            return item;
    }
    return NULL;
}

/*
 * In a group only the marks have rows. One that is there when its chunk's handler has just ended the
 * transaction has been committed with all before it; found out later, the mark of the last chunk that
 * was committed says the same of the chunks before that one. Their rows are written now, before
 * anything else: a crash before that COMMIT, and what was committed in the last chunk unseen, would be
 * applied twice (ADR 0027). What was undone has no mark.
 */
static void save_committed(struct run *run)
{
    const struct store *store = &run->apply->store;
    size_t committed = 0;
    bool has = false;

    if (run->ended_at == 0)
        (void)store->ops->rollback(store->ctx, NULL);
    for (size_t i = run->count; i > 0 && !has; i--) {
        struct item *item = run->items[i - 1];

        if (item->dedup != DEDUP_WRITTEN)
            continue;
        if (store->ops->has(store->ctx, item->msg.message_id, &has, &run->report->err) != OBX_OK)
            return;
        committed = run->ended_at != 0 ? run->ended_at : i;
        if (run->ended_at != 0)
            break; /* the last mark is the present chunk's */
    }
    if (has && run_write_each(run, committed) == OBX_OK)
        (void)store->ops->commit(store->ctx, &run->report->err);
}

/*
 * Its handler has ended the transaction and has not applied it: when its row was committed, with
 * nothing or with a part, no copy of it would be applied. What of it is committed will be there twice
 * rather than never. Should the connection fail here, the plan removes the row.
 */
static void take_back_row(struct run *run)
{
    const struct store *store = &run->apply->store;
    struct item *item = run->unapplied;
    bool has = true;

    if (item == NULL ||
        (store->ops->has(store->ctx, item->msg.message_id, &has, NULL) == OBX_OK && !has))
        return;
    item->plan = PLAN_RETRACT;
    if (store->ops->remove(store->ctx, item->msg.message_id, NULL) == OBX_OK &&
        store->ops->commit(store->ctx, NULL) == OBX_OK)
        item->dedup = DEDUP_NONE;
}

void run_break(struct run *run)
{
    const struct store *store = &run->apply->store;

    run->report->is_broken = true;
    if (run->is_grouped)
        save_committed(run);
    else if (run->culprit == NULL && last_missing(run, &run->culprit) == OBX_OK &&
             run->culprit == NULL)
        run->culprit = last_committed(run);
    doubt_commit(run);
    if (run->culprit != NULL)
        run->culprit->plan = PLAN_LEARN;
    /* Nobody can be named: then each message gets a transaction of its own, which tells if it happens
     * again. In a group it will show anyway: from now on the rows are written one by one. */
    for (size_t i = 0; i < run->count && run->culprit == NULL && !run->is_grouped; i++) {
        if (run->items[i]->plan == PLAN_TOGETHER)
            run->items[i]->plan = PLAN_ALONE;
    }
    say_broken(run, run->culprit, "handler ended the transaction");
    /* When it fails the server undoes it as the connection closes. */
    (void)store->ops->rollback(store->ctx, NULL);
    take_back_row(run);
    undecide(run);
    (void)obx_fail(&run->report->err, OBX_E_TX_BROKEN, "batch of %zu", run->count);
    run->report->suspect = NULL;
    run->report->end = APPLY_RECONNECT;
}

/*
 * The savepoint of the transaction is gone: a handler has ended it and another one is open. If
 * every row is there, the handler had committed, and committing the rest too makes the effect of
 * all whole. If rows are missing it had rolled back: then nothing of what is open may stay.
 */
static void commit_broken(struct run *run)
{
    struct item *missing = NULL;

    run->report->is_broken = true;
    if (last_missing(run, &missing) != OBX_OK) {
        doubt_commit(run);
        run_abort(run);
        return;
    }
    if (missing != NULL) {
        run->culprit = run->is_grouped ? NULL : missing;
        run_break(run);
        return;
    }
    if (run->is_grouped) {
        if (run_write_each(run, run->count) != OBX_OK) {
            doubt_commit(run);
            run_abort(run);
            return;
        }
    } else {
        run->culprit = last_committed(run);
    }
    if (run->culprit != NULL)
        run->culprit->plan = PLAN_LEARN;
    say_broken(run, run->culprit,
               run->culprit != NULL ? "handler committed and began another transaction"
                                    : "the savepoint of the transaction is gone");
    park_and_commit(run, APPLY_RENEW);
}

static void write_rows_and_commit(struct run *run)
{
    const struct store *store = &run->apply->store;
    const enum obx_code rc = run_write_rows(run);

    if (rc == OBX_OK) {
        park_and_commit(run, APPLY_COMMITTED);
        return;
    }
    /* Another process has one of the rows, or the database does not take one: which, does not show. */
    if ((rc == OBX_E_DB_DUPLICATE || rc == OBX_E_DB_LOCK_WAIT || rc == OBX_E_DB_DATA ||
         rc == OBX_E_TOO_LARGE) &&
        !store->ops->is_lost(store->ctx) && store->ops->rollback(store->ctx, NULL) == OBX_OK) {
        undecide(run);
        run->wants_single = true;
        return;
    }
    run_abort(run);
}

/*
 * What fails from here on is nobody's fault in particular: a database that goes away costs no
 * attempt. But what fails again and again for a message alone (a transaction larger than the cluster
 * takes) must not hold up the others.
 */
void run_commit(struct run *run)
{
    const struct store *store = &run->apply->store;
    struct item *first = run->items[0];
    const bool has_run = first->plan == PLAN_TOGETHER || first->plan == PLAN_ALONE;
    enum obx_code rc = OBX_OK;

    run->report->at_end = true;
    run->report->suspect = run->count == 1 && has_run ? first : NULL;
    rc = store->ops->release(store->ctx, STORE_MARK_TX, &run->report->err);
    if (rc == OBX_E_DB_NO_SAVEPOINT)
        commit_broken(run);
    else if (rc != OBX_OK)
        run_abort(run);
    else
        write_rows_and_commit(run);
}
