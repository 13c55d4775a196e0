/*
 * Running what operators ask for. See requests.h.
 */
#include "requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crash.h"
#include "base/log.h"
#include "lane/failures.h"
#include "tables/audit.h"
#include "tables/outbox_columns.h"

enum { STEP_ROWS = 500, STEP_BYTES = 16 * 1024 * 1024, PORTION_FIRST = 32, LOCKED_CAP_MS = 2000 };

static const char sql_next[] =
    "SELECT id, ordering_key, holds_key, blocked_by, COALESCE(requested_by, ''), parked_id"
    " FROM outbox_parked FORCE INDEX (outbox_request)"
    " WHERE outbox = ? AND request = ? AND parked_id > ? ORDER BY parked_id LIMIT 1";
static const char sql_followers[] =
    "SELECT parked_id, id, OCTET_LENGTH(payload) FROM outbox_parked FORCE INDEX (outbox_key)"
    " WHERE outbox = ? AND holds_key = 0 AND ordering_key = ? AND blocked_by = ?"
    " ORDER BY parked_id LIMIT ?";
/* Only if it is still requested: an operator may have taken it back meanwhile. */
#define SQL_SELF                                                                                   \
    "SELECT parked_id, id, OCTET_LENGTH(payload) FROM outbox_parked FORCE INDEX (outbox_id)"       \
    " WHERE outbox = ? AND id = ? AND request = ?"
static const char sql_self[] = SQL_SELF;
static const char sql_lock_self[] = SQL_SELF " FOR UPDATE SKIP LOCKED";
/* Of the first requests those for rows without a key; the others are not read past for each
 * portion.
 */
static const char sql_keyless[] =
    "SELECT p.parked_id, p.id, OCTET_LENGTH(p.payload)"
    " FROM (SELECT parked_id FROM outbox_parked FORCE INDEX (outbox_request)"
    " WHERE outbox = ? AND request = ? AND parked_id > ? ORDER BY parked_id LIMIT ?) k"
    " STRAIGHT_JOIN outbox_parked p FORCE INDEX (PRIMARY) ON p.parked_id = k.parked_id"
    " WHERE p.ordering_key IS NULL ORDER BY p.parked_id";
/* No row but these is looked at, and none waited for. A list and no JSON_TABLE, which MySQL would
 * lock as well, and then refuses the statement. */
static const char sql_lock[] =
    "SELECT parked_id, id FROM outbox_parked FORCE INDEX (PRIMARY) WHERE parked_id IN (";
static const char sql_lock_end[] = " ORDER BY parked_id FOR UPDATE SKIP LOCKED";
/* What is known of rows that are discarded, for the log. */
static const char sql_known[] =
    "SELECT id, " MESSAGE_NAME_COLUMNS ", COALESCE(requested_by, ''),"
    " COALESCE(request_note, '') FROM outbox_parked FORCE INDEX (PRIMARY) WHERE parked_id IN (";
/* So that it is known ever after who ended which message, and why. */
static const char sql_audit[] =
    "INSERT INTO outbox_audit (action, actor, note, outbox, id, " MESSAGE_NAME_COLUMNS
    ", reason_code) SELECT 'discard', COALESCE(requested_by, ''), COALESCE(request_note, ''),"
    " outbox, id, " MESSAGE_NAME_COLUMNS ", reason_code"
    " FROM outbox_parked FORCE INDEX (PRIMARY) WHERE parked_id IN (";
/* The message that awaits its receipts, if the parked row was a copy of it: it would be sent again.
 */
static const char sql_end_awaiting[] =
    "DELETE a FROM " ID_LIST_TABLE
    " STRAIGHT_JOIN outbox_parked p FORCE INDEX (PRIMARY) ON p.parked_id = k.id"
    " STRAIGHT_JOIN outbox_awaiting a FORCE INDEX (PRIMARY) ON a.message_id = p.message_id"
    " AND a.outbox = p.outbox AND a.id = p.id";
