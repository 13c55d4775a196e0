/*
 * Settling: deleting confirmed rows, or moving them to outbox_awaiting. See docs/adr/0002-lane.md.
 *
 * Each of the two kinds has transactions and failures of its own, so that what holds up one does
 * not hold up the other. Whatever the tables refuse, the connection stays, because to drop it would
 * publish everything again that is confirmed. A failing portion is halved until one row is alone;
 * that row waits, and once others of its kind are settled and it is not, it is parked: it is the
 * row's own fault then. As long as none is settled it is the table's, and the kind waits.
 */
#include "lane/lane_private.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/random.h"

enum {
    PAUSE_MS = 200,
    HALVING_PAUSE_MS = 2000,
    PAUSE_CAP_MS = 5000, /* several times the wait for a lock, in which the thread stands still */
    HELD_MIN_MS =
        200, /* a row that was refused alone waits, longer each time, up to retry_cap_ms */
    LOCKED_CAP_MS = 2000, /* one that is locked: to see whether it still is costs no wait */
    ALONE_MAX = 3,        /* so many refused one by one and none settled: it is not the rows */
    PARK_REFUSALS = 3,
    BURST_PART = 8, /* so many parts of a batch are worth a commit when nothing is to come */
    CHOKE_BATCHES = 4,
};

bool lane_is_passing(enum obx_code rc)
{
    return rc == OBX_E_DB_DEADLOCK || rc == OBX_E_DB_LOCK_WAIT || rc == OBX_E_DB_FULL ||
           rc == OBX_E_CONFLICT || rc == OBX_E_NOMEM;
}

bool lane_keeps_db(const struct lane *lane, enum obx_code rc)
{
    return !db_is_lost(lane->db) && rc != OBX_E_LEASE_LOST && rc != OBX_E_DB_READ_ONLY &&
           rc != OBX_E_DB_COMMIT_UNKNOWN;
}

/* ---- when ---- */

void lane_settling_reset(struct lane *lane)
{
    for (int kind = 0; kind < SETTLE_KINDS; kind++)
        lane->settling[kind] = (struct settling){.first_ms = UINT64_MAX,
                                                 .held_due_ms = UINT64_MAX,
                                                 .portion = lane->opts.settle_max_rows};
}

void lane_settling_add(struct lane *lane, const struct flight_row *row, uint64_t now_ms)
{
    struct settling *settling = &lane->settling[row->wants_receipt];

    settling->waiting++;
    if (settling->first_ms == UINT64_MAX)
        settling->first_ms = now_ms;
}

bool lane_is_choked(const struct lane *lane, enum settle_kind kind)
{
    const struct settling *settling = &lane->settling[kind];

    return settling->waiting + settling->held >= (size_t)lane->opts.settle_max_rows * CHOKE_BATCHES;
}

/* The end of a burst: nothing is in flight that these rows could wait for. */
static bool is_burst_over(const struct lane *lane, const struct settling *settling)
{
    return settling->waiting >= lane->opts.settle_max_rows / BURST_PART + 1 &&
           flight_count(lane->flight, FLIGHT_INFLIGHT) == 0 &&
           flight_count(lane->flight, FLIGHT_READY) == 0;
}

static uint64_t due_ms_of(const struct lane *lane, const struct settling *settling)
{
    uint64_t due_ms = UINT64_MAX;

    if (settling->waiting > 0 && (settling->waiting >= lane->opts.settle_max_rows ||
                                  lane->state == LANE_DRAINING || is_burst_over(lane, settling)))
        due_ms = 0;
    else if (settling->waiting > 0)
        due_ms = settling->first_ms + lane->opts.settle_max_age_ms;
    if (settling->held_due_ms < due_ms)
        due_ms = settling->held_due_ms;
    return due_ms > settling->after_ms ? due_ms : settling->after_ms;
}

static bool has_any(const struct settling *settling)
{
    return settling->waiting + settling->held > 0;
}

uint64_t lane_settle_due_ms(const struct lane *lane)
{
    uint64_t first_ms = UINT64_MAX;

    for (int kind = 0; kind < SETTLE_KINDS; kind++) {
        const struct settling *settling = &lane->settling[kind];
        uint64_t due_ms = has_any(settling) ? due_ms_of(lane, settling) : UINT64_MAX;

        first_ms = due_ms < first_ms ? due_ms : first_ms;
    }
    return first_ms;
}

