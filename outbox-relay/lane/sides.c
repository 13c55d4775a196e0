/*
 * What an owner does beside publishing and settling. See sides.h.
 */
#include "sides.h"

#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/random.h"
#include "lane/failures.h"

enum {
    REQUESTS_MS = 1000,
    COUNT_MS = 2000,
    COUNT_SHARE = 50,  /* counting takes at most 1 / COUNT_SHARE of the time */
    OVERDUE_MS = 1000, /* lookups of missing receipts, or a part of their timeout */
    OVERDUE_MIN_MS = 20,
    OVERDUE_PART = 4,
    LOOKUP_SHARE = 50, /* looking up what is due takes at most this part of the time */
    STRAY_MS = 10000,
    JOURNAL_BUSY_MS = 100, /* between two batches of rows whose time in the journal has ended */
    JOURNAL_IDLE_MS = 10000,
    PAUSE_MIN_MS = 200, /* after a failure, longer each time */
    PAUSE_CAP_MS = 30000,
};

void sides_init(struct sides *sides, const struct sides_parts *parts)
{
    *sides = (struct sides){.parts = *parts};
}

void sides_begin(struct sides *sides)
{
    memset(sides->due_ms, 0, sizeof(sides->due_ms));
    memset(sides->failures, 0, sizeof(sides->failures));
    if (sides->parts.journal == NULL)
        sides->due_ms[SIDE_JOURNAL] = UINT64_MAX;
}

void sides_forget_counts(struct sides *sides)
{
    sides->counts = (struct outbox_counts){.waiting = 0};
    sides->due_ms[SIDE_COUNT] = 0;
}

void sides_ring(struct sides *sides, uint64_t now_ms)
{
    sides->due_ms[SIDE_REQUESTS] = now_ms;
}

/* ---- the sides: each says when it is due next ---- */

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* A lookup that took long (its end of the index is full of what purge has not removed yet) is not
 * repeated soon. */
static uint64_t after_lookup_ms(uint64_t began_ms, uint64_t pause_ms)
{
    return began_ms + later((clock_now_ms() - began_ms) * LOOKUP_SHARE, pause_ms);
}

static enum obx_code do_requests(struct sides *sides, struct db *db, uint64_t now_ms,
                                 uint64_t *due_ms, struct obx_err *err)
{
    struct requests *requests = sides->parts.requests;
    bool was_busy = requests_busy(requests);
    enum obx_code rc =
        was_busy ? requests_step(requests, db, err) : requests_find(requests, db, err);

    /* One request done: the next one is looked for at once. */
    *due_ms = was_busy || requests_busy(requests) ? now_ms : now_ms + REQUESTS_MS;
    return rc;
}

static enum obx_code scan_overdue(struct sides *sides, struct db *db, uint64_t now_ms,
                                  uint64_t *due_ms, struct obx_err *err)
{
    uint64_t pause_ms = sides->parts.opts->receipt_timeout_ms / OVERDUE_PART;
    bool may_have_more = false;
    enum obx_code rc = overdue_scan(sides->parts.overdue, db, &may_have_more, err);

    pause_ms = later(pause_ms < OVERDUE_MS ? pause_ms : OVERDUE_MS, OVERDUE_MIN_MS);
    *due_ms = may_have_more ? now_ms : after_lookup_ms(now_ms, pause_ms);
    return rc;
}

static enum obx_code move_delayed(struct sides *sides, struct db *db, uint64_t now_ms,
                                  uint64_t *due_ms, struct obx_err *err)
{
    bool may_have_more = false;
    enum obx_code rc = delayed_move(sides->parts.delayed, db, &may_have_more, err);

    *due_ms = may_have_more ? now_ms : after_lookup_ms(now_ms, sides->parts.opts->delayed_poll_ms);
    return rc;
}

static enum obx_code clean_journal(struct sides *sides, struct db *db, uint64_t now_ms,
                                   uint64_t *due_ms, struct obx_err *err)
{
    bool may_have_more = false;
    enum obx_code rc = journal_clean(sides->parts.journal, db, &may_have_more, err);

    *due_ms = now_ms + (may_have_more ? JOURNAL_BUSY_MS : JOURNAL_IDLE_MS);
    return rc;
}