static const char sql_pass_on[] =
    "UPDATE outbox_parked FORCE INDEX (outbox_id) SET request = 'resume',"
    " requested_at = UTC_TIMESTAMP(6) WHERE outbox = ? AND id = ? AND holds_key = 1";
static const char sql_unrequest[] =
    "UPDATE outbox_parked FORCE INDEX (outbox_id) SET request = NULL, request_note = ?"
    " WHERE outbox = ? AND id = ?";

/* The rows of one transaction. */
struct step {
    uint64_t parked_ids[STEP_ROWS + 1];
    uint64_t ids[STEP_ROWS + 1];
    size_t count;
    size_t back;      /* so many are put back, the others after them only deleted */
    size_t portion;   /* how many to try next time, rows without a key; 0: these have one */
    bool is_last;     /* with these the request is done */
    bool is_locked;   /* somebody has a row of it in hand, so it cannot be done at all */
    bool is_partial;  /* without a key: only some of the rows could be had */
    uint64_t done_to; /* without a key: every row up to this one was looked at; parked_id */
    struct db_rows *discarded; /* what is known of those; owned */
};

enum obx_code requests_init(struct requests *requests, struct parking *parking,
                            struct reader *reader, struct flight *flight, const char *table,
                            struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    memset(requests, 0, sizeof(*requests));
    requests->parking = parking;
    requests->reader = reader;
    requests->flight = flight;
    requests->outbox = parking->outbox;
    requests->portion = PORTION_FIRST;
    rc = buf_addf(&requests->put_back,
                  "INSERT INTO %s (id, " OUTBOX_COLUMNS ") SELECT id, " OUTBOX_COLUMNS
                  " FROM outbox_parked FORCE INDEX (PRIMARY) WHERE parked_id IN (",
                  table);
    if (rc == OBX_OK)
        rc = row_delete_init(&requests->del, "outbox_parked", "parked_id", NULL);
    if (rc != OBX_OK) {
        requests_fini(requests);
        return obx_fail(err, rc, "requests");
    }
    return OBX_OK;
}

void requests_fini(struct requests *requests)
{
    buf_fini(&requests->task.key);
    buf_fini(&requests->put_back);
    id_list_fini(&requests->list);
    row_delete_fini(&requests->del);
}

void requests_reset(struct requests *requests)
{
    requests->task.is_on = false;
    requests->parking->is_holding = false;
}

bool requests_busy(const struct requests *requests)
{
    return requests->task.is_on;
}

/* ---- taking up a request ---- */

/* From now on rows of the key that are read are passed over, until the last of the parked ones is
 * back. */
static enum obx_code hold_key(struct requests *requests)
{
    struct parking *parking = requests->parking;
    enum obx_code rc = OBX_OK;

    if (!requests->task.has_key)
        return OBX_OK;
    buf_reset(&parking->held_key);
    rc = buf_add(&parking->held_key, requests->task.key.data, requests->task.key.len);
    parking->is_holding = rc == OBX_OK;
    if (rc == OBX_OK && requests->task.has_head)
        flight_evict_followers(requests->flight, buf_bytes(&parking->held_key), requests->task.id);
    return rc;
}

static enum obx_code begin_task(struct requests *requests, uint64_t id, struct obx_bytes key,
                                bool holds_key, bool is_discard, uint64_t parked_id,
                                struct obx_err *err)
{
    struct request_task *task = &requests->task;
    enum obx_code rc = OBX_OK;

    buf_reset(&task->key);
    task->has_key = key.p != NULL;
    if (task->has_key)
        rc = buf_add(&task->key, key.p, key.len);
    task->id = id;
    task->has_head = holds_key && task->has_key;
    task->is_discard = is_discard;
    task->parked_id = parked_id;
    if (rc == OBX_OK)
        rc = hold_key(requests);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "request for row %llu", (unsigned long long)id);
    task->is_on = true;
    return OBX_OK;
}

