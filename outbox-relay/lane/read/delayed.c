/*
 * Moving delayed messages that are due. See delayed.h.
 */
#include "delayed.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "lane/failures.h"
#include "tables/outbox_columns.h"

enum { BATCH_BYTES = 16 * 1024 * 1024, HELD_CAP_MS = 30000, WARN_MS = 60000 };

static const char sql_due[] =
    "SELECT id FROM outbox_delayed FORCE INDEX (due) WHERE deliver_at <= UTC_TIMESTAMP(6)"
    " AND outbox = ";
/* A name that differs in a letter, or is the name of a table without a lane. */
static const char sql_stray[] =
    "SELECT d.outbox FROM (SELECT DISTINCT outbox FROM outbox_delayed FORCE INDEX (due)) d"
    " LEFT JOIN outbox_lease l ON l.outbox = d.outbox WHERE l.outbox IS NULL LIMIT 1";
/* Each lane counts them, and no further than this. */
static const char sql_count_stray[] =
    "SELECT COUNT(*) FROM (SELECT 1 FROM outbox_delayed FORCE INDEX (due) WHERE outbox = ?"
    " LIMIT 1000) c";
static const char sql_lock[] =
    "SELECT id, OCTET_LENGTH(payload), deliver_at < created_at - INTERVAL 1 MINUTE, message_id "
    "FROM outbox_delayed FORCE INDEX (PRIMARY) WHERE id IN (";
static const char sql_lock_end[] = ") AND deliver_at <= UTC_TIMESTAMP(6) ORDER BY deliver_at, id"
                                   " FOR UPDATE SKIP LOCKED";

enum obx_code delayed_init(struct delayed *delayed, const char *outbox, const char *table,
                           struct lease *lease, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    memset(delayed, 0, sizeof(*delayed));
    delayed->outbox = outbox;
    delayed->lease = lease;
    delayed->portion = DELAYED_ROWS;
    rc = buf_addf(&delayed->move,
                  "INSERT INTO %s (" MESSAGE_COLUMNS ") SELECT " MESSAGE_COLUMNS
                  " FROM outbox_delayed FORCE INDEX (PRIMARY) WHERE id IN (",
                  table);
    if (rc == OBX_OK)
        rc = row_delete_init(&delayed->del, "outbox_delayed", "id", NULL);
    if (rc == OBX_OK)
        return OBX_OK;
    delayed_fini(delayed);
    return obx_fail(err, rc, "statements of delayed messages");
}

void delayed_fini(struct delayed *delayed)
{
    row_delete_fini(&delayed->del);
    buf_fini(&delayed->move);
    id_list_fini(&delayed->list);
    buf_fini(&delayed->text);
}

static enum obx_code find_due(struct delayed *delayed, struct db *db, size_t *count,
                              struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    *count = 0;
    id_list_clear(&delayed->list);
    buf_reset(&delayed->text);
    rc = buf_add_text(&delayed->text, sql_due);
    if (rc == OBX_OK)
        rc = db_add_literal(db, &delayed->text, bytes_of(delayed->outbox));
    if (rc == OBX_OK)
        rc = held_rows_exclude(&delayed->held, db, &delayed->text, "CAST(id AS CHAR)");
    if (rc == OBX_OK)
        rc = buf_addf(&delayed->text, " ORDER BY deliver_at, id LIMIT %zu OFFSET %zu",
                      delayed->portion, delayed->offset);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement over delayed messages");
    rc = db_query_text(db, buf_bytes(&delayed->text), &rows, err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        rc = id_list_add(&delayed->list, db_rows_u64(rows, 0), err);
        (*count)++;
    }
    db_rows_free(rows);
    return rc;
}

/* A message that was due long before it was written looks like local time in a column that is UTC:
 * it is sent at once instead of later. */
static void note_backdated(struct delayed *delayed, struct obx_bytes message_id)
{
    char id[80];

    delayed->backdated++;
    if (delayed->warned_ms != 0 && clock_now_ms() - delayed->warned_ms < WARN_MS)
        return;
    delayed->warned_ms = clock_now_ms();
    (void)bytes_to_text(message_id, id, sizeof(id));
    OBX_LOG(LOG_LVL_WARN, "lane", "delayed.backdated", KV_STR("outbox", delayed->outbox),
            KV_STR("message_id", id), KV_U64("count", delayed->backdated),
            KV_STR("hint", "deliver_at is before created_at: it must be UTC"));
}

/* The list becomes what could be locked: what somebody is just cancelling is passed over. */
static enum obx_code lock_due(struct delayed *delayed, struct db *db, size_t *count,
                              struct obx_err *err)
{
    struct db_rows *rows = NULL;
    uint64_t bytes = 0;
    struct obx_bytes sql;
    enum obx_code rc = id_list_statement(&delayed->list, sql_lock, sql_lock_end, &sql, err);

    *count = 0;
    if (rc == OBX_OK)
        rc = db_query_text(db, sql, &rows, err);
    id_list_clear(&delayed->list);
    while (rc == OBX_OK && bytes < BATCH_BYTES && *count < DELAYED_ROWS && db_rows_next(rows)) {
        rc = id_list_add(&delayed->list, db_rows_u64(rows, 0), err);
        bytes += db_rows_u64(rows, 1);
        if (db_rows_u64(rows, 2) == 1)
            note_backdated(delayed, db_rows_bytes(rows, 3));
        delayed->ids[(*count)++] = db_rows_u64(rows, 0);
    }
    db_rows_free(rows);
    return rc;
}

