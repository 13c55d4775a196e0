/*
 * Rows: from the table to the caller, and back with their results. Called by keeper.c.
 *
 * A row is in an outlet's held set from its reading until its result is written, and is not read
 * again meanwhile: the table says that it is due, the set that it is being called. After a restart
 * the set is empty, and what was in flight is called again.
 */
#include "keeper_private.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"

enum {
    AHEAD_FACTOR = 4, /* so many times an endpoint's concurrency is kept in memory */
    AHEAD_MIN = 32,
    READ_MAX = 250,    /* rows at once, each with a body of up to 64 KiB */
    RECORD_MAX = 1000, /* results in one transaction */
    IDLE_MIN_MS = 5,
    IDLE_MAX_MS = 250,
    CLEAN_ROUNDS = 10,
};

static struct outlet *outlet_at(const struct keeper *keeper, size_t i)
{
    return keeper->opts.outlets->items[i];
}

/* ---- back ---- */

static void let_go(struct keeper *keeper, struct job *job)
{
    idset_remove(&job->outlet->keeper.held, job->id);
    keeper->held_count--;
    keeper->held_bytes -= job->body.len;
    job->outlet->keeper.held_bytes -= job->body.len;
    job_destroy(job);
}

void keeper_sort_out(struct keeper *keeper)
{
    struct job_list kept = {.count = 0};
    struct job *job;

    while ((job = job_list_take(&keeper->finished)) != NULL) {
        bool is_current = job->epoch == keeper->ledger.lease.epoch;

        if (job->result.end != CALL_NOT_MADE && is_current) {
            job_list_add(&kept, job);
            continue;
        }
        /* It is due still: look soon, but not in circles with a caller that cannot take it. */
        job->outlet->keeper.next_look_ms = clock_now_ms() + IDLE_MIN_MS;
        let_go(keeper, job);
    }
    keeper->finished = kept;
}

static void say_gone(struct keeper *keeper, struct job *job)
{
    struct outlet *outlet = job->outlet;

    atomic_fetch_add(&outlet->stats.gone, 1);
    if (!outlet->keeper.is_paused)
        OBX_LOG(LOG_LVL_WARN, "notify", "endpoint.gone", KV_STR("endpoint", outlet->name),
                KV_STR("reason", job->result.why),
                KV_STR("now", "paused; resume it with outboxctl notify resume"));
    outlet->keeper.is_paused = true;
    atomic_store(&outlet->stats.is_paused, true);
    caller_recall_outlet(keeper->opts.caller, outlet);
}

/* Its result is in the table. */
static void account(struct keeper *keeper, struct job *job)
{
    struct outlet_stats *stats = &job->outlet->stats;
    uint32_t delay_ms = 0;

    if (job->result.end == CALL_DELIVERED) {
        atomic_fetch_add(&stats->delivered, 1);
    } else if (job->result.end == CALL_GONE) {
        say_gone(keeper, job);
    } else {
        atomic_fetch_add(&stats->failed, 1);
        if (!ledger_next_delay(job, &delay_ms)) {
            atomic_fetch_add(&stats->given_up, 1);
            OBX_LOG(LOG_LVL_WARN, "notify", "given_up", KV_STR("endpoint", job->outlet->name),
                    KV_U64("id", job->id), KV_STR("message_id", job->message_id),
                    KV_STR("topic", job->topic), KV_U64("attempts", job->attempts + 1),
                    KV_STR("reason", job->result.why));
        } else {
            OBX_LOG(LOG_LVL_DEBUG, "notify", "call.failed", KV_STR("endpoint", job->outlet->name),
                    KV_U64("id", job->id), KV_U64("attempts", job->attempts + 1),
                    KV_U64("next_ms", delay_ms), KV_STR("reason", job->result.why));
            /* The next call may be due before the next look for new rows. */
            if (clock_now_ms() + delay_ms < job->outlet->keeper.next_look_ms)
                job->outlet->keeper.next_look_ms = clock_now_ms() + delay_ms;
        }
    }
}

void keeper_record(struct keeper *keeper)
{
    struct job_list batch = {.count = 0};
    struct obx_err err = {0};
    struct job *job;

    while (batch.count < RECORD_MAX && (job = job_list_take(&keeper->finished)) != NULL)
        job_list_add(&batch, job);
    if (batch.count == 0)
        return;
    if (ledger_record(&keeper->ledger, &batch, &err) != OBX_OK) {
        /* Back to where they were. If it was committed after all, and only the answer was lost, the
         * rows are not `waiting` any more and the second writing changes none. */
        while ((job = job_list_take(&batch)) != NULL)
            job_list_add(&keeper->finished, job);
        keeper_failed(keeper, &err);
        return;
    }
    pthread_mutex_lock(&keeper->lock);
    keeper->view.recorded += batch.count;
    keeper->view.commits++;
    pthread_mutex_unlock(&keeper->lock);
    keeper_set_trouble(keeper, NULL);
    while ((job = job_list_take(&batch)) != NULL) {
        account(keeper, job);
        let_go(keeper, job);
    }
}

