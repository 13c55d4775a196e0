/*
 * Parking rows, and frozen keys. See parking.h.
 */
#include "parking.h"

#include <string.h>

#include "base/crash.h"
#include "base/utf8.h"
#include "lane/read/reader.h"
#include "tables/outbox_columns.h"

enum {
    LOAD_ROWS = 5000, /* read when the lease is taken; not more */
    REASON_MAX = 1024 /* of the column */
};

static const char sql_frozen[] = "SELECT ordering_key FROM outbox_parked FORCE INDEX (outbox_key)"
                                 " WHERE outbox = ? AND holds_key = 1 LIMIT ?";

static enum obx_code build_park_one(struct parking *parking, const char *table)
{
    return buf_addf(&parking->park_one,
                    "INSERT INTO outbox_parked (outbox, id, " OUTBOX_COLUMNS ","
                    " reason_code, reason, attempts, holds_key, blocked_by)"
                    " SELECT ?, id, " OUTBOX_COLUMNS ", ?, ?, ?, ?, ? FROM %s WHERE id = ?",
                    table);
}

static enum obx_code build_park_followers(struct parking *parking, const char *table)
{
    return buf_addf(&parking->park_followers_sql,
                    "INSERT INTO outbox_parked (outbox, id, " OUTBOX_COLUMNS
                    ", reason_code, reason, blocked_by)"
                    " SELECT ?, o.id, " OUTBOX_COLUMNS
                    ", 'KEY_FROZEN', CONCAT('key frozen by row ', ?), ?"
                    " FROM " ID_LIST_TABLE
                    " STRAIGHT_JOIN %s o FORCE INDEX (PRIMARY) ON o.id = k.id ORDER BY o.id",
                    table);
}

/* Whether the row is a copy of a message that awaits receipts decides whether it may freeze its key. */
static enum obx_code build_known(struct parking *parking, const char *table)
{
    return buf_addf(&parking->known,
                    "SELECT o.id, o.message_id, o.topic, (SELECT COUNT(*) FROM outbox_awaiting a"
                    " FORCE INDEX (PRIMARY) WHERE a.message_id = o.message_id)"
                    " FROM %s o FORCE INDEX (PRIMARY) WHERE o.id IN (",
                    table);
}

enum obx_code parking_init(struct parking *parking, const char *outbox, const char *table,
                           struct lease *lease, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    memset(parking, 0, sizeof(*parking));
    parking->outbox = outbox;
    parking->lease = lease;
    rc = keyset_init(&parking->frozen);
    if (rc == OBX_OK)
        rc = row_delete_init(&parking->del, table, "id", NULL);
    if (rc == OBX_OK)
        rc = build_park_one(parking, table);
    if (rc == OBX_OK)
        rc = build_park_followers(parking, table);
    if (rc == OBX_OK)
        rc = build_known(parking, table);
    if (rc != OBX_OK) {
        parking_fini(parking);
        return obx_fail(err, rc, "parking");
    }
    return OBX_OK;
}

void parking_fini(struct parking *parking)
{
    keyset_fini(&parking->frozen);
    row_delete_fini(&parking->del);
    buf_fini(&parking->park_one);
    buf_fini(&parking->park_followers_sql);
    buf_fini(&parking->known);
    id_list_fini(&parking->list);
    buf_fini(&parking->text);
    buf_fini(&parking->held_key);
}

/* ---- frozen keys ---- */

enum obx_code parking_load(struct parking *parking, struct db *db, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(db, sql_frozen, DB_ARGS(DB_TEXT(parking->outbox), DB_U64(LOAD_ROWS)), &rows, err);

    keyset_clear(&parking->frozen);
    parking->is_holding = false;
    parking->has_more = false;
    if (rc != OBX_OK)
        return rc;
    parking->has_more = db_rows_count(rows) == LOAD_ROWS;
    while (db_rows_next(rows))
        keyset_add(&parking->frozen, db_rows_bytes(rows, 0));
    db_rows_free(rows);
    return OBX_OK;
}

