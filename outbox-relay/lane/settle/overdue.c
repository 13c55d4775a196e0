/*
 * Rows of outbox_awaiting whose receipts are overdue. See overdue.h.
 */
#include "overdue.h"

#include <string.h>

#include "base/alloc.h"
#include "base/crash.h"
#include "base/log.h"
#include "lane/failures.h"
#include "outbox/receipt_key.h"

enum { SCAN_ROWS = 200, HELD_CAP_MS = 30000 };

static const char sql_due[] = "SELECT message_id FROM outbox_awaiting FORCE INDEX (due)"
                              " WHERE next_send_at <= UTC_TIMESTAMP(6) AND outbox = ";
static const char sql_renumber[] =
    "UPDATE outbox_awaiting FORCE INDEX (PRIMARY) SET id = ? WHERE message_id = ?";
/* One by one: for a list that names most of the table MariaDB reads all of it, and waits for rows
 * that the receipts role has in hand. */
static const char sql_delete[] =
    "DELETE a FROM outbox_awaiting a FORCE INDEX (PRIMARY) WHERE a.message_id = ?";
static const char sql_park[] =
    "INSERT INTO outbox_parked (outbox, id, " OUTBOX_COLUMNS ", reason_code, reason, attempts)"
    " SELECT outbox, id, " OUTBOX_COLUMNS ", 'RECEIPT_MISSING',"
    " CONCAT('no receipt from ', receipt_from, ' after being sent ', sends, ' times'), sends"
    " FROM outbox_awaiting FORCE INDEX (PRIMARY) WHERE message_id IN (";

enum obx_code overdue_init(struct overdue *overdue, struct awaiting *awaiting,
                           struct reader *reader, struct obx_err *err)
{
    const char *table = awaiting->opts.table;
    enum obx_code rc = OBX_OK;

    memset(overdue, 0, sizeof(*overdue));
    overdue->awaiting = awaiting;
    overdue->reader = reader;
    overdue->portion = SCAN_ROWS;
    rc = buf_addf(&overdue->resend,
                  "INSERT INTO %s (id, " OUTBOX_COLUMNS ") SELECT id, " OUTBOX_COLUMNS
                  " FROM outbox_awaiting FORCE INDEX (PRIMARY) WHERE message_id IN (",
                  table);
    if (rc == OBX_OK)
        rc = buf_addf(&overdue->send_renewed,
                      "INSERT INTO %s (" OUTBOX_COLUMNS ") SELECT " OUTBOX_COLUMNS
                      " FROM outbox_awaiting FORCE INDEX (PRIMARY) WHERE message_id = ?",
                      table);
    if (rc == OBX_OK)
        rc = buf_addf(&overdue->on_way,
                      "SELECT id, message_id FROM %s FORCE INDEX (PRIMARY) WHERE id IN (", table);
    if (rc == OBX_OK)
        rc = buf_addf(&overdue->put_off,
                      "UPDATE outbox_awaiting FORCE INDEX (PRIMARY) SET next_send_at = %s"
                      " WHERE message_id IN (",
                      awaiting->next_send.data);
    if (rc == OBX_OK)
        return OBX_OK;
    overdue_fini(overdue);
    return obx_fail(err, rc, "statements of overdue messages");
}

void overdue_fini(struct overdue *overdue)
{
    struct obx_buf *bufs[] = {&overdue->resend,      &overdue->on_way, &overdue->put_off,
                              &overdue->text,        &overdue->ids,    &overdue->due,
                              &overdue->resent,      &overdue->late,   &overdue->over,
                              &overdue->send_renewed};

    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
        buf_fini(bufs[i]);
}

/* ---- what is due ---- */

/* A row under its lock. */
struct overdue_row {
    uint64_t id;
    uint64_t sends;
    char *message_id; /* owned, as the two below */
    char *key;        /* NULL: none */
    char *receipt_from;
    size_t key_len;
    struct receipt_tally tally; /* borrows from receipt_from */
    bool is_on_way;             /* in the outbox, or parked from there */
    bool is_over;               /* it goes: settled, or its sends are used up */
    bool is_blocked;            /* another message has its id there: it needs a new one */
    bool is_sent;               /* put back into the outbox by this transaction */
};

