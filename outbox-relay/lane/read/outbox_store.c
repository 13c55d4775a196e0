/*
 * The statements that read an outbox. See outbox_store.h.
 *
 * FORCE INDEX: on a small table the optimiser may prefer a scan of the whole table, which reads
 * delete-marked rows that the range would not touch.
 */
#include "outbox_store.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tables/outbox_columns.h"

enum full_column {
    COL_ID,
    COL_MESSAGE_ID,
    COL_TOPIC,
    COL_KEY,
    COL_HEADERS,
    COL_CONTENT_TYPE,
    COL_CREATED_US,
    COL_PAYLOAD_LEN,
    COL_RECEIPT_FROM,
    COL_PAYLOAD
};
enum light_column { LIGHT_ID, LIGHT_TOPIC, LIGHT_KEY, LIGHT_ASKS };

static const char light_columns[] =
    "SELECT id, topic, ordering_key, COALESCE(receipt_from, '') <> '' FROM ";

/* Large headers and payloads would make a batch as large as they like; such a row comes without
 * either. */
static enum obx_code build_columns(struct outbox_store *store)
{
    unsigned long limit = store->inline_bytes;
    enum obx_code rc =
        buf_addf(&store->columns,
                 "SELECT id, " MESSAGE_NAME_COLUMNS ","
                 " IF(OCTET_LENGTH(headers) <= %lu, headers, NULL), content_type,"
                 " TIMESTAMPDIFF(MICROSECOND, '1970-01-01', created_at), OCTET_LENGTH(payload),"
                 " NULLIF(receipt_from, ''),"
                 " IF(OCTET_LENGTH(payload) <= %lu AND COALESCE(OCTET_LENGTH(headers), 0) <= %lu,"
                 " payload, NULL) FROM ",
                 limit, limit, limit);

    if (rc == OBX_OK)
        rc = buf_addf(&store->columns, "%s FORCE INDEX (PRIMARY) WHERE ", store->table.data);
    return rc;
}

/* One statement, so that the numbers are of about one moment, and each count stops at its cap: the
 * table may hold millions of rows. */
static enum obx_code build_count(struct outbox_store *store)
{
    return buf_addf(
        &store->count,
        "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM %s LIMIT ?) w),"
        " (SELECT COUNT(*) FROM (SELECT 1 FROM outbox_parked WHERE outbox = ? LIMIT ?) p),"
        " (SELECT COUNT(*) FROM (SELECT 1 FROM outbox_parked FORCE INDEX (outbox_key)"
        " WHERE outbox = ? AND holds_key = 1 LIMIT ?) f),"
        " (SELECT GREATEST(TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)), 0) FROM %s"
        " ORDER BY id LIMIT 1),"
        " TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)),"
        " (SELECT COUNT(*) FROM (SELECT 1 FROM outbox_awaiting WHERE outbox = ? LIMIT ?) a),"
        " (SELECT COUNT(*) FROM (SELECT 1 FROM outbox_delayed WHERE outbox = ? LIMIT ?) d)",
        store->table.data, store->table.data);
}

static enum obx_code build(struct outbox_store *store, const char *outbox)
{
    enum obx_code rc = db_add_identifier(&store->table, outbox);

    if (rc == OBX_OK)
        rc = build_columns(store);
    if (rc == OBX_OK)
        rc = buf_addf(&store->forward, "%sid >= ? ORDER BY id LIMIT ?", store->columns.data);
    if (rc == OBX_OK)
        rc = buf_addf(&store->by_ids, "%sid IN (", store->columns.data);
    if (rc == OBX_OK)
        rc = buf_addf(&store->range,
                      "%s%s FORCE INDEX (PRIMARY) WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?",
                      light_columns, store->table.data);
    if (rc == OBX_OK)
        rc = buf_addf(&store->large,
                      "SELECT payload, IF(OCTET_LENGTH(headers) <= %d, headers, NULL),"
                      " OCTET_LENGTH(headers) FROM %s FORCE INDEX (PRIMARY) WHERE id = ?",
                      OUTBOX_HEADERS_MAX, store->table.data);
    if (rc == OBX_OK)
        rc = build_count(store);
    return rc;
}

enum obx_code outbox_store_init(struct outbox_store *store, const char *outbox,
                                uint32_t inline_bytes, struct obx_err *err)
{
    memset(store, 0, sizeof(*store));
    store->inline_bytes = inline_bytes;
    if (build(store, outbox) != OBX_OK) {
        outbox_store_fini(store);
        return obx_fail(err, OBX_E_NOMEM, "statements of outbox %s", outbox);
    }
    return OBX_OK;
}

