/*
 * The statements of a batch of half-message requests: everything in one transaction.
 *
 * Invariants: a verdict changes a row only under its lock and only from prepared or parked; in the
 * same transaction the chosen parts become outbox rows and all parts go. Requests of a batch have
 * distinct gids, and rows are locked in the order of gid, so that two batches do not deadlock with
 * each other. Called by the store's workers and by outboxctl.
 *
 * A transaction is three round trips, however many requests share it: what it reads and locks, what
 * it writes, COMMIT. Times are the database's of its begin, read once, and the ids of new messages
 * are made here, so that nothing that was written is read back. See docs/adr/0032-half-throughput.md.
 *
 * Nobody waits for a row that somebody else holds: an application's transaction that hangs would
 * hold up every caller. Rows of verdicts are locked with SKIP LOCKED; where an INSERT or a DELETE
 * would wait (a prepare of the same gid by SQL, a part), a probe with NOWAIT comes first. What is
 * held is answered HALF_ANS_BUSY. Proved by half_store_test (a_held_row_holds_up_no_other).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/random.h"
#include "half/half.h"
#include "half_record.h"
#include "tables/outbox_columns.h"

#define BATCH_TRIES    6    /* of a transaction that met a deadlock */
#define CONFLICTS_KEPT "10" /* rows of half_history of one half-message */
#define WAITS_MAX      2 /* lock waits in a row, one by one: then it is not the row that is held */
#define ROW_WAIT_MS    500
#define STEPS_MAX      24
#define STEPS_BYTES    ((size_t)1024 * 1024) /* gathered statements are sent before they grow larger */
#define LARGE_BYTES                                                                                \
    ((size_t)256 * 1024) /* a payload that is sent as a value, not written into a text */

#define SELECT_RECORDS "SELECT " HALF_RECORD_COLUMNS " FROM half_message WHERE gid IN "

/* What a row says about the request of its gid. */
enum take {
    NOTHING,
    ANSWER, /* the record, and by it the answer */
    HELD,   /* it is there, although it could not be read under a lock: somebody holds it */
    KNOWN_CONFLICT,
    AN_ID, /* of one of its messages */
    CLOCK, /* the database's time, and how many of the prepares are there already */
    MOVED, /* rows into the outbox */
};

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
    WANTING_IDS, /* of a repeated prepare or a look-up that is not decided */
    NOBODY,
};

struct batch {
    struct db *db;
    const char *outbox;
    struct half_request **reqs; /* in the order of their gids */
    size_t count;
    /* The statements in the making, and what is to be done with what each of them gives. */
    struct obx_buf sql;
    struct {
        enum take what;
        enum pick pick;
    } steps[STEPS_MAX];
    size_t step_count;
    uint64_t now_us;  /* the database's, at the begin of the transaction */
    uint64_t present; /* prepares whose gid was there then */
    uint64_t random;  /* of the ids that this transaction makes */
    uint32_t ids_made;
    bool is_probing; /* the statements that fail at once where a row is held */
    bool outbox_rows;
};

/* ---- statements in the making: the first append that failed sticks to the buffer ---- */

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

static void add_time(struct batch *b, uint64_t us)
{
    const time_t seconds = (time_t)(us / 1000000);
    char text[48];
    struct tm tm;

    if (gmtime_r(&seconds, &tm) == NULL || strftime(text, sizeof(text), "'%F %T", &tm) == 0)
        b->sql.rc = OBX_E_INVALID; /* a year that no calendar has */
    else
        buf_addf(&b->sql, "%s.%06u'", text, (unsigned)(us % 1000000));
}

static bool is_undecided(const struct half_request *req)
{
    return req->rec.state == HALF_PREPARED || req->rec.state == HALF_PARKED;
}

