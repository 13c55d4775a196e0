/*
 * The statements of a batch of half-message requests: everything in one transaction.
 *
 * Invariants: a verdict changes a row only under its lock and only from prepared or parked; in the
 * same transaction the chosen parts become outbox rows and all parts go. Requests of a batch have
 * distinct gids, and rows are locked in the order of gid, so that two batches do not deadlock with
 * each other. Called by the store's workers and by outboxctl.
 *
 * Nobody waits for a row that somebody else holds: an application's transaction that hangs would
 * hold up every caller. Rows of verdicts are locked with SKIP LOCKED; where an INSERT or a DELETE
 * would wait (a prepare of the same gid by SQL, a part), a probe with NOWAIT comes first. What is
 * held is answered HALF_ANS_BUSY. Proved by half_store_test (a_held_row_holds_up_no_other).
 */
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/crash.h"
#include "half/half.h"
#include "half_record.h"

#define BATCH_TRIES    6  /* of a transaction that met a deadlock */
#define CONFLICTS_KEPT 10 /* rows of half_history of one half-message */
#define WAITS_MAX      2  /* lock waits in a row, one by one: then it is not the row that is held */
#define LARGE_BYTES                                                                                \
    ((size_t)256 * 1024) /* a payload that is sent as a value, not written into a text */

struct batch {
    struct db *db;
    const char *outbox;
    struct half_request **reqs;
    size_t count;
    struct obx_buf sql;
    bool outbox_rows;
};

/* Text building. A failed append leaves the buffer as it was; the first failure is kept in rc. */

static void add(struct batch *b, enum obx_code *rc, const char *text)
{
    if (*rc == OBX_OK)
        *rc = buf_add_text(&b->sql, text);
}

static void add_number(struct batch *b, enum obx_code *rc, uint64_t number)
{
    if (*rc == OBX_OK)
        *rc = buf_addf(&b->sql, "%llu", (unsigned long long)number);
}

static void add_text(struct batch *b, enum obx_code *rc, struct obx_bytes text)
{
    if (*rc == OBX_OK)
        *rc = db_add_literal(b->db, &b->sql, text);
}

/* Bytes that are not text: the introducer keeps the server from checking them against a character
 * set. */
static void add_binary(struct batch *b, enum obx_code *rc, struct obx_bytes bytes)
{
    add(b, rc, "_binary");
    add_text(b, rc, bytes);
}

static void add_text_or(struct batch *b, enum obx_code *rc, struct obx_bytes text,
                        const char *other)
{
    if (bytes_is_absent(text))
        add(b, rc, other);
    else
        add_text(b, rc, text);
}

static enum obx_code exec_built(struct batch *b, enum obx_code built, struct obx_err *err)
{
    if (built != OBX_OK)
        return obx_fail(err, built, "statement of a batch");
    return db_exec_text(b->db, buf_bytes(&b->sql), NULL, err);
}

/* Which requests of the batch a statement is about. */
typedef bool pick_fn(const struct half_request *req);

static bool is_open_prepare(const struct half_request *req)
{
    return req->kind == HALF_REQ_PREPARE && !req->is_answered;
}

static bool is_verdict(const struct half_request *req)
{
    return req->kind == HALF_REQ_VERDICT;
}

static bool is_lookup(const struct half_request *req)
{
    return req->kind == HALF_REQ_LOOKUP;
}

/* A verdict that changes its row in this transaction: found, not decided before. */
static bool is_deciding(const struct half_request *req)
{
    return is_verdict(req) && req->is_answered && req->answer == HALF_ANS_OK && !req->is_repeat;
}

static bool any(const struct batch *b, pick_fn *pick)
{
    for (size_t i = 0; i < b->count; i++)
        if (pick(b->reqs[i]))
            return true;
    return false;
}

