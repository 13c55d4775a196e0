/*
 * Second looks, by key: what one portion of a merge has not settled may have moved meanwhile.
 * Called by reconcile.c.
 */
#include "reconcile_private.h"

#include <string.h>

enum { US_PER_MS = 1000 };

/* The ids of a batch, as hexadecimal digits because they may be any bytes. `n` is their place. */
#define OF_BATCH "JSON_TABLE(?, '$[*]' COLUMNS (n FOR ORDINALITY, h VARCHAR(512) PATH '$')) k"

/* The batch as an argument, with nothing done yet. */
static enum obx_code begin(struct reconcile *r, struct id_batch *batch, struct obx_err *err)
{
    memset(batch->is_done, 0, sizeof(batch->is_done));
    buf_reset(&r->json);
    for (size_t i = 0; i < batch->count; i++) {
        const struct id_text *id = &batch->items[i];

        buf_add_text(&r->json, i == 0 ? "[\"" : "\",\"");
        for (size_t k = 0; k < id->len; k++)
            buf_addf(&r->json, "%02x", (unsigned char)id->bytes[k]);
    }
    buf_add_text(&r->json, "\"]");
    return r->json.rc == OBX_OK ? OBX_OK : obx_fail(err, r->json.rc, "list of ids");
}

/* Called for each row of a result with the index of its id in the batch. */
typedef void hit_fn(struct reconcile *r, struct id_batch *batch, size_t index,
                    const struct db_rows *rows);

static enum obx_code look(struct reconcile *r, struct db *db, const char *sql, const char *arg,
                          struct id_batch *batch, hit_fn *hit, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    const struct obx_value args[2] = {DB_BYTES(buf_bytes(&r->json)), DB_TEXT(arg)};
    enum obx_code rc = db_query(db, sql, args, arg == NULL ? 1 : 2, &rows, err);

    while (rc == OBX_OK && db_rows_next(rows)) {
        size_t index = (size_t)db_rows_u64(rows, 0) - 1;

        if (index < batch->count && !batch->is_done[index])
            hit(r, batch, index, rows);
    }
    db_rows_free(rows);
    return rc;
}

static void mark(struct reconcile *r, struct id_batch *batch, size_t index,
                 const struct db_rows *rows)
{
    (void)r;
    (void)rows;
    batch->is_done[index] = true;
}

static const char sql_applied[] = "SELECT k.n, d.outcome IS NOT NULL FROM " OF_BATCH
                                  " STRAIGHT_JOIN inbox_applied d FORCE INDEX (PRIMARY)"
                                  " ON d.message_id = UNHEX(k.h) AND d.consumer_group = ?";

enum obx_code reconcile_mark_applied(struct reconcile *r, struct id_batch *batch,
                                     struct obx_err *err)
{
    enum obx_code rc = begin(r, batch, err);

    return rc == OBX_OK ? look(r, r->opts->consumer, sql_applied, r->opts->group, batch, mark, err)
                        : rc;
}

/* ---- seems missing ---- */

static void note_applied(struct reconcile *r, struct id_batch *batch, size_t index,
                         const struct db_rows *rows)
{
    batch->is_done[index] = true;
    if (db_rows_u64(rows, 1) != 0)
        reconcile_report(r, RECONCILE_REJECTED, id_bytes(&batch->items[index]),
                         (struct obx_bytes){0}, (struct obx_bytes){0});
    else
        r->result->applied++;
}

static void note_waiting(struct reconcile *r, struct id_batch *batch, size_t index,
                         const struct db_rows *rows)
{
    bool is_dead = bytes_is(db_rows_bytes(rows, 1), "dead");

    batch->is_done[index] = true;
    reconcile_report(r, is_dead ? RECONCILE_DEAD : RECONCILE_WAITING,
                     id_bytes(&batch->items[index]), db_rows_bytes(rows, 2), (struct obx_bytes){0});
}

static void note_journal(struct reconcile *r, struct id_batch *batch, size_t index,
                         const struct db_rows *rows)
{
    enum reconcile_kind kind = RECONCILE_MISSING;

    batch->is_done[index] = true;
    if (db_rows_u64(rows, 1) != 0)
        kind = RECONCILE_AWAITING;
    else if (db_rows_u64(rows, 2) <= r->opts->grace_us)
        kind = RECONCILE_BROKER;
    reconcile_report(r, kind, id_bytes(&batch->items[index]), db_rows_bytes(rows, 3),
                     db_rows_bytes(rows, 4));
}