bool lane_is_settled(const struct lane *lane)
{
    return lane->settling[SETTLE_PLAIN].waiting + lane->settling[SETTLE_ASKING].waiting == 0;
}

/* ---- which ---- */

/* The rows of one transaction, and their ids. */
struct portion {
    struct flight_row **rows;
    uint64_t *ids;
    bool *is_locked;
    size_t count, cap;
};

static int compare_rows(const void *a, const void *b)
{
    uint64_t x = (*(struct flight_row *const *)a)->id;
    uint64_t y = (*(struct flight_row *const *)b)->id;

    return x < y ? -1 : x > y;
}

/* A row that was refused before and may be tried again, which is done with it alone. */
static struct flight_row *find_held(const struct lane *lane, enum settle_kind kind, uint64_t now_ms)
{
    struct flight_row *row = flight_first(lane->flight, FLIGHT_CONFIRMED);

    if (lane->settling[kind].held_due_ms > now_ms)
        return NULL;
    while (row != NULL &&
           (row->wants_receipt != kind || row->held_until_ms == 0 || row->held_until_ms > now_ms))
        row = flight_next(row);
    return row;
}

static void take_rows(const struct lane *lane, enum settle_kind kind, uint64_t now_ms,
                      struct portion *portion)
{
    const size_t max =
        lane->settling[kind].portion < portion->cap ? lane->settling[kind].portion : portion->cap;
    struct flight_row *row = find_held(lane, kind, now_ms);

    portion->count = 0;
    if (row != NULL)
        portion->rows[portion->count++] = row;
    else
        for (row = flight_first(lane->flight, FLIGHT_CONFIRMED);
             row != NULL && portion->count < max; row = flight_next(row)) {
            if (row->wants_receipt == kind && row->held_until_ms == 0)
                portion->rows[portion->count++] = row;
        }
    qsort(portion->rows, portion->count, sizeof(struct flight_row *), compare_rows);
    for (size_t i = 0; i < portion->count; i++)
        portion->ids[i] = portion->rows[i]->id;
}

/* When the first of the rows that wait by themselves is due; looks at every confirmed row. */
static void find_held_due(struct lane *lane, enum settle_kind kind)
{
    struct settling *settling = &lane->settling[kind];

    settling->held_due_ms = UINT64_MAX;
    if (settling->held == 0)
        return;
    for (const struct flight_row *row = flight_first(lane->flight, FLIGHT_CONFIRMED); row != NULL;
         row = flight_next(row)) {
        if (row->wants_receipt == kind && row->held_until_ms != 0 &&
            row->held_until_ms < settling->held_due_ms)
            settling->held_due_ms = row->held_until_ms;
    }
}

/* ---- the transaction ---- */

static enum obx_code delete_rows(struct lane *lane, const uint64_t *ids, size_t count,
                                 struct obx_err *err)
{
    uint64_t deleted = 0;
    enum obx_code rc = lease_begin(&lane->lease, lane->db, err);

    if (rc != OBX_OK)
        return rc;
    if (lane->opts.journal)
        rc = journal_write(&lane->journal, lane->db, ids, count, err);
    if (rc == OBX_OK)
        rc = row_delete_run(&lane->settle_del, lane->db, ids, count, &deleted, err);
    if (rc != OBX_OK) {
        lease_rollback(lane->db);
        return rc;
    }
    OBX_CRASH_POINT("lane-settle-before-commit");
    rc = lease_commit(&lane->lease, lane->db, err);
    if (rc == OBX_OK)
        OBX_CRASH_POINT("lane-settled");
    return rc;
}

/* A row leaves memory: it is settled, or parked in place of that. */
static void drop_row(struct lane *lane, struct flight_row *row)
{
    struct settling *settling = &lane->settling[row->wants_receipt];

    if (row->held_until_ms != 0)
        settling->held--;
    else
        settling->waiting--;
    flight_forget(lane->flight, row);
}

static void all_settled(struct lane *lane, enum settle_kind kind, const struct portion *portion)
{
    struct settling *settling = &lane->settling[kind];

    for (size_t i = 0; i < portion->count; i++)
        drop_row(lane, portion->rows[i]);
    lane->stats.settled += portion->count;
    settling->successes++;
    settling->failures = 0;
    settling->alone_refused = 0;
    settling->portion = settling->portion < lane->opts.settle_max_rows / 2
                            ? settling->portion * 2
                            : lane->opts.settle_max_rows;
    settling->first_ms = settling->waiting == 0 ? UINT64_MAX : clock_now_ms();
    backoff_reset(&lane->db_backoff); /* leased, read and written: it is well */
}