/* A follower cannot go before its head: the request to resume it is one to resume the head, on
 * which
 *    it is written down before anything is done, so that a crash does not lose it. *passed_on is
 *    false
 *    when there is no head any more. */
static enum obx_code pass_on(struct requests *requests, struct db *db, uint64_t id, uint64_t head,
                             bool *passed_on, struct obx_err *err)
{
    struct lease *lease = requests->parking->lease;
    uint64_t matched = 0;
    enum obx_code rc = lease_begin(lease, db, err);

    if (rc != OBX_OK)
        return rc;
    rc = db_exec(db, sql_pass_on, DB_ARGS(DB_TEXT(requests->outbox), DB_U64(head)), &matched, err);
    if (rc == OBX_OK && matched > 0)
        rc = db_exec(db, sql_unrequest,
                     DB_ARGS(DB_TEXT("resumed with the head of its key"), DB_TEXT(requests->outbox),
                             DB_U64(id)),
                     NULL, err);
    if (rc != OBX_OK) {
        lease_rollback(db);
        return rc;
    }
    *passed_on = matched > 0;
    return lease_commit(lease, db, err);
}

/* The request cannot be run now, for a row that is locked or refused: others first. */
static void pass_over(struct requests *requests, uint64_t id, uint64_t parked_id, bool is_discard,
                      const struct obx_err *why)
{
    OBX_LOG(LOG_LVL_DEBUG, "lane", "parked.passed_over", KV_STR("outbox", requests->outbox),
            KV_U64("row", id), KV_ERR(why));
    held_rows_add_id(&requests->held, parked_id, LOCKED_CAP_MS, why);
    requests->after[is_discard] = parked_id;
}

static void pass_over_locked(struct requests *requests, uint64_t id, uint64_t parked_id,
                             bool is_discard)
{
    struct obx_err why = {0};

    (void)obx_fail(&why, OBX_E_DB_LOCK_WAIT,
                   "somebody has parked rows locked that are to be resumed or discarded");
    pass_over(requests, id, parked_id, is_discard, &why);
}

static enum obx_code take_up(struct requests *requests, struct db *db, const struct db_rows *rows,
                             bool is_discard, struct obx_err *err)
{
    uint64_t id = db_rows_u64(rows, 0);
    struct obx_bytes key = db_rows_bytes(rows, 1);
    bool holds_key = db_rows_u64(rows, 2) != 0;
    uint64_t blocked_by = db_rows_u64(rows, 3);
    uint64_t parked_id = db_rows_u64(rows, 5);
    bool passed_on = false;
    enum obx_code rc = OBX_OK;

    OBX_LOG(LOG_LVL_INFO, "lane", is_discard ? "parked.discard" : "parked.resume",
            KV_STR("outbox", requests->outbox), KV_U64("row", id),
            KV_BYTES("by", db_rows_bytes(rows, 4)));
    if (blocked_by != 0 && !is_discard)
        rc = pass_on(requests, db, id, blocked_by, &passed_on, err);
    if (rc == OBX_E_DB_LOCK_WAIT) {
        pass_over_locked(requests, id, parked_id, is_discard);
        return OBX_OK;
    }
    /* What refuses this one need not refuse the next: a trigger, a right for one column. */
    if (rc != OBX_OK && failure_is_of_a_row(db, rc))
        pass_over(requests, id, parked_id, is_discard, err);
    if (rc != OBX_OK || passed_on)
        return rc;
    return begin_task(requests, id, key, holds_key, is_discard, parked_id, err);
}

/* The first request of the kind after those that were passed over; at their end from the beginning,
 * the next time. */
static enum obx_code find_next(struct requests *requests, struct db *db, bool is_discard,
                               struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(db, sql_next,
                 DB_ARGS(DB_TEXT(requests->outbox), DB_TEXT(is_discard ? "discard" : "resume"),
                         DB_U64(requests->after[is_discard])),
                 &rows, err);

    if (rc != OBX_OK)
        return rc;
    if (db_rows_next(rows))
        rc = take_up(requests, db, rows, is_discard, err);
    else
        requests->after[is_discard] = 0;
    db_rows_free(rows);
    return rc;
}

