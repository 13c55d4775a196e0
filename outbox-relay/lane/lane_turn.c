/*
 * The lane's state machine and timers: what is done in a turn, in which order, and how long to wait
 * for the next one.
 *
 * The order within a turn follows from latency: look at confirms, publish what may go, read,
 * publish again; the commits (settle, park, requests) come last, because each blocks the thread for
 * some milliseconds.
 */
#include "lane_private.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/random.h"
#include "sql/schema.h"

enum {
    US_PER_MS = 1000,
    STANDBY_LOOK_MS = 1000,
    STANDBY_SOON_MS = 20,
    REQUESTS_MS = 1000,
    COUNT_MS = 2000,
    OVERDUE_MS = 1000, /* looks for missing receipts, or a part of their timeout */
    OVERDUE_MIN_MS = 20,
    OVERDUE_PART = 4,
    COUNT_CAP = 10000,
    LOOK_SHARE = 50,  /* looking for what is due takes at most this part of the time */
    COUNT_SHARE = 50, /* counting takes at most 1 / COUNT_SHARE of the time */
    IDLE_PART = 8, /* the pause between polls grows to this part of the time since the last row */
    RETRY_SOON_MS = 100,
    SIDE_PAUSE_MIN_MS = 200, /* after a failure, longer each time */
    SIDE_PAUSE_CAP_MS = 30000,
    STRAY_MS = 10000,
    STABLE_MS = 5000,
    WAIT_MAX_MS = 1000,
    JOURNAL_BUSY_MS = 100, /* between two batches of rows whose time in the journal is over */
    JOURNAL_IDLE_MS = 10000,
};

static const unsigned edges[] = {
    [LANE_STARTING] = 1U << LANE_STANDBY | 1U << LANE_DB_DOWN | 1U << LANE_STOPPED,
    [LANE_STANDBY] = 1U << LANE_OWNER | 1U << LANE_DB_DOWN | 1U << LANE_STOPPED,
    [LANE_OWNER] =
        1U << LANE_STANDBY | 1U << LANE_DB_DOWN | 1U << LANE_DRAINING | 1U << LANE_STOPPED,
    [LANE_DB_DOWN] = 1U << LANE_STANDBY | 1U << LANE_STOPPED,
    [LANE_DRAINING] = 1U << LANE_STOPPED,
    [LANE_STOPPED] = 0,
};

/* Only the owner counts rows; what was counted before somebody else took over is not true any more.
 */
static void forget_counts(struct lane_stats *stats)
{
    stats->waiting = 0;
    stats->waiting_capped = false;
    stats->oldest_age_us = 0;
    stats->parked_now = 0;
    stats->frozen_keys = 0;
    stats->awaiting_now = 0;
    stats->delayed_now = 0;
}

static void set_state(struct lane *lane, enum lane_state state)
{
    if (lane->state == state)
        return;
    OBX_ASSERT((edges[lane->state] & 1U << state) != 0);
    OBX_LOG(LOG_LVL_INFO, "lane", "state", KV_STR("source", lane->opts.source),
            KV_STR("outbox", lane->opts.outbox), KV_STR("from", lane_state_name(lane->state)),
            KV_STR("to", lane_state_name(state)), KV_U64("epoch", lane->lease.epoch));
    lane->state = state;
    if (state == LANE_STANDBY) {
        forget_counts(&lane->stats);
        lane->side_due_ms[SIDE_COUNT] = 0;
    }
}

void lane_set_trouble(struct lane *lane, enum lane_trouble kind, const char *text)
{
    char *slot = lane->trouble[kind];

    if (text == NULL) {
        slot[0] = '\0';
        return;
    }
    if (strcmp(slot, text) != 0)
        OBX_LOG(LOG_LVL_WARN, "lane", "trouble", KV_STR("source", lane->opts.source),
                KV_STR("outbox", lane->opts.outbox), KV_STR("text", text));
    (void)snprintf(slot, OBX_ERR_TEXT_MAX, "%s", text);
}

/* ---- dropping everything ---- */

