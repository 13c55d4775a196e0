/*
 * Rows that have ended leave the table, or their chain, here. A row that owes a receipt leaves its
 * chain when it is claimed: its successors wait for no broker. Invariant: after each commit in which
 * a row leaves its chain, the chain's key is among those that the caller looks at; if it dies before
 * that, the rescan does (tests/model/inbox.pml).
 */
#include "filing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/utf8.h"
#include "core/embed.h"

enum {
    MS_TO_US = 1000,
    MS_PER_S = 1000,
    LOOK_MAX = 100,
    STATE_MAX = 100,
    APPLIED_REASON_MAX = 255
};

/* ------------------------------------------------------------------ lists */

void report_list_push(struct report_list *list, struct report *report)
{
    report->next = NULL;
    if (list->tail == NULL)
        list->head = report;
    else
        list->tail->next = report;
    list->tail = report;
    list->count++;
}

struct report *report_list_pop(struct report_list *list)
{
    struct report *report = list->head;

    if (report == NULL)
        return NULL;
    list->head = report->next;
    if (list->head == NULL)
        list->tail = NULL;
    list->count--;
    return report;
}

void report_list_free(struct report_list *list)
{
    struct report *report;

    while ((report = report_list_pop(list)) != NULL)
        obx_free(report);
}

void filed_fini(struct filed *filed)
{
    buf_fini(&filed->keys);
    report_list_free(&filed->reports);
}

enum obx_code filing_init(struct filing *filing, const struct inbox_opts *opts, struct obx_err *err)
{
    *filing = (struct filing){.opts = opts};
    return row_delete_init(&filing->row_delete, "inbox", "id", err);
}

void filing_fini(struct filing *filing)
{
    row_delete_fini(&filing->row_delete);
    id_list_fini(&filing->ids);
    buf_fini(&filing->sql);
}

/* ------------------------------------------------------------------ what has ended */

/* Ids of a round, by what is to be done with them. */
struct sorted {
    uint64_t gone[FILING_MAX], kept[FILING_MAX], dead[FILING_MAX], claimed[FILING_MAX];
    size_t gone_count, kept_count, dead_count, claimed_count;
};

enum column {
    COL_ID,
    COL_STATE,
    COL_HASH,
    COL_HOLDS,
    COL_REPORTED,
    COL_TO,
    COL_TOKEN,
    COL_MESSAGE_ID,
    COL_REASON,
    COL_TOPIC,
    COL_CODE
};

static const char sql_ended[] =
    "SELECT id, state, key_hash, holds_key, is_reported, receipt_to, receipt_token, message_id,"
    " reason, topic, reason_code FROM inbox FORCE INDEX (inbox_due)"
    " WHERE queue = ? AND state = ? AND due_at <= UTC_TIMESTAMP(6) ORDER BY due_at LIMIT ?"
    " FOR UPDATE SKIP LOCKED";

/* A copy of the texts with the report before them, in one block: reports live until their confirm, long
 * after the rows of the query. */
static struct report *make_report(const struct db_rows *rows, bool is_dead, bool is_discarded)
{
    struct obx_bytes texts[] = {db_rows_bytes(rows, COL_MESSAGE_ID), db_rows_bytes(rows, COL_TO),
                                db_rows_bytes(rows, COL_TOKEN),
                                is_discarded ? bytes_of("discarded by an operator")
                                             : db_rows_bytes(rows, COL_REASON)};
    size_t size = sizeof(struct report);
    struct report *report = NULL;
    char *at = NULL;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        size += texts[i].len;
    report = obx_calloc(1, size);
    if (report == NULL)
        return NULL;
    report->id = db_rows_u64(rows, COL_ID);
    report->is_rejected = is_dead || is_discarded;
    report->is_discarded = is_discarded;
    at = (char *)(report + 1);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].len > 0)
            memcpy(at, texts[i].p, texts[i].len);
        texts[i].p = at;
        at += texts[i].len;
    }
    report->message_id = texts[0];
    report->to = texts[1];
    report->token = texts[2];
    report->reason = texts[3];
    return report;
}

