/*
 * What a failed statement means for those who ran it: whether to try the same again, whether what
 * is in memory still holds, and how long a single row at fault waits. One place, because to close
 * the connection for the wrong reason publishes again everything that is confirmed, and to keep it
 * for the wrong one writes without the lease. Used by all parts of the lane. Proved by
 * tests/system/lane_refused_test.c and lane_lock_test.c.
 */
#ifndef LANE_FAILURES_H
#define LANE_FAILURES_H

#include <stdbool.h>
#include <stdint.h>

#include "lane/flight/flight.h"
#include "obx/err.h"
#include "sql/db.h"

/** The moment is to blame: the same again, later. Connection and lease are as before. */
bool failure_is_transient(enum obx_code rc);
/** The connection and what is in memory still hold. */
bool failure_keeps_db(const struct db *db, enum obx_code rc);
/** What is in the tables, or is locked there, is to blame, so that without the row at fault the
 * statement would not have failed: neither the connection nor the moment. */
bool failure_is_of_a_row(const struct db *db, enum obx_code rc);

enum {
    HOLD_MIN_MS = 200,        /* the first wait of a row that was refused alone */
    HOLD_LOCKED_CAP_MS = 2000 /* of one that is locked: to see whether it still is costs no wait */
};
/** The row was refused, or found locked, once more: it waits by itself, longer each time, up to
 * cap_ms. */
void failure_hold_refused(struct flight_row *row, uint32_t cap_ms);
void failure_hold_locked(struct flight_row *row, uint32_t cap_ms);

#endif
