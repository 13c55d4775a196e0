/*
 * What the pages say. Numbers are rows of a table: name, type, where they lie, what they mean. All
 * of it is read from copies and atomics, so that a page never waits for a thread that waits for a
 * database, and answers while the database is away: that is when somebody looks.
 */
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

/* That the main thread turns, and nothing else: a restart does not bring a database back, so the state
 * of others is for /readyz. */
static enum obx_code get_healthz(struct http_reply *reply, void *ctx)
{
    (void)ctx;
    return buf_add_text(&reply->body, "ok\n");
}

/* Up with a reason: batches are undone, or all that is tried fails (workers_pausing). */
static const char *database_state(const struct obx_consumer_stats *stats, const struct obx_err *why)
{
    if (stats->databases_up == 0)
        return "down ";
    return why->text[0] == '\0' ? "up" : "up, ";
}

/* That can record, and call when it is its turn: one that stands by is ready, or an orchestrator
 * would restart it for ever while the owner works. */
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
             broker.text, database_state(&stats, &database), database.text,
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
             stats.broker_up ? "up" : "down ", broker.text, database_state(&stats, &database),
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

/* Members that the table cannot read: smaller types, and one in microseconds. */
static uint64_t is_paused(const struct outlet *outlet)
{
    return atomic_load(&outlet->stats.is_paused);
}

static uint64_t breaker_state(const struct outlet *outlet)
{
    return atomic_load(&outlet->stats.breaker);
}

static uint64_t oldest_due_us(const struct outlet *outlet)
{
    return atomic_load(&outlet->stats.oldest_due_us);
}

static const struct {
    const char *name, *help;
    uint64_t (*value)(const struct outlet *outlet);
    void (*write)(struct obx_buf *buf, const char *name, const struct prom_label *labels,
                  uint64_t value);
} outlet_levels[] = {
    {"rowpost_notify_paused", "1 while an endpoint is paused.", is_paused, prom_sample},
    {"rowpost_notify_breaker", "0 closed, 1 open, 2 probing.", breaker_state, prom_sample},
    {"rowpost_notify_oldest_due_seconds",
     "How long the first due notification has been due at the last count.", oldest_due_us,
     prom_sample_us},
};

static void add_outlets(struct obx_buf *buf, const struct prom_series *series, size_t count)
{
    static const char calls[] = "rowpost_notify_call_seconds";

    prom_table(buf, outlet_rows, sizeof(outlet_rows) / sizeof(outlet_rows[0]), series, count,
               read_atomic);
    for (size_t k = 0; k < sizeof(outlet_levels) / sizeof(outlet_levels[0]); k++) {
        prom_head(buf, outlet_levels[k].name, "gauge", outlet_levels[k].help);
        for (size_t i = 0; i < count; i++)
            outlet_levels[k].write(buf, outlet_levels[k].name, series[i].labels,
                                   outlet_levels[k].value(series[i].numbers));
    }
    prom_head(buf, calls, "histogram", "Time of a call, whatever came of it.");
    for (size_t i = 0; i < count; i++) {
        const struct outlet *outlet = series[i].numbers;

        prom_sample_hist(buf, calls, series[i].labels, &outlet->stats.call_us);
    }
}

/* What the process does as a whole, copied at one moment. */
struct process_numbers {
    struct obx_consumer_stats stats;
    struct keeper_view keeper;
    uint64_t is_owner, broker_up, messages, unmatched;
};

#define PROCESS(name, type, member, help) PROM_ROW(struct process_numbers, member, name, type, help)

static const struct prom_row process_rows[] = {
    PROCESS("rowpost_notify_owner", "gauge", is_owner, "1 while this process makes the calls."),
    PROCESS("rowpost_notify_messages_total", "counter", messages,
            "Messages that handlers of this process have taken, undone batches included."),
    PROCESS("rowpost_notify_unmatched_total", "counter", unmatched,
            "Of these, messages whose topic no endpoint wants."),
    PROCESS("rowpost_notify_results_total", "counter", keeper.recorded,
            "Results of calls written."),
    PROCESS("rowpost_notify_commits_total", "counter", keeper.commits,
            "Transactions in which they were written."),
    PROCESS("rowpost_notify_broker_up", "gauge", broker_up, "1 while consuming."),
    PROCESS("rowpost_notify_applied_total", "counter", stats.applied,
            "Messages recorded for good."),
    PROCESS("rowpost_notify_dead_lettered_total", "counter", stats.dead_lettered,
            "Messages that could not be recorded."),
};

static void add_process(struct obx_buf *buf, const struct pages *pages)
{
    const struct recorder *recorder = pages->opts.recorder;
    struct process_numbers numbers = {.messages = atomic_load(&recorder->messages),
                                      .unmatched = atomic_load(&recorder->unmatched)};
    const struct prom_series series = {.numbers = &numbers};

    obx_consumer_get_stats(pages->opts.consumer, &numbers.stats, sizeof(numbers.stats));
    keeper_get_view(pages->opts.keeper, &numbers.keeper);
    numbers.is_owner = numbers.keeper.state == KEEPER_OWNER;
    numbers.broker_up = numbers.stats.broker_up;
    prom_table(buf, process_rows, sizeof(process_rows) / sizeof(process_rows[0]), &series, 1, NULL);
}

#define INBOX_ROW(member, metric, type, help)                                                      \
    PROM_ROW(struct inbox_numbers, view.member, "rowpost_inbox_" metric, type, help),

/* What is known of one inbox at this moment. */
struct inbox_numbers {
    struct inbox_view view;
    uint64_t broker_up, databases_up, parked_rows, workers_pausing;
};

static const struct prom_row inbox_rows[] = {
    INBOX_NUMBERS(INBOX_ROW)
        PROM_ROW(struct inbox_numbers, parked_rows, "rowpost_inbox_parked_rows", "gauge",
                 "Messages in inbox_parked: they could not be stored yet, or not at all."),
    PROM_ROW(struct inbox_numbers, broker_up, "rowpost_inbox_broker_up", "gauge",
             "1 while consuming."),
    PROM_ROW(struct inbox_numbers, databases_up, "rowpost_inbox_databases_up", "gauge",
             "Connections that store."),
    PROM_ROW(struct inbox_numbers, workers_pausing, "rowpost_inbox_workers_pausing", "gauge",
             "Workers that take no message for now, since the database undoes most of them."),
};

static enum obx_code add_inboxes(struct obx_buf *buf, const struct pages *pages)
{
    const size_t count = pages->opts.inbox_count;
    struct inbox_numbers *numbers = obx_calloc(count, sizeof(*numbers));
    struct prom_series *series = obx_calloc(count, sizeof(*series));

    for (size_t i = 0; i < count && numbers != NULL && series != NULL; i++) {
        struct inbox *inbox = pages->opts.inboxes[i];
        struct obx_consumer_stats stats = {0};

        inbox_get_view(inbox, &numbers[i].view);
        obx_consumer_get_stats(inbox_consumer(inbox), &stats, sizeof(stats));
        numbers[i].broker_up = stats.broker_up; /* smaller types there, which no table reads */
        numbers[i].databases_up = stats.databases_up;
        numbers[i].parked_rows = stats.parked_rows;
        numbers[i].workers_pausing = stats.workers_pausing;
        series[i] =
            (struct prom_series){.labels = {{"queue", inbox_queue(inbox)}}, .numbers = &numbers[i]};
    }
    /* A page without the inboxes would look like a program that has none; 500 is seen. */
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