static void log_dead(const struct filing *filing, const struct db_rows *rows)
{
    OBX_LOG(LOG_LVL_WARN, "inbox", "message.dead", KV_STR("queue", filing->opts->queue),
            KV_U64("id", db_rows_u64(rows, COL_ID)),
            KV_BYTES("message_id", db_rows_bytes(rows, COL_MESSAGE_ID)),
            KV_BYTES("topic", db_rows_bytes(rows, COL_TOPIC)),
            KV_BYTES("code", db_rows_bytes(rows, COL_CODE)),
            KV_BYTES("reason", db_rows_bytes(rows, COL_REASON)));
}

/* Deferred: there is no room for its report. It leaves its chain all the same, for the key must not wait
 * for a broker, and is due again later. */
static enum obx_code claim_row(const struct db_rows *rows, bool is_dead, bool is_discarded,
                               bool is_deferred, struct sorted *sorted, struct filed *filed)
{
    const uint64_t id = db_rows_u64(rows, COL_ID);
    struct report *report = NULL;

    if (!is_deferred) {
        report = make_report(rows, is_dead, is_discarded);
        if (report == NULL)
            return OBX_E_NOMEM;
        report_list_push(&filed->reports, report);
    }
    sorted->claimed[sorted->claimed_count++] = id;
    return OBX_OK;
}

static enum obx_code add_key(struct filed *filed, struct obx_bytes hash)
{
    return hash.len == KEY_HASH ? buf_add(&filed->keys, hash.p, KEY_HASH) : OBX_OK;
}

static enum obx_code sort_row(const struct filing *filing, const struct db_rows *rows,
                              bool is_deferred, struct sorted *sorted, struct filed *filed)
{
    const struct obx_bytes state = db_rows_bytes(rows, COL_STATE);
    const struct obx_bytes hash = db_rows_bytes(rows, COL_HASH);
    const uint64_t id = db_rows_u64(rows, COL_ID);
    const bool is_dead = bytes_is(state, "dead");
    const bool is_discarded = bytes_is(state, "discarded");
    const bool is_kept = bytes_is(state, "kept");

    /* A dead row comes twice when its report was claimed and never confirmed; it died once. */
    if (is_dead && db_rows_u64(rows, COL_REPORTED) == 0) {
        log_dead(filing, rows);
        filed->dead++;
    }
    if (!is_kept && !db_rows_is_null(rows, COL_TO)) {
        enum obx_code rc = claim_row(rows, is_dead, is_discarded, is_deferred, sorted, filed);

        return rc == OBX_OK ? add_key(filed, hash) : rc;
    }
    /* What owes a receipt is counted when that is out, see settle() of the filer. */
    filed->discarded += is_discarded;
    filed->done += !is_dead && !is_discarded && !is_kept;
    if (is_dead)
        sorted->dead[sorted->dead_count++] = id;
    else if (is_kept || filing->opts->keep_done_ms == 0)
        sorted->gone[sorted->gone_count++] = id;
    else
        sorted->kept[sorted->kept_count++] = id;
    /* One that holds its key stays the first of it: there is nothing to look at. */
    return is_dead && db_rows_u64(rows, COL_HOLDS) != 0 ? OBX_OK : add_key(filed, hash);
}

