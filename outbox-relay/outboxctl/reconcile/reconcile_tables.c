/*
 * outbox, outbox_parked and outbox_delayed have no index by message id: they are read from end to
 * end in portions by primary key, once for what is on its way and once for each load of suspects.
 * Called by reconcile.c.
 */
#include "reconcile_private.h"

#include <stdlib.h>
#include <string.h>

enum { PORTION = 2000 };

struct table_scan {
    const char *table, *key;
    enum reconcile_kind kind;
};

/* Called for each row: key, message_id, topic, created_at, wanted. */
typedef enum obx_code row_fn(struct reconcile *r, const struct table_scan *scan,
                             const struct db_rows *rows, struct obx_err *err);

static enum obx_code build_scan(struct reconcile *r, const struct table_scan *scan)
{
    enum obx_code rc = OBX_OK;

    buf_reset(&r->sql);
    rc = buf_addf(&r->sql, "SELECT o.%s, o.message_id, o.topic, o.created_at, %s FROM ", scan->key,
                  r->wanted.data);
    if (rc == OBX_OK)
        rc = db_add_identifier(&r->sql, scan->table);
    if (rc == OBX_OK)
        rc = buf_addf(&r->sql, " o WHERE o.%s > ? ORDER BY o.%s LIMIT ?", scan->key, scan->key);
    return rc;
}

static enum obx_code scan_table(struct reconcile *r, const struct table_scan *scan, row_fn *each,
                                struct obx_err *err)
{
    struct obx_value args[RECONCILE_TOPICS_MAX + 4];
    uint64_t last = 0;
    size_t found = PORTION;
    enum obx_code rc = build_scan(r, scan);

    if (rc != OBX_OK)
        return obx_fail(err, rc, "table %s", scan->table);
    memcpy(args, r->wanted_args, r->wanted_count * sizeof(args[0]));
    while (rc == OBX_OK && found == PORTION) {
        struct db_rows *rows = NULL;

        args[r->wanted_count] = DB_U64(last);
        args[r->wanted_count + 1] = DB_U64(PORTION);
        rc = db_query(r->opts->source, r->sql.data, args, r->wanted_count + 2, &rows, err);
        for (found = 0; rc == OBX_OK && db_rows_next(rows); found++) {
            last = db_rows_u64(rows, 0);
            rc = each(r, scan, rows, err);
        }
        db_rows_free(rows);
    }
    return rc;
}

static enum obx_code scan_all(struct reconcile *r, row_fn *each,
                              enum obx_code (*after)(struct reconcile *r,
                                                     const struct table_scan *scan,
                                                     struct obx_err *err),
                              struct obx_err *err)
{
    struct table_scan scans[RECONCILE_TABLES_MAX + 2] = {
        {"outbox_delayed", "id", RECONCILE_DELAYED}};
    size_t count = 1;
    enum obx_code rc = OBX_OK;

    /* In the direction in which messages go, but for parked ones, which may come back. */
    for (size_t i = 0; i < r->opts->outbox_count; i++)
        scans[count++] = (struct table_scan){r->opts->outboxes[i], "id", RECONCILE_OUTBOX};
    scans[count++] = (struct table_scan){"outbox_parked", "parked_id", RECONCILE_PARKED};
    for (size_t i = 0; i < count && rc == OBX_OK; i++) {
        rc = scan_table(r, &scans[i], each, err);
        if (rc == OBX_OK && after != NULL)
            rc = after(r, &scans[i], err);
    }
    return rc;
}

/* ---- on the way ---- */

static enum obx_code judge_waiting(struct reconcile *r, const struct table_scan *scan,
                                   struct obx_err *err)
{
    struct id_batch *batch = &r->waiting;
    enum obx_code rc = batch->count == 0 ? OBX_OK : reconcile_mark_applied(r, batch, err);

    for (size_t i = 0; i < batch->count && rc == OBX_OK; i++) {
        if (batch->is_done[i])
            r->result->unsettled++;
        else
            reconcile_report(r, scan->kind, id_bytes(&batch->items[i]), (struct obx_bytes){0},
                             (struct obx_bytes){0});
    }
    batch->count = 0;
    return rc;
}

static enum obx_code on_waiting(struct reconcile *r, const struct table_scan *scan,
                                const struct db_rows *rows, struct obx_err *err)
{
    if (db_rows_u64(rows, 4) == 0)
        return OBX_OK;
    id_copy(&r->waiting.items[r->waiting.count++], db_rows_bytes(rows, 1));
    return r->waiting.count == RECONCILE_BATCH ? judge_waiting(r, scan, err) : OBX_OK;
}

enum obx_code reconcile_on_the_way(struct reconcile *r, struct obx_err *err)
{
    return scan_all(r, on_waiting, judge_waiting, err);
}

/* ---- suspects ---- */

static int compare_texts(const void *a, const void *b)
{
    return id_compare(id_bytes(a), id_bytes(b));
}

static enum obx_code on_known(struct reconcile *r, const struct table_scan *scan,
                              const struct db_rows *rows, struct obx_err *err)
{
    struct id_text key;
    const struct id_text *found;

    (void)scan;
    (void)err;
    id_copy(&key, db_rows_bytes(rows, 1));
    found = bsearch(&key, r->suspects, r->suspect_count, sizeof(*r->suspects), compare_texts);
    if (found != NULL)
        r->is_known[found - r->suspects] = true;
    return OBX_OK;
}

/* Those that moved into the journal while the tables were read. */
static enum obx_code look_once_more(struct reconcile *r, struct obx_err *err)
{
    static const char sql[] = "SELECT 1 FROM outbox_journal WHERE is_custom IN (0, 1)"
                              " AND message_id = ? LIMIT 1";
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < r->suspect_count && rc == OBX_OK; i++) {
        struct db_rows *rows = NULL;

        if (r->is_known[i])
            continue;
        rc = db_query(r->opts->source, sql, DB_ARGS(DB_BYTES(id_bytes(&r->suspects[i]))), &rows,
                      err);
        if (rc == OBX_OK && !db_rows_next(rows))
            reconcile_report(r, RECONCILE_EXTRA, id_bytes(&r->suspects[i]), (struct obx_bytes){0},
                             (struct obx_bytes){0});
        db_rows_free(rows);
    }
    return rc;
}

enum obx_code reconcile_flush_suspects(struct reconcile *r, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (r->suspect_count == 0)
        return OBX_OK;
    qsort(r->suspects, r->suspect_count, sizeof(*r->suspects), compare_texts);
    memset(r->is_known, 0, r->suspect_count * sizeof(*r->is_known));
    rc = scan_all(r, on_known, NULL, err);
    if (rc == OBX_OK)
        rc = look_once_more(r, err);
    r->suspect_count = 0;
    return rc;
}
