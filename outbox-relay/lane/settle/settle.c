/*
 * Settling: deleting confirmed rows, or moving them to outbox_awaiting. See docs/adr/0002-lane.md.
 *
 * Each of the two kinds has transactions and failures of its own, so that what holds up one does
 * not hold up the other. Whatever the tables refuse, the connection stays, because to drop it would
 * publish everything again that is confirmed. A failing portion is halved until one row is alone;
 * that row waits, and once others of its kind are settled and it is not, it is parked: it is the
 * row's own fault then. As long as none is settled it is the table's, and the kind waits.
 */
#include "settle.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/random.h"
#include "lane/failures.h"
#include "lane/rights.h"

enum {
    PAUSE_MS = 200,
    HALVING_PAUSE_MS = 2000,
    PAUSE_CAP_MS = 5000, /* several times the wait for a lock, in which the thread stands still */
    ALONE_MAX = 3,       /* so many refused one by one and none settled: it is not the rows */
    PARK_REFUSALS = 3,
    BURST_PART = 8, /* so many parts of a batch are worth a commit when nothing is to come */
    CHOKE_BATCHES = 4,
};

/* ---- when ---- */

void settle_reset(struct settle *settle)
{
    for (int kind = 0; kind < SETTLE_KINDS; kind++)
        settle->queues[kind] = (struct settle_queue){.first_ms = UINT64_MAX,
                                                     .held_due_ms = UINT64_MAX,
                                                     .portion = settle->opts->settle_max_rows};
}

void settle_add(struct settle *settle, const struct flight_row *row, uint64_t now_ms)
{
    struct settle_queue *queue = &settle->queues[row->wants_receipt];

    queue->waiting++;
    if (queue->first_ms == UINT64_MAX)
        queue->first_ms = now_ms;
}

bool settle_is_full(const struct settle *settle, enum settle_kind kind)
{
    const struct settle_queue *queue = &settle->queues[kind];

    return queue->waiting + queue->held >= (size_t)settle->opts->settle_max_rows * CHOKE_BATCHES;
}

/* The end of a burst: nothing is in flight that these rows could wait for. */
static bool is_burst_over(const struct settle *settle, const struct settle_queue *queue)
{
    return queue->waiting >= settle->opts->settle_max_rows / BURST_PART + 1 &&
           flight_count(settle->flight, FLIGHT_INFLIGHT) == 0 &&
           flight_count(settle->flight, FLIGHT_READY) == 0;
}

static uint64_t due_ms_of(const struct settle *settle, const struct settle_queue *queue)
{
    uint64_t due_ms = UINT64_MAX;

    if (queue->waiting > 0 && (queue->waiting >= settle->opts->settle_max_rows ||
                               settle->is_last_call || is_burst_over(settle, queue)))
        due_ms = 0;
    else if (queue->waiting > 0)
        due_ms = queue->first_ms + settle->opts->settle_max_age_ms;
    if (queue->held_due_ms < due_ms)
        due_ms = queue->held_due_ms;
    return due_ms > queue->after_ms ? due_ms : queue->after_ms;
}

void settle_last_call(struct settle *settle)
{
    settle->is_last_call = true;
    for (int kind = 0; kind < SETTLE_KINDS; kind++)
        settle->queues[kind].after_ms = 0;
}

static bool has_any(const struct settle_queue *queue)
{
    return queue->waiting + queue->held > 0;
}

uint64_t settle_due_ms(const struct settle *settle)
{
    uint64_t first_ms = UINT64_MAX;

    for (int kind = 0; kind < SETTLE_KINDS; kind++) {
        const struct settle_queue *queue = &settle->queues[kind];
        uint64_t due_ms = has_any(queue) ? due_ms_of(settle, queue) : UINT64_MAX;

        first_ms = due_ms < first_ms ? due_ms : first_ms;
    }
    return first_ms;
}

bool settle_is_done(const struct settle *settle)
{
    return settle->queues[SETTLE_PLAIN].waiting + settle->queues[SETTLE_ASKING].waiting == 0;
}

/* ---- which ---- */

/* The rows of one transaction, and their ids. */
struct portion {
    struct flight_row **rows;
    uint64_t *ids;
    bool *is_locked;
    size_t count, cap;
};

/* A row that was refused before and may be tried again, which is done with it alone. */
static struct flight_row *find_held(const struct settle *settle, enum settle_kind kind,
                                    uint64_t now_ms)
{
    struct flight_row *row = flight_first(settle->flight, FLIGHT_CONFIRMED);

    if (settle->queues[kind].held_due_ms > now_ms)
        return NULL;
    while (row != NULL &&
           (row->wants_receipt != kind || row->held_until_ms == 0 || row->held_until_ms > now_ms))
        row = flight_next(row);
    return row;
}

