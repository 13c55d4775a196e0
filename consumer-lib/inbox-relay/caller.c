/*
 * The caller's loop. Called by notifier.c; the recalls by keeper.c.
 *
 * It never touches the database, and the keeper never touches a socket: an endpoint that hangs
 * cannot keep a result from being written, nor a slow database a call from being made. A job that
 * it does not call goes back as it was, and costs nothing.
 */
#include "caller.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/thread.h"
#include "call.h"

enum { WAIT_MAX_MS = 500, TOO_MANY = 429, UNAVAILABLE = 503 };

struct caller {
    struct caller_opts opts;
    struct calls *calls;
    struct thread thread;
    atomic_bool is_ending, recall, recall_all;
    atomic_int_fast64_t db_offset_us;
};

static void publish(struct outlet *outlet)
{
    atomic_store(&outlet->stats.in_flight, outlet->caller.in_flight);
    atomic_store(&outlet->stats.ready, outlet->caller.ready.count);
    atomic_store(&outlet->stats.breaker, (unsigned)outlet->caller.breaker.state);
}

static void give_back(struct caller *caller, struct job *job)
{
    job->result = (struct call_result){.end = CALL_NOT_MADE};
    handover_return(caller->opts.handover, job);
}

static void give_back_ready(struct caller *caller, struct outlet *outlet, size_t keep)
{
    struct job_list kept = {.count = 0};
    struct job *job;

    while ((job = job_list_take(&outlet->caller.ready)) != NULL) {
        if (kept.count < keep)
            job_list_add(&kept, job);
        else
            give_back(caller, job);
    }
    outlet->caller.ready = kept;
    publish(outlet);
}

/* ---- results ---- */

static void note_breaker(struct outlet *outlet, bool is_good, uint64_t now_ms)
{
    struct breaker *breaker = &outlet->caller.breaker;
    enum breaker_state before = breaker->state;

    if (is_good) {
        breaker_success(breaker);
        reach_clear(&outlet->reach);
    } else {
        breaker_failure(breaker, now_ms);
        reach_failed(&outlet->reach, before == BREAKER_PROBING, now_ms);
    }
    if (before != breaker->state)
        OBX_LOG(LOG_LVL_INFO, "notify", "breaker", KV_STR("endpoint", outlet->name),
                KV_STR("from", breaker_state_name(before)),
                KV_STR("to", breaker_state_name(breaker->state)),
                KV_U64("failures", breaker->failures));
}

static void hold(struct outlet *outlet, const struct call_result *result, uint64_t now_ms)
{
    uint64_t until_ms = now_ms + result->retry_after_ms;

    /* With these two it is about the endpoint; with another status (a 404 behind a proxy that adds
     * the header to everything) about this one call, whose own retry it moves. */
    if (result->retry_after_ms == 0 ||
        (result->status != TOO_MANY && result->status != UNAVAILABLE) ||
        until_ms <= outlet->caller.hold_until_ms)
        return;
    outlet->caller.hold_until_ms = until_ms;
    OBX_LOG(LOG_LVL_INFO, "notify", "endpoint.asks_for_pause", KV_STR("endpoint", outlet->name),
            KV_U64("status", result->status), KV_U64("pause_ms", result->retry_after_ms));
}

/* 429 is an endpoint that lives and says what it wants; 410 is one that answers. */
static void on_done(struct job *job, void *ctx)
{
    struct caller *caller = ctx;
    struct outlet *outlet = job->outlet;
    const struct call_result *result = &job->result;
    uint64_t now_ms = clock_now_ms();

    outlet->caller.in_flight--;
    if (result->end == CALL_NOT_MADE) {
        breaker_release(&outlet->caller.breaker);
    } else {
        hist_record(&outlet->stats.call_us, result->took_us);
        note_breaker(outlet, result->end != CALL_FAILED || result->status == TOO_MANY, now_ms);
        hold(outlet, result, now_ms);
    }
    if (result->end == CALL_GONE) {
        /* Not one call more; the keeper makes it a pause that lasts. */
        atomic_store(&outlet->stats.is_paused, true);
        give_back_ready(caller, outlet, 0);
    } else if (outlet->caller.breaker.state != BREAKER_CLOSED) {
        /* What waits here would wait for the breaker, and takes memory that others could use; one
         * stays for the probe. */
        give_back_ready(caller, outlet, 1);
    }
    publish(outlet);
    OBX_CRASH_POINT("notify-called");
    handover_return(caller->opts.handover, job);
}

