/*
 * Which rows somebody else has locked, found without waiting for any of them.
 *
 * A batch that has run into a lock wait is asked here: rows that are there and cannot be locked at
 * this moment are left out of the next try, so that one row in somebody's hand costs one wait, and
 * the others go on. Used by the lane thread. Proved by tests/system/lane_lock_test.c.
 */
#ifndef RELAY_ROW_LOCKS_H
#define RELAY_ROW_LOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "id_list.h"
#include "sql/db.h"

struct row_locks {
    struct obx_buf outbox;   /* "SELECT o.id FROM ... WHERE o.id IN (" */
    struct obx_buf awaiting; /* the same of rows that have one in outbox_awaiting as well */
    struct id_list list;     /* scratch */
};

/** table is the quoted name of the outbox. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code row_locks_init(struct row_locks *locks, const char *table,
                                           struct obx_err *err);
void row_locks_fini(struct row_locks *locks);
/**
 * Set is_locked[i] for each of the ids (ascending) whose row in the outbox is there and locked by
 * somebody; with_awaiting: or whose row in outbox_awaiting is. A transaction of its own that holds
 * nothing afterwards. Any OBX_E_DB_*.
 */
OBX_NODISCARD enum obx_code row_locks_find(struct row_locks *locks, struct db *db,
                                           const uint64_t *ids, size_t count, bool with_awaiting,
                                           bool *is_locked, struct obx_err *err);

#endif
