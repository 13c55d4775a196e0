/*
 * Composition of the running relay, its phases and its timer. What each piece does is in its own
 * file.
 *
 *     RUNNING   lanes are started and kept                      next: DRAINING (first signal)
 *     DRAINING  lanes end on their own after their confirms     next: STOPPING (too long), DONE
 *     STOPPING  lanes have to end at once                       next: DONE, or the process ends without them
 *     DONE      no lane is left; the loop ends
 */
#include "daemon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "alert.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/random.h"
#include "config/version.h"
#include "console_role.h"
#include "daemon/doorbell/doorbell.h"
#include "daemon/pages/admin.h"
#include "daemon/pages/readiness.h"
#include "fleet_role.h"
#include "half_role.h"
#include "notify.h"
#include "process_stats.h"
#include "receipts_role.h"
#include "relay.h"
#include "reload.h"
#include "service/signals.h"

enum {
    HOUSEKEEPING_MS = 1000,
    STOP_GRACE_MS = 3000,
    STOPPING_TURN_MS = 20,
    ALERT_TIMEOUT_MS = 5000,
    LOG_FLUSH_MS = 500,
    OWNER_MAX = 129,
    HOST_MAX = 64,
    US_PER_MS = 1000,
    MS_PER_S = 1000,
    WATCHDOG_PARTS = 3, /* pings within one watchdog period */
};

enum phase { PHASE_RUNNING, PHASE_DRAINING, PHASE_STOPPING, PHASE_DONE };

struct daemon {
    struct daemon_opts opts;
    struct relay_config *config; /* in force; reference */
    char owner[OWNER_MAX];
    enum phase phase;
    struct event_base *base;
    struct notify *notify;
    struct signals *signals;
    struct topology_task *topology;
    struct relay *relay;
    struct doorbell *doorbell;
    struct admin *admin;
    struct console_role *console; /* NULL: not configured */
    struct half_role *half;       /* NULL: not configured */
    struct half_view half_view;
    struct receipts_role *receipts;
    struct fleet_role *fleets;
    struct alert *alert; /* NULL: not configured */
    struct event *half_event;
    struct event *turn_event;
    struct event *bell_event;
    struct event *topology_event;
    struct event *fleet_event;
    uint64_t started_ms;
    uint64_t started_wall_us;
    uint64_t housekeeping_due_ms;
    uint64_t stop_due_ms;      /* PHASE_STOPPING: when to end without the lanes */
    struct broker_counts seen; /* of the lanes, at the last look */
    bool is_ready_reported;
    struct reload_counts reloads;
};

static void arm(struct event *event, uint32_t ms)
{
    const struct timeval delay = {.tv_sec = ms / MS_PER_S,
                                  .tv_usec = (suseconds_t)(ms % MS_PER_S) * US_PER_MS};

    event_add(event, &delay);
}

static void fill_view(struct relay_view *view, void *ctx)
{
    struct daemon *daemon = ctx;

    view->owner = daemon->owner;
    view->version = OBX_VERSION;
    view->lanes = relay_lane_views(daemon->relay, &view->lane_count);
    topology_task_view(daemon->topology, &view->topology);
    if (daemon->doorbell != NULL)
        doorbell_get_stats(daemon->doorbell, &view->bell);
    relay_pass_counts(daemon->relay, &view->bell.passed_on, &view->bell.pass_failed);
    if (daemon->admin != NULL)
        admin_get_stats(daemon->admin, &view->http);
    if (daemon->half != NULL) {
        half_role_view(daemon->half, &daemon->half_view);
        view->half = &daemon->half_view;
    }
    if (daemon->receipts != NULL)
        view->receipts = receipts_role_views(daemon->receipts, &view->receipts_count);
    if (daemon->fleets != NULL)
        view->fleets = fleet_role_views(daemon->fleets, &view->fleet_count);
    view->given = relay_given(daemon->relay);
    process_stats_read(&view->process);
    view->process.started_wall_us = daemon->started_wall_us;
    view->uptime_us = (clock_now_ms() - daemon->started_ms) * US_PER_MS;
    view->reloads = daemon->reloads.taken;
    view->reloads_refused = daemon->reloads.refused;
    view->restart_needed = daemon->reloads.restart_needed;
    view->is_stopping = daemon->phase != PHASE_RUNNING;
}

