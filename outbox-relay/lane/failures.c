/*
 * What a failed statement means. See failures.h.
 */
#include "failures.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/random.h"

bool failure_is_transient(enum obx_code rc)
{
    return rc == OBX_E_DB_DEADLOCK || rc == OBX_E_DB_LOCK_WAIT || rc == OBX_E_DB_FULL ||
           rc == OBX_E_CONFLICT || rc == OBX_E_NOMEM;
}

bool failure_keeps_db(const struct db *db, enum obx_code rc)
{
    return !db_is_lost(db) && rc != OBX_E_LEASE_LOST && rc != OBX_E_DB_READ_ONLY &&
           rc != OBX_E_DB_COMMIT_UNKNOWN;
}

/* A lock wait names a row, too: somebody has it in hand. */
bool failure_is_of_a_row(const struct db *db, enum obx_code rc)
{
    return rc != OBX_OK && failure_keeps_db(db, rc) &&
           (rc == OBX_E_DB_LOCK_WAIT || !failure_is_transient(rc));
}

static void hold(struct flight_row *row, uint16_t *times, uint32_t cap_ms)
{
    *times = *times < UINT16_MAX ? (uint16_t)(*times + 1) : *times;
    row->held_until_ms = clock_now_ms() + backoff_nth_ms(HOLD_MIN_MS, cap_ms, *times, random_u64());
}

/* Counted apart: what somebody has in hand for a while is no fault of the row, and does not park
 * it. */
void failure_hold_refused(struct flight_row *row, uint32_t cap_ms)
{
    hold(row, &row->refusals, cap_ms);
}

void failure_hold_locked(struct flight_row *row, uint32_t cap_ms)
{
    hold(row, &row->waits, cap_ms);
}
