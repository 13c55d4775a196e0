/*
 * Which metrics there are, as tables, and how they are written. Called by admin.c.
 *
 * The first failed append is kept in metrics_out.rc and makes every later one do nothing, so that a
 * run of appends is checked once, at the end.
 */
#include "metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/hist.h"
#include "metrics_half.h"
#include "metrics_receipts.h"
#include "readiness.h"

enum { US_PER_S = 1000000, LABEL_MAX = 64, NAME_MAX_LEN = 96 };

struct metrics_out {
    struct obx_buf *buf;
    enum obx_code rc;
};

/* A number of struct lane_stats under its name. */
struct lane_metric {
    const char *name;
    const char *help;
    size_t offset;
};
#define LANE_METRIC(name, member, help)                                                            \
    {                                                                                              \
        name, help, offsetof(struct lane_stats, member)                                            \
    }

static const struct lane_metric counters[] = {
    LANE_METRIC("rowpost_read_total", read, "Rows read from the outbox."),
    LANE_METRIC("rowpost_published_total", published,
                "Messages sent to the broker, repetitions included."),
    LANE_METRIC("rowpost_confirmed_total", confirmed,
                "Messages that the broker confirmed as stored."),
    LANE_METRIC("rowpost_returned_total", returned, "Messages returned because no queue is bound."),
    LANE_METRIC("rowpost_nacked_total", nacked, "Messages that the broker refused."),
    LANE_METRIC("rowpost_unknown_total", unknown,
                "Messages whose fate a lost connection left open; they are published again."),
    LANE_METRIC("rowpost_settled_total", settled, "Rows deleted after their confirm."),
    LANE_METRIC("rowpost_parked_total", parked, "Rows moved to outbox_parked."),
    LANE_METRIC("rowpost_resumed_total", resumed,
                "Parked messages moved back by an operator's request."),
    LANE_METRIC("rowpost_discarded_total", discarded,
                "Parked messages deleted by an operator's request."),
    LANE_METRIC("rowpost_late_total", late, "Rows that became visible behind the cursor."),
    LANE_METRIC("rowpost_awaited_total", awaited,
                "Confirmed rows moved to outbox_awaiting, repetitions included."),
    LANE_METRIC("rowpost_receipts_early_total", receipts_early,
                "Rows settled by the lane because their receipts were there."),
    LANE_METRIC("rowpost_resent_total", resent,
                "Messages put back into the outbox for want of receipts."),
    LANE_METRIC("rowpost_receipts_missing_total", receipts_missing,
                "Messages parked for want of receipts after the last send."),
    LANE_METRIC("rowpost_rejected_total", rejected,
                "Messages that a consumer has rejected, settled by the lane."),
    LANE_METRIC("rowpost_delayed_moved_total", delayed_moved, "Delayed messages that became due."),
    LANE_METRIC("rowpost_delayed_backdated_total", delayed_backdated,
                "Delayed messages that were due before they were written."),
    LANE_METRIC("rowpost_lease_acquired_total", lease_acquired, "Times the lease was taken."),
    LANE_METRIC("rowpost_lease_lost_total", lease_lost, "Times the lease was lost."),
    LANE_METRIC("rowpost_db_connects_total", db_connects, "Connections made to the database."),
    LANE_METRIC("rowpost_broker_connects_total", broker_connects,
                "Connections made to the broker."),
    LANE_METRIC("rowpost_broker_blocked_total", broker_blocked,
                "Times the broker blocked publishers."),
    LANE_METRIC("rowpost_polls_total", polls, "Looks at the outbox table."),
    LANE_METRIC("rowpost_queries_total", queries, "Statements sent to the database."),
};

