/*
 * The lease of an outbox. See lease.h.
 */
#include "lease.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"

enum {
    MARGIN_PART = 10,
    RENEW_PART = 3,
    ABANDONED_LEASES = 2, /* not renewed for so long: six renewals have not come */
    US_PER_MS = 1000
};

static const char sql_look[] =
    "SELECT owner, epoch, COALESCE(address, ''),"
    " GREATEST(TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), expires_at), 0),"
    " TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)),"
    " TIMESTAMPDIFF(MICROSECOND, '1970-01-01', expires_at)"
    " FROM outbox_lease WHERE outbox = ?";
static const char sql_make[] = "INSERT INTO outbox_lease (outbox, owner, epoch, expires_at) VALUES "
                               "(?, '', 0, UTC_TIMESTAMP(6))";
/* FORCE INDEX here and below: on a table of a few rows the optimiser may prefer to look at all of
   them, and a writing statement locks what it looks at, other lanes' leases too. */
static const char sql_take[] =
    "UPDATE outbox_lease FORCE INDEX (PRIMARY) SET owner = ?, address = ?, epoch = epoch + 1,"
    " acquired_at = UTC_TIMESTAMP(6),"
    " expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND"
    " WHERE outbox = ? AND epoch = ?"
    " AND (expires_at <= UTC_TIMESTAMP(6) OR (owner = ? AND epoch = ?)"
    " OR TIMESTAMPDIFF(MICROSECOND, '1970-01-01', expires_at) = ?)";
static const char sql_renew[] = "UPDATE outbox_lease FORCE INDEX (PRIMARY)"
                                " SET expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND"
                                " WHERE outbox = ? AND owner = ? AND epoch = ?";
static const char sql_release[] = "UPDATE outbox_lease FORCE INDEX (PRIMARY)"
                                  " SET expires_at = UTC_TIMESTAMP(6)"
                                  " WHERE outbox = ? AND owner = ? AND epoch = ?";

void lease_init(struct lease *lease, const struct lease_opts *opts)
{
    memset(lease, 0, sizeof(*lease));
    lease->opts = *opts;
}

static uint64_t lease_us(const struct lease *lease)
{
    return (uint64_t)lease->opts.lease_ms * US_PER_MS;
}

/* The lease was given or renewed by a statement that was sent at sent_ms. */
static void count_from(struct lease *lease, uint64_t sent_ms)
{
    uint32_t lease_ms = lease->opts.lease_ms;

    lease->held_until_ms = sent_ms + lease_ms - lease_ms / MARGIN_PART;
    lease->renew_due_ms = sent_ms + lease_ms / RENEW_PART;
}

void lease_note_db_clock(struct lease *lease, uint64_t db_us)
{
    lease->db_at_us = db_us;
    lease->clock_at_us = clock_now_us();
}

uint64_t lease_db_now_us(const struct lease *lease)
{
    return lease->db_at_us == 0 ? 0 : lease->db_at_us + (clock_now_us() - lease->clock_at_us);
}

/* Whether, when and by how much the lease was renewed, told by our own clock. */
static void watch(struct lease *lease, uint64_t epoch, uint64_t expires_us)
{
    bool is_same = epoch == lease->seen_epoch;

    if (is_same && expires_us == lease->seen_expires_us)
        return;
    if (!is_same)
        lease->seen_lease_ms = lease->opts.lease_ms;
    else if (lease->free_in_ms > lease->seen_lease_ms)
        lease->seen_lease_ms = lease->free_in_ms;
    lease->seen_epoch = epoch;
    lease->seen_expires_us = expires_us;
    lease->seen_since_ms = clock_now_ms();
}

static bool is_abandoned(const struct lease *lease)
{
    return clock_now_ms() - lease->seen_since_ms > lease->seen_lease_ms * ABANDONED_LEASES;
}

/* What the row says. *epoch is UINT64_MAX when there is none. */
static enum obx_code look(struct lease *lease, struct db *db, uint64_t *epoch, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, sql_look, DB_ARGS(DB_TEXT(lease->opts.outbox)), &rows, err);

    *epoch = UINT64_MAX;
    if (rc != OBX_OK)
        return rc;
    lease->seen_owner[0] = '\0';
    lease->seen_address[0] = '\0';
    lease->free_in_ms = 0;
    if (db_rows_next(rows)) {
        *epoch = db_rows_u64(rows, 1);
        lease->free_in_ms = db_rows_u64(rows, 3) / US_PER_MS;
        lease_note_db_clock(lease, db_rows_u64(rows, 4));
        watch(lease, *epoch, db_rows_u64(rows, 5));
        if (lease->free_in_ms > 0) {
            (void)bytes_to_text(db_rows_bytes(rows, 0), lease->seen_owner,
                                sizeof(lease->seen_owner));
            (void)bytes_to_text(db_rows_bytes(rows, 2), lease->seen_address,
                                sizeof(lease->seen_address));
        }
    }
    db_rows_free(rows);
    return OBX_OK;
}

static bool is_own(const struct lease *lease, uint64_t epoch)
{
    return lease->last_epoch != 0 && lease->last_epoch == epoch &&
           strcmp(lease->seen_owner, lease->opts.owner) == 0;
}

