/* What the pages say. Called by notifier.c. */
#include "pages.h"

#include <stddef.h>

#include "base/alloc.h"
#include "base/log.h"
#include "service/http_pages.h"
#include "service/prometheus.h"

enum { UNAVAILABLE = 503 };

struct pages {
    struct pages_opts opts;
    struct http_pages *server;
};

static enum obx_code get_healthz(struct http_reply *reply, void *ctx)
{
    (void)ctx;
    return buf_add_text(&reply->body, "ok\n");
}

/* Ready is a process that can record, and call when it is its turn: one that stands by is ready. */
static enum obx_code get_readyz(struct http_reply *reply, void *ctx)
{
    const struct pages *pages = ctx;
    struct obx_consumer_stats stats = {0};
    struct obx_err broker = {0}, database = {0};
    struct keeper_view keeper = {0};
    bool is_ready;

    obx_consumer_get_stats(pages->opts.consumer, &stats, sizeof(stats));
    obx_consumer_get_trouble(pages->opts.consumer, &broker, &database);
    keeper_get_view(pages->opts.keeper, &keeper);
    is_ready = stats.broker_up && stats.databases_up > 0 &&
               (keeper.state == KEEPER_STANDBY || keeper.state == KEEPER_OWNER);
    if (!is_ready)
        reply->status = UNAVAILABLE;
    buf_addf(&reply->body, "%s\nbroker: %s%s\ndatabase: %s%s\ncalls: %s%s%s\n",
             is_ready ? "ready" : "not ready", stats.broker_up ? "up" : "down ", broker.text,
             stats.databases_up > 0 ? "up" : "down ", database.text,
             keeper_state_name(keeper.state), keeper.trouble[0] == '\0' ? "" : ", ",
             keeper.trouble);
    return reply->body.rc;
}

/* ---- metrics ---- */

#define METRIC(name, type, member, help) PROM_ROW(struct outlet, stats.member, name, type, help)

static const struct prom_row outlet_rows[] = {
    METRIC("rowpost_notify_recorded_total", "counter", recorded,
           "Notifications written by handlers of this process, undone batches included."),
    METRIC("rowpost_notify_delivered_total", "counter", delivered, "Calls answered with 2xx."),
    METRIC("rowpost_notify_failed_total", "counter", failed, "Calls that failed."),
    METRIC("rowpost_notify_given_up_total", "counter", given_up,
           "Notifications given up at the end of their schedule."),
    METRIC("rowpost_notify_gone_total", "counter", gone, "Answers 410, which pause the endpoint."),
    METRIC("rowpost_notify_in_flight", "gauge", in_flight, "Calls in flight."),
    METRIC("rowpost_notify_ready", "gauge", ready, "Due notifications in memory."),
    METRIC("rowpost_notify_waiting", "gauge", waiting,
           "Notifications waiting in the table at the last count, at most 10000."),
    METRIC("rowpost_notify_given_up_rows", "gauge", given_up_rows,
           "Notifications given up and kept, counted up to the same limit."),
};

static uint64_t read_atomic(const void *number)
{
    const atomic_uint_fast64_t *value = number;

    return atomic_load(value);
}

static void add_outlets(struct obx_buf *buf, const struct prom_series *series, size_t count)
{
    prom_table(buf, outlet_rows, sizeof(outlet_rows) / sizeof(outlet_rows[0]), series, count,
               read_atomic);
    prom_head(buf, "rowpost_notify_paused", "gauge", "1 while an endpoint is paused.");
    for (size_t i = 0; i < count; i++) {
        const struct outlet *outlet = series[i].numbers;

        prom_sample(buf, "rowpost_notify_paused", series[i].labels,
                    atomic_load(&outlet->stats.is_paused));
    }
    prom_head(buf, "rowpost_notify_breaker", "gauge", "0 closed, 1 open, 2 probing.");
    for (size_t i = 0; i < count; i++) {
        const struct outlet *outlet = series[i].numbers;

        prom_sample(buf, "rowpost_notify_breaker", series[i].labels,
                    atomic_load(&outlet->stats.breaker));
    }
    prom_head(buf, "rowpost_notify_oldest_due_seconds", "gauge",
              "How long the first due notification has been due at the last count.");
    for (size_t i = 0; i < count; i++) {
        const struct outlet *outlet = series[i].numbers;

        prom_sample_us(buf, "rowpost_notify_oldest_due_seconds", series[i].labels,
                       atomic_load(&outlet->stats.oldest_due_us));
    }
    prom_head(buf, "rowpost_notify_call_seconds", "histogram",
              "Time of a call, whatever came of it.");
    for (size_t i = 0; i < count; i++) {
        const struct outlet *outlet = series[i].numbers;

        prom_sample_hist(buf, "rowpost_notify_call_seconds", series[i].labels,
                         &outlet->stats.call_us);
    }
}