static const struct lane_metric gauges[] = {
    LANE_METRIC("rowpost_lease_epoch", lease_epoch, "Epoch of the lease while it is ours, else 0."),
    LANE_METRIC("rowpost_inflight", inflight, "Messages published and not yet confirmed."),
    LANE_METRIC("rowpost_held", held, "Rows in memory that wait for an earlier one of their key."),
    LANE_METRIC("rowpost_retrying", retrying, "Rows that wait for their next try."),
    LANE_METRIC("rowpost_unsettled", unsettled, "Confirmed rows that are not deleted yet."),
    LANE_METRIC("rowpost_frozen_keys", frozen_keys,
                "Ordering keys frozen behind a parked message."),
    LANE_METRIC("rowpost_rows_waiting", waiting,
                "Rows in the outbox at the last count; see rowpost_rows_waiting_capped."),
    LANE_METRIC("rowpost_awaiting_rows", awaiting_now,
                "Messages that wait for receipts at the last count, capped alike."),
    LANE_METRIC("rowpost_delayed_rows", delayed_now,
                "Delayed messages at the last count, capped alike."),
    LANE_METRIC("rowpost_delayed_stray_rows", delayed_stray,
                "Delayed messages for an outbox that no relay drains, up to 1000."),
    LANE_METRIC("rowpost_parked_rows", parked_now,
                "Parked messages of this outbox at the last count, capped alike."),
};

OBX_PRINTF(2, 3)
static void addf(struct metrics_out *out, const char *fmt, ...)
{
    va_list args;

    if (out->rc != OBX_OK)
        return;
    va_start(args, fmt);
    out->rc = buf_addvf(out->buf, fmt, args);
    va_end(args);
}

static void add_head(struct metrics_out *out, const char *name, const char *type, const char *help)
{
    addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and newline are escaped. */
static void add_escaped(struct metrics_out *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n')
            addf(out, "\\n");
        else if (*text == '"' || *text == '\\')
            addf(out, "\\%c", *text);
        else
            addf(out, "%c", *text);
    }
}

/* name{source="...",outbox="..."<more>} with a blank behind it. */
static void add_series(struct metrics_out *out, const char *name, const struct lane_view *lane,
                       const char *more)
{
    addf(out, "%s{source=\"", name);
    add_escaped(out, lane->source);
    addf(out, "\",outbox=\"");
    add_escaped(out, lane->outbox);
    addf(out, "\"%s} ", more);
}

static uint64_t stat_at(const struct lane_stats *stats, size_t offset)
{
    uint64_t value;

    memcpy(&value, (const char *)stats + offset, sizeof(value));
    return value;
}

static void add_table(struct metrics_out *out, const struct relay_view *view,
                      const struct lane_metric *table, size_t count, const char *type)
{
    for (size_t i = 0; i < count; i++) {
        add_head(out, table[i].name, type, table[i].help);
        for (size_t k = 0; k < view->lane_count; k++) {
            add_series(out, table[i].name, &view->lanes[k], "");
            addf(out, "%" PRIu64 "\n", stat_at(&view->lanes[k].stats, table[i].offset));
        }
    }
}

typedef double lane_value_fn(const struct lane_view *lane);

static void add_lane_gauge(struct metrics_out *out, const struct relay_view *view, const char *name,
                           const char *help, lane_value_fn *value)
{
    add_head(out, name, "gauge", help);
    for (size_t i = 0; i < view->lane_count; i++) {
        add_series(out, name, &view->lanes[i], "");
        addf(out, "%.6g\n", value(&view->lanes[i]));
    }
}

static double is_ready(const struct lane_view *lane)
{
    char reason[OBX_ERR_TEXT_MAX];

    return lane_view_is_ready(lane, reason, sizeof(reason)) ? 1 : 0;
}

static double has_lease(const struct lane_view *lane)
{
    return lane->stats.lease_epoch != 0 ? 1 : 0;
}

static double is_broker_up(const struct lane_view *lane)
{
    return lane->stats.broker_state == BRIDGE_UP || lane->stats.broker_state == BRIDGE_BLOCKED;
}

static double is_broker_blocked(const struct lane_view *lane)
{
    return lane->stats.broker_state == BRIDGE_BLOCKED;
}

static double is_capped(const struct lane_view *lane)
{
    return lane->stats.waiting_capped ? 1 : 0;
}

static double oldest_age_s(const struct lane_view *lane)
{
    return (double)lane->stats.oldest_age_us / US_PER_S;
}

static double starts(const struct lane_view *lane)
{
    return (double)lane->starts;
}