struct scan {
    struct overdue_row rows[SCAN_ROWS];
    size_t count;
};

static void scan_fini(struct scan *scan)
{
    for (size_t i = 0; i < scan->count; i++) {
        obx_free(scan->rows[i].message_id);
        obx_free(scan->rows[i].key);
        obx_free(scan->rows[i].receipt_from);
    }
    obx_free(scan);
}

static enum obx_code add_literal(struct obx_buf *buf, struct db *db, const char *text)
{
    enum obx_code rc = buf->len == 0 ? OBX_OK : buf_add_text(buf, ",");

    return rc == OBX_OK ? db_add_literal(db, buf, bytes_of(text)) : rc;
}

/* The ids of what is due, as literals in overdue->due. */
static enum obx_code find_due(struct overdue *overdue, struct db *db, size_t *count,
                              struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    *count = 0;
    buf_reset(&overdue->text);
    rc = buf_add_text(&overdue->text, sql_due);
    if (rc == OBX_OK)
        rc = db_add_literal(db, &overdue->text, bytes_of(overdue->awaiting->opts.outbox));
    if (rc == OBX_OK)
        rc = held_rows_exclude(&overdue->held, db, &overdue->text, "message_id");
    if (rc == OBX_OK)
        rc = buf_addf(&overdue->text, " ORDER BY next_send_at LIMIT %zu OFFSET %zu",
                      overdue->portion, overdue->offset);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement over overdue messages");
    rc = db_query_text(db, buf_bytes(&overdue->text), &rows, err);
    if (rc != OBX_OK)
        return rc;
    buf_reset(&overdue->due);
    while (rc == OBX_OK && db_rows_next(rows)) {
        struct obx_bytes id = db_rows_bytes(rows, 0);

        if (overdue->due.len > 0)
            rc = buf_add_text(&overdue->due, ",");
        if (rc == OBX_OK)
            rc = db_add_literal(db, &overdue->due, id);
        (*count)++;
    }
    db_rows_free(rows);
    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "list of overdue messages");
}

/* Runs `before` + the literals in list + `after`. */
static enum obx_code run_list(struct overdue *overdue, struct db *db, const char *before,
                              const struct obx_buf *list, const char *after, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (list->len == 0)
        return OBX_OK;
    buf_reset(&overdue->text);
    rc = buf_addf(&overdue->text, "%s%s%s", before, list->data, after);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement over overdue messages");
    return db_exec_text(db, buf_bytes(&overdue->text), NULL, err);
}

static enum obx_code query_list(struct overdue *overdue, struct db *db, const char *before,
                                const struct obx_buf *list, const char *after,
                                struct db_rows **rows, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    *rows = NULL;
    buf_reset(&overdue->text);
    rc = buf_addf(&overdue->text, "%s%s%s", before, list->data, after);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement over overdue messages");
    return db_query_text(db, buf_bytes(&overdue->text), rows, err);
}

static bool fill_row(struct overdue_row *row, const struct db_rows *rows)
{
    struct obx_bytes key = db_rows_bytes(rows, 2);

    row->id = db_rows_u64(rows, 1);
    row->sends = db_rows_u64(rows, 3);
    row->message_id = bytes_dup(db_rows_bytes(rows, 0));
    row->receipt_from = bytes_dup(db_rows_bytes(rows, 4));
    row->key = bytes_is_absent(key) ? NULL : bytes_dup(key);
    row->key_len = key.len;
    if (row->message_id == NULL || row->receipt_from == NULL ||
        (row->key == NULL && !bytes_is_absent(key)))
        return false;
    /* A list that cannot be read never comes here by the lane; then nothing completes it. */
    if (!receipt_groups_parse(bytes_of(row->receipt_from), &row->tally.groups))
        row->tally.groups.count = 0;
    return true;
}

/* Those that the receipts role works on at this moment are passed over. */
static enum obx_code lock_due(struct overdue *overdue, struct db *db, struct scan *scan,
                              struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = query_list(
        overdue, db,
        "SELECT message_id, id, ordering_key, sends, receipt_from"
        " FROM outbox_awaiting FORCE INDEX (PRIMARY) WHERE message_id"
        " IN (",
        &overdue->due, ") AND next_send_at <= UTC_TIMESTAMP(6) FOR UPDATE SKIP LOCKED", &rows, err);

    while (rc == OBX_OK && scan->count < SCAN_ROWS && db_rows_next(rows)) {
        if (!fill_row(&scan->rows[scan->count++], rows))
            rc = obx_fail(err, OBX_E_NOMEM, "overdue messages");
    }
    db_rows_free(rows);
    return rc;
}

