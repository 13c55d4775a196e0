/*
 * Leases. See lease.h.
 */
#include "lease.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"

enum {
    MARGIN_PART = 10,
    RENEW_PART = 3,
    ABANDONED_LEASES = 2, /* not renewed for so long: six renewals have not come */
    LOCK_WAIT_PART = 4,   /* a statement waits for a lock at most this part of the lease */
    STILL_PART = 4,       /* a session that is silent for this part of it stands still */
    STILL_MIN_S = 2,      /* the server counts whole seconds, and one may be a moment */
    IDLE_MARGIN_S = 2,    /* a silent session ends so long after the lease */
    MS_PER_S = 1000,
    US_PER_MS = 1000
};

/* The same statements over both tables. FORCE INDEX: on a table of a few rows the optimiser may
 * prefer to read all of them, and a writing statement locks what it reads, other leases too. */
struct lease_sql {
    const char *look, *make, *take, *renew, *release;
};
#define UPDATE_LEASE(table) "UPDATE " table " FORCE INDEX (PRIMARY) SET "
#define IS_HELD(key)        " WHERE " key " = ? AND owner = ? AND epoch = ?"
#define LEASE_SQL(table, key)                                                                      \
    {                                                                                              \
        .look = "SELECT owner, epoch, COALESCE(address, ''),"                                      \
                " GREATEST(TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), expires_at), 0),"          \
                " TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)),"                     \
                " TIMESTAMPDIFF(MICROSECOND, '1970-01-01', expires_at), connection_id"             \
                " FROM " table " WHERE " key " = ?",                                               \
        .make = "INSERT INTO " table " (" key ", owner, epoch, expires_at)"                        \
                " VALUES (?, '', 0, UTC_TIMESTAMP(6))",                                            \
        .take = UPDATE_LEASE(                                                                      \
            table) "owner = ?, address = ?, epoch = epoch + 1,"                                    \
                   " connection_id = CONNECTION_ID(), acquired_at = UTC_TIMESTAMP(6),"             \
                   " expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND"                       \
                   " WHERE " key " = ? AND epoch = ?"                                              \
                   " AND (expires_at <= UTC_TIMESTAMP(6) OR (owner = ? AND epoch = ?)"             \
                   " OR TIMESTAMPDIFF(MICROSECOND, '1970-01-01', expires_at) = ?)",                \
        .renew = UPDATE_LEASE(table) "expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND,"     \
                                     " connection_id = CONNECTION_ID()" IS_HELD(key),              \
        .release = UPDATE_LEASE(table) "expires_at = UTC_TIMESTAMP(6)" IS_HELD(key)                \
    }
static const struct lease_sql texts[] = {
    [LEASE_OUTBOX] = LEASE_SQL("outbox_lease", "outbox"),
    [LEASE_GROUP] = LEASE_SQL("inbox_lease", "consumer_group"),
};

static const struct lease_sql *sql_of(const struct lease *lease)
{
    return &texts[lease->opts.kind];
}

void lease_init(struct lease *lease, const struct lease_opts *opts)
{
    memset(lease, 0, sizeof(*lease));
    lease->opts = *opts;
}

void lease_limit_session(struct db_opts *db, uint32_t lease_ms)
{
    uint32_t lock_wait_s = lease_ms / LOCK_WAIT_PART / MS_PER_S;

    lock_wait_s = lock_wait_s > 0 ? lock_wait_s : 1;
    /* Nor longer when the source allows more: meanwhile the owner's thread stands still. */
    if (db->lock_wait_s == 0 || db->lock_wait_s > lock_wait_s)
        db->lock_wait_s = lock_wait_s;
    if (db->idle_s == 0)
        db->idle_s = lease_ms / MS_PER_S + IDLE_MARGIN_S;
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

int64_t lease_db_offset_us(const struct lease *lease)
{
    return (int64_t)(lease->db_at_us - lease->clock_at_us);
}

/* Whether, when and by how much the lease was renewed, by our own clock. */
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
    enum obx_code rc =
        db_query(db, sql_of(lease)->look, DB_ARGS(DB_TEXT(lease->opts.name)), &rows, err);

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
        lease->seen_connection_id = db_rows_u64(rows, 6);
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
    enum obx_code rc =
        db_exec(db, sql_of(lease)->make, DB_ARGS(DB_TEXT(lease->opts.name)), NULL, err);

    if (rc == OBX_E_DB_DUPLICATE) {
        obx_err_clear(err);
        return OBX_OK;
    }
    return rc;
}

/* Whether the session that the row names is there and has waited for its client for a while: only
 * then does its owner stand still. A statement that takes longer than the lease is work, and would be
 * begun again for ever. So is a transaction of many short statements, which waits for its client
 * between any two of them, but never for long, however far away that is. "For long" follows the lease:
 * an owner that is silent for a quarter of it has missed a renewal, or is about to. */
static enum obx_code is_idle(const struct lease *lease, struct db *db, bool *is_idle,
                             struct obx_err *err)
{
    /* The columns as both servers have printed them since there is the statement. */
    enum { ID = 0, COMMAND = 4, TIME = 5 };
    const uint64_t part_s = lease->seen_lease_ms / STILL_PART / MS_PER_S;
    const uint64_t still_s = part_s > STILL_MIN_S ? part_s : STILL_MIN_S;
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query_text(db, bytes_of("SHOW PROCESSLIST"), &rows, err);

