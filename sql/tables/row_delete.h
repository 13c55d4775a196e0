/*
 * Deleting rows by id without touching any other row, not even to look whether it is locked.
 *
 * `DELETE ... WHERE id IN (...)` does not do that: on a small table the optimiser scans all of it
 * and waits for the producers' uncommitted rows; and a scan over BETWEEN a AND b goes on to the row
 * after b. So runs of consecutive ids are deleted by BETWEEN a AND b - 1 (the row after it is b, our
 * own), where the server reads such a range by the key whatever its share of the table is, and all
 * others by a join that begins with their list. Used by the lane thread within a
 * transaction of its own. Proved by tests/system/row_delete_test.c.
 */
#ifndef RELAY_ROW_DELETE_H
#define RELAY_ROW_DELETE_H

#include <stdint.h>

#include "base/bytes.h"
#include "id_list.h"
#include "sql/db.h"

struct row_delete {
    struct obx_buf range, list, one; /* statements */
    struct id_list rest;             /* scratch: the ids outside of runs */
};

/** table is quoted already, column is its primary key. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code row_delete_init(struct row_delete *del, const char *table,
                                            const char *column, struct obx_err *err);
void row_delete_fini(struct row_delete *del);
/** ids ascending, each once. *deleted gets how many rows there were. Errors as db_exec. */
OBX_NODISCARD enum obx_code row_delete_run(struct row_delete *del, struct db *db,
                                           const uint64_t *ids, size_t count, uint64_t *deleted,
                                           struct obx_err *err);

#endif
