/*
 * A lane's thread, and the calls that others make on it. See lane.h; docs/adr/0002-lane.md has the
 * design.
 */
#include "lane_private.h"

#include <poll.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"

enum {
    NAME_MAX_LEN = 64,
    DEFAULT_WINDOW = 2000,
    DEFAULT_BATCH_ROWS = 1000,
    DEFAULT_INLINE_BYTES = 16 * 1024,
    DEFAULT_BODY_BYTES = 16 * 1024 * 1024,
    DEFAULT_SETTLE_ROWS = 1000,
    DEFAULT_SETTLE_AGE_MS = 100,
    DEFAULT_POLL_MIN_MS = 2,
    DEFAULT_POLL_MAX_MS = 50,
    DEFAULT_SWEEP_MS = 1000,
    DEFAULT_LEASE_MS = 10000,
    DEFAULT_TRIES = 10,
    DEFAULT_RETRY_MIN_MS = 200,
    DEFAULT_RETRY_CAP_MS = 30000,
    DEFAULT_CONFIRM_MS = 30000,
    DEFAULT_DRAIN_MS = 10000,
    DB_RETRY_MIN_MS = 100,
    DB_RETRY_CAP_MS = 5000,
    READY_BATCHES = 2,
    MAX_WAITING = 10000,
    MAX_KEY_WAITING = 2000,
    MAX_RETRYING = 4096,
    MAX_TOPIC_RETRYING = 256,
    MAX_DOOMED = 2000,
    MAX_HOLLOW_KEYS = 4096,
    DEFAULT_RECEIPT_MS = 60 * 1000,
    DEFAULT_RECEIPT_CAP_MS = 3600 * 1000,
    DEFAULT_SENDS = 20,
    DEFAULT_DELAYED_MS = 500,
    DEFAULT_JOURNAL_MS = 7 * 24 * 3600 * 1000,
    MAX_ROW_BYTES = 8 * 1024 * 1024,
    BATCH_BYTES = 4 * 1024 * 1024,
    US_PER_MS = 1000,
};

const char *lane_state_name(enum lane_state state)
{
    static const char *const names[] = {
        [LANE_STARTING] = "starting", [LANE_STANDBY] = "standby",   [LANE_OWNER] = "owner",
        [LANE_DB_DOWN] = "db_down",   [LANE_DRAINING] = "draining", [LANE_STOPPED] = "stopped",
    };

    return (size_t)state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

/* ---- creation ---- */

static void set_default(uint32_t *field, uint32_t value)
{
    if (*field == 0)
        *field = value;
}

static void fill_defaults(struct lane_opts *opts)
{
    if (opts->exchange == NULL)
        opts->exchange = "rowpost";
    set_default(&opts->window, DEFAULT_WINDOW);
    set_default(&opts->key_window, 1);
    set_default(&opts->batch_rows, DEFAULT_BATCH_ROWS);
    set_default(&opts->inline_bytes, DEFAULT_INLINE_BYTES);
    set_default(&opts->max_body_bytes, DEFAULT_BODY_BYTES);
    set_default(&opts->settle_max_rows, DEFAULT_SETTLE_ROWS);
    set_default(&opts->settle_max_age_ms, DEFAULT_SETTLE_AGE_MS);
    set_default(&opts->poll_min_ms, DEFAULT_POLL_MIN_MS);
    set_default(&opts->poll_max_ms, DEFAULT_POLL_MAX_MS);
    set_default(&opts->sweep_ms, DEFAULT_SWEEP_MS);
    set_default(&opts->lease_ms, DEFAULT_LEASE_MS);
    set_default(&opts->max_attempts, DEFAULT_TRIES);
    set_default(&opts->retry_min_ms, DEFAULT_RETRY_MIN_MS);
    set_default(&opts->retry_cap_ms, DEFAULT_RETRY_CAP_MS);
    set_default(&opts->confirm_timeout_ms, DEFAULT_CONFIRM_MS);
    set_default(&opts->drain_ms, DEFAULT_DRAIN_MS);
    set_default(&opts->receipt_timeout_ms, DEFAULT_RECEIPT_MS);
    set_default(&opts->receipt_cap_ms, DEFAULT_RECEIPT_CAP_MS);
    set_default(&opts->max_sends, DEFAULT_SENDS);
    set_default(&opts->delayed_poll_ms, DEFAULT_DELAYED_MS);
    set_default(&opts->journal_retention_ms, DEFAULT_JOURNAL_MS);
    lease_limit_session(&opts->db, opts->lease_ms);
}

static enum obx_code check_opts(const struct lane_opts *opts, struct obx_err *err)
{
    size_t len = opts->outbox == NULL ? 0 : strlen(opts->outbox);

    if (opts->source == NULL || opts->owner == NULL || opts->owner[0] == '\0')
        return obx_fail(err, OBX_E_INVALID, "a lane needs source, outbox and owner");
    if (len == 0 || len > NAME_MAX_LEN)
        return obx_fail(err, OBX_E_CONFIG, "outbox name of %zu bytes (1 to 64 are allowed)", len);
    if (opts->rule_count >= ROUTE_DEFAULT)
        return obx_fail(err, OBX_E_CONFIG, "%zu topic rules", opts->rule_count);
    return OBX_OK;
}

/* Copies the names, so that the caller need not keep them. */
static enum obx_code copy_names(struct lane *lane, struct obx_err *err)
{
    const char **names[] = {&lane->opts.source,  &lane->opts.outbox,   &lane->opts.owner,
                            &lane->opts.address, &lane->opts.exchange, &lane->opts.receipt_queue};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (*names[i] == NULL)
            continue;
        lane->names[i] = obx_strdup(*names[i]);
        if (lane->names[i] == NULL)
            return obx_fail(err, OBX_E_NOMEM, "lane");
        *names[i] = lane->names[i];
    }
    return OBX_OK;
}

