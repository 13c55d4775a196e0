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

/* That can record, and call when it is its turn: one that stands by is ready. */
static bool add_http_state(struct obx_buf *buf, const struct pages *pages)
{
    struct obx_consumer_stats stats = {0};
    struct obx_err broker = {0}, database = {0};
    struct keeper_view keeper = {0};
    bool is_ready;

    obx_consumer_get_stats(pages->opts.consumer, &stats, sizeof(stats));
    obx_consumer_get_last_errors(pages->opts.consumer, &broker, &database);
    keeper_get_view(pages->opts.keeper, &keeper);
    is_ready = stats.broker_up && stats.databases_up > 0 &&
               (keeper.state == KEEPER_STANDBY || keeper.state == KEEPER_OWNER);
    buf_addf(buf, "broker: %s%s\ndatabase: %s%s\ncalls: %s%s%s\n", stats.broker_up ? "up" : "down ",
             broker.text, stats.databases_up > 0 ? "up" : "down ", database.text,
             keeper_state_name(keeper.state), keeper.trouble[0] == '\0' ? "" : ", ",
             keeper.trouble);
    return is_ready;
}

/* Stores, and files: without the filer receipts and cleanup stand still. */
static bool add_inbox_state(struct obx_buf *buf, struct inbox *inbox)
{
    struct obx_consumer_stats stats = {0};
    struct obx_err broker = {0}, database = {0};
    struct inbox_view view = {0};

    obx_consumer_get_stats(inbox_consumer(inbox), &stats, sizeof(stats));
    obx_consumer_get_last_errors(inbox_consumer(inbox), &broker, &database);
    inbox_get_view(inbox, &view);
    buf_addf(buf, "queue %s: broker %s%s, database %s%s, filing %s%s\n", inbox_queue(inbox),
             stats.broker_up ? "up" : "down ", broker.text, stats.databases_up > 0 ? "up" : "down ",
             database.text, view.is_connected ? "up" : "down ", view.trouble);
    return stats.broker_up && stats.databases_up > 0 && view.is_connected;
}

static enum obx_code get_readyz(struct http_reply *reply, void *ctx)
{
    const struct pages *pages = ctx;
    struct obx_buf states = {0};
    bool is_ready = pages->opts.consumer == NULL || add_http_state(&states, pages);

    for (size_t i = 0; i < pages->opts.inbox_count; i++)
        is_ready = add_inbox_state(&states, pages->opts.inboxes[i]) && is_ready;
    if (!is_ready)
        reply->status = UNAVAILABLE;
    buf_add_text(&reply->body, is_ready ? "ready\n" : "not ready\n");
    buf_add(&reply->body, states.data, states.len);
    buf_fini(&states);
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
    /* Other threads write it meanwhile; prom_table's own way would be a race. */
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

#define INBOX(name, type, member, help) PROM_ROW(struct inbox_numbers, member, name, type, help)

/* What is known of one inbox at this moment. */
struct inbox_numbers {
    struct inbox_view view;
    uint64_t broker_up, databases_up, parked_rows;
};

static const struct prom_row inbox_rows[] = {
    INBOX("rowpost_inbox_stored_total", "counter", view.stored,
          "Messages written into the inbox by this process, undone batches included."),
    INBOX("rowpost_inbox_unstored_total", "counter", view.unstored,
          "Of these, those of batches that were undone."),
    INBOX("rowpost_inbox_done_total", "counter", view.filed,
          "Messages done by the service and filed here."),
    INBOX("rowpost_inbox_dead_total", "counter", view.dead,
          "Messages that have become dead: rejected by the service, or out of attempts."),
    INBOX("rowpost_inbox_discarded_total", "counter", view.discarded,
          "Messages discarded by an operator."),
    INBOX("rowpost_inbox_reported_total", "counter", view.reported, "Receipts confirmed."),
    INBOX("rowpost_inbox_reports_given_up_total", "counter", view.reports_given_up,
          "Receipts whose queue is not there."),
    INBOX("rowpost_inbox_released_total", "counter", view.released,
          "Successors made ready here and not by a worker."),
    INBOX("rowpost_inbox_missing_total", "counter", view.missing,
          "Stored messages whose rows are gone though nobody knows whether they were applied."),
    INBOX("rowpost_inbox_wakes_total", "counter", view.wakes, "Datagrams sent to workers."),
    INBOX("rowpost_inbox_wakes_refused_total", "counter", view.wakes_refused,
          "Datagrams that a worker's socket did not take, most often for want of rights."),
    INBOX("rowpost_inbox_ready", "gauge", view.ready,
          "Rows that may be taken, retries to come included, at the last count, at most 10000."),
    INBOX("rowpost_inbox_blocked", "gauge", view.blocked,
          "Rows that wait for an earlier one of their key, counted up to the same limit."),
    INBOX("rowpost_inbox_dead_rows", "gauge", view.dead_rows,
          "Dead rows, counted up to the same limit."),
    INBOX("rowpost_inbox_parked_rows", "gauge", parked_rows,
          "Messages in inbox_parked: they could not be stored yet, or not at all."),
    INBOX("rowpost_inbox_broker_up", "gauge", broker_up, "1 while consuming."),
    INBOX("rowpost_inbox_databases_up", "gauge", databases_up, "Connections that store."),
};

static void read_inbox(struct inbox *inbox, struct inbox_numbers *numbers)
{
    struct obx_consumer_stats stats = {0};

    inbox_get_view(inbox, &numbers->view);
    obx_consumer_get_stats(inbox_consumer(inbox), &stats, sizeof(stats));
    numbers->broker_up = stats.broker_up;
    numbers->databases_up = stats.databases_up;
    numbers->parked_rows = stats.parked_rows;
}

static enum obx_code add_inboxes(struct obx_buf *buf, const struct pages *pages)
{
    const size_t count = pages->opts.inbox_count;
    struct inbox_numbers *numbers = obx_calloc(count, sizeof(*numbers));
    struct prom_series *series = obx_calloc(count, sizeof(*series));

    for (size_t i = 0; i < count && numbers != NULL && series != NULL; i++) {
        read_inbox(pages->opts.inboxes[i], &numbers[i]);
        series[i] = (struct prom_series){.labels = {{"queue", inbox_queue(pages->opts.inboxes[i])}},
                                         .numbers = &numbers[i]};
    }
    if (numbers == NULL || series == NULL) {
        obx_free(numbers);
        obx_free(series);
        return OBX_E_NOMEM;
    }
    prom_table(buf, inbox_rows, sizeof(inbox_rows) / sizeof(inbox_rows[0]), series, count, NULL);
    prom_head(buf, "rowpost_inbox_oldest_ready_seconds", "gauge",
              "How long the first row that may be taken has waited at the last count.");
    for (size_t i = 0; i < count; i++)
        prom_sample_us(buf, "rowpost_inbox_oldest_ready_seconds", series[i].labels,
                       numbers[i].view.oldest_ready_us);
    obx_free(numbers);
    obx_free(series);
    return buf->rc;
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
    prom_number(&reply->body, "rowpost_notify_log_lines_dropped_total", "counter",
                "Log lines that nobody took off standard error in time.", log_dropped());
    if (pages->opts.consumer != NULL) {
        add_process(&reply->body, pages);
        add_outlets(&reply->body, series, outlets->count);
    }
    obx_free(series);
    return pages->opts.inbox_count == 0 ? reply->body.rc : add_inboxes(&reply->body, pages);
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
