/*
 * Settling: deleting confirmed rows; and parking doomed ones. Each call is one transaction under
 * the lease, and never more than a batch.
 */
#include "lane_private.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"

enum {
    PARK_ROWS = 200,
    PARK_PAUSE_MS = 1000,
    SETTLE_PAUSE_MS = 200,
    AWAIT_PAUSE_MS = 5000, /* several times the wait for a lock, in which the thread stands still */
    BURST_PART = 8         /* so many parts of a batch are worth a commit when nothing is to come */
};

bool lane_is_passing(enum obx_code rc)
{
    return rc == OBX_E_DB_DEADLOCK || rc == OBX_E_DB_LOCK_WAIT || rc == OBX_E_DB_FULL ||
           rc == OBX_E_CONFLICT || rc == OBX_E_NOMEM;
}

/* ---- settling ---- */

static int compare_rows(const void *a, const void *b)
{
    uint64_t x = (*(struct flight_row *const *)a)->id;
    uint64_t y = (*(struct flight_row *const *)b)->id;

    return x < y ? -1 : x > y;
}

/* Rows that ask for receipts come last. */
static int compare_confirmed(const void *a, const void *b)
{
    const struct flight_row *x = *(struct flight_row *const *)a;
    const struct flight_row *y = *(struct flight_row *const *)b;

    if (x->wants_receipt != y->wants_receipt)
        return x->wants_receipt ? 1 : -1;
    return compare_rows(a, b);
}

static size_t take_confirmed(const struct lane *lane, struct flight_row **rows, size_t cap)
{
    bool is_held = clock_now_ms() < lane->await_after_ms && lane->state != LANE_DRAINING;
    struct flight_row *row = flight_first(lane->flight, FLIGHT_CONFIRMED);
    size_t count = 0;

    for (; row != NULL && count < cap; row = flight_next(row)) {
        if (!is_held || !row->wants_receipt)
            rows[count++] = row;
    }
    qsort(rows, count, sizeof(struct flight_row *), compare_confirmed);
    return count;
}

static enum obx_code delete_rows(struct lane *lane, const uint64_t *ids, size_t count,
                                 struct obx_err *err)
{
    uint64_t deleted = 0;
    enum obx_code rc = lease_begin(&lane->lease, lane->db, err);

    lane->own_queries += 3;
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

/* The end of a burst: nothing is on its way that these rows could wait for. */
static bool is_burst_over(const struct lane *lane)
{
    return flight_count(lane->flight, FLIGHT_CONFIRMED) >=
               lane->opts.settle_max_rows / BURST_PART + 1 &&
           flight_count(lane->flight, FLIGHT_INFLIGHT) == 0 &&
           flight_count(lane->flight, FLIGHT_READY) == 0;
}

uint64_t lane_settle_due_ms(const struct lane *lane)
{
    uint64_t due_ms = 0;

    if (lane->first_confirmed_ms == UINT64_MAX)
        return UINT64_MAX;
    if (flight_count(lane->flight, FLIGHT_CONFIRMED) < lane->opts.settle_max_rows &&
        lane->state != LANE_DRAINING && !is_burst_over(lane))
        due_ms = lane->first_confirmed_ms + lane->opts.settle_max_age_ms;
    return due_ms > lane->settle_after_ms ? due_ms : lane->settle_after_ms;
}

bool lane_settle_due(const struct lane *lane, uint64_t now_ms)
{
    return now_ms >= lane_settle_due_ms(lane);
}

/* One kind of rows: those that ask for receipts are moved, the others deleted. Each kind has a
 * transaction of its own, so that a receipts role that hangs with locks in its hand cannot stop
 * rows that have nothing to do with it. */
static enum obx_code settle_kind(struct lane *lane, struct flight_row **rows, size_t count,
                                 uint64_t *ids, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (count == 0)
        return OBX_OK;
    for (size_t i = 0; i < count; i++)
        ids[i] = rows[i]->id;
    rc = rows[0]->wants_receipt ? awaiting_move(&lane->awaiting, lane->db, ids, count, err)
                                : delete_rows(lane, ids, count, err);
    if (rc != OBX_OK)
        return rc;
    for (size_t i = 0; i < count; i++)
        flight_forget(lane->flight, rows[i]);
    lane->stats.settled += count;
    return OBX_OK;
}

static enum obx_code settle_batch(struct lane *lane, struct flight_row **rows, uint64_t *ids,
                                  struct obx_err *err)
{
    size_t count = take_confirmed(lane, rows, lane->opts.settle_max_rows);
    size_t plain = 0;
    enum obx_code rc = OBX_OK;

    if (count == 0) {
        lane->settle_after_ms = clock_now_ms() + SETTLE_PAUSE_MS;
        return OBX_OK;
    }
    while (plain < count && !rows[plain]->wants_receipt)
        plain++;
    rc = settle_kind(lane, rows, plain, ids, err);
    if (rc != OBX_OK)
        return rc;
    rc = settle_kind(lane, rows + plain, count - plain, ids, err);
    if (lane_is_passing(rc))
        lane->await_after_ms = clock_now_ms() + AWAIT_PAUSE_MS;
    if (rc != OBX_OK)
        return rc;
    lane->first_confirmed_ms =
        flight_count(lane->flight, FLIGHT_CONFIRMED) == 0 ? UINT64_MAX : clock_now_ms();
    return OBX_OK;
}

enum obx_code lane_settle(struct lane *lane, struct obx_err *err)
{
    struct flight_row **rows = obx_calloc(lane->opts.settle_max_rows, sizeof(struct flight_row *));
    uint64_t *ids = obx_calloc(lane->opts.settle_max_rows, sizeof(*ids));
    enum obx_code rc = OBX_OK;