static struct half_request *find(const struct batch *b, pick_fn *pick, struct obx_bytes gid)
{
    for (size_t i = 0; i < b->count; i++)
        if (pick(b->reqs[i]) && bytes_equal(b->reqs[i]->gid, gid))
            return b->reqs[i];
    return NULL;
}

/* "(gid, gid, ...)" of those picked; nothing picked gives "()", which no caller asks for. */
static void add_gids(struct batch *b, enum obx_code *rc, pick_fn *pick)
{
    const char *comma = "(";

    for (size_t i = 0; i < b->count; i++) {
        if (!pick(b->reqs[i]))
            continue;
        add(b, rc, comma);
        add_text(b, rc, b->reqs[i]->gid);
        comma = ", ";
    }
    add(b, rc, ")");
}

static void answer(struct half_request *req, enum half_answer what, bool is_repeat)
{
    req->answer = what;
    req->is_repeat = is_repeat;
    req->is_answered = true;
}

static void answer_prepare(struct half_request *req, const struct db_rows *rows)
{
    struct obx_bytes digest = db_rows_bytes(rows, HALF_COLUMN_DIGEST);
    bool same =
        digest.len == HALF_DIGEST_LEN && memcmp(digest.p, req->digest, HALF_DIGEST_LEN) == 0;

    answer(req, same ? HALF_ANS_OK : HALF_ANS_REUSED, same);
}

static void answer_verdict(struct half_request *req)
{
    if (req->rec.state == HALF_PREPARED || req->rec.state == HALF_PARKED)
        answer(req, HALF_ANS_OK, false);
    else if (req->rec.state == half_state_after(req->verdict))
        answer(req, HALF_ANS_OK, true);
    else
        answer(req, HALF_ANS_CONFLICT, false);
}

static void answer_found(struct half_request *req, const struct db_rows *rows)
{
    half_record_read(rows, &req->rec);
    if (req->kind == HALF_REQ_PREPARE)
        answer_prepare(req, rows);
    else if (req->kind == HALF_REQ_VERDICT)
        answer_verdict(req);
    else
        answer(req, HALF_ANS_OK, false);
}

/* Read the rows of those picked and answer each by what is there; those without a row stay
 * unanswered. */
static enum obx_code read_picked(struct batch *b, pick_fn *pick, const char *tail,
                                 struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    buf_reset(&b->sql);
    add(b, &rc, "SELECT " HALF_RECORD_COLUMNS " FROM half_message WHERE gid IN ");
    add_gids(b, &rc, pick);
    add(b, &rc, tail);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement of a batch");
    rc = db_query_text(b->db, buf_bytes(&b->sql), &rows, err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        struct obx_bytes gid = db_rows_bytes(rows, 0);

        for (size_t i = 0; i < b->count; i++)
            if (pick(b->reqs[i]) && bytes_equal(b->reqs[i]->gid, gid)) {
                answer_found(b->reqs[i], rows);
                break;
            }
    }
    db_rows_free(rows);
    return rc;
}

/* Prepare */

static enum obx_code insert_messages(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;
    const char *comma = "";

    buf_reset(&b->sql);
    add(b, &rc, "INSERT INTO half_message (gid, producer, digest, next_check_at) VALUES ");
    for (size_t i = 0; i < b->count; i++) {
        const struct half_request *req = b->reqs[i];

        if (!is_open_prepare(req))
            continue;
        add(b, &rc, comma);
        add(b, &rc, "(");
        add_text(b, &rc, req->gid);
        add(b, &rc, ", ");
        add_text(b, &rc, req->producer);
        add(b, &rc, ", ");
        add_binary(b, &rc, (struct obx_bytes){req->digest, HALF_DIGEST_LEN});
        add(b, &rc, ", UTC_TIMESTAMP(6) + INTERVAL ");
        add_number(b, &rc, (uint64_t)req->first_check_ms * 1000);
        add(b, &rc, " MICROSECOND)");
        comma = ", ";
    }
    return exec_built(b, rc, err);
}

