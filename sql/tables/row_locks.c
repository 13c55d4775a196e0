/*
 * Rows that others have locked. See row_locks.h.
 *
 * The ids are literals (see id_list.h), so that both servers read and lock these rows and no others,
 * whatever the table's size.
 */
#include "row_locks.h"

#include <string.h>

enum { LIST_MAX = 500 }; /* above 999 MariaDB makes a join of a list */

enum obx_code row_locks_init(struct row_locks *locks, const char *table, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    memset(locks, 0, sizeof(*locks));
    rc = buf_addf(&locks->outbox, "SELECT o.id FROM %s o FORCE INDEX (PRIMARY) WHERE o.id IN (",
                  table);
    if (rc == OBX_OK)
        rc = buf_addf(&locks->awaiting,
                      "SELECT o.id FROM %s o FORCE INDEX (PRIMARY) STRAIGHT_JOIN outbox_awaiting a"
                      " FORCE INDEX (PRIMARY) ON a.message_id = o.message_id WHERE o.id IN (",
                      table);
    if (rc == OBX_OK)
        return OBX_OK;
    row_locks_fini(locks);
    return obx_fail(err, rc, "statements that look for locked rows");
}

void row_locks_fini(struct row_locks *locks)
{
    buf_fini(&locks->outbox);
    buf_fini(&locks->awaiting);
    id_list_fini(&locks->list);
}

static enum obx_code run(struct row_locks *locks, struct db *db, const struct obx_buf *select,
                         const char *end, struct db_rows **rows, struct obx_err *err)
{
    struct obx_bytes sql;
    enum obx_code rc = id_list_statement(&locks->list, select->data, end, &sql, err);

    return rc == OBX_OK ? db_query_text(db, sql, rows, err) : rc;
}

/* Sets the marks of the ids in the result; both ascend. */
static void mark(const uint64_t *ids, size_t count, struct db_rows *rows, bool *marks)
{
    size_t at = 0;

    while (db_rows_next(rows)) {
        uint64_t id = db_rows_u64(rows, 0);

        while (at < count && ids[at] < id)
            at++;
        if (at < count && ids[at] == id)
            marks[at] = true;
    }
    db_rows_free(rows);
}

/* What is there, and is not among what can be locked. */
static enum obx_code find_part(struct row_locks *locks, struct db *db, const struct obx_buf *select,
                               const uint64_t *ids, size_t count, bool *is_locked,
                               struct obx_err *err)
{
    bool is_free[LIST_MAX] = {false};
    bool is_there[LIST_MAX] = {false};
    struct db_rows *rows = NULL;
    enum obx_code rc = id_list_set(&locks->list, ids, count, err);

    if (rc == OBX_OK)
        rc = run(locks, db, select, ") ORDER BY o.id FOR UPDATE SKIP LOCKED", &rows, err);
    if (rc != OBX_OK)
        return rc;
    mark(ids, count, rows, is_free);
    rc = run(locks, db, select, ") ORDER BY o.id", &rows, err);
    if (rc != OBX_OK)
        return rc;
    mark(ids, count, rows, is_there);
    for (size_t i = 0; i < count; i++)
        is_locked[i] |= is_there[i] && !is_free[i];
    return OBX_OK;
}

enum obx_code row_locks_find(struct row_locks *locks, struct db *db, const uint64_t *ids,
                             size_t count, bool with_awaiting, bool *is_locked, struct obx_err *err)
{
    enum obx_code rc = db_begin(db, err);

    memset(is_locked, 0, count * sizeof(*is_locked));
    for (size_t at = 0; at < count && rc == OBX_OK; at += LIST_MAX) {
        size_t n = count - at < LIST_MAX ? count - at : LIST_MAX;

        rc = find_part(locks, db, &locks->outbox, &ids[at], n, &is_locked[at], err);
        if (rc == OBX_OK && with_awaiting)
            rc = find_part(locks, db, &locks->awaiting, &ids[at], n, &is_locked[at], err);
    }
    (void)db_rollback(db, NULL);
    return rc;
}
