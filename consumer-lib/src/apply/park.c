/*
 * The end of a batch, before its COMMIT: the rows in inbox_parked of what was not applied, and of
 * what came from there. Written in the order of the batch, so that the messages of one key have
 * their rows in the order of their arrival.
 */
#include "run.h"

#include "base/backoff.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/random.h"

enum {
    STALL_TRIES = 3, /* the first wait for what stands in the way: as after so many attempts */
    /* Between two probes of a dedup row that is held, which cost little: soon at first, since a
     * session that has broken is undone within milliseconds. */
    HELD_MIN_MS = 50,
    HELD_CAP_MS = 1000,
    /* Between two tries of what is in nobody's power, and costs a little more: retry_cap_ms is for
     * failures, and may be hours. */
    STALL_CAP_MS = 30000
};

bool run_is_reported(const struct run *run, const struct item *item)
{
    return item->wants_receipt && item_has_id(item) && item_may_report_rejected(item) &&
           item_asks_receipt(item, run->apply->group);
}

/* A row that comes after a lost or blocked one may not overtake it either. */
bool run_holds_key(const struct run *run, const struct item *item)
{
    switch (item->state) {
    case ITEM_EXHAUSTED:
    case ITEM_REJECTED:
        return !run->apply->policy.skips_dead && !run_is_reported(run, item);
    case ITEM_FAILED:
    case ITEM_BLOCKED:
    case ITEM_SUSPECT:
    case ITEM_STALLED:
    case ITEM_HELD:
    case ITEM_LEFT:
        return true;
    case ITEM_READY:
    case ITEM_APPLIED:
    case ITEM_DUPLICATE:
    case ITEM_WAS_REJECTED:
    case ITEM_HAS_ROW:
    case ITEM_DONE:
    case ITEM_DEAD:
    case ITEM_PARKED:
    case ITEM_DROPPED:
    case ITEM_LETTER:
    case ITEM_CONFIRMED:
        break;
    }
    return false;
}

static enum obx_code write_row(struct run *run, const struct item *item, const struct park *park)
{
    const struct store *store = &run->apply->store;

    if (park->is_due && park->wait_ms < run->report->due_in_ms)
        run->report->due_in_ms = park->wait_ms;
    return store->ops->park(store->ctx, item, park, &run->report->err);
}

static uint32_t backoff(const struct run *run, uint32_t tries)
{
    const struct apply_policy *policy = &run->apply->policy;

    return backoff_nth_ms(policy->retry_min_ms, policy->retry_cap_ms, tries, random_u64());
}

/* Whose attempt was counted, and has not been made after all. */
static uint32_t uncounted(const struct item *item)
{
    return item->attempts > 0 ? item->attempts - 1 : 0;
}

/*
 * Nobody will try it again by itself. Where its producer waits to hear of it, it will hear
 * "rejected" and act on that: so no copy may be applied any more, which a dedup row sees to.
 */
static enum obx_code mark_dead(struct run *run, const struct item *item)
{
    const struct store *store = &run->apply->store;
    const struct park park = {.state = PARK_DEAD,
                              .attempts = item_attempt(item),
                              .is_due = run->apply->policy.sends_letters,
                              .is_reported = run_is_reported(run, item),
                              .has_failed = true,
                              .has_reason = true};
    enum obx_code rc = OBX_OK;

    rc = write_row(run, item, &park);
    if (rc == OBX_OK && park.is_reported)
        rc = store->ops->reject(store->ctx, item, &run->report->err);
    return rc;
}

/*
 * Not its fault, so no attempt is counted. A handler that waits for somebody's lock takes its
 * worker's time with each try: these are made less often the longer it lasts.
 */
static enum obx_code wait_without_attempt(struct run *run, const struct item *item)
{
    const bool is_held = item->state == ITEM_HELD;
    const bool is_stall = is_held || item->state == ITEM_STALLED;
    const uint32_t stall_ms = is_held ? HELD_MIN_MS : backoff(run, STALL_TRIES);
    const uint32_t retry_ms = run->apply->policy.retry_cap_ms;
    const uint32_t cap_ms = is_held                   ? HELD_CAP_MS
                            : retry_ms < STALL_CAP_MS ? retry_ms
                                                      : STALL_CAP_MS;
    const struct park park = {.state = PARK_WAITING,
                              .attempts = uncounted(item),
                              .is_due = true,
                              .wait_ms = is_stall ? stall_ms : 0,
                              .cap_ms = is_stall ? cap_ms : 0,
                              .has_reason = is_stall};

