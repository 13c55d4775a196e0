/*
 * Retention of the audit tables. See audit.h. Rows come in the order of their time, so that the
 * oldest are the first by primary key, and no index on the time is needed.
 */
#include "sql/audit.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/bytes.h"

/* More than the rows that one transaction adds, so that a table that is behind catches up. */
enum { PAGE = 1000, SQL_MAX = 256 };

static enum obx_code find_old(struct db *db, const char *table, struct obx_buf *ids,
                              struct obx_err *err)
{
    struct db_rows *rows = NULL;
    char sql[SQL_MAX];
    enum obx_code rc = OBX_OK;

    (void)snprintf(sql, sizeof(sql),
                   "SELECT audit_id, done_at < UTC_TIMESTAMP(6) - INTERVAL %d DAY FROM %s "
                   "FORCE INDEX (PRIMARY) ORDER BY audit_id LIMIT %d FOR UPDATE SKIP LOCKED",
                   AUDIT_DAYS, table, PAGE);
    rc = db_query(db, sql, DB_NO_ARGS, &rows, err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        if (db_rows_u64(rows, 1) != 0 && buf_addf(ids, ids->len == 0 ? "[%" PRIu64 : ",%" PRIu64,
                                                  db_rows_u64(rows, 0)) != OBX_OK)
            rc = obx_fail(err, OBX_E_NOMEM, "list of old rows");
    }
    db_rows_free(rows);
    return rc;
}

enum obx_code audit_clean(struct db *db, const char *table, struct obx_err *err)
{
    struct obx_buf ids = {0};
    char sql[SQL_MAX];
    enum obx_code rc = find_old(db, table, &ids, err);

    if (rc == OBX_OK && ids.len > 0 && buf_add_text(&ids, "]") != OBX_OK)
        rc = obx_fail(err, OBX_E_NOMEM, "list of old rows");
    if (rc == OBX_OK && ids.len > 0) {
        (void)snprintf(
            sql, sizeof(sql),
            "DELETE a FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) k "
            "STRAIGHT_JOIN %s a FORCE INDEX (PRIMARY) ON a.audit_id = k.id",
            table);
        rc = db_exec(db, sql, DB_ARGS(DB_BYTES(buf_bytes(&ids))), NULL, err);
    }
    buf_fini(&ids);
    return rc;
}