/* Each state has a share of a round: what owes receipts while the broker is away is many rows. */
static enum obx_code read_ended(struct filing *filing, struct db *db, bool is_deferred,
                                struct sorted *sorted, struct filed *filed, struct obx_err *err)
{
    static const char *const states[] = {"discarded", "dead", "kept", "done"};
    enum { STATES = sizeof(states) / sizeof(states[0]) };
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < STATES && rc == OBX_OK; i++) {
        const size_t max = i + 1 < STATES ? STATE_MAX : FILING_MAX - filed->rows;
        struct db_rows *rows = NULL;

        rc = db_query(db, sql_ended,
                      DB_ARGS(DB_TEXT(filing->opts->queue), DB_TEXT(states[i]), DB_U64(max)), &rows,
                      err);
        filed->is_more = filed->is_more || (rc == OBX_OK && db_rows_count(rows) == max);
        while (rc == OBX_OK && db_rows_next(rows)) {
            filed->rows++;
            if (sort_row(filing, rows, is_deferred, sorted, filed) != OBX_OK)
                rc = obx_fail(err, OBX_E_NOMEM, "rows of the inbox");
        }
        db_rows_free(rows);
    }
    return rc;
}

/* before ends in "IN (", after begins with ")". */
static enum obx_code change(struct filing *filing, struct db *db, const uint64_t *ids, size_t count,
                            const char *before, uint64_t *changed, struct obx_err *err)
{
    struct obx_bytes sql = {0};
    enum obx_code rc;

    if (count == 0)
        return OBX_OK;
    rc = id_list_set(&filing->ids, ids, count, err);
    if (rc == OBX_OK)
        rc = id_list_statement(&filing->ids, before, ")", &sql, err);
    return rc == OBX_OK ? db_exec_text(db, sql, changed, err) : rc;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static enum obx_code remove_rows(struct filing *filing, struct db *db, uint64_t *ids, size_t count,
                                 struct obx_err *err)
{
    uint64_t deleted = 0;

    if (count == 0)
        return OBX_OK;
    /* In order: runs of ids are deleted by range, and two processes that file meet their rows in the
     * same order, so that none waits for the other in a circle. */
    qsort(ids, count, sizeof(*ids), by_number);
    return row_delete_run(&filing->row_delete, db, ids, count, &deleted, err);
}

/* Out of its chain like what is removed: what is shown for a while must hold up nobody. */
static enum obx_code keep_rows(struct filing *filing, struct db *db, const uint64_t *ids,
                               size_t count, struct obx_err *err)
{
    char before[256];

    (void)snprintf(before, sizeof(before),
                   "UPDATE inbox FORCE INDEX (PRIMARY) SET state = 'kept', key_hash = NULL,"
                   " due_at = UTC_TIMESTAMP(6) + INTERVAL %" PRIu64 " MICROSECOND WHERE id IN (",
                   (uint64_t)filing->opts->keep_done_ms * MS_TO_US);
    return change(filing, db, ids, count, before, NULL, err);
}

/* They leave their chains. What is to be reported as rejected cannot be replayed any more. */
static enum obx_code claim_rows(struct filing *filing, struct db *db, const struct sorted *sorted,
                                uint64_t for_ms, struct obx_err *err)
{
    char before[256];

    (void)snprintf(before, sizeof(before),
                   "UPDATE inbox FORCE INDEX (PRIMARY) SET due_at = UTC_TIMESTAMP(6)"
                   " + INTERVAL %" PRIu64 " MICROSECOND, key_hash = NULL,"
                   " is_reported = IF(state = 'dead', 1, is_reported) WHERE id IN (",
                   for_ms * MS_TO_US);
    return change(filing, db, sorted->claimed, sorted->claimed_count, before, NULL, err);
}

static enum obx_code write_sorted(struct filing *filing, struct db *db, struct sorted *sorted,
                                  uint64_t claim_ms, struct obx_err *err)
{
    enum obx_code rc = claim_rows(filing, db, sorted, claim_ms, err);

    /* due_at of a dead row is NULL from now on: nothing is to be done with it, so no round reads it
     * again, however many an outage has left. */
    if (rc == OBX_OK)
        rc = change(filing, db, sorted->dead, sorted->dead_count,
                    "UPDATE inbox FORCE INDEX (PRIMARY) SET due_at = NULL,"
                    " key_hash = IF(holds_key, key_hash, NULL) WHERE id IN (",
                    NULL, err);
    if (rc == OBX_OK)
        rc = keep_rows(filing, db, sorted->kept, sorted->kept_count, err);
    if (rc == OBX_OK)
        rc = remove_rows(filing, db, sorted->gone, sorted->gone_count, err);
    return rc;
}

/* On failure the whole round is undone, so that what was counted and listed of it is nothing. */
static enum obx_code end(struct db *db, enum obx_code rc, struct obx_err *err)
{
    if (rc == OBX_OK)
        return db_commit(db, err);
    (void)db_rollback(db, NULL);
    return rc;
}

/* Outside of a transaction and without locks: this is what an idle inbox costs. */
enum obx_code filing_is_due(struct filing *filing, struct db *db, bool *is_due, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db,
        "SELECT 1 FROM inbox FORCE INDEX (inbox_due) WHERE queue = ? AND state IN ('done', 'dead',"
        " 'discarded', 'kept') AND due_at <= UTC_TIMESTAMP(6) LIMIT 1",
        DB_ARGS(DB_TEXT(filing->opts->queue)), &rows, err);

    *is_due = rc == OBX_OK && db_rows_count(rows) > 0;
    db_rows_free(rows);
    return rc;
}