static struct overdue_row *find_row(struct scan *scan, struct obx_bytes message_id)
{
    for (size_t i = 0; i < scan->count; i++) {
        if (bytes_is(message_id, scan->rows[i].message_id))
            return &scan->rows[i];
    }
    return NULL;
}

static enum obx_code compensate_row(struct overdue *overdue, struct db *db,
                                    const struct overdue_row *row, const struct db_rows *rows,
                                    struct obx_err *err)
{
    const struct compensate_item item = {.message_id = bytes_of(row->message_id),
                                         .group = db_rows_bytes(rows, 1),
                                         .reason = db_rows_bytes(rows, 3)};
    bool is_first = false;
    enum obx_code rc = compensate_run(&overdue->awaiting->comp, db, &item, &is_first, err);

    overdue->rejected += is_first;
    return rc;
}

/* Receipts that came before their row was there, or while it was being moved. */
static enum obx_code take_receipts(struct overdue *overdue, struct db *db, struct scan *scan,
                                   struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = query_list(overdue, db,
                                  "SELECT message_id, consumer_group, outcome, reason"
                                  " FROM outbox_receipt FORCE INDEX (PRIMARY) WHERE message_id"
                                  " IN (",
                                  &overdue->due, ") AND consumer_group <> ''", &rows, err);

    while (rc == OBX_OK && db_rows_next(rows)) {
        struct overdue_row *row = find_row(scan, db_rows_bytes(rows, 0));
        bool is_rejected = bytes_is(db_rows_bytes(rows, 2), "rejected");
        bool was_rejected = row != NULL && row->tally.is_rejected;

        if (row != NULL && receipt_tally_add(&row->tally, db_rows_bytes(rows, 1), is_rejected) &&
            is_rejected && !was_rejected)
            rc = compensate_row(overdue, db, row, rows, err);
    }
    db_rows_free(rows);
    return rc;
}

/* "... id IN (1,2) UNION ALL SELECT ... id IN (1,2) AND outbox = 'outbox'" */
static enum obx_code build_on_way(struct overdue *overdue, struct db *db, const struct scan *scan)
{
    enum obx_code rc = OBX_OK;

    buf_reset(&overdue->ids);
    for (size_t i = 0; i < scan->count && rc == OBX_OK; i++)
        rc = buf_addf(&overdue->ids, i == 0 ? "%llu" : ",%llu",
                      (unsigned long long)scan->rows[i].id);
    buf_reset(&overdue->text);
    if (rc == OBX_OK)
        rc = buf_addf(&overdue->text,
                      "%s%s) UNION ALL SELECT id, message_id FROM outbox_parked"
                      " FORCE INDEX (outbox_id) WHERE id IN (%s",
                      overdue->on_way.data, overdue->ids.data, overdue->ids.data);
    if (rc == OBX_OK)
        rc = buf_add_text(&overdue->text, ") AND outbox = ");
    return rc == OBX_OK
               ? db_add_literal(db, &overdue->text, bytes_of(overdue->awaiting->opts.outbox))
               : rc;
}

/* An id alone says nothing: after a restore or a truncate it comes again, for another message. */
static void mark_on_way(struct scan *scan, uint64_t id, struct obx_bytes message_id)
{
    for (size_t i = 0; i < scan->count; i++) {
        struct overdue_row *row = &scan->rows[i];

        if (row->id == id && bytes_is(message_id, row->message_id))
            row->is_on_way = true;
        else if (row->id == id)
            row->is_blocked = true;
    }
}

/* Of several with one id the first keeps it. */
static void mark_twins(struct scan *scan)
{
    for (size_t i = 1; i < scan->count; i++) {
        for (size_t j = 0; j < i && !scan->rows[i].is_blocked; j++)
            scan->rows[i].is_blocked = scan->rows[j].id == scan->rows[i].id;
    }
}