static void open_publisher(struct lane *lane)
{
    struct bridge_publisher_opts opts = {.bridge = lane->opts.bridge,
                                         .window = lane->opts.window,
                                         .confirm_timeout_ms = lane->opts.confirm_timeout_ms,
                                         .max_body_bytes = lane->opts.max_body_bytes,
                                         .on_result = lane_on_result,
                                         .ctx = lane};
    struct obx_err err = {0};

    if (bridge_publisher_create(&opts, &lane->publisher, &err) != OBX_OK)
        lane_set_trouble(lane, TROUBLE_ROW, err.text);
}

static void fill_broker_stats(struct lane *lane)
{
    struct bridge_publisher_stats broker = {0};

    lane_expire_route_trouble(lane, clock_now_ms());
    lane->stats.broker_state = BRIDGE_DOWN;
    if (lane->publisher == NULL)
        return;
    bridge_publisher_get_stats(lane->publisher, &broker);
    lane->stats.broker_state = bridge_publisher_state(lane->publisher);
    lane->stats.broker_connects = lane->past_broker_connects + broker.connects;
    lane->stats.broker_blocked = lane->past_broker_blocked + broker.blocked;
}

/* Looks at the broker's frames, and whether the connection is another one. */
static void service_publisher(struct lane *lane)
{
    struct bridge_publisher_stats broker = {0};

    bridge_publisher_service(lane->publisher);
    bridge_publisher_get_stats(lane->publisher, &broker);
    if (broker.connects != lane->broker_connects_seen)
        faults_connected(&lane->faults);
    lane->broker_connects_seen = broker.connects;
}

/* The connection goes with what is in flight, so that nothing of it is sent late; without any it
 * can stay. */
static void drop_flight(struct lane *lane)
{
    lane->is_dropping = true;
    if (lane->publisher != NULL && bridge_publisher_inflight(lane->publisher) > 0) {
        fill_broker_stats(lane);
        lane->past_broker_connects = lane->stats.broker_connects;
        lane->past_broker_blocked = lane->stats.broker_blocked;
        bridge_publisher_drop(lane->publisher);
        lane->publisher = NULL;
    }
    lane->is_dropping = false;
    flight_clear(lane->flight);
    reader_reset(lane->reader);
    requests_reset(&lane->requests);
    faults_reset(&lane->faults);
    lane_settling_reset(lane);
    lane->park_after_ms = 0;
    lane->route_trouble_until_ms = 0;
    for (int i = TROUBLE_LEASE; i < TROUBLES; i++)
        lane_set_trouble(lane, (enum lane_trouble)i, NULL);
}

static void lose_lease(struct lane *lane, const char *why)
{
    OBX_LOG(LOG_LVL_WARN, "lane", "lease.lost", KV_STR("outbox", lane->opts.outbox),
            KV_U64("epoch", lane->lease.epoch), KV_STR("why", why));
    lease_drop(&lane->lease);
    lane->stats.lease_lost++;
    drop_flight(lane);
    lane->lease_due_ms = 0;
    set_state(lane, lane->state == LANE_DRAINING ? LANE_STOPPED : LANE_STANDBY);
}

static void close_db(struct lane *lane)
{
    if (lane->db != NULL)
        lane->past_statements += db_statements(lane->db);
    db_close(lane->db);
    lane->db = NULL;
    lane->store.db = NULL;
}

static void lose_db(struct lane *lane, const struct obx_err *err)
{
    lane_set_trouble(lane, TROUBLE_DB, err->text);
    close_db(lane);
    lease_drop(&lane->lease);
    drop_flight(lane);
    lane->db_due_ms = clock_now_ms() + backoff_next_ms(&lane->db_backoff);
    set_state(lane, lane->state == LANE_DRAINING ? LANE_STOPPED : LANE_DB_DOWN);
}

