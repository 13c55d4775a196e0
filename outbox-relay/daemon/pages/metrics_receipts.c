/* Metrics of the receipts role. Called by metrics.c. */
#include "metrics_receipts.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

struct receipts_metric {
    const char *name;
    const char *type;
    const char *help;
    size_t offset; /* in struct receipts_stats */
};
#define METRIC(name, type, member, help)                                                           \
    {                                                                                              \
        name, type, help, offsetof(struct receipts_stats, member)                                  \
    }

static const struct receipts_metric numbers[] = {
    METRIC("rowpost_receipts_messages_total", "counter", messages,
           "Messages with receipts that came."),
    METRIC("rowpost_receipts_noted_total", "counter", noted,
           "Receipts written down, repetitions included."),
    METRIC("rowpost_receipts_forged_total", "counter", forged,
           "Receipts dropped because their token is not ours. Any is worth a look."),
    METRIC("rowpost_receipts_malformed_total", "counter", malformed,
           "Receipts and messages dropped because they cannot be read."),
    METRIC("rowpost_receipts_unasked_total", "counter", unasked,
           "Receipts dropped because their group was not asked."),
    METRIC("rowpost_receipts_deferred_total", "counter", deferred,
           "Receipts left because their rows were held or refused; the message is sent again."),
    METRIC("rowpost_receipts_unmatched_total", "counter", early,
           "Receipts that no message awaited then: early, late or repeated."),
    METRIC("rowpost_receipts_settled_total", "counter", settled,
           "Messages settled by their receipts."),
    METRIC("rowpost_receipts_rejected_total", "counter", rejected, "Of these, rejected ones."),
    METRIC("rowpost_receipts_compensations_total", "counter", compensations,
           "Compensation messages sent."),
    METRIC("rowpost_receipts_batches_total", "counter", batches, "Transactions committed."),
    METRIC("rowpost_receipts_failures_total", "counter", failures,
           "Transactions undone, to be tried again."),
    METRIC("rowpost_receipts_db_up", "gauge", db_up, "1: connected to the database of the source."),
    METRIC("rowpost_receipts_broker_up", "gauge", broker_up, "1: subscribed to the receipt queue."),
};

static uint64_t number_at(const struct receipts_stats *stats, size_t offset)
{
    uint64_t value;

    memcpy(&value, (const char *)stats + offset, sizeof(value));
    return value;
}

enum obx_code metrics_receipts_write(const struct receipts_view *views, size_t count,
                                     struct obx_buf *buf)
{
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]) && count > 0; i++) {
        const struct receipts_metric *metric = &numbers[i];

        if (rc == OBX_OK)
            rc = buf_addf(buf, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help,
                          metric->name, metric->type);
        for (size_t k = 0; k < count && rc == OBX_OK; k++)
            rc = buf_addf(buf, "%s{source=\"%s\"} %" PRIu64 "\n", metric->name, views[k].source,
                          number_at(&views[k].stats, metric->offset));
    }
    return rc;
}
