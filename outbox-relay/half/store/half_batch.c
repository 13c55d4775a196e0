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
#include "tables/outbox_columns.h"

#define BATCH_TRIES    6    /* of a transaction that met a deadlock */
#define CONFLICTS_KEPT "10" /* rows of half_history of one half-message */
#define WAITS_MAX      2 /* lock waits in a row, one by one: then it is not the row that is held */
#define LARGE_BYTES                                                                                \
    ((size_t)256 * 1024) /* a payload that is sent as a value, not written into a text */

#define SELECT_RECORDS "SELECT " HALF_RECORD_COLUMNS " FROM half_message WHERE gid IN "

struct batch {
    struct db *db;
    const char *outbox;
    struct half_request **reqs;
    size_t count;
    struct obx_buf sql; /* the statement in the making */
    bool outbox_rows;
};

/* Text building: begin, add, then exec_built or for_rows, which report the first append that failed
 * (it sticks to the buffer). */

static void begin(struct batch *b, const char *text)
{
    buf_reset(&b->sql);
    buf_add_text(&b->sql, text);
}

static void add(struct batch *b, const char *text)
{
    buf_add_text(&b->sql, text);
}

/* A literal; NULL for what is absent. */
static void add_text(struct batch *b, struct obx_bytes text)
{
    (void)db_add_literal(b->db, &b->sql, text);
}

static void add_text_or_default(struct batch *b, struct obx_bytes text)
{
    if (bytes_is_absent(text))
        add(b, "DEFAULT");
    else
        add_text(b, text);
}

/* Bytes that are not text: the introducer keeps the server from checking them against a character
 * set. Absent bytes are no bytes. */
static void add_binary(struct batch *b, struct obx_bytes bytes)
{
    add(b, "_binary");
    add_text(b, bytes_is_absent(bytes) ? bytes_of("") : bytes);
}

static enum obx_code exec_built(struct batch *b, uint64_t *affected, struct obx_err *err)
{
    if (b->sql.rc != OBX_OK)
        return obx_fail(err, b->sql.rc, "statement of a batch");
    return db_exec_text(b->db, buf_bytes(&b->sql), affected, err);
}

/* Which requests of the batch a statement is about. */
enum pick {
    PREPARES,
    OPEN_PREPARES, /* not answered: a gid that was not there */
    LOOKUPS,
    VERDICTS,
    OPEN_VERDICTS, /* whose row was not read: not there, or held */
    DECISIONS, /* verdicts that change their row in this transaction: found, not decided before */
    COMMITS,   /* of those */
    ROLLBACKS,
    CONFLICTS,
    MEMORABLE,   /* what an operator will want to read later: conflicts, and every decision that the
                    producer did not simply give */
    FRESH,       /* rows that this transaction makes or changes */
    WANTING_IDS, /* of a prepare or a look-up that is not decided */
};

static bool picks(enum pick pick, const struct half_request *req)
{
    const bool is_prepare = req->kind == HALF_REQ_PREPARE;
    const bool is_verdict = req->kind == HALF_REQ_VERDICT;
    const bool is_ok = req->is_answered && req->answer == HALF_ANS_OK;
    const bool is_decision = is_verdict && is_ok && !req->is_repeat;
    const bool is_open_row = req->rec.state == HALF_PREPARED || req->rec.state == HALF_PARKED;
    const bool is_conflict = is_verdict && req->is_answered && req->answer == HALF_ANS_CONFLICT;

    switch (pick) {
    case PREPARES:
        return is_prepare;
    case OPEN_PREPARES:
        return is_prepare && !req->is_answered;
    case LOOKUPS:
        return req->kind == HALF_REQ_LOOKUP;
    case VERDICTS:
        return is_verdict;
    case OPEN_VERDICTS:
        return is_verdict && !req->is_answered;
    case DECISIONS:
        return is_decision;
    case COMMITS:
        return is_decision && req->verdict == HALF_COMMIT;
    case ROLLBACKS:
        return is_decision && req->verdict == HALF_ROLLBACK;
    case CONFLICTS:
        return is_conflict;
    case MEMORABLE:
        return (is_conflict && !req->is_known_conflict) ||
               (is_decision &&
                (req->rec.state != HALF_PREPARED || strcmp(req->actor, "producer") != 0));
    case FRESH:
        return (is_prepare && !req->is_answered) || is_decision;
    case WANTING_IDS:
        return req->wants_ids && (is_prepare || req->kind == HALF_REQ_LOOKUP) &&
               (!req->is_answered || (is_ok && is_open_row));
    }
    return false;
}