static void add_lane_gauges(struct metrics_out *out, const struct relay_view *view)
{
    add_table(out, view, gauges, sizeof(gauges) / sizeof(gauges[0]), "gauge");
    add_lane_gauge(out, view, "rowpost_rows_waiting_capped",
                   "1: there are at least rowpost_rows_waiting rows, counting stopped there.",
                   is_capped);
    add_lane_gauge(out, view, "rowpost_oldest_age_seconds",
                   "Age of the oldest row of the outbox by the database's clock; 0: empty.",
                   oldest_age_s);
    add_lane_gauge(out, view, "rowpost_lane_ready",
                   "1: owner at work, or sound standby; /readyz says why not.", is_ready);
    add_lane_gauge(out, view, "rowpost_lease_held", "1: this relay owns the outbox.", has_lease);
    add_lane_gauge(out, view, "rowpost_broker_up", "1: connected to the broker.", is_broker_up);
    add_lane_gauge(out, view, "rowpost_broker_blocked",
                   "1: the broker takes no messages (resource alarm).", is_broker_blocked);
    add_lane_gauge(out, view, "rowpost_lane_starts",
                   "Threads started for this lane so far; it grows when a lane fails.", starts);
}

/* One series for each state, the present one is 1, so that a graph shows states over time. */
static void add_states(struct metrics_out *out, const struct relay_view *view)
{
    static const enum lane_state states[] = {LANE_STARTING, LANE_STANDBY,  LANE_OWNER,
                                             LANE_DB_DOWN,  LANE_DRAINING, LANE_STOPPED};
    char label[LABEL_MAX];

    add_head(out, "rowpost_lane_state", "gauge", "1 for the state that the lane is in.");
    for (size_t i = 0; i < view->lane_count; i++) {
        const struct lane_view *lane = &view->lanes[i];
        enum lane_state now = lane->slot == SLOT_WAITING ? LANE_STOPPED : lane->stats.state;

        for (size_t k = 0; k < sizeof(states) / sizeof(states[0]); k++) {
            snprintf(label, sizeof(label), ",state=\"%s\"", lane_state_name(states[k]));
            add_series(out, "rowpost_lane_state", lane, label);
            addf(out, "%d\n", now == states[k]);
        }
    }
}

static void add_buckets(struct metrics_out *out, const char *name, const struct lane_view *lane,
                        const struct hist_view *hist)
{
    struct hist_step step = {0};
    char series[NAME_MAX_LEN];
    char label[LABEL_MAX];

    snprintf(series, sizeof(series), "%s_bucket", name);
    while (hist_walk(hist, &step)) {
        if (step.le_us == UINT64_MAX)
            snprintf(label, sizeof(label), ",le=\"+Inf\"");
        else
            snprintf(label, sizeof(label), ",le=\"%g\"", (double)step.le_us / US_PER_S);
        add_series(out, series, lane, label);
        addf(out, "%" PRIu64 "\n", step.count);
    }
}

static void add_histogram(struct metrics_out *out, const struct relay_view *view, const char *name,
                          const char *help, bool is_from_commit)
{
    char series[NAME_MAX_LEN];

    add_head(out, name, "histogram", help);
    for (size_t i = 0; i < view->lane_count; i++) {
        const struct lane_view *lane = &view->lanes[i];
        const struct hist *hist =
            is_from_commit ? lane->commit_to_confirm : lane->publish_to_confirm;
        struct hist_view now = {0};

        if (hist != NULL)
            hist_snapshot(hist, &now);
        add_buckets(out, name, lane, &now);
        snprintf(series, sizeof(series), "%s_sum", name);
        add_series(out, series, lane, "");
        addf(out, "%" PRIu64 ".%06" PRIu64 "\n", now.sum_us / US_PER_S, now.sum_us % US_PER_S);
        snprintf(series, sizeof(series), "%s_count", name);
        add_series(out, series, lane, "");
        addf(out, "%" PRIu64 "\n", now.total);
    }
}

static void add_u64(struct metrics_out *out, const char *name, const char *type, const char *help,
                    uint64_t value)
{
    add_head(out, name, type, help);
    addf(out, "%s %" PRIu64 "\n", name, value);
}