enum obx_code requests_find(struct requests *requests, struct db *db, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (int kind = 0; kind < 2 && rc == OBX_OK && !requests->task.is_on; kind++)
        rc = find_next(requests, db, kind == 1, err);
    return rc;
}

/* ---- running it ---- */

static const char *request_name(const struct requests *requests)
{
    return requests->task.is_discard ? "discard" : "resume";
}

static void add_row(struct step *step, const struct db_rows *rows)
{
    step->parked_ids[step->count] = db_rows_u64(rows, 0);
    step->ids[step->count] = db_rows_u64(rows, 1);
    step->count++;
}

static void take_rows(struct step *step, struct db_rows *rows)
{
    uint64_t bytes = 0;

    while (step->count < STEP_ROWS && bytes < STEP_BYTES && db_rows_next(rows)) {
        add_row(step, rows);
        bytes += db_rows_u64(rows, 2);
    }
}

static enum obx_code find_followers(struct requests *requests, struct db *db, struct step *step,
                                    bool *is_all, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(db, sql_followers,
                 DB_ARGS(DB_TEXT(requests->outbox), DB_BYTES(buf_bytes(&requests->task.key)),
                         DB_U64(requests->task.id), DB_U64(STEP_ROWS + 1)),
                 &rows, err);

    if (rc != OBX_OK)
        return rc;
    take_rows(step, rows);
    *is_all = step->count == db_rows_count(rows);
    step->back = step->count;
    db_rows_free(rows);
    return OBX_OK;
}

/* The statement `before` + the parked ids of rows [from, to) + `after`. */
static enum obx_code build(struct requests *requests, const char *before, const struct step *step,
                           size_t from, size_t to, const char *after, struct obx_bytes *sql,
                           struct obx_err *err)
{
    enum obx_code rc = id_list_set(&requests->list, &step->parked_ids[from], to - from, err);

    return rc == OBX_OK ? id_list_statement(&requests->list, before, after, sql, err) : rc;
}

/* Leaves in the step what could be locked. */
static enum obx_code lock_rows(struct requests *requests, struct db *db, struct step *step,
                               const char *only, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    struct obx_bytes sql;
    char end[sizeof(sql_lock_end) + 32];
    enum obx_code rc = OBX_OK;

    if (step->count == 0)
        return OBX_OK;
    (void)snprintf(end, sizeof(end), ")%s%s", only, sql_lock_end);
    rc = build(requests, sql_lock, step, 0, step->count, end, &sql, err);
    if (rc == OBX_OK)
        rc = db_query_text(db, sql, &rows, err);
    if (rc != OBX_OK)
        return rc;
    step->count = 0;
    while (step->count < STEP_ROWS && db_rows_next(rows))
        add_row(step, rows);
    db_rows_free(rows);
    return OBX_OK;
}

/* The followers go back all, or none while somebody has one of them in hand: what is put back
 * while its head stays is only parked again. */
static enum obx_code lock_followers(struct requests *requests, struct db *db, struct step *step,
                                    struct obx_err *err)
{
    size_t found = step->count;
    enum obx_code rc = lock_rows(requests, db, step, "", err);

    step->is_locked = rc == OBX_OK && step->count < found;
    step->back = step->count;
    return rc;
}

static enum obx_code query_self(struct requests *requests, struct db *db, const char *sql,
                                struct db_rows **rows, struct obx_err *err)
{
    return db_query(db, sql,
                    DB_ARGS(DB_TEXT(requests->outbox), DB_U64(requests->task.id),
                            DB_TEXT(request_name(requests))),
                    rows, err);
}

