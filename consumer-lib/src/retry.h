/*
 * How often a message has failed, and when it is tried again.
 *
 * The seam for a durable retry: everything that would become a table in the consumer's database is
 * behind these calls. Here the counts are kept in memory by message id, so that they survive a lost
 * broker connection and the redelivery after it, but not the process. Bounded: when full, the
 * oldest count is forgotten, which costs that message further attempts only. Any thread; touched
 * for failing messages only (retry_is_empty is one relaxed load).
 */
#ifndef CONSUMER_RETRY_H
#define CONSUMER_RETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "obx/bytes.h"
#include "obx/err.h"

struct retry;

struct retry_policy {
    uint32_t max_attempts;
    uint32_t min_ms;
    uint32_t cap_ms;
};

/** capacity: message ids remembered at most. */
OBX_NODISCARD enum obx_code retry_create(const struct retry_policy *policy, size_t capacity,
                                         struct retry **out, struct obx_err *err);
void retry_destroy(struct retry *retry);
bool retry_is_empty(const struct retry *retry);
/** Failed attempts on record for a message. */
uint32_t retry_attempts(struct retry *retry, struct obx_bytes message_id);

struct retry_decision {
    uint32_t attempts; /* failed ones, this included */
    bool is_over;      /* no further attempt: dead-letter it */
    uint32_t wait_ms;  /* otherwise: until the next one */
};
/**
 * Record one more failed attempt. known: the count that the caller remembers, so that an evicted
 * one is not lost.
 */
struct retry_decision retry_failed(struct retry *retry, struct obx_bytes message_id,
                                   uint32_t known);
/** The message has been applied or dead-lettered. */
void retry_forget(struct retry *retry, struct obx_bytes message_id);

#endif