static bool any(const struct batch *b, enum pick pick)
{
    for (size_t i = 0; i < b->count; i++)
        if (picks(pick, b->reqs[i]))
            return true;
    return false;
}

static struct half_request *find(const struct batch *b, enum pick pick, struct obx_bytes gid)
{
    for (size_t i = 0; i < b->count; i++)
        if (picks(pick, b->reqs[i]) && bytes_equal(b->reqs[i]->gid, gid))
            return b->reqs[i];
    return NULL;
}

/* "(gid, gid, ...)" of those picked; nothing picked gives "()", which no caller asks for. */
static void add_gids(struct batch *b, enum pick pick)
{
    const char *comma = "(";

    for (size_t i = 0; i < b->count; i++) {
        if (!picks(pick, b->reqs[i]))
            continue;
        add(b, comma);
        add_text(b, b->reqs[i]->gid);
        comma = ", ";
    }
    add(b, ")");
}

/* What a row says about the request of its gid. */
enum take {
    NOTHING,
    RECORD, /* the row as it is now */
    ANSWER, /* the record, and by it the answer */
    HELD,   /* it is there, although it could not be read under a lock: somebody holds it */
    KNOWN_CONFLICT,
    AN_ID, /* of one of its messages */
};
static enum obx_code take(enum take what, struct half_request *req, const struct db_rows *rows,
                          struct obx_err *err);

/* Run "head (gids of those picked) tail" and take each of its rows, whose first column is the gid.
 * Nothing is asked when nothing is picked. */
static enum obx_code for_rows(struct batch *b, const char *head, enum pick pick, const char *tail,
                              enum take what, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    if (!any(b, pick))
        return OBX_OK;
    begin(b, head);
    add_gids(b, pick);
    add(b, tail);
    if (b->sql.rc != OBX_OK)
        return obx_fail(err, b->sql.rc, "statement of a batch");
    rc = db_query_text(b->db, buf_bytes(&b->sql), &rows, err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        struct half_request *req = find(b, pick, db_rows_bytes(rows, HALF_COLUMN_GID));

        if (req != NULL)
            rc = take(what, req, rows, err);
    }
    db_rows_free(rows);
    return rc;
}

static void answer(struct half_request *req, enum half_answer what, bool is_repeat)
{
    req->answer = what;
    req->is_repeat = is_repeat;
    req->is_answered = true;
}

/* By what is there: those without a row stay unanswered. */
static void answer_by_record(struct half_request *req, const struct db_rows *rows)
{
    struct obx_bytes digest = db_rows_bytes(rows, HALF_COLUMN_DIGEST);
    bool is_same;

    switch (req->kind) {
    case HALF_REQ_PREPARE:
        is_same =
            digest.len == HALF_DIGEST_LEN && memcmp(digest.p, req->digest, HALF_DIGEST_LEN) == 0;
        answer(req, is_same ? HALF_ANS_OK : HALF_ANS_REUSED, is_same);
        break;
    case HALF_REQ_VERDICT:
        if (req->rec.state == HALF_PREPARED || req->rec.state == HALF_PARKED)
            answer(req, HALF_ANS_OK, false);
        else if (req->rec.state == half_state_after(req->verdict))
            answer(req, HALF_ANS_OK, true);
        else
            answer(req, HALF_ANS_CONFLICT, false);
        break;
    case HALF_REQ_LOOKUP:
    case HALF_REQ_LIST:
        answer(req, HALF_ANS_OK, false);
        break;
    }
}