static void add_part(struct batch *b, enum obx_code *rc, struct obx_bytes gid, size_t seq,
                     const struct half_part *part)
{
    add(b, rc, "(");
    add_text(b, rc, gid);
    add(b, rc, part->on == HALF_COMMIT ? ", 'commit', " : ", 'rollback', ");
    add_number(b, rc, seq);
    add(b, rc, ", ");
    add_text_or(b, rc, part->message_id, "DEFAULT");
    add(b, rc, ", ");
    add_text(b, rc, part->topic);
    add(b, rc, ", ");
    add_text_or(b, rc, part->ordering_key, "NULL");
    add(b, rc, ", ");
    add_text_or(b, rc, part->headers, "NULL");
    add(b, rc, ", ");
    add_text_or(b, rc, part->content_type, "DEFAULT");
    add(b, rc, ", ");
    add_binary(b, rc, part->payload);
    add(b, rc, ", ");
    add_text_or(b, rc, part->receipt_from, "NULL");
    add(b, rc, ", ");
    add_text_or(b, rc, part->on_rejected, "NULL");
    add(b, rc, ")");
}

#define INSERT_PART                                                                                \
    "INSERT INTO half_part (gid, verdict, seq, message_id, topic, ordering_key, headers, "         \
    "content_type, payload, receipt_from, on_rejected) VALUES "

static bool is_large(const struct half_part *part)
{
    return part->payload.len >= LARGE_BYTES;
}

static enum obx_code insert_small_parts(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;
    const char *comma = "";

    buf_reset(&b->sql);
    add(b, &rc, INSERT_PART);
    for (size_t i = 0; i < b->count; i++) {
        const struct half_request *req = b->reqs[i];

        for (size_t seq = 0; is_open_prepare(req) && seq < req->part_count; seq++) {
            if (is_large(&req->parts[seq]))
                continue;
            add(b, &rc, comma);
            add_part(b, &rc, req->gid, seq, &req->parts[seq]);
            comma = ", ";
        }
    }
    return *comma == '\0' && rc == OBX_OK ? OBX_OK : exec_built(b, rc, err);
}

/* Escaped in a text a payload may need twice its bytes, and the server's limit is on the text. */
static enum obx_code insert_large_part(struct batch *b, struct obx_bytes gid, size_t seq,
                                       const struct half_part *part, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    buf_reset(&b->sql);
    add(b, &rc, INSERT_PART "(?, ?, ?, ");
    add_text_or(b, &rc, part->message_id, "DEFAULT");
    add(b, &rc, ", ?, ?, ?, ");
    add_text_or(b, &rc, part->content_type, "DEFAULT");
    add(b, &rc, ", ?, ?, ?)");
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement of a batch");
    return db_exec(b->db, b->sql.data,
                   DB_ARGS(DB_BYTES(gid), DB_TEXT(half_verdict_name(part->on)), DB_U64(seq),
                           DB_BYTES(part->topic), DB_BYTES(part->ordering_key),
                           DB_BYTES(part->headers), DB_BYTES(part->payload),
                           DB_BYTES(part->receipt_from), DB_BYTES(part->on_rejected)),
                   NULL, err);
}

static enum obx_code insert_parts(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = insert_small_parts(b, err);

    for (size_t i = 0; i < b->count; i++) {
        const struct half_request *req = b->reqs[i];

        for (size_t seq = 0; rc == OBX_OK && is_open_prepare(req) && seq < req->part_count; seq++)
            if (is_large(&req->parts[seq]))
                rc = insert_large_part(b, req->gid, seq, &req->parts[seq], err);
    }
    return rc;
}

/*
 * Insert all prepares at once. On a duplicate the server has undone the statement only: answer
 * those that are there and insert the others. A row that appears in between makes another round;
 * each round answers at least one.
 */