/* What a failed step means for the lane. True: the turn can go on. */
static bool survives(struct lane *lane, enum obx_code rc, const struct obx_err *err)
{
    if (rc == OBX_OK)
        return true;
    if (rc == OBX_E_LEASE_LOST) {
        lose_lease(lane, err->text);
        return false;
    }
    if (lane_is_passing(rc)) {
        lane_set_trouble(lane, TROUBLE_ROW, err->text);
        return true;
    }
    lose_db(lane, err);
    return false;
}

/* ---- connecting ---- */

/* Rows go from one table to the next as they are: a date of 0, or of a 31st of February, that an
 * application's session has let in, or an id of 0, is not refused on its way. */
static const char sql_mode[] =
    "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,STRICT_ALL_TABLES,ALLOW_INVALID_DATES,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO'";

/* With a binary log a transaction is in there before others see it. */
static enum obx_code ask_log(struct lane *lane, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(lane->db, "SELECT @@log_bin", DB_NO_ARGS, &rows, err);

    if (rc == OBX_OK)
        lane->shows_early = !db_rows_next(rows) || db_rows_u64(rows, 0) == 0;
    db_rows_free(rows);
    return rc;
}

static void connect_db(struct lane *lane)
{
    struct obx_err err = {0};
    enum obx_code rc = db_open(&lane->opts.db, &lane->db, &err);

    lane->store.db = lane->db;
    if (rc == OBX_OK)
        rc = db_exec_text(lane->db, bytes_of(sql_mode), NULL, &err);
    if (rc == OBX_OK)
        rc = ask_log(lane, &err);
    if (rc == OBX_OK)
        rc = schema_check(lane->db, SCHEMA_PRODUCER, &err);
    if (rc == OBX_OK && lane->opts.journal)
        rc = schema_check(lane->db, SCHEMA_JOURNAL, &err);
    if (rc != OBX_OK) {
        lose_db(lane, &err);
        return;
    }
    lane->stats.db_connects++;
    lane->lease_due_ms = 0;
    set_state(lane, LANE_STANDBY);
}

/* ---- standing by ---- */

static void become_owner(struct lane *lane)
{
    struct obx_err err = {0};
    enum obx_code rc = lane_check_rights(lane, &err);

    if (rc == OBX_OK)
        rc = parking_load(&lane->parking, lane->db, &err);
    if (rc == OBX_OK && lane->opts.receipt_queue != NULL)
        rc = receipt_keys_load(&lane->receipt_keys, lane->db, &err);
    if (rc != OBX_OK) {
        lose_db(lane, &err);
        return;
    }
    lane->stats.lease_acquired++;
    lane->owner_since_ms = clock_now_ms();
    lane->poll_due_us = 0;
    lane->last_row_us = clock_now_us();
    memset(lane->side_due_ms, 0, sizeof(lane->side_due_ms));
    memset(lane->side_failures, 0, sizeof(lane->side_failures));
    if (!lane->opts.journal)
        lane->side_due_ms[SIDE_JOURNAL] = UINT64_MAX;
    set_state(lane, LANE_OWNER);
}

static void stand_by(struct lane *lane, uint64_t now_ms)
{
    struct obx_err err = {0};
    bool acquired = false;
    uint64_t wait_ms = 0;
    enum obx_code rc = OBX_OK;

    if (now_ms < lane->lease_due_ms)
        return;
    rc = lease_try(&lane->lease, lane->db, &acquired, &err);
    if (rc != OBX_OK && !lane_is_passing(rc)) {
        lose_db(lane, &err);
        return;
    }
    if (acquired) {
        become_owner(lane);
        return;
    }
    backoff_reset(&lane->db_backoff);
    lane_set_trouble(lane, TROUBLE_DB, NULL);
    wait_ms = lane->lease.free_in_ms + STANDBY_SOON_MS;
    lane->lease_due_ms = now_ms + (wait_ms < STANDBY_LOOK_MS ? wait_ms : STANDBY_LOOK_MS);
}

/* ---- owning ---- */

/* It changes the row each time, so that it is a commit that the server has to write. */
static enum obx_code renew(struct lane *lane, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    rc = lease_renew(&lane->lease, lane->db, err);
    if (rc == OBX_OK)
        lane->is_unsure = false;
    return rc;
}

