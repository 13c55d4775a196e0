/* What the pages say. Called by notifier.c. */
#include "pages.h"

#include <inttypes.h>
#include <stddef.h>

#include "base/alloc.h"
#include "base/log.h"
#include "service/http_pages.h"

enum { UNAVAILABLE = 503 };
#define US_PER_S 1e6

struct pages {
    struct pages_opts opts;
    struct http_pages *server;
};

/* The first failed append makes every later one do nothing; the handler returns rc. */
struct page {
    struct obx_buf *buf;
    enum obx_code rc;
};

OBX_PRINTF(2, 3)
static void addf(struct page *page, const char *fmt, ...)
{
    va_list args;

    if (page->rc != OBX_OK)
        return;
    va_start(args, fmt);
    page->rc = buf_addvf(page->buf, fmt, args);
    va_end(args);
}

static enum obx_code get_healthz(struct http_reply *reply, void *ctx)
{
    (void)ctx;
    return buf_add_text(&reply->body, "ok\n");
}

/* Ready is a process that can record, and call when it is its turn: one that stands by is ready. */
static enum obx_code get_readyz(struct http_reply *reply, void *ctx)
{
    const struct pages *pages = ctx;
    struct page page = {.buf = &reply->body};
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
    addf(&page, "%s\nbroker: %s%s\ndatabase: %s%s\ncalls: %s%s%s\n",
         is_ready ? "ready" : "not ready", stats.broker_up ? "up" : "down ", broker.text,
         stats.databases_up > 0 ? "up" : "down ", database.text, keeper_state_name(keeper.state),
         keeper.trouble[0] == '\0' ? "" : ", ", keeper.trouble);
    return page.rc;
}

/* ---- metrics ---- */

struct outlet_metric {
    const char *name, *type, *help;
    size_t offset;
};
#define METRIC(name, type, member, help)                                                           \
    {                                                                                              \
        name, type, help, offsetof(struct outlet_stats, member)                                    \
    }

static const struct outlet_metric outlet_metrics[] = {
    METRIC("rowpost_notify_recorded_total", "counter", recorded,
           "Notifications written by handlers of this process, undone batches included."),
    METRIC("rowpost_notify_delivered_total", "counter", delivered, "Calls answered with 2xx."),
    METRIC("rowpost_notify_failed_total", "counter", failed, "Calls that failed."),
    METRIC("rowpost_notify_given_up_total", "counter", given_up,
           "Notifications given up at the end of their schedule."),
    METRIC("rowpost_notify_gone_total", "counter", gone, "Answers 410, which pause the endpoint."),
    METRIC("rowpost_notify_in_flight", "gauge", in_flight, "Calls under way."),
    METRIC("rowpost_notify_ready", "gauge", ready, "Due notifications in memory."),
    METRIC("rowpost_notify_waiting", "gauge", waiting,
           "Notifications waiting in the table at the last count, at most 10000."),
    METRIC("rowpost_notify_given_up_rows", "gauge", given_up_rows,
           "Notifications given up and kept, counted alike."),
};