static enum obx_code take_id(struct half_request *req, const struct db_rows *rows,
                             struct obx_err *err)
{
    const size_t room = req->kind == HALF_REQ_PREPARE ? req->part_count : HALF_PARTS_ALL;
    struct half_id *id;

    if (req->ids == NULL)
        req->ids = obx_calloc(room, sizeof(*req->ids));
    if (req->ids == NULL)
        return obx_fail(err, OBX_E_NOMEM, "ids of a half-message");
    if (req->id_count == room)
        return OBX_OK; /* by SQL there may be more */
    id = &req->ids[req->id_count++];
    id->on = bytes_is(db_rows_bytes(rows, 1), half_verdict_name(HALF_COMMIT)) ? HALF_COMMIT
                                                                              : HALF_ROLLBACK;
    (void)bytes_to_text(db_rows_bytes(rows, 2), id->message_id, sizeof(id->message_id));
    return OBX_OK;
}

static enum obx_code take(enum take what, struct half_request *req, const struct db_rows *rows,
                          struct obx_err *err)
{
    switch (what) {
    case RECORD:
        half_record_read(rows, &req->rec);
        break;
    case ANSWER:
        half_record_read(rows, &req->rec);
        answer_by_record(req, rows);
        break;
    case HELD:
        answer(req, HALF_ANS_BUSY, false);
        break;
    case KNOWN_CONFLICT:
        req->is_known_conflict = true;
        break;
    case AN_ID:
        return take_id(req, rows, err);
    case NOTHING:
        break;
    }
    return OBX_OK;
}

/* Prepare */

static enum obx_code insert_messages(struct batch *b, struct obx_err *err)
{
    const char *comma = "";

    begin(b, "INSERT INTO half_message (gid, producer, digest, next_check_at) VALUES ");
    for (size_t i = 0; i < b->count; i++) {
        const struct half_request *req = b->reqs[i];

        if (!picks(OPEN_PREPARES, req))
            continue;
        add(b, comma);
        add(b, "(");
        add_text(b, req->gid);
        add(b, ", ");
        add_text(b, req->producer);
        add(b, ", ");
        add_binary(b, (struct obx_bytes){req->digest, HALF_DIGEST_LEN});
        buf_addf(&b->sql, ", UTC_TIMESTAMP(6) + INTERVAL %llu MICROSECOND)",
                 req->first_check_ms * 1000ULL);
        comma = ", ";
    }
    return exec_built(b, NULL, err);
}

#define INSERT_PART "INSERT INTO half_part (gid, verdict, seq, " MESSAGE_COLUMNS ") VALUES "

static void add_part(struct batch *b, struct obx_bytes gid, size_t seq,
                     const struct half_part *part)
{
    add(b, "(");
    add_text(b, gid);
    buf_addf(&b->sql, ", '%s', %zu, ", half_verdict_name(part->on), seq);
    add_text_or_default(b, part->message_id);
    add(b, ", ");
    add_text(b, part->topic);
    add(b, ", ");
    add_text(b, part->ordering_key);
    add(b, ", ");
    add_text(b, part->headers);
    add(b, ", ");
    add_text_or_default(b, part->content_type);
    add(b, ", ");
    add_binary(b, part->payload);
    add(b, ", ");
    add_text(b, part->receipt_from);
    add(b, ", ");
    add_text(b, part->on_rejected);
    add(b, ")");
}

/* Escaped in a text a payload may need twice its bytes, and the server's limit is on the text: a
 * large one goes alone, as a value. */
static enum obx_code insert_large_part(struct batch *b, struct obx_bytes gid, size_t seq,
                                       const struct half_part *part, struct obx_err *err)
{
    begin(b, INSERT_PART "(?, ?, ?, ");
    add_text_or_default(b, part->message_id);
    add(b, ", ?, ?, ?, ");
    add_text_or_default(b, part->content_type);
    add(b, ", ?, ?, ?)");
    if (b->sql.rc != OBX_OK)
        return obx_fail(err, b->sql.rc, "statement of a batch");
    return db_exec(b->db, b->sql.data,
                   DB_ARGS(DB_BYTES(gid), DB_TEXT(half_verdict_name(part->on)), DB_U64(seq),
                           DB_BYTES(part->topic), DB_BYTES(part->ordering_key),
                           DB_BYTES(part->headers), DB_BYTES(part->payload),
                           DB_BYTES(part->receipt_from), DB_BYTES(part->on_rejected)),
                   NULL, err);
}