/* ---- out ---- */

static void on_pause(const char *endpoint, bool is_paused, const char *reason, void *ctx)
{
    struct keeper *keeper = ctx;
    struct outlet *outlet = outlets_get(keeper->opts.outlets, endpoint);

    /* A row for an endpoint that no configuration names any more is left to the operator. */
    if (outlet == NULL || !is_paused)
        return;
    outlet->keeper.seen_pause = true;
    if (outlet->keeper.is_paused)
        return;
    OBX_LOG(LOG_LVL_INFO, "notify", "endpoint.paused", KV_STR("endpoint", endpoint),
            KV_STR("reason", reason));
    outlet->keeper.is_paused = true;
    atomic_store(&outlet->stats.is_paused, true);
    caller_recall_outlet(keeper->opts.caller, outlet);
}

void keeper_read_pauses(struct keeper *keeper, struct notify_config *config)
{
    struct obx_err err = {0};

    (void)config;
    for (size_t i = 0; i < keeper->opts.outlets->count; i++)
        outlet_at(keeper, i)->keeper.seen_pause = false;
    if (ledger_read_pauses(&keeper->ledger, on_pause, keeper, &err) != OBX_OK) {
        keeper_failed(keeper, &err);
        return;
    }
    for (size_t i = 0; i < keeper->opts.outlets->count; i++) {
        struct outlet *outlet = outlet_at(keeper, i);

        if (!outlet->keeper.is_paused || outlet->keeper.seen_pause)
            continue;
        OBX_LOG(LOG_LVL_INFO, "notify", "endpoint.resumed", KV_STR("endpoint", outlet->name));
        outlet->keeper.is_paused = false;
        reach_clear(&outlet->reach); /* nothing was asked meanwhile */
        outlet->keeper.next_look_ms = 0;
        atomic_store(&outlet->stats.is_paused, false);
    }
}

/* How many more rows an endpoint may have in memory. An endpoint whose breaker is open gets the one
 * that its probe needs. */
static size_t room_of(const struct outlet *outlet, const struct endpoint_config *endpoint)
{
    size_t ahead = (size_t)endpoint->concurrency * AHEAD_FACTOR + AHEAD_MIN;

    if (outlet->keeper.is_paused)
        return 0;
    if (atomic_load(&outlet->stats.breaker) != (unsigned)BREAKER_CLOSED)
        ahead = 1;
    if (outlet->keeper.held.count >= ahead)
        return 0;
    ahead -= outlet->keeper.held.count;
    return ahead < READ_MAX ? ahead : READ_MAX;
}

static void plan_next_look(struct outlet *outlet, size_t found, size_t room)
{
    if (found > 0 || outlet->keeper.idle_ms < IDLE_MIN_MS)
        outlet->keeper.idle_ms = IDLE_MIN_MS;
    else if (outlet->keeper.idle_ms < IDLE_MAX_MS)
        outlet->keeper.idle_ms *= 2;
    outlet->keeper.next_look_ms = found >= room ? 0 : clock_now_ms() + outlet->keeper.idle_ms;
}

/* Half of the memory is for the first comers, the other half is kept in equal shares: endpoints
 * that answer slowly or never, with as many rows as they may have, leave the others theirs. */
static uint64_t free_bytes_of(const struct keeper *keeper, const struct notify_config *config,
                              const struct outlet *outlet)
{
    uint64_t half = config->max_memory / 2;
    uint64_t share = half / config->endpoint_count;

    if (keeper->held_bytes < half)
        return half - keeper->held_bytes;
    if (keeper->held_bytes < config->max_memory && outlet->keeper.held_bytes < share)
        return share - outlet->keeper.held_bytes;
    return 0;
}

static bool read_endpoint(struct keeper *keeper, struct notify_config *config,
                          const struct endpoint_config *endpoint, struct outlet *outlet)
{
    uint64_t free_bytes = free_bytes_of(keeper, config, outlet);
    uint64_t bytes = 0;
    struct due_request request = {.config = config,
                                  .endpoint = endpoint,
                                  .outlet = outlet,
                                  .max = room_of(outlet, endpoint),
                                  .bytes_max = free_bytes};
    struct job_list jobs = {.count = 0};
    struct obx_err err = {0};
    enum obx_code rc;

    /* With nothing held a body of any size is read: one that is larger than all of the memory would
     * otherwise stand at the head of its endpoint for good. */
    if (request.max == 0 || (free_bytes == 0 && keeper->held_count > 0)) {
        outlet->keeper.next_look_ms = 0; /* when a job comes back */
        return true;
    }
    rc = ledger_read_due(&keeper->ledger, &request, &jobs, &bytes, &err);
    keeper->held_bytes += bytes;
    outlet->keeper.held_bytes += bytes;
    keeper->held_count += jobs.count;
    plan_next_look(outlet, jobs.count, request.max);
    if (jobs.count > 0) {
        OBX_CRASH_POINT("notify-read");
        caller_set_db_offset(keeper->opts.caller, lease_db_offset_us(&keeper->ledger.lease));
        handover_give(keeper->opts.handover, &jobs);
    }
    if (rc != OBX_OK)
        keeper_failed(keeper, &err);
    return rc == OBX_OK;
}