static bool picks(enum pick pick, const struct half_request *req)
{
    const bool is_prepare = req->kind == HALF_REQ_PREPARE;
    const bool is_verdict = req->kind == HALF_REQ_VERDICT;
    const bool is_ok = req->is_answered && req->answer == HALF_ANS_OK;
    const bool is_decision = is_verdict && is_ok && !req->is_repeat;
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
    case WANTING_IDS:
        return req->wants_ids && is_ok && !is_verdict && is_undecided(req);
    case NOBODY:
        break;
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

static int compare_gids(struct obx_bytes a, struct obx_bytes b)
{
    const size_t len = a.len < b.len ? a.len : b.len;
    const int order = len == 0 ? 0 : memcmp(a.p, b.p, len);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_requests(const void *a, const void *b)
{
    return compare_gids((*(struct half_request *const *)a)->gid,
                        (*(struct half_request *const *)b)->gid);
}

static struct half_request *find(const struct batch *b, enum pick pick, struct obx_bytes gid)
{
    size_t low = 0, high = b->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = compare_gids(gid, b->reqs[middle]->gid);

        if (order == 0)
            return picks(pick, b->reqs[middle]) ? b->reqs[middle] : NULL;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* "(gid, gid, ...)" of those picked. */
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

/* ---- steps: statements that are gathered, and run together ---- */

static enum obx_code take_rows(struct batch *b, size_t step, struct db_step *result,
                               struct obx_err *err);

static void begin(struct batch *b, const char *text)
{
    if (b->step_count > 0)
        add(b, ";");
    add(b, text);
}

static void end(struct batch *b, enum take what, enum pick pick)
{
    b->steps[b->step_count].what = what;
    b->steps[b->step_count].pick = pick;
    b->step_count++;
}

/* Run what was gathered, and take what it gives. */
static enum obx_code run(struct batch *b, struct obx_err *err)
{
    struct db_step results[STEPS_MAX];
    const size_t count = b->step_count;
    size_t done = 0;
    enum obx_code rc = OBX_OK;

    if (b->sql.rc != OBX_OK)
        rc = obx_fail(err, b->sql.rc, "statement of a batch");
    else if (count > 0)
        rc = db_run_steps(b->db, buf_bytes(&b->sql), results, count, &done, err);
    for (size_t i = 0; i < done; i++) {
        if (rc == OBX_OK)
            rc = take_rows(b, i, &results[i], err);
        db_rows_free(results[i].rows);
    }
    buf_reset(&b->sql);
    b->step_count = 0;
    return rc;
}

/* Between two statements, so that a text stays within what the server takes at once. */
static enum obx_code run_when_large(struct batch *b, struct obx_err *err)
{
    return b->sql.len > STEPS_BYTES || b->step_count > STEPS_MAX / 2 ? run(b, err) : OBX_OK;
}

/* "head (gids of those picked) tail". Nothing is asked when nothing is picked. */
static void gather(struct batch *b, const char *head, enum pick pick, const char *tail,
                   enum take what)
{
    if (!any(b, pick))
        return;
    begin(b, head);
    add_gids(b, pick);
    add(b, tail);
    end(b, what, pick);
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
        if (is_undecided(req))
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

/* Room for one more id; NULL where there is none. */
static struct half_id *next_id(struct half_request *req)
{
    const size_t room = req->kind == HALF_REQ_PREPARE ? req->part_count : HALF_PARTS_ALL;

    if (req->ids == NULL)
        req->ids = obx_calloc(room, sizeof(*req->ids));
    return req->ids == NULL || req->id_count == room ? NULL : &req->ids[req->id_count++];
}

static enum obx_code take_id(struct half_request *req, const struct db_rows *rows,
                             struct obx_err *err)
{
    struct half_id *id = next_id(req);

    if (id == NULL) /* by SQL there may be more than ours have */
        return req->ids == NULL ? obx_fail(err, OBX_E_NOMEM, "ids of a half-message") : OBX_OK;
    id->on = bytes_is(db_rows_bytes(rows, 1), half_verdict_name(HALF_COMMIT)) ? HALF_COMMIT
                                                                              : HALF_ROLLBACK;
    (void)bytes_to_text(db_rows_bytes(rows, 2), id->message_id, sizeof(id->message_id));
    return OBX_OK;
}

static enum obx_code take_row(enum take what, struct half_request *req, const struct db_rows *rows,
                              struct obx_err *err)
{
    switch (what) {
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
    case CLOCK:
    case MOVED:
        break;
    }
    return OBX_OK;
}

static enum obx_code take_rows(struct batch *b, size_t step, struct db_step *result,
                               struct obx_err *err)
{
    const enum take what = b->steps[step].what;
    enum obx_code rc = OBX_OK;

    if (what == MOVED && result->affected > 0)
        b->outbox_rows = true;
    if (result->rows == NULL)
        return OBX_OK;
    while (rc == OBX_OK && db_rows_next(result->rows)) {
        struct half_request *req;

        if (what == CLOCK) {
            b->now_us = db_rows_u64(result->rows, 0);
            b->present = db_rows_u64(result->rows, 1);
            continue;
        }
        req = find(b, b->steps[step].pick, db_rows_bytes(result->rows, HALF_COLUMN_GID));
        if (req != NULL)
            rc = take_row(what, req, result->rows, err);
    }
    return rc;
}

/* ---- what a transaction reads and locks ---- */

#define CLOCK_US "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"

/* Lock what would be waited for later, or fail at once: the rows of gids that are to be prepared,
 * which are there only for repeats, and the parts of those that get their verdict. */
static void gather_probes(struct batch *b)
{
    if (any(b, PREPARES))
        gather(b,
               "SELECT " CLOCK_US
               ", COUNT(*) FROM half_message FORCE INDEX (PRIMARY) WHERE gid IN ",
               PREPARES, " FOR UPDATE NOWAIT", CLOCK);
    else {
        begin(b, "SELECT " CLOCK_US ", 0");
        end(b, CLOCK, NOBODY);
    }
    gather(b, "SELECT COUNT(*) FROM half_part FORCE INDEX (PRIMARY) WHERE gid IN ", VERDICTS,
           " FOR UPDATE NOWAIT", NOTHING);
}

static enum obx_code read_all(struct batch *b, struct obx_err *err)
{
    enum obx_code rc;

    b->is_probing = true;
    begin(b, "START TRANSACTION");
    end(b, NOTHING, NOBODY);
    gather_probes(b);
    gather(b, SELECT_RECORDS, VERDICTS, " ORDER BY gid FOR UPDATE SKIP LOCKED", ANSWER);
    gather(b, SELECT_RECORDS, LOOKUPS, "", ANSWER);
    rc = run(b, err);
    if (rc != OBX_OK)
        return rc;
    b->is_probing = false;
    /* What few transactions need. */
    if (b->present > 0)
        gather(b, SELECT_RECORDS, OPEN_PREPARES, "", ANSWER);
    gather(b, "SELECT gid FROM half_message WHERE gid IN ", OPEN_VERDICTS, "", HELD);
    /* A caller may repeat a conflict without end; the first few of a half-message say all there
     * is. The metric counts each. */
    gather(b, "SELECT gid FROM half_history WHERE event = 'conflict' AND gid IN ", CONFLICTS,
           " GROUP BY gid HAVING COUNT(*) >= " CONFLICTS_KEPT, KNOWN_CONFLICT);
    return run(b, err);
}

/* ---- prepares ---- */

/* As the column's default makes it (sql/schema): UUID version 7 by the database's time. Its 60
 * random bits are drawn once for a transaction, and counted on, so that ids stay in order. */
static void make_id(struct batch *b, char id[HALF_MESSAGE_ID_MAX + 1])
{
    const uint64_t ms = b->now_us / 1000;
    const uint32_t next = (uint32_t)(b->random >> 32) + b->ids_made++;

    snprintf(id, HALF_MESSAGE_ID_MAX + 1, "%08" PRIx32 "-%04x-7%03x-a%03x-%05x%07x",
             (uint32_t)(ms >> 16), (unsigned)(ms & 0xffff), (unsigned)(b->now_us % 1000 * 4),
             (unsigned)(next >> 20), (unsigned)(next & 0xfffff), (unsigned)(b->random & 0xfffffff));
}

static enum obx_code make_ids(struct batch *b, struct half_request *req, struct obx_err *err)
{
    req->id_count = 0;
    for (size_t i = 0; i < req->part_count; i++) {
        struct half_id *id = next_id(req);

        if (id == NULL)
            return obx_fail(err, OBX_E_NOMEM, "ids of a half-message");
        id->on = req->parts[i].on;
        if (bytes_is_absent(req->parts[i].message_id))
            make_id(b, id->message_id);
        else
            (void)bytes_to_text(req->parts[i].message_id, id->message_id, sizeof(id->message_id));
    }
    return OBX_OK;
}

static void gather_messages(struct batch *b)
{
    const char *comma = "";

    begin(b,
          "INSERT INTO half_message (gid, producer, digest, prepared_at, next_check_at) VALUES ");
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
        add(b, ", ");
        add_time(b, b->now_us);
        add(b, ", ");
        add_time(b, b->now_us + req->first_check_ms * 1000ULL);
        add(b, ")");
        comma = ", ";
    }
    end(b, NOTHING, NOBODY);
}

#define INSERT_PART "INSERT INTO half_part (gid, verdict, seq, " MESSAGE_COLUMNS ") VALUES "

static void add_part(struct batch *b, const struct half_request *req, size_t seq)
{
    const struct half_part *part = &req->parts[seq];

    add(b, "(");
    add_text(b, req->gid);
    buf_addf(&b->sql, ", '%s', %zu, ", half_verdict_name(part->on), seq);
    add_text(b, bytes_of(req->ids[seq].message_id));
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

static void gather_parts(struct batch *b)
{
    const char *comma = INSERT_PART;

    if (b->step_count > 0)
        comma = ";" INSERT_PART;
    for (size_t i = 0; i < b->count; i++) {
        const struct half_request *req = b->reqs[i];

        for (size_t seq = 0; picks(OPEN_PREPARES, req) && seq < req->part_count; seq++) {
            if (req->parts[seq].payload.len >= LARGE_BYTES)
                continue;
            add(b, comma);
            add_part(b, req, seq);
            comma = ", ";
        }
    }
    if (comma[0] == ',')
        end(b, NOTHING, NOBODY);
}

/* Escaped in a text a payload may need twice its bytes, and the server's limit is on the text: a
 * large one goes alone, as a value. */
static enum obx_code insert_large_part(struct batch *b, const struct half_request *req, size_t seq,
                                       struct obx_err *err)
{
    const struct half_part *part = &req->parts[seq];
    struct obx_buf sql = {0};
    enum obx_code rc;

    buf_add_text(&sql, INSERT_PART "(?, ?, ?, ?, ?, ?, ?, ");
    if (bytes_is_absent(part->content_type))
        buf_add_text(&sql, "DEFAULT");
    else
        (void)db_add_literal(b->db, &sql, part->content_type);
    rc = buf_add_text(&sql, ", ?, ?, ?)");
    rc = rc != OBX_OK ? obx_fail(err, rc, "statement of a batch")
                      : db_exec(b->db, sql.data,
                                DB_ARGS(DB_BYTES(req->gid), DB_TEXT(half_verdict_name(part->on)),
                                        DB_U64(seq), DB_TEXT(req->ids[seq].message_id),
                                        DB_BYTES(part->topic), DB_BYTES(part->ordering_key),
                                        DB_BYTES(part->headers), DB_BYTES(part->payload),
                                        DB_BYTES(part->receipt_from), DB_BYTES(part->on_rejected)),
                                NULL, err);
    buf_fini(&sql);
    return rc;
}

static enum obx_code insert_large_parts(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < b->count; i++) {
        const struct half_request *req = b->reqs[i];

        for (size_t seq = 0; rc == OBX_OK && picks(OPEN_PREPARES, req) && seq < req->part_count;
             seq++)
            if (req->parts[seq].payload.len >= LARGE_BYTES)
                rc = insert_large_part(b, req, seq, err);
    }
    return rc;
}

/* ---- verdicts ---- */

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* The same verdict by the same actor with the same note: one statement for all of them. */
static bool is_same_decision(const struct half_request *a, const struct half_request *b)
{
    return picks(DECISIONS, b) && a->verdict == b->verdict && same_text(a->actor, b->actor) &&
           same_text(a->note, b->note);
}

/* Decide all that are decided as the request at `first` is; none where an earlier one has done it.
 */
static void gather_same(struct batch *b, size_t first)
{
    const struct half_request *like = b->reqs[first];
    const char *comma = " WHERE gid IN (";

    for (size_t i = 0; i < first; i++)
        if (is_same_decision(like, b->reqs[i]))
            return;
    begin(b, "UPDATE half_message FORCE INDEX (PRIMARY) SET next_check_at = NULL, decided_at = ");
    add_time(b, b->now_us);
    add(b, ", decided_by = ");
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
    end(b, NOTHING, NOBODY);
}

/* The chosen parts become outbox rows, in the order in which they were prepared. */
static void gather_move(struct batch *b, enum pick pick, enum half_verdict verdict)
{
    if (!any(b, pick))
        return;
    begin(b, "INSERT INTO ");
    (void)db_add_identifier(&b->sql, b->outbox);
    add(b, " (" MESSAGE_COLUMNS ") SELECT " MESSAGE_COLUMNS " FROM half_part WHERE gid IN ");
    add_gids(b, pick);
    buf_addf(&b->sql, " AND verdict = '%s' ORDER BY gid, seq", half_verdict_name(verdict));
    end(b, MOVED, NOBODY);
}

static enum obx_code gather_decisions(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; rc == OBX_OK && i < b->count; i++) {
        if (!picks(DECISIONS, b->reqs[i]))
            continue;
        gather_same(b, i);
        rc = run_when_large(b, err);
    }
    if (rc != OBX_OK)
        return rc;
    gather_move(b, COMMITS, HALF_COMMIT);
    gather_move(b, ROLLBACKS, HALF_ROLLBACK);
    gather(b, "DELETE p FROM half_part p FORCE INDEX (PRIMARY) WHERE p.gid IN ", DECISIONS, "",
           NOTHING);
    return OBX_OK;
}

static void gather_history(struct batch *b)
{
    const char *comma = "";

    if (!any(b, MEMORABLE))
        return;
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
    end(b, NOTHING, NOBODY);
}

/* ---- the transaction ---- */

static enum obx_code write_prepares(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (!any(b, OPEN_PREPARES))
        return OBX_OK;
    b->random = random_u64();
    b->ids_made = 0;
    for (size_t i = 0; rc == OBX_OK && i < b->count; i++)
        if (picks(OPEN_PREPARES, b->reqs[i]))
            rc = make_ids(b, b->reqs[i], err);
    if (rc != OBX_OK)
        return rc;
    gather_messages(b);
    gather_parts(b);
    return run_when_large(b, err);
}

static enum obx_code write_all(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = write_prepares(b, err);

    if (rc == OBX_OK)
        rc = gather_decisions(b, err);
    if (rc == OBX_OK) {
        gather_history(b);
        gather(b, "SELECT gid, verdict, message_id FROM half_part WHERE gid IN ", WANTING_IDS,
               " ORDER BY gid, verdict, seq", AN_ID);
        rc = run(b, err);
    }
    return rc == OBX_OK ? insert_large_parts(b, err) : rc;
}

static void reset(struct batch *b)
{
    b->outbox_rows = false;
    b->now_us = b->present = 0;
    b->step_count = 0;
    buf_reset(&b->sql);
    for (size_t i = 0; i < b->count; i++) { /* of a try before this one */
        b->reqs[i]->is_answered = b->reqs[i]->kind == HALF_REQ_LIST;
        b->reqs[i]->id_count = 0;
        b->reqs[i]->is_known_conflict = false;
        memset(&b->reqs[i]->rec, 0, sizeof(b->reqs[i]->rec));
    }
}

static enum obx_code run_once(struct batch *b, struct obx_err *err)
{
    enum obx_code rc;

    reset(b);
    rc = read_all(b, err);
    if (rc == OBX_OK)
        rc = write_all(b, err);
    if (rc != OBX_OK)
        return rc;
    OBX_CRASH_POINT("half-before-commit");
    rc = db_commit(b->db, err);
    if (rc == OBX_OK)
        OBX_CRASH_POINT("half-committed");
    return rc;
}

/* What the row of a new half-message says. */
static void record_prepare(const struct batch *b, struct half_request *req)
{
    req->rec.state = HALF_PREPARED;
    (void)bytes_to_text(req->producer, req->rec.producer, sizeof(req->rec.producer));
    req->rec.prepared_us = b->now_us;
    req->rec.next_check_us = b->now_us + req->first_check_ms * 1000ULL;
}

static void record_decision(const struct batch *b, struct half_request *req)
{
    req->rec.state = half_state_after(req->verdict);
    req->rec.decided_us = b->now_us;
    req->rec.next_check_us = 0;
    (void)bytes_to_text(bytes_of(req->actor), req->rec.decided_by, sizeof(req->rec.decided_by));
    if (req->note != NULL)
        (void)bytes_to_text(bytes_of(req->note), req->rec.note, sizeof(req->rec.note));
}

/* After the commit: a prepare without an answer is new, anything else was not found. */
static void finish(struct batch *b)
{
    for (size_t i = 0; i < b->count; i++) {
        struct half_request *req = b->reqs[i];

        if (picks(OPEN_PREPARES, req)) {
            answer(req, HALF_ANS_OK, false);
            record_prepare(b, req);
        } else if (picks(DECISIONS, req)) {
            record_decision(b, req);
        } else if (!req->is_answered) {
            answer(req, HALF_ANS_NOT_FOUND, false);
        }
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
    bool was_duplicate = false;

    for (int tries = 0; tries < BATCH_TRIES; tries++) {
        obx_err_clear(err);
        rc = run_once(b, err);
        if (rc == OBX_OK || !connection_is_sound(rc))
            return rc;
        if (db_rollback(b->db, NULL) != OBX_OK)
            return obx_fail(err, OBX_E_DB_GONE, "rollback of a batch failed");
        /* A gid that appeared after the probe makes a duplicate once, and is found by the next one;
         * parts that are there without a half-message make one again and again. */
        if (rc != OBX_E_DB_DEADLOCK && (rc != OBX_E_DB_DUPLICATE || was_duplicate))
            return rc;
        was_duplicate = was_duplicate || rc == OBX_E_DB_DUPLICATE;
    }
    return rc;
}

/* Whether a lock wait is none of a row, for which nobody waits longer than this: the whole table is
 * locked (DDL, a backup), and each further request would wait as long. */
static bool is_of_the_table(uint64_t since_ms)
{
    return clock_now_ms() - since_ms >= ROW_WAIT_MS;
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
        const uint64_t since_ms = clock_now_ms();

        if (waits == WAITS_MAX) {
            answer_all(&rest, HALF_ANS_BUSY, NULL);
            rc = OBX_OK;
            break;
        }
        one.reqs = rest.reqs;
        rc = run_with_retries(&one, err);
        waits = rc != OBX_E_DB_LOCK_WAIT ? 0 : waits + is_of_the_table(since_ms);
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

/* A probe has found a row that somebody holds: put those whose rows are held after the others, with
 * their answer; b->count is what is left. */
static enum obx_code set_held_apart(struct batch *b, struct obx_err *err)
{
    struct batch one = {.db = b->db, .count = 1};
    enum obx_code rc = OBX_OK;
    unsigned waits = 0;

    for (size_t i = b->count; rc == OBX_OK && i-- > 0;) {
        struct half_request *req = b->reqs[i];
        const uint64_t since_ms = clock_now_ms();

        one.reqs = &b->reqs[i];
        reset(&one);
        gather_probes(&one);
        rc = waits == WAITS_MAX ? OBX_E_DB_LOCK_WAIT : run(&one, err);
        if (rc != OBX_E_DB_LOCK_WAIT)
            continue;
        if (waits < WAITS_MAX)
            waits += is_of_the_table(since_ms);
        answer(req, HALF_ANS_BUSY, false);
        b->reqs[i] = b->reqs[--b->count];
        b->reqs[b->count] = req;
        rc = OBX_OK;
    }
    buf_fini(&one.sql);
    qsort(b->reqs, b->count, sizeof(struct half_request *), compare_requests);
    if (rc == OBX_OK)
        obx_err_clear(err);
    return rc;
}

/* Before the transaction, so that a page that is read in a long list holds up no row. One that fails
 * fails alone. */
static enum obx_code run_lists(struct batch *b, struct obx_err *err)
{
    for (size_t i = 0; i < b->count; i++) {
        struct half_request *req = b->reqs[i];
        enum obx_code rc;

        if (req->kind != HALF_REQ_LIST)
            continue;
        rc = half_list_run(b->db, req->list, err);
        if (!connection_is_sound(rc))
            return rc;
        answer(req, rc == OBX_OK ? HALF_ANS_OK : HALF_ANS_FAILED, false);
        if (rc != OBX_OK)
            req->err = *err;
        obx_err_clear(err);
    }
    return OBX_OK;
}

static enum obx_code run_all(struct batch *b, struct obx_err *err)
{
    enum obx_code rc = run_lists(b, err);
    bool is_more = false;

    for (size_t i = 0; i < b->count; i++)
        is_more = is_more || b->reqs[i]->kind != HALF_REQ_LIST;
    if (rc != OBX_OK || !is_more)
        return rc;
    qsort(b->reqs, b->count, sizeof(struct half_request *), compare_requests);
    rc = run_with_retries(b, err);
    if (rc == OBX_E_DB_LOCK_WAIT && b->is_probing) {
        rc = set_held_apart(b, err);
        if (rc == OBX_OK && b->count > 0)
            rc = run_with_retries(b, err);
    }
    return rc;
}

enum obx_code half_batch_run(struct db *db, const char *outbox, struct half_request **reqs,
                             size_t count, bool *outbox_rows, struct obx_err *err)
{
    struct batch b = {.db = db, .outbox = outbox, .reqs = reqs, .count = count};
    struct obx_err own = {0};
    enum obx_code rc = run_all(&b, &own);

    if (rc == OBX_OK)
        finish(&b);
    else if (connection_is_sound(rc))
        rc = run_apart(&b, &own);
    else
        answer_all(&b, HALF_ANS_FAILED, &own);
    *outbox_rows = b.outbox_rows;
    buf_fini(&b.sql);
    for (size_t i = 0; i < count; i++) {
        if (reqs[i]->wants_ids)
            continue;
        obx_free(reqs[i]->ids); /* they were made for the statements alone */
        reqs[i]->ids = NULL;
        reqs[i]->id_count = 0;
    }
    if (rc != OBX_OK && err != NULL)
        *err = own;
    return rc;
}
