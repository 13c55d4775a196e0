/*
 * Taking up rows of inbox_parked that are due: attempts are counted and committed before any handler
 * runs, requests of operators are carried out, dead rows set out for the dead-letter queue. One
 * transaction of its own on the worker's connection.
 *
 * Any number of processes may do so at the same time: rows are locked by primary key, with SKIP
 * LOCKED. A row that is taken up is under a claim, which its batch looks for again.
 */
#ifndef CONSUMER_PARKED_DUE_H
#define CONSUMER_PARKED_DUE_H

#include "api/settings.h"
#include "apply/item.h"
#include "base/bytes.h"
#include "sql/db.h"

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
    struct item_list items; /* PENDING, to be run in this order; alone where it is set */
    size_t letters;         /* of these are LETTER instead, to be published */
    bool has_rows;          /* there are rows with something to be done, now or later */
    uint64_t next_ms;       /* so long until the next one is due; 0: there were more than fit */
};

enum { DUE_ROWS_MAX = 1000 };

/**
 * Take up what is due. On success taken->items are the caller's; on failure there are none, and the
 * connection is rolled back or of no more use (as the code's action says).
 */
OBX_NODISCARD enum obx_code due_take(struct db *db, const struct due_opts *opts,
                                     struct due_taken *taken, struct obx_err *err);

/** Give rows back that were taken up and not tried: their attempts have not been made. */
OBX_NODISCARD enum obx_code due_give_back(struct db *db, const struct item_list *items,
                                          struct obx_err *err);
/** Remove the rows of dead letters that are confirmed, and let their keys go on. */
OBX_NODISCARD enum obx_code due_remove_letters(struct db *db, const struct settings *settings,
                                               const struct item_list *letters,
                                               struct obx_err *err);
/**
 * Make rows due that wait behind nothing: where a process added a row while another removed the one
 * before it, neither has seen the other. Looks at the first rows of the next keys after *from,
 * which it moves on, empty after the last key; *found of them were made due.
 */
OBX_NODISCARD enum obx_code due_find_orphans(struct db *db, const struct settings *settings,
                                             struct obx_buf *from, uint64_t *found,
                                             struct obx_err *err);

#endif