static const char sql_parked[] =
    "SELECT k.n, p.state, p.topic FROM " OF_BATCH " STRAIGHT_JOIN inbox_parked p FORCE INDEX"
    " (parked_message) ON p.message_id = UNHEX(k.h) AND p.consumer_group = ?";
static const char sql_journal[] =
    "SELECT k.n, a.message_id IS NOT NULL, GREATEST(0, TIMESTAMPDIFF(MICROSECOND, j.settled_at,"
    " UTC_TIMESTAMP(6))), j.topic, j.created_at FROM " OF_BATCH
    " STRAIGHT_JOIN outbox_journal j FORCE INDEX (PRIMARY) ON j.message_id = UNHEX(k.h)"
    " AND j.is_custom = ? LEFT JOIN outbox_awaiting a FORCE INDEX (PRIMARY)"
    " ON a.message_id = CONVERT(UNHEX(k.h) USING ascii)";

/* The consumer's places in the order in which a message goes through them backwards: one that is
 * applied out of inbox_parked between two looks is found by the last. */
enum obx_code reconcile_look_missing(struct reconcile *r, struct obx_err *err)
{
    struct id_batch *batch = &r->missing;
    enum obx_code rc = OBX_OK;

    if (batch->count == 0)
        return OBX_OK;
    rc = begin(r, batch, err);
    if (rc == OBX_OK)
        rc = look(r, r->opts->consumer, sql_applied, r->opts->group, batch, note_applied, err);
    if (rc == OBX_OK)
        rc = look(r, r->opts->consumer, sql_parked, r->opts->group, batch, note_waiting, err);
    if (rc == OBX_OK)
        rc = look(r, r->opts->consumer, sql_applied, r->opts->group, batch, note_applied, err);
    if (rc == OBX_OK)
        rc = look(r, r->opts->source, sql_journal, r->is_custom ? "1" : "0", batch, note_journal,
                  err);
    batch->count = 0;
    return rc;
}

/* ---- seems extra ---- */

static const char sql_known[] =
    "SELECT k.n FROM " OF_BATCH " STRAIGHT_JOIN outbox_journal j FORCE INDEX (PRIMARY)"
    " ON j.message_id = UNHEX(k.h) AND j.is_custom = ?";
static const char sql_awaiting[] =
    "SELECT k.n FROM " OF_BATCH " STRAIGHT_JOIN outbox_awaiting a FORCE INDEX (PRIMARY)"
    " ON a.message_id = CONVERT(UNHEX(k.h) USING ascii)";

/* Of an id with a time in it, that decides; of another only who asked for all of them. */
static bool is_of_the_range(const struct reconcile *r, const struct id_text *id)
{
    uint64_t ms = reconcile_id_ms(id_bytes(id));

    if (ms == 0)
        return r->opts->all_ids && r->is_custom;
    return ms * US_PER_MS >= r->opts->from_us && ms * US_PER_MS < r->opts->to_us;
}

enum obx_code reconcile_look_extra(struct reconcile *r, struct obx_err *err)
{
    struct id_batch *batch = &r->extra;
    enum obx_code rc = OBX_OK;

    if (batch->count == 0)
        return OBX_OK;
    rc = begin(r, batch, err);
    if (rc == OBX_OK)
        rc = look(r, r->opts->source, sql_known, "0", batch, mark, err);
    if (rc == OBX_OK)
        rc = look(r, r->opts->source, sql_known, "1", batch, mark, err);
    if (rc == OBX_OK)
        rc = look(r, r->opts->source, sql_awaiting, NULL, batch, mark, err);
    for (size_t i = 0; i < batch->count && rc == OBX_OK; i++) {
        if (batch->is_done[i] || !is_of_the_range(r, &batch->items[i]))
            continue;
        if (r->suspect_count == RECONCILE_SUSPECTS)
            rc = reconcile_flush_suspects(r, err);
        r->suspects[r->suspect_count++] = batch->items[i];
    }
    batch->count = 0;
    return rc;
}