/* Appends the keys of the batch that may be frozen, as literals; *count of them. */
static enum obx_code add_suspects(struct parking *parking, struct db *db,
                                  const struct row_batch *batch, size_t *count)
{
    struct obx_bytes last = {.p = NULL, .len = 0};
    enum obx_code rc = OBX_OK;

    *count = 0;
    for (size_t i = 0; i < batch->count && rc == OBX_OK; i++) {
        struct obx_bytes key = batch->rows[i]->key;

        if (key.p == NULL || bytes_equal(key, last))
            continue;
        if (!parking->has_more && !keyset_has(&parking->frozen, key))
            continue;
        rc = buf_add_text(&parking->text, *count == 0 ? "" : ",");
        if (rc == OBX_OK)
            rc = db_add_literal(db, &parking->text, key);
        last = key;
        (*count)++;
    }
    return rc;
}

/* READER_HOLD is stronger than no mark, and weaker than a head: what is frozen is to be parked. */
static void mark_key(struct row_batch *batch, struct obx_bytes key, uint64_t head)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct outbox_row *row = batch->rows[i];

        /* What is before the head in its key does not wait for it. */
        if (row->blocked_by == 0 && bytes_equal(row->key, key) &&
            (head == READER_HOLD || row->id > head))
            row->blocked_by = head;
    }
}

static enum obx_code ask_table(struct parking *parking, struct db *db, struct row_batch *batch,
                               struct obx_err *err)
{
    struct db_rows *rows = NULL;
    size_t suspects = 0;
    enum obx_code rc = OBX_OK;

    buf_reset(&parking->text);
    rc = buf_add_text(&parking->text,
                      "SELECT ordering_key, MIN(id) FROM outbox_parked FORCE INDEX (outbox_key)"
                      " WHERE outbox = ");
    if (rc == OBX_OK)
        rc = db_add_literal(db, &parking->text, bytes_of(parking->outbox));
    if (rc == OBX_OK)
        rc = buf_add_text(&parking->text, " AND holds_key = 1 AND ordering_key IN (");
    if (rc == OBX_OK)
        rc = add_suspects(parking, db, batch, &suspects);
    if (rc == OBX_OK)
        rc = buf_add_text(&parking->text, ") GROUP BY ordering_key");
    if (rc != OBX_OK)
        return obx_fail(err, rc, "question for frozen keys");
    if (suspects == 0)
        return OBX_OK;
    rc = db_query_text(db, buf_bytes(&parking->text), &rows, err);
    if (rc != OBX_OK)
        return rc;
    while (db_rows_next(rows))
        mark_key(batch, db_rows_bytes(rows, 0), db_rows_u64(rows, 1));
    db_rows_free(rows);
    return OBX_OK;
}

enum obx_code parking_mark(struct parking *parking, struct db *db, struct row_batch *batch,
                           struct obx_err *err)
{
    if (parking->is_holding)
        mark_key(batch, buf_bytes(&parking->held_key), READER_HOLD);
    if (!parking->frozen.is_dirty && !parking->has_more)
        return OBX_OK;
    return ask_table(parking, db, batch, err);
}

/* ---- parking ---- */

enum obx_code parking_known(struct parking *parking, struct db *db, const uint64_t *ids,
                            size_t count, struct db_rows **rows, struct obx_err *err)
{
    struct obx_bytes sql;
    enum obx_code rc = id_list_set(&parking->list, ids, count, err);

    *rows = NULL;
    if (rc == OBX_OK)
        rc = id_list_statement(&parking->list, parking->known.data, ")", &sql, err);
    return rc == OBX_OK ? db_query_text(db, sql, rows, err) : rc;
}

static enum obx_code park_one(struct parking *parking, struct db *db, const struct park_item *item,
                              uint64_t *copied, struct obx_err *err)
{
    char reason[REASON_MAX + 1];
    uint64_t affected = 0;
    enum obx_code rc = OBX_OK;

    /* The broker cuts its texts at a byte, and names in them are anybody's: half a character would
       have the statement refused, and the message published without end. */
    (void)bytes_to_text(bytes_of(item->reason == NULL ? "" : item->reason), reason, sizeof(reason));
    utf8_make_valid(reason);
    rc = db_exec(db, parking->park_one.data,
                 DB_ARGS(DB_TEXT(parking->outbox), DB_TEXT(item->reason_code), DB_TEXT(reason),
                         DB_U64(item->attempts), DB_U64(item->holds_key),
                         item->blocked_by == 0 ? DB_NULL() : DB_U64(item->blocked_by),
                         DB_U64(item->id)),
                 &affected, err);

    *copied += affected;
    return rc;
}

