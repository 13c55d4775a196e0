/*
 * Oncebox consumer library: applies each message exactly once.
 *
 * The handler's writes and the dedup row of (consumer group, message id) commit in one transaction; the message is
 * acknowledged after that commit and never before. Whatever is redelivered, replayed or published twice, and whoever dies
 * when, one message takes effect once per group. What a handler does outside its transaction (a mail, a remote call) is not
 * covered by that promise: it can happen more than once.
 *
 * Proved by tests/system/consumer_test.c and tests/crash/.
 */
#ifndef OBX_CONSUMER_H
#define OBX_CONSUMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "obx/bytes.h"
#include "obx/err.h"
#include "obx/export.h"

#ifdef __cplusplus
extern "C" {
#endif

struct obx_consumer;
struct obx_tx;

/** What a handler made of a message. */
enum obx_verdict {
    OBX_APPLIED, /**< done: commit my writes with the dedup row */
    OBX_RETRY,   /**< not now: undo my writes, give me the message again after a backoff */
    OBX_REJECT   /**< never: undo my writes, put the message into the dead-letter queue with my reason */
};

/** One application header; type as in the message. */
enum obx_header_type { OBX_H_NULL, OBX_H_TEXT, OBX_H_I64, OBX_H_F64, OBX_H_BOOL };
struct obx_header {
    struct obx_bytes name;
    enum obx_header_type type;
    union {
        struct obx_bytes text;
        int64_t i64;
        double f64;
        bool yes;
    } v;
};

/** A message as the handler sees it. Everything is borrowed for the call. Absent values have p == NULL. */
struct obx_message {
    struct obx_bytes message_id;
    struct obx_bytes topic;
    struct obx_bytes ordering_key;
    struct obx_bytes content_type;
    struct obx_bytes source;      /**< CloudEvents source: the outbox it comes from */
    struct obx_bytes traceparent; /**< W3C trace context, passed through from the producer */
    struct obx_bytes body;
    uint64_t outbox_id;   /**< the row's id in its outbox; 0 if the message comes from elsewhere */
    uint64_t created_us;  /**< when the producer's database took the row, microseconds since 1970 UTC; 0 unknown */
    uint32_t attempt;     /**< 1 for the first try in this process */
    bool redelivered;     /**< the broker's flag: a hint only */
    const struct obx_header *headers;
    size_t header_count;
};

#ifdef __cplusplus
}
#endif

#endif
