/*
 * Why one side (the broker, one worker's database) does not work: written by the thread that owns
 * the side, read by obx_consumer_get_last_errors from any other.
 */
#ifndef CONSUMER_LAST_ERROR_H
#define CONSUMER_LAST_ERROR_H

#include <pthread.h>

#include "obx/err.h"

struct last_error {
    pthread_mutex_t lock;
    struct obx_err err; /* code OBX_OK: none */
};

OBX_NODISCARD enum obx_code last_error_init(struct last_error *last, struct obx_err *err);
void last_error_fini(struct last_error *last);
/** err NULL or with OBX_OK: the side works again. */
void last_error_set(struct last_error *last, const struct obx_err *err);
void last_error_get(struct last_error *last, struct obx_err *out);

#endif