/* Reports to the service manager: ready once, and in words whenever that changes. */
static void report_to_manager(struct daemon *daemon, const struct relay_view *view)
{
    char summary[2 * OBX_ERR_TEXT_MAX];
    bool is_ready = false;

    if (daemon->notify == NULL)
        return;
    is_ready = relay_view_summary(view, summary, sizeof(summary));
    notify_status(daemon->notify, summary);
    if (!daemon->is_ready_reported && is_ready) {
        daemon->is_ready_reported = true;
        notify_ready(daemon->notify);
    }
    notify_watchdog(daemon->notify);
}

/* A broker that was away may have come back without exchanges and queues; and somebody may delete
 * an exchange under a connection that lives. */
static void repeat_topology(struct daemon *daemon)
{
    struct broker_counts counts;

    relay_broker_counts(daemon->relay, &counts);
    if ((counts.connects > daemon->seen.connects && daemon->seen.connects > 0) ||
        counts.exchange_faults > daemon->seen.exchange_faults)
        topology_task_repeat(daemon->topology);
    daemon->seen = counts;
}

static void housekeep(struct daemon *daemon, uint64_t now_ms)
{
    struct relay_view view = {0};
    uint64_t watchdog_ms = notify_watchdog_us(daemon->notify) / US_PER_MS / WATCHDOG_PARTS;

    if (now_ms < daemon->housekeeping_due_ms)
        return;
    daemon->housekeeping_due_ms =
        now_ms + (watchdog_ms > 0 && watchdog_ms < HOUSEKEEPING_MS ? watchdog_ms : HOUSEKEEPING_MS);
    if (daemon->phase == PHASE_RUNNING)
        repeat_topology(daemon);
    if (daemon->alert == NULL && daemon->notify == NULL)
        return;
    fill_view(&view, daemon);
    alert_look(daemon->alert, &view);
    report_to_manager(daemon, &view);
}

/* The lanes have had their time. Leaving them is safe: what they have not settled is published
 * again. */
static void leave_at_once(const char *why)
{
    OBX_LOG(LOG_LVL_WARN, "daemon", "exit.at_once", KV_STR("why", why));
    log_flush(LOG_FLUSH_MS);
    _exit(EXIT_FAILURE);
}

static void end_phase(struct daemon *daemon, uint64_t now_ms)
{
    if (daemon->phase == PHASE_RUNNING)
        return;
    if (relay_is_idle(daemon->relay) && receipts_role_is_idle(daemon->receipts) &&
        fleet_role_is_idle(daemon->fleets)) {
        daemon->phase = PHASE_DONE;
        event_base_loopbreak(daemon->base);
    } else if (now_ms >= daemon->stop_due_ms && daemon->phase == PHASE_DRAINING) {
        daemon->phase = PHASE_STOPPING;
        daemon->stop_due_ms = now_ms + STOP_GRACE_MS;
        relay_stop(daemon->relay);
    } else if (now_ms >= daemon->stop_due_ms) {
        leave_at_once(
            "a lane, a reader of receipts or the fleet waits for a server that does not answer");
    }
}

static void on_turn(evutil_socket_t fd, short what, void *ctx)
{
    struct daemon *daemon = ctx;
    uint32_t next_ms;
    uint64_t now_ms;

    (void)fd;
    (void)what;
    next_ms = relay_turn(daemon->relay);
    receipts_role_turn(daemon->receipts);
    fleet_role_turn(daemon->fleets);
    now_ms = clock_now_ms();
    housekeep(daemon, now_ms);
    end_phase(daemon, now_ms);
    if (daemon->phase != PHASE_RUNNING && next_ms > STOPPING_TURN_MS)
        next_ms = STOPPING_TURN_MS;
    if (daemon->housekeeping_due_ms < now_ms + next_ms)
        next_ms = (uint32_t)(daemon->housekeeping_due_ms - now_ms);
    arm(daemon->turn_event, next_ms);
}