static enum obx_code count_rows(struct sides *sides, struct db *db, uint64_t now_ms,
                                uint64_t *due_ms, struct obx_err *err)
{
    struct outbox_counts counts = {0};
    enum obx_code rc = outbox_store_count(sides->parts.store, sides->parts.opts->outbox,
                                          SIDES_COUNT_CAP, &counts, err);

    (void)db; /* the store's */
    *due_ms = now_ms + later((clock_now_ms() - now_ms) * COUNT_SHARE, COUNT_MS);
    if (rc != OBX_OK)
        return rc;
    lease_note_db_clock(sides->parts.lease, counts.db_now_us);
    sides->counts = counts;
    return OBX_OK;
}

static enum obx_code find_stray(struct sides *sides, struct db *db, uint64_t now_ms,
                                uint64_t *due_ms, struct obx_err *err)
{
    enum obx_code rc = delayed_find_stray(sides->parts.delayed, db, err);

    *due_ms = after_lookup_ms(now_ms, STRAY_MS);
    return rc;
}

static const struct {
    enum obx_code (*run)(struct sides *sides, struct db *db, uint64_t now_ms, uint64_t *due_ms,
                         struct obx_err *err);
    enum lane_condition condition;
} jobs[SIDES] = {
    [SIDE_REQUESTS] = {do_requests, CONDITION_REQUESTS},
    [SIDE_OVERDUE] = {scan_overdue, CONDITION_OVERDUE},
    [SIDE_DELAYED] = {move_delayed, CONDITION_DELAYED},
    [SIDE_JOURNAL] = {clean_journal, CONDITION_JOURNAL},
    [SIDE_COUNT] = {count_rows, CONDITION_COUNT},
    [SIDE_STRAY] = {find_stray, CONDITION_STRAY},
};

/* ---- running them ---- */

/* What the side would bring waits until rows are settled. */
static bool is_blocked(const struct sides *sides, enum lane_side side)
{
    return (side == SIDE_OVERDUE && settle_is_full(sides->parts.settle, SETTLE_ASKING)) ||
           (side == SIDE_DELAYED && settle_is_full(sides->parts.settle, SETTLE_PLAIN));
}

/* Why some rows of it are left out, while the others go on. */
static const char *held_why(const struct sides *sides, enum lane_side side)
{
    if (side == SIDE_REQUESTS)
        return held_rows_why(&sides->parts.requests->held);
    if (side == SIDE_OVERDUE)
        return held_rows_why(&sides->parts.overdue->held);
    return side == SIDE_DELAYED ? held_rows_why(&sides->parts.delayed->held) : NULL;
}

static enum obx_code run_side(struct sides *sides, enum lane_side side, struct db *db,
                              struct obx_err *err)
{
    struct obx_err why = {0};
    enum obx_code rc = jobs[side].run(sides, db, clock_now_ms(), &sides->due_ms[side], &why);

    if (rc == OBX_OK) {
        sides->failures[side] = 0;
        conditions_set(sides->parts.conditions, jobs[side].condition, held_why(sides, side));
        return OBX_OK;
    }
    *err = why;
    if (!failure_keeps_db(db, rc))
        return rc;
    conditions_set(sides->parts.conditions, jobs[side].condition, why.text);
    sides->due_ms[side] = clock_now_ms() + backoff_nth_ms(PAUSE_MIN_MS, PAUSE_CAP_MS,
                                                          ++sides->failures[side], random_u64());
    return OBX_OK;
}

uint64_t sides_due_ms(const struct sides *sides)
{
    uint64_t due_ms = UINT64_MAX;

    for (int side = 0; side < SIDES; side++) {
        if (sides->due_ms[side] < due_ms && !is_blocked(sides, (enum lane_side)side))
            due_ms = sides->due_ms[side];
    }
    return due_ms;
}

enum obx_code sides_run(struct sides *sides, struct db *db, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (int side = 0; side < SIDES && rc == OBX_OK; side++) {
        if (clock_now_ms() >= sides->due_ms[side] && !is_blocked(sides, (enum lane_side)side))
            rc = run_side(sides, (enum lane_side)side, db, err);
    }
    return rc;
}