/* ---- starting ---- */

static void set_breaker(struct outlet *outlet, const struct endpoint_config *endpoint)
{
    struct breaker *breaker = &outlet->caller.breaker;

    if (!outlet->caller.has_breaker) {
        breaker_init(breaker, endpoint->breaker_failures, endpoint->breaker_min_ms,
                     endpoint->breaker_max_ms);
        outlet->caller.has_breaker = true;
    }
    /* A reload may have changed them. */
    breaker->limit = endpoint->breaker_failures;
    breaker->backoff.min_ms = endpoint->breaker_min_ms;
    breaker->backoff.cap_ms = endpoint->breaker_max_ms;
}

static void take_jobs(struct caller *caller)
{
    struct job_list jobs = handover_take(caller->opts.handover);
    struct job *job;

    while ((job = job_list_take(&jobs)) != NULL) {
        set_breaker(job->outlet, job->endpoint);
        job_list_add(&job->outlet->caller.ready, job);
        publish(job->outlet);
    }
}

/* A call is made by the configuration in force when it starts, whatever it was when the row was
 * read: a new secret is used at once. An endpoint that is no longer in it is called by the old one.
 */
static void take_newest(struct caller *caller, struct job *job)
{
    struct notify_config *newest = config_box_get(caller->opts.box);
    const struct endpoint_config *endpoint = notify_config_endpoint(newest, job->outlet->name);

    if (endpoint == NULL || newest == job->config) {
        notify_config_unref(newest);
        return;
    }
    notify_config_unref(job->config);
    job->config = newest;
    job->endpoint = endpoint;
}

/* False when no more can be started now. */
static bool start_first(struct caller *caller, struct outlet *outlet)
{
    struct job *job = job_list_take(&outlet->caller.ready);
    struct obx_err err = {0};
    /* The database's time: what a receiver compares with its own clock (webhook-timestamp) comes
     * from one clock, whichever process makes the call. */
    const uint64_t db_now_us = clock_now_us() + (uint64_t)atomic_load(&caller->db_offset_us);

    take_newest(caller, job);
    if (call_start(caller->calls, job, db_now_us, &err) != OBX_OK) {
        breaker_release(&outlet->caller.breaker);
        give_back(caller, job);
        return false;
    }
    outlet->caller.in_flight++;
    return true;
}

/* Half of the places are for the first comers, the other half is kept in equal shares, so that
 * endpoints that never answer leave each other one theirs. */
static bool has_place(const struct caller *caller, const struct outlet *outlet)
{
    uint32_t in_flight = calls_in_flight(caller->calls);
    uint32_t half = caller->opts.max_calls / 2;
    uint32_t share = half / (uint32_t)caller->opts.outlets->count;

    return in_flight < half || (in_flight < caller->opts.max_calls &&
                                outlet->caller.in_flight < (share > 0 ? share : 1));
}

static bool may_call(const struct caller *caller, struct outlet *outlet, uint64_t now_ms)
{
    const struct job *job = outlet->caller.ready.first;

    return job != NULL && !atomic_load(&outlet->stats.is_paused) && has_place(caller, outlet) &&
           outlet->caller.in_flight < job->endpoint->concurrency &&
           now_ms >= outlet->caller.hold_until_ms &&
           breaker_admit(&outlet->caller.breaker, 1, now_ms) > 0;
}

/* One call for each endpoint in turn, so that a busy one does not take every place. */
static void start_calls(struct caller *caller, uint64_t now_ms)
{
    bool has_started = true;

    while (has_started) {
        has_started = false;
        for (size_t i = 0; i < caller->opts.outlets->count; i++) {
            struct outlet *outlet = caller->opts.outlets->items[i];

            if (!may_call(caller, outlet, now_ms))
                continue;
            if (!start_first(caller, outlet))
                return;
            publish(outlet);
            has_started = true;
        }
    }
}

