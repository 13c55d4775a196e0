/*
 * The lease, and the small statements. Reading due rows is ledger_due.c, writing results
 * ledger_record.c.
 */
#include "ledger_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

enum { MARGIN_PART = 10, RENEW_PART = 3, CLEAN_ROWS = 500, TEXT_MAX = 256 };

/* ---- the lease ---- */

static const char sql_make[] = "INSERT INTO inbox_lease (consumer_group, owner, epoch, expires_at)"
                               " VALUES (?, '', 0, UTC_TIMESTAMP(6))";
static const char sql_look[] = "SELECT epoch, expires_at <= UTC_TIMESTAMP(6),"
                               " TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)),"
                               " connection_id FROM inbox_lease WHERE consumer_group = ?";
static const char sql_take[] = "UPDATE inbox_lease SET owner = ?, epoch = epoch + 1,"
                               " connection_id = CONNECTION_ID(),"
                               " acquired_at = UTC_TIMESTAMP(6),"
                               " expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND"
                               " WHERE consumer_group = ? AND epoch = ?"
                               " AND expires_at <= UTC_TIMESTAMP(6)";
static const char sql_renew[] =
    "UPDATE inbox_lease SET expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND,"
    " connection_id = CONNECTION_ID() WHERE consumer_group = ? AND owner = ? AND epoch = ?";
static const char sql_release[] = "UPDATE inbox_lease SET expires_at = UTC_TIMESTAMP(6)"
                                  " WHERE consumer_group = ? AND owner = ? AND epoch = ?";

/* The lease was given or renewed by a statement that was sent at sent_ms. */
static void count_from(struct ledger *ledger, uint64_t sent_ms)
{
    ledger->held_until_ms = sent_ms + ledger->lease_ms - ledger->lease_ms / MARGIN_PART;
    ledger->renew_due_ms = sent_ms + ledger->lease_ms / RENEW_PART;
}

/* What the lease's row says. */
struct seen {
    bool exists, is_free;
    uint64_t epoch, connection_id;
};

static enum obx_code look(struct ledger *ledger, struct seen *seen, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(ledger->db, sql_look, DB_ARGS(DB_TEXT(ledger->group)), &rows, err);

    memset(seen, 0, sizeof(*seen));
    seen->exists = rc == OBX_OK && db_rows_next(rows);
    if (seen->exists) {
        seen->epoch = db_rows_u64(rows, 0);
        seen->is_free = db_rows_u64(rows, 1) != 0;
        seen->connection_id = db_rows_u64(rows, 3);
        ledger->db_offset_us = (int64_t)(db_rows_u64(rows, 2) - clock_now_us());
    }
    db_rows_free(rows);
    return rc;
}

/* Another process may make it at the same moment: then it is there, which is all that is wanted. */
static enum obx_code make(struct ledger *ledger, struct obx_err *err)
{
    enum obx_code rc = db_exec(ledger->db, sql_make, DB_ARGS(DB_TEXT(ledger->group)), NULL, err);

    return rc == OBX_E_DB_DUPLICATE ? OBX_OK : rc;
}

/* The lease is over, and yet its row is locked: its owner stands still inside a transaction
 * (stopped, or cut off without the server's knowing) and would hold it for as long as the server
 * lets it. Its session is ended, which undoes what it had begun; both are of one account, so that
 * no right is needed. */
static void end_session(struct ledger *ledger, uint64_t connection_id)
{
    char sql[48];
    struct obx_err err = {0};

    if (connection_id == 0 || connection_id == db_connection_id(ledger->db))
        return;
    snprintf(sql, sizeof(sql), "KILL %" PRIu64, connection_id);
    if (db_exec_text(ledger->db, bytes_of(sql), NULL, &err) == OBX_OK)
        OBX_LOG(LOG_LVL_WARN, "notify", "lease.owner_stands_still", KV_STR("group", ledger->group),
                KV_U64("ended_session", connection_id));
    else
        OBX_LOG(LOG_LVL_WARN, "notify", "lease.owner_stands_still", KV_STR("group", ledger->group),
                KV_U64("session", connection_id), KV_ERR(&err));
}

