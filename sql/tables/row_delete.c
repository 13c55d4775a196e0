/*
 * Deleting rows by id. See row_delete.h.
 */
#include "row_delete.h"

#include <stdlib.h>
#include <string.h>

enum { RUN_MIN = 8, FULL_OPTIMISER = 11 /* MariaDB's first version with it for DELETE */ };

enum obx_code row_delete_init(struct row_delete *del, const char *table, const char *column,
                              struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    memset(del, 0, sizeof(*del));
    rc = buf_addf(&del->range, "DELETE FROM %s WHERE %s BETWEEN ? AND ?", table, column);
    if (rc == OBX_OK)
        rc = buf_addf(&del->one, "DELETE o FROM %s o FORCE INDEX (PRIMARY) WHERE o.%s = ?", table,
                      column);
    if (rc == OBX_OK)
        rc = buf_addf(&del->list,
                      "DELETE o FROM " ID_LIST_TABLE
                      " STRAIGHT_JOIN %s o FORCE INDEX (PRIMARY) ON o.%s = k.id",
                      table, column);
    if (rc != OBX_OK) {
        row_delete_fini(del);
        return obx_fail(err, rc, "statements that delete");
    }
    return OBX_OK;
}

void row_delete_fini(struct row_delete *del)
{
    buf_fini(&del->range);
    buf_fini(&del->list);
    buf_fini(&del->one);
    id_list_fini(&del->rest);
}

/*
 * Whether a range over most of the table is read by the primary key. MariaDB 11 may read the whole
 * table, up to rows of others, and waits for these; with the index forced MariaDB 10 does.
 */
static bool has_ranges(const struct db *db)
{
    static const char replication_prefix[] = "5.5.5-";
    const char *version = db_server_version(db);

    if (strncmp(version, replication_prefix, sizeof(replication_prefix) - 1) == 0)
        version += sizeof(replication_prefix) - 1;
    return !db_server_is_mariadb(db) || strtol(version, NULL, 10) < FULL_OPTIMISER;
}

/* How many ids from the front follow each other without a gap; 1 when that is of no use. */
static size_t run_length(const struct db *db, const uint64_t *ids, size_t count)
{
    size_t n = 1;

    if (!has_ranges(db))
        return 1;
    while (n < count && ids[n] == ids[n - 1] + 1)
        n++;
    return n;
}

static enum obx_code delete_rest(struct row_delete *del, struct db *db, uint64_t last,
                                 uint64_t *deleted, struct obx_err *err)
{
    uint64_t affected = 0;
    enum obx_code rc = OBX_OK;

    if (del->rest.count == 0)
        return OBX_OK;
    rc = del->rest.count == 1
             ? db_exec(db, del->one.data, DB_ARGS(DB_U64(last)), &affected, err)
             : db_exec(db, del->list.data, DB_ARGS(ID_LIST_ARG(&del->rest)), &affected, err);
    *deleted += affected;
    return rc;
}

enum obx_code row_delete_run(struct row_delete *del, struct db *db, const uint64_t *ids,
                             size_t count, uint64_t *deleted, struct obx_err *err)
{
    uint64_t last = 0, affected = 0;
    enum obx_code rc = OBX_OK;

    *deleted = 0;
    id_list_clear(&del->rest);
    for (size_t i = 0; i < count && rc == OBX_OK;) {
        size_t length = run_length(db, &ids[i], count - i);

        if (length < RUN_MIN)
            length = 1;
        affected = 0;
        if (length > 1)
            rc = db_exec(db, del->range.data, DB_ARGS(DB_U64(ids[i]), DB_U64(ids[i + length - 2])),
                         &affected, err);
        *deleted += affected;
        i += length;
        last = ids[i - 1];
        /* The last row of a run goes with the rest, so that there is a statement for those in any
         * case: one more round trip is saved where all is one run and a row. */
        if (rc == OBX_OK)
            rc = id_list_add(&del->rest, last, err);
    }
    return rc == OBX_OK ? delete_rest(del, db, last, deleted, err) : rc;
}
