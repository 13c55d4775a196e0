/*
 * Parking rows that were given up, and what waits for them. See docs/adr/0002-lane.md.
 *
 * A head goes before what waits for it, or in the same transaction: a follower that is parked
 * while its head is not would wait for nobody. A row that cannot be parked costs the others
 * nothing but some transactions: a head is tried again, a follower of a frozen key stays as it is,
 * because its head, parked or on its way there, is not published either.
 */
#include "park.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "lane/failures.h"
#include "lane/publish/route.h"

enum {
    PARK_ROWS = 200,
    PAUSE_MS = 1000,
    PAUSE_CAP_MS = 5000, /* several times the wait for a lock, in which the thread stands still */
    SHOWN_RETRIES = 3,   /* the longest waits between tries that a shown failure outlives */
};

/* A row that could not be parked may be published in the end, or be gone: then nobody parks it, and
 * what was said of it is no longer so. */
uint64_t park_due_ms(const struct park *park)
{
    return flight_count(park->flight, FLIGHT_TO_PARK) > 0 ? park->after_ms : park->shown_until_ms;
}

static void show(struct park *park, const char *why)
{
    park->shown_until_ms = clock_now_ms() + (uint64_t)park->opts->retry_cap_ms * SHOWN_RETRIES;
    conditions_set(park->conditions, CONDITION_PARK, why);
}

static void show_nothing(struct park *park)
{
    park->shown_until_ms = UINT64_MAX;
    conditions_set(park->conditions, CONDITION_PARK, NULL);
}

static struct park_item item_of(const struct flight_row *row)
{
    struct park_item item = {.id = row->id,
                             .blocked_by = row->blocked_by,
                             .reason_code = obx_code_name(row->reason_code),
                             .reason = row->reason,
                             .key = flight_key_name(row),
                             .attempts = row->attempts,
                             .holds_key = row->blocked_by == 0 && flight_holds_key(row)};

    if (row->blocked_by == 0 && row->reason == NULL)
        item.reason = obx_code_text(row->reason_code);
    return item;
}

/* ---- what is given up ---- */

static void tell(struct park *park, struct flight_row *row, const struct db_rows *rows)
{
    const bool is_copy = row->wants_receipt && db_rows_u64(rows, 3) != 0;

    OBX_LOG(LOG_LVL_ERROR, "lane", "row.given_up", KV_STR("outbox", park->opts->outbox),
            KV_U64("row", row->id), KV_BYTES("message_id", db_rows_bytes(rows, 1)),
            KV_BYTES("topic", db_rows_bytes(rows, 2)), KV_BYTES("key", flight_key_name(row)),
            KV_U64("attempts", row->attempts), KV_STR("code", obx_code_name(row->reason_code)),
            KV_STR("why", row->reason));
    if (!is_copy && route_freezes(park->opts, row->rule, row->id))
        flight_freeze(park->flight, row);
}

/* Logs the rows that were given up, and freezes the keys of those that ask for receipts and are no
 * copies. */
static enum obx_code tell_heads(struct park *park, struct obx_err *err)
{
    uint64_t ids[PARK_ROWS];
    size_t count = 0;
    struct db_rows *rows = NULL;
    struct flight_row *row = flight_first(park->flight, FLIGHT_TO_PARK);
    enum obx_code rc = OBX_OK;

    for (; row != NULL && count < PARK_ROWS; row = flight_next(row)) {
        if (row->blocked_by == 0 && !row->is_reported)
            ids[count++] = row->id;
    }
    if (count == 0)
        return OBX_OK;
    rc = parking_known(park->parking, park->db, ids, count, &rows, err);
    if (rc != OBX_OK)
        return rc;
    for (size_t i = 0; i < count; i++)
        flight_find(park->flight, ids[i])->is_reported = true;
    while (db_rows_next(rows)) {
        row = flight_find(park->flight, db_rows_u64(rows, 0));
        if (row != NULL && row->blocked_by == 0)
            tell(park, row, rows);
    }
    db_rows_free(rows);
    return OBX_OK;
}

/* ---- which ---- */

