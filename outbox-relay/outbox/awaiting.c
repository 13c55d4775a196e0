/*
 * Messages that wait for receipts. See awaiting.h.
 *
 * The receipts role settles rows of outbox_awaiting on connections of its own, under their row
 * locks and without the lease. A receipt and the row that it is for may miss each other there (each
 * is not yet committed when the other looks); the role looks a second time, and the scan of
 * overdue.c looks before it sends, so that costs time and nothing else.
 */
#include "awaiting.h"

#include <string.h>

#include "base/alloc.h"
#include "base/crash.h"
#include "receipt_key.h"

enum { US_PER_MS = 1000 };

/* When the next send is due, by the column sends after the send at hand. A quarter of the wait is
 * jitter, so that what was sent together does not come again together. */
static enum obx_code build_move(struct awaiting *awaiting)
{
    return buf_addf(
        &awaiting->move,
        "INSERT INTO outbox_awaiting (outbox, id, " OUTBOX_COLUMNS ", next_send_at)"
        " SELECT ?, o.id, " OUTBOX_COLUMNS ","
        " UTC_TIMESTAMP(6) + INTERVAL CAST(%llu * (1 + RAND() / 4) AS UNSIGNED) MICROSECOND"
        " FROM " ID_LIST_TABLE " STRAIGHT_JOIN %s o FORCE INDEX (PRIMARY) ON o.id = k.id"
        " ON DUPLICATE KEY UPDATE sends = sends + 1, sent_at = UTC_TIMESTAMP(6),"
        " next_send_at = %s",
        (unsigned long long)awaiting->opts.timeout_ms * US_PER_MS, awaiting->opts.table,
        awaiting->next_send.data);
}

static enum obx_code build(struct awaiting *awaiting)
{
    const char *table = awaiting->opts.table;
    enum obx_code rc = buf_addf(
        &awaiting->early,
        "SELECT o.id, o.message_id, o.receipt_from, r.consumer_group, r.outcome, r.reason"
        " FROM " ID_LIST_TABLE " STRAIGHT_JOIN %s o FORCE INDEX (PRIMARY) ON o.id = k.id"
        " STRAIGHT_JOIN outbox_receipt r FORCE INDEX (PRIMARY) ON r.message_id = o.message_id"
        " WHERE r.consumer_group <> '' ORDER BY o.id",
        table);

    if (rc == OBX_OK)
        /* In the database, by its clock. Up to a quarter more, so that what was sent together does
         * not come due together; the exponent is bounded before POW() leaves the range of a double. */
        rc = buf_addf(&awaiting->next_send,
                      "UTC_TIMESTAMP(6) + INTERVAL CAST(LEAST(%llu, %llu * POW(2, LEAST(sends - 1,"
                      " 40))) * (1 + RAND() / 4) AS UNSIGNED) MICROSECOND",
                      (unsigned long long)awaiting->opts.cap_ms * US_PER_MS,
                      (unsigned long long)awaiting->opts.timeout_ms * US_PER_MS);
    if (rc == OBX_OK)
        rc = build_move(awaiting);
    return rc;
}

enum obx_code awaiting_init(struct awaiting *awaiting, const struct awaiting_opts *opts,
                            struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    memset(awaiting, 0, sizeof(*awaiting));
    awaiting->opts = *opts;
    rc = compensate_init(&awaiting->comp, opts->table, err);
    if (rc == OBX_OK)
        rc = row_delete_init(&awaiting->del, opts->table, "id", err);
    if (rc == OBX_OK && build(awaiting) != OBX_OK)
        rc = obx_fail(err, OBX_E_NOMEM, "statements of messages that await receipts");
    if (rc != OBX_OK)
        awaiting_fini(awaiting);
    return rc;
}

void awaiting_fini(struct awaiting *awaiting)
{
    struct obx_buf *bufs[] = {&awaiting->early, &awaiting->next_send, &awaiting->move};

    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
        buf_fini(bufs[i]);
    id_list_fini(&awaiting->list);
    compensate_fini(&awaiting->comp);
    row_delete_fini(&awaiting->del);
}

/* ---- confirmed rows ---- */

/* The ids of the rows that are not done yet. */
static enum obx_code list_ids(struct id_list *list, const uint64_t *ids, const bool *is_done,
                              size_t count, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    id_list_clear(list);
    for (size_t i = 0; i < count && rc == OBX_OK; i++) {
        if (!is_done[i])
            rc = id_list_add(list, ids[i], err);
    }
    return rc;
}

/* The reports of one row, while the result of `early` is walked, which has them side by side. */
struct early_row {
    uint64_t id;
    bool is_begun;
    struct receipt_tally tally;
    bool is_usable; /* its list of groups can be read */
    bool is_done;   /* dealt with */
};

static void begin_row(struct early_row *row, const struct db_rows *rows)
{
    uint64_t id = db_rows_u64(rows, 0);

    if (row->is_begun && id == row->id)
        return;
    *row = (struct early_row){.id = id, .is_begun = true};
    row->is_usable = receipt_groups_parse(db_rows_bytes(rows, 2), &row->tally.groups);
}