static enum obx_code find_self(struct requests *requests, struct db *db, struct step *step,
                               struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = query_self(requests, db, sql_lock_self, &rows, err);

    if (rc != OBX_OK)
        return rc;
    if (db_rows_next(rows)) {
        add_row(step, rows);
        step->back += !requests->task.is_discard;
        db_rows_free(rows);
    } else {
        db_rows_free(rows);
        rc = query_self(requests, db, sql_self, &rows, err);
        step->is_locked = rc == OBX_OK && db_rows_next(rows);
        db_rows_free(rows);
    }
    step->is_last = true;
    return rc;
}

/* Lengths are not free: the server reads the payloads for them. So a portion that was too large by
   its bytes is followed by one of as many rows as fitted. */
static enum obx_code find_keyless(struct requests *requests, struct db *db, struct step *step,
                                  struct obx_err *err)
{
    struct db_rows *rows = NULL;
    size_t wider = requests->portion < STEP_ROWS / 2 ? requests->portion * 2 : STEP_ROWS;
    enum obx_code rc =
        db_query(db, sql_keyless,
                 DB_ARGS(DB_TEXT(requests->outbox), DB_TEXT(request_name(requests)),
                         DB_U64(requests->task.parked_id - 1), DB_U64(requests->portion)),
                 &rows, err);

    if (rc != OBX_OK)
        return rc;
    take_rows(step, rows);
    step->portion = step->count < db_rows_count(rows) ? step->count : wider;
    db_rows_free(rows);
    return OBX_OK;
}

/* Rows without a key have no order among them: what is asked for of them is done together. Those
 * that somebody has in hand are passed over, however many they are. */
static enum obx_code plan_keyless(struct requests *requests, struct db *db, struct step *step,
                                  struct obx_err *err)
{
    enum obx_code rc = find_keyless(requests, db, step, err);
    size_t found = step->count;

    step->done_to = found == 0 ? 0 : step->parked_ids[found - 1];
    if (rc == OBX_OK)
        rc = lock_rows(requests, db, step,
                       requests->task.is_discard ? " AND request = 'discard'"
                                                 : " AND request = 'resume'",
                       err);
    step->back = requests->task.is_discard ? 0 : step->count;
    step->is_partial = step->count < found;
    step->is_last = true;
    return rc;
}

static enum obx_code plan(struct requests *requests, struct db *db, struct step *step,
                          struct obx_err *err)
{
    bool is_all = true;
    enum obx_code rc = OBX_OK;

    if (!requests->task.has_key)
        return plan_keyless(requests, db, step, err);
    if (requests->task.has_head)
        rc = find_followers(requests, db, step, &is_all, err);
    if (rc == OBX_OK)
        rc = lock_followers(requests, db, step, err);
    if (rc == OBX_OK && is_all && !step->is_locked)
        rc = find_self(requests, db, step, err);
    return rc;
}

/* An id of the upper half would take the table's AUTO_INCREMENT with it, up to where no more ids
 * can be given. */
static enum obx_code check_ids(const struct step *step, struct obx_err *err)
{
    for (size_t i = 0; i < step->back; i++) {
        if (step->ids[i] > INT64_MAX)
            return obx_fail(err, OBX_E_DB_DATA,
                            "id %llu is above 9223372036854775807: put back, it would leave the"
                            " outbox without ids to give; insert the message under a new id, and"
                            " discard this row",
                            (unsigned long long)step->ids[i]);
    }
    return OBX_OK;
}

static enum obx_code put_back(struct requests *requests, struct db *db, const struct step *step,
                              struct obx_err *err)
{
    struct obx_bytes sql;
    enum obx_code rc = check_ids(step, err);

    if (rc != OBX_OK || step->back == 0)
        return rc;
    rc = build(requests, requests->put_back.data, step, 0, step->back, ") ORDER BY id", &sql, err);
    return rc == OBX_OK ? db_exec_text(db, sql, NULL, err) : rc;
}

/* Without the audit row nothing is discarded: where the table does not take it, the request is
 * refused, and the row stays parked. */