/* A lease that is over by our clock is not lost yet: a renewal that finds owner and epoch as they
 * were says that nobody has had it in between, so what is in memory still holds. Without this a
 * statement that takes longer than the lease would be run again for ever. */
static enum obx_code keep_lease(struct lane *lane, uint64_t now_ms, struct obx_err *err)
{
    bool is_held = lease_holds(&lane->lease, now_ms);
    enum obx_code rc = OBX_OK;

    if (is_held && now_ms < lane->lease.renew_due_ms)
        return OBX_OK;
    rc = renew(lane, err);
    if (lane_is_passing(rc) && !is_held)
        return obx_fail(err, OBX_E_LEASE_LOST, "not renewed in time");
    if (lane_is_passing(rc)) {
        lane->lease.renew_due_ms = now_ms + RETRY_SOON_MS;
        return OBX_OK; /* until it is over for us */
    }
    return rc;
}

enum obx_code lane_make_sure(struct lane *lane, bool *is_sure, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    *is_sure = true;
    if (!lane->is_unsure || !lane->shows_early)
        return OBX_OK;
    rc = renew(lane, err);
    if (!lane_is_passing(rc))
        return rc;
    *is_sure = false;
    lane->sure_due_ms = clock_now_ms() + RETRY_SOON_MS;
    lane->lease.renew_due_ms = lane->sure_due_ms;
    return OBX_OK;
}

/* Whether a read is worth its while: half of what may be ready is gone. */
static bool wants_rows(const struct lane *lane)
{
    return flight_room(lane->flight) >= lane->opts.batch_rows &&
           !lane_is_choked(lane, SETTLE_PLAIN) && !flight_is_choked(lane->flight);
}

/* Polls that find nothing take at most half of the time, however far away the database is. */
static void plan_poll(struct lane *lane, const struct reader_result *result, uint64_t began_us)
{
    uint64_t now_us = clock_now_us();
    uint64_t pause_us = 0;
    uint64_t min_us = (uint64_t)lane->opts.poll_min_ms * US_PER_MS;
    uint64_t max_us = (uint64_t)lane->opts.poll_max_ms * US_PER_MS;

    if (result->is_full) {
        lane->last_row_us = now_us;
        lane->poll_due_us = now_us;
        return;
    }
    if (result->new_rows > 0)
        lane->last_row_us = now_us;
    pause_us = (now_us - lane->last_row_us) / IDLE_PART;
    if (pause_us < min_us)
        pause_us = min_us;
    if (pause_us > max_us)
        pause_us = max_us;
    if (result->new_rows == 0 && pause_us < now_us - began_us)
        pause_us = now_us - began_us;
    lane->poll_due_us = now_us + pause_us;
}

static enum obx_code read_rows(struct lane *lane, struct obx_err *err)
{
    struct reader_result result = {.new_rows = 0};
    uint64_t now_us = clock_now_us();
    enum obx_code rc = OBX_OK;

    if (!wants_rows(lane))
        return OBX_OK;
    if (atomic_exchange(&lane->rung, false)) {
        lane->poll_due_us = now_us;
        lane->side_due_ms[SIDE_REQUESTS] = now_us / US_PER_MS;
    }
    if (now_us >= lane->poll_due_us) {
        rc = reader_poll(lane->reader, &result, err);
        plan_poll(lane, &result, now_us);
        if (rc == OBX_OK && result.new_rows > 0)
            OBX_CRASH_POINT("lane-read");
    }
    if (rc == OBX_OK && now_us >= reader_next_due_us(lane->reader))
        rc = reader_service(lane->reader, err);
    return rc;
}

static enum obx_code do_requests(struct lane *lane, uint64_t now_ms, struct obx_err *err)
{
    bool was_busy = requests_busy(&lane->requests);
    enum obx_code rc = was_busy ? requests_step(&lane->requests, lane->db, err)
                                : requests_look(&lane->requests, lane->db, err);