/* What is in the outbox still (the broker is away), or was parked from there, is not put there a
 * second time. */
static enum obx_code find_on_way(struct overdue *overdue, struct db *db, struct scan *scan,
                                 struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = build_on_way(overdue, db, scan);

    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement over overdue messages");
    rc = db_query_text(db, buf_bytes(&overdue->text), &rows, err);
    while (rc == OBX_OK && db_rows_next(rows))
        mark_on_way(scan, db_rows_u64(rows, 0), db_rows_bytes(rows, 1));
    db_rows_free(rows);
    mark_twins(scan);
    return rc;
}

/* Which of the lists the row belongs to: settled, over (sends used up), late (both: look again
 * later), resent. */
static enum obx_code sort_out(struct overdue *overdue, struct db *db, struct scan *scan,
                              struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    buf_reset(&overdue->resent);
    buf_reset(&overdue->late);
    buf_reset(&overdue->over);
    for (size_t i = 0; i < scan->count && rc == OBX_OK; i++) {
        struct overdue_row *row = &scan->rows[i];

        if (receipt_tally_is_complete(&row->tally)) {
            row->is_over = true;
        } else if (!row->is_on_way && !row->is_blocked &&
                   row->sends >= overdue->awaiting->opts.max_sends) {
            row->is_over = true;
            rc = add_literal(&overdue->over, db, row->message_id);
        } else {
            rc = add_literal(&overdue->late, db, row->message_id);
            row->is_sent = !row->is_on_way;
            if (rc == OBX_OK && row->is_sent && !row->is_blocked)
                rc = add_literal(&overdue->resent, db, row->message_id);
        }
    }
    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "list of overdue messages");
}

/* ---- the transaction ---- */

static enum obx_code send_renewed(struct overdue *overdue, struct db *db, struct overdue_row *row,
                                  struct obx_err *err)
{
    enum obx_code rc =
        db_exec(db, overdue->send_renewed.data, DB_ARGS(DB_TEXT(row->message_id)), NULL, err);

    if (rc != OBX_OK)
        return rc;
    row->id = db_insert_id(db);
    return db_exec(db, sql_renumber, DB_ARGS(DB_U64(row->id), DB_TEXT(row->message_id)), NULL, err);
}

static enum obx_code run_scan(struct overdue *overdue, struct db *db, struct scan *scan,
                              struct obx_err *err)
{
    enum obx_code rc = run_list(overdue, db, sql_park, &overdue->over, ")", err);

    for (size_t i = 0; i < scan->count && rc == OBX_OK; i++) {
        if (scan->rows[i].is_over)
            rc = db_exec(db, sql_delete, DB_ARGS(DB_TEXT(scan->rows[i].message_id)), NULL, err);
    }
    if (rc == OBX_OK)
        rc = run_list(overdue, db, overdue->resend.data, &overdue->resent, ") ORDER BY id", err);
    if (rc == OBX_OK)
        rc = run_list(overdue, db, overdue->put_off.data, &overdue->late, ")", err);
    for (size_t i = 0; i < scan->count && rc == OBX_OK; i++) {
        if (scan->rows[i].is_sent && scan->rows[i].is_blocked)
            rc = send_renewed(overdue, db, &scan->rows[i], err);
    }
    return rc;
}

static enum obx_code do_within(struct overdue *overdue, struct db *db, struct scan *scan,
                               struct obx_err *err)
{
    enum obx_code rc = lock_due(overdue, db, scan, err);

    if (rc != OBX_OK || scan->count == 0)
        return rc;
    rc = take_receipts(overdue, db, scan, err);
    if (rc == OBX_OK)
        rc = find_on_way(overdue, db, scan, err);
    if (rc == OBX_OK)
        rc = sort_out(overdue, db, scan, err);
    return rc == OBX_OK ? run_scan(overdue, db, scan, err) : rc;
}

/* It is committed: count, and have the reader find what is back, in order, before anything newer of
 * its key. */