static enum obx_code store_forward(void *ctx, uint64_t from, uint32_t limit,
                                   struct row_batch *batch, struct obx_err *err)
{
    struct lane *lane = ctx;
    const size_t had = batch->count;
    enum obx_code rc = outbox_store_forward(&lane->store, from, limit, batch, err);

    lane->is_unsure = lane->is_unsure || batch->count > had;
    return rc;
}

static enum obx_code store_behind(void *ctx, const struct id_range *ranges, size_t range_count,
                                  uint32_t limit, struct row_batch *batch, struct obx_err *err)
{
    struct lane *lane = ctx;
    const size_t had = batch->count;
    enum obx_code rc = outbox_store_behind(&lane->store, ranges, range_count, limit, batch, err);

    lane->is_unsure = lane->is_unsure || batch->count > had;
    return rc;
}

static enum obx_code store_snapshot(void *ctx, bool on, struct obx_err *err)
{
    struct lane *lane = ctx;

    return outbox_store_snapshot(&lane->store, on, err);
}

static enum obx_code mark_frozen(void *ctx, struct row_batch *batch, struct obx_err *err)
{
    struct lane *lane = ctx;

    return parking_mark(&lane->parking, lane->db, batch, err);
}

static uint64_t store_now_us(void *ctx)
{
    (void)ctx;
    return clock_now_us();
}

static void on_shed(uint64_t id, struct obx_bytes key, void *ctx)
{
    struct lane *lane = ctx;

    reader_pass_over(lane->reader, id, key);
}

static enum obx_code create_flight(struct lane *lane, struct obx_err *err)
{
    const struct flight_opts opts = {.key_window = lane->opts.key_window,
                                     .max_ready = lane->opts.batch_rows * READY_BATCHES,
                                     .max_waiting = MAX_WAITING,
                                     .max_key_waiting = MAX_KEY_WAITING,
                                     .max_retrying = MAX_RETRYING,
                                     .max_topic_retrying = MAX_TOPIC_RETRYING,
                                     .max_doomed = MAX_DOOMED,
                                     .max_hollow_keys = MAX_HOLLOW_KEYS,
                                     .max_bytes = MAX_ROW_BYTES,
                                     .on_shed = on_shed,
                                     .ctx = lane};

    return flight_create(&opts, &lane->flight, err);
}

