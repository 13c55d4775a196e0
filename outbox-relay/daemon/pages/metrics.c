/*
 * Which metrics there are, and where their numbers lie. The counters and gauges of lanes, receipts
 * and the doorbell come from the lists that make their structs too. Called by admin.c.
 */
#include "metrics.h"

#include <stddef.h>

#include "base/alloc.h"
#include "daemon/receipts_role.h"
#include "metrics_half.h"
#include "readiness.h"
#include "service/prometheus.h"

#define LANE_COUNTER(member, help)                                                                 \
    PROM_ROW(struct lane_view, stats.member, "rowpost_" #member "_total", "counter", help),
#define LANE_GAUGE(member, metric, help)                                                           \
    PROM_ROW(struct lane_view, stats.member, metric, "gauge", help),
#define BELL_COUNTER(member, help)                                                                 \
    PROM_ROW(struct bell_stats, member, "rowpost_doorbell_" #member "_total", "counter", help),
#define RECEIPTS_NUMBER(member, metric, type, help)                                                \
    PROM_ROW(struct receipts_view, stats.member, metric, type, help),

static const struct prom_row lane_rows[] = {
    LANE_COUNTERS(LANE_COUNTER) LANE_GAUGES(LANE_GAUGE)
        PROM_ROW(struct lane_view, stats.lease_epoch, "rowpost_lease_epoch", "gauge",
                 "Epoch of the lease while it is ours, else 0."),
    PROM_ROW(struct lane_view, starts, "rowpost_lane_starts", "gauge",
             "Threads started for this lane so far; it grows when a lane fails."),
};
static const struct prom_row bell_rows[] = {BELL_COUNTERS(BELL_COUNTER)};
static const struct prom_row receipts_rows[] = {RECEIPTS_NUMBERS(RECEIPTS_NUMBER)};
#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* ---- lanes ---- */

/* A figure that is no member of the lane's numbers. */
typedef uint64_t lane_value_fn(const struct lane_view *lane);

static uint64_t is_capped(const struct lane_view *lane)
{
    return lane->stats.waiting_capped;
}

static uint64_t is_ready(const struct lane_view *lane)
{
    char reason[OBX_ERR_TEXT_MAX];

    return lane_view_is_ready(lane, reason, sizeof(reason));
}

static uint64_t has_lease(const struct lane_view *lane)
{
    return lane->stats.lease_epoch != 0;
}

static uint64_t is_broker_up(const struct lane_view *lane)
{
    return lane->stats.broker_state == BRIDGE_UP || lane->stats.broker_state == BRIDGE_BLOCKED;
}

static uint64_t is_broker_blocked(const struct lane_view *lane)
{
    return lane->stats.broker_state == BRIDGE_BLOCKED;
}

static const struct {
    const char *name, *help;
    lane_value_fn *value;
} lane_flags[] = {
    {"rowpost_rows_waiting_capped",
     "1: there are at least rowpost_rows_waiting rows, counting stopped there.", is_capped},
    {"rowpost_lane_ready", "1: owner at work, or sound standby; /readyz says why not.", is_ready},
    {"rowpost_lease_held", "1: this relay owns the outbox.", has_lease},
    {"rowpost_broker_up", "1: connected to the broker.", is_broker_up},
    {"rowpost_broker_blocked", "1: the broker takes no messages (resource alarm).",
     is_broker_blocked},
};

/* One series for each state, the present one is 1, so that a graph shows states over time. */
static void add_states(struct obx_buf *buf, const struct relay_view *view)
{
    static const enum lane_state states[] = {LANE_STARTING, LANE_STANDBY,  LANE_OWNER,
                                             LANE_DB_DOWN,  LANE_DRAINING, LANE_STOPPED};

    prom_head(buf, "rowpost_lane_state", "gauge", "1 for the state that the lane is in.");
    for (size_t i = 0; i < view->lane_count; i++) {
        const struct lane_view *lane = &view->lanes[i];
        enum lane_state now = lane->slot == SLOT_WAITING ? LANE_STOPPED : lane->stats.state;

        for (size_t k = 0; k < COUNT(states); k++) {
            const struct prom_label labels[] = {{"source", lane->source},
                                                {"outbox", lane->outbox},
                                                {"state", lane_state_name(states[k])},
                                                {NULL, NULL}};

            prom_sample(buf, "rowpost_lane_state", labels, now == states[k]);
        }
    }
}

static void add_lanes(struct obx_buf *buf, const struct relay_view *view,
                      const struct prom_series *series)
{
    const size_t count = view->lane_count;

    prom_table(buf, lane_rows, COUNT(lane_rows), series, count, NULL);
    for (size_t f = 0; f < COUNT(lane_flags); f++) {
        prom_head(buf, lane_flags[f].name, "gauge", lane_flags[f].help);
        for (size_t i = 0; i < count; i++)
            prom_sample(buf, lane_flags[f].name, series[i].labels,
                        lane_flags[f].value(&view->lanes[i]));
    }
    add_states(buf, view);
    prom_head(buf, "rowpost_oldest_age_seconds", "gauge",
              "Age of the oldest row of the outbox by the database's clock; 0: empty.");
    for (size_t i = 0; i < count; i++)
        prom_sample_us(buf, "rowpost_oldest_age_seconds", series[i].labels,
                       view->lanes[i].stats.oldest_age_us);
    prom_head(buf, "rowpost_commit_to_confirm_seconds", "histogram",
              "From the row's created_at, by the database's clock, to the broker's confirm.");
    for (size_t i = 0; i < count; i++)
        prom_sample_hist(buf, "rowpost_commit_to_confirm_seconds", series[i].labels,
                         view->lanes[i].commit_to_confirm);
    prom_head(buf, "rowpost_publish_to_confirm_seconds", "histogram",
              "From the publish to the broker's confirm.");
    for (size_t i = 0; i < count; i++)
        prom_sample_hist(buf, "rowpost_publish_to_confirm_seconds", series[i].labels,
                         view->lanes[i].publish_to_confirm);
}

/* ---- the process ---- */

static void add_relay(struct obx_buf *buf, const struct relay_view *view)
{
    const struct prom_label version[] = {{"version", view->version}, {NULL, NULL}};
    const struct prom_series bell = {.numbers = &view->bell};

    prom_head(buf, "rowpost_build_info", "gauge", "The version that runs; always 1.");
    prom_sample(buf, "rowpost_build_info", version, 1);
    prom_number(buf, "rowpost_ready", "gauge", "1: every lane is ready and the topology is there.",
                relay_view_is_ready(view));
    prom_number(buf, "rowpost_topology_ready", "gauge",
                "1: exchanges and queues are declared or verified, or not to be looked at.",
                view->topology.is_done);
    prom_number(buf, "rowpost_topology_failures_total", "counter",
                "Attempts to declare or verify the topology that failed.", view->topology.failures);
    prom_table(buf, bell_rows, COUNT(bell_rows), &bell, 1, NULL);
    prom_number(buf, "rowpost_reloads_total", "counter", "Reloads that took effect.",
                view->reloads);
    prom_number(buf, "rowpost_reloads_refused_total", "counter",
                "Reloads that were refused because the new configuration is wrong.",
                view->reloads_refused);
    prom_number(buf, "rowpost_restart_needed", "gauge",
                "1: the configuration has changes that only a restart brings into force.",
                view->restart_needed);
    prom_number(buf, "rowpost_http_requests_total", "counter", "HTTP requests.",
                view->http.requests);
}

static void add_fleets(struct obx_buf *buf, const struct relay_view *view)
{
    static const char relays[] = "rowpost_fleet_relays";
    static const char lanes[] = "rowpost_fleet_lanes";

    prom_number(buf, "rowpost_lanes_given_total", "counter",
                "Lanes handed over to other relays that are to have them.", view->given);
    if (view->fleet_count == 0)
        return;
    prom_head(buf, relays, "gauge", "Relays that share the source; 0: not known.");
    for (size_t i = 0; i < view->fleet_count; i++) {
        const struct prom_label source[] = {{"source", view->fleets[i].source}, {NULL, NULL}};

        prom_sample(buf, relays, source, view->fleets[i].view.relays);
    }
    prom_head(buf, lanes, "gauge", "Lanes of the source that this relay is to have.");
    for (size_t i = 0; i < view->fleet_count; i++) {
        const struct prom_label source[] = {{"source", view->fleets[i].source}, {NULL, NULL}};

        prom_sample(buf, lanes, source, view->fleets[i].view.mine);
    }
}

/* The names that every Prometheus client library uses for the process. */
static void add_process(struct obx_buf *buf, const struct process_stats *process)
{
    prom_number(buf, "rowpost_log_lines_dropped_total", "counter",
                "Log lines that nobody took off standard error in time.", process->log_dropped);
    prom_number(buf, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
                process->resident_bytes);
    prom_number_us(buf, "process_cpu_seconds_total", "counter",
                   "Total user and system CPU time spent in seconds.", process->cpu_us);
    prom_number(buf, "process_open_fds", "gauge", "Number of open file descriptors.",
                process->open_fds);
    prom_number(buf, "process_max_fds", "gauge", "Maximum number of open file descriptors.",
                process->max_fds);
    prom_number_us(buf, "process_start_time_seconds", "gauge",
                   "Start time of the process since unix epoch in seconds.",
                   process->started_wall_us);
}

enum obx_code metrics_write(const struct relay_view *view, struct obx_buf *buf)
{
    struct prom_series *lanes = obx_calloc(view->lane_count + 1, sizeof(*lanes));
    struct prom_series *readers = obx_calloc(view->receipts_count + 1, sizeof(*readers));

    if (lanes == NULL || readers == NULL) {
        buf->rc = OBX_E_NOMEM;
        goto out;
    }
    for (size_t i = 0; i < view->lane_count; i++)
        lanes[i] = (struct prom_series){
            .labels = {{"source", view->lanes[i].source}, {"outbox", view->lanes[i].outbox}},
            .numbers = &view->lanes[i]};
    for (size_t i = 0; i < view->receipts_count; i++)
        readers[i] = (struct prom_series){.labels = {{"source", view->receipts[i].source}},
                                          .numbers = &view->receipts[i]};
    add_relay(buf, view);
    add_process(buf, &view->process);
    add_lanes(buf, view, lanes);
    add_fleets(buf, view);
    if (view->half != NULL)
        metrics_half_write(view->half, buf);
    prom_table(buf, receipts_rows, COUNT(receipts_rows), readers, view->receipts_count, NULL);
out:
    obx_free(lanes);
    obx_free(readers);
    return buf->rc;
}