static void on_terminate(int signal_number, void *ctx)
{
    struct daemon *daemon = ctx;

    if (daemon->phase != PHASE_RUNNING)
        leave_at_once("second signal");
    OBX_LOG(LOG_LVL_INFO, "daemon", "stop.begun", KV_I64("signal", signal_number),
            KV_U64("drain_ms", daemon->config->drain_ms));
    daemon->phase = PHASE_DRAINING;
    daemon->stop_due_ms = clock_now_ms() + daemon->config->drain_ms + STOP_GRACE_MS;
    notify_stopping(daemon->notify);
    half_role_stop(daemon->half);
    receipts_role_stop(daemon->receipts);
    fleet_role_apply(daemon->fleets, NULL);
    relay_drain(daemon->relay);
    topology_task_stop(daemon->topology);
    arm(daemon->turn_event, 0);
}

static void on_reload(void *ctx)
{
    struct daemon *daemon = ctx;
    struct reload reload = {.config = &daemon->config,
                            .path = daemon->opts.config_path,
                            .env = daemon->opts.env,
                            .relay = daemon->relay,
                            .topology = daemon->topology,
                            .counts = &daemon->reloads};

    if (daemon->phase != PHASE_RUNNING)
        return;
    /* Before the first READY a reload is part of the start, and must not be taken for its end. */
    if (daemon->is_ready_reported)
        notify_reloading(daemon->notify);
    reload_run(&reload);
    receipts_role_apply(daemon->receipts, daemon->config);
    fleet_role_apply(daemon->fleets, daemon->config);
    if (daemon->is_ready_reported)
        notify_ready(daemon->notify);
    arm(daemon->turn_event, 0);
}

static void on_topology(evutil_socket_t fd, short what, void *ctx)
{
    struct daemon *daemon = ctx;
    struct topology_view view;

    (void)fd;
    (void)what;
    topology_task_take_news(daemon->topology);
    topology_task_view(daemon->topology, &view);
    relay_set_gate(daemon->relay, view.is_open);
}

/* Who is to have which lane has changed: owners act on it in the next turn. */
static void on_fleet(evutil_socket_t fd, short what, void *ctx)
{
    struct daemon *daemon = ctx;

    (void)fd;
    (void)what;
    fleet_role_take_news(daemon->fleets);
    relay_share(daemon->relay, fleet_role_is_elsewhere, daemon->fleets);
    arm(daemon->turn_event, 0);
}

static bool on_ring(const struct bell_msg *msg, void *ctx)
{
    struct daemon *daemon = ctx;

    return relay_ring(daemon->relay, msg);
}

static void flush_rings(void *ctx)
{
    struct daemon *daemon = ctx;
    uint32_t next_ms = relay_flush_rings(daemon->relay);

    if (next_ms != UINT32_MAX)
        arm(daemon->bell_event, next_ms);
}

static void on_bell_due(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    flush_rings(ctx);
}

/* A verdict has put rows into an outbox: its lane looks at once. */
static void on_half_rows(evutil_socket_t fd, short what, void *ctx)
{
    struct daemon *daemon = ctx;
    struct bell_msg msg = {.source = bytes_of(half_role_source(daemon->half)),
                           .outbox = bytes_of(half_role_outbox(daemon->half))};

    (void)fd;
    (void)what;
    half_role_take_ring(daemon->half);
    if (relay_ring(daemon->relay, &msg))
        flush_rings(daemon);
}

static bool pass_on(const char *address, const char *source, const char *outbox, void *ctx)
{
    struct daemon *daemon = ctx;

    return daemon->doorbell != NULL && doorbell_pass_on(daemon->doorbell, address, source, outbox);
}

static void make_owner(struct daemon *daemon)
{
    char host[HOST_MAX + 1] = "localhost";
    const char *name = daemon->config->name;

    if (name == NULL) {
        if (gethostname(host, sizeof(host) - 1) == 0)
            host[HOST_MAX] = '\0';
        name = host;
    }
    snprintf(daemon->owner, sizeof(daemon->owner), "%s:%ld:%08x", name, (long)getpid(),
             (unsigned)random_u64());
}