static enum obx_code create_reader(struct lane *lane, struct obx_err *err)
{
    const struct reader_store store = {.forward = store_forward,
                                       .behind = store_behind,
                                       .snapshot = store_snapshot,
                                       .mark_frozen = mark_frozen,
                                       .now_us = store_now_us,
                                       .ctx = lane};
    const struct reader_opts opts = {.batch_rows = lane->opts.batch_rows,
                                     .batch_bytes = BATCH_BYTES,
                                     .sweep_us = (uint64_t)lane->opts.sweep_ms * US_PER_MS};

    return reader_create(&opts, &store, lane->flight, &lane->reader, err);
}

static enum obx_code create_journal(struct lane *lane, const char *table, struct obx_err *err)
{
    const struct journal_opts opts = {.outbox = lane->opts.outbox,
                                      .table = table,
                                      .lease = &lane->lease,
                                      .retention_ms = lane->opts.journal_retention_ms};

    return journal_init(&lane->journal, &opts, err);
}

/* What deals with messages that wait: for receipts, or for their time. */
static enum obx_code create_waiting(struct lane *lane, const char *table, struct obx_err *err)
{
    const struct awaiting_opts opts = {.outbox = lane->opts.outbox,
                                       .table = table,
                                       .lease = &lane->lease,
                                       .journal = lane->opts.journal ? &lane->journal : NULL,
                                       .timeout_ms = lane->opts.receipt_timeout_ms,
                                       .cap_ms = lane->opts.receipt_cap_ms,
                                       .max_sends = lane->opts.max_sends};
    enum obx_code rc = awaiting_init(&lane->awaiting, &opts, err);

    if (rc == OBX_OK)
        rc = overdue_init(&lane->overdue, &lane->awaiting, err);
    if (rc == OBX_OK)
        rc = delayed_init(&lane->delayed, lane->opts.outbox, table, &lane->lease, err);
    return rc;
}

/* The parts that read and write, in the order in which they lean on each other. */
static enum obx_code create_parts(struct lane *lane, struct obx_err *err)
{
    const struct lane_opts *opts = &lane->opts;
    const struct lease_opts lease = {.kind = LEASE_OUTBOX,
                                     .name = opts->outbox,
                                     .owner = opts->owner,
                                     .address = opts->address,
                                     .lease_ms = opts->lease_ms};
    const char *table = NULL;
    enum obx_code rc = OBX_OK;

    lease_init(&lane->lease, &lease);
    rc = outbox_store_init(&lane->store, opts->outbox, opts->inline_bytes, err);
    if (rc != OBX_OK)
        return rc;
    table = lane->store.table.data;
    rc = create_flight(lane, err);
    if (rc == OBX_OK)
        rc = create_reader(lane, err);
    if (rc == OBX_OK)
        rc = parking_init(&lane->parking, opts->outbox, table, &lane->lease, err);
    if (rc == OBX_OK)
        rc = requests_init(&lane->requests, &lane->parking, lane->reader, lane->flight, table, err);
    if (rc == OBX_OK)
        rc = row_delete_init(&lane->settle_del, table, "id", err);
    if (rc == OBX_OK)
        rc = row_locks_init(&lane->locks, table, err);
    if (rc == OBX_OK)
        rc = create_journal(lane, table, err);
    if (rc == OBX_OK)
        rc = create_waiting(lane, table, err);
    if (rc == OBX_OK)
        rc = envelope_create(opts->source, opts->outbox, &lane->envelope, err);
    if (rc == OBX_OK && opts->receipt_queue != NULL)
        envelope_offer_receipts(lane->envelope, opts->receipt_queue, &lane->receipt_keys);
    return rc;
}

static enum obx_code init_lane(struct lane *lane, const struct lane_opts *opts, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    lane->opts = *opts;
    fill_defaults(&lane->opts);
    lane->state = LANE_STARTING;
    lane->shared.state = LANE_STARTING;
    lane_settling_reset(lane);
    atomic_init(&lane->gate_open, !opts->gated);
    backoff_init(&lane->db_backoff, DB_RETRY_MIN_MS, DB_RETRY_CAP_MS);
    faults_init(&lane->faults, lane->opts.window, lane->opts.retry_min_ms, lane->opts.retry_cap_ms);
    rc = copy_names(lane, err);
    if (rc == OBX_OK)
        rc = create_parts(lane, err);
    return rc == OBX_OK ? wake_init(&lane->wake, err) : rc;
}

