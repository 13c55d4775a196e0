/*
 * What applying a batch needs from a database: one transaction at a time, two marks in it, the
 * dedup rows, and the rows of messages that wait. A seam: store_db.c and parked_db.c fill it with
 * sql/client. Belongs to one worker; every call blocks.
 */
#ifndef CONSUMER_STORE_H
#define CONSUMER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "obx/bytes.h"
#include "obx/err.h"

/* Savepoints: of the whole transaction, so that its end by somebody else is noticed, and of the
 * present chunk of messages. */
enum store_mark { STORE_MARK_TX, STORE_MARK_CHUNK };

struct item;

/* What a row of inbox_parked says of a message that was not applied. */
enum park_state { PARK_WAITING, PARK_BLOCKED, PARK_DEAD };
struct park {
    enum park_state state;
    uint32_t attempts;
    bool is_due;      /* something is to be done with it, */
    uint32_t wait_ms; /* so long from now */
    uint32_t cap_ms;  /* above 0: or as long as it has been parked, up to this */
    bool is_reported; /* DEAD: its producer hears of it */
    bool has_failed;  /* just now */
    bool has_reason;  /* item->why */
};

struct store_ops {
    enum obx_code (*begin)(void *ctx, struct obx_err *err);
    enum obx_code (*set_mark)(void *ctx, enum store_mark mark, struct obx_err *err);
    /* OBX_E_DB_NO_SAVEPOINT: the transaction in which it was set has ended. */
    enum obx_code (*undo_to)(void *ctx, enum store_mark mark, struct obx_err *err);
    enum obx_code (*release)(void *ctx, enum store_mark mark, struct obx_err *err);
    /* Write a dedup row. OBX_E_DB_DUPLICATE: there is one. Waits for a transaction that has written
     * it and is not over. */
    enum obx_code (*insert)(void *ctx, struct obx_bytes message_id, struct obx_err *err);
    /* Whether such a transaction is there, without a wait: OBX_E_DB_LOCK_WAIT. */
    enum obx_code (*probe)(void *ctx, struct obx_bytes message_id, struct obx_err *err);
    enum obx_code (*remove)(void *ctx, struct obx_bytes message_id, struct obx_err *err);
    /* Whether a row is there, as this transaction sees it. */
    enum obx_code (*has)(void *ctx, struct obx_bytes message_id, bool *has, struct obx_err *err);
    /* The same as any other session sees it: committed. */
    enum obx_code (*has_committed)(void *ctx, struct obx_bytes message_id, bool *has,
                                   struct obx_err *err);
    /* OBX_E_DB_COMMIT_UNKNOWN: lost before the answer. Any other error: not committed. */
    enum obx_code (*commit)(void *ctx, struct obx_err *err);
    enum obx_code (*rollback)(void *ctx, struct obx_err *err);
    /* A dedup row with the outcome 'rejected', for item->why. One that is there stays. */
    enum obx_code (*reject)(void *ctx, const struct item *item, struct obx_err *err);
    /* Why its dedup row is there: item->was_rejected, and then item->why. */
    enum obx_code (*read_outcome)(void *ctx, struct item *item, struct obx_err *err);

    /* Whether the group has a row in inbox_parked, as this transaction sees it. */
    enum obx_code (*any_parked)(void *ctx, bool *any, struct obx_err *err);
    /* Lock the rows of the items that have one, and fill item->survey of all. */
    enum obx_code (*survey)(void *ctx, struct item **items, size_t count, struct obx_err *err);
    /* Write the row of an item, or write it anew. A row of the same message that another process
     * has written meanwhile stays as it is. */
    enum obx_code (*park)(void *ctx, const struct item *item, const struct park *park,
                          struct obx_err *err);
    /* Remove the row of an item. */
    enum obx_code (*unpark)(void *ctx, const struct item *item, struct obx_err *err);
    /* The first row of the item's key that waits behind nothing any more becomes due. */
    enum obx_code (*promote)(void *ctx, const struct item *item, struct obx_err *err);

    /* What the server said last; no round trip. */
    bool (*in_transaction)(void *ctx);
    /* Whether the connection is known to be lost; no round trip. */
    bool (*is_lost)(void *ctx);
};

struct store {
    const struct store_ops *ops;
    void *ctx;
};

#endif