void keeper_read_due(struct keeper *keeper, struct notify_config *config)
{
    keeper->look_due_ms = UINT64_MAX;
    for (size_t i = 0; i < config->endpoint_count; i++) {
        struct outlet *outlet = outlets_get(keeper->opts.outlets, config->endpoints[i].name);

        if (outlet == NULL)
            continue;
        if (atomic_exchange(&outlet->look, false)) {
            /* A handler has written a row, which will be committed in a moment: at once there would
             * be nothing to see, and after the idle time it would have waited for nothing. */
            uint64_t soon_ms = clock_now_ms() + IDLE_MIN_MS;

            outlet->keeper.idle_ms = IDLE_MIN_MS;
            if (outlet->keeper.next_look_ms > soon_ms)
                outlet->keeper.next_look_ms = soon_ms;
        }
        if (clock_now_ms() >= outlet->keeper.next_look_ms &&
            !read_endpoint(keeper, config, &config->endpoints[i], outlet))
            return;
        if (outlet->keeper.next_look_ms != 0 && outlet->keeper.next_look_ms < keeper->look_due_ms)
            keeper->look_due_ms = outlet->keeper.next_look_ms;
    }
}

/* ---- now and then ---- */

static bool clean(struct keeper *keeper, const char *endpoint, struct obx_err *err)
{
    uint64_t removed = 1;

    /* Bounded: after a long outage there may be millions, and calls that are due must not wait. */
    for (int i = 0; i < CLEAN_ROUNDS && removed > 0; i++) {
        if (ledger_clean(&keeper->ledger, endpoint, &removed, err) != OBX_OK)
            return false;
    }
    return true;
}

/* Those of which nothing can be expected, see outlet.h. */
static bool expire(struct keeper *keeper, const struct due_request *request, struct obx_err *err)
{
    const struct endpoint_config *endpoint = request->endpoint;
    uint64_t expired = 0, overdue_ms = 0;

    if (request->outlet->keeper.is_paused ||
        !reach_is_hopeless(&request->outlet->reach, endpoint->schedule_count,
                           endpoint->schedule_sum_ms * 3 / 2, clock_now_ms(), &overdue_ms))
        return true;
    if (ledger_expire(&keeper->ledger, request, overdue_ms, &expired, err) != OBX_OK)
        return false;
    if (expired == 0)
        return true;
    atomic_fetch_add(&request->outlet->stats.given_up, expired);
    OBX_LOG(LOG_LVL_WARN, "notify", "given_up", KV_STR("endpoint", request->outlet->name),
            KV_U64("rows", expired),
            KV_STR("reason", "the endpoint could not be reached for the whole schedule"));
    return true;
}

static bool count(struct keeper *keeper, struct outlet *outlet, struct obx_err *err)
{
    struct ledger_counts counts = {0};

    if (ledger_count(&keeper->ledger, outlet->name, &counts, err) != OBX_OK)
        return false;
    atomic_store(&outlet->stats.waiting, counts.waiting);
    atomic_store(&outlet->stats.given_up_rows, counts.given_up);
    atomic_store(&outlet->stats.oldest_due_us, counts.oldest_due_us);
    return true;
}

void keeper_housekeeping(struct keeper *keeper, struct notify_config *config)
{
    struct obx_err err = {0};

    for (size_t i = 0; i < config->endpoint_count; i++) {
        struct outlet *outlet = outlets_get(keeper->opts.outlets, config->endpoints[i].name);
        struct due_request request = {
            .config = config, .endpoint = &config->endpoints[i], .outlet = outlet};

        if (outlet != NULL && (!count(keeper, outlet, &err) || !expire(keeper, &request, &err) ||
                               !clean(keeper, outlet->name, &err))) {
            keeper_failed(keeper, &err);
            return;
        }
    }
}

uint32_t keeper_wait_ms(const struct keeper *keeper, uint32_t max_ms)
{
    uint64_t now_ms = clock_now_ms();
    uint64_t due_ms = now_ms + max_ms;

    if (keeper->ledger.db == NULL || keeper->ledger.lease.epoch == 0 || keeper->is_draining)
        return IDLE_MIN_MS * 2;
    if (keeper->finished.count > 0)
        due_ms = now_ms;
    if (keeper->look_due_ms < due_ms)
        due_ms = keeper->look_due_ms;
    if (due_ms < keeper->pause_until_ms)
        due_ms = keeper->pause_until_ms;
    return due_ms > now_ms ? (uint32_t)(due_ms - now_ms) : 0;
}