static enum obx_code take(struct ledger *ledger, const struct seen *seen, bool *acquired,
                          struct obx_err *err)
{
    uint64_t sent_ms = clock_now_ms();
    uint64_t taken = 0;
    enum obx_code rc =
        db_exec(ledger->db, sql_take,
                DB_ARGS(DB_TEXT(ledger->owner), DB_U64(ledger->lease_ms * UINT64_C(1000)),
                        DB_TEXT(ledger->group), DB_U64(seen->epoch)),
                &taken, err);

    if (rc == OBX_E_DB_LOCK_WAIT)
        end_session(ledger, seen->connection_id);
    if (rc == OBX_OK && taken == 1) {
        ledger->epoch = seen->epoch + 1;
        count_from(ledger, sent_ms);
        *acquired = true;
    }
    return rc;
}

enum obx_code ledger_acquire(struct ledger *ledger, bool *acquired, struct obx_err *err)
{
    struct seen seen;
    enum obx_code rc = look(ledger, &seen, err);

    *acquired = false;
    if (rc == OBX_OK && !seen.exists) {
        rc = make(ledger, err);
        seen.is_free = true;
    }
    return rc != OBX_OK || !seen.is_free ? rc : take(ledger, &seen, acquired, err);
}

static enum obx_code renew(struct ledger *ledger, struct obx_err *err)
{
    uint64_t matched = 0;
    enum obx_code rc =
        db_exec(ledger->db, sql_renew,
                DB_ARGS(DB_U64(ledger->lease_ms * UINT64_C(1000)), DB_TEXT(ledger->group),
                        DB_TEXT(ledger->owner), DB_U64(ledger->epoch)),
                &matched, err);

    if (rc == OBX_OK && matched == 0)
        rc = obx_fail(err, OBX_E_LEASE_LOST, "group %s, epoch %" PRIu64, ledger->group,
                      ledger->epoch);
    return rc;
}

enum obx_code ledger_renew(struct ledger *ledger, struct obx_err *err)
{
    uint64_t sent_ms = clock_now_ms();
    enum obx_code rc = renew(ledger, err);

    if (rc == OBX_OK)
        count_from(ledger, sent_ms);
    return rc;
}

void ledger_release(struct ledger *ledger)
{
    struct obx_err err = {0};

    if (ledger->epoch != 0 && ledger->db != NULL &&
        db_exec(ledger->db, sql_release,
                DB_ARGS(DB_TEXT(ledger->group), DB_TEXT(ledger->owner), DB_U64(ledger->epoch)),
                NULL, &err) != OBX_OK)
        OBX_LOG(LOG_LVL_INFO, "notify", "lease.not_released", KV_ERR(&err)); /* it runs out */
    ledger->epoch = 0;
}

bool ledger_holds(const struct ledger *ledger, uint64_t now_ms)
{
    return ledger->epoch != 0 && now_ms < ledger->held_until_ms;
}

void ledger_fini(struct ledger *ledger)
{
    buf_fini(&ledger->ids);
    db_close(ledger->db);
    ledger->db = NULL;
}

enum obx_code ledger_begin(struct ledger *ledger, struct obx_err *err)
{
    enum obx_code rc = db_begin(ledger->db, err);

    if (rc != OBX_OK)
        return rc;
    ledger->fenced_at_ms = clock_now_ms();
    rc = renew(ledger, err);
    if (rc != OBX_OK)
        (void)db_rollback(ledger->db, NULL);
    return rc;
}

enum obx_code ledger_commit(struct ledger *ledger, struct obx_err *err)
{
    enum obx_code rc = db_commit(ledger->db, err);

