/*
 * Retention of the audit tables. See audit.h. Rows come in the order of their time, so that the
 * oldest are the first by primary key, and no index on the time is needed.
 */
#include "audit.h"

#include <stdio.h>

#include "id_list.h"

/* More than the rows that one transaction adds, so that a table with arrears catches up. */
enum { PAGE = 1000, SQL_MAX = 256 };

static enum obx_code find_old(struct db *db, const char *table, struct id_list *ids,
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
        if (db_rows_u64(rows, 1) != 0)
            rc = id_list_add(ids, db_rows_u64(rows, 0), err);
    }
    db_rows_free(rows);
    return rc;
}

enum obx_code audit_clean(struct db *db, const char *table, struct obx_err *err)
{
    struct id_list ids = {.count = 0};
    char sql[SQL_MAX];
    enum obx_code rc = find_old(db, table, &ids, err);

    if (rc == OBX_OK && ids.count > 0) {
        (void)snprintf(sql, sizeof(sql),
                       "DELETE a FROM " ID_LIST_TABLE
                       " STRAIGHT_JOIN %s a FORCE INDEX (PRIMARY) ON a.audit_id = k.id",
                       table);
        rc = db_exec(db, sql, DB_ARGS(ID_LIST_ARG(&ids)), NULL, err);
    }
    id_list_fini(&ids);
    return rc;
}
