/*
 * Rows of a side table that failed by themselves and are left out for a while, so that the others
 * go on. In memory only and bounded: a row that is pushed out, or whose time has come, is tried
 * again. Used by the lane thread (delayed.c, overdue.c, requests.c).
 */
#ifndef RELAY_HELD_ROWS_H
#define RELAY_HELD_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "obx/err.h"
#include "sql/db.h"

enum { HELD_ROWS_MAX = 64, HELD_NAME_MAX = 64 };

struct held_row {
    char name[HELD_NAME_MAX + 1]; /* its key in the table */
    uint64_t until_ms;
    uint32_t attempts;
};

/** Zero-initialise. */
struct held_rows {
    struct held_row rows[HELD_ROWS_MAX];
    size_t count;
    char why[OBX_ERR_TEXT_MAX]; /* of the last one */
};

/** Leave the row out for half a second, then longer each time, up to cap_ms. */
void held_rows_add(struct held_rows *held, struct obx_bytes name, uint32_t cap_ms,
                   const struct obx_err *why);
void held_rows_add_id(struct held_rows *held, uint64_t id, uint32_t cap_ms,
                      const struct obx_err *why);
/** As many are left out as can be kept in mind. */
bool held_rows_is_full(const struct held_rows *held);
/** Why the last one is left out; NULL when none is. */
const char *held_rows_why(const struct held_rows *held);
void held_rows_clear(struct held_rows *held);
/** Append " AND column NOT IN ('a','b')", nothing when no row is left out. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code held_rows_exclude(struct held_rows *held, struct db *db,
                                              struct obx_buf *sql, const char *column);

#endif
