/*
 * The small statements: pauses, counts, cleaning. Reading due rows is ledger_due.c, writing results
 * ledger_record.c.
 *
 * Rows are looked for without a lock and changed by id under the lease, with their state looked at
 * again: an operator may have sent them again, or paused the endpoint, in between.
 */
#include "ledger_private.h"

#include <inttypes.h>
#include <stdio.h>

enum { CLEAN_ROWS = 500, TEXT_MAX = 256 };

void ledger_fini(struct ledger *ledger)
{
    id_list_fini(&ledger->ids);
    db_close(ledger->db);
    ledger->db = NULL;
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
    /* Counted up to a limit: an exact count of a table with a backlog of millions would be the most
     * expensive statement of the program, every few seconds, for a number that nobody reads. */
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
    id_list_clear(&ledger->ids);
    while (rc == OBX_OK && db_rows_next(rows)) {
        uint64_t id = db_rows_u64(rows, 0);

        if (held != NULL && idset_has(held, id))
            continue;
        (*count)++;
        rc = id_list_add(&ledger->ids, id, err);
    }
    db_rows_free(rows);
    return rc;
}

/* One fenced statement over the ids collected. */
static enum obx_code run_fenced(struct ledger *ledger, const char *sql, uint64_t *affected,
                                struct obx_err *err)
{
    enum obx_code rc = lease_begin(&ledger->lease, ledger->db, err);

    if (rc != OBX_OK)
        return rc;
    rc = db_exec(ledger->db, sql, DB_ARGS(ID_LIST_ARG(&ledger->ids)), affected, err);
    if (rc == OBX_OK)
        return lease_commit(&ledger->lease, ledger->db, err);
    lease_rollback(ledger->db);
    return rc;
}

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
    return run_fenced(ledger, "DELETE n FROM" LEDGER_OF_IDS " WHERE n.state <> 'waiting'", removed,
                      err);
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
             "UPDATE" LEDGER_OF_IDS " SET n.state = 'given_up', n.due_at = IF(%" PRIu32
             " = 0, NULL, UTC_TIMESTAMP(6) + INTERVAL %" PRIu32 " * 1000 MICROSECOND),"
             " n.last_error = 'the endpoint could not be reached for the whole schedule'"
             " WHERE n.state = 'waiting' AND n.due_at <= UTC_TIMESTAMP(6) - INTERVAL %" PRIu64
             " * 1000 MICROSECOND",
             keep_ms, keep_ms, overdue_ms);
    return run_fenced(ledger, sql, expired, err);
}