static void add_head(struct page *page, const char *name, const char *type, const char *help)
{
    addf(page, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void add_outlet_metric(struct page *page, const struct pages *pages,
                              const struct outlet_metric *metric)
{
    add_head(page, metric->name, metric->type, metric->help);
    for (size_t i = 0; i < pages->opts.outlets->count; i++) {
        struct outlet *outlet = pages->opts.outlets->items[i];
        const atomic_uint_fast64_t *value =
            (const void *)((const char *)&outlet->stats + metric->offset);

        addf(page, "%s{endpoint=\"%s\"} %" PRIuFAST64 "\n", metric->name, outlet->name,
             atomic_load(value));
    }
}

static void add_states(struct page *page, const struct pages *pages)
{
    add_head(page, "rowpost_notify_paused", "gauge", "1 while an endpoint is paused.");
    for (size_t i = 0; i < pages->opts.outlets->count; i++) {
        const struct outlet *outlet = pages->opts.outlets->items[i];

        addf(page, "rowpost_notify_paused{endpoint=\"%s\"} %d\n", outlet->name,
             atomic_load(&outlet->stats.is_paused));
    }
    add_head(page, "rowpost_notify_breaker", "gauge", "0 closed, 1 open, 2 probing.");
    for (size_t i = 0; i < pages->opts.outlets->count; i++) {
        const struct outlet *outlet = pages->opts.outlets->items[i];

        addf(page, "rowpost_notify_breaker{endpoint=\"%s\"} %u\n", outlet->name,
             atomic_load(&outlet->stats.breaker));
    }
    add_head(page, "rowpost_notify_oldest_due_seconds", "gauge",
             "How long the first due notification has been due at the last count.");
    for (size_t i = 0; i < pages->opts.outlets->count; i++) {
        const struct outlet *outlet = pages->opts.outlets->items[i];

        addf(page, "rowpost_notify_oldest_due_seconds{endpoint=\"%s\"} %.6f\n", outlet->name,
             (double)atomic_load(&outlet->stats.oldest_due_us) / US_PER_S);
    }
}

static void add_times(struct page *page, const struct pages *pages)
{
    static const char name[] = "rowpost_notify_call_seconds";

    add_head(page, name, "histogram", "Time of a call, whatever came of it.");
    for (size_t i = 0; i < pages->opts.outlets->count; i++) {
        const struct outlet *outlet = pages->opts.outlets->items[i];
        struct hist_step step = {.next = 0};
        struct hist_view view;

        hist_snapshot(&outlet->stats.call_us, &view);
        while (hist_walk(&view, &step)) {
            if (step.le_us == UINT64_MAX)
                addf(page, "%s_bucket{endpoint=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name,
                     outlet->name, step.count);
            else
                addf(page, "%s_bucket{endpoint=\"%s\",le=\"%g\"} %" PRIu64 "\n", name, outlet->name,
                     (double)step.le_us / US_PER_S, step.count);
        }
        addf(page, "%s_sum{endpoint=\"%s\"} %.6f\n%s_count{endpoint=\"%s\"} %" PRIu64 "\n", name,
             outlet->name, (double)view.sum_us / US_PER_S, name, outlet->name, view.total);
    }
}

static void add_number(struct page *page, const char *name, const char *type, const char *help,
                       uint64_t value)
{
    add_head(page, name, type, help);
    addf(page, "%s %" PRIu64 "\n", name, value);
}

static void add_process(struct page *page, const struct pages *pages)
{
    struct obx_consumer_stats stats = {0};
    struct keeper_view keeper = {0};

    obx_consumer_get_stats(pages->opts.consumer, &stats, sizeof(stats));
    keeper_get_view(pages->opts.keeper, &keeper);
    add_number(page, "rowpost_notify_owner", "gauge", "1 while this process makes the calls.",
               keeper.state == KEEPER_OWNER);
    add_number(page, "rowpost_notify_log_lines_dropped_total", "counter",
               "Log lines that nobody took off standard error in time.", log_dropped());
    add_number(page, "rowpost_notify_messages_total", "counter",
               "Messages that handlers of this process have taken, undone batches included.",
               atomic_load(&pages->opts.recorder->messages));
    add_number(page, "rowpost_notify_unmatched_total", "counter",
               "Of these, messages whose topic no endpoint wants.",
               atomic_load(&pages->opts.recorder->unmatched));
    add_number(page, "rowpost_notify_results_total", "counter", "Results of calls written.",
               keeper.recorded);
    add_number(page, "rowpost_notify_commits_total", "counter",
               "Transactions in which they were written.", keeper.commits);
    add_number(page, "rowpost_notify_broker_up", "gauge", "1 while consuming.", stats.broker_up);
    add_number(page, "rowpost_notify_applied_total", "counter", "Messages recorded for good.",
               stats.applied);
    add_number(page, "rowpost_notify_dead_lettered_total", "counter",
               "Messages that could not be recorded.", stats.dead_lettered);
}

static enum obx_code get_metrics(struct http_reply *reply, void *ctx)
{
    const struct pages *pages = ctx;
    struct page page = {.buf = &reply->body};

    reply->content_type = "text/plain; version=0.0.4; charset=utf-8";
    add_process(&page, pages);
    for (size_t i = 0; i < sizeof(outlet_metrics) / sizeof(outlet_metrics[0]); i++)
        add_outlet_metric(&page, pages, &outlet_metrics[i]);
    add_states(&page, pages);
    add_times(&page, pages);
    return page.rc;
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
