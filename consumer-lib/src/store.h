/*
 * What applying a batch needs from a database: one transaction at a time, three marks in it, and
 * the dedup rows. A seam: store_db.c fills it with sql/client, the unit tests with a table in
 * memory. Belongs to one worker; every call blocks.
 */
#ifndef CONSUMER_STORE_H
#define CONSUMER_STORE_H

#include <stdbool.h>

#include "obx/bytes.h"
#include "obx/err.h"

/* Savepoints: of the whole transaction, so that its end by somebody else is noticed, and of the
 * present chunk of messages. */
enum store_mark { STORE_MARK_TX, STORE_MARK_CHUNK };

struct store_ops {
    enum obx_code (*begin)(void *ctx, struct obx_err *err);
    enum obx_code (*set_mark)(void *ctx, enum store_mark mark, struct obx_err *err);
    /* OBX_E_DB_NO_SAVEPOINT: the transaction in which it was set has ended. */
    enum obx_code (*undo_to)(void *ctx, enum store_mark mark, struct obx_err *err);
    enum obx_code (*release)(void *ctx, enum store_mark mark, struct obx_err *err);
    /* Write a dedup row. OBX_E_DB_DUPLICATE: there is one. Waits for a transaction that has written
     * it and is not over. */
    enum obx_code (*insert)(void *ctx, struct obx_bytes message_id, struct obx_err *err);
    enum obx_code (*remove)(void *ctx, struct obx_bytes message_id, struct obx_err *err);
    /* Whether a row is there, as this transaction sees it. */
    enum obx_code (*has)(void *ctx, struct obx_bytes message_id, bool *has, struct obx_err *err);
    /* The same as any other session sees it: committed. */
    enum obx_code (*has_committed)(void *ctx, struct obx_bytes message_id, bool *has,
                                   struct obx_err *err);
    /* OBX_E_DB_COMMIT_UNKNOWN: lost before the answer. Any other error: not committed. */
    enum obx_code (*commit)(void *ctx, struct obx_err *err);
    enum obx_code (*rollback)(void *ctx, struct obx_err *err);
    /* What the server said last; no round trip. */
    bool (*in_transaction)(void *ctx);
};

struct store {
    const struct store_ops *ops;
    void *ctx;
};

#endif