static bool is_plain_follower(const struct park_item *item)
{
    return item->blocked_by != 0 && item->reason == NULL;
}

/* Parks the plain followers of one head that begin at items[0], wherever they stand. */
/* One statement for all followers of a head, which may be hundreds. */
static enum obx_code park_followers(struct parking *parking, struct db *db,
                                    const struct park_item *items, size_t count, uint64_t *copied,
                                    struct obx_err *err)
{
    uint64_t head = items[0].blocked_by;
    uint64_t affected = 0;
    enum obx_code rc = OBX_OK;

    id_list_clear(&parking->list);
    for (size_t i = 0; i < count && rc == OBX_OK; i++) {
        if (is_plain_follower(&items[i]) && items[i].blocked_by == head)
            rc = id_list_add(&parking->list, items[i].id, err);
    }
    if (rc != OBX_OK)
        return rc;
    rc = db_exec(
        db, parking->park_followers_sql.data,
        DB_ARGS(DB_TEXT(parking->outbox), DB_U64(head), DB_U64(head), ID_LIST_ARG(&parking->list)),
        &affected, err);
    *copied += affected;
    return rc;
}

/* Whether an earlier item has taken this one's whole group along. */
static bool is_done(const struct park_item *items, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (is_plain_follower(&items[j]) && items[j].blocked_by == items[i].blocked_by)
            return true;
    }
    return false;
}

static enum obx_code copy_all(struct parking *parking, struct db *db, const struct park_item *items,
                              size_t count, uint64_t *copied, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < count && rc == OBX_OK; i++) {
        if (!is_plain_follower(&items[i]))
            rc = park_one(parking, db, &items[i], copied, err);
        else if (!is_done(items, i))
            rc = park_followers(parking, db, &items[i], count - i, copied, err);
    }
    return rc;
}

static enum obx_code delete_all(struct parking *parking, struct db *db,
                                const struct park_item *items, size_t count, uint64_t *deleted,
                                struct obx_err *err)
{
    enum { CHUNK = 256 };
    uint64_t ids[CHUNK];
    enum obx_code rc = OBX_OK;

    for (size_t at = 0; at < count && rc == OBX_OK; at += CHUNK) {
        size_t n = count - at < CHUNK ? count - at : CHUNK;
        uint64_t affected = 0;

        for (size_t i = 0; i < n; i++)
            ids[i] = items[at + i].id;
        rc = row_delete_run(&parking->del, db, ids, n, &affected, err);
        *deleted += affected;
    }
    return rc;
}

enum obx_code parking_park(struct parking *parking, struct db *db, const struct park_item *items,
                           size_t count, struct obx_err *err)
{
    uint64_t copied = 0;
    uint64_t deleted = 0;
    enum obx_code rc = lease_begin(parking->lease, db, err);

    if (rc != OBX_OK)
        return rc;
    rc = copy_all(parking, db, items, count, &copied, err);
    if (rc == OBX_OK)
        rc = delete_all(parking, db, items, count, &deleted, err);
    if (rc == OBX_OK && copied != deleted)
        rc = obx_fail(err, OBX_E_CONFLICT, "%llu rows copied, %llu deleted",
                      (unsigned long long)copied, (unsigned long long)deleted);
    if (rc != OBX_OK) {
        lease_rollback(db);
        return rc;
    }
    /* In the set before it is in the table: a key too many costs a question, one too few its order.
     */
    for (size_t i = 0; i < count; i++) {
        if (items[i].holds_key)
            keyset_add(&parking->frozen, items[i].key);
    }
    OBX_CRASH_POINT("lane-park-before-commit");
    rc = lease_commit(parking->lease, db, err);
    if (rc == OBX_OK)
        OBX_CRASH_POINT("lane-parked");
    return rc;
}