static void add_seconds(struct metrics_out *out, const char *name, const char *type,
                        const char *help, uint64_t us)
{
    add_head(out, name, type, help);
    addf(out, "%s %" PRIu64 ".%06" PRIu64 "\n", name, us / US_PER_S, us % US_PER_S);
}

static void add_relay(struct metrics_out *out, const struct relay_view *view)
{
    add_head(out, "rowpost_build_info", "gauge", "The version that runs; always 1.");
    addf(out, "rowpost_build_info{version=\"%s\"} 1\n", view->version);
    add_u64(out, "rowpost_ready", "gauge", "1: every lane is ready and the topology is there.",
            relay_view_is_ready(view));
    add_u64(out, "rowpost_topology_ready", "gauge",
            "1: exchanges and queues are declared or verified, or not to be looked at.",
            view->topology.is_done);
    add_u64(out, "rowpost_topology_failures_total", "counter",
            "Attempts to declare or verify the topology that failed.", view->topology.failures);
    add_u64(out, "rowpost_doorbell_rings_total", "counter", "Rings that were understood.",
            view->bell.rings);
    add_u64(out, "rowpost_doorbell_malformed_total", "counter", "Datagrams that were no ring.",
            view->bell.malformed);
    add_u64(out, "rowpost_doorbell_unknown_total", "counter", "Rings for no lane of this relay.",
            view->bell.unknown);
    add_u64(out, "rowpost_doorbell_passed_on_total", "counter",
            "Rings passed on to the relay that owns the lane.", view->bell.passed_on);
    add_u64(out, "rowpost_doorbell_pass_failed_total", "counter",
            "Rings that could not be passed on.", view->bell.pass_failed);
    add_u64(out, "rowpost_reloads_total", "counter", "Reloads that took effect.", view->reloads);
    add_u64(out, "rowpost_reloads_refused_total", "counter",
            "Reloads that were refused because the new configuration is wrong.",
            view->reloads_refused);
    add_u64(out, "rowpost_restart_needed", "gauge",
            "1: the configuration has changes that only a restart brings into force.",
            view->restart_needed);
    add_u64(out, "rowpost_http_requests_total", "counter", "HTTP requests.", view->http.requests);
}

/* The names that every Prometheus client library uses for the process. */
static void add_process(struct metrics_out *out, const struct process_stats *process)
{
    add_u64(out, "rowpost_log_lines_dropped_total", "counter",
            "Log lines that nobody took off standard error in time.", process->log_dropped);
    add_u64(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
            process->resident_bytes);
    add_seconds(out, "process_cpu_seconds_total", "counter",
                "Total user and system CPU time spent in seconds.", process->cpu_us);
    add_u64(out, "process_open_fds", "gauge", "Number of open file descriptors.",
            process->open_fds);
    add_u64(out, "process_max_fds", "gauge", "Maximum number of open file descriptors.",
            process->max_fds);
    add_seconds(out, "process_start_time_seconds", "gauge",
                "Start time of the process since unix epoch in seconds.", process->started_wall_us);
}

enum obx_code metrics_write(const struct relay_view *view, struct obx_buf *buf)
{
    struct metrics_out out = {.buf = buf, .rc = OBX_OK};

    add_relay(&out, view);
    add_process(&out, &view->process);
    add_table(&out, view, counters, sizeof(counters) / sizeof(counters[0]), "counter");
    add_lane_gauges(&out, view);
    add_states(&out, view);
    add_histogram(&out, view, "rowpost_commit_to_confirm_seconds",
                  "From the row's created_at, by the database's clock, to the broker's confirm.",
                  true);
    add_histogram(&out, view, "rowpost_publish_to_confirm_seconds",
                  "From the publish to the broker's confirm.", false);
    if (out.rc == OBX_OK && view->half != NULL)
        out.rc = metrics_half_write(view->half, buf);
    if (out.rc == OBX_OK)
        out.rc = metrics_receipts_write(view->receipts, view->receipts_count, buf);
    return out.rc;
}