static void tell(struct overdue *overdue, const struct scan *scan)
{
    for (size_t i = 0; i < scan->count; i++) {
        const struct overdue_row *row = &scan->rows[i];

        if (row->is_sent) {
            overdue->resends++;
            reader_pass_over(overdue->reader, row->id,
                             (struct obx_bytes){.p = row->key, .len = row->key_len});
        } else if (receipt_tally_is_complete(&row->tally)) {
            overdue->found++;
        } else if (!row->is_on_way) {
            overdue->parked++;
            OBX_LOG(LOG_LVL_WARN, "lane", "receipt.missing",
                    KV_STR("outbox", overdue->awaiting->opts.outbox), KV_U64("row", row->id),
                    KV_STR("message_id", row->message_id), KV_STR("from", row->receipt_from),
                    KV_U64("sends", row->sends));
        }
    }
}

static enum obx_code scan_due(struct overdue *overdue, struct db *db, struct scan *scan,
                              struct obx_err *err)
{
    struct lease *lease = overdue->awaiting->opts.lease;
    enum obx_code rc = lease_begin(lease, db, err);

    if (rc != OBX_OK)
        return rc;
    rc = do_within(overdue, db, scan, err);
    if (rc != OBX_OK) {
        lease_rollback(db);
        return rc;
    }
    OBX_CRASH_POINT("lane-resend-before-commit");
    rc = lease_commit(lease, db, err);
    if (rc != OBX_OK)
        return rc;
    OBX_CRASH_POINT("lane-resent");
    tell(overdue, scan);
    return OBX_OK;
}

/* One of the rows is refused: fewer, until it is alone; then it is left out for a while, and the
 * others go on. */
static enum obx_code isolate(struct overdue *overdue, enum obx_code rc, const struct scan *scan,
                             bool *may_have_more, struct obx_err *err)
{
    struct obx_err why = {0};

    *may_have_more = true;
    if (scan->count > 1) {
        overdue->portion = scan->count / 2;
        return OBX_OK;
    }
    if (scan->count == 0)
        return rc;
    if (held_rows_is_full(&overdue->held)) {
        /* More are refused than can be kept in mind: past this one, at the pace of the lookups. */
        overdue->offset++;
        overdue->is_past_refused = true;
        *may_have_more = false;
        return OBX_OK;
    }
    (void)obx_fail(&why, rc, "overdue message %s: %s", scan->rows[0].message_id,
                   err == NULL ? "" : err->text);
    OBX_LOG(LOG_LVL_ERROR, "lane", "receipt.refused",
            KV_STR("outbox", overdue->awaiting->opts.outbox), KV_U64("row", scan->rows[0].id),
            KV_STR("message_id", scan->rows[0].message_id), KV_ERR(&why));
    held_rows_add(&overdue->held, bytes_of(scan->rows[0].message_id), HELD_CAP_MS, &why);
    return OBX_OK;
}

/* What the portion and the page are next time. */
static void plan_next(struct overdue *overdue, size_t portion, size_t due, size_t done,
                      bool *may_have_more)
{
    overdue->portion = portion < SCAN_ROWS / 2 ? portion * 2 : SCAN_ROWS;
    /* Somebody has all of them in hand: what comes after them goes all the same. */
    if (done == 0 && due == portion)
        overdue->offset += due;
    else if (!overdue->is_past_refused)
        overdue->offset = 0;
    *may_have_more = due == portion && (done > 0 || overdue->offset > 0);
}

enum obx_code overdue_scan(struct overdue *overdue, struct db *db, bool *may_have_more,
                           struct obx_err *err)
{
    const size_t portion = overdue->portion;
    struct scan *scan = NULL;
    size_t count = 0;
    enum obx_code rc = find_due(overdue, db, &count, err);

    *may_have_more = overdue->offset > 0;
    if (count == 0) {
        overdue->offset = 0;
        overdue->is_past_refused = false;
    }
    if (rc != OBX_OK || count == 0)
        return rc;
    scan = obx_calloc(1, sizeof(*scan));
    if (scan == NULL)
        return obx_fail(err, OBX_E_NOMEM, "overdue messages");
    rc = scan_due(overdue, db, scan, err);
    if (rc == OBX_OK) {
        plan_next(overdue, portion, count, scan->count, may_have_more);
    } else {
        if (failure_is_of_a_row(db, rc))
            rc = isolate(overdue, rc, scan, may_have_more, err);
    }
    scan_fini(scan);
    return rc;
}