    /* One request done: the next one is looked for at once. */
    lane->side_due_ms[SIDE_REQUESTS] =
        was_busy || requests_busy(&lane->requests) ? now_ms : now_ms + REQUESTS_MS;
    return rc;
}

/* A look that took long (its end of the index is full of what purge has not removed yet) is not
 * repeated soon. */
static uint64_t next_look_ms(uint64_t began_ms, uint64_t pause_ms)
{
    uint64_t spaced_ms = (clock_now_ms() - began_ms) * LOOK_SHARE;

    return began_ms + (spaced_ms > pause_ms ? spaced_ms : pause_ms);
}

static uint64_t overdue_pause_ms(const struct lane *lane)
{
    uint64_t pause_ms = lane->opts.receipt_timeout_ms / OVERDUE_PART;

    if (pause_ms < OVERDUE_MIN_MS)
        return OVERDUE_MIN_MS;
    return pause_ms < OVERDUE_MS ? pause_ms : OVERDUE_MS;
}

static enum obx_code scan_overdue(struct lane *lane, uint64_t now_ms, struct obx_err *err)
{
    bool may_have_more = false;
    enum obx_code rc = overdue_scan(&lane->overdue, lane->db, lane->reader, &may_have_more, err);

    lane->side_due_ms[SIDE_OVERDUE] =
        may_have_more ? now_ms : next_look_ms(now_ms, overdue_pause_ms(lane));
    return rc;
}

static enum obx_code move_delayed(struct lane *lane, uint64_t now_ms, struct obx_err *err)
{
    bool may_have_more = false;
    size_t count = 0;
    enum obx_code rc = delayed_move(&lane->delayed, lane->db, &count, &may_have_more, err);

    lane->side_due_ms[SIDE_DELAYED] =
        may_have_more ? now_ms : next_look_ms(now_ms, lane->opts.delayed_poll_ms);
    if (count > 0)
        lane->poll_due_us = 0;
    return rc;
}

static enum obx_code clean_journal(struct lane *lane, uint64_t now_ms, struct obx_err *err)
{
    bool may_have_more = false;
    enum obx_code rc = journal_clean(&lane->journal, lane->db, &may_have_more, err);

    lane->side_due_ms[SIDE_JOURNAL] = now_ms + (may_have_more ? JOURNAL_BUSY_MS : JOURNAL_IDLE_MS);
    return rc;
}

static enum obx_code count_rows(struct lane *lane, uint64_t now_ms, struct obx_err *err)
{
    struct outbox_counts counts = {0};
    uint64_t pause_ms = 0;
    enum obx_code rc = outbox_store_count(&lane->store, lane->opts.outbox, COUNT_CAP, &counts, err);

    pause_ms = (clock_now_ms() - now_ms) * COUNT_SHARE;
    lane->side_due_ms[SIDE_COUNT] = now_ms + (pause_ms > COUNT_MS ? pause_ms : COUNT_MS);
    if (rc != OBX_OK)
        return rc;
    lease_note_db_clock(&lane->lease, counts.db_now_us);
    lane->stats.waiting = counts.waiting;
    lane->stats.waiting_capped = counts.waiting >= COUNT_CAP;
    lane->stats.oldest_age_us = counts.oldest_age_us;
    lane->stats.parked_now = counts.parked;
    lane->stats.frozen_keys = counts.frozen;
    lane->stats.awaiting_now = counts.awaiting;
    lane->stats.delayed_now = counts.delayed;
    return OBX_OK;
}

static enum obx_code find_stray(struct lane *lane, uint64_t now_ms, struct obx_err *err)
{
    enum obx_code rc = delayed_find_stray(&lane->delayed, lane->db, err);

    lane->side_due_ms[SIDE_STRAY] = next_look_ms(now_ms, STRAY_MS);
    return rc;
}

