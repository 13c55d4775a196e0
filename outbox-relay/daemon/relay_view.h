/*
 * What the outside sees of a relay at one moment: made by daemon.c on the main thread, read by
 * metrics.c, status.c and readiness.c at once, never kept. All texts and histograms are borrowed.
 */
#ifndef DAEMON_RELAY_VIEW_H
#define DAEMON_RELAY_VIEW_H

#include "fleet/fleet.h"
#include "lane/lane.h"
#include "service/http.h"
#include "topology_task.h"

/** Where a lane stands in the hands of the relay; what it does itself is in its stats. */
enum slot_state {
    SLOT_WAITING, /* has no thread: not started yet, or ended and to be started again. next: RUNNING
                   */
    SLOT_RUNNING, /* has a thread.                                                      next:
                     DRAINING, WAITING (it ended by itself) */
    SLOT_DRAINING, /* asked to drain: removed, changed, or the relay stops.              next:
                      STOPPING, WAITING */
    SLOT_STOPPING  /* drained for too long, asked to stop.                               next:
                      WAITING    */
};
const char *slot_state_name(enum slot_state state);

struct lane_view {
    const char *source;
    const char *outbox;
    enum slot_state slot;
    struct lane_stats stats;               /* all zero without a thread */
    const struct hist *commit_to_confirm;  /* NULL without a thread */
    const struct hist *publish_to_confirm; /* NULL without a thread */
    const char *trouble;                   /* why there is no thread; "" */
    uint64_t starts;                       /* threads started for it so far */
};

/** X(member, help): what the doorbell counts. Each is the metric rowpost_doorbell_<member>_total and
 * a number of /status; docs/operations.md explains them. */
#define BELL_COUNTERS(X)                                                                           \
    X(rings, "Rings that were understood.")                                                        \
    X(malformed, "Datagrams that were no ring.")                                                   \
    X(unknown, "Rings for no lane of this relay.")                                                 \
    X(passed_on, "Rings passed on to the relay that owns the lane.")                               \
    X(pass_failed, "Rings that could not be passed on.")

#define BELL_MEMBER(member, ...) uint64_t member;

struct bell_stats {
    BELL_COUNTERS(BELL_MEMBER)
};

struct process_stats {
    uint64_t resident_bytes;
    uint64_t cpu_us; /* user and system */
    uint64_t open_fds;
    uint64_t max_fds;
    uint64_t log_dropped;     /* lines that nobody took off standard error in time */
    uint64_t started_wall_us; /* since 1970 */
};

struct half_view;
struct receipts_view;

/* How the lanes of one source are shared, see fleet/fleet.h. */
struct source_fleet {
    const char *source;
    struct fleet_view view;
};

struct relay_view {
    const char *owner;
    const char *version;
    const struct lane_view *lanes;
    size_t lane_count;
    struct topology_view topology;
    struct bell_stats bell;
    struct http_stats http;
    const struct half_view *half; /* NULL: no half-messages here */
    const struct receipts_view *receipts;
    size_t receipts_count;
    const struct source_fleet *fleets; /* of the sources that are shared */
    size_t fleet_count;
    uint64_t given; /* lanes handed over to other relays */
    struct process_stats process;
    uint64_t uptime_us;
    uint64_t reloads;         /* that took effect */
    uint64_t reloads_refused; /* that left everything as it was */
    bool restart_needed;      /* the file has changes that only a restart brings into force */
    bool is_stopping;
};

#endif