static enum obx_code audit(struct requests *requests, struct db *db, const struct step *step,
                           struct obx_err *err)
{
    struct obx_bytes sql;
    enum obx_code rc = build(requests, sql_audit, step, step->back, step->count, ")", &sql, err);

    if (rc == OBX_OK)
        rc = db_exec_text(db, sql, NULL, err);
    if (rc == OBX_OK)
        rc = audit_clean(db, "outbox_audit", err);
    if (rc == OBX_E_DB_DENIED || rc == OBX_E_DB_NO_TABLE || rc == OBX_E_DB_QUERY)
        rc = obx_fail(err, OBX_E_DB_DATA,
                      "outbox_audit does not take the row that says who"
                      " discarded the message; see grants.md");
    return rc;
}

/* What awaits receipts goes with its parked copy. */
static enum obx_code discard(struct requests *requests, struct db *db, struct step *step,
                             struct obx_err *err)
{
    struct obx_bytes sql;
    enum obx_code rc = OBX_OK;

    if (step->back == step->count)
        return OBX_OK;
    rc = build(requests, sql_known, step, step->back, step->count, ")", &sql, err);
    if (rc == OBX_OK)
        rc = db_query_text(db, sql, &step->discarded, err);
    if (rc == OBX_OK)
        rc = audit(requests, db, step, err);
    if (rc == OBX_OK)
        rc = db_exec(db, sql_end_awaiting, DB_ARGS(ID_LIST_ARG(&requests->list)), NULL, err);
    return rc;
}

static enum obx_code move_or_remove(struct requests *requests, struct db *db, struct step *step,
                                    struct obx_err *err)
{
    uint64_t deleted = 0;
    enum obx_code rc = OBX_OK;

    if (step->count == 0)
        return OBX_OK; /* somebody was faster, or it is not requested any more */
    rc = put_back(requests, db, step, err);
    if (rc == OBX_OK)
        rc = discard(requests, db, step, err);
    qsort(step->parked_ids, step->count, sizeof(step->parked_ids[0]), ids_compare);
    if (rc == OBX_OK)
        rc = row_delete_run(&requests->del, db, step->parked_ids, step->count, &deleted, err);
    if (rc == OBX_OK && deleted != step->count)
        rc = obx_fail(err, OBX_E_CONFLICT, "%zu parked rows, %llu deleted", step->count,
                      (unsigned long long)deleted);
    return rc;
}

static void log_discarded(const struct requests *requests, const struct step *step)
{
    while (step->discarded != NULL && db_rows_next(step->discarded))
        OBX_LOG(LOG_LVL_WARN, "lane", "parked.discarded", KV_STR("outbox", requests->outbox),
                KV_U64("row", db_rows_u64(step->discarded, 0)),
                KV_BYTES("message_id", db_rows_bytes(step->discarded, 1)),
                KV_BYTES("topic", db_rows_bytes(step->discarded, 2)),
                KV_BYTES("key", db_rows_bytes(step->discarded, 3)),
                KV_BYTES("by", db_rows_bytes(step->discarded, 4)),
                KV_BYTES("note", db_rows_bytes(step->discarded, 5)));
}

/* Rows that are back have to be read again, in order, before anything newer of their key. */
static void tell_reader(struct requests *requests, const struct step *step)
{
    struct obx_bytes key = {.p = NULL, .len = 0};

    if (requests->task.has_key)
        key = buf_bytes(&requests->task.key);
    for (size_t i = 0; i < step->back; i++)
        reader_pass_over(requests->reader, step->ids[i], key);
    requests->discarded += step->count - step->back;
    requests->resumed += step->back;
}

static void end_task(struct requests *requests)
{
    requests_reset(requests);
    reader_want_rescan(requests->reader);
}

/* The request can never be run as the rows are: say so where the operator looks. */
static enum obx_code refuse(struct requests *requests, struct db *db, struct obx_err *why,
                            struct obx_err *err)
{
    struct lease *lease = requests->parking->lease;
    enum obx_code rc = lease_begin(lease, db, err);