static enum obx_code run_prepares(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    while (rc == OBX_OK && any(b, is_open_prepare)) {
        rc = insert_messages(b, err);
        if (rc == OBX_OK)
            return insert_parts(b, err);
        if (rc == OBX_E_DB_DUPLICATE)
            rc = read_picked(b, is_open_prepare, "", err);
    }
    return rc;
}

/* Verdict */

static enum obx_code update_decided(struct batch *b, struct half_request *req, struct obx_err *err)
{
    return db_exec(b->db,
                   "UPDATE half_message SET state = ?, next_check_at = NULL, "
                   "decided_at = UTC_TIMESTAMP(6), decided_by = ?, note = COALESCE(?, note) "
                   "WHERE gid = ?",
                   DB_ARGS(DB_TEXT(half_state_name(half_state_after(req->verdict))),
                           DB_TEXT(req->actor), DB_TEXT(req->note), DB_BYTES(req->gid)),
                   NULL, err);
}

/* One statement carries both out: the same verdict by the same actor, with nothing to note. */
static bool is_alike(const struct half_request *a, const struct half_request *b)
{
    return is_deciding(b) && a->note == NULL && b->note == NULL && a->verdict == b->verdict &&
           strcmp(a->actor, b->actor) == 0;
}

static bool is_first_alike(const struct batch *b, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (is_alike(b->reqs[index], b->reqs[i]))
            return false;
    return true;
}

static enum obx_code update_alike(struct batch *b, const struct half_request *like,
                                  struct obx_err *err)
{
    enum obx_code rc = OBX_OK;
    const char *comma = " WHERE gid IN (";

    buf_reset(&b->sql);
    add(b, &rc,
        "UPDATE half_message FORCE INDEX (PRIMARY) SET next_check_at = NULL, decided_at = "
        "UTC_TIMESTAMP(6), "
        "decided_by = ");
    add_text(b, &rc, bytes_of(like->actor));
    add(b, &rc, ", state = ");
    add_text(b, &rc, bytes_of(half_state_name(half_state_after(like->verdict))));
    for (size_t i = 0; i < b->count; i++) {
        if (!is_alike(like, b->reqs[i]))
            continue;
        add(b, &rc, comma);
        add_text(b, &rc, b->reqs[i]->gid);
        comma = ", ";
    }
    add(b, &rc, ")");
    return exec_built(b, rc, err);
}

/* All that are alike together; those with a note, which are an operator's, one by one. */
static enum obx_code update_messages(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; rc == OBX_OK && i < b->count; i++) {
        if (!is_deciding(b->reqs[i]))
            continue;
        if (b->reqs[i]->note != NULL)
            rc = update_decided(b, b->reqs[i], err);
        else if (is_first_alike(b, i))
            rc = update_alike(b, b->reqs[i], err);
    }
    return rc;
}

static bool is_deciding_commit(const struct half_request *req)
{
    return is_deciding(req) && req->verdict == HALF_COMMIT;
}

static bool is_deciding_rollback(const struct half_request *req)
{
    return is_deciding(req) && req->verdict == HALF_ROLLBACK;
}

/* The chosen parts become outbox rows, in the order in which they were prepared. */
static enum obx_code move_parts(struct batch *b, pick_fn *pick, enum half_verdict verdict,
                                struct obx_err *err)
{
    uint64_t moved = 0;
    enum obx_code rc = OBX_OK;

    if (!any(b, pick))
        return OBX_OK;
    buf_reset(&b->sql);
    add(b, &rc, "INSERT INTO ");
    if (rc == OBX_OK)
        rc = db_add_identifier(&b->sql, b->outbox);
    add(b, &rc,
        " (message_id, topic, ordering_key, headers, content_type, payload, receipt_from, "
        "on_rejected) SELECT message_id, topic, ordering_key, headers, content_type, payload, "
        "receipt_from, on_rejected "
        "FROM half_part WHERE gid IN ");
    add_gids(b, &rc, pick);
    add(b, &rc, " AND verdict = ");
    add_text(b, &rc, bytes_of(half_verdict_name(verdict)));
    add(b, &rc, " ORDER BY gid, seq");
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement of a batch");
    rc = db_exec_text(b->db, buf_bytes(&b->sql), &moved, err);
    if (rc == OBX_OK && moved > 0)
        b->outbox_rows = true;
    return rc;
}

