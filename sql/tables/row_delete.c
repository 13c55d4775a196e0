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
                      "DELETE o FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) k"
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
    buf_fini(&del->rest);
}

static enum obx_code note_rest(struct row_delete *del, uint64_t id)
{
    return buf_addf(&del->rest, del->rest.len == 0 ? "[%llu" : ",%llu", (unsigned long long)id);
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

/* A run: its last row goes with the rest. */
static enum obx_code delete_run(struct row_delete *del, struct db *db, const uint64_t *ids,
                                size_t length, uint64_t *deleted, struct obx_err *err)
{
    uint64_t affected = 0;
    enum obx_code rc = db_exec(db, del->range.data,
                               DB_ARGS(DB_U64(ids[0]), DB_U64(ids[length - 2])), &affected, err);

    *deleted += affected;
    if (rc == OBX_OK && note_rest(del, ids[length - 1]) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "list of ids");
    return rc;
}

static enum obx_code delete_rest(struct row_delete *del, struct db *db, uint64_t only,
                                 size_t rest_count, uint64_t *deleted, struct obx_err *err)
{
    uint64_t affected = 0;
    enum obx_code rc = OBX_OK;

    if (rest_count == 0)
        return OBX_OK;
    if (rest_count == 1) {
        rc = db_exec(db, del->one.data, DB_ARGS(DB_U64(only)), &affected, err);
    } else if (buf_add_text(&del->rest, "]") != OBX_OK) {
        return obx_fail(err, OBX_E_NOMEM, "list of ids");
    } else {
        rc = db_exec(db, del->list.data, DB_ARGS(DB_BYTES(buf_bytes(&del->rest))), &affected, err);
    }
    *deleted += affected;
    return rc;
}

enum obx_code row_delete_run(struct row_delete *del, struct db *db, const uint64_t *ids,
                             size_t count, uint64_t *deleted, struct obx_err *err)
{
    size_t rest_count = 0;
    uint64_t last_rest = 0;
    enum obx_code rc = OBX_OK;

    *deleted = 0;
    buf_reset(&del->rest);
    for (size_t i = 0; i < count && rc == OBX_OK;) {
        size_t length = run_length(db, &ids[i], count - i);

        if (length >= RUN_MIN) {
            rc = delete_run(del, db, &ids[i], length, deleted, err);
            last_rest = ids[i + length - 1];
            rest_count++;
            i += length;
            continue;
        }
        if (note_rest(del, ids[i]) != OBX_OK)
            return obx_fail(err, OBX_E_NOMEM, "list of ids");
        last_rest = ids[i];
        rest_count++;
        i++;
    }
    return rc == OBX_OK ? delete_rest(del, db, last_rest, rest_count, deleted, err) : rc;
}