    OBX_LOG(LOG_LVL_WARN, "lane", "parked.request_refused", KV_STR("outbox", requests->outbox),
            KV_U64("row", requests->task.id), KV_ERR(why));
    if (rc != OBX_OK)
        return rc;
    rc = db_exec(db, sql_unrequest,
                 DB_ARGS(DB_TEXT(why->text), DB_TEXT(requests->outbox), DB_U64(requests->task.id)),
                 NULL, err);
    if (rc != OBX_OK) {
        lease_rollback(db);
        return rc;
    }
    rc = lease_commit(lease, db, err);
    if (rc == OBX_OK) {
        requests->refused++;
        end_task(requests);
    }
    return rc;
}

/* Rows without a key are tried fewer at a time, until the one at fault is alone. */
static bool can_split(struct requests *requests, const struct step *step)
{
    if (requests->task.has_key || step->count < 2)
        return false;
    requests->portion = step->count / 2;
    return true;
}

static void yield(struct requests *requests)
{
    const struct request_task *task = &requests->task;

    pass_over_locked(requests, task->id, task->parked_id, task->is_discard);
    end_task(requests);
}

static enum obx_code step_failed(struct requests *requests, struct db *db, const struct step *step,
                                 enum obx_code rc, struct obx_err *why, struct obx_err *err)
{
    const struct request_task *task = &requests->task;

    if (err != NULL)
        *err = *why;
    if (rc == OBX_E_DB_LOCK_WAIT) {
        yield(requests);
        return OBX_OK;
    }
    if (!failure_is_of_a_row(db, rc))
        return rc;
    if (can_split(requests, step))
        return OBX_OK;
    /* A refusal that says nothing of the data (a trigger that fails by itself, a table or a right that
     * is missing) may pass. The request stands, and must not keep the others from their turn; *why is
     * returned all the same, so that the pauses between failures grow. */
    if (rc != OBX_E_DB_DUPLICATE && rc != OBX_E_DB_DATA) {
        pass_over(requests, task->id, task->parked_id, task->is_discard, why);
        end_task(requests);
        return rc;
    }
    if (!requests->task.has_key && step->count == 1)
        requests->task.id = step->ids[0];
    rc = refuse(requests, db, why, err);
    if (rc != OBX_E_DB_LOCK_WAIT)
        return rc;
    yield(requests);
    return OBX_OK;
}

static void step_done(struct requests *requests, const struct step *step)
{
    log_discarded(requests, step);
    tell_reader(requests, step);
    if (step->portion != 0)
        requests->portion = step->portion;
    if (step->is_partial)
        pass_over_locked(requests, requests->task.id, step->done_to, requests->task.is_discard);
    if (step->is_last)
        end_task(requests);
}

static enum obx_code run_step(struct requests *requests, struct db *db, struct step *step,
                              struct obx_err *err)
{
    struct lease *lease = requests->parking->lease;
    struct obx_err why = {0};
    enum obx_code rc = lease_begin(lease, db, err);

    if (rc != OBX_OK)
        return rc;
    rc = plan(requests, db, step, &why);
    if (rc == OBX_OK && step->is_locked) {
        lease_rollback(db);
        yield(requests);
        return OBX_OK;
    }
    if (rc == OBX_OK)
        rc = move_or_remove(requests, db, step, &why);
    if (rc != OBX_OK) {
        lease_rollback(db);
        return step_failed(requests, db, step, rc, &why, err);
    }
    OBX_CRASH_POINT("lane-resume-before-commit");
    rc = lease_commit(lease, db, err);
    if (rc != OBX_OK)
        return rc;
    OBX_CRASH_POINT("lane-resumed");
    step_done(requests, step);
    return OBX_OK;
}

enum obx_code requests_step(struct requests *requests, struct db *db, struct obx_err *err)
{
    struct step step = {.count = 0};
    enum obx_code rc = run_step(requests, db, &step, err);

    db_rows_free(step.discarded);
    return rc;
}
