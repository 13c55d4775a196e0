/* What a consumer tells about itself, and the process-wide log. */
#include <string.h>

#include "base/log.h"
#include "consumer_object.h"

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

void obx_consumer_get_stats(const struct obx_consumer *consumer, struct obx_consumer_stats *stats,
                            size_t size)
{
    const struct shared *shared = &consumer->shared;
    const struct counters *c = &shared->counters;
    const struct obx_consumer_stats now = {
        .state = shared_phase(shared),
        .broker_up = atomic_load(&shared->broker_up),
        .databases_up = (uint32_t)counters_get(c, CNT_DATABASES_UP),
        .workers = shared->settings.workers,
        .delivered = counters_get(c, CNT_DELIVERED),
        .applied = counters_get(c, CNT_APPLIED),
        .duplicates = counters_get(c, CNT_DUPLICATES),
        .retried = counters_get(c, CNT_RETRIED),
        .rejected = counters_get(c, CNT_REJECTED),
        .parked = counters_get(c, CNT_PARKED),
        .taken_up = counters_get(c, CNT_TAKEN_UP),
        .dead = counters_get(c, CNT_DEAD),
        .replayed = counters_get(c, CNT_REPLAYED),
        .discarded = counters_get(c, CNT_DISCARDED),
        .dead_lettered = counters_get(c, CNT_DEAD_LETTERED),
        .dead_letter_failed = counters_get(c, CNT_DEAD_LETTER_FAILED),
        .tx_broken = counters_get(c, CNT_TX_BROKEN),
        .reruns = counters_get(c, CNT_RERUNS),
        .commits = counters_get(c, CNT_COMMITS),
        .commit_unknown = counters_get(c, CNT_COMMIT_UNKNOWN),
        .batches = counters_get(c, CNT_BATCHES),
        .acked = counters_get(c, CNT_ACKED),
        .dropped = counters_get(c, CNT_DROPPED),
        .broker_connects = counters_get(c, CNT_BROKER_CONNECTS),
        .database_connects = counters_get(c, CNT_DATABASE_CONNECTS),
        .dedup_removed = counters_get(c, CNT_DEDUP_REMOVED),
        .in_flight = counters_get(c, CNT_IN_FLIGHT),
        .in_flight_bytes = counters_get(c, CNT_IN_FLIGHT_BYTES),
        .parked_rows = counters_get(c, CNT_PARKED_ROWS),
        .dead_letter_pending = counters_get(c, CNT_DEAD_LETTER_PENDING),
        .receipts = counters_get(c, CNT_RECEIPTS),
        .receipts_given_up = counters_get(c, CNT_RECEIPTS_GIVEN_UP),
        .workers_pausing = counters_get(c, CNT_WORKERS_PAUSING),
        .outages = counters_get(c, CNT_OUTAGES),
        .attempts_kept = counters_get(c, CNT_ATTEMPTS_KEPT),
    };

    memcpy(stats, &now, size < sizeof(now) ? size : sizeof(now));
}

void obx_consumer_get_last_errors(struct obx_consumer *consumer, struct obx_err *broker,
                                  struct obx_err *database)
{
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