/* The small ones of all prepares in one statement, the large ones after it. */
static enum obx_code insert_parts(struct batch *b, struct obx_err *err)
{
    const char *comma = "";
    enum obx_code rc = OBX_OK;

    begin(b, INSERT_PART);
    for (size_t i = 0; i < b->count; i++) {
        const struct half_request *req = b->reqs[i];

        for (size_t seq = 0; picks(OPEN_PREPARES, req) && seq < req->part_count; seq++) {
            if (req->parts[seq].payload.len >= LARGE_BYTES)
                continue;
            add(b, comma);
            add_part(b, req->gid, seq, &req->parts[seq]);
            comma = ", ";
        }
    }
    if (*comma != '\0' || b->sql.rc != OBX_OK)
        rc = exec_built(b, NULL, err);
    for (size_t i = 0; i < b->count; i++) {
        const struct half_request *req = b->reqs[i];

        for (size_t seq = 0; rc == OBX_OK && picks(OPEN_PREPARES, req) && seq < req->part_count;
             seq++)
            if (req->parts[seq].payload.len >= LARGE_BYTES)
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

    while (rc == OBX_OK && any(b, OPEN_PREPARES)) {
        rc = insert_messages(b, err);
        if (rc == OBX_OK)
            return insert_parts(b, err);
        if (rc == OBX_E_DB_DUPLICATE)
            rc = for_rows(b, SELECT_RECORDS, OPEN_PREPARES, "", ANSWER, err);
    }
    return rc;
}

/* Verdict */

static bool same_note(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* The same verdict by the same actor with the same note: one statement for all of them. */
static bool is_same_decision(const struct half_request *a, const struct half_request *b)
{
    return picks(DECISIONS, b) && a->verdict == b->verdict && strcmp(a->actor, b->actor) == 0 &&
           same_note(a->note, b->note);
}

/* Decide all that are decided as the request at `first` is; none where an earlier one has done it.
 */
static enum obx_code update_same(struct batch *b, size_t first, struct obx_err *err)
{
    const struct half_request *like = b->reqs[first];
    const char *comma = " WHERE gid IN (";

    for (size_t i = 0; i < first; i++)
        if (is_same_decision(like, b->reqs[i]))
            return OBX_OK;
    begin(b, "UPDATE half_message FORCE INDEX (PRIMARY) SET next_check_at = NULL, "
             "decided_at = UTC_TIMESTAMP(6), decided_by = ");
    add_text(b, bytes_of(like->actor));
    add(b, ", state = ");
    add_text(b, bytes_of(half_state_name(half_state_after(like->verdict))));
    if (like->note != NULL) {
        add(b, ", note = ");
        add_text(b, bytes_of(like->note));
    }
    for (size_t i = first; i < b->count; i++) {
        if (!is_same_decision(like, b->reqs[i]))
            continue;
        add(b, comma);
        add_text(b, b->reqs[i]->gid);
        comma = ", ";
    }
    add(b, ")");
    return exec_built(b, NULL, err);
}

/* The chosen parts become outbox rows, in the order in which they were prepared. */
static enum obx_code move_parts(struct batch *b, enum pick pick, enum half_verdict verdict,
                                struct obx_err *err)
{
    uint64_t moved = 0;
    enum obx_code rc;

    if (!any(b, pick))
        return OBX_OK;
    begin(b, "INSERT INTO ");
    (void)db_add_identifier(&b->sql, b->outbox);
    add(b, " (" MESSAGE_COLUMNS ") SELECT " MESSAGE_COLUMNS " FROM half_part WHERE gid IN ");
    add_gids(b, pick);
    buf_addf(&b->sql, " AND verdict = '%s' ORDER BY gid, seq", half_verdict_name(verdict));
    rc = exec_built(b, &moved, err);
    if (rc == OBX_OK && moved > 0)
        b->outbox_rows = true;
    return rc;
}

static enum obx_code decide(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (!any(b, DECISIONS))
        return OBX_OK;
    for (size_t i = 0; rc == OBX_OK && i < b->count; i++)
        if (picks(DECISIONS, b->reqs[i]))
            rc = update_same(b, i, err);
    if (rc == OBX_OK)
        rc = move_parts(b, COMMITS, HALF_COMMIT, err);
    if (rc == OBX_OK)
        rc = move_parts(b, ROLLBACKS, HALF_ROLLBACK, err);
    if (rc != OBX_OK)
        return rc;
    begin(b, "DELETE p FROM half_part p FORCE INDEX (PRIMARY) WHERE p.gid IN ");
    add_gids(b, DECISIONS);
    return exec_built(b, NULL, err);
}

static enum obx_code write_history(struct batch *b, struct obx_err *err)
{
    const char *comma = "";
    /* A caller may repeat a conflict without end; the first few of a half-message say all there
     * is. The metric counts each. */
    enum obx_code rc =
        for_rows(b, "SELECT gid FROM half_history WHERE event = 'conflict' AND gid IN ", CONFLICTS,
                 " GROUP BY gid HAVING COUNT(*) >= " CONFLICTS_KEPT, KNOWN_CONFLICT, err);

    if (rc != OBX_OK || !any(b, MEMORABLE))
        return rc;
    begin(b, "INSERT INTO half_history (gid, event, actor, detail) VALUES ");
    for (size_t i = 0; i < b->count; i++) {
        const struct half_request *req = b->reqs[i];

        if (!picks(MEMORABLE, req))
            continue;
        add(b, comma);
        add(b, "(");
        add_text(b, req->gid);
        add(b, req->answer == HALF_ANS_CONFLICT ? ", 'conflict', " : ", 'verdict', ");
        add_text(b, bytes_of(req->actor));
        add(b, ", CONCAT_WS(': ', ");
        add_text(b, bytes_of(half_verdict_name(req->verdict)));
        add(b, ", ");
        add_text(b, bytes_of(req->note));
        add(b, "))");
        comma = ", ";
    }
    return exec_built(b, NULL, err);
}

static enum obx_code run_verdicts(struct batch *b, struct obx_err *err)
{
    enum obx_code rc =
        for_rows(b, SELECT_RECORDS, VERDICTS, " ORDER BY gid FOR UPDATE SKIP LOCKED", ANSWER, err);

    if (rc == OBX_OK)
        rc =
            for_rows(b, "SELECT gid FROM half_message WHERE gid IN ", OPEN_VERDICTS, "", HELD, err);
    if (rc == OBX_OK)
        rc = decide(b, err);
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

/* What the caller learns of what this transaction has made */

/* The transaction */

static enum obx_code run_statements(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = run_lists(b, err); /* first: no row is locked yet */

    if (rc == OBX_OK)
        rc = run_prepares(b, err);
    if (rc == OBX_OK)
        rc = run_verdicts(b, err);
    if (rc == OBX_OK)
        rc = for_rows(b, SELECT_RECORDS, LOOKUPS, "", ANSWER, err);
    if (rc == OBX_OK) /* the times are the database's: they are read back, not guessed */
        rc = for_rows(b, SELECT_RECORDS, FRESH, "", RECORD, err);
    if (rc == OBX_OK)
        rc = for_rows(b, "SELECT gid, verdict, message_id FROM half_part WHERE gid IN ",
                      WANTING_IDS, " ORDER BY gid, verdict, seq", AN_ID, err);
    return rc;
}

static enum obx_code run_once(struct batch *b, struct obx_err *err)
{
    enum obx_code rc;

    b->outbox_rows = false;
    for (size_t i = 0; i < b->count; i++) { /* of a try before this one */
        b->reqs[i]->is_answered = false;
        b->reqs[i]->id_count = 0;
        b->reqs[i]->is_known_conflict = false;
        memset(&b->reqs[i]->rec, 0, sizeof(b->reqs[i]->rec));
    }
    rc = db_begin(b->db, err);
    if (rc == OBX_OK)
        rc = run_statements(b, err);
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

        if (picks(OPEN_PREPARES, req))
            answer(req, HALF_ANS_OK, false);
        else if (!req->is_answered)
            answer(req, HALF_ANS_NOT_FOUND, false);
    }
}

/* why: of HALF_ANS_FAILED; else NULL. */
static void answer_all(struct batch *b, enum half_answer what, const struct obx_err *why)
{
    for (size_t i = 0; i < b->count; i++) {
        answer(b->reqs[i], what, false);
        if (why != NULL)
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

/* A statement that the server refuses (a value that does not fit, say) or that waited for a lock
 * names no request: run them one by one. */
static enum obx_code run_apart(struct batch *b, struct obx_err *err)
{
    struct batch one = {.db = b->db, .outbox = b->outbox, .count = 1};
    enum obx_code rc = OBX_OK;
    unsigned waits = 0;

    b->outbox_rows = false; /* what the whole batch has made is undone */
    for (size_t i = 0; i < b->count; i++) {
        struct batch rest = {.reqs = &b->reqs[i], .count = b->count - i};

        if (waits == WAITS_MAX) {
            answer_all(&rest, HALF_ANS_BUSY, NULL);
            rc = OBX_OK;
            break;
        }
        one.reqs = rest.reqs;
        rc = run_with_retries(&one, err);
        waits = rc == OBX_E_DB_LOCK_WAIT ? waits + 1 : 0;
        if (!connection_is_sound(rc)) {
            answer_all(&rest, HALF_ANS_FAILED, err);
            break;
        }
        b->outbox_rows = b->outbox_rows || (rc == OBX_OK && one.outbox_rows);
        if (rc == OBX_OK)
            finish(&one);
        else if (rc == OBX_E_DB_LOCK_WAIT)
            answer_all(&one, HALF_ANS_BUSY, NULL);
        else
            answer_all(&one, HALF_ANS_FAILED, err);
        rc = OBX_OK;
    }
    buf_fini(&one.sql);
    return rc;
}

/* Before the transaction, so that nothing is undone by a wait and no lock is kept. */

/* Whether all rows that would be waited for can be locked at once; OBX_E_DB_LOCK_WAIT when not. */
static enum obx_code probe(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = for_rows(b, "SELECT gid FROM half_message WHERE gid IN ", PREPARES,
                                " FOR UPDATE NOWAIT", NOTHING, err);

    return rc != OBX_OK ? rc
                        : for_rows(b, "SELECT gid FROM half_part WHERE gid IN ", VERDICTS,
                                   " FOR UPDATE NOWAIT", NOTHING, err);
}

/* Put those whose rows are held after the others, with their answer; b->count is what is left. */
static enum obx_code set_held_apart(struct batch *b, struct obx_err *err)
{
    struct batch one = {.db = b->db, .count = 1};
    enum obx_code rc = probe(b, err);

    if (rc != OBX_E_DB_LOCK_WAIT)
        return rc;
    rc = OBX_OK;
    for (size_t i = b->count; rc == OBX_OK && i-- > 0;) {
        struct half_request *req = b->reqs[i];

        one.reqs = &b->reqs[i];
        rc = probe(&one, err);
        if (rc == OBX_E_DB_LOCK_WAIT) {
            answer(req, HALF_ANS_BUSY, false);
            b->reqs[i] = b->reqs[--b->count];
            b->reqs[b->count] = req;
            rc = OBX_OK;
        }
    }
    buf_fini(&one.sql);
    if (rc == OBX_OK)
        obx_err_clear(err);
    return rc;
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
        answer_all(&b, HALF_ANS_FAILED, &own);
    *outbox_rows = b.outbox_rows;
    buf_fini(&b.sql);
    if (rc != OBX_OK && err != NULL)
        *err = own;
    return rc;
}