/* ---- what is refused ---- */

static void hold_row(struct lane *lane, struct flight_row *row, uint32_t cap_ms)
{
    struct settling *settling = &lane->settling[row->wants_receipt];

    if (row->held_until_ms == 0) {
        settling->waiting--;
        settling->held++;
    }
    row->refusals = row->refusals < UINT16_MAX ? (uint16_t)(row->refusals + 1) : row->refusals;
    row->held_until_ms =
        clock_now_ms() + backoff_nth_ms(HELD_MIN_MS, cap_ms, row->refusals, random_u64());
}

/* Confirmed, and some table does not take what belongs to that: an operator sees it, and may resume
 * it (it is published again then) or discard it. */
static enum obx_code park_confirmed(struct lane *lane, struct flight_row *row,
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
    rc = parking_park(&lane->parking, lane->db, &item, 1, err);
    if (rc != OBX_OK)
        return lane_keeps_db(lane, rc) ? OBX_OK : rc; /* it goes on waiting */
    lane->stats.parked++;
    drop_row(lane, row);
    return OBX_OK;
}

static enum obx_code row_refused(struct lane *lane, struct flight_row *row,
                                 const struct obx_err *why, struct obx_err *err)
{
    struct settling *settling = &lane->settling[row->wants_receipt];

    if (row->refusals == 0)
        row->refused_after = settling->successes;
    hold_row(lane, row, lane->opts.retry_cap_ms);
    OBX_LOG(LOG_LVL_ERROR, "lane", "row.not_settled", KV_STR("outbox", lane->opts.outbox),
            KV_U64("row", row->id), KV_U64("refusals", row->refusals), KV_ERR(why));
    if (++settling->alone_refused >= ALONE_MAX)
        settling->after_ms = clock_now_ms() + PAUSE_CAP_MS;
    if (row->refusals >= PARK_REFUSALS && settling->successes > row->refused_after)
        return park_confirmed(lane, row, why, err);
    return OBX_OK;
}

/* Somebody has some of the rows in hand: these wait by themselves. */
static enum obx_code hold_locked(struct lane *lane, enum settle_kind kind, struct portion *portion,
                                 bool *has_found, struct obx_err *err)
{
    enum obx_code rc = row_locks_find(&lane->locks, lane->db, portion->ids, portion->count,
                                      kind == SETTLE_ASKING, portion->is_locked, err);

    *has_found = false;
    for (size_t i = 0; i < portion->count && rc == OBX_OK; i++) {
        if (!portion->is_locked[i])
            continue;
        *has_found = true;
        hold_row(lane, portion->rows[i], LOCKED_CAP_MS);
    }
    return rc;
}

/* No row is to blame: longer each time, but not when there is no time left. */
static void pause_kind(struct lane *lane, struct settling *settling, uint32_t cap_ms)
{
    if (lane->state == LANE_DRAINING)
        cap_ms = PAUSE_MS;

    settling->failures++;
    settling->after_ms =
        clock_now_ms() + backoff_nth_ms(PAUSE_MS, cap_ms, settling->failures, random_u64());
}

static enum obx_code lock_waited(struct lane *lane, enum settle_kind kind, struct portion *portion,
                                 struct obx_err *err)
{
    struct settling *settling = &lane->settling[kind];
    bool has_found = false;
    enum obx_code rc = hold_locked(lane, kind, portion, &has_found, err);

    if (rc != OBX_OK)
        return lane_keeps_db(lane, rc) ? OBX_OK : rc;
    if (has_found)
        return OBX_OK;
    /* Something else that belongs to one of the rows is locked, or a whole table. */
    pause_kind(lane, settling, portion->count > 1 ? HALVING_PAUSE_MS : PAUSE_CAP_MS);
    if (portion->count > 1)
        settling->portion = portion->count / 2;
    else if (++settling->alone_refused < ALONE_MAX)
        hold_row(lane, portion->rows[0], lane->opts.retry_cap_ms);
    return OBX_OK;
}

static enum obx_code portion_failed(struct lane *lane, enum settle_kind kind,
                                    struct portion *portion, const struct obx_err *why,
                                    struct obx_err *err)
{
    struct settling *settling = &lane->settling[kind];
    struct obx_err text = *why;
    enum obx_code rc = OBX_OK;