enum obx_code lane_create(const struct lane_opts *opts, struct lane **out, struct obx_err *err)
{
    struct lane *lane = NULL;
    enum obx_code rc = check_opts(opts, err);

    *out = NULL;
    if (rc != OBX_OK)
        return rc;
    lane = obx_calloc(1, sizeof(*lane));
    if (lane == NULL)
        return obx_fail(err, OBX_E_NOMEM, "lane");
    lane->wake.fd = -1;
    if (pthread_mutex_init(&lane->stats_lock, NULL) != 0) {
        obx_free(lane);
        return obx_fail(err, OBX_E_SYSTEM, "mutex");
    }
    rc = init_lane(lane, opts, err);
    if (rc != OBX_OK) {
        lane_destroy(lane);
        return rc;
    }
    *out = lane;
    return OBX_OK;
}

void lane_destroy(struct lane *lane)
{
    if (lane == NULL)
        return;
    requests_fini(&lane->requests);
    parking_fini(&lane->parking);
    reader_destroy(lane->reader);
    flight_destroy(lane->flight);
    row_delete_fini(&lane->settle_del);
    row_locks_fini(&lane->locks);
    delayed_fini(&lane->delayed);
    overdue_fini(&lane->overdue);
    awaiting_fini(&lane->awaiting);
    journal_fini(&lane->journal);
    outbox_store_fini(&lane->store);
    envelope_destroy(lane->envelope);
    row_batch_fini(&lane->fetched);
    for (size_t i = 0; i < sizeof(lane->names) / sizeof(lane->names[0]); i++)
        obx_free(lane->names[i]);
    wake_fini(&lane->wake);
    (void)pthread_mutex_destroy(&lane->stats_lock);
    obx_free(lane);
}

/* ---- the thread ---- */

static void wait_for_work(struct lane *lane)
{
    struct pollfd fds[2] = {{.fd = lane->wake.fd, .events = POLLIN}, {.fd = -1}};
    int wait_ms = lane_wait_ms(lane);

    if (lane->publisher != NULL) {
        fds[1].fd = bridge_publisher_fd(lane->publisher);
        fds[1].events = POLLIN;
    }
    if (poll(fds, 2, wait_ms) > 0 && (fds[0].revents & POLLIN) != 0)
        (void)wake_clear(&lane->wake);
}

static void *run(void *ctx)
{
    struct lane *lane = ctx;

    lane_turn(lane);
    while (lane->state != LANE_STOPPED) {
        wait_for_work(lane);
        lane_turn(lane);
    }
    lane_end(lane);
    return NULL;
}

enum obx_code lane_start(struct lane *lane, struct obx_err *err)
{
    return thread_start(&lane->thread, run, lane, lane->opts.outbox, err);
}

void lane_join(struct lane *lane)
{
    thread_join(&lane->thread);
}

/* ---- calls from other threads ---- */

void lane_ring(struct lane *lane)
{
    atomic_store(&lane->rung, true);
    wake_up(&lane->wake);
}

void lane_open_gate(struct lane *lane)
{
    atomic_store(&lane->gate_open, true);
    wake_up(&lane->wake);
}

void lane_drain(struct lane *lane)
{
    atomic_store(&lane->drain_wanted, true);
    wake_up(&lane->wake);
}

void lane_stop(struct lane *lane)
{
    atomic_store(&lane->stop_wanted, true);
    wake_up(&lane->wake);
}

const char *lane_source(const struct lane *lane)
{
    return lane->opts.source;
}

const char *lane_outbox(const struct lane *lane)
{
    return lane->opts.outbox;
}

void lane_get_stats(struct lane *lane, struct lane_stats *out)
{
    (void)pthread_mutex_lock(&lane->stats_lock);
    *out = lane->shared;
    (void)pthread_mutex_unlock(&lane->stats_lock);
}

const struct hist *lane_hist_commit_to_confirm(const struct lane *lane)
{
    return &lane->commit_to_confirm;
}

const struct hist *lane_hist_publish_to_confirm(const struct lane *lane)
{
    return &lane->publish_to_confirm;
}