static enum obx_code delete_parts(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    buf_reset(&b->sql);
    add(b, &rc, "DELETE p FROM half_part p FORCE INDEX (PRIMARY) WHERE p.gid IN ");
    add_gids(b, &rc, is_deciding);
    return exec_built(b, rc, err);
}

static bool is_conflict(const struct half_request *req)
{
    return is_verdict(req) && req->is_answered && req->answer == HALF_ANS_CONFLICT;
}

/* What an operator will want to read later: conflicts, and every verdict that the producer did not
 * simply give. */
static bool is_memorable(const struct half_request *req)
{
    if (is_conflict(req))
        return !req->is_known_conflict;
    return is_deciding(req) &&
           (req->rec.state != HALF_PREPARED || strcmp(req->actor, "producer") != 0);
}

/* A caller may repeat a conflict without end; the first few of a half-message tell all there is.
 * The metric counts each. */
static enum obx_code find_known_conflicts(struct batch *b, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    if (!any(b, is_conflict))
        return OBX_OK;
    buf_reset(&b->sql);
    add(b, &rc, "SELECT gid FROM half_history WHERE event = 'conflict' AND gid IN ");
    add_gids(b, &rc, is_conflict);
    add(b, &rc, " GROUP BY gid HAVING COUNT(*) >= ");
    add_number(b, &rc, CONFLICTS_KEPT);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement of a batch");
    rc = db_query_text(b->db, buf_bytes(&b->sql), &rows, err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        struct half_request *req = find(b, is_conflict, db_rows_bytes(rows, 0));

        if (req != NULL)
            req->is_known_conflict = true;
    }
    db_rows_free(rows);
    return rc;
}

static void add_history(struct batch *b, enum obx_code *rc, const struct half_request *req)
{
    add(b, rc, "(");
    add_text(b, rc, req->gid);
    add(b, rc, req->answer == HALF_ANS_CONFLICT ? ", 'conflict', " : ", 'verdict', ");
    add_text(b, rc, bytes_of(req->actor));
    add(b, rc, ", CONCAT_WS(': ', ");
    add_text(b, rc, bytes_of(half_verdict_name(req->verdict)));
    add(b, rc, ", ");
    add_text_or(b, rc, bytes_of(req->note), "NULL");
    add(b, rc, "))");
}

static enum obx_code write_history(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;
    const char *comma = "";

    rc = find_known_conflicts(b, err);
    if (rc != OBX_OK || !any(b, is_memorable))
        return rc;
    buf_reset(&b->sql);
    add(b, &rc, "INSERT INTO half_history (gid, event, actor, detail) VALUES ");
    for (size_t i = 0; i < b->count; i++) {
        if (!is_memorable(b->reqs[i]))
            continue;
        add(b, &rc, comma);
        add_history(b, &rc, b->reqs[i]);
        comma = ", ";
    }
    return exec_built(b, rc, err);
}

static bool is_open_verdict(const struct half_request *req)
{
    return is_verdict(req) && !req->is_answered;
}

/* Those of the picked that are there, although they have not been answered: somebody holds them. */
static enum obx_code answer_held(struct batch *b, pick_fn *pick, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    if (!any(b, pick))
        return OBX_OK;
    buf_reset(&b->sql);
    add(b, &rc, "SELECT gid FROM half_message WHERE gid IN ");
    add_gids(b, &rc, pick);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement of a batch");
    rc = db_query_text(b->db, buf_bytes(&b->sql), &rows, err);
    while (rc == OBX_OK && db_rows_next(rows))
        for (size_t i = 0; i < b->count; i++)
            if (pick(b->reqs[i]) && bytes_equal(b->reqs[i]->gid, db_rows_bytes(rows, 0)))
                answer(b->reqs[i], HALF_ANS_BUSY, false);
    db_rows_free(rows);
    return rc;
}