    if (rc == OBX_OK)
        count_from(ledger, ledger->fenced_at_ms);
    else if (rc != OBX_E_DB_COMMIT_UNKNOWN)
        (void)db_rollback(ledger->db, NULL);
    return rc;
}

enum obx_code ledger_add_id(struct ledger *ledger, uint64_t id)
{
    return buf_addf(&ledger->ids, "%s%" PRIu64, ledger->ids.len == 0 ? "[" : ",", id);
}

struct obx_bytes ledger_ids(struct ledger *ledger)
{
    const char *end = ledger->ids.len == 0 ? "[]" : "]";

    if (buf_add_text(&ledger->ids, end) != OBX_OK)
        return (struct obx_bytes){NULL, 0};
    return buf_bytes(&ledger->ids);
}

/* ---- pauses, counts, cleaning ---- */

enum obx_code ledger_read_pauses(struct ledger *ledger, ledger_pause_fn *each, void *ctx,
                                 struct obx_err *err)
{
    struct db_rows *rows = NULL;
    char name[TEXT_MAX], reason[TEXT_MAX];
    enum obx_code rc = db_query(ledger->db,
                                "SELECT endpoint, is_paused, reason FROM inbox_endpoint"
                                " WHERE consumer_group = ?",
                                DB_ARGS(DB_TEXT(ledger->group)), &rows, err);

    while (rc == OBX_OK && db_rows_next(rows)) {
        (void)bytes_to_text(db_rows_bytes(rows, 0), name, sizeof(name));
        (void)bytes_to_text(db_rows_bytes(rows, 2), reason, sizeof(reason));
        each(name, db_rows_u64(rows, 1) != 0, reason, ctx);
    }
    db_rows_free(rows);
    return rc;
}

enum obx_code ledger_count(struct ledger *ledger, const char *endpoint, struct ledger_counts *out,
                           struct obx_err *err)
{
    static const char sql[] =
        "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM inbox_call WHERE consumer_group = ?"
        " AND endpoint = ? AND state = 'waiting' LIMIT ?) w),"
        " (SELECT COUNT(*) FROM (SELECT 1 FROM inbox_call WHERE consumer_group = ?"
        " AND endpoint = ? AND state = 'given_up' LIMIT ?) g),"
        " GREATEST(0, COALESCE((SELECT TIMESTAMPDIFF(MICROSECOND, due_at, UTC_TIMESTAMP(6))"
        " FROM inbox_call WHERE consumer_group = ? AND endpoint = ? AND state = 'waiting'"
        " ORDER BY due_at LIMIT 1), 0))";
    const struct obx_value group = DB_TEXT(ledger->group), name = DB_TEXT(endpoint);
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(ledger->db, sql,
                                DB_ARGS(group, name, DB_U64(LEDGER_COUNT_CAP), group, name,
                                        DB_U64(LEDGER_COUNT_CAP), group, name),
                                &rows, err);

    if (rc == OBX_OK && db_rows_next(rows))
        *out = (struct ledger_counts){.waiting = db_rows_u64(rows, 0),
                                      .given_up = db_rows_u64(rows, 1),
                                      .oldest_due_us = db_rows_u64(rows, 2)};
    db_rows_free(rows);
    return rc;
}

/* The ids that the query gives, into the array; how many. */
static enum obx_code collect(struct ledger *ledger, const struct idset *held, const char *sql,
                             const struct obx_value *args, size_t arg_count, size_t *count,
                             struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(ledger->db, sql, args, arg_count, &rows, err);

    *count = 0;
    buf_reset(&ledger->ids);
    while (rc == OBX_OK && db_rows_next(rows)) {
        uint64_t id = db_rows_u64(rows, 0);

        if (held != NULL && idset_has(held, id))
            continue;
        (*count)++;
        if (ledger_add_id(ledger, id) != OBX_OK)
            rc = obx_fail(err, OBX_E_NOMEM, "list of ids");
    }
    db_rows_free(rows);
    return rc;
}