void outbox_store_fini(struct outbox_store *store)
{
    buf_fini(&store->table);
    buf_fini(&store->forward);
    buf_fini(&store->range);
    buf_fini(&store->by_ids);
    buf_fini(&store->columns);
    buf_fini(&store->large);
    buf_fini(&store->count);
    id_list_fini(&store->list);
    buf_fini(&store->text);
}

static void fill_full(struct outbox_row *row, const struct db_rows *rows)
{
    *row = (struct outbox_row){.id = db_rows_u64(rows, COL_ID),
                               .created_us = db_rows_u64(rows, COL_CREATED_US),
                               .payload_len = db_rows_u64(rows, COL_PAYLOAD_LEN),
                               .is_full = true,
                               .asks = db_rows_bytes(rows, COL_RECEIPT_FROM).p != NULL,
                               .message_id = db_rows_bytes(rows, COL_MESSAGE_ID),
                               .topic = db_rows_bytes(rows, COL_TOPIC),
                               .key = db_rows_bytes(rows, COL_KEY),
                               .headers = db_rows_bytes(rows, COL_HEADERS),
                               .content_type = db_rows_bytes(rows, COL_CONTENT_TYPE),
                               .receipt_from = db_rows_bytes(rows, COL_RECEIPT_FROM),
                               .payload = db_rows_bytes(rows, COL_PAYLOAD)};
}

/* A lookup reads no more than decides about admission: most of what it shows is known already. */
static void fill_light(struct outbox_row *row, const struct db_rows *rows)
{
    *row = (struct outbox_row){.id = db_rows_u64(rows, LIGHT_ID),
                               .topic = db_rows_bytes(rows, LIGHT_TOPIC),
                               .key = db_rows_bytes(rows, LIGHT_KEY),
                               .asks = db_rows_u64(rows, LIGHT_ASKS) != 0};
}

/* Copies the result into the batch and frees it. */
static enum obx_code collect(struct db_rows *rows, bool is_full, struct row_batch *batch,
                             struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    while (rc == OBX_OK && db_rows_next(rows)) {
        struct outbox_row seen = {0};
        struct outbox_row *row = NULL;

        if (is_full)
            fill_full(&seen, rows);
        else
            fill_light(&seen, rows);
        row = outbox_row_copy(&seen);
        rc = row == NULL ? OBX_E_NOMEM : row_batch_add_take(batch, row);
        if (rc != OBX_OK)
            obx_free(row);
    }
    db_rows_free(rows);
    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "rows of the outbox");
}

enum obx_code outbox_store_forward(struct outbox_store *store, uint64_t from, uint32_t limit,
                                   struct row_batch *batch, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(store->db, store->forward.data, DB_ARGS(DB_U64(from), DB_U64(limit)), &rows, err);

    return rc == OBX_OK ? collect(rows, true, batch, err) : rc;
}

/* As text: a statement for each number of ranges would push everything else out of the cache of
 * prepared ones. */
static enum obx_code query_ranges(struct outbox_store *store, const struct id_range *ranges,
                                  size_t range_count, uint32_t limit, struct db_rows **rows,
                                  struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    buf_reset(&store->text);
    rc = buf_addf(&store->text, "%s%s FORCE INDEX (PRIMARY) WHERE ", light_columns,
                  store->table.data);
    for (size_t i = 0; i < range_count && rc == OBX_OK; i++)
        rc = buf_addf(&store->text, "%sid BETWEEN %llu AND %llu", i == 0 ? "" : " OR ",
                      (unsigned long long)ranges[i].lo, (unsigned long long)ranges[i].hi);
    if (rc == OBX_OK)
        rc = buf_addf(&store->text, " ORDER BY id LIMIT %lu", (unsigned long)limit);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement over %zu ranges", range_count);
    return db_query_text(store->db, buf_bytes(&store->text), rows, err);
}

enum obx_code outbox_store_behind(struct outbox_store *store, const struct id_range *ranges,
                                  size_t range_count, uint32_t limit, struct row_batch *batch,
                                  struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    if (range_count == 0)
        return OBX_OK;
    if (range_count == 1)
        rc = db_query(store->db, store->range.data,
                      DB_ARGS(DB_U64(ranges[0].lo), DB_U64(ranges[0].hi), DB_U64(limit)), &rows,
                      err);
    else
        rc = query_ranges(store, ranges, range_count, limit, &rows, err);
    return rc == OBX_OK ? collect(rows, false, batch, err) : rc;
}

/* READ ONLY, so that the server gives it no transaction id and purge is held up for no longer than
 * it takes. */