static enum obx_code (*const sides[SIDES])(struct lane *lane, uint64_t now_ms,
                                           struct obx_err *err) = {
    [SIDE_REQUESTS] = do_requests,  [SIDE_OVERDUE] = scan_overdue, [SIDE_DELAYED] = move_delayed,
    [SIDE_JOURNAL] = clean_journal, [SIDE_COUNT] = count_rows,     [SIDE_STRAY] = find_stray,
};

/* What the side would do waits until rows are settled. */
static bool is_side_choked(const struct lane *lane, enum lane_side side)
{
    return (side == SIDE_OVERDUE && lane_is_choked(lane, SETTLE_ASKING)) ||
           (side == SIDE_DELAYED && lane_is_choked(lane, SETTLE_PLAIN));
}

/* Why some rows of it are left out, while the others go on. */
static const char *held_why(const struct lane *lane, enum lane_side side)
{
    switch (side) {
    case SIDE_REQUESTS:
        return held_rows_why(&lane->requests.held);
    case SIDE_OVERDUE:
        return held_rows_why(&lane->overdue.held);
    case SIDE_DELAYED:
        return held_rows_why(&lane->delayed.held);
    case SIDE_JOURNAL:
    case SIDE_COUNT:
    case SIDE_STRAY:
    case SIDES:
        break;
    }
    return NULL;
}

/* OBX_OK also after a failure that the rest of the lane need not know of. */
static enum obx_code do_side(struct lane *lane, enum lane_side side, struct obx_err *err)
{
    const enum lane_trouble trouble = (enum lane_trouble)(TROUBLE_REQUESTS + (int)side);
    struct obx_err why = {0};
    enum obx_code rc = sides[side](lane, clock_now_ms(), &why);

    if (rc == OBX_OK) {
        lane->side_failures[side] = 0;
        lane_set_trouble(lane, trouble, held_why(lane, side));
        return OBX_OK;
    }
    *err = why;
    if (!lane_keeps_db(lane, rc))
        return rc;
    lane_set_trouble(lane, trouble, why.text);
    lane->side_due_ms[side] =
        clock_now_ms() + backoff_nth_ms(SIDE_PAUSE_MIN_MS, SIDE_PAUSE_CAP_MS,
                                        ++lane->side_failures[side], random_u64());
    return OBX_OK;
}

static enum obx_code do_sides(struct lane *lane, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (int side = 0; side < SIDES && rc == OBX_OK; side++) {
        if (clock_now_ms() >= lane->side_due_ms[side] &&
            !is_side_choked(lane, (enum lane_side)side))
            rc = do_side(lane, (enum lane_side)side, err);
    }
    return rc;
}

/* Everything that commits. */
static enum obx_code finish_rows(struct lane *lane, uint64_t now_ms, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (now_ms >= lane_settle_due_ms(lane))
        rc = lane_settle(lane, err);
    if (rc == OBX_OK && lane_park_due(lane, now_ms))
        rc = lane_park(lane, err);
    return rc;
}

static void start_drain(struct lane *lane, uint64_t now_ms)
{
    lane->drain_until_ms = now_ms + lane->opts.drain_ms;
    set_state(lane, LANE_DRAINING);
}

/* The waits between connections begin anew only after some time as owner, or a settle: a table that
 * cannot be read, or settled, shows so only then. */
static void all_went_well(struct lane *lane, uint64_t now_ms)
{
    lane_set_trouble(lane, TROUBLE_ROW, NULL);
    lane_set_trouble(lane, TROUBLE_DB, NULL);
    if (now_ms >= lane->owner_since_ms + STABLE_MS)
        backoff_reset(&lane->db_backoff);
}

static void own(struct lane *lane, uint64_t now_ms)
{
    struct obx_err err = {0};
    enum obx_code rc = keep_lease(lane, now_ms, &err);

    if (rc == OBX_OK) {
        (void)flight_take_due(lane->flight, now_ms);
        rc = lane_publish(lane, &err);
    }
    if (rc == OBX_OK)
        rc = read_rows(lane, &err);
    if (rc == OBX_OK)
        rc = lane_publish(lane, &err);
    if (!survives(lane, rc, &err))
        return;
    if (rc == OBX_OK)
        all_went_well(lane, now_ms);
    rc = finish_rows(lane, now_ms, &err);
    if (rc == OBX_OK)
        rc = do_sides(lane, &err);
    (void)survives(lane, rc, &err);
}