/* After a row that was tried alone the others have their turn, if there are any: in a pause because
 * nothing was settled it would come due again, and go first for ever. */
static void take_rows(struct settle *settle, enum settle_kind kind, uint64_t now_ms,
                      struct portion *portion)
{
    struct settle_queue *queue = &settle->queues[kind];
    const size_t max = queue->portion < portion->cap ? queue->portion : portion->cap;
    const bool others_first = queue->was_held && queue->waiting > 0;
    struct flight_row *row = others_first ? NULL : find_held(settle, kind, now_ms);

    portion->count = 0;
    queue->was_held = row != NULL;
    if (row != NULL)
        portion->rows[portion->count++] = row;
    else
        for (row = flight_first(settle->flight, FLIGHT_CONFIRMED);
             row != NULL && portion->count < max; row = flight_next(row)) {
            if (row->wants_receipt == kind && row->held_until_ms == 0)
                portion->rows[portion->count++] = row;
        }
    flight_sort_rows(portion->rows, portion->count);
    for (size_t i = 0; i < portion->count; i++)
        portion->ids[i] = portion->rows[i]->id;
}

/* When the first of the rows that wait by themselves is due; looks at every confirmed row. */
static void find_held_due(struct settle *settle, enum settle_kind kind)
{
    struct settle_queue *queue = &settle->queues[kind];

    queue->held_due_ms = UINT64_MAX;
    if (queue->held == 0)
        return;
    for (const struct flight_row *row = flight_first(settle->flight, FLIGHT_CONFIRMED); row != NULL;
         row = flight_next(row)) {
        if (row->wants_receipt == kind && row->held_until_ms != 0 &&
            row->held_until_ms < queue->held_due_ms)
            queue->held_due_ms = row->held_until_ms;
    }
}

/* ---- the transaction ---- */

static enum obx_code delete_rows(struct settle *settle, const uint64_t *ids, size_t count,
                                 struct obx_err *err)
{
    uint64_t deleted = 0;
    enum obx_code rc = lease_begin(settle->lease, settle->db, err);

    if (rc != OBX_OK)
        return rc;
    if (settle->journal != NULL)
        rc = journal_write(settle->journal, settle->db, ids, count, err);
    if (rc == OBX_OK)
        rc = row_delete_run(&settle->del, settle->db, ids, count, &deleted, err);
    if (rc != OBX_OK) {
        lease_rollback(settle->db);
        return rc;
    }
    OBX_CRASH_POINT("lane-settle-before-commit");
    rc = lease_commit(settle->lease, settle->db, err);
    if (rc == OBX_OK)
        OBX_CRASH_POINT("lane-settled");
    return rc;
}

/* A row leaves memory: it is settled, or parked in place of that. */
static void drop_row(struct settle *settle, struct flight_row *row)
{
    struct settle_queue *queue = &settle->queues[row->wants_receipt];

    if (row->held_until_ms != 0)
        queue->held--;
    else
        queue->waiting--;
    flight_forget(settle->flight, row);
}

static void all_settled(struct settle *settle, enum settle_kind kind, const struct portion *portion)
{
    struct settle_queue *queue = &settle->queues[kind];

    for (size_t i = 0; i < portion->count; i++)
        drop_row(settle, portion->rows[i]);
    settle->settled += portion->count;
    queue->successes++;
    queue->failures = 0;
    queue->alone_refused = 0;
    queue->alone_waited = 0;
    queue->portion = queue->portion < settle->opts->settle_max_rows / 2
                         ? queue->portion * 2
                         : settle->opts->settle_max_rows;
    queue->first_ms = queue->waiting == 0 ? UINT64_MAX : clock_now_ms();
}

/* ---- what is refused ---- */

/* The row leaves those that are settled together. */
static void set_apart(struct settle *settle, const struct flight_row *row)
{
    struct settle_queue *queue = &settle->queues[row->wants_receipt];

    if (row->held_until_ms != 0)
        return;
    queue->waiting--;
    queue->held++;
}

/* Confirmed, and some table does not take what belongs to that: an operator sees it, and may resume
 * it (it is published again then) or discard it. */
