/*
 * What the threads of one consumer share: set up before they start, torn down after they have
 * ended. Everything that changes meanwhile is an atomic, a mailbox or a last_error.
 */
#ifndef CONSUMER_SHARED_H
#define CONSUMER_SHARED_H

#include <stdatomic.h>

#include "core/mailbox.h"
#include "counters.h"
#include "last_error.h"
#include "settings.h"

struct shared {
    struct settings settings;
    struct counters counters;
    obx_handler_fn *handler; /* one of the two is NULL */
    obx_batch_fn *batch_handler;
    void *handler_ctx;
    struct mailbox to_io;     /* items that come back from the workers */
    struct last_error broker; /* written by the I/O thread */
    _Atomic int phase;        /* enum obx_consumer_state; written by the I/O thread once it runs */
    _Atomic uint32_t
        epoch; /* of the broker connection: deliveries of another one will come again */
    _Atomic uint32_t workers_ended;
    _Atomic bool broker_up;

    /* Requests to the I/O thread. */
    struct wake stop;          /* called by obx_consumer_stop, also from signal handlers */
    _Atomic bool drain_wanted; /* by obx_consumer_drain, with to_io's wake */
    _Atomic uint32_t drain_ms; /* how long a drain may take */

    /* Its answer. */
    pthread_mutex_t end_lock;
    pthread_cond_t end_signal; /* phase has become STOPPED */
    bool timed_out;            /* under end_lock: a drain did not finish in time */
};

static inline enum obx_consumer_state shared_phase(const struct shared *shared)
{
    return (enum obx_consumer_state)atomic_load(&shared->phase);
}

#endif
