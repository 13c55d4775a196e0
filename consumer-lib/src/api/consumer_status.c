/* What a consumer tells about itself, and the process-wide log. */
#include <string.h>

#include "base/log.h"
#include "consumer_object.h"
#include "partitions.h"

static const char *const state_names[] = {
    [OBX_CONSUMER_NEW] = "new",           [OBX_CONSUMER_RUNNING] = "running",
    [OBX_CONSUMER_DRAINING] = "draining", [OBX_CONSUMER_STOPPING] = "stopping",
    [OBX_CONSUMER_STOPPED] = "stopped",
};

const char *obx_consumer_state_name(enum obx_consumer_state state)
{
    if ((size_t)state >= sizeof(state_names) / sizeof(state_names[0]))
        return "unknown";
    return state_names[state];
}

void consumer_fill_stats(struct obx_consumer_stats *stats, const uint64_t numbers[CNT_COUNT])
{
    stats->databases_up = (uint32_t)numbers[CNT_DATABASES_UP];
    stats->delivered = numbers[CNT_DELIVERED];
    stats->applied = numbers[CNT_APPLIED];
    stats->duplicates = numbers[CNT_DUPLICATES];
    stats->retried = numbers[CNT_RETRIED];
    stats->rejected = numbers[CNT_REJECTED];
    stats->parked = numbers[CNT_PARKED];
    stats->taken_up = numbers[CNT_TAKEN_UP];
    stats->dead = numbers[CNT_DEAD];
    stats->replayed = numbers[CNT_REPLAYED];
    stats->discarded = numbers[CNT_DISCARDED];
    stats->dead_lettered = numbers[CNT_DEAD_LETTERED];
    stats->dead_letter_failed = numbers[CNT_DEAD_LETTER_FAILED];
    stats->tx_broken = numbers[CNT_TX_BROKEN];
    stats->reruns = numbers[CNT_RERUNS];
    stats->commits = numbers[CNT_COMMITS];
    stats->commit_unknown = numbers[CNT_COMMIT_UNKNOWN];
    stats->batches = numbers[CNT_BATCHES];
    stats->acked = numbers[CNT_ACKED];
    stats->dropped = numbers[CNT_DROPPED];
    stats->broker_connects = numbers[CNT_BROKER_CONNECTS];
    stats->database_connects = numbers[CNT_DATABASE_CONNECTS];
    stats->dedup_removed = numbers[CNT_DEDUP_REMOVED];
    stats->in_flight = numbers[CNT_IN_FLIGHT];
    stats->in_flight_bytes = numbers[CNT_IN_FLIGHT_BYTES];
    stats->parked_rows = numbers[CNT_PARKED_ROWS];
    stats->dead_letter_pending = numbers[CNT_DEAD_LETTER_PENDING];
    stats->receipts = numbers[CNT_RECEIPTS];
    stats->receipts_given_up = numbers[CNT_RECEIPTS_GIVEN_UP];
    stats->workers_pausing = numbers[CNT_WORKERS_PAUSING];
    stats->outages = numbers[CNT_OUTAGES];
    stats->attempts_kept = numbers[CNT_ATTEMPTS_KEPT];
}

void obx_consumer_get_stats(const struct obx_consumer *consumer, struct obx_consumer_stats *stats,
                            size_t size)
{
    const struct shared *shared = &consumer->shared;
    struct obx_consumer_stats now = {.state = shared_phase(shared),
                                     .broker_up = atomic_load(&shared->broker_up),
                                     .workers = shared->settings.workers};
    uint64_t numbers[CNT_COUNT];

    if (consumer->partitions != NULL) {
        partitions_get_stats(consumer->partitions, &now);
    } else {
        for (int i = 0; i < CNT_COUNT; i++)
            numbers[i] = counters_get(&shared->counters, (enum counter)i);
        consumer_fill_stats(&now, numbers);
    }
    memcpy(stats, &now, size < sizeof(now) ? size : sizeof(now));
}

void obx_consumer_get_last_errors(struct obx_consumer *consumer, struct obx_err *broker,
                                  struct obx_err *database)
{
    if (consumer->partitions != NULL) {
        partitions_get_last_errors(consumer->partitions, broker, database);
        return;
    }
    if (broker != NULL)
        last_error_get(&consumer->shared.broker, broker);
    if (database == NULL)
        return;
    obx_err_clear(database);
    for (unsigned i = 0; i < consumer->worker_count && database->code == OBX_OK; i++)
        last_error_get(&consumer->workers[i].link.error, database);
}

/* ------------------------------------------------------------------ log */

static struct {
    obx_log_fn *fn;
    void *ctx;
} log_to;

static enum obx_log_level to_public(enum log_level level)
{
    switch (level) {
    case LOG_LVL_DEBUG:
        return OBX_LOG_DEBUG;
    case LOG_LVL_INFO:
        return OBX_LOG_INFO;
    case LOG_LVL_WARN:
        return OBX_LOG_WARN;
    case LOG_LVL_ERROR:
    case LOG_LVL_OFF:
        break;
    }
    return OBX_LOG_ERROR;
}

static void sink(enum log_level level, const char *line, size_t len, void *ctx)
{
    (void)ctx;
    log_to.fn(to_public(level), line, len, log_to.ctx);
}

static enum log_level to_private(enum obx_log_level level)
{
    switch (level) {
    case OBX_LOG_DEBUG:
        return LOG_LVL_DEBUG;
    case OBX_LOG_INFO:
        return LOG_LVL_INFO;
    case OBX_LOG_WARN:
        return LOG_LVL_WARN;
    case OBX_LOG_ERROR:
        break;
    }
    return LOG_LVL_ERROR;
}

void obx_log_set(enum obx_log_level min_level, obx_log_fn *fn, void *ctx)
{
    log_to.fn = fn;
    log_to.ctx = ctx;
    log_setup(to_private(min_level), LOG_FMT_TEXT, fn != NULL ? sink : NULL, NULL);
}
