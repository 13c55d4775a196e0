/* The public object from inside: what consumer.c makes and consumer_status.c reads. */
#ifndef CONSUMER_OBJECT_H
#define CONSUMER_OBJECT_H

#include "core/shared.h"
#include "io/io.h"
#include "store/cleanup.h"
#include "worker/worker.h"

struct obx_consumer {
    struct shared shared;
    struct worker *workers;
    unsigned worker_count; /* made */
    struct io io;
    struct cleanup cleanup;
    bool was_started;
    pthread_mutex_t join_lock; /* the thread that has waited for the end first joins the others */
};

#endif