    *is_idle = false;
    while (rc == OBX_OK && db_rows_next(rows)) {
        if (db_rows_u64(rows, ID) == lease->seen_connection_id)
            *is_idle = bytes_is(db_rows_bytes(rows, COMMAND), "Sleep") &&
                       db_rows_u64(rows, TIME) >= still_s;
    }
    db_rows_free(rows);
    return rc;
}

/*
 * The lease has expired, and yet its row is locked: its owner stands still inside a transaction,
 * and the server has not ended its session yet. It is ended now, which undoes what it had begun.
 * Both are of one account, so that no right is needed, and none but that account's sessions are
 * shown. What cannot be done is only said: the caller tries again later.
 */
static void end_session(const struct lease *lease, struct db *db)
{
    const uint64_t id = lease->seen_connection_id;
    struct obx_err err = {0};
    bool stands_still = false;
    char sql[48];
    enum obx_code rc = OBX_OK;

    if (id == 0 || id == db_connection_id(db))
        return;
    rc = is_idle(lease, db, &stands_still, &err);
    if (rc == OBX_OK && !stands_still)
        return;
    (void)snprintf(sql, sizeof(sql), "KILL %" PRIu64, id);
    if (rc == OBX_OK)
        rc = db_exec_text(db, bytes_of(sql), NULL, &err);
    OBX_LOG(LOG_LVL_WARN, "lease", "lease.owner_stands_still", KV_STR("lease", lease->opts.name),
            KV_U64("session", id), KV_BOOL("is_ended", rc == OBX_OK), KV_ERR(&err));
}

static enum obx_code take(struct lease *lease, struct db *db, uint64_t epoch, bool *acquired,
                          struct obx_err *err)
{
    uint64_t sent_ms = clock_now_ms();
    uint64_t taken = 0;
    enum obx_code rc =
        db_exec(db, sql_of(lease)->take,
                DB_ARGS(DB_TEXT(lease->opts.owner), DB_TEXT(lease->opts.address),
                        DB_U64(lease_us(lease)), DB_TEXT(lease->opts.name), DB_U64(epoch),
                        DB_TEXT(lease->opts.owner), DB_U64(lease->last_epoch),
                        is_abandoned(lease) ? DB_U64(lease->seen_expires_us) : DB_NULL()),
                &taken, err);

    if (rc == OBX_E_DB_LOCK_WAIT)
        end_session(lease, db);
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

/* Whether it is to be left to somebody else for a while yet. */
static bool is_patient(struct lease *lease, bool is_held)
{
    const uint64_t now_ms = clock_now_ms();

    if (is_held)
        lease->free_since_ms = 0;
    else if (lease->free_since_ms == 0)
        lease->free_since_ms = now_ms;
    return !is_held && now_ms - lease->free_since_ms < lease->patience_ms;
}

enum obx_code lease_try(struct lease *lease, struct db *db, bool *acquired, struct obx_err *err)
{
    bool is_held = false;
    uint64_t epoch = 0;
    enum obx_code rc = look(lease, db, &epoch, err);

    *acquired = false;
    if (rc == OBX_OK && epoch == UINT64_MAX) {
        rc = make_row(lease, db, err);
        epoch = 0;
    }
    is_held = lease->free_in_ms > 0 && !is_own(lease, epoch) && !is_abandoned(lease);
    if (rc != OBX_OK || is_patient(lease, is_held) || is_held)
        return rc;
    return take(lease, db, epoch, acquired, err);
}

static enum obx_code check_held(const struct lease *lease, enum obx_code rc, uint64_t matched,
                                struct obx_err *err)
{
    if (rc == OBX_OK && matched == 0)
        return obx_fail(err, OBX_E_LEASE_LOST, "%s, epoch %" PRIu64, lease->opts.name,
                        lease->epoch);
    return rc;
}

static enum obx_code extend(struct lease *lease, struct db *db, struct obx_err *err)
{
    uint64_t matched = 0;
    enum obx_code rc = db_exec(db, sql_of(lease)->renew,
                               DB_ARGS(DB_U64(lease_us(lease)), DB_TEXT(lease->opts.name),
                                       DB_TEXT(lease->opts.owner), DB_U64(lease->epoch)),
                               &matched, err);

    return check_held(lease, rc, matched, err);
}

enum obx_code lease_renew(struct lease *lease, struct db *db, struct obx_err *err)
{
    uint64_t sent_ms = clock_now_ms();
    enum obx_code rc = extend(lease, db, err);

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
    uint64_t matched = 0;
    enum obx_code rc = OBX_OK;

    if (lease->epoch == 0)
        return OBX_OK;
    rc = db_exec(
        db, sql_of(lease)->release,
        DB_ARGS(DB_TEXT(lease->opts.name), DB_TEXT(lease->opts.owner), DB_U64(lease->epoch)),
        &matched, err);
    rc = check_held(lease, rc, matched, err);
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
    rc = extend(lease, db, err);
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