/* Its head is to be parked as well, and not with it. */
static bool has_to_wait(const struct park *park, const struct flight_row *row,
                        struct flight_row *const *heads, size_t count)
{
    const struct flight_row *head =
        row->blocked_by == 0 ? NULL : flight_find(park->flight, row->blocked_by);

    if (head == NULL || head->state != FLIGHT_TO_PARK || !flight_holds_key(head))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (heads[i] == head)
            return false;
    }
    return true;
}

/* Heads first; *next_ms is when the first of those that wait by themselves is due. */
static size_t take_given_up(const struct park *park, struct flight_row **rows, uint64_t *next_ms)
{
    uint64_t now_ms = clock_now_ms();
    size_t heads = 0;
    size_t count = 0;

    *next_ms = UINT64_MAX;
    for (int followers = 0; followers < 2; followers++) {
        struct flight_row *row = flight_first(park->flight, FLIGHT_TO_PARK);

        for (; row != NULL && count < park->portion; row = flight_next(row)) {
            if ((row->blocked_by != 0) != followers)
                continue;
            if (row->held_until_ms > now_ms)
                *next_ms = row->held_until_ms < *next_ms ? row->held_until_ms : *next_ms;
            else if (followers ? !has_to_wait(park, row, rows, heads) : row->is_reported)
                rows[count++] = row;
        }
        heads = followers ? heads : count;
    }
    return count;
}

/* ---- parking ---- */

static enum obx_code park_rows(struct park *park, struct flight_row **rows, size_t count,
                               struct obx_err *err)
{
    struct park_item items[PARK_ROWS] = {{.id = 0}};
    enum obx_code rc = OBX_OK;

    flight_sort_rows(rows, count);
    for (size_t i = 0; i < count; i++)
        items[i] = item_of(rows[i]);
    rc = parking_park(park->parking, park->db, items, count, err);
    if (rc != OBX_OK)
        return rc;
    for (size_t i = 0; i < count; i++)
        flight_forget(park->flight, rows[i]);
    park->parked += count;
    return OBX_OK;
}

static void not_parked(struct park *park, struct flight_row *row, const struct obx_err *why)
{
    OBX_LOG(LOG_LVL_ERROR, "lane", "row.not_parked", KV_STR("outbox", park->opts->outbox),
            KV_U64("row", row->id), KV_ERR(why));
    show(park, why->text);
    if (row->blocked_by != 0)
        failure_hold_refused(row, park->opts->retry_cap_ms);
    else
        (void)flight_retry(park->flight, row, clock_now_ms() + park->opts->retry_cap_ms);
}

/* Rows that somebody has in hand wait by themselves, and what waits for them; *found of them. */
static enum obx_code hold_locked(struct park *park, const uint64_t *ids, size_t count,
                                 size_t *found, struct obx_err *err)
{
    bool is_locked[PARK_ROWS] = {false};
    enum obx_code rc = row_locks_find(park->locks, park->db, ids, count, false, is_locked, err);

    *found = 0;
    for (size_t i = 0; i < count && rc == OBX_OK; i++) {
        struct flight_row *row = is_locked[i] ? flight_find(park->flight, ids[i]) : NULL;

        if (row == NULL)
            continue;
        failure_hold_locked(row, HOLD_LOCKED_CAP_MS);
        (*found)++;
    }
    return rc;
}

static void pause_parking(struct park *park, const char *why)
{
    park->after_ms =
        clock_now_ms() + backoff_nth_ms(PAUSE_MS, PAUSE_CAP_MS, ++park->failures, random_u64());
    show(park, why);
}

/* What a failed batch means; *err says why it failed. Whatever is at fault, fewer are tried the next
 * time, until it is alone: one by one in this turn they would have the thread stand still for as
 * many commits. */