static void add_process(struct obx_buf *buf, const struct pages *pages)
{
    struct obx_consumer_stats stats = {0};
    struct keeper_view keeper = {0};

    obx_consumer_get_stats(pages->opts.consumer, &stats, sizeof(stats));
    keeper_get_view(pages->opts.keeper, &keeper);
    prom_number(buf, "rowpost_notify_owner", "gauge", "1 while this process makes the calls.",
                keeper.state == KEEPER_OWNER);
    prom_number(buf, "rowpost_notify_log_lines_dropped_total", "counter",
                "Log lines that nobody took off standard error in time.", log_dropped());
    prom_number(buf, "rowpost_notify_messages_total", "counter",
                "Messages that handlers of this process have taken, undone batches included.",
                atomic_load(&pages->opts.recorder->messages));
    prom_number(buf, "rowpost_notify_unmatched_total", "counter",
                "Of these, messages whose topic no endpoint wants.",
                atomic_load(&pages->opts.recorder->unmatched));
    prom_number(buf, "rowpost_notify_results_total", "counter", "Results of calls written.",
                keeper.recorded);
    prom_number(buf, "rowpost_notify_commits_total", "counter",
                "Transactions in which they were written.", keeper.commits);
    prom_number(buf, "rowpost_notify_broker_up", "gauge", "1 while consuming.", stats.broker_up);
    prom_number(buf, "rowpost_notify_applied_total", "counter", "Messages recorded for good.",
                stats.applied);
    prom_number(buf, "rowpost_notify_dead_lettered_total", "counter",
                "Messages that could not be recorded.", stats.dead_lettered);
}

static enum obx_code get_metrics(struct http_reply *reply, void *ctx)
{
    const struct pages *pages = ctx;
    const struct outlets *outlets = pages->opts.outlets;
    struct prom_series *series = obx_calloc(outlets->count + 1, sizeof(*series));

    if (series == NULL)
        return OBX_E_NOMEM;
    for (size_t i = 0; i < outlets->count; i++)
        series[i] = (struct prom_series){.labels = {{"endpoint", outlets->items[i]->name}},
                                         .numbers = outlets->items[i]};
    reply->content_type = PROM_CONTENT_TYPE;
    add_process(&reply->body, pages);
    add_outlets(&reply->body, series, outlets->count);
    obx_free(series);
    return reply->body.rc;
}

static const struct http_route routes[] = {
    {"/healthz", get_healthz},
    {"/readyz", get_readyz},
    {"/metrics", get_metrics},
};

enum obx_code pages_create(const struct pages_opts *opts, struct pages **out, struct obx_err *err)
{
    struct pages *pages = obx_calloc(1, sizeof(*pages));
    struct http_pages_opts http = {.http = opts->http,
                                   .routes = routes,
                                   .route_count = sizeof(routes) / sizeof(routes[0]),
                                   .ctx = pages};
    enum obx_code rc;

    *out = NULL;
    if (pages == NULL)
        return obx_fail(err, OBX_E_NOMEM, "HTTP pages");
    pages->opts = *opts;
    rc = http_pages_create(&http, &pages->server, err);
    if (rc != OBX_OK) {
        obx_free(pages);
        return rc;
    }
    *out = pages;
    return OBX_OK;
}

void pages_destroy(struct pages *pages)
{
    if (pages == NULL)
        return;
    http_pages_destroy(pages->server);
    obx_free(pages);
}