enum obx_code filing_run(struct filing *filing, struct db *db, uint64_t defer_ms,
                         struct filed *filed, struct obx_err *err)
{
    const uint64_t claim_ms = defer_ms > 0 ? defer_ms : (uint64_t)FILING_CLAIM_S * MS_PER_S;
    struct sorted sorted = {.gone_count = 0};
    enum obx_code rc = db_begin(db, err);

    *filed = (struct filed){.rows = 0};
    if (rc != OBX_OK)
        return rc;
    rc = read_ended(filing, db, defer_ms > 0, &sorted, filed, err);
    if (rc == OBX_OK)
        rc = write_sorted(filing, db, &sorted, claim_ms, err);
    rc = end(db, rc, err);
    if (rc != OBX_OK)
        filed_fini(filed);
    else if (filed->reports.count > 0)
        OBX_CRASH_POINT("inbox-claimed");
    return rc;
}

/* ------------------------------------------------------------------ after the receipts */

static enum obx_code settle_one(struct filing *filing, struct db *db, const struct report *report,
                                struct obx_err *err)
{
    const struct obx_value group = DB_TEXT(filing->opts->consumer.group);
    const struct obx_bytes reason = {.p = report->reason.p,
                                     .len = utf8_cut(report->reason, APPLIED_REASON_MAX)};

    /* Only a row that says `stored`: after a second filer, or a commit whose answer was lost, the dedup
     * row has its outcome already and keeps it. */
    if (!report->is_rejected)
        return db_exec(db,
                       "UPDATE inbox_applied SET outcome = NULL, reason = NULL WHERE"
                       " consumer_group = ? AND message_id = ? AND outcome = '" EMBED_STORED "'",
                       DB_ARGS(group, DB_BYTES(report->message_id)), NULL, err);
    return db_exec(db,
                   "UPDATE inbox_applied SET outcome = 'rejected', reason = ? WHERE"
                   " consumer_group = ? AND message_id = ? AND outcome = '" EMBED_STORED "'",
                   DB_ARGS(DB_BYTES(reason), group, DB_BYTES(report->message_id)), NULL, err);
}

enum obx_code filing_settle(struct filing *filing, struct db *db, const struct report_list *reports,
                            struct obx_err *err)
{
    static const char sql_dead[] =
        "UPDATE inbox FORCE INDEX (PRIMARY) SET due_at = NULL WHERE state = 'dead' AND id IN (";
    uint64_t ended[FILING_MAX], dead[FILING_MAX];
    size_t ended_count = 0, dead_count = 0;
    enum obx_code rc = db_begin(db, err);