/* Until the first endpoint may be called that may not be now. */
static int wait_ms(const struct caller *caller, uint64_t now_ms)
{
    uint64_t due_ms = now_ms + WAIT_MAX_MS;

    for (size_t i = 0; i < caller->opts.outlets->count; i++) {
        const struct outlet *outlet = caller->opts.outlets->items[i];
        uint64_t at_ms = outlet->caller.hold_until_ms;

        if (outlet->caller.ready.count == 0)
            continue;
        if (outlet->caller.breaker.state == BREAKER_OPEN && outlet->caller.breaker.due_ms > at_ms)
            at_ms = outlet->caller.breaker.due_ms;
        if (at_ms > now_ms && at_ms < due_ms)
            due_ms = at_ms;
    }
    return (int)(due_ms - now_ms);
}

/* ---- recalls ---- */

static void recall_ready(struct caller *caller)
{
    for (size_t i = 0; i < caller->opts.outlets->count; i++) {
        struct outlet *outlet = caller->opts.outlets->items[i];

        if (outlet->caller.ready.count > 0)
            give_back_ready(caller, outlet, 0);
    }
}

static void obey_recalls(struct caller *caller)
{
    for (size_t i = 0; i < caller->opts.outlets->count; i++) {
        struct outlet *outlet = caller->opts.outlets->items[i];

        if (atomic_exchange(&outlet->caller.recall, false))
            give_back_ready(caller, outlet, 0);
    }
    if (atomic_exchange(&caller->recall, false))
        recall_ready(caller);
    if (atomic_exchange(&caller->recall_all, false))
        calls_cancel(caller->calls);
}

/* ---- life ---- */

static void *caller_main(void *arg)
{
    struct caller *caller = arg;

    while (!atomic_load(&caller->is_ending)) {
        uint64_t now_ms = clock_now_ms();

        take_jobs(caller);
        obey_recalls(caller); /* after what was handed over before the recall, or that would stay */
        start_calls(caller, now_ms);
        calls_service(caller->calls, wait_ms(caller, now_ms));
    }
    /* Everything goes back: the keeper ends only when it holds no job any more. */
    take_jobs(caller);
    recall_ready(caller);
    calls_cancel(caller->calls);
    return NULL;
}

static void wake(void *ctx)
{
    struct caller *caller = ctx;

    calls_wake(caller->calls);
}

enum obx_code caller_create(const struct caller_opts *opts, struct caller **out,
                            struct obx_err *err)
{
    struct caller *caller = obx_calloc(1, sizeof(*caller));
    struct calls_opts calls = {.max_calls = opts->max_calls, .done = on_done, .ctx = caller};
    enum obx_code rc;

    *out = NULL;
    if (caller == NULL)
        return obx_fail(err, OBX_E_NOMEM, "caller");
    caller->opts = *opts;
    rc = calls_create(&calls, &caller->calls, err);
    if (rc != OBX_OK) {
        obx_free(caller);
        return rc;
    }
    opts->handover->wake_caller = wake;
    opts->handover->wake_ctx = caller;
    *out = caller;
    return OBX_OK;
}

enum obx_code caller_start(struct caller *caller, struct obx_err *err)
{
    return thread_start(&caller->thread, caller_main, caller, "the caller", err);
}

void caller_destroy(struct caller *caller)
{
    if (caller == NULL)
        return;
    if (caller->thread.is_started) {
        atomic_store(&caller->is_ending, true);
        wake(caller);
        thread_join(&caller->thread);
    }
    calls_destroy(caller->calls);
    obx_free(caller);
}

void caller_set_db_offset(struct caller *caller, int64_t offset_us)
{
    atomic_store(&caller->db_offset_us, offset_us);
}

void caller_recall(struct caller *caller, bool is_all)
{
    atomic_store(&caller->recall, true);
    if (is_all)
        atomic_store(&caller->recall_all, true);
    wake(caller);
}

void caller_recall_outlet(struct caller *caller, struct outlet *outlet)
{
    atomic_store(&outlet->caller.recall, true);
    wake(caller);
}
