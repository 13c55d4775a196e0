/*
 * Carrying out what operators ask for. See requests.h.
 */
#include "requests.h"

#include <stdlib.h>
#include <string.h>

#include "base/crash.h"
#include "base/log.h"

enum { STEP_ROWS = 500, STEP_BYTES = 16 * 1024 * 1024, PORTION_FIRST = 32 };

static const char sql_next[] =
    "SELECT id, ordering_key, holds_key, behind_id, request, COALESCE(requested_by, '')"
    " FROM outbox_parked WHERE outbox = ? AND request IN ('resume', 'discard')"
    " ORDER BY request, parked_id LIMIT 1";
static const char sql_followers[] =
    "SELECT parked_id, id, OCTET_LENGTH(payload) FROM outbox_parked FORCE INDEX (outbox_key)"
    " WHERE outbox = ? AND ordering_key = ? AND behind_id = ? ORDER BY parked_id LIMIT ?";
/* Locked, and only if it is still wanted: an operator may have changed his mind meanwhile. */
static const char sql_self[] = "SELECT parked_id, id, OCTET_LENGTH(payload) FROM outbox_parked"
                               " WHERE outbox = ? AND id = ? AND request = ? FOR UPDATE";
/* Of the first requests those for rows without a key; the others are not read past for each
 * portion.
 */
static const char sql_keyless[] =
    "SELECT p.parked_id, p.id, OCTET_LENGTH(p.payload)"
    " FROM (SELECT parked_id FROM outbox_parked FORCE INDEX (outbox_request)"
    " WHERE outbox = ? AND request = ? ORDER BY parked_id LIMIT ?) k"
    " STRAIGHT_JOIN outbox_parked p FORCE INDEX (PRIMARY) ON p.parked_id = k.parked_id"
    " WHERE p.ordering_key IS NULL ORDER BY p.parked_id";
/* As sql_self, of many; no row but these is looked at, so none that an operator has in hand. */
static const char sql_lock[] =
    "SELECT p.parked_id, p.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) k"
    " STRAIGHT_JOIN outbox_parked p FORCE INDEX (PRIMARY) ON p.parked_id = k.id"
    " WHERE p.request = ? FOR UPDATE";
static const char sql_pass_on[] =
    "UPDATE outbox_parked SET request = 'resume', requested_at = UTC_TIMESTAMP(6)"
    " WHERE outbox = ? AND id = ? AND holds_key = 1";
static const char sql_unrequest[] = "UPDATE outbox_parked SET request = NULL, request_note = ?"
                                    " WHERE outbox = ? AND id = ?";

/* The rows of one transaction. */
struct step {
    uint64_t parked_ids[STEP_ROWS + 1];
    uint64_t ids[STEP_ROWS + 1];
    size_t count;
    size_t back;    /* so many are put back, the others behind them only deleted */
    size_t portion; /* how many to try next time, rows without a key; 0: these have one */
    bool is_last;   /* with these the request is done */
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
                  "INSERT INTO %s (id, message_id, topic, ordering_key, headers, content_type,"
                  " payload, created_at, receipt_from, on_rejected)"
                  " SELECT p.id, p.message_id, p.topic, p.ordering_key, p.headers,"
                  " p.content_type, p.payload, p.created_at, p.receipt_from, p.on_rejected"
                  " FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) k"
                  " STRAIGHT_JOIN outbox_parked p FORCE INDEX (PRIMARY) ON p.parked_id = k.id"
                  " ORDER BY p.id",
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
    buf_fini(&requests->text);
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
        flight_shed_behind(requests->flight, buf_bytes(&parking->held_key), requests->task.id);
    return rc;
}

static enum obx_code begin_task(struct requests *requests, uint64_t id, struct obx_bytes key,
                                bool holds_key, bool is_discard, struct obx_err *err)
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
    if (rc == OBX_OK)
        rc = hold_key(requests);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "request for row %llu", (unsigned long long)id);
    task->is_on = true;
    return OBX_OK;
}

/* A follower cannot go before its head: the wish to resume it is one to resume the head, on which
   it is written down before anything is done, so that a crash does not lose it. *passed_on is false
   when there is no head any more. */
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
    requests->queries += 2;
    if (rc != OBX_OK) {
        lease_rollback(db);
        return rc;
    }
    *passed_on = matched > 0;
    return lease_commit(lease, db, err);
}