static enum obx_code park_confirmed(struct settle *settle, struct flight_row *row,
                                    const struct obx_err *why, struct obx_err *err)
{
    struct obx_err text = {0};
    struct park_item item = {.id = row->id,
                             .reason_code = "SETTLE_REFUSED",
                             .reason = text.text,
                             .key = flight_key_name(row),
                             .attempts = row->attempts};
    enum obx_code rc = OBX_OK;

    (void)obx_fail(&text, why->code, "published and confirmed, but: %s", why->text);
    rc = parking_park(settle->parking, settle->db, &item, 1, err);
    if (rc != OBX_OK)
        return failure_keeps_db(settle->db, rc) ? OBX_OK : rc; /* it goes on waiting */
    settle->parked++;
    drop_row(settle, row);
    return OBX_OK;
}

static enum obx_code row_refused(struct settle *settle, struct flight_row *row,
                                 const struct obx_err *why, struct obx_err *err)
{
    struct settle_queue *queue = &settle->queues[row->wants_receipt];

    if (row->refusals == 0)
        row->refused_after = queue->successes;
    set_apart(settle, row);
    failure_hold_refused(row, settle->opts->retry_cap_ms);
    OBX_LOG(LOG_LVL_ERROR, "lane", "row.not_settled", KV_STR("outbox", settle->opts->outbox),
            KV_U64("row", row->id), KV_U64("refusals", row->refusals), KV_ERR(why));
    if (++queue->alone_refused >= ALONE_MAX)
        queue->after_ms = clock_now_ms() + (settle->is_last_call ? PAUSE_MS : PAUSE_CAP_MS);
    if (row->refusals >= PARK_REFUSALS && queue->successes > row->refused_after)
        return park_confirmed(settle, row, why, err);
    return OBX_OK;
}

/* Somebody has some of the rows in hand: these wait by themselves. */
static enum obx_code hold_locked(struct settle *settle, enum settle_kind kind,
                                 struct portion *portion, bool *has_found, struct obx_err *err)
{
    enum obx_code rc = row_locks_find(settle->locks, settle->db, portion->ids, portion->count,
                                      kind == SETTLE_ASKING, portion->is_locked, err);

    *has_found = false;
    for (size_t i = 0; i < portion->count && rc == OBX_OK; i++) {
        if (!portion->is_locked[i])
            continue;
        *has_found = true;
        set_apart(settle, portion->rows[i]);
        failure_hold_locked(portion->rows[i], HOLD_LOCKED_CAP_MS);
    }
    return rc;
}

/* No row is to blame: longer each time, but not when there is no time left. */
static void pause_kind(struct settle *settle, struct settle_queue *queue, uint32_t cap_ms)
{
    if (settle->is_last_call)
        cap_ms = PAUSE_MS;

    queue->failures++;
    queue->after_ms =
        clock_now_ms() + backoff_nth_ms(PAUSE_MS, cap_ms, queue->failures, random_u64());
}

static enum obx_code lock_waited(struct settle *settle, enum settle_kind kind,
                                 struct portion *portion, struct obx_err *err)
{
    struct settle_queue *queue = &settle->queues[kind];
    bool has_found = false;
    enum obx_code rc = hold_locked(settle, kind, portion, &has_found, err);

    if (rc != OBX_OK)
        return failure_keeps_db(settle->db, rc) ? OBX_OK : rc;
    if (has_found)
        return OBX_OK;
    /* Something else that belongs to one of the rows is locked, or a whole table. */
    pause_kind(settle, queue, portion->count > 1 ? HALVING_PAUSE_MS : PAUSE_CAP_MS);
    if (portion->count > 1) {
        queue->portion = portion->count / 2;
    } else if (++queue->alone_waited < ALONE_MAX) {
        set_apart(settle, portion->rows[0]);
        failure_hold_locked(portion->rows[0], settle->opts->retry_cap_ms);
    }
    return OBX_OK;
}

static enum obx_code portion_failed(struct settle *settle, enum settle_kind kind,
                                    struct portion *portion, const struct obx_err *why,
                                    struct obx_err *err)
{
    struct settle_queue *queue = &settle->queues[kind];
    struct obx_err text = *why;
    enum obx_code rc = OBX_OK;

    if (portion->count == 1)
        (void)obx_fail(&text, why->code, "row %llu is published and not settled: %s",
                       (unsigned long long)portion->ids[0], why->text);
    conditions_set(settle->conditions, CONDITION_SETTLE, text.text);
    if (why->code == OBX_E_DB_DENIED)
        rc = rights_renew(settle->db, settle->opts->db.database, err);
    if (rc != OBX_OK && !failure_keeps_db(settle->db, rc))
        return rc;
    if (why->code == OBX_E_DB_LOCK_WAIT)
        return lock_waited(settle, kind, portion, err);
    if (failure_is_transient(why->code)) {
        pause_kind(settle, queue, PAUSE_CAP_MS);
        return OBX_OK;
    }
    if (portion->count > 1) {
        queue->portion = portion->count / 2;
        return OBX_OK;
    }
    return row_refused(settle, portion->rows[0], why, err);
}