    if (portion->count == 1)
        (void)obx_fail(&text, why->code, "row %llu is published and not settled: %s",
                       (unsigned long long)portion->ids[0], why->text);
    lane_set_trouble(lane, TROUBLE_SETTLE, text.text);
    if (why->code == OBX_E_DB_DENIED)
        rc = lane_renew_rights(lane, err);
    if (rc != OBX_OK && !lane_keeps_db(lane, rc))
        return rc;
    if (why->code == OBX_E_DB_LOCK_WAIT)
        return lock_waited(lane, kind, portion, err);
    if (lane_is_passing(why->code)) {
        pause_kind(lane, settling, PAUSE_CAP_MS);
        return OBX_OK;
    }
    if (portion->count > 1) {
        settling->portion = portion->count / 2;
        return OBX_OK;
    }
    return row_refused(lane, portion->rows[0], why, err);
}

/* ---- a kind's turn ---- */

/* A row that waited because it was locked may be so still. */
static enum obx_code drop_locked(struct lane *lane, enum settle_kind kind, struct portion *portion,
                                 struct obx_err *err)
{
    bool has_found = false;
    enum obx_code rc = OBX_OK;

    if (portion->count != 1 || portion->rows[0]->held_until_ms == 0)
        return OBX_OK;
    rc = hold_locked(lane, kind, portion, &has_found, err);
    if (has_found)
        portion->count = 0;
    return rc;
}

static enum obx_code settle_portion(struct lane *lane, enum settle_kind kind,
                                    struct portion *portion, struct obx_err *err)
{
    struct obx_err why = {0};
    enum obx_code rc = drop_locked(lane, kind, portion, &why);

    if (rc == OBX_OK && portion->count == 0)
        return OBX_OK;
    if (rc == OBX_OK)
        rc = kind == SETTLE_ASKING
                 ? awaiting_move(&lane->awaiting, lane->db, portion->ids, portion->count, &why)
                 : delete_rows(lane, portion->ids, portion->count, &why);
    if (rc == OBX_OK) {
        all_settled(lane, kind, portion);
        return OBX_OK;
    }
    if (lane_keeps_db(lane, rc))
        return portion_failed(lane, kind, portion, &why, err);
    if (err != NULL)
        *err = why;
    return rc;
}

static enum obx_code settle_kind(struct lane *lane, enum settle_kind kind, struct portion *portion,
                                 struct obx_err *err)
{
    struct settling *settling = &lane->settling[kind];
    uint64_t now_ms = clock_now_ms();
    enum obx_code rc = OBX_OK;

    if (!has_any(settling) || now_ms < due_ms_of(lane, settling))
        return OBX_OK;
    take_rows(lane, kind, now_ms, portion);
    if (portion->count > 0)
        rc = settle_portion(lane, kind, portion, err);
    find_held_due(lane, kind);
    return rc;
}

static void note_health(struct lane *lane)
{
    for (int kind = 0; kind < SETTLE_KINDS; kind++) {
        if (lane->settling[kind].held > 0 || lane->settling[kind].after_ms > clock_now_ms())
            return;
    }
    lane_set_trouble(lane, TROUBLE_SETTLE, NULL);
}

enum obx_code lane_settle(struct lane *lane, struct obx_err *err)
{
    const size_t cap = lane->opts.settle_max_rows;
    struct portion portion = {.rows = obx_calloc(cap, sizeof(struct flight_row *)),
                              .ids = obx_calloc(cap, sizeof(uint64_t)),
                              .is_locked = obx_calloc(cap, sizeof(bool)),
                              .cap = cap};
    enum obx_code rc = OBX_OK;

    if (portion.rows == NULL || portion.ids == NULL || portion.is_locked == NULL)
        rc = obx_fail(err, OBX_E_NOMEM, "rows to settle");
    for (int kind = 0; kind < SETTLE_KINDS && rc == OBX_OK; kind++)
        rc = settle_kind(lane, (enum settle_kind)kind, &portion, err);
    obx_free(portion.rows);
    obx_free(portion.ids);
    obx_free(portion.is_locked);
    if (rc == OBX_E_NOMEM) {
        pause_kind(lane, &lane->settling[SETTLE_PLAIN], PAUSE_CAP_MS);
        pause_kind(lane, &lane->settling[SETTLE_ASKING], PAUSE_CAP_MS);
    }
    if (rc == OBX_OK)
        note_health(lane);
    return rc;
}