static enum obx_code reject_early(struct awaiting *awaiting, struct db *db,
                                  const struct db_rows *rows, struct obx_err *err)
{
    const struct compensate_item item = {.message_id = db_rows_bytes(rows, 1),
                                         .group = db_rows_bytes(rows, 3),
                                         .reason = db_rows_bytes(rows, 5),
                                         .in_outbox = true,
                                         .outbox_id = db_rows_u64(rows, 0)};
    bool is_first = false;
    enum obx_code rc = compensate_run(&awaiting->comp, db, &item, &is_first, err);

    awaiting->rejected += is_first;
    return rc;
}

/* One report. The groups of the row borrow from the result's current row: they are read again. */
static enum obx_code take_early(struct awaiting *awaiting, struct db *db, struct early_row *row,
                                const struct db_rows *rows, struct obx_err *err)
{
    bool is_rejected = bytes_is(db_rows_bytes(rows, 4), "rejected");

    if (!row->is_usable || row->is_done ||
        !receipt_groups_parse(db_rows_bytes(rows, 2), &row->tally.groups) ||
        !receipt_tally_add(&row->tally, db_rows_bytes(rows, 3), is_rejected) ||
        !receipt_tally_is_complete(&row->tally))
        return OBX_OK;
    row->is_done = true;
    return is_rejected ? reject_early(awaiting, db, rows, err) : OBX_OK;
}

/* Finds the rows whose receipts are complete already. */
static enum obx_code settle_early(struct awaiting *awaiting, struct db *db, const uint64_t *ids,
                                  bool *is_done, size_t count, struct obx_err *err)
{
    struct early_row row = {.id = 0};
    struct db_rows *rows = NULL;
    size_t at = 0;
    enum obx_code rc =
        db_query(db, awaiting->early.data, DB_ARGS(ID_LIST_ARG(&awaiting->list)), &rows, err);

    while (rc == OBX_OK && db_rows_next(rows)) {
        begin_row(&row, rows);
        rc = take_early(awaiting, db, &row, rows, err);
        while (at < count && ids[at] < row.id)
            at++;
        if (row.is_done && at < count && ids[at] == row.id && !is_done[at]) {
            is_done[at] = true;
            awaiting->settled_at_once++;
        }
    }
    db_rows_free(rows);
    return rc;
}

static enum obx_code move_within(struct awaiting *awaiting, struct db *db, const uint64_t *ids,
                                 bool *is_done, size_t count, struct obx_err *err)
{
    uint64_t deleted = 0;
    enum obx_code rc = list_ids(&awaiting->list, ids, is_done, count, err);

    if (rc == OBX_OK)
        rc = settle_early(awaiting, db, ids, is_done, count, err);
    if (rc == OBX_OK)
        rc = list_ids(&awaiting->list, ids, is_done, count, err);
    if (rc == OBX_OK && awaiting->list.count > 0)
        rc = db_exec(db, awaiting->move.data,
                     DB_ARGS(DB_TEXT(awaiting->opts.outbox), ID_LIST_ARG(&awaiting->list)), NULL,
                     err);
    if (rc == OBX_OK)
        rc = row_delete_run(&awaiting->del, db, ids, count, &deleted, err);
    return rc;
}

static enum obx_code move_all(struct awaiting *awaiting, struct db *db, const uint64_t *ids,
                              bool *is_done, size_t count, struct obx_err *err)
{
    uint64_t settled_before = awaiting->settled_at_once;
    enum obx_code rc = lease_begin(awaiting->opts.lease, db, err);

    if (rc != OBX_OK)
        return rc;
    if (awaiting->opts.journal != NULL)
        rc = journal_write(awaiting->opts.journal, db, ids, count, err);
    if (rc == OBX_OK)
        rc = move_within(awaiting, db, ids, is_done, count, err);
    if (rc != OBX_OK) {
        lease_rollback(db);
        awaiting->settled_at_once = settled_before;
        return rc;
    }
    OBX_CRASH_POINT("lane-await-before-commit");
    rc = lease_commit(awaiting->opts.lease, db, err);
    if (rc != OBX_OK)
        return rc;
    awaiting->moved += count - (awaiting->settled_at_once - settled_before);
    OBX_CRASH_POINT("lane-awaited");
    return OBX_OK;
}

enum obx_code awaiting_move(struct awaiting *awaiting, struct db *db, const uint64_t *ids,
                            size_t count, struct obx_err *err)
{
    bool *is_done = obx_calloc(count, sizeof(*is_done));
    enum obx_code rc = OBX_OK;

    if (is_done == NULL)
        return obx_fail(err, OBX_E_NOMEM, "rows that await receipts");
    rc = move_all(awaiting, db, ids, is_done, count, err);
    obx_free(is_done);
    return rc;
}