/* ---- draining ---- */

static bool is_drained(const struct lane *lane, uint64_t now_ms)
{
    if (now_ms >= lane->drain_until_ms)
        return true;
    return flight_count(lane->flight, FLIGHT_INFLIGHT) == 0 && lane_is_settled(lane) &&
           flight_count(lane->flight, FLIGHT_DOOMED) == 0;
}

static void drain(struct lane *lane, uint64_t now_ms)
{
    struct obx_err err = {0};
    enum obx_code rc = keep_lease(lane, now_ms, &err);

    if (rc == OBX_OK)
        rc = finish_rows(lane, now_ms, &err);
    if (!survives(lane, rc, &err) || !is_drained(lane, now_ms))
        return;
    if (lease_release(&lane->lease, lane->db, &err) != OBX_OK)
        OBX_LOG(LOG_LVL_WARN, "lane", "lease.not_released", KV_STR("outbox", lane->opts.outbox),
                KV_ERR(&err));
    set_state(lane, LANE_STOPPED);
}

/* ---- the turn ---- */

/* The first trouble there is; the broker's counts while the lane has the lease. */
static const char *worst_trouble(const struct lane *lane)
{
    for (int i = 0; i < TROUBLES; i++) {
        if (lane->trouble[i][0] != '\0')
            return lane->trouble[i];
    }
    if (lane->publisher != NULL && bridge_publisher_state(lane->publisher) != BRIDGE_UP)
        return bridge_publisher_trouble(lane->publisher)->text;
    return "";
}

/* A lease under our own name that we do not hold is one in doubt: its COMMIT was not answered, or
 * it was lost and not yet taken back. Nobody works until it has run out. */
static bool is_served(const struct lane *lane)
{
    const struct lease *lease = &lane->lease;

    return lane->state == LANE_OWNER ||
           (lease->seen_owner[0] != '\0' && strcmp(lease->seen_owner, lease->opts.owner) != 0);
}

static void fill_stats(struct lane *lane)
{
    struct reader_stats reader = {0};
    struct lane_stats *stats = &lane->stats;

    reader_get_stats(lane->reader, &reader);
    stats->state = lane->state;
    stats->lease_epoch = lane->lease.epoch;
    (void)snprintf(stats->lease_owner, sizeof(stats->lease_owner), "%s", lane->lease.seen_owner);
    stats->is_served = is_served(lane);
    (void)snprintf(stats->lease_address, sizeof(stats->lease_address), "%s",
                   lane->lease.seen_address);
    (void)snprintf(stats->trouble, sizeof(stats->trouble), "%s", worst_trouble(lane));
    stats->read = reader.rows;
    stats->late = reader.late;
    stats->polls = reader.polls;
    stats->resumed = lane->requests.resumed;
    stats->discarded = lane->requests.discarded;
    stats->awaited = lane->awaiting.moved;
    stats->receipts_early = lane->awaiting.settled_at_once + lane->overdue.found;
    stats->resent = lane->overdue.resends;
    stats->receipts_missing = lane->overdue.parked;
    stats->rejected = lane->awaiting.rejected + lane->overdue.rejected;
    stats->delayed_moved = lane->delayed.moved;
    stats->delayed_backdated = lane->delayed.backdated;
    stats->delayed_stray = lane->delayed.stray;
    stats->queries = lane->past_statements + (lane->db == NULL ? 0 : db_statements(lane->db));
    stats->inflight = flight_count(lane->flight, FLIGHT_INFLIGHT);
    stats->held = flight_count(lane->flight, FLIGHT_WAITING);
    stats->retrying = flight_count(lane->flight, FLIGHT_RETRYING);
    stats->unsettled = flight_count(lane->flight, FLIGHT_CONFIRMED);
    fill_broker_stats(lane);
}