enum obx_code outbox_store_snapshot(struct outbox_store *store, bool on, struct obx_err *err)
{
    static const char isolate[] = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
    static const char begin[] = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
    enum obx_code rc = OBX_OK;

    if (!on)
        return db_rollback(store->db, err);
    rc = db_exec_text(store->db, bytes_of(isolate), NULL, err);
    return rc == OBX_OK ? db_exec_text(store->db, bytes_of(begin), NULL, err) : rc;
}

enum obx_code outbox_store_fetch(struct outbox_store *store, const uint64_t *ids, size_t count,
                                 struct row_batch *batch, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    struct obx_bytes sql;
    enum obx_code rc = OBX_OK;

    if (count == 0)
        return OBX_OK;
    rc = id_list_set(&store->list, ids, count, err);
    if (rc == OBX_OK)
        rc = id_list_statement(&store->list, store->by_ids.data, ") ORDER BY id", &sql, err);
    if (rc == OBX_OK)
        rc = db_query_text(store->db, sql, &rows, err);
    return rc == OBX_OK ? collect(rows, true, batch, err) : rc;
}

/* The result is given as it is: a copy of 16 MiB for each message would cost more than its read. */
enum obx_code outbox_store_large(struct outbox_store *store, uint64_t id, struct db_rows **rows,
                                 struct outbox_large *out, struct obx_err *err)
{
    enum obx_code rc = db_query(store->db, store->large.data, DB_ARGS(DB_U64(id)), rows, err);

    memset(out, 0, sizeof(*out));
    if (rc == OBX_OK && db_rows_next(*rows)) {
        out->payload = db_rows_bytes(*rows, 0);
        out->headers = db_rows_bytes(*rows, 1);
        out->headers_len = db_rows_u64(*rows, 2);
    }
    return rc;
}

enum obx_code outbox_store_count(struct outbox_store *store, const char *outbox, uint64_t cap,
                                 struct outbox_counts *counts, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(store->db, store->count.data,
                 DB_ARGS(DB_U64(cap), DB_TEXT(outbox), DB_U64(cap), DB_TEXT(outbox), DB_U64(cap),
                         DB_TEXT(outbox), DB_U64(cap), DB_TEXT(outbox), DB_U64(cap)),
                 &rows, err);

    memset(counts, 0, sizeof(*counts));
    if (rc != OBX_OK)
        return rc;
    if (db_rows_next(rows)) {
        counts->waiting = db_rows_u64(rows, 0);
        counts->parked = db_rows_u64(rows, 1);
        counts->frozen = db_rows_u64(rows, 2);
        counts->oldest_age_us = db_rows_u64(rows, 3);
        counts->db_now_us = db_rows_u64(rows, 4);
        counts->awaiting = db_rows_u64(rows, 5);
        counts->delayed = db_rows_u64(rows, 6);
    }
    db_rows_free(rows);
    return OBX_OK;
}

/* ---- for the reader ---- */

static void note_read(const struct outbox_store *store, bool has_more)
{
    if (has_more && store->durable != NULL)
        durable_note_read(store->durable);
}

static enum obx_code read_forward(void *ctx, uint64_t from, uint32_t limit, struct row_batch *batch,
                                  struct obx_err *err)
{
    struct outbox_store *store = ctx;
    const size_t had = batch->count;
    enum obx_code rc = outbox_store_forward(store, from, limit, batch, err);

    note_read(store, batch->count > had);
    return rc;
}

static enum obx_code read_behind(void *ctx, const struct id_range *ranges, size_t range_count,
                                 uint32_t limit, struct row_batch *batch, struct obx_err *err)
{
    struct outbox_store *store = ctx;
    const size_t had = batch->count;
    enum obx_code rc = outbox_store_behind(store, ranges, range_count, limit, batch, err);

    note_read(store, batch->count > had);
    return rc;
}

static enum obx_code read_snapshot(void *ctx, bool on, struct obx_err *err)
{
    return outbox_store_snapshot(ctx, on, err);
}

static enum obx_code mark_frozen(void *ctx, struct row_batch *batch, struct obx_err *err)
{
    struct outbox_store *store = ctx;

    return store->parking == NULL ? OBX_OK : parking_mark(store->parking, store->db, batch, err);
}

static uint64_t now_us(void *ctx)
{
    (void)ctx;
    return clock_now_us();
}

struct reader_store outbox_store_for_reader(struct outbox_store *store)
{
    return (struct reader_store){.forward = read_forward,
                                 .behind = read_behind,
                                 .snapshot = read_snapshot,
                                 .mark_frozen = mark_frozen,
                                 .now_us = now_us,
                                 .ctx = store};
}