static enum obx_code run_verdicts(struct batch *b, struct obx_err *err)
{
    enum obx_code rc;

    if (!any(b, is_verdict))
        return OBX_OK;
    rc = read_picked(b, is_verdict, " ORDER BY gid FOR UPDATE SKIP LOCKED", err);
    if (rc == OBX_OK)
        rc = answer_held(b, is_open_verdict, err);
    if (rc == OBX_OK && any(b, is_deciding)) {
        rc = update_messages(b, err);
        if (rc == OBX_OK)
            rc = move_parts(b, is_deciding_commit, HALF_COMMIT, err);
        if (rc == OBX_OK)
            rc = move_parts(b, is_deciding_rollback, HALF_ROLLBACK, err);
        if (rc == OBX_OK)
            rc = delete_parts(b, err);
    }
    return rc == OBX_OK ? write_history(b, err) : rc;
}

static enum obx_code run_lists(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; rc == OBX_OK && i < b->count; i++) {
        if (b->reqs[i]->kind != HALF_REQ_LIST)
            continue;
        rc = half_list_run(b->db, b->reqs[i]->list, err);
        if (rc == OBX_OK)
            answer(b->reqs[i], HALF_ANS_OK, false);
    }
    return rc;
}

/* What the caller is told of what this transaction has made */

static bool is_fresh(const struct half_request *req)
{
    return is_open_prepare(req) || is_deciding(req);
}

/* The times are the database's: they are read back, not guessed. */
static enum obx_code read_fresh(struct batch *b, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    if (!any(b, is_fresh))
        return OBX_OK;
    buf_reset(&b->sql);
    add(b, &rc, "SELECT " HALF_RECORD_COLUMNS " FROM half_message WHERE gid IN ");
    add_gids(b, &rc, is_fresh);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement of a batch");
    rc = db_query_text(b->db, buf_bytes(&b->sql), &rows, err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        struct half_request *req = find(b, is_fresh, db_rows_bytes(rows, HALF_COLUMN_GID));

        if (req != NULL)
            half_record_read(rows, &req->rec);
    }
    db_rows_free(rows);
    return rc;
}

/* Of a prepare, or a look-up, that is not yet decided. */
static bool is_to_tell_ids(const struct half_request *req)
{
    return req->wants_ids && (req->kind == HALF_REQ_PREPARE || is_lookup(req)) &&
           (!req->is_answered || (req->answer == HALF_ANS_OK && (req->rec.state == HALF_PREPARED ||
                                                                 req->rec.state == HALF_PARKED)));
}

static enum obx_code keep_id(struct half_request *req, const struct db_rows *rows)
{
    struct half_id *id;

    if (req->ids == NULL)
        req->ids = obx_calloc(req->kind == HALF_REQ_PREPARE ? req->part_count : HALF_PARTS_ALL,
                              sizeof(*req->ids));
    if (req->ids == NULL)
        return OBX_E_NOMEM;
    if (req->id_count == (req->kind == HALF_REQ_PREPARE ? req->part_count : HALF_PARTS_ALL))
        return OBX_OK; /* by SQL there may be more */
    id = &req->ids[req->id_count++];
    id->on = bytes_is(db_rows_bytes(rows, 1), half_verdict_name(HALF_COMMIT)) ? HALF_COMMIT
                                                                              : HALF_ROLLBACK;
    (void)bytes_to_text(db_rows_bytes(rows, 2), id->message_id, sizeof(id->message_id));
    return OBX_OK;
}

