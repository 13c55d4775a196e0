/*
 * A row of a resource as values: for people, and as JSON. Called by the pages of outboxctl and of the
 * console.
 */
#include <stdio.h>
#include <string.h>

#include "base/crash.h"
#include "human.h"
#include "json_value.h"
#include "resource.h"

enum { COUNT_CAP = 1000 }; /* a frozen key may have a million followers: "1,000+" says as much */

/* ---- one cell ---- */

/* By name and not by number, so that a column can be put anywhere in its table. A name that is not
 * there is a mistake in the program. */
static unsigned column_of(const struct record *record, const char *json)
{
    const struct resource *resource = record->resource;
    unsigned i = 0;

    while (i < resource->column_count &&
           (resource->columns[i].json == NULL || strcmp(resource->columns[i].json, json) != 0))
        i++;
    OBX_ASSERT(i < resource->column_count);
    return i;
}

struct obx_bytes record_text(const struct record *record, const char *json)
{
    return db_rows_bytes(record->rows, column_of(record, json));
}

uint64_t record_number(const struct record *record, const char *json)
{
    return db_rows_u64(record->rows, column_of(record, json));
}

void record_set_json(json_t *object, const struct column *column, const struct db_rows *rows,
                     unsigned at)
{
    const struct obx_bytes value = db_rows_bytes(rows, at);

    if (column->json == NULL)
        return;
    if (bytes_is_absent(value))
        json_object_set_new(object, column->json, json_null());
    else if (column->kind == COLUMN_NUMBER || column->kind == COLUMN_SIZE)
        json_object_set_new(object, column->json, json_integer((json_int_t)db_rows_u64(rows, at)));
    else if (column->kind == COLUMN_BOOL)
        json_object_set_new(object, column->json, json_boolean(db_rows_u64(rows, at) != 0));
    else if (column->kind == COLUMN_TIME)
        json_set_time(object, column->json, value);
    else
        json_set_text(object, column->json, value);
}

struct obx_bytes record_cell(const struct column *column, const struct db_rows *rows, unsigned at,
                             char *room)
{
    const struct obx_bytes value = db_rows_bytes(rows, at);

    if (bytes_is_absent(value))
        return value;
    if (column->kind == COLUMN_SIZE)
        return bytes_of(human_size(db_rows_u64(rows, at), room));
    if (column->kind == COLUMN_TIME)
        return bytes_of(human_time(value, room));
    if (column->kind == COLUMN_BOOL)
        return bytes_of(db_rows_u64(rows, at) != 0 ? "yes" : "no");
    return value;
}

/* ---- rows ---- */

enum obx_code record_count(const struct session *session, struct record *record,
                           struct obx_err *err)
{
    const struct counted *counted = session->resource->counted;
    struct db_rows *rows = NULL;
    enum obx_code rc;

    record->counted = 0;
    record->is_capped = false;
    if (counted == NULL || record_number(record, counted->when) == 0)
        return OBX_OK;
    rc = db_query(session->db, counted->sql,
                  DB_ARGS(DB_U64(db_rows_u64(record->rows, 0)), DB_U64(COUNT_CAP + 1)), &rows, err);
    if (rc == OBX_OK && db_rows_next(rows)) {
        record->counted = db_rows_u64(rows, 0);
        record->is_capped = record->counted > COUNT_CAP;
        if (record->is_capped)
            record->counted = COUNT_CAP;
    }
    db_rows_free(rows);
    return rc;
}

json_t *record_json(const struct session *session, const struct record *record, bool is_whole)
{
    const struct resource *resource = session->resource;
    json_t *object = json_pack("{s:s}", "source", session->target->source);
    char name[64];

    for (unsigned i = 0; i < resource->column_count; i++)
        if (is_whole || !resource->columns[i].only_shown)
            record_set_json(object, &resource->columns[i], record->rows, i);
    if (resource->counted != NULL) {
        snprintf(name, sizeof(name), "%s_capped", resource->counted->json);
        json_object_set_new(object, resource->counted->json,
                            json_integer((json_int_t)record->counted));
        json_object_set_new(object, name, json_boolean(record->is_capped));
    }
    return object;
}

/* JSON has plain values and never needs such words. */
bool record_describe(const struct record *record, const struct column *column, struct obx_buf *out)
{
    buf_reset(out);
    return record->resource->describe != NULL && column->json == NULL &&
           record->resource->describe(record, column, out);
}

enum obx_code detail_select(struct db *db, const struct detail *detail, const char *key,
                            struct db_rows **rows, struct obx_err *err)
{
    struct obx_buf sql = {0};
    enum obx_code rc;

    for (size_t i = 0; i < detail->column_count; i++)
        buf_addf(&sql, "%s%s", i == 0 ? "SELECT " : ", ", detail->columns[i].sql);
    buf_add_text(&sql, detail->from);
    rc = sql.rc != OBX_OK ? obx_fail(err, sql.rc, "query")
                          : db_query(db, sql.data, DB_ARGS(DB_TEXT(key)), rows, err);
    buf_fini(&sql);
    return rc;
}
