/*
 * The statements of `outboxctl status`, and of the question whether anybody owns an outbox.
 */
#include "outbox_state.h"

#include <string.h>

#include "base/bytes.h"

static const char lease_sql[] =
    "SELECT owner, COALESCE(address, ''), epoch,"
    " TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), expires_at) FROM outbox_lease WHERE outbox = ?";
static const char parked_sql[] =
    "SELECT COUNT(*), COALESCE(SUM(holds_key), 0), COALESCE(SUM(request IS NOT NULL), 0)"
    " FROM (SELECT holds_key, request FROM outbox_parked WHERE outbox = ? LIMIT 10001) p";

enum obx_code outbox_lease_read(struct db *db, const char *outbox, struct outbox_state *out,
                                struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, lease_sql, DB_ARGS(DB_TEXT(outbox)), &rows, err);

    if (rc != OBX_OK)
        return rc;
    out->has_lease = db_rows_next(rows);
    if (out->has_lease) {
        bytes_to_text(db_rows_bytes(rows, 0), out->owner, sizeof(out->owner));
        bytes_to_text(db_rows_bytes(rows, 1), out->address, sizeof(out->address));
        out->epoch = db_rows_u64(rows, 2);
        out->lease_left_us = db_rows_i64(rows, 3);
        out->is_owned = out->lease_left_us > 0 && out->owner[0] != '\0';
    }
    db_rows_free(rows);
    return OBX_OK;
}

/* Counting reads what it counts: the statements stop one row after the limit. */
static uint64_t capped(uint64_t count, bool *is_capped)
{
    *is_capped = count > OUTBOX_COUNT_CAP;
    return *is_capped ? OUTBOX_COUNT_CAP : count;
}

static enum obx_code read_parked(struct db *db, const char *outbox, struct outbox_state *out,
                                 struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, parked_sql, DB_ARGS(DB_TEXT(outbox)), &rows, err);

    if (rc == OBX_OK && db_rows_next(rows)) {
        out->parked = capped(db_rows_u64(rows, 0), &out->parked_capped);
        out->frozen = db_rows_u64(rows, 1);
        out->requested = db_rows_u64(rows, 2);
    }
    db_rows_free(rows);
    return rc;
}

/* The first column of the first row of a query over the outbox table; 0 without a row. Its name is
 * part of the text, because no table can be a parameter. */
static enum obx_code query_number(struct db *db, const char *before, const char *outbox,
                                  const char *after, uint64_t *out, struct obx_err *err)
{
    struct obx_buf sql = {0};
    struct db_rows *rows = NULL;
    enum obx_code rc = buf_add_text(&sql, before);

    if (rc == OBX_OK)
        rc = db_add_identifier(&sql, outbox);
    if (rc == OBX_OK)
        rc = buf_add_text(&sql, after);
    if (rc != OBX_OK)
        rc = obx_fail(err, rc, "query");
    else
        rc = db_query_text(db, buf_bytes(&sql), &rows, err);
    *out = rc == OBX_OK && db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;
    db_rows_free(rows);
    buf_fini(&sql);
    return rc;
}

static enum obx_code read_waiting(struct db *db, const char *outbox, struct outbox_state *out,
                                  struct obx_err *err)
{
    enum obx_code rc = query_number(db, "SELECT COUNT(*) FROM (SELECT 1 FROM ", outbox,
                                    " LIMIT 10001) w", &out->waiting, err);

    out->waiting = capped(out->waiting, &out->waiting_capped);
    if (rc != OBX_OK)
        return rc;
    return query_number(
        db, "SELECT GREATEST(TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)), 1) FROM ",
        outbox, " ORDER BY id LIMIT 1", &out->oldest_us, err);
}

enum obx_code outbox_state_read(struct db *db, const char *outbox, struct outbox_state *out,
                                struct obx_err *err)
{
    enum obx_code rc;

    memset(out, 0, sizeof(*out));
    rc = read_waiting(db, outbox, out, err);
    if (rc == OBX_OK)
        rc = read_parked(db, outbox, out, err);
    if (rc == OBX_OK)
        rc = outbox_lease_read(db, outbox, out, err);
    return rc;
}

enum obx_code outbox_names_read(struct db *db, struct db_rows **out, struct obx_err *err)
{
    return db_query(db,
                    /* Check-back and others keep leases of their own there, under names that no
                     * table can have: "half:check". */
                    "SELECT outbox FROM outbox_lease WHERE outbox REGEXP '^[A-Za-z0-9_]+$'"
                    " UNION SELECT 'outbox' FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM outbox_lease"
                    " WHERE outbox REGEXP '^[A-Za-z0-9_]+$') ORDER BY 1",
                    DB_NO_ARGS, out, err);
}

enum obx_code outbox_strays_read(struct db *db, bool lease_is_enough, struct db_rows **out,
                                 struct obx_err *err)
{
    return db_query(db,
                    "SELECT d.outbox FROM"
                    " (SELECT DISTINCT outbox FROM outbox_delayed FORCE INDEX (due)) d"
                    " LEFT JOIN outbox_lease l ON l.outbox = d.outbox WHERE l.outbox IS NULL"
                    " OR (? = 0 AND l.expires_at < UTC_TIMESTAMP(6)) ORDER BY d.outbox",
                    DB_ARGS(DB_U64(lease_is_enough)), out, err);
}

enum obx_code outbox_stray_count(struct db *db, const char *outbox, struct outbox_state *out,
                                 struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db,
                                "SELECT COUNT(*) FROM (SELECT 1 FROM outbox_delayed"
                                " FORCE INDEX (due) WHERE outbox = ? LIMIT 10001) d",
                                DB_ARGS(DB_TEXT(outbox)), &rows, err);

    if (rc == OBX_OK && db_rows_next(rows))
        out->waiting = capped(db_rows_u64(rows, 0), &out->waiting_capped);
    db_rows_free(rows);
    return rc;
}
