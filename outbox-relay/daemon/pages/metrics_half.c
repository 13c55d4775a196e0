/* Metrics of the half-message role. Called by metrics.c. */
#include "metrics_half.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

enum { US_PER_S = 1000000 };

/* A number somewhere in struct half_view. */
struct half_metric {
    const char *name; /* with its labels, if any */
    const char *type; /* NULL: the metric of the line above, with another label */
    const char *help;
    size_t offset;
};
#define METRIC(name, type, member, help)                                                           \
    {                                                                                              \
        name, type, help, offsetof(struct half_view, member)                                       \
    }
#define VERDICT(origin, member)                                                                    \
    METRIC("rowpost_half_verdicts_total{origin=\"" origin "\"}", NULL, store.member, NULL)

static const struct half_metric numbers[] = {
    METRIC("rowpost_half_prepared_total", "counter", store.prepared,
           "Half-messages prepared here."),
    METRIC("rowpost_half_committed_total", "counter", store.committed,
           "Verdicts commit carried out here."),
    METRIC("rowpost_half_rolled_back_total", "counter", store.rolled_back,
           "Verdicts rollback carried out here."),
    METRIC("rowpost_half_verdicts_total{origin=\"producer\"}", "counter",
           store.verdicts_by_producer, "Verdicts carried out here, by who gave them."),
    VERDICT("check", verdicts_by_check),
    VERDICT("barrier", verdicts_by_barrier),
    METRIC("rowpost_half_verdicts_total{origin=\"operator\"}", NULL, check.verdicts_by_operator,
           NULL),
    METRIC("rowpost_half_conflicts_total", "counter", store.conflicts,
           "Verdicts refused because the opposite one was given before. Any is worth a look."),
    METRIC("rowpost_half_gid_reused_total", "counter", store.reused,
           "Prepares refused because their gid has another content."),
    METRIC("rowpost_half_repeats_total", "counter", store.repeats,
           "Requests that had been carried out before."),
    METRIC("rowpost_half_failed_total", "counter", store.failed,
           "Requests answered 503 for want of the database."),
    METRIC("rowpost_half_overloads_total", "counter", store.overloads,
           "Requests answered 503 because the queue was full."),
    METRIC("rowpost_half_busy_total", "counter", store.busy,
           "Requests answered 503 because another transaction held their half-message."),
    METRIC("rowpost_half_batches_total", "counter", store.batches,
           "Transactions that carried requests out."),
    METRIC("rowpost_half_queue", "gauge", store.waiting, "Requests that wait for a transaction."),
    METRIC("rowpost_half_api_requests_total", "counter", http.requests,
           "HTTP requests to the API."),
    METRIC("rowpost_half_api_unauthorized_total", "counter", http.unauthorized,
           "HTTP requests without a valid token."),
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

static uint64_t number_at(const struct half_view *half, size_t offset)
{
    uint64_t value;

    memcpy(&value, (const char *)half + offset, sizeof(value));
    return value;
}

static enum obx_code add_head(struct obx_buf *buf, const char *name, const char *type,
                              const char *help)
{
    int bare = (int)strcspn(name, "{");

    return type == NULL ? OBX_OK
                        : buf_addf(buf, "# HELP %.*s %s\n# TYPE %.*s %s\n", bare, name, help, bare,
                                   name, type);
}

static enum obx_code add_gauge(struct obx_buf *buf, const char *name, const char *help,
                               double value)
{
    enum obx_code rc = add_head(buf, name, "gauge", help);

    return rc == OBX_OK ? buf_addf(buf, "%s %.6g\n", name, value) : rc;
}

static enum obx_code add_producers(struct obx_buf *buf, const struct half_view *half)
{
    enum obx_code rc = add_head(buf, "rowpost_half_breaker_open", "gauge",
                                "1: the producer has not answered for a while and is left alone.");

    for (size_t i = 0; rc == OBX_OK && i < half->producer_count; i++)
        rc = buf_addf(buf, "rowpost_half_breaker_open{producer=\"%s\"} %d\n",
                      half->producers[i].name, half->producer_stats[i].breaker != BREAKER_CLOSED);
    if (rc == OBX_OK)
        rc = add_head(buf, "rowpost_half_checks_under_way", "gauge",
                      "Questions that wait for their answer.");
    for (size_t i = 0; rc == OBX_OK && i < half->producer_count; i++)
        rc = buf_addf(buf, "rowpost_half_checks_under_way{producer=\"%s\"} %u\n",
                      half->producers[i].name, half->producer_stats[i].in_flight);
    return rc;
}

static enum obx_code add_latency(struct obx_buf *buf, const struct half_view *half)
{
    enum obx_code rc =
        add_head(buf, "rowpost_half_api_latency_seconds", "summary",
                 "From the whole request to its answer, of requests that reached the database.");

    return rc != OBX_OK
               ? rc
               : buf_addf(buf,
                          "rowpost_half_api_latency_seconds_sum %.6f\n"
                          "rowpost_half_api_latency_seconds_count %" PRIu64 "\n",
                          (double)half->http.latency_us_sum / US_PER_S, half->http.answered);
}

enum obx_code metrics_half_write(const struct half_view *half, struct obx_buf *buf)
{
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; rc == OBX_OK && i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        rc = add_head(buf, numbers[i].name, numbers[i].type, numbers[i].help);
        if (rc == OBX_OK)
            rc = buf_addf(buf, "%s %" PRIu64 "\n", numbers[i].name,
                          number_at(half, numbers[i].offset));
    }
    if (rc == OBX_OK)
        rc = add_gauge(buf, "rowpost_half_oldest_prepared_seconds",
                       "Age of the oldest open half-message.",
                       (double)half->check.oldest_prepared_us / US_PER_S);
    if (rc == OBX_OK)
        rc = add_gauge(buf, "rowpost_half_up", "1: connected to the database, schema fits.",
                       half->store.is_up);
    if (rc == OBX_OK)
        rc = add_gauge(buf, "rowpost_half_check_lease_held", "1: this relay asks.",
                       half->check.is_owner);
    if (rc == OBX_OK)
        rc = add_latency(buf, half);
    return rc == OBX_OK ? add_producers(buf, half) : rc;
}