    if (rows == NULL || ids == NULL)
        rc = obx_fail(err, OBX_E_NOMEM, "rows to settle");
    else
        rc = settle_batch(lane, rows, ids, err);
    obx_free(rows);
    obx_free(ids);
    if (lane_is_passing(rc))
        lane->settle_after_ms = clock_now_ms() + SETTLE_PAUSE_MS;
    if (rc == OBX_OK)
        backoff_reset(&lane->db_backoff); /* leased, read and written: it is well */
    lane_set_trouble(lane, TROUBLE_SETTLE, rc == OBX_OK || err == NULL ? NULL : err->text);
    return rc;
}

/* ---- parking ---- */

bool lane_park_due(const struct lane *lane, uint64_t now_ms)
{
    return flight_count(lane->flight, FLIGHT_DOOMED) > 0 && now_ms >= lane->park_after_ms;
}

static struct park_item item_of(const struct flight_row *row)
{
    struct park_item item = {.id = row->id,
                             .behind = row->behind,
                             .reason_code = obx_code_name(row->reason_code),
                             .reason = row->reason,
                             .key = flight_key_name(row),
                             .tries = row->tries,
                             .holds_key = row->behind == 0 && flight_holds_key(row)};

    if (row->behind == 0 && row->reason == NULL)
        item.reason = obx_code_text(row->reason_code);
    return item;
}

static size_t take_doomed(const struct lane *lane, struct flight_row **rows, size_t cap)
{
    struct flight_row *row = flight_first(lane->flight, FLIGHT_DOOMED);
    size_t count = 0;

    while (row != NULL && count < cap) {
        rows[count++] = row;
        row = flight_next(row);
    }
    qsort(rows, count, sizeof(struct flight_row *), compare_rows);
    return count;
}

static enum obx_code park_rows(struct lane *lane, struct flight_row **rows, size_t count,
                               struct obx_err *err)
{
    struct park_item items[PARK_ROWS] = {{.id = 0}};
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < count; i++)
        items[i] = item_of(rows[i]);
    rc = parking_park(&lane->parking, lane->db, items, count, err);
    if (rc != OBX_OK)
        return rc;
    for (size_t i = 0; i < count; i++)
        flight_forget(lane->flight, rows[i]);
    lane->stats.parked += count;
    return OBX_OK;
}

/* A row that cannot be parked waits and is tried again; what was to be parked behind it waits with
 * it. */
static enum obx_code park_single(struct lane *lane, struct flight_row *row, struct obx_err *err)
{
    struct obx_err why = {0};
    enum obx_code rc = park_rows(lane, &row, 1, &why);

    if (rc == OBX_E_DB_DUPLICATE || rc == OBX_E_DB_DATA) {
        OBX_LOG(LOG_LVL_ERROR, "lane", "row.not_parked", KV_STR("outbox", lane->opts.outbox),
                KV_U64("row", row->id), KV_ERR(&why));
        lane_set_trouble(lane, TROUBLE_PARK, why.text);
        (void)flight_retry(lane->flight, row, clock_now_ms() + lane->opts.retry_cap_ms);
        return OBX_OK;
    }
    if (rc != OBX_OK && err != NULL)
        *err = why;
    return rc;
}

/* One of the rows cannot be parked: the others are, one by one; heads before what stands behind
 * them. */
static enum obx_code park_singly(struct lane *lane, const uint64_t *ids, size_t count,
                                 struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (int followers = 0; followers < 2; followers++) {
        for (size_t i = 0; i < count && rc == OBX_OK; i++) {
            struct flight_row *row = flight_find(lane->flight, ids[i]);

            if (row != NULL && row->state == FLIGHT_DOOMED && (row->behind != 0) == followers)
                rc = park_single(lane, row, err);
        }
    }
    return rc;
}

enum obx_code lane_park(struct lane *lane, struct obx_err *err)
{
    struct flight_row *rows[PARK_ROWS];
    uint64_t ids[PARK_ROWS];
    size_t count = take_doomed(lane, rows, PARK_ROWS);
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < count; i++)
        ids[i] = rows[i]->id;
    rc = park_rows(lane, rows, count, err);
    if (rc == OBX_OK)
        lane_set_trouble(lane, TROUBLE_PARK, NULL);
    else if (rc == OBX_E_DB_DUPLICATE || rc == OBX_E_DB_DATA)
        rc = park_singly(lane, ids, count, err);
    if (lane_is_passing(rc)) {
        lane->park_after_ms = clock_now_ms() + PARK_PAUSE_MS;
        lane_set_trouble(lane, TROUBLE_PARK, err == NULL ? obx_code_text(rc) : err->text);
    }
    return rc;
}