    if (rc != OBX_OK)
        return rc;
    for (const struct report *at = reports->head; at != NULL && rc == OBX_OK; at = at->next) {
        /* The dedup row before the row goes: a copy that comes in between has to find one of the
         * two, or it would be said that nobody knows what became of the message. */
        rc = settle_one(filing, db, at, err);
        if (at->is_rejected && !at->is_discarded)
            dead[dead_count++] = at->id;
        else
            ended[ended_count++] = at->id;
    }
    if (rc == OBX_OK)
        rc = change(filing, db, dead, dead_count, sql_dead, NULL, err);
    if (rc == OBX_OK && filing->opts->keep_done_ms > 0)
        rc = keep_rows(filing, db, ended, ended_count, err);
    else if (rc == OBX_OK)
        rc = remove_rows(filing, db, ended, ended_count, err);
    return end(db, rc, err);
}

/* ------------------------------------------------------------------ the look */

/* The first row of each chain: one look-up each, however long the chains are. */
static enum obx_code add_look(struct filing *filing, struct db *db, const unsigned char *hash)
{
    struct obx_buf *sql = &filing->sql;

    buf_addf(sql, "%s(SELECT id, state FROM inbox FORCE INDEX (inbox_key) WHERE queue = ",
             sql->len == 0 ? "" : " UNION ALL ");
    if (db_add_literal(db, sql, bytes_of(filing->opts->queue)) != OBX_OK)
        return OBX_E_NOMEM;
    buf_add_text(sql, " AND key_hash = X'");
    for (unsigned i = 0; i < KEY_HASH; i++)
        buf_addf(sql, "%02x", hash[i]);
    return buf_add_text(sql, "' ORDER BY after_id, id LIMIT 1)");
}

/* Asks for the state again: the worker of the row before may have released it meanwhile, and a row that
 * is taken must not be given a new time. */
static enum obx_code release(struct filing *filing, struct db *db, const uint64_t *ids,
                             size_t count, uint64_t *released, struct obx_err *err)
{
    uint64_t changed = 0;
    enum obx_code rc = change(filing, db, ids, count,
                              "UPDATE inbox FORCE INDEX (PRIMARY) SET state = 'ready',"
                              " due_at = UTC_TIMESTAMP(6) WHERE state = 'blocked' AND id IN (",
                              &changed, err);

    *released += rc == OBX_OK ? changed : 0;
    return rc;
}

static enum obx_code look_at(struct filing *filing, struct db *db, const struct obx_buf *keys,
                             size_t from, size_t to, uint64_t *released, struct obx_err *err)
{
    uint64_t ids[LOOK_MAX];
    size_t count = 0;
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    buf_reset(&filing->sql);
    for (size_t i = from; i < to && rc == OBX_OK; i++)
        rc = add_look(filing, db, keys_at(keys, i));
    if (rc != OBX_OK)
        return obx_fail(err, rc, "keys");
    rc = db_query_text(db, buf_bytes(&filing->sql), &rows, err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        if (bytes_is(db_rows_bytes(rows, 1), "blocked"))
            ids[count++] = db_rows_u64(rows, 0);
    }
    db_rows_free(rows);
    return rc == OBX_OK ? release(filing, db, ids, count, released, err) : rc;
}

enum obx_code filing_look(struct filing *filing, struct db *db, const struct obx_buf *keys,
                          uint64_t *released, struct obx_err *err)
{
    const size_t count = keys_count(keys);
    enum obx_code rc = OBX_OK;

    *released = 0;
    for (size_t i = 0; i < count && rc == OBX_OK; i += LOOK_MAX)
        rc = look_at(filing, db, keys, i, i + LOOK_MAX < count ? i + LOOK_MAX : count, released,
                     err);
    return rc;
}