static enum obx_code read_ids(struct batch *b, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    if (!any(b, is_to_tell_ids))
        return OBX_OK;
    buf_reset(&b->sql);
    add(b, &rc, "SELECT gid, verdict, message_id FROM half_part WHERE gid IN ");
    add_gids(b, &rc, is_to_tell_ids);
    add(b, &rc, " ORDER BY gid, verdict, seq");
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement of a batch");
    rc = db_query_text(b->db, buf_bytes(&b->sql), &rows, err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        struct half_request *req = find(b, is_to_tell_ids, db_rows_bytes(rows, 0));

        if (req != NULL && keep_id(req, rows) != OBX_OK)
            rc = obx_fail(err, OBX_E_NOMEM, "ids of a half-message");
    }
    db_rows_free(rows);
    return rc;
}

/* The transaction */

static void forget_answers(struct batch *b)
{
    b->outbox_rows = false;
    for (size_t i = 0; i < b->count; i++) {
        b->reqs[i]->is_answered = false;
        b->reqs[i]->id_count = 0;
        b->reqs[i]->is_known_conflict = false;
        memset(&b->reqs[i]->rec, 0, sizeof(b->reqs[i]->rec));
    }
}

static enum obx_code run_once(struct batch *b, struct obx_err *err)
{
    enum obx_code rc;

    forget_answers(b);
    rc = db_begin(b->db, err);
    if (rc == OBX_OK)
        rc = run_lists(b, err); /* first: they may take a while, and no row is locked yet */
    if (rc == OBX_OK)
        rc = run_prepares(b, err);
    if (rc == OBX_OK)
        rc = run_verdicts(b, err);
    if (rc == OBX_OK && any(b, is_lookup))
        rc = read_picked(b, is_lookup, "", err);
    if (rc == OBX_OK)
        rc = read_fresh(b, err);
    if (rc == OBX_OK)
        rc = read_ids(b, err);
    if (rc != OBX_OK)
        return rc;
    OBX_CRASH_POINT("half-before-commit");
    rc = db_commit(b->db, err);
    if (rc == OBX_OK)
        OBX_CRASH_POINT("half-committed");
    return rc;
}

/* After the commit: a prepare without an answer is new, anything else was not found. */
static void finish(struct batch *b)
{
    for (size_t i = 0; i < b->count; i++) {
        struct half_request *req = b->reqs[i];

        if (is_open_prepare(req))
            answer(req, HALF_ANS_OK, false);
        else if (!req->is_answered)
            answer(req, HALF_ANS_NOT_FOUND, false);
    }
}

static void fail_all(struct batch *b, const struct obx_err *why)
{
    for (size_t i = 0; i < b->count; i++) {
        answer(b->reqs[i], HALF_ANS_FAILED, false);
        b->reqs[i]->err = *why;
    }
}

static bool connection_is_sound(enum obx_code rc)
{
    return rc != OBX_E_TIMEOUT && obx_code_action(rc) != OBX_DO_RECONNECT;
}

static enum obx_code run_with_retries(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (int tries = 0; tries < BATCH_TRIES; tries++) {
        obx_err_clear(err);
        rc = run_once(b, err);
        if (rc == OBX_OK || !connection_is_sound(rc))
            return rc;
        if (db_rollback(b->db, NULL) != OBX_OK)
            return obx_fail(err, OBX_E_DB_GONE, "rollback of a batch failed");
        if (rc != OBX_E_DB_DEADLOCK)
            return rc;
    }
    return rc;
}

static void answer_all(struct batch *b, enum half_answer what)
{
    for (size_t i = 0; i < b->count; i++)
        answer(b->reqs[i], what, false);
}

/* A statement that the server refuses (a value that does not fit, say) or that waited for a lock
 * names no request: run them one by one. */
static enum obx_code run_apart(struct batch *b, struct obx_err *err)
{
    bool outbox_rows = false;
    unsigned waits = 0;