/* One fenced statement over the ids collected. */
static enum obx_code run_fenced(struct ledger *ledger, const char *sql, uint64_t *affected,
                                struct obx_err *err)
{
    struct obx_bytes ids = ledger_ids(ledger);
    enum obx_code rc;

    if (bytes_is_absent(ids))
        return obx_fail(err, OBX_E_NOMEM, "list of ids");
    rc = ledger_begin(ledger, err);
    if (rc != OBX_OK)
        return rc;
    rc = db_exec(ledger->db, sql, DB_ARGS(DB_BYTES(ids)), affected, err);
    if (rc == OBX_OK)
        return ledger_commit(ledger, err);
    (void)db_rollback(ledger->db, NULL);
    return rc;
}

#define OF_IDS                                                                                     \
    " JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) k STRAIGHT_JOIN"                 \
    " inbox_call n FORCE INDEX (PRIMARY) ON n.id = k.id"

enum obx_code ledger_clean(struct ledger *ledger, const char *endpoint, uint64_t *removed,
                           struct obx_err *err)
{
    static const char sql_find[] =
        "(SELECT id FROM inbox_call FORCE INDEX (due) WHERE consumer_group = ?"
        " AND endpoint = ? AND state = 'delivered' AND due_at <= UTC_TIMESTAMP(6)"
        " ORDER BY due_at LIMIT ?) UNION ALL"
        " (SELECT id FROM inbox_call FORCE INDEX (due) WHERE consumer_group = ?"
        " AND endpoint = ? AND state = 'given_up' AND due_at <= UTC_TIMESTAMP(6)"
        " ORDER BY due_at LIMIT ?)";
    const struct obx_value group = DB_TEXT(ledger->group), name = DB_TEXT(endpoint);
    size_t count = 0;
    enum obx_code rc = collect(
        ledger, NULL, sql_find,
        DB_ARGS(group, name, DB_U64(CLEAN_ROWS), group, name, DB_U64(CLEAN_ROWS)), &count, err);

    *removed = 0;
    if (rc != OBX_OK || count == 0)
        return rc;
    return run_fenced(ledger, "DELETE n FROM" OF_IDS " WHERE n.state <> 'waiting'", removed, err);
}

enum obx_code ledger_expire(struct ledger *ledger, const struct due_request *request,
                            uint64_t overdue_ms, uint64_t *expired, struct obx_err *err)
{
    static const char sql_find[] =
        "SELECT id FROM inbox_call FORCE INDEX (due) WHERE consumer_group = ?"
        " AND endpoint = ? AND state = 'waiting'"
        " AND due_at <= UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND ORDER BY due_at LIMIT ?";
    uint32_t keep_ms = request->config->keep_given_up_ms;
    char sql[512];
    size_t count = 0;
    enum obx_code rc = collect(ledger, &request->outlet->keeper.held, sql_find,
                               DB_ARGS(DB_TEXT(ledger->group), DB_TEXT(request->endpoint->name),
                                       DB_U64(overdue_ms * LEDGER_US_PER_MS), DB_U64(CLEAN_ROWS)),
                               &count, err);

    *expired = 0;
    if (rc != OBX_OK || count == 0)
        return rc;
    snprintf(sql, sizeof(sql),
             "UPDATE" OF_IDS " SET n.state = 'given_up', n.due_at = IF(%" PRIu32
             " = 0, NULL, UTC_TIMESTAMP(6) + INTERVAL %" PRIu32 " * 1000 MICROSECOND),"
             " n.last_error = 'the endpoint could not be reached for the whole schedule'"
             " WHERE n.state = 'waiting' AND n.due_at <= UTC_TIMESTAMP(6) - INTERVAL %" PRIu64
             " * 1000 MICROSECOND",
             keep_ms, keep_ms, overdue_ms);
    return run_fenced(ledger, sql, expired, err);
}