static enum obx_code start_events(struct daemon *daemon, struct obx_err *err)
{
    const struct signals_opts signals = {
        .base = daemon->base, .on_terminate = on_terminate, .on_reload = on_reload, .ctx = daemon};

    daemon->turn_event = event_new(daemon->base, -1, 0, on_turn, daemon);
    daemon->bell_event = event_new(daemon->base, -1, 0, on_bell_due, daemon);
    daemon->topology_event = event_new(daemon->base, topology_task_fd(daemon->topology),
                                       EV_READ | EV_PERSIST, on_topology, daemon);
    daemon->fleet_event = event_new(daemon->base, fleet_role_fd(daemon->fleets),
                                    EV_READ | EV_PERSIST, on_fleet, daemon);
    if (daemon->turn_event == NULL || daemon->bell_event == NULL ||
        daemon->topology_event == NULL || event_add(daemon->topology_event, NULL) != 0 ||
        daemon->fleet_event == NULL || event_add(daemon->fleet_event, NULL) != 0)
        return obx_fail(err, OBX_E_NOMEM, "events");
    return signals_create(&signals, &daemon->signals, err);
}

static enum obx_code start_doorbell(struct daemon *daemon, struct obx_err *err)
{
    const struct doorbell_opts opts = {.base = daemon->base,
                                       .socket_path = daemon->config->doorbell_socket,
                                       .udp_address = daemon->config->doorbell_address,
                                       .on_ring = on_ring,
                                       .on_turn_end = flush_rings,
                                       .ctx = daemon};

    if (opts.socket_path == NULL && opts.udp_address == NULL)
        return OBX_OK;
    return doorbell_create(&opts, &daemon->doorbell, err);
}

static enum obx_code start_admin(struct daemon *daemon, struct obx_err *err)
{
    struct admin_opts opts = {.http = daemon->config->http,
                              .token = daemon->config->http_token,
                              .get_view = fill_view,
                              .ctx = daemon};

    opts.http.base = daemon->base;
    return opts.http.port == 0 ? OBX_OK : admin_create(&opts, &daemon->admin, err);
}

static enum obx_code start_half(struct daemon *daemon, struct obx_err *err)
{
    const struct half_role_opts opts = {.config = daemon->config, .owner = daemon->owner};
    enum obx_code rc = half_role_create(&opts, &daemon->half, err);

    if (rc != OBX_OK || daemon->half == NULL)
        return rc;
    daemon->half_event = event_new(daemon->base, half_role_fd(daemon->half), EV_READ | EV_PERSIST,
                                   on_half_rows, daemon);
    if (daemon->half_event == NULL || event_add(daemon->half_event, NULL) != 0)
        return obx_fail(err, OBX_E_NOMEM, "events");
    return OBX_OK;
}

static enum obx_code start_alert(struct daemon *daemon, struct obx_err *err)
{
    const struct alert_opts opts = {.url = daemon->config->alert_url,
                                    .owner = daemon->owner,
                                    .interval_ms = daemon->config->alert_interval_ms,
                                    .timeout_ms = ALERT_TIMEOUT_MS};

    return opts.url == NULL ? OBX_OK : alert_create(&opts, &daemon->alert, err);
}

/* The order matters: what can refuse to start comes before the first lane. */
static enum obx_code start(struct daemon *daemon, struct obx_err *err)
{
    const struct relay_opts relay = {.owner = daemon->owner, .pass_on = pass_on, .ctx = daemon};
    enum obx_code rc = topology_task_create(&daemon->topology, err);

