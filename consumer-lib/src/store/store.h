/*
 * What a worker needs from a database: one transaction at a time, two marks in it, the dedup rows,
 * and the rows of messages that wait. A seam: store_db.c fills it with sql/client and the other files
 * of this folder, tests/unit/fake_store.c with tables in memory and failures at any statement.
 * Belongs to one worker; every call blocks.
 */
#ifndef CONSUMER_STORE_H
#define CONSUMER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "core/item.h"
#include "core/settings.h"

/* Savepoints: of the whole transaction, so that its end by somebody else is noticed, and of the
 * present chunk of messages. */
enum store_mark { STORE_MARK_TX, STORE_MARK_CHUNK };

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

/* How rows that are due are taken up. */
struct due_opts {
    const struct settings *settings;
    struct counters *counters;
    unsigned worker;  /* takes the rows of its own lanes only, */
    unsigned workers; /* of so many in this process */
    size_t max_rows;  /* at most 1000 */
    size_t max_bytes; /* of bodies; one row may exceed it */
    bool takes_letters;
};

struct due_taken {
    struct item_list items; /* READY, to be run in this order */
    size_t letters;         /* so many of them are LETTER instead, to be published */
    bool has_rows;          /* there are rows with something to be done, now or later */
    uint64_t next_ms;       /* so long until the next one is due; 0: there were more than fit */
};

/* Of a dedup row. */
enum dedup_outcome { OUTCOME_APPLIED, OUTCOME_REJECTED };

struct db;

struct store_ops {
    /* ---- a batch */
    enum obx_code (*begin)(void *ctx, struct obx_err *err);
    enum obx_code (*set_mark)(void *ctx, enum store_mark mark, struct obx_err *err);
    /* OBX_E_DB_NO_SAVEPOINT: the transaction in which it was set has ended. */
    enum obx_code (*undo_to)(void *ctx, enum store_mark mark, struct obx_err *err);
    enum obx_code (*release)(void *ctx, enum store_mark mark, struct obx_err *err);
    /* Write a dedup row. OBX_E_DB_DUPLICATE: there is one. Waits for a transaction that has written
     * it and has not ended. */
    enum obx_code (*insert)(void *ctx, struct obx_bytes message_id, struct obx_err *err);
    /* Those of the items FOUND_GROUPED that have a dedup row become FOUND_DUPLICATE; it waits for
     * nobody, and sees what is committed. */
    enum obx_code (*find_applied)(void *ctx, struct item **items, size_t count,
                                  struct obx_err *err);
    /* insert, for all of the items that are DEDUP_LATER: OBX_E_DB_DUPLICATE and OBX_E_DB_LOCK_WAIT
     * do not say which one. What was written before has to be undone then. */
    enum obx_code (*insert_many)(void *ctx, struct item **items, size_t count, struct obx_err *err);
    /* Whether such a transaction is there, without a wait: OBX_E_DB_LOCK_WAIT. */
    enum obx_code (*probe)(void *ctx, struct obx_bytes message_id, struct obx_err *err);
    enum obx_code (*remove)(void *ctx, struct obx_bytes message_id, struct obx_err *err);
    /* Whether a row is there, as this transaction sees it. */
    enum obx_code (*has)(void *ctx, struct obx_bytes message_id, bool *has, struct obx_err *err);
    /* The same as any other session sees it: committed. */
    enum obx_code (*has_committed)(void *ctx, struct obx_bytes message_id, bool *has,
                                   struct obx_err *err);
    /* Write something, so that the COMMIT has everything in the log that this transaction has seen:
     * a server may show what others have committed before it is there. Nothing where it does not. */
    enum obx_code (*make_durable)(void *ctx, struct obx_err *err);
    /* OBX_E_DB_COMMIT_UNKNOWN: lost before the answer. Any other error: not committed. */
    enum obx_code (*commit)(void *ctx, struct obx_err *err);
    enum obx_code (*rollback)(void *ctx, struct obx_err *err);
    /* A dedup row with the outcome 'rejected', for item->why. One that is there stays. */
    enum obx_code (*reject)(void *ctx, const struct item *item, struct obx_err *err);
    /* What its dedup row says; REJECTED stands for what an operator has discarded too, and fills
     * item->why. */
    enum obx_code (*read_outcome)(void *ctx, struct item *item, enum dedup_outcome *outcome,
                                  struct obx_err *err);

    /* Whether the group has a row in inbox_parked, as this transaction sees it. */
    enum obx_code (*any_parked)(void *ctx, bool *any, struct obx_err *err);
    /* Lock the rows of the items that have one, and fill item->found of all. */
    enum obx_code (*lookup)(void *ctx, struct item **items, size_t count, struct obx_err *err);
    /* Write the row of an item, or change the one that it has. A row of the same message that another process
     * has written meanwhile stays as it is. */
    enum obx_code (*park)(void *ctx, const struct item *item, const struct park *park,
                          struct obx_err *err);
    /* Remove the row of an item. */
    enum obx_code (*unpark)(void *ctx, const struct item *item, struct obx_err *err);
    /* The first row of the item's key that waits behind nothing any more becomes due. */
    enum obx_code (*promote)(void *ctx, const struct item *item, struct obx_err *err);

    /* ---- rows of inbox_parked between batches, each in a transaction of its own */
    /* Take up what is due: attempts are counted and committed before any handler runs. On success
     * taken->items are the caller's; on failure there are none, and the connection is rolled back
     * or of no more use, as the code's action says. */
    enum obx_code (*take_due)(void *ctx, const struct due_opts *opts, struct due_taken *taken,
                              struct obx_err *err);
    /* Give rows back that were taken up and not tried: their attempts have not been made. */
    enum obx_code (*give_back)(void *ctx, const struct item_list *items, struct obx_err *err);
    /* Remove the rows of dead letters that are confirmed, and let their keys go on. */
    enum obx_code (*remove_letters)(void *ctx, const struct item_list *letters,
                                    struct obx_err *err);
    /* Make rows due that wait for nothing: where a process added a row while another removed the
     * one before it, neither has seen the other. Looks at the next keys after *from, which it moves
     * on, empty after the last key; *found of them were made due. */
    enum obx_code (*free_keys)(void *ctx, struct obx_buf *from, uint64_t *found,
                               struct obx_err *err);
    /* How many rows the group has, counted up to max. */
    enum obx_code (*count_parked)(void *ctx, uint64_t max, uint64_t *count, struct obx_err *err);

    /* ---- the connection */
    enum obx_code (*ping)(void *ctx, struct obx_err *err);
    void (*close)(void *ctx);
    /* For the statements of a handler; NULL in a test without a database. Borrowed. */
    struct db *(*session)(void *ctx);
    uint64_t (*connection_id)(void *ctx);
    /* Have the server say whether a transaction is open. */
    enum obx_code (*ask_status)(void *ctx, struct obx_err *err);
    /* What the server said last; no round trip. */
    bool (*in_transaction)(void *ctx);
    /* Whether the connection is known to be lost; no round trip. */
    bool (*is_lost)(void *ctx);
};

struct store {
    const struct store_ops *ops; /* NULL: not connected */
    void *ctx;
};

/** Connect and set the session up. settings is borrowed and must outlive the store; ops->close ends
 * it. On failure *out is all zero. */
typedef enum obx_code store_open_fn(const struct settings *settings, struct store *out,
                                    struct obx_err *err);

#endif