    return write_row(run, item, &park);
}

static enum obx_code park_one(struct run *run, const struct item *item)
{
    const struct store *store = &run->apply->store;

    switch (item->state) {
    case ITEM_EXHAUSTED:
    case ITEM_REJECTED:
        return mark_dead(run, item);
    case ITEM_FAILED:
        return write_row(run, item,
                         &(struct park){.state = PARK_WAITING,
                                        .attempts = item_attempt(item),
                                        .is_due = true,
                                        .wait_ms = backoff(run, item_attempt(item)),
                                        .has_failed = true,
                                        .has_reason = true});
    case ITEM_BLOCKED:
        return write_row(run, item,
                         &(struct park){.state = PARK_BLOCKED, .attempts = uncounted(item)});
    case ITEM_SUSPECT:
    case ITEM_STALLED:
    case ITEM_HELD:
        return wait_without_attempt(run, item);
    case ITEM_APPLIED:
    case ITEM_DUPLICATE:
    case ITEM_WAS_REJECTED: /* the row of one that was taken up has nothing left to wait for */
        return item->parked_id == 0 ? OBX_OK
                                    : store->ops->unpark(store->ctx, item, &run->report->err);
    case ITEM_READY:
    case ITEM_HAS_ROW:
    case ITEM_LEFT:
    case ITEM_DONE:
    case ITEM_DEAD:
    case ITEM_PARKED:
    case ITEM_DROPPED:
    case ITEM_LETTER:
    case ITEM_CONFIRMED:
        break;
    }
    return OBX_OK;
}

/*
 * A message that the database does not take, not even in pieces (properties larger than
 * max_allowed_packet), can wait nowhere but at the broker: it stays unacknowledged, and comes again
 * with the next connection. The others go on.
 */
static enum obx_code park_or_leave(struct run *run, struct item *item)
{
    enum obx_code rc = park_one(run, item);

    if (rc != OBX_E_TOO_LARGE || item->parked_id != 0)
        return rc;
    OBX_LOG(LOG_LVL_ERROR, "consumer", "message.too_large_to_park",
            KV_STR("group", run->apply->group), KV_BYTES("message_id", item->msg.message_id),
            KV_U64("bytes", item->msg.body.len), KV_STR("because", item->why.text));
    item_set(item, ITEM_LEFT);
    return OBX_OK;
}

/* ------------------------------------------------------------------ keys that may go on */

/* Of a key that had rows in this batch, all are done with: the next one, if any, is due. */
static enum obx_code promote_next(struct run *run, size_t at)
{
    const struct store *store = &run->apply->store;
    const struct item *item = run->items[at];

    if (item->parked_id == 0 || item->state == ITEM_READY || !item_has_key(item) ||
        run_holds_key(run, item))
        return OBX_OK;
    for (size_t i = at + 1; i < run->count; i++) {
        if (run->items[i]->parked_id != 0 && item_same_key(run->items[i], item))
            return OBX_OK; /* left to the last row of the key */
    }
    run->report->due_in_ms = 0;
    return store->ops->promote(store->ctx, item, &run->report->err);
}

/* Another process has parked a copy of it, in a transaction that has not ended; or the table does not
 * take this row (a trigger or a check of somebody's, a right, a value). */
static bool is_about_row(enum obx_code code)
{
    return code == OBX_E_DB_LOCK_WAIT || code == OBX_E_DB_DEADLOCK || code == OBX_E_DB_DATA ||
           code == OBX_E_DB_QUERY || code == OBX_E_DB_DENIED || code == OBX_E_DB_NO_TABLE ||
           code == OBX_E_TOO_LARGE;
}

enum obx_code run_park(struct run *run)
{
    const struct store *store = &run->apply->store;
    enum obx_code rc = OBX_OK;

    if (run->failures == 0 && !run->report->has_rows)
        return OBX_OK;
    rc = run_find_copies(run);
    for (size_t i = 0; i < run->count && rc == OBX_OK; i++) {
        rc = park_or_leave(run, run->items[i]);
        if (rc != OBX_OK && is_about_row(rc) && !store->ops->is_lost(store->ctx)) {
            run->report->suspect = run->items[i];
            run->report->is_unparkable = true;
        }
    }
    for (size_t i = 0; i < run->count && rc == OBX_OK; i++)
        rc = promote_next(run, i);
    if (run->failures > 0)
        OBX_CRASH_POINT("consumer-park-before-commit");
    return rc;
}