static enum obx_code batch_failed(struct park *park, enum obx_code rc, const uint64_t *ids,
                                  size_t count, struct obx_err *err)
{
    struct flight_row *row = flight_find(park->flight, ids[0]);
    size_t found = 0;

    if (!failure_keeps_db(park->db, rc))
        return rc;
    if (!failure_is_transient(rc)) {
        if (count == 1)
            not_parked(park, row, err);
        else
            park->portion = count / 2;
        return OBX_OK;
    }
    pause_parking(park, err->text);
    if (rc != OBX_E_DB_LOCK_WAIT)
        return OBX_OK;
    rc = hold_locked(park, ids, count, &found, err);
    if (found > 0)
        park->after_ms = 0;
    else if (count > 1) /* something that belongs to one of them, and is not the row */
        park->portion = count / 2;
    else if (rc == OBX_OK)
        failure_hold_locked(row, park->opts->retry_cap_ms);
    return rc == OBX_OK || failure_keeps_db(park->db, rc) ? OBX_OK : rc;
}

/* Rows that were locked may be so still, which is seen without a wait; *count that are not. */
static enum obx_code drop_locked(struct park *park, struct flight_row **rows, size_t *count,
                                 struct obx_err *err)
{
    uint64_t now_ms = clock_now_ms();
    uint64_t ids[PARK_ROWS];
    size_t asked = 0;
    size_t found = 0;
    size_t kept = 0;
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < *count; i++) {
        if (rows[i]->waits > 0)
            ids[asked++] = rows[i]->id;
    }
    if (asked > 0)
        rc = hold_locked(park, ids, asked, &found, err);
    if (rc != OBX_OK || found == 0)
        return rc;
    for (size_t i = 0; i < *count; i++) {
        const struct flight_row *head =
            rows[i]->blocked_by == 0 ? NULL : flight_find(park->flight, rows[i]->blocked_by);

        if (rows[i]->held_until_ms <= now_ms && (head == NULL || head->held_until_ms <= now_ms))
            rows[kept++] = rows[i];
    }
    *count = kept;
    return OBX_OK;
}

static enum obx_code park_batch(struct park *park, struct flight_row **rows, size_t count,
                                struct obx_err *err)
{
    uint64_t ids[PARK_ROWS];
    enum obx_code rc = OBX_OK;

    flight_sort_rows(rows, count);
    rc = drop_locked(park, rows, &count, err);
    for (size_t i = 0; i < count; i++)
        ids[i] = rows[i]->id;
    if (rc == OBX_OK && count > 0)
        rc = park_rows(park, rows, count, err);
    if (rc != OBX_OK)
        return batch_failed(park, rc, ids, count, err);
    if (count > 0) {
        park->failures = 0;
        park->portion = park->portion < PARK_ROWS / 2 ? park->portion * 2 : PARK_ROWS;
    }
    show_nothing(park);
    return OBX_OK;
}

enum obx_code park_run(struct park *park, struct db *db, struct obx_err *err)
{
    struct flight_row *rows[PARK_ROWS];
    uint64_t next_ms = 0;
    size_t count = 0;
    enum obx_code rc = OBX_OK;

    park->db = db;
    if (flight_count(park->flight, FLIGHT_TO_PARK) == 0) {
        show_nothing(park);
        return OBX_OK;
    }
    rc = tell_heads(park, err);
    if (rc != OBX_OK && failure_keeps_db(park->db, rc)) {
        pause_parking(park, err->text);
        return OBX_OK;
    }
    if (rc != OBX_OK)
        return rc;
    count = take_given_up(park, rows, &next_ms);
    if (count > 0)
        return park_batch(park, rows, count, err);
    /* Not later than what may be given up meanwhile can wait. */
    park->after_ms = clock_now_ms() + HOLD_MIN_MS;
    if (next_ms < park->after_ms)
        park->after_ms = next_ms;
    return OBX_OK;
}

void park_init(struct park *park, const struct park_parts *parts)
{
    *park = (struct park){.opts = parts->opts,
                          .flight = parts->flight,
                          .parking = parts->parking,
                          .locks = parts->locks,
                          .conditions = parts->conditions};
    park_reset(park);
}

void park_reset(struct park *park)
{
    park->after_ms = 0;
    park->failures = 0;
    park->portion = PARK_ROWS;
    park->shown_until_ms = UINT64_MAX;
}