    for (size_t i = 0; i < b->count; i++) {
        struct batch one = {
            .db = b->db, .outbox = b->outbox, .reqs = &b->reqs[i], .count = 1, .sql = b->sql};
        struct batch rest = {.reqs = &b->reqs[i], .count = b->count - i};
        enum obx_code rc;

        if (waits == WAITS_MAX) {
            answer_all(&rest, HALF_ANS_BUSY);
            break;
        }
        rc = run_with_retries(&one, err);
        b->sql = one.sql;
        waits = rc == OBX_E_DB_LOCK_WAIT ? waits + 1 : 0;
        if (rc == OBX_OK)
            finish(&one);
        else if (rc == OBX_E_DB_LOCK_WAIT)
            answer_all(&one, HALF_ANS_BUSY);
        else
            fail_all(&one, err);
        outbox_rows = outbox_rows || (rc == OBX_OK && one.outbox_rows);
        if (rc != OBX_OK && !connection_is_sound(rc)) {
            b->outbox_rows = outbox_rows;
            fail_all(&rest, err);
            return rc;
        }
    }
    b->outbox_rows = outbox_rows;
    return OBX_OK;
}

/* Before the transaction, so that nothing is undone by a wait and no lock is kept. */

static bool is_prepare(const struct half_request *req)
{
    return req->kind == HALF_REQ_PREPARE;
}

/* Whether all rows of the picked can be locked at once; OBX_E_DB_LOCK_WAIT when not. */
static enum obx_code probe(struct batch *b, const char *table, pick_fn *pick, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    if (!any(b, pick))
        return OBX_OK;
    buf_reset(&b->sql);
    add(b, &rc, "SELECT gid FROM ");
    add(b, &rc, table);
    add(b, &rc, " WHERE gid IN ");
    add_gids(b, &rc, pick);
    add(b, &rc, " FOR UPDATE NOWAIT");
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement of a batch");
    rc = db_query_text(b->db, buf_bytes(&b->sql), &rows, err);
    db_rows_free(rows);
    return rc;
}

static enum obx_code probe_both(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = probe(b, "half_message", is_prepare, err);

    return rc == OBX_OK ? probe(b, "half_part", is_verdict, err) : rc;
}

/* Put those whose rows are held behind the others, with their answer; b->count is what is left. */
static enum obx_code set_held_apart(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = probe_both(b, err);

    if (rc != OBX_E_DB_LOCK_WAIT)
        return rc;
    for (size_t i = b->count; i-- > 0;) {
        struct batch one = {.db = b->db, .reqs = &b->reqs[i], .count = 1, .sql = b->sql};
        struct half_request *req = b->reqs[i];

        rc = probe_both(&one, err);
        b->sql = one.sql;
        if (rc != OBX_OK && rc != OBX_E_DB_LOCK_WAIT)
            return rc;
        if (rc == OBX_E_DB_LOCK_WAIT) {
            answer(req, HALF_ANS_BUSY, false);
            b->reqs[i] = b->reqs[--b->count];
            b->reqs[b->count] = req;
        }
    }
    obx_err_clear(err);
    return OBX_OK;
}

enum obx_code half_batch_run(struct db *db, const char *outbox, struct half_request **reqs,
                             size_t count, bool *outbox_rows, struct obx_err *err)
{
    struct batch b = {.db = db, .outbox = outbox, .reqs = reqs, .count = count};
    struct obx_err own = {0};
    enum obx_code rc = set_held_apart(&b, &own);

    if (rc == OBX_OK && b.count > 0)
        rc = run_with_retries(&b, &own);
    if (rc == OBX_OK)
        finish(&b);
    else if (connection_is_sound(rc))
        rc = run_apart(&b, &own);
    else
        fail_all(&b, &own);
    *outbox_rows = b.outbox_rows;
    buf_fini(&b.sql);
    if (rc != OBX_OK && err != NULL)
        *err = own;
    return rc;
}
