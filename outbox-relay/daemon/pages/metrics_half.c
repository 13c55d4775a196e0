/* Metrics of the half-message role. Called by metrics.c. */
#include "metrics_half.h"

#include <stddef.h>

#include "service/prometheus.h"

#define METRIC(name, type, member, help) PROM_ROW(struct half_view, member, name, type, help)

static const struct prom_row numbers[] = {
    METRIC("rowpost_half_prepared_total", "counter", store.prepared,
           "Half-messages prepared here."),
    METRIC("rowpost_half_committed_total", "counter", store.committed,
           "Verdicts commit applied here."),
    METRIC("rowpost_half_rolled_back_total", "counter", store.rolled_back,
           "Verdicts rollback applied here."),
    METRIC("rowpost_half_conflicts_total", "counter", store.conflicts,
           "Verdicts refused because the opposite one was given before. Any is worth a look."),
    METRIC("rowpost_half_gid_reused_total", "counter", store.reused,
           "Prepares refused because their gid has another content."),
    METRIC("rowpost_half_repeats_total", "counter", store.repeats,
           "Requests that had been applied before."),
    METRIC("rowpost_half_failed_total", "counter", store.failed,
           "Requests answered 503 for want of the database."),
    METRIC("rowpost_half_overloads_total", "counter", store.overloads,
           "Requests answered 503 because the queue was full."),
    METRIC("rowpost_half_busy_total", "counter", store.busy,
           "Requests answered 503 because another transaction held their half-message."),
    METRIC("rowpost_half_batches_total", "counter", store.batches,
           "Transactions that applied requests."),
    METRIC("rowpost_half_queue", "gauge", store.waiting, "Requests that wait for a transaction."),
    METRIC("rowpost_half_api_requests_total", "counter", http.requests,
           "HTTP requests to the API."),
    METRIC("rowpost_half_api_unauthorized_total", "counter", http.unauthorized,
           "HTTP requests without a valid token."),
    METRIC("rowpost_half_async_total", "counter", http.async,
           "Verdicts answered 202 before they were applied."),
    METRIC("rowpost_half_async_lost_total", "counter", http.async_lost,
           "Of those: not applied, check-back finds out."),
    METRIC("rowpost_half_api_connections", "gauge", http.http.connections,
           "Connections to the API."),
    METRIC("rowpost_half_api_body_bytes", "gauge", http.http.bytes_in_flight,
           "Bytes of bodies that are being read or worked on."),
    METRIC("rowpost_half_api_cut_off_total", "counter", http.http.cut_off,
           "Connections closed because they were slow, or to make room."),
    METRIC("rowpost_half_api_turned_away_total", "counter", http.http.turned_away,
           "Connections for which no room could be made."),
    METRIC("rowpost_half_prepared_now", "gauge", check.prepared_now,
           "Open half-messages, counted up to 10000."),
    METRIC("rowpost_half_parked_now", "gauge", check.parked_now,
           "Parked half-messages, counted up to 10000."),
    METRIC("rowpost_half_checks_asked_total", "counter", check.asked, "Questions to producers."),
    METRIC("rowpost_half_checks_answered_total", "counter", check.answered, "Answers received."),
    METRIC("rowpost_half_checks_failed_total", "counter", check.failed,
           "Questions without an answer."),
    METRIC("rowpost_half_parked_total", "counter", check.parked,
           "Half-messages parked by this relay."),
};

static void add_verdicts(struct obx_buf *buf, const struct half_view *half)
{
    static const char name[] = "rowpost_half_verdicts_total";
    const struct {
        const char *origin;
        uint64_t count;
    } verdicts[] = {{"producer", half->store.verdicts_by_producer},
                    {"check", half->store.verdicts_by_check},
                    {"barrier", half->store.verdicts_by_barrier},
                    {"operator", half->check.verdicts_by_operator}};

    prom_head(buf, name, "counter", "Verdicts applied here, by who gave them.");
    /* Each origin from the start, at 0: a rate over a series that begins late misses its first. */
    for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++) {
        const struct prom_label origin[] = {{"origin", verdicts[i].origin}, {NULL, NULL}};

        prom_sample(buf, name, origin, verdicts[i].count);
    }
}

static void add_producers(struct obx_buf *buf, const struct half_view *half)
{
    static const char breaker[] = "rowpost_half_breaker_open";
    static const char checks[] = "rowpost_half_checks_in_flight";

    prom_head(buf, breaker, "gauge",
              "1: the producer has not answered for a while and is left alone.");
    for (size_t i = 0; i < half->producer_count; i++) {
        const struct prom_label producer[] = {{"producer", half->producers[i].name}, {NULL, NULL}};

        prom_sample(buf, breaker, producer, half->producer_stats[i].breaker != BREAKER_CLOSED);
    }
    prom_head(buf, checks, "gauge", "Questions that wait for their answer.");
    for (size_t i = 0; i < half->producer_count; i++) {
        const struct prom_label producer[] = {{"producer", half->producers[i].name}, {NULL, NULL}};

        prom_sample(buf, checks, producer, half->producer_stats[i].in_flight);
    }
}

void metrics_half_write(const struct half_view *half, struct obx_buf *buf)
{
    const struct prom_series series = {.numbers = half};

    prom_table(buf, numbers, sizeof(numbers) / sizeof(numbers[0]), &series, 1, NULL);
    add_verdicts(buf, half);
    prom_number_us(buf, "rowpost_half_oldest_prepared_seconds", "gauge",
                   "Age of the oldest open half-message.", half->check.oldest_prepared_us);
    prom_number(buf, "rowpost_half_up", "gauge", "1: connected to the database, schema fits.",
                half->store.is_up);
    prom_number(buf, "rowpost_half_check_lease_held", "gauge", "1: this relay asks.",
                half->check.is_owner);
    /* A sum and a count make the mean of any span of time; no quantile, which none could add up. */
    prom_head(buf, "rowpost_half_api_latency_seconds", "summary",
              "From the whole request to its answer, of requests that reached the database.");
    prom_sample_us(buf, "rowpost_half_api_latency_seconds_sum", NULL, half->http.latency_us_sum);
    prom_sample(buf, "rowpost_half_api_latency_seconds_count", NULL, half->http.answered);
    add_producers(buf, half);
}