static enum obx_code take_up(struct requests *requests, struct db *db, const struct db_rows *rows,
                             struct obx_err *err)
{
    uint64_t id = db_rows_u64(rows, 0);
    struct obx_bytes key = db_rows_bytes(rows, 1);
    bool holds_key = db_rows_u64(rows, 2) != 0;
    uint64_t behind = db_rows_u64(rows, 3);
    bool is_discard = bytes_is(db_rows_bytes(rows, 4), "discard");
    bool passed_on = false;
    enum obx_code rc = OBX_OK;

    OBX_LOG(LOG_LVL_INFO, "lane", is_discard ? "parked.discard" : "parked.resume",
            KV_STR("outbox", requests->outbox), KV_U64("row", id),
            KV_BYTES("by", db_rows_bytes(rows, 5)));
    if (behind != 0 && !is_discard)
        rc = pass_on(requests, db, id, behind, &passed_on, err);
    if (rc != OBX_OK || passed_on)
        return rc;
    return begin_task(requests, id, key, holds_key, is_discard, err);
}

enum obx_code requests_look(struct requests *requests, struct db *db, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    if (requests->task.is_on)
        return OBX_OK;
    requests->queries++;
    rc = db_query(db, sql_next, DB_ARGS(DB_TEXT(requests->outbox)), &rows, err);
    if (rc != OBX_OK)
        return rc;
    if (db_rows_next(rows))
        rc = take_up(requests, db, rows, err);
    db_rows_free(rows);
    return rc;
}

/* ---- carrying it out ---- */

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

    requests->queries++;
    if (rc != OBX_OK)
        return rc;
    take_rows(step, rows);
    *is_all = step->count == db_rows_count(rows);
    step->back = step->count;
    db_rows_free(rows);
    return OBX_OK;
}

static enum obx_code find_self(struct requests *requests, struct db *db, struct step *step,
                               struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, sql_self,
                                DB_ARGS(DB_TEXT(requests->outbox), DB_U64(requests->task.id),
                                        DB_TEXT(request_name(requests))),
                                &rows, err);

    requests->queries++;
    if (rc != OBX_OK)
        return rc;
    if (db_rows_next(rows)) {
        add_row(step, rows);
        step->back += !requests->task.is_discard;
    }
    db_rows_free(rows);
    step->is_last = true;
    return OBX_OK;
}

/* The rows of the step as a list, in requests->text. */
static enum obx_code list_rows(struct requests *requests, const struct step *step, size_t count,
                               struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    buf_reset(&requests->text);
    for (size_t i = 0; i < count && rc == OBX_OK; i++)
        rc = buf_addf(&requests->text, i == 0 ? "[%llu" : ",%llu",
                      (unsigned long long)step->parked_ids[i]);
    if (rc == OBX_OK)
        rc = buf_add_text(&requests->text, "]");
    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "list of rows");
}

/* Lengths are not free: the server reads the payloads for them. So a portion that was too large by
   its bytes is followed by one of as many rows as fitted. */
static enum obx_code find_keyless(struct requests *requests, struct db *db, struct step *step,
                                  struct obx_err *err)
{
    struct db_rows *rows = NULL;
    size_t wider = requests->portion < STEP_ROWS / 2 ? requests->portion * 2 : STEP_ROWS;
    enum obx_code rc = db_query(db, sql_keyless,
                                DB_ARGS(DB_TEXT(requests->outbox), DB_TEXT(request_name(requests)),
                                        DB_U64(requests->portion)),
                                &rows, err);

    requests->queries++;
    if (rc != OBX_OK)
        return rc;
    take_rows(step, rows);
    step->portion = step->count < db_rows_count(rows) ? step->count : wider;
    db_rows_free(rows);
    return OBX_OK;
}

/* Leaves in the step what is still wanted. */
static enum obx_code lock_rows(struct requests *requests, struct db *db, struct step *step,
                               struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    if (step->count == 0)
        return OBX_OK;
    rc = list_rows(requests, step, step->count, err);
    if (rc != OBX_OK)
        return rc;
    requests->queries++;
    rc = db_query(db, sql_lock,
                  DB_ARGS(DB_BYTES(buf_bytes(&requests->text)), DB_TEXT(request_name(requests))),
                  &rows, err);
    if (rc != OBX_OK)
        return rc;
    step->count = 0;
    while (step->count < STEP_ROWS && db_rows_next(rows))
        add_row(step, rows);
    db_rows_free(rows);
    return OBX_OK;
}

