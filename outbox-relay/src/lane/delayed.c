/*
 * Moving delayed messages that are due. See delayed.h.
 */
#include "delayed.h"

#include <string.h>

#include "base/crash.h"

enum { BATCH_ROWS = 500, BATCH_BYTES = 16 * 1024 * 1024 };

static const char sql_due[] = "SELECT id FROM outbox_delayed FORCE INDEX (due) WHERE outbox = ?"
                              " AND deliver_at <= UTC_TIMESTAMP(6) ORDER BY deliver_at, id LIMIT ?";
static const char sql_lock[] =
    "SELECT id, OCTET_LENGTH(payload) FROM outbox_delayed FORCE INDEX (PRIMARY) WHERE id IN (";
static const char sql_lock_end[] = ") AND deliver_at <= UTC_TIMESTAMP(6) ORDER BY deliver_at, id"
                                   " FOR UPDATE SKIP LOCKED";
static const char sql_delete[] = "DELETE d FROM outbox_delayed d FORCE INDEX (PRIMARY)"
                                 " WHERE d.id IN (";

#define MOVED_COLUMNS                                                                              \
    "message_id, topic, ordering_key, headers, content_type, payload, receipt_from, on_rejected"

enum obx_code delayed_init(struct delayed *delayed, const char *outbox, const char *table,
                           struct lease *lease, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    memset(delayed, 0, sizeof(*delayed));
    delayed->outbox = outbox;
    delayed->lease = lease;
    rc = buf_addf(&delayed->move,
                  "INSERT INTO %s (" MOVED_COLUMNS ") SELECT " MOVED_COLUMNS
                  " FROM outbox_delayed FORCE INDEX (PRIMARY) WHERE id IN (",
                  table);
    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "statements of delayed messages");
}

void delayed_fini(struct delayed *delayed)
{
    buf_fini(&delayed->move);
    buf_fini(&delayed->list);
    buf_fini(&delayed->text);
}

static enum obx_code add_id(struct delayed *delayed, uint64_t id)
{
    return buf_addf(&delayed->list, delayed->list.len == 0 ? "%llu" : ",%llu",
                    (unsigned long long)id);
}

/* `before`, the list, `after`. */
static enum obx_code build(struct delayed *delayed, const char *before, const char *after,
                           struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    delayed->queries++;
    buf_reset(&delayed->text);
    rc = buf_addf(&delayed->text, "%s%s%s", before, delayed->list.data, after);
    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "statement over delayed messages");
}

static enum obx_code find_due(struct delayed *delayed, struct db *db, size_t *count,
                              struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(db, sql_due, DB_ARGS(DB_TEXT(delayed->outbox), DB_U64(BATCH_ROWS)), &rows, err);

    delayed->queries++;
    *count = 0;
    buf_reset(&delayed->list);
    while (rc == OBX_OK && db_rows_next(rows)) {
        if (add_id(delayed, db_rows_u64(rows, 0)) != OBX_OK)
            rc = obx_fail(err, OBX_E_NOMEM, "list of delayed messages");
        (*count)++;
    }
    db_rows_free(rows);
    return rc;
}

/* The list becomes what could be locked: what somebody is just cancelling is passed over. */
static enum obx_code lock_due(struct delayed *delayed, struct db *db, size_t *count,
                              struct obx_err *err)
{
    struct db_rows *rows = NULL;
    uint64_t bytes = 0;
    enum obx_code rc = build(delayed, sql_lock, sql_lock_end, err);

    *count = 0;
    if (rc == OBX_OK)
        rc = db_query_text(db, buf_bytes(&delayed->text), &rows, err);
    buf_reset(&delayed->list);
    while (rc == OBX_OK && bytes < BATCH_BYTES && db_rows_next(rows)) {
        if (add_id(delayed, db_rows_u64(rows, 0)) != OBX_OK)
            rc = obx_fail(err, OBX_E_NOMEM, "list of delayed messages");
        bytes += db_rows_u64(rows, 1);
        (*count)++;
    }
    db_rows_free(rows);
    return rc;
}

static enum obx_code move_within(struct delayed *delayed, struct db *db, size_t *count,
                                 struct obx_err *err)
{
    uint64_t copied = 0;
    uint64_t deleted = 0;
    enum obx_code rc = lock_due(delayed, db, count, err);

    if (rc != OBX_OK || *count == 0)
        return rc;
    rc = build(delayed, delayed->move.data, ") ORDER BY deliver_at, id", err);
    if (rc == OBX_OK)
        rc = db_exec_text(db, buf_bytes(&delayed->text), &copied, err);
    if (rc == OBX_OK)
        rc = build(delayed, sql_delete, ")", err);
    if (rc == OBX_OK)
        rc = db_exec_text(db, buf_bytes(&delayed->text), &deleted, err);
    if (rc == OBX_OK && (copied != *count || deleted != *count))
        rc = obx_fail(err, OBX_E_CONFLICT, "%zu delayed rows, %llu copied, %llu deleted", *count,
                      (unsigned long long)copied, (unsigned long long)deleted);
    return rc;
}

enum obx_code delayed_move(struct delayed *delayed, struct db *db, size_t *count,
                           bool *may_have_more, struct obx_err *err)
{
    size_t due = 0;
    enum obx_code rc = find_due(delayed, db, &due, err);

    *count = 0;
    *may_have_more = false;
    if (rc != OBX_OK || due == 0)
        return rc;
    rc = lease_begin(delayed->lease, db, err);
    if (rc != OBX_OK)
        return rc;
    rc = move_within(delayed, db, count, err);
    if (rc != OBX_OK) {
        lease_rollback(db);
        return rc;
    }
    OBX_CRASH_POINT("lane-delayed-before-commit");
    rc = lease_commit(delayed->lease, db, err);
    if (rc != OBX_OK)
        return rc;
    OBX_CRASH_POINT("lane-delayed-moved");
    delayed->moved += *count;
    *may_have_more = *count > 0 && (due == BATCH_ROWS || *count < due);
    return OBX_OK;
}
