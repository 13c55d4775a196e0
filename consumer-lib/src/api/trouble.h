/*
 * Why one side (the broker, one worker's database) does not work: written by the thread that owns
 * the side, read by obx_consumer_get_trouble from any other.
 */
#ifndef CONSUMER_TROUBLE_H
#define CONSUMER_TROUBLE_H

#include <pthread.h>

#include "obx/err.h"

struct trouble {
    pthread_mutex_t lock;
    struct obx_err err; /* code OBX_OK: none */
};

OBX_NODISCARD enum obx_code trouble_init(struct trouble *trouble, struct obx_err *err);
void trouble_fini(struct trouble *trouble);
/** err NULL or with OBX_OK: the side works again. */
void trouble_set(struct trouble *trouble, const struct obx_err *err);
void trouble_get(struct trouble *trouble, struct obx_err *out);

#endif