    if (rc == OBX_OK)
        rc = relay_create(&relay, &daemon->relay, err);
    if (rc == OBX_OK)
        rc = fleet_role_create(daemon->owner, &daemon->fleets, err);
    if (rc == OBX_OK)
        rc = start_events(daemon, err);
    if (rc == OBX_OK)
        rc = start_doorbell(daemon, err);
    if (rc == OBX_OK)
        rc = start_admin(daemon, err);
    if (rc == OBX_OK)
        rc = start_half(daemon, err);
    if (rc == OBX_OK)
        rc = start_alert(daemon, err);
    if (rc == OBX_OK)
        rc = console_role_create(&(struct console_role_opts){.base = daemon->base,
                                                             .config = &daemon->config,
                                                             .get_view = fill_view,
                                                             .ctx = daemon},
                                 &daemon->console, err);
    if (rc == OBX_OK)
        rc = receipts_role_create(&daemon->receipts, err);
    if (rc == OBX_OK)
        receipts_role_apply(daemon->receipts, daemon->config);
    if (rc == OBX_OK)
        rc = relay_apply(daemon->relay, daemon->config, err);
    if (rc == OBX_OK)
        fleet_role_apply(daemon->fleets, daemon->config);
    if (rc == OBX_OK)
        topology_task_set(daemon->topology, daemon->config);
    return rc;
}

static void on_libevent_log(int severity, const char *text)
{
    OBX_LOG(severity >= EVENT_LOG_WARN ? LOG_LVL_WARN : LOG_LVL_DEBUG, "libevent", "message",
            KV_STR("text", text));
}

static void log_started(const struct daemon *daemon)
{
    OBX_LOG(LOG_LVL_INFO, "daemon", "started", KV_STR("version", OBX_VERSION),
            KV_STR("owner", daemon->owner),
            KV_U64("lanes", relay_config_lane_count(daemon->config)),
            KV_U64("http_port", daemon->config->http.port),
            KV_STR("doorbell",
                   daemon->config->doorbell_socket == NULL ? "" : daemon->config->doorbell_socket));
}

/* Every piece may be missing: a start that failed half-way ends here too. */
static void finish(struct daemon *daemon)
{
    signals_destroy(daemon->signals);
    admin_destroy(daemon->admin);
    console_role_destroy(daemon->console);
    doorbell_destroy(daemon->doorbell);
    if (daemon->half_event != NULL)
        event_free(daemon->half_event);
    half_role_destroy(daemon->half);
    receipts_role_destroy(daemon->receipts);
    alert_destroy(daemon->alert);
    if (daemon->fleet_event != NULL)
        event_free(daemon->fleet_event);
    fleet_role_destroy(daemon->fleets);
    if (daemon->turn_event != NULL)
        event_free(daemon->turn_event);
    if (daemon->bell_event != NULL)
        event_free(daemon->bell_event);
    if (daemon->topology_event != NULL)
        event_free(daemon->topology_event);
    relay_destroy(daemon->relay);
    if (daemon->topology != NULL && daemon->phase == PHASE_DONE &&
        !topology_task_has_ended(daemon->topology)) {
        /* It waits for a broker that does not answer; the process has nothing left to lose. */
        log_flush(LOG_FLUSH_MS);
        _exit(EXIT_SUCCESS);
    }
    topology_task_destroy(daemon->topology);
    event_base_free(daemon->base);
    notify_close(daemon->notify);
    relay_config_unref(daemon->config);
}

enum obx_code daemon_run(const struct daemon_opts *opts, struct obx_err *err)
{
    struct daemon daemon = {.opts = *opts, .phase = PHASE_RUNNING};
    enum obx_code rc;

    event_set_log_callback(on_libevent_log);
    daemon.config = relay_config_ref(opts->config);
    daemon.started_ms = clock_now_ms();
    daemon.started_wall_us = clock_wall_us();
    make_owner(&daemon);
    daemon.base = event_base_new();
    if (daemon.base == NULL) {
        relay_config_unref(daemon.config);
        return obx_fail(err, OBX_E_NOMEM, "event loop");
    }
    daemon.notify = notify_open();
    rc = start(&daemon, err);
    if (rc == OBX_OK) {
        log_started(&daemon);
        arm(daemon.turn_event, 0);
        event_base_dispatch(daemon.base);
        OBX_LOG(LOG_LVL_INFO, "daemon", "stopped", KV_STR("owner", daemon.owner));
    }
    finish(&daemon);
    return rc;
}