/* ---- a kind's turn ---- */

/* A row that waited because it was locked may be so still. */
static enum obx_code drop_locked(struct settle *settle, enum settle_kind kind,
                                 struct portion *portion, struct obx_err *err)
{
    bool has_found = false;
    enum obx_code rc = OBX_OK;

    if (portion->count != 1 || portion->rows[0]->held_until_ms == 0)
        return OBX_OK;
    rc = hold_locked(settle, kind, portion, &has_found, err);
    if (has_found)
        portion->count = 0;
    return rc;
}

static enum obx_code settle_portion(struct settle *settle, enum settle_kind kind,
                                    struct portion *portion, struct obx_err *err)
{
    struct obx_err why = {0};
    enum obx_code rc = drop_locked(settle, kind, portion, &why);

    if (rc == OBX_OK && portion->count == 0)
        return OBX_OK;
    if (rc == OBX_OK)
        rc = kind == SETTLE_ASKING
                 ? awaiting_move(settle->awaiting, settle->db, portion->ids, portion->count, &why)
                 : delete_rows(settle, portion->ids, portion->count, &why);
    if (rc == OBX_OK) {
        all_settled(settle, kind, portion);
        return OBX_OK;
    }
    if (failure_keeps_db(settle->db, rc))
        return portion_failed(settle, kind, portion, &why, err);
    if (err != NULL)
        *err = why;
    return rc;
}

static enum obx_code settle_kind(struct settle *settle, enum settle_kind kind,
                                 struct portion *portion, struct obx_err *err)
{
    struct settle_queue *queue = &settle->queues[kind];
    uint64_t now_ms = clock_now_ms();
    enum obx_code rc = OBX_OK;

    if (!has_any(queue) || now_ms < due_ms_of(settle, queue))
        return OBX_OK;
    take_rows(settle, kind, now_ms, portion);
    if (portion->count > 0)
        rc = settle_portion(settle, kind, portion, err);
    find_held_due(settle, kind);
    return rc;
}

static void note_health(struct settle *settle)
{
    for (int kind = 0; kind < SETTLE_KINDS; kind++) {
        const struct settle_queue *queue = &settle->queues[kind];

        if (queue->held > 0 || (has_any(queue) && queue->after_ms > clock_now_ms()))
            return;
    }
    conditions_set(settle->conditions, CONDITION_SETTLE, NULL);
}

enum obx_code settle_run(struct settle *settle, struct db *db, struct obx_err *err)
{
    const size_t cap = settle->opts->settle_max_rows;
    struct portion portion = {.rows = obx_calloc(cap, sizeof(struct flight_row *)),
                              .ids = obx_calloc(cap, sizeof(uint64_t)),
                              .is_locked = obx_calloc(cap, sizeof(bool)),
                              .cap = cap};
    enum obx_code rc = OBX_OK;

    if (portion.rows == NULL || portion.ids == NULL || portion.is_locked == NULL)
        rc = obx_fail(err, OBX_E_NOMEM, "rows to settle");
    settle->db = db;
    for (int kind = 0; kind < SETTLE_KINDS && rc == OBX_OK; kind++)
        rc = settle_kind(settle, (enum settle_kind)kind, &portion, err);
    obx_free(portion.rows);
    obx_free(portion.ids);
    obx_free(portion.is_locked);
    if (rc == OBX_E_NOMEM) {
        pause_kind(settle, &settle->queues[SETTLE_PLAIN], PAUSE_CAP_MS);
        pause_kind(settle, &settle->queues[SETTLE_ASKING], PAUSE_CAP_MS);
    }
    if (rc == OBX_OK)
        note_health(settle);
    return rc;
}

/* ---- life ---- */

enum obx_code settle_init(struct settle *settle, const struct settle_parts *parts,
                          struct obx_err *err)
{
    *settle = (struct settle){.opts = parts->opts,
                              .flight = parts->flight,
                              .lease = parts->lease,
                              .parking = parts->parking,
                              .awaiting = parts->awaiting,
                              .journal = parts->journal,
                              .locks = parts->locks,
                              .conditions = parts->conditions};
    settle_reset(settle);
    return row_delete_init(&settle->del, parts->table, "id", err);
}

void settle_fini(struct settle *settle)
{
    row_delete_fini(&settle->del);
}
