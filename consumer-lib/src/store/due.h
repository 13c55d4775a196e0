/*
 * Taking up rows of inbox_parked that are due: attempts are counted and committed before any handler
 * runs, requests of operators are done, dead rows set out for the dead-letter queue. One
 * transaction of its own on the worker's connection.
 *
 * Any number of processes may do so at the same time: rows are locked by primary key, with SKIP
 * LOCKED. A row that is taken up is under a claim, which its batch looks for again.
 */
#ifndef CONSUMER_DUE_H
#define CONSUMER_DUE_H

#include "sql/db.h"
#include "store/store.h"

enum { DUE_ROWS_MAX = 1000 };

/** As store_ops.take_due. */
OBX_NODISCARD enum obx_code due_take(struct db *db, const struct due_opts *opts,
                                     struct due_taken *taken, struct obx_err *err);

/** As store_ops.give_back. */
OBX_NODISCARD enum obx_code due_give_back(struct db *db, const struct item_list *items,
                                          struct obx_err *err);
/** As store_ops.remove_letters. */
OBX_NODISCARD enum obx_code due_remove_letters(struct db *db, const struct settings *settings,
                                               const struct item_list *letters,
                                               struct obx_err *err);
/** As store_ops.free_keys: it looks at the first row of each key. */
OBX_NODISCARD enum obx_code due_free_keys(struct db *db, const struct settings *settings,
                                          struct obx_buf *from, uint64_t *found,
                                          struct obx_err *err);

#endif
