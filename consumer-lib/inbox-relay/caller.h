/*
 * The caller: a thread that owns the HTTP connections. It calls what the keeper hands it, within
 * each endpoint's concurrency, breaker and Retry-After, and gives every job back with its result.
 */
#ifndef NOTIFY_CALLER_H
#define NOTIFY_CALLER_H

#include "handover.h"
#include "notify_config.h"

struct caller;

struct caller_opts {
    struct config_box *box; /* borrowed like the rest: outlives the caller */
    struct handover *handover;
    struct outlets *outlets;
    uint32_t max_calls;
};

/** Make it; the handover wakes it from now on. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code caller_create(const struct caller_opts *opts, struct caller **out,
                                          struct obx_err *err);
/** Start the thread. OBX_E_SYSTEM. */
OBX_NODISCARD enum obx_code caller_start(struct caller *caller, struct obx_err *err);
/** End the thread: what is in flight is cut off and given back as not made. Then free. NULL is
 * fine. */
void caller_destroy(struct caller *caller);
/** How far the database's clock is ahead of clock_now_us(). Any thread. */
void caller_set_db_offset(struct caller *caller, int64_t offset_us);
/**
 * Give back every job that is not in flight, now; with is_all those in flight too, cut off. Any
 * thread; does not wait.
 */
void caller_recall(struct caller *caller, bool is_all);
/** The same for what waits for one endpoint. Any thread. */
void caller_recall_outlet(struct caller *caller, struct outlet *outlet);

#endif
