/*
 * Calls to endpoints, many at once, by the rules of service/http_client.h. Belongs to one thread,
 * which calls calls_service.
 */
#ifndef NOTIFY_CALL_H
#define NOTIFY_CALL_H

#include "job.h"

struct calls;

/** job->result is filled in. Runs inside calls_service or calls_cancel. */
typedef void call_done_fn(struct job *job, void *ctx);

struct calls_opts {
    uint32_t max_calls;
    call_done_fn *done;
    void *ctx;
};

/** On failure *out is NULL. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code calls_create(const struct calls_opts *opts, struct calls **out,
                                         struct obx_err *err);
/** Cut off what is in flight: done with CALL_NOT_MADE. */
void calls_cancel(struct calls *calls);
/** Nothing may be in flight. NULL is fine. */
void calls_destroy(struct calls *calls);
/**
 * Start one call; done is called after OBX_OK only.
 * @param now_us  the database's time, microseconds since 1970
 * @return OBX_OK; OBX_E_FULL - max_calls are in flight; OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code call_start(struct calls *calls, struct job *job, uint64_t now_us,
                                       struct obx_err *err);
/** Send, receive and report; waits at most wait_ms for something to happen, or for calls_wake. */
void calls_service(struct calls *calls, int wait_ms);
/** End a wait of calls_service. Any thread. */
void calls_wake(struct calls *calls);
uint32_t calls_in_flight(const struct calls *calls);

#endif
