/* The public object from inside: what consumer.c makes and consumer_status.c reads. */
#ifndef CONSUMER_OBJECT_H
#define CONSUMER_OBJECT_H

#include "core/shared.h"
#include "io/io.h"
#include "store/cleanup.h"
#include "worker/worker.h"

struct partitions;

struct obx_consumer {
    struct shared shared;
    struct partitions *partitions; /* NULL: of one queue. Else all but shared is unused */
    struct worker *workers;
    unsigned worker_count; /* made */
    struct io io;
    struct cleanup cleanup;
    bool was_started;
    pthread_mutex_t join_lock; /* the thread that has waited for the end first joins the others */
};

/** A consumer of one queue with these settings, which it takes, whatever comes of it. As
 * obx_consumer_open. */
OBX_NODISCARD enum obx_code consumer_make_take(struct settings *settings, struct obx_consumer **out,
                                               struct obx_err *err);
/** The numbers of one consumer, or sums of them, by enum counter; state and levels that are no
 * counters are left as they are. */
void consumer_fill_stats(struct obx_consumer_stats *stats, const uint64_t numbers[CNT_COUNT]);

#endif
