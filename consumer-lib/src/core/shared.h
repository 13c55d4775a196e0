/*
 * What the threads of one consumer share: set up before they start, torn down after they have
 * ended. Everything that changes meanwhile is an atomic, a mailbox or a last_error.
 */
#ifndef CONSUMER_SHARED_H
#define CONSUMER_SHARED_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/wake.h"
#include "core/item.h"
#include "counters.h"
#include "settings.h"

/*
 * Hand-over of items from one thread to another: a list under a lock and a wake for the receiver.
 * Items posted by one thread arrive in the order in which they were posted.
 */
struct mailbox {
    pthread_mutex_t lock;
    struct item_list items;
    struct wake wake;
};

OBX_NODISCARD enum obx_code mailbox_init(struct mailbox *box, struct obx_err *err);
/** The code that ends the consumer takes the items out first. */
void mailbox_fini(struct mailbox *box);
/** Hand over all of items, which is empty afterwards. Any thread. Nothing happens for an empty
 * list. */
void mailbox_post(struct mailbox *box, struct item_list *items);
void mailbox_post_one(struct mailbox *box, struct item *item);
/** Append everything there is to out and quiet the wake. The receiver only. */
void mailbox_take(struct mailbox *box, struct item_list *out);

/*
 * Why one side (the broker, one worker's database) does not work: written by the thread that owns
 * the side, read by obx_consumer_get_last_errors from any other.
 */
struct last_error {
    pthread_mutex_t lock;
    struct obx_err err; /* code OBX_OK: none */
};

OBX_NODISCARD enum obx_code last_error_init(struct last_error *last, struct obx_err *err);
void last_error_fini(struct last_error *last);
/** err NULL or with OBX_OK: the side works again. */
void last_error_set(struct last_error *last, const struct obx_err *err);
void last_error_get(struct last_error *last, struct obx_err *out);

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

/** Takes the settings, whatever comes of it. OBX_E_SYSTEM */
OBX_NODISCARD enum obx_code shared_init_take(struct shared *shared, struct settings *settings,
                                             struct obx_err *err);
void shared_fini(struct shared *shared);

#endif