/* Rows without a key have no order among them: what is asked for of them is done together. */
static enum obx_code plan_keyless(struct requests *requests, struct db *db, struct step *step,
                                  struct obx_err *err)
{
    enum obx_code rc = find_keyless(requests, db, step, err);

    if (rc == OBX_OK)
        rc = lock_rows(requests, db, step, err);
    step->back = requests->task.is_discard ? 0 : step->count;
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
    if (rc == OBX_OK && is_all)
        rc = find_self(requests, db, step, err);
    return rc;
}

static enum obx_code put_back(struct requests *requests, struct db *db, const struct step *step,
                              struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (step->back == 0)
        return OBX_OK;
    rc = list_rows(requests, step, step->back, err);
    if (rc != OBX_OK)
        return rc;
    requests->queries++;
    return db_exec(db, requests->put_back.data, DB_ARGS(DB_BYTES(buf_bytes(&requests->text))), NULL,
                   err);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static enum obx_code carry_out(struct requests *requests, struct db *db, struct step *step,
                               struct obx_err *err)
{
    uint64_t deleted = 0;
    enum obx_code rc = OBX_OK;

    if (step->count == 0)
        return OBX_OK; /* somebody was faster, or it is not wanted any more */
    rc = put_back(requests, db, step, err);
    qsort(step->parked_ids, step->count, sizeof(step->parked_ids[0]), compare_u64);
    if (rc == OBX_OK)
        rc = row_delete_run(&requests->del, db, step->parked_ids, step->count, &deleted, err);
    if (rc == OBX_OK && deleted != step->count)
        rc = obx_fail(err, OBX_E_CONFLICT, "%zu parked rows, %llu deleted", step->count,
                      (unsigned long long)deleted);
    return rc;
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
    reader_want_pass(requests->reader);
}

/* The request can never be carried out as the rows are: say so where the operator looks. */
static enum obx_code refuse(struct requests *requests, struct db *db, struct obx_err *why,
                            struct obx_err *err)
{
    struct lease *lease = requests->parking->lease;
    enum obx_code rc = lease_begin(lease, db, err);

    OBX_LOG(LOG_LVL_WARN, "lane", "parked.request_refused", KV_STR("outbox", requests->outbox),
            KV_U64("row", requests->task.id), KV_ERR(why));
    if (rc != OBX_OK)
        return rc;
    requests->queries++;
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

static bool is_hopeless(enum obx_code rc)
{
    return rc == OBX_E_DB_DUPLICATE || rc == OBX_E_DB_DATA;
}

/* One row of several is in the way of the others: fewer from the next step on, until it is alone.
 */
static enum obx_code give_way(struct requests *requests, struct db *db, const struct step *step,
                              struct obx_err *why, struct obx_err *err)
{
    const bool is_keyless = !requests->task.has_key;

    if (is_keyless && step->count > 1) {
        requests->portion = step->count / 2;
        return OBX_OK;
    }
    if (is_keyless && step->count == 1)
        requests->task.id = step->ids[0];
    return refuse(requests, db, why, err);
}

enum obx_code requests_step(struct requests *requests, struct db *db, struct obx_err *err)
{
    struct lease *lease = requests->parking->lease;
    struct step step = {.count = 0};
    struct obx_err why = {0};
    enum obx_code rc = lease_begin(lease, db, err);

    if (rc != OBX_OK)
        return rc;
    rc = plan(requests, db, &step, &why);
    if (rc == OBX_OK)
        rc = carry_out(requests, db, &step, &why);
    if (rc != OBX_OK) {
        lease_rollback(db);
        if (is_hopeless(rc))
            return give_way(requests, db, &step, &why, err);
        if (err != NULL)
            *err = why;
        return rc;
    }
    OBX_CRASH_POINT("lane-resume-before-commit");
    rc = lease_commit(lease, db, err);
    if (rc != OBX_OK)
        return rc;
    OBX_CRASH_POINT("lane-resumed");
    tell_reader(requests, &step);
    if (step.portion != 0)
        requests->portion = step.portion;
    if (step.is_last)
        end_task(requests);
    return OBX_OK;
}