static enum obx_code move_within(struct delayed *delayed, struct db *db, size_t *count,
                                 struct obx_err *err)
{
    uint64_t copied = 0;
    uint64_t deleted = 0;
    struct obx_bytes sql;
    enum obx_code rc = lock_due(delayed, db, count, err);

    if (rc != OBX_OK || *count == 0)
        return rc;
    rc = id_list_statement(&delayed->list, delayed->move.data, ") ORDER BY deliver_at, id", &sql,
                           err);
    if (rc == OBX_OK)
        rc = db_exec_text(db, sql, &copied, err);
    qsort(delayed->ids, *count, sizeof(delayed->ids[0]), ids_compare);
    if (rc == OBX_OK)
        rc = row_delete_run(&delayed->del, db, delayed->ids, *count, &deleted, err);
    if (rc == OBX_OK && (copied != *count || deleted != *count))
        rc = obx_fail(err, OBX_E_CONFLICT, "%zu delayed rows, %llu copied, %llu deleted", *count,
                      (unsigned long long)copied, (unsigned long long)deleted);
    return rc;
}

static enum obx_code move_due(struct delayed *delayed, struct db *db, size_t *count,
                              struct obx_err *err)
{
    enum obx_code rc = lease_begin(delayed->lease, db, err);

    if (rc != OBX_OK)
        return rc;
    rc = move_within(delayed, db, count, err);
    if (rc != OBX_OK) {
        lease_rollback(db);
        return rc;
    }
    OBX_CRASH_POINT("lane-delayed-before-commit");
    rc = lease_commit(delayed->lease, db, err);
    if (rc == OBX_OK)
        OBX_CRASH_POINT("lane-delayed-moved");
    return rc;
}

/* The outbox takes one of the rows not: fewer, until it is alone; then it is left out for a while,
 * and the others go on. */
static enum obx_code isolate(struct delayed *delayed, enum obx_code rc, size_t count,
                             bool *may_have_more, struct obx_err *err)
{
    struct obx_err why = {0};

    *may_have_more = true;
    if (count > 1) {
        delayed->portion = count / 2;
        return OBX_OK;
    }
    if (count == 0)
        return rc;
    if (held_rows_is_full(&delayed->held)) {
        /* More are refused than can be kept in mind: past this one, at the pace of the polls. */
        delayed->offset++;
        delayed->is_past_refused = true;
        *may_have_more = false;
        return OBX_OK;
    }
    (void)obx_fail(&why, rc, "delayed row %llu: %s", (unsigned long long)delayed->ids[0],
                   err == NULL ? "" : err->text);
    OBX_LOG(LOG_LVL_ERROR, "lane", "delayed.refused", KV_STR("outbox", delayed->outbox),
            KV_U64("row", delayed->ids[0]), KV_ERR(&why));
    held_rows_add_id(&delayed->held, delayed->ids[0], HELD_CAP_MS, &why);
    return OBX_OK;
}

enum obx_code delayed_move(struct delayed *delayed, struct db *db, bool *may_have_more,
                           struct obx_err *err)
{
    const size_t portion = delayed->portion;
    size_t due = 0;
    size_t count = 0;
    enum obx_code rc = find_due(delayed, db, &due, err);

    *may_have_more = delayed->offset > 0;
    if (due == 0) {
        delayed->offset = 0;
        delayed->is_past_refused = false;
    }
    if (rc != OBX_OK || due == 0)
        return rc;
    rc = move_due(delayed, db, &count, err);
    if (rc != OBX_OK) {
        return failure_is_of_a_row(db, rc) ? isolate(delayed, rc, count, may_have_more, err) : rc;
    }
    delayed->moved += count;
    delayed->portion = portion < DELAYED_ROWS / 2 ? portion * 2 : DELAYED_ROWS;
    /* Somebody has all of them in hand: what comes after them goes all the same. */
    if (count == 0 && due == portion)
        delayed->offset += due;
    else if (!delayed->is_past_refused)
        delayed->offset = 0;
    *may_have_more = delayed->offset > 0 || (count > 0 && (due == portion || count < due));
    return OBX_OK;
}

static enum obx_code count_stray(struct delayed *delayed, struct db *db, struct obx_bytes outbox,
                                 struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, sql_count_stray, DB_ARGS(DB_BYTES(outbox)), &rows, err);

    if (rc == OBX_OK && db_rows_next(rows))
        delayed->stray = db_rows_u64(rows, 0);
    db_rows_free(rows);
    return rc;
}

enum obx_code delayed_find_stray(struct delayed *delayed, struct db *db, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, sql_stray, DB_NO_ARGS, &rows, err);

    if (rc == OBX_OK && db_rows_next(rows)) {
        struct obx_bytes name = db_rows_bytes(rows, 0);

        rc = count_stray(delayed, db, name, err);
        if (rc == OBX_OK)
            rc = obx_fail(err, OBX_E_CONFIG,
                          "outbox_delayed has messages for outbox '%.*s', which no relay drains",
                          (int)name.len, (const char *)name.p);
    } else if (rc == OBX_OK) {
        delayed->stray = 0;
    }
    db_rows_free(rows);
    return rc;
}