static void show_stats(struct lane *lane)
{
    fill_stats(lane);
    (void)pthread_mutex_lock(&lane->stats_lock);
    lane->shared = lane->stats;
    (void)pthread_mutex_unlock(&lane->stats_lock);
}

static void do_state(struct lane *lane, uint64_t now_ms)
{
    bool drain_wanted = atomic_load(&lane->drain_wanted);

    switch (lane->state) {
    case LANE_STARTING:
    case LANE_DB_DOWN:
        if (drain_wanted)
            set_state(lane, LANE_STOPPED);
        else if (now_ms >= lane->db_due_ms)
            connect_db(lane);
        break;
    case LANE_STANDBY:
        if (drain_wanted)
            set_state(lane, LANE_STOPPED);
        else
            stand_by(lane, now_ms);
        break;
    case LANE_OWNER:
        if (drain_wanted)
            start_drain(lane, now_ms);
        else
            own(lane, now_ms);
        break;
    case LANE_DRAINING:
        drain(lane, now_ms);
        break;
    case LANE_STOPPED:
        break;
    }
}

void lane_turn(struct lane *lane)
{
    if (atomic_load(&lane->stop_wanted)) {
        set_state(lane, LANE_STOPPED);
    } else {
        if (lane->publisher == NULL)
            open_publisher(lane);
        if (lane->publisher != NULL)
            service_publisher(lane);
        do_state(lane, clock_now_ms());
    }
    show_stats(lane);
}

void lane_end(struct lane *lane)
{
    lane->is_dropping = true;
    bridge_publisher_destroy(lane->publisher);
    lane->publisher = NULL;
    flight_clear(lane->flight);
    close_db(lane);
    db_thread_end();
    show_stats(lane);
}

/* ---- waiting ---- */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Microseconds at which the owner has something to do. */
static uint64_t owner_due_us(const struct lane *lane)
{
    uint64_t due_ms = lane->lease.renew_due_ms;
    uint64_t due_us = UINT64_MAX;

    for (int side = 0; side < SIDES; side++) {
        if (!is_side_choked(lane, (enum lane_side)side))
            due_ms = min_u64(due_ms, lane->side_due_ms[side]);
    }
    due_ms = min_u64(due_ms, flight_next_due_ms(lane->flight));
    due_ms = min_u64(due_ms, lane_settle_due_ms(lane));
    if (flight_count(lane->flight, FLIGHT_DOOMED) > 0)
        due_ms = min_u64(due_ms, lane->park_after_ms);
    if (due_ms < UINT64_MAX / US_PER_MS)
        due_us = due_ms * US_PER_MS;
    if (lane_can_publish(lane))
        return 0;
    if (wants_rows(lane)) {
        if (atomic_load(&lane->rung))
            return 0;
        due_us = min_u64(due_us, min_u64(lane->poll_due_us, reader_next_due_us(lane->reader)));
    }
    return due_us;
}

static uint64_t state_due_us(const struct lane *lane)
{
    switch (lane->state) {
    case LANE_STARTING:
    case LANE_DB_DOWN:
        return lane->db_due_ms * US_PER_MS;
    case LANE_STANDBY:
        return lane->lease_due_ms * US_PER_MS;
    case LANE_OWNER:
        return owner_due_us(lane);
    case LANE_DRAINING:
        return (clock_now_ms() + STANDBY_SOON_MS) * US_PER_MS;
    case LANE_STOPPED:
        break;
    }
    return 0;
}

int lane_wait_ms(const struct lane *lane)
{
    uint64_t now_us = clock_now_us();
    uint64_t due_us = state_due_us(lane);
    uint64_t wait_ms = 0;

    if (due_us > now_us)
        wait_ms = (due_us - now_us + US_PER_MS - 1) / US_PER_MS;
    if (lane->publisher != NULL)
        wait_ms = min_u64(wait_ms,
                          (uint64_t)clock_left_ms(bridge_publisher_next_due_ms(lane->publisher)));
    return (int)min_u64(wait_ms, WAIT_MAX_MS);
}
