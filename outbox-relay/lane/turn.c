/*
 * The lane's state machine, and what an owner does in a turn. See turn.h.
 *
 * The order within a turn follows from latency: look at confirms, publish what may go, read,
 * publish again; the commits (settle, park, requests) come last, because each blocks the thread for
 * some milliseconds.
 */
#include "turn.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "lane/failures.h"
#include "lane/rights.h"
#include "sql/schema.h"

enum {
    US_PER_MS = 1000,
    DB_RETRY_MIN_MS = 100,
    DB_RETRY_CAP_MS = 5000,
    STANDBY_LOOK_MS = 1000,
    STANDBY_SOON_MS = 20,
    RETRY_SOON_MS = 100,
    STABLE_MS = 5000,
    IDLE_PART = 8, /* the pause between polls grows to this part of the time since the last row */
    WAIT_MAX_MS = 1000,
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

const char *lane_state_name(enum lane_state state)
{
    static const char *const names[] = {
        [LANE_STARTING] = "starting", [LANE_STANDBY] = "standby",   [LANE_OWNER] = "owner",
        [LANE_DB_DOWN] = "db_down",   [LANE_DRAINING] = "draining", [LANE_STOPPED] = "stopped",
    };

    return (size_t)state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

/* The only place where the state changes. A standby's numbers of rows are another's to give. */
static void set_state(struct turn *turn, enum lane_state state)
{
    if (turn->state == state)
        return;
    OBX_ASSERT((edges[turn->state] & 1U << state) != 0);
    OBX_LOG(LOG_LVL_INFO, "lane", "state", KV_STR("source", turn->opts->source),
            KV_STR("outbox", turn->opts->outbox), KV_STR("from", lane_state_name(turn->state)),
            KV_STR("to", lane_state_name(state)), KV_U64("epoch", turn->parts.lease.epoch));
    turn->state = state;
    if (state == LANE_STANDBY)
        sides_forget_counts(&turn->parts.sides);
}

/* ---- losing what it stands on ---- */

/* Everything in memory was true only as long as nobody else wrote. */
static void lose_lease(struct turn *turn, const char *why)
{
    OBX_LOG(LOG_LVL_WARN, "lane", "lease.lost", KV_STR("outbox", turn->opts->outbox),
            KV_U64("epoch", turn->parts.lease.epoch), KV_STR("why", why));
    lease_drop(&turn->parts.lease);
    turn->lease_lost++;
    parts_reset(&turn->parts);
    turn->lease_due_ms = 0;
    set_state(turn, turn->state == LANE_DRAINING ? LANE_STOPPED : LANE_STANDBY);
}

static void close_db(struct turn *turn)
{
    if (turn->db != NULL)
        turn->past_statements += db_statements(turn->db);
    db_close(turn->db);
    turn->db = NULL;
    turn->parts.store.db = NULL;
}

/* The lease goes too: its row stays ours, and is taken back by its epoch after the next connect. */
static void lose_db(struct turn *turn, const struct obx_err *err)
{
    conditions_set(&turn->parts.conditions, CONDITION_DB, err->text);
    close_db(turn);
    lease_drop(&turn->parts.lease);
    parts_reset(&turn->parts);
    turn->db_due_ms = clock_now_ms() + backoff_next_ms(&turn->db_backoff);
    set_state(turn, turn->state == LANE_DRAINING ? LANE_STOPPED : LANE_DB_DOWN);
}

/* What a failed job means for the lane. True: the turn can go on. */
static bool survives(struct turn *turn, enum obx_code rc, const struct obx_err *err)
{
    if (rc == OBX_OK)
        return true;
    if (rc == OBX_E_LEASE_LOST) {
        lose_lease(turn, err->text);
        return false;
    }
    if (failure_is_transient(rc)) {
        conditions_set(&turn->parts.conditions, CONDITION_ROW, err->text);
        return true;
    }
    lose_db(turn, err);
    return false;
}

/* ---- connecting, standing by ---- */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Rows go from one table to the next as they are: a date of 0, or of a 31st of February, that an
 * application's session has let in, or an id of 0, is not refused on its way. */
static const char sql_mode[] =
    "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,STRICT_ALL_TABLES,ALLOW_INVALID_DATES,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO'";

static void connect_db(struct turn *turn)
{
    struct obx_err err = {0};
    enum obx_code rc = db_open(&turn->opts->db, &turn->db, &err);

    turn->parts.store.db = turn->db;
    if (rc == OBX_OK)
        rc = db_exec_text(turn->db, bytes_of(sql_mode), NULL, &err);
    if (rc == OBX_OK)
        rc = durable_ask(&turn->parts.durable, turn->db, &err);
    if (rc == OBX_OK)
        rc = schema_check(turn->db, SCHEMA_PRODUCER, &err);
    if (rc == OBX_OK && turn->opts->journal)
        rc = schema_check(turn->db, SCHEMA_JOURNAL, &err);
    if (rc != OBX_OK) {
        lose_db(turn, &err);
        return;
    }
    turn->db_connects++;
    turn->lease_due_ms = 0;
    set_state(turn, LANE_STANDBY);
}

/* Nothing is published before it is known that it can be settled, and which keys are frozen. */
static void become_owner(struct turn *turn)
{
    struct lane_parts *parts = &turn->parts;
    struct obx_err err = {0};
    enum obx_code rc = rights_check(&parts->settle, turn->db, &err);

    if (rc == OBX_OK)
        rc = parking_load(&parts->parking, turn->db, &err);
    if (rc == OBX_OK && turn->opts->receipt_queue != NULL)
        rc = receipt_keys_load(&parts->publish.receipt_keys, turn->db, &err);
    if (rc != OBX_OK) {
        lose_db(turn, &err);
        return;
    }
    turn->lease_acquired++;
    turn->owner_since_ms = clock_now_ms();
    turn->poll_due_us = 0;
    turn->last_row_us = clock_now_us();
    sides_begin(&parts->sides);
    set_state(turn, LANE_OWNER);
}

static void stand_by(struct turn *turn, uint64_t now_ms)
{
    struct lease *lease = &turn->parts.lease;
    struct obx_err err = {0};
    bool acquired = false;
    uint64_t wait_ms = 0;
    enum obx_code rc = OBX_OK;

    /* Its owner rings when it gives the lane away. */
    if (atomic_exchange(&turn->signals->rung, false))
        turn->lease_due_ms = min_u64(turn->lease_due_ms, turn->looked_ms + STANDBY_SOON_MS);
    if (now_ms < turn->lease_due_ms)
        return;
    turn->looked_ms = now_ms;
    /* Not for ever: who is to have it may be unable to. */
    lease->patience_ms = atomic_load(&turn->signals->is_elsewhere) ? turn->opts->lease_ms : 0;
    rc = lease_try(lease, turn->db, &acquired, &err);
    if (rc != OBX_OK && !failure_is_transient(rc)) {
        lose_db(turn, &err);
        return;
    }
    if (acquired) {
        become_owner(turn);
        return;
    }
    backoff_reset(&turn->db_backoff);
    conditions_set(&turn->parts.conditions, CONDITION_DB, NULL);
    wait_ms = lease->patience_ms > 0 && lease->free_since_ms != 0
                  ? STANDBY_LOOK_MS
                  : lease->free_in_ms + STANDBY_SOON_MS;
    turn->lease_due_ms = now_ms + (wait_ms < STANDBY_LOOK_MS ? wait_ms : STANDBY_LOOK_MS);
}

/* ---- an owner's jobs ---- */

static uint64_t us_of(uint64_t ms)
{
    return ms < UINT64_MAX / US_PER_MS ? ms * US_PER_MS : UINT64_MAX;
}

static uint64_t lease_due(const struct turn *turn)
{
    return us_of(min_u64(turn->parts.lease.renew_due_ms, turn->parts.lease.held_until_ms));
}

/* A lease that has expired by our clock is not lost yet: a renewal that finds owner and epoch as
 * they were says that nobody has had it in between, so what is in memory still holds. Without this
 * a statement that takes longer than the lease would be run again for ever. */
static enum obx_code keep_lease(struct turn *turn, struct obx_err *err)
{
    uint64_t now_ms = clock_now_ms();
    bool is_held = lease_holds(&turn->parts.lease, now_ms);
    enum obx_code rc = durable_renew(&turn->parts.durable, turn->db, err);

    if (!failure_is_transient(rc))
        return rc;
    if (!is_held)
        return obx_fail(err, OBX_E_LEASE_LOST, "not renewed in time");
    turn->parts.lease.renew_due_ms = now_ms + RETRY_SOON_MS;
    return OBX_OK; /* until it has expired for us */
}

static uint64_t retries_due(const struct turn *turn)
{
    return us_of(flight_next_due_ms(turn->parts.flight));
}

/* Has its own job, so that a retry is no later because nothing else happens. */
static enum obx_code take_retries(struct turn *turn, struct obx_err *err)
{
    (void)err;
    (void)flight_take_due(turn->parts.flight, clock_now_ms());
    return OBX_OK;
}

static uint64_t publish_due(const struct turn *turn)
{
    return publish_can(&turn->parts.publish) ? us_of(durable_due_ms(&turn->parts.durable))
                                             : UINT64_MAX;
}

static enum obx_code publish_rows(struct turn *turn, struct obx_err *err)
{
    return publish_burst(&turn->parts.publish, err);
}

/* A read is worth its while when half of what may be ready is gone. */
static uint64_t read_due(const struct turn *turn)
{
    const struct lane_parts *parts = &turn->parts;

    if (flight_room(parts->flight) < turn->opts->batch_rows ||
        settle_is_full(&parts->settle, SETTLE_PLAIN) || flight_is_back_pressured(parts->flight))
        return UINT64_MAX;
    if (atomic_load(&turn->signals->rung))
        return 0;
    return min_u64(turn->poll_due_us, reader_next_due_us(parts->reader));
}

/* Polls that find nothing take at most half of the time, however far away the database is. */
static void plan_poll(struct turn *turn, const struct reader_result *result, uint64_t began_us)
{
    uint64_t now_us = clock_now_us();
    uint64_t pause_us = 0;
    uint64_t min_us = us_of(turn->opts->poll_min_ms);
    uint64_t max_us = us_of(turn->opts->poll_max_ms);

    if (result->is_full) {
        turn->last_row_us = now_us;
        turn->poll_due_us = now_us;
        return;
    }
    if (result->new_rows > 0)
        turn->last_row_us = now_us;
    pause_us = (now_us - turn->last_row_us) / IDLE_PART;
    if (pause_us < min_us)
        pause_us = min_us;
    if (pause_us > max_us)
        pause_us = max_us;
    if (result->new_rows == 0 && pause_us < now_us - began_us)
        pause_us = now_us - began_us;
    turn->poll_due_us = now_us + pause_us;
}

static enum obx_code read_rows(struct turn *turn, struct obx_err *err)
{
    struct reader_result result = {.new_rows = 0};
    uint64_t now_us = clock_now_us();
    enum obx_code rc = OBX_OK;

    if (atomic_exchange(&turn->signals->rung, false)) {
        turn->poll_due_us = now_us;
        sides_ring(&turn->parts.sides, now_us / US_PER_MS);
    }
    if (now_us >= turn->poll_due_us) {
        rc = reader_poll(turn->parts.reader, &result, err);
        plan_poll(turn, &result, now_us);
        if (rc == OBX_OK && result.new_rows > 0)
            OBX_CRASH_POINT("lane-read");
    }
    if (rc == OBX_OK && now_us >= reader_next_due_us(turn->parts.reader))
        rc = reader_service(turn->parts.reader, err);
    return rc;
}

static uint64_t settle_due(const struct turn *turn)
{
    return us_of(settle_due_ms(&turn->parts.settle));
}

/* A settle that went through says more of the database than any read. */
static enum obx_code settle_rows(struct turn *turn, struct obx_err *err)
{
    uint64_t before = turn->parts.settle.settled;
    enum obx_code rc = settle_run(&turn->parts.settle, turn->db, err);

    if (turn->parts.settle.settled > before)
        backoff_reset(&turn->db_backoff); /* leased, read and written: it is well */
    return rc;
}

static uint64_t park_due(const struct turn *turn)
{
    return us_of(park_due_ms(&turn->parts.park));
}

static enum obx_code park_rows(struct turn *turn, struct obx_err *err)
{
    return park_run(&turn->parts.park, turn->db, err);
}

static uint64_t sides_due(const struct turn *turn)
{
    return us_of(sides_due_ms(&turn->parts.sides));
}

static enum obx_code run_sides(struct turn *turn, struct obx_err *err)
{
    uint64_t moved = turn->parts.delayed.moved;
    enum obx_code rc = sides_run(&turn->parts.sides, turn->db, err);

    if (turn->parts.delayed.moved > moved)
        turn->poll_due_us = 0;
    return rc;
}

/* In the order of a turn. A draining lane reads and publishes nothing new. */
static const struct lane_job {
    uint64_t (*next_due_us)(const struct turn *turn);
    enum obx_code (*run)(struct turn *turn, struct obx_err *err);
    bool is_for_draining;
} jobs[] = {
    {lease_due, keep_lease, true},      {retries_due, take_retries, false},
    {publish_due, publish_rows, false}, {read_due, read_rows, false},
    {publish_due, publish_rows, false}, {settle_due, settle_rows, true},
    {park_due, park_rows, true},        {sides_due, run_sides, false},
};
enum { JOBS = sizeof(jobs) / sizeof(jobs[0]) };

/* False: the lane is no owner any more. *all_well: nothing failed. */
static bool run_jobs(struct turn *turn, bool *all_well)
{
    *all_well = true;
    for (size_t i = 0; i < JOBS; i++) {
        struct obx_err err = {0};
        enum obx_code rc = OBX_OK;

        if (turn->state == LANE_DRAINING && !jobs[i].is_for_draining)
            continue;
        if (clock_now_us() < jobs[i].next_due_us(turn))
            continue;
        rc = jobs[i].run(turn, &err);
        if (!survives(turn, rc, &err))
            return false;
        *all_well = *all_well && rc == OBX_OK;
    }
    return true;
}

/* The waits between connections begin at the shortest again only after some time as owner, or a
 * settle: a table that cannot be read, or settled, shows so only then. */
static void own(struct turn *turn)
{
    bool all_well = false;

    if (!run_jobs(turn, &all_well) || !all_well)
        return;
    conditions_set(&turn->parts.conditions, CONDITION_ROW, NULL);
    conditions_set(&turn->parts.conditions, CONDITION_DB, NULL);
    if (clock_now_ms() >= turn->owner_since_ms + STABLE_MS)
        backoff_reset(&turn->db_backoff);
}

/* ---- draining ---- */

/* What is refused and waits by itself is left: it would wait longer than a drain may take. */
static bool is_drained(const struct turn *turn)
{
    const struct flight *flight = turn->parts.flight;

    if (clock_now_ms() >= turn->drain_until_ms)
        return true;
    return flight_count(flight, FLIGHT_INFLIGHT) == 0 && settle_is_done(&turn->parts.settle) &&
           flight_count(flight, FLIGHT_TO_PARK) == 0;
}

static void drain(struct turn *turn)
{
    struct obx_err err = {0};
    bool all_well = false;

    if (!run_jobs(turn, &all_well) || !is_drained(turn))
        return;
    if (lease_release(&turn->parts.lease, turn->db, &err) != OBX_OK)
        OBX_LOG(LOG_LVL_WARN, "lane", "lease.not_released", KV_STR("outbox", turn->opts->outbox),
                KV_ERR(&err));
    set_state(turn, LANE_STOPPED);
}

/* ---- the turn ---- */

static void run_state(struct turn *turn, uint64_t now_ms)
{
    bool drain_wanted = atomic_load(&turn->signals->drain_wanted);

    switch (turn->state) {
    case LANE_STARTING:
    case LANE_DB_DOWN:
        if (drain_wanted)
            set_state(turn, LANE_STOPPED);
        else if (now_ms >= turn->db_due_ms)
            connect_db(turn);
        break;
    case LANE_STANDBY:
        if (drain_wanted)
            set_state(turn, LANE_STOPPED);
        else
            stand_by(turn, now_ms);
        break;
    case LANE_OWNER:
        if (!drain_wanted) {
            own(turn);
            break;
        }
        turn->drain_until_ms = now_ms + turn->opts->drain_ms;
        set_state(turn, LANE_DRAINING);
        settle_last_call(&turn->parts.settle);
        break;
    case LANE_DRAINING:
        drain(turn);
        break;
    case LANE_STOPPED:
        break;
    }
}

void turn_run(struct turn *turn)
{
    if (atomic_load(&turn->signals->stop_wanted)) {
        set_state(turn, LANE_STOPPED);
        return;
    }
    publish_open(&turn->parts.publish);
    publish_service(&turn->parts.publish);
    run_state(turn, clock_now_ms());
}

void turn_end(struct turn *turn)
{
    publish_close(&turn->parts.publish);
    flight_clear(turn->parts.flight);
    close_db(turn);
    db_thread_end();
}

int turn_fd(const struct turn *turn)
{
    const struct bridge_publisher *publisher = turn->parts.publish.publisher;

    return publisher == NULL ? -1 : bridge_publisher_fd(publisher);
}

static uint64_t due_us(const struct turn *turn)
{
    uint64_t due = UINT64_MAX;

    switch (turn->state) {
    case LANE_STARTING:
    case LANE_DB_DOWN:
        return us_of(turn->db_due_ms);
    case LANE_STANDBY:
        return us_of(turn->lease_due_ms);
    case LANE_OWNER:
        for (size_t i = 0; i < JOBS; i++)
            due = min_u64(due, jobs[i].next_due_us(turn));
        return due;
    case LANE_DRAINING:
        return us_of(clock_now_ms() + STANDBY_SOON_MS);
    case LANE_STOPPED:
        break;
    }
    return 0;
}

/* Rounded up: a wait that ends a moment too early would be followed by a turn for nothing. */
int turn_wait_ms(const struct turn *turn)
{
    const struct bridge_publisher *publisher = turn->parts.publish.publisher;
    uint64_t now_us = clock_now_us();
    uint64_t due = due_us(turn);
    uint64_t wait_ms = due > now_us ? (due - now_us - 1) / US_PER_MS + 1 : 0;

    if (publisher != NULL)
        wait_ms =
            min_u64(wait_ms, (uint64_t)clock_left_ms(bridge_publisher_next_due_ms(publisher)));
    return (int)min_u64(wait_ms, WAIT_MAX_MS);
}

/* ---- numbers ---- */

/* The first condition there is; the broker's counts while the lane has the lease. */
static const char *worst_condition(const struct turn *turn)
{
    const struct bridge_publisher *publisher = turn->parts.publish.publisher;
    const char *text = conditions_first(&turn->parts.conditions);

    if (text != NULL)
        return text;
    if (publisher != NULL && bridge_publisher_state(publisher) != BRIDGE_UP)
        return bridge_publisher_trouble(publisher)->text;
    return "";
}

/* A lease under our own name that we do not hold is one in doubt: its COMMIT was not answered, or
 * it was lost and not yet taken back. Nobody works until it has run out. */
static bool is_served(const struct turn *turn)
{
    const struct lease *lease = &turn->parts.lease;

    return turn->state == LANE_OWNER ||
           (lease->seen_owner[0] != '\0' && strcmp(lease->seen_owner, lease->opts.owner) != 0);
}

static void fill_owner(const struct turn *turn, struct lane_stats *out)
{
    const struct lease *lease = &turn->parts.lease;

    out->lease_epoch = lease->epoch;
    out->is_served = is_served(turn);
    (void)snprintf(out->lease_owner, sizeof(out->lease_owner), "%s", lease->seen_owner);
    (void)snprintf(out->lease_address, sizeof(out->lease_address), "%s", lease->seen_address);
    (void)snprintf(out->trouble, sizeof(out->trouble), "%s", worst_condition(turn));
    out->lease_acquired = turn->lease_acquired;
    out->lease_lost = turn->lease_lost;
    out->db_connects = turn->db_connects;
    out->queries = turn->past_statements + (turn->db == NULL ? 0 : db_statements(turn->db));
}

static void fill_rows(const struct lane_parts *parts, struct lane_stats *out)
{
    struct reader_stats reader = {0};

    reader_get_stats(parts->reader, &reader);
    out->read = reader.rows;
    out->late = reader.late;
    out->polls = reader.polls;
    out->settled = parts->settle.settled;
    out->parked = parts->settle.parked + parts->park.parked;
    out->resumed = parts->requests.resumed;
    out->discarded = parts->requests.discarded;
    out->awaited = parts->awaiting.moved;
    out->receipts_early = parts->awaiting.settled_at_once + parts->overdue.found;
    out->resent = parts->overdue.resends;
    out->receipts_missing = parts->overdue.parked;
    out->rejected = parts->awaiting.rejected + parts->overdue.rejected;
    out->delayed_moved = parts->delayed.moved;
    out->delayed_backdated = parts->delayed.backdated;
    out->delayed_stray = parts->delayed.stray;
    out->inflight = flight_count(parts->flight, FLIGHT_INFLIGHT);
    out->held = flight_count(parts->flight, FLIGHT_WAITING);
    out->retrying = flight_count(parts->flight, FLIGHT_RETRYING);
    out->unsettled = flight_count(parts->flight, FLIGHT_CONFIRMED);
}

/* A topic that has come back by silence is seen here, because no answer of it comes any more. */
static void fill_broker(struct publish *publish, struct lane_stats *out)
{
    struct publish_broker broker;

    publish_expire_route(publish, clock_now_ms());
    publish_get_broker(publish, &broker);
    out->broker_state = broker.state;
    out->broker_connects = broker.connects;
    out->broker_blocked = broker.blocked;
    out->published = publish->stats.published;
    out->packs = publish->stats.packs;
    out->confirmed = publish->stats.confirmed;
    out->returned = publish->stats.returned;
    out->nacked = publish->stats.nacked;
    out->unknown = publish->stats.unknown;
    out->exchange_faults = publish->stats.exchange_faults;
}

void turn_get_stats(struct turn *turn, struct lane_stats *out)
{
    const struct outbox_counts *counts = &turn->parts.sides.counts;

    memset(out, 0, sizeof(*out));
    out->state = turn->state;
    fill_broker(&turn->parts.publish, out); /* first: it may clear a condition */
    fill_owner(turn, out);
    fill_rows(&turn->parts, out);
    out->waiting = counts->waiting;
    out->waiting_capped = counts->waiting >= SIDES_COUNT_CAP;
    out->oldest_age_us = counts->oldest_age_us;
    out->parked_now = counts->parked;
    out->frozen_keys = counts->frozen;
    out->awaiting_now = counts->awaiting;
    out->delayed_now = counts->delayed;
}

/* ---- life ---- */

enum obx_code turn_init(struct turn *turn, const struct lane_outside *outside,
                        struct turn_signals *signals, struct obx_err *err)
{
    turn->opts = outside->opts;
    turn->signals = signals;
    turn->state = LANE_STARTING;
    backoff_init(&turn->db_backoff, DB_RETRY_MIN_MS, DB_RETRY_CAP_MS);
    return parts_init(&turn->parts, outside, err);
}

void turn_fini(struct turn *turn)
{
    parts_fini(&turn->parts);
}