/* Another relay may make the row at the same moment: then it is there, which is all that is wanted.
 */
static enum obx_code make_row(struct lease *lease, struct db *db, struct obx_err *err)
{
    enum obx_code rc = db_exec(db, sql_make, DB_ARGS(DB_TEXT(lease->opts.outbox)), NULL, err);

    if (rc == OBX_E_DB_DUPLICATE) {
        obx_err_clear(err);
        return OBX_OK;
    }
    return rc;
}

static enum obx_code take(struct lease *lease, struct db *db, uint64_t epoch, bool *acquired,
                          struct obx_err *err)
{
    uint64_t sent_ms = clock_now_ms();
    uint64_t taken = 0;
    enum obx_code rc =
        db_exec(db, sql_take,
                DB_ARGS(DB_TEXT(lease->opts.owner), DB_TEXT(lease->opts.address),
                        DB_U64(lease_us(lease)), DB_TEXT(lease->opts.outbox), DB_U64(epoch),
                        DB_TEXT(lease->opts.owner), DB_U64(lease->last_epoch),
                        is_abandoned(lease) ? DB_U64(lease->seen_expires_us) : DB_NULL()),
                &taken, err);

    if (rc != OBX_OK || taken == 0)
        return rc;
    lease->epoch = epoch + 1;
    lease->last_epoch = lease->epoch;
    count_from(lease, sent_ms);
    (void)snprintf(lease->seen_owner, sizeof(lease->seen_owner), "%s", lease->opts.owner);
    (void)snprintf(lease->seen_address, sizeof(lease->seen_address), "%s",
                   lease->opts.address == NULL ? "" : lease->opts.address);
    *acquired = true;
    OBX_CRASH_POINT("lease-acquired");
    return OBX_OK;
}

enum obx_code lease_try(struct lease *lease, struct db *db, bool *acquired, struct obx_err *err)
{
    uint64_t epoch = 0;
    enum obx_code rc = look(lease, db, &epoch, err);

    *acquired = false;
    if (rc == OBX_OK && epoch == UINT64_MAX) {
        rc = make_row(lease, db, err);
        epoch = 0;
    }
    if (rc != OBX_OK || (lease->free_in_ms > 0 && !is_own(lease, epoch) && !is_abandoned(lease)))
        return rc;
    return take(lease, db, epoch, acquired, err);
}

static enum obx_code extend(struct lease *lease, struct db *db, const char *sql, bool with_time,
                            struct obx_err *err)
{
    uint64_t matched = 0;
    enum obx_code rc = OBX_OK;

    if (with_time)
        rc = db_exec(db, sql,
                     DB_ARGS(DB_U64(lease_us(lease)), DB_TEXT(lease->opts.outbox),
                             DB_TEXT(lease->opts.owner), DB_U64(lease->epoch)),
                     &matched, err);
    else
        rc = db_exec(
            db, sql,
            DB_ARGS(DB_TEXT(lease->opts.outbox), DB_TEXT(lease->opts.owner), DB_U64(lease->epoch)),
            &matched, err);
    if (rc == OBX_OK && matched == 0)
        return obx_fail(err, OBX_E_LEASE_LOST, "outbox %s, epoch %llu", lease->opts.outbox,
                        (unsigned long long)lease->epoch);
    return rc;
}

enum obx_code lease_renew(struct lease *lease, struct db *db, struct obx_err *err)
{
    uint64_t sent_ms = clock_now_ms();
    enum obx_code rc = extend(lease, db, sql_renew, true, err);

    if (rc == OBX_OK)
        count_from(lease, sent_ms);
    return rc;
}

bool lease_holds(const struct lease *lease, uint64_t now_ms)
{
    return lease->epoch != 0 && now_ms < lease->held_until_ms;
}

enum obx_code lease_release(struct lease *lease, struct db *db, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (lease->epoch == 0)
        return OBX_OK;
    rc = extend(lease, db, sql_release, false, err);
    lease_drop(lease);
    if (rc == OBX_E_LEASE_LOST) {
        obx_err_clear(err);
        return OBX_OK;
    }
    return rc;
}

void lease_drop(struct lease *lease)
{
    lease->epoch = 0;
    lease->held_until_ms = 0;
}

enum obx_code lease_begin(struct lease *lease, struct db *db, struct obx_err *err)
{
    enum obx_code rc = db_begin(db, err);

    if (rc != OBX_OK)
        return rc;
    lease->fenced_at_ms = clock_now_ms();
    rc = extend(lease, db, sql_renew, true, err);
    if (rc != OBX_OK)
        lease_rollback(db);
    return rc;
}

enum obx_code lease_commit(struct lease *lease, struct db *db, struct obx_err *err)
{
    enum obx_code rc = db_commit(db, err);

    if (rc == OBX_OK)
        count_from(lease, lease->fenced_at_ms);
    else if (rc != OBX_E_DB_COMMIT_UNKNOWN)
        lease_rollback(db);
    return rc;
}

void lease_rollback(struct db *db)
{
    /* When even this fails the connection is of no use; the caller's error says so already or the
     * next statement will. */
    (void)db_rollback(db, NULL);
}