enum obx_code filing_rescan(struct filing *filing, struct db *db, unsigned char from[KEY_HASH],
                            unsigned max, bool *is_through, uint64_t *released, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    *is_through = false;
    *released = 0;
    for (unsigned i = 0; i < max && rc == OBX_OK && !*is_through; i++) {
        const struct obx_bytes after = {.p = from, .len = KEY_HASH};
        struct db_rows *rows = NULL;

        /* A loose scan by hand: one seek for each key, however many rows it has. GROUP BY would read
         * them all on one of the two products. */
        rc = db_query(db,
                      "SELECT id, state, key_hash FROM inbox FORCE INDEX (inbox_key) WHERE"
                      " queue = ? AND key_hash > ? ORDER BY key_hash, after_id, id LIMIT 1",
                      DB_ARGS(DB_TEXT(filing->opts->queue), DB_BYTES(after)), &rows, err);
        *is_through = rc == OBX_OK && !db_rows_next(rows);
        if (rc == OBX_OK && !*is_through) {
            const uint64_t id = db_rows_u64(rows, 0);

            memcpy(from, db_rows_bytes(rows, 2).p, KEY_HASH);
            if (bytes_is(db_rows_bytes(rows, 1), "blocked"))
                rc = release(filing, db, &id, 1, released, err);
        }
        db_rows_free(rows);
    }
    if (*is_through)
        memset(from, 0, KEY_HASH);
    return rc;
}

/* ------------------------------------------------------------------ questions */

enum obx_code filing_find(struct filing *filing, struct db *db, struct obx_bytes message_id,
                          uint64_t id, bool *is_there, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db,
        "SELECT 1 FROM inbox WHERE id = ? AND message_id = ? UNION ALL SELECT 1 FROM inbox_applied"
        " WHERE consumer_group = ? AND message_id = ? AND COALESCE(outcome, '') <> '" EMBED_STORED
        "'",
        DB_ARGS(DB_U64(id), DB_BYTES(message_id), DB_TEXT(filing->opts->consumer.group),
                DB_BYTES(message_id)),
        &rows, err);

    *is_there = rc == OBX_OK && db_rows_count(rows) > 0;
    db_rows_free(rows);
    return rc;
}

/* Never more than 10000 index entries: with a backlog of a million this runs every five seconds. */
static enum obx_code count_state(struct filing *filing, struct db *db, const char *state,
                                 uint64_t *count, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db,
                                "SELECT COUNT(*) FROM (SELECT 1 FROM inbox FORCE INDEX (inbox_due)"
                                " WHERE queue = ? AND state = ? LIMIT 10000) counted",
                                DB_ARGS(DB_TEXT(filing->opts->queue), DB_TEXT(state)), &rows, err);

    if (rc == OBX_OK && db_rows_next(rows))
        *count = db_rows_u64(rows, 0);
    db_rows_free(rows);
    return rc;
}

static enum obx_code read_oldest(struct filing *filing, struct db *db, uint64_t *us,
                                 struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db,
        "SELECT GREATEST(TIMESTAMPDIFF(MICROSECOND, due_at, UTC_TIMESTAMP(6)), 0) FROM inbox"
        " FORCE INDEX (inbox_due) WHERE queue = ? AND state = 'ready' ORDER BY due_at LIMIT 1",
        DB_ARGS(DB_TEXT(filing->opts->queue)), &rows, err);

    *us = rc == OBX_OK && db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;
    db_rows_free(rows);
    return rc;
}

enum obx_code filing_count(struct filing *filing, struct db *db, struct filing_counts *counts,
                           struct obx_err *err)
{
    enum obx_code rc = count_state(filing, db, "ready", &counts->ready, err);

    if (rc == OBX_OK)
        rc = count_state(filing, db, "blocked", &counts->blocked, err);
    if (rc == OBX_OK)
        rc = count_state(filing, db, "dead", &counts->dead, err);
    return rc == OBX_OK ? read_oldest(filing, db, &counts->oldest_ready_us, err) : rc;
}
