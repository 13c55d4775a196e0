/*
 * How rows are taken up. First a probe, without locks, at the head of the index of due times; then
 * one transaction that locks what was chosen, by primary key, and writes what becomes of it.
 *
 * A claim that stands when its row is due again is that of a process which has not been heard of
 * since: it may have died of this very message. If several messages shared the claim, the attempt
 * is charged to none of them; each is tried again in a claim, and a transaction, of its own. If it
 * was alone, the attempt counts. So a message that kills its process uses up its attempts, and
 * costs those beside it none.
 */
#include "due.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/bytes.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/random.h"
#include "store/parked_db.h"
#include "store/parked_item.h"
#include "tables/audit.h"
#include "tables/outbox_columns.h"

enum {
    CLAIM_MIN_MS = 1000,   /* a claim is not looked at again earlier */
    LETTER_MS = 60 * 1000, /* neither is a dead letter on its way */
    US_PER_MS = 1000,
    FREE_KEYS = 500, /* looked at in one round */
    HOLDS_MAX = 64,
    NOTE_MAX = 256,
    REQUEST_AGAIN_MS = 1000,
    UNREADABLE_MS = 10 * 1000,
};

#define DIED "the attempt was not heard of again: its process ended in it, or lost its database"

/* What the probe says of one row. */
struct probe {
    uint64_t id;
    uint64_t size;
    bool is_waiting;
    bool is_in_doubt;
    struct obx_bytes key; /* borrowed from the rows */
};

/* A row to be locked. Those of one chain are a head and its followers, in order. */
struct chosen {
    uint64_t id;
    size_t chain;
    bool is_taken;
};

struct take {
    struct db *db;
    const struct due_opts *opts;
    struct due_taken *taken;
    struct obx_err *err;
    struct obx_buf ids; /* "1,2,3": what is locked */
    size_t id_count;
    struct chosen *chosen; /* the same, id_count of them */
    size_t chains;
    uint64_t bytes;
    bool is_alone;
    struct obx_buf claims;  /* of these, what is claimed */
    struct obx_buf letters; /* and what is set out as a dead letter */
    struct obx_buf rest;    /* and what was due for nothing */
    struct obx_buf sql;
    uint64_t claim;
    uint32_t claim_wait_ms;
};

/* ------------------------------------------------------------------ the probe */

#define PROBE_COLUMNS                                                                              \
    "id, size, state = 'waiting', claim <> 0, ordering_key, next_at <= UTC_TIMESTAMP(6), "         \
    "GREATEST(TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), next_at), 0)"

#define PROBE                                                                                      \
    "SELECT " PROBE_COLUMNS                                                                        \
    " FROM inbox_parked FORCE INDEX (parked_due) WHERE consumer_group = ? "                        \
    "AND next_at IS NOT NULL AND lane % ? = ? "

enum { PROBE_ID, PROBE_SIZE, PROBE_WAITING, PROBE_DOUBT, PROBE_KEY, PROBE_IS_DUE, PROBE_LEFT_US };

static enum obx_code find_due(const struct take *take, struct db_rows **rows)
{
    const struct due_opts *opts = take->opts;

    return db_query(take->db,
                    opts->takes_letters ? PROBE "ORDER BY next_at LIMIT ?"
                                        : PROBE "AND (state <> 'dead' OR request IS NOT NULL) "
                                                "ORDER BY next_at LIMIT ?",
                    DB_ARGS(DB_TEXT(opts->settings->group), DB_U64(opts->workers),
                            DB_U64(opts->worker), DB_U64(opts->max_rows)),
                    rows, take->err);
}

static bool has_room(const struct take *take, uint64_t size)
{
    return take->id_count == 0 ||
           (take->id_count < take->opts->max_rows && take->bytes + size <= take->opts->max_bytes);
}

static enum obx_code add_id(struct take *take, uint64_t id, uint64_t size)
{
    enum obx_code rc = buf_addf(&take->ids, take->id_count == 0 ? "%" PRIu64 : ",%" PRIu64, id);

    if (rc != OBX_OK)
        return obx_fail(take->err, rc, "list of due rows");
    take->chosen[take->id_count++] = (struct chosen){.id = id, .chain = take->chains};
    take->bytes += size;
    return OBX_OK;
}

#define FOLLOWERS                                                                                  \
    "SELECT id, size, state = 'blocked' AND claim = 0 FROM inbox_parked FORCE INDEX (parked_key) " \
    "WHERE consumer_group = ? AND ordering_key = ? AND id > ? AND %s ORDER BY id LIMIT ?"

/* Those right behind a head, as many as there is room for: they share its batch, in order. */
static enum obx_code add_followers(struct take *take, const struct probe *head)
{
    const struct settings *settings = take->opts->settings;
    struct db_rows *rows = NULL;
    char sql[sizeof(FOLLOWERS) + HOLDS_MAX];
    enum obx_code rc = OBX_OK;

    if (bytes_is_absent(head->key) || take->is_alone || take->id_count >= take->opts->max_rows)
        return OBX_OK;
    (void)snprintf(sql, sizeof(sql), FOLLOWERS, parked_holds(settings));
    rc = db_query(take->db, sql,
                  DB_ARGS(DB_TEXT(settings->group), DB_BYTES(head->key), DB_U64(head->id),
                          DB_U64(take->opts->max_rows - take->id_count)),
                  &rows, take->err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        if (db_rows_u64(rows, 2) == 0 || !has_room(take, db_rows_u64(rows, 1)))
            break;
        rc = add_id(take, db_rows_u64(rows, 0), db_rows_u64(rows, 1));
    }
    db_rows_free(rows);
    return rc;
}

#define LOCK_ONE                                                                                   \
    "SELECT 1 FROM inbox_parked FORCE INDEX (PRIMARY) WHERE id = ? FOR UPDATE SKIP LOCKED"

/*
 * The first due row in doubt that can be locked goes alone; otherwise all due rows that are not in
 * doubt go together. One that somebody holds is passed over, or it would be chosen again and again,
 * and the others with it would wait.
 */
static enum obx_code choose_one(struct take *take, const struct probe *probe)
{
    struct db_rows *rows = NULL;
    bool is_ours = true;
    enum obx_code rc = OBX_OK;

    if (take->is_alone || (probe->is_in_doubt && take->id_count > 0) ||
        !has_room(take, probe->size)) {
        take->taken->next_ms = 0;
        return OBX_OK;
    }
    if (probe->is_in_doubt) {
        /* Its owner may be slow, or stand still, inside the transaction that has it. */
        rc = db_query(take->db, LOCK_ONE, DB_ARGS(DB_U64(probe->id)), &rows, take->err);
        is_ours = rc == OBX_OK && db_rows_next(rows);
        db_rows_free(rows);
    }
    if (rc != OBX_OK || !is_ours)
        return rc;
    take->is_alone = probe->is_in_doubt;
    take->chains++;
    rc = add_id(take, probe->id, probe->size);
    return rc == OBX_OK && probe->is_waiting ? add_followers(take, probe) : rc;
}

static enum obx_code choose(struct take *take)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = find_due(take, &rows);

    take->taken->next_ms = UINT64_MAX;
    take->taken->has_rows = rc == OBX_OK && db_rows_count(rows) > 0;
    while (rc == OBX_OK && db_rows_next(rows)) {
        const struct probe probe = {
            .id = db_rows_u64(rows, PROBE_ID),
            .size = db_rows_u64(rows, PROBE_SIZE),
            .is_waiting = db_rows_u64(rows, PROBE_WAITING) != 0,
            .is_in_doubt = db_rows_u64(rows, PROBE_DOUBT) != 0,
            .key = db_rows_bytes(rows, PROBE_KEY),
        };

        if (db_rows_u64(rows, PROBE_IS_DUE) == 0) {
            if (take->taken->next_ms == UINT64_MAX)
                take->taken->next_ms = db_rows_u64(rows, PROBE_LEFT_US) / US_PER_MS + 1;
            break;
        }
        rc = choose_one(take, &probe);
    }
    if (rc == OBX_OK && db_rows_count(rows) == take->opts->max_rows && take->id_count > 0)
        take->taken->next_ms = 0;
    db_rows_free(rows);
    return rc;
}

/* ------------------------------------------------------------------ one locked row */

/* What is read of a locked row behind the columns of an item. */
enum {
    ROW_STATE = PARKED_ITEM_COLUMN_COUNT,
    ROW_CLAIM,
    ROW_CLAIM_SIZE,
    ROW_REQUEST,
    ROW_KEY,
    ROW_REPLAYS,
    ROW_BY,
    ROW_NOTE,
    ROW_IS_FORCED,
    ROW_PIECES,
    ROW_IS_EDITED
};
#define ROW_COLUMNS                                                                                \
    PARKED_ITEM_COLUMNS ", state, claim, claim_size, request, ordering_key, replays, "             \
                        "requested_by, request_note, is_forced, pieces, is_edited"

static enum obx_code list_row(struct take *take, struct obx_buf *list, uint64_t id)
{
    enum obx_code rc = buf_addf(list, list->len == 0 ? "%" PRIu64 : ",%" PRIu64, id);

    return rc == OBX_OK ? rc : obx_fail(take->err, rc, "list of due rows");
}

static enum obx_code make_item(struct take *take, const struct db_rows *rows, struct item **out)
{
    const uint32_t pieces = (uint32_t)db_rows_u64(rows, ROW_PIECES);
    const bool is_whole = pieces == 0 || db_rows_u64(rows, ROW_IS_EDITED) != 0;
    struct obx_buf body = {0};
    enum obx_code rc = OBX_OK;

    if (!is_whole)
        rc = parked_read_pieces(take->db, db_rows_u64(rows, 0), pieces, &body, take->err);
    if (rc == OBX_OK &&
        parked_item_create(rows, is_whole ? NULL : &body, take->opts->counters, out) != OBX_OK)
        rc = obx_fail(take->err, OBX_E_NOMEM, "row of inbox_parked");
    buf_fini(&body);
    if (rc != OBX_OK)
        return rc;
    (*out)->pieces = pieces;
    (*out)->worker = take->opts->worker;
    (*out)->claim = take->claim;
    item_list_push(&take->taken->items, *out);
    return OBX_OK;
}

/* An attempt begins. See the head of this file for one whose last attempt is in doubt. */
static enum obx_code claim_row(struct take *take, const struct db_rows *rows)
{
    const uint64_t size = db_rows_u64(rows, ROW_CLAIM_SIZE);
    const bool is_charged = db_rows_u64(rows, ROW_CLAIM) == 0 || size <= 1;
    struct item *item = NULL;
    enum obx_code rc = make_item(take, rows, &item);

    if (rc != OBX_OK)
        return rc;
    /* It was in a lock's way, or held one that others waited for: alone, it is known at once if it is
     * again. */
    if (take->is_alone || item->why.code == OBX_E_DB_LOCK_WAIT ||
        item->why.code == OBX_E_DB_DEADLOCK)
        item->plan = PLAN_ALONE;
    item->is_forced = db_rows_u64(rows, ROW_IS_FORCED) != 0;
    if (take->is_alone && size <= 1 && item->attempts >= take->opts->settings->max_attempts) {
        item->plan = PLAN_GIVE_UP;
        item_reason(item, OBX_E_HANDLER, DIED);
    } else if (is_charged) {
        item->attempts++;
    }
    take->claim_wait_ms =
        backoff_nth_ms(take->opts->settings->retry_min_ms, take->opts->settings->retry_cap_ms,
                       item->attempts, random_u64());
    return list_row(take, &take->claims, item->parked_id);
}

static enum obx_code set_out_letter(struct take *take, const struct db_rows *rows)
{
    struct item *item = NULL;
    enum obx_code rc = make_item(take, rows, &item);

    if (rc != OBX_OK)
        return rc;
    item_set(item, ITEM_LETTER);
    take->taken->letters++;
    return list_row(take, &take->letters, item->parked_id);
}

static void say_request(const struct take *take, const struct db_rows *rows, const char *event)
{
    OBX_LOG(LOG_LVL_INFO, "consumer", event, KV_STR("group", take->opts->settings->group),
            KV_U64("id", db_rows_u64(rows, 0)), KV_BYTES("message_id", db_rows_bytes(rows, 1)),
            KV_BYTES("by", db_rows_bytes(rows, ROW_BY)),
            KV_BYTES("note", db_rows_bytes(rows, ROW_NOTE)));
}

#define ADD_AUDIT                                                                                  \
    "INSERT INTO inbox_audit (action, actor, note, consumer_group, "                               \
    "parked_id, " MESSAGE_NAME_COLUMNS ", reason_code) SELECT ?, COALESCE(requested_by, ''),"      \
    " COALESCE(request_note, ''), consumer_group, id, " MESSAGE_NAME_COLUMNS                       \
    ", reason_code FROM inbox_parked "                                                             \
    "FORCE INDEX (PRIMARY) WHERE id = ?"

/* So that it is known ever after who ended or changed which message, and why. */
static enum obx_code audit(struct take *take, const struct db_rows *rows, const char *action)
{
    enum obx_code rc =
        db_exec(take->db, ADD_AUDIT, DB_ARGS(DB_TEXT(action), DB_U64(db_rows_u64(rows, 0))), NULL,
                take->err);

    return rc == OBX_OK ? audit_clean(take->db, "inbox_audit", take->err) : rc;
}

/* After the others of its key if there are any: the promotion below finds the first of them. */
static enum obx_code replay(struct take *take, const struct db_rows *rows)
{
    const bool is_forced = bytes_is(db_rows_bytes(rows, ROW_REQUEST), "force-replay");
    const bool has_key = !db_rows_is_null(rows, ROW_KEY);
    enum obx_code rc = OBX_OK;

    /* One that changes nothing and forces nothing is only another attempt. */
    if (db_rows_u64(rows, ROW_IS_EDITED) != 0)
        rc = audit(take, rows, "replay-edited");
    else if (is_forced)
        rc = audit(take, rows, "force-replay");
    if (rc == OBX_OK)
        rc = db_exec(take->db,
                     "UPDATE inbox_parked SET state = ?, next_at = IF(?, NULL, UTC_TIMESTAMP(6)), "
                     "attempts = 0, claim = 0, claim_size = 0, request = NULL, is_reported = 0, "
                     "is_forced = ?, replays = replays + 1 WHERE id = ?",
                     DB_ARGS(DB_TEXT(has_key ? "blocked" : "waiting"), DB_U64(has_key),
                             DB_U64(is_forced), DB_U64(db_rows_u64(rows, 0))),
                     NULL, take->err);
    if (rc == OBX_OK) {
        say_request(take, rows, "dead.replayed");
        counters_add(take->opts->counters, CNT_REPLAYED, 1);
    }
    return rc;
}

/* A dedup row that is there already, of what was rejected, says no less. */
static enum obx_code insert_discarded(struct take *take, const struct db_rows *rows)
{
    const struct obx_bytes by = db_rows_bytes(rows, ROW_BY);
    const struct obx_bytes note = db_rows_bytes(rows, ROW_NOTE);
    char reason[NOTE_MAX];
    enum obx_code rc = OBX_OK;

    (void)snprintf(reason, sizeof(reason), "discarded by %.*s: %.*s", (int)by.len,
                   by.len > 0 ? (const char *)by.p : "", (int)note.len,
                   note.len > 0 ? (const char *)note.p : "");
    rc = db_exec(take->db,
                 "INSERT INTO inbox_applied (consumer_group, message_id, outcome, reason) "
                 "VALUES (?, ?, '" DEDUP_DISCARDED "', ?)",
                 DB_ARGS(DB_TEXT(take->opts->settings->group), DB_BYTES(db_rows_bytes(rows, 1)),
                         DB_TEXT(reason)),
                 NULL, take->err);
    return rc == OBX_E_DB_DUPLICATE ? OBX_OK : rc;
}

/*
 * What is discarded may come again at any later time (at least once): a dedup row sees to it that
 * no copy is applied.
 */
static enum obx_code discard(struct take *take, const struct db_rows *rows)
{
    enum obx_code rc =
        parked_probe(take->db, take->opts->settings, db_rows_bytes(rows, 1), take->err);

    if (rc == OBX_OK)
        rc = insert_discarded(take, rows);
    if (rc == OBX_OK)
        rc = audit(take, rows, "discard");
    if (rc == OBX_OK)
        rc = parked_remove(take->db, db_rows_u64(rows, 0), (uint32_t)db_rows_u64(rows, ROW_PIECES),
                           take->err);
    if (rc == OBX_OK) {
        say_request(take, rows, "dead.discarded");
        counters_add(take->opts->counters, CNT_DISCARDED, 1);
    }
    return rc;
}

static enum obx_code postpone(struct take *take, const struct db_rows *rows, enum obx_code why)
{
    const uint64_t wait_us = (uint64_t)REQUEST_AGAIN_MS * US_PER_MS;

    if (why != OBX_E_DB_LOCK_WAIT)
        OBX_LOG(LOG_LVL_WARN, "consumer", "dead.request_refused",
                KV_STR("group", take->opts->settings->group), KV_U64("id", db_rows_u64(rows, 0)),
                KV_ERR(take->err));
    if (db_exec(take->db, "ROLLBACK TO obx_request", DB_NO_ARGS, NULL, NULL) != OBX_OK)
        return why;
    return db_exec(take->db,
                   "UPDATE inbox_parked SET next_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND "
                   "WHERE id = ?",
                   DB_ARGS(DB_U64(wait_us), DB_U64(db_rows_u64(rows, 0))), NULL, take->err);
}

static enum obx_code run_request(struct take *take, const struct db_rows *rows)
{
    const struct obx_bytes key = db_rows_bytes(rows, ROW_KEY);
    bool can_wait = false;
    enum obx_code rc = db_exec(take->db, "SAVEPOINT obx_request", DB_NO_ARGS, NULL, take->err);

    take->taken->next_ms = 0;
    if (rc != OBX_OK)
        return rc;
    if (bytes_is(db_rows_bytes(rows, ROW_REQUEST), "discard")) {
        rc = discard(take, rows);
    } else {
        rc = replay(take, rows);
    }
    /* Somebody holds the message's dedup row, or a table does not take what belongs to the request (a
     * right is missing, say): it waits, and nothing else does. */
    can_wait = rc == OBX_E_DB_LOCK_WAIT || rc == OBX_E_DB_DENIED || rc == OBX_E_DB_NO_TABLE ||
               rc == OBX_E_DB_DATA || rc == OBX_E_DB_QUERY;
    if (can_wait && !db_is_lost(take->db))
        return postpone(take, rows, rc);
    if (rc == OBX_OK && !bytes_is_absent(key))
        rc = parked_promote(take->db, take->opts->settings, key, NULL, take->err);
    return rc;
}

/*
 * A row of which no message can be made (a piece of its body is gone, say) waits, and with it what
 * follows in its chain; an operator has to look at it. Nothing else waits.
 */
static enum obx_code pass_over_unreadable(struct take *take, const struct db_rows *rows,
                                          enum obx_code why)
{
    if (why != OBX_E_DB_DATA || db_is_lost(take->db))
        return why;
    OBX_LOG(LOG_LVL_ERROR, "consumer", "parked.unreadable",
            KV_STR("group", take->opts->settings->group), KV_U64("id", db_rows_u64(rows, 0)),
            KV_BYTES("message_id", db_rows_bytes(rows, 1)), KV_ERR(take->err));
    return db_exec(
        take->db,
        "UPDATE inbox_parked SET next_at = IF(next_at IS NULL, NULL, UTC_TIMESTAMP(6) + "
        "INTERVAL ? MICROSECOND) WHERE id = ?",
        DB_ARGS(DB_U64((uint64_t)UNREADABLE_MS * US_PER_MS), DB_U64(db_rows_u64(rows, 0))), NULL,
        take->err);
}

static enum obx_code take_row(struct take *take, const struct db_rows *rows)
{
    const bool is_dead = bytes_is(db_rows_bytes(rows, ROW_STATE), "dead");

    if (!is_dead && !take->is_alone && db_rows_u64(rows, ROW_CLAIM) != 0)
        return OBX_OK;
    if (!is_dead)
        return pass_over_unreadable(take, rows, claim_row(take, rows));
    if (!db_rows_is_null(rows, ROW_REQUEST))
        return run_request(take, rows);
    if (take->opts->settings->dead_letter_queue == NULL)
        return list_row(take, &take->rest, db_rows_u64(rows, 0));
    return take->opts->takes_letters ? pass_over_unreadable(take, rows, set_out_letter(take, rows))
                                     : OBX_OK;
}

/* ------------------------------------------------------------------ the transaction */

static enum obx_code run(struct take *take, enum obx_code built)
{
    if (built != OBX_OK)
        return obx_fail(take->err, built, "list of due rows");
    return db_exec_text(take->db, buf_bytes(&take->sql), NULL, take->err);
}

static enum obx_code lock_rows(struct take *take, struct db_rows **rows)
{
    enum obx_code rc = OBX_OK;

    buf_reset(&take->sql);
    rc = buf_addf(&take->sql,
                  "SELECT %s FROM inbox_parked FORCE INDEX (PRIMARY) WHERE id IN (%s) AND "
                  "(state = 'blocked' OR next_at <= UTC_TIMESTAMP(6)) ORDER BY id "
                  "FOR UPDATE SKIP LOCKED",
                  ROW_COLUMNS, take->ids.data);
    if (rc != OBX_OK)
        return obx_fail(take->err, rc, "list of due rows");
    return db_query_text(take->db, buf_bytes(&take->sql), rows, take->err);
}

/* A row that runs in a batch with others is never alone in its claim: deliveries share the batch.
 */
static enum obx_code write_claims(struct take *take)
{
    const struct item *first = take->taken->items.head;
    const bool was_charged = first != NULL && take->is_alone;
    uint32_t wait_ms = take->is_alone ? take->claim_wait_ms : 0;
    enum obx_code rc = OBX_OK;

    if (take->claims.len == 0)
        return OBX_OK;
    wait_ms = wait_ms < CLAIM_MIN_MS ? CLAIM_MIN_MS : wait_ms;
    buf_reset(&take->sql);
    if (was_charged)
        rc = buf_addf(&take->sql,
                      "UPDATE inbox_parked FORCE INDEX (PRIMARY) SET attempts = %" PRIu32,
                      first->attempts);
    else
        rc = buf_add_text(&take->sql,
                          "UPDATE inbox_parked FORCE INDEX (PRIMARY) SET attempts = attempts + 1");
    if (rc == OBX_OK)
        rc = buf_addf(&take->sql,
                      ", claim = %" PRIu64 ", claim_size = %zu, next_at = IF(state = 'waiting', "
                      "UTC_TIMESTAMP(6) + INTERVAL %" PRIu32 " MICROSECOND, NULL) "
                      "WHERE id IN (%s)",
                      take->claim, take->is_alone ? (size_t)1 : take->id_count + 1,
                      wait_ms * US_PER_MS, take->claims.data);
    return run(take, rc);
}

static enum obx_code write_letters(struct take *take)
{
    enum obx_code rc = OBX_OK;

    if (take->letters.len == 0)
        return OBX_OK;
    buf_reset(&take->sql);
    rc = buf_addf(&take->sql,
                  "UPDATE inbox_parked FORCE INDEX (PRIMARY) SET next_at = UTC_TIMESTAMP(6) + "
                  "INTERVAL %d MICROSECOND "
                  "WHERE id IN (%s)",
                  LETTER_MS * US_PER_MS, take->letters.data);
    return run(take, rc);
}

/* Dead rows that were to go to a dead-letter queue which nobody names any more: they stay. */
static enum obx_code write_rest(struct take *take)
{
    enum obx_code rc = OBX_OK;

    if (take->rest.len == 0)
        return OBX_OK;
    buf_reset(&take->sql);
    rc = buf_addf(&take->sql,
                  "UPDATE inbox_parked FORCE INDEX (PRIMARY) SET next_at = NULL WHERE id IN (%s)",
                  take->rest.data);
    return run(take, rc);
}

/*
 * Rows come in order of id. One that somebody else has locked is missing among them: those of its
 * key after it stay where they are.
 */
static enum obx_code take_rows(struct take *take)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = lock_rows(take, &rows);

    while (rc == OBX_OK && db_rows_next(rows)) {
        const uint64_t id = db_rows_u64(rows, 0);
        const size_t before = take->taken->items.count;
        struct chosen *chosen = take->chosen;
        bool is_head = false;

        while (chosen < take->chosen + take->id_count && chosen->id != id)
            chosen++;
        if (chosen == take->chosen + take->id_count)
            continue;
        is_head = chosen == take->chosen || chosen[-1].chain != chosen->chain;
        if (!is_head && !chosen[-1].is_taken)
            continue;
        rc = take_row(take, rows);
        chosen->is_taken = take->taken->items.count > before;
    }
    db_rows_free(rows);
    if (rc == OBX_OK)
        rc = write_claims(take);
    if (rc == OBX_OK)
        rc = write_letters(take);
    return rc == OBX_OK ? write_rest(take) : rc;
}

static enum obx_code take_in_transaction(struct take *take)
{
    enum obx_code rc = db_begin(take->db, take->err);

    if (rc == OBX_OK)
        rc = choose(take);
    if (rc == OBX_OK && take->id_count > 0)
        rc = take_rows(take);
    OBX_CRASH_POINT("consumer-claim-before-commit");
    if (rc == OBX_OK)
        rc = db_commit(take->db, take->err);
    else
        (void)db_rollback(take->db, NULL);
    if (rc == OBX_OK && take->claims.len > 0)
        OBX_CRASH_POINT("consumer-attempt-counted");
    return rc;
}

enum obx_code due_take(struct db *db, const struct due_opts *opts, struct due_taken *taken,
                       struct obx_err *err)
{
    struct take take = {.db = db, .opts = opts, .taken = taken, .err = err, .claim = random_u64()};
    enum obx_code rc = OBX_OK;
    struct item *item = NULL;

    *taken = (struct due_taken){0};
    if (take.claim == 0)
        take.claim = 1;
    take.chosen = obx_calloc(opts->max_rows, sizeof(*take.chosen));
    if (take.chosen == NULL)
        return obx_fail(err, OBX_E_NOMEM, "list of due rows");
    rc = take_in_transaction(&take);
    if (rc != OBX_OK) {
        while ((item = item_list_pop(&taken->items)) != NULL)
            item_free(item, opts->counters);
        taken->letters = 0;
    }
    buf_fini(&take.ids);
    buf_fini(&take.claims);
    buf_fini(&take.letters);
    buf_fini(&take.rest);
    buf_fini(&take.sql);
    obx_free(take.chosen);
    return rc;
}

/* ------------------------------------------------------------------ other ends */

enum obx_code due_give_back(struct db *db, const struct item_list *items, struct obx_err *err)
{
    enum obx_code rc = db_begin(db, err);

    for (const struct item *item = items->head; item != NULL && rc == OBX_OK; item = item->next) {
        if (item->parked_id != 0 && item->plan != PLAN_GIVE_UP)
            rc = db_exec(db,
                         "UPDATE inbox_parked SET attempts = attempts - 1, claim = 0, "
                         "claim_size = 0, next_at = IF(state = 'waiting', UTC_TIMESTAMP(6), NULL) "
                         "WHERE id = ? AND claim = ? AND attempts > 0",
                         DB_ARGS(DB_U64(item->parked_id), DB_U64(item->claim)), NULL, err);
    }
    if (rc == OBX_OK)
        return db_commit(db, err);
    (void)db_rollback(db, NULL);
    return rc;
}

enum obx_code due_remove_letters(struct db *db, const struct settings *settings,
                                 const struct item_list *letters, struct obx_err *err)
{
    uint64_t removed = 0;
    enum obx_code rc = db_begin(db, err);

    for (const struct item *item = letters->head; item != NULL && rc == OBX_OK; item = item->next) {
        rc = db_exec(db,
                     "DELETE FROM inbox_parked WHERE id = ? AND state = 'dead' AND request IS NULL",
                     DB_ARGS(DB_U64(item->parked_id)), &removed, err);
        if (rc == OBX_OK && removed > 0 && item->pieces > 0)
            rc = db_exec(db, "DELETE FROM inbox_parked_piece WHERE parked_id = ?",
                         DB_ARGS(DB_U64(item->parked_id)), NULL, err);
        if (rc == OBX_OK && item_has_key(item))
            rc = parked_promote(db, settings, item->msg.ordering_key, NULL, err);
    }
    OBX_CRASH_POINT("consumer-letter-before-commit");
    if (rc == OBX_OK)
        return db_commit(db, err);
    (void)db_rollback(db, NULL);
    return rc;
}

/* The first row of the next key: one entry of the index, however many rows wait behind it. */
#define NEXT_KEY                                                                                   \
    "SELECT ordering_key, state, is_reported FROM inbox_parked FORCE INDEX (parked_key) "          \
    "WHERE consumer_group = ? AND ordering_key %s ? "                                              \
    "ORDER BY ordering_key, is_reported, id LIMIT 1"

/* A dead one may be in nobody's way, and the one after it be the first that counts. */
static bool may_hide_waiting(const struct db_rows *row)
{
    return !bytes_is(db_rows_bytes(row, 1), "waiting") && db_rows_u64(row, 2) == 0;
}

/* *from moves on to the key; is_last: there is none. */
static enum obx_code check_next_key(struct db *db, const struct settings *settings,
                                    struct obx_buf *from, bool *is_last, uint64_t *found,
                                    struct obx_err *err)
{
    const struct obx_bytes after = {from->len > 0 ? from->data : "", from->len};
    char sql[sizeof(NEXT_KEY) + sizeof(">=")];
    struct db_rows *rows = NULL;
    bool is_due = false;
    enum obx_code rc = OBX_OK;

    (void)snprintf(sql, sizeof(sql), NEXT_KEY, from->len > 0 ? ">" : ">=");
    rc = db_query(db, sql, DB_ARGS(DB_TEXT(settings->group), DB_BYTES(after)), &rows, err);
    *is_last = rc == OBX_OK && !db_rows_next(rows);
    if (rc == OBX_OK && !*is_last) {
        const struct obx_bytes key = db_rows_bytes(rows, 0);

        if (may_hide_waiting(rows))
            rc = parked_promote(db, settings, key, &is_due, err);
        buf_reset(from);
        /* The empty key is the first one: it cannot be gone on from. */
        if (rc == OBX_OK &&
            buf_add(from, key.len > 0 ? key.p : "", key.len > 0 ? key.len : 1) != OBX_OK)
            rc = obx_fail(err, OBX_E_NOMEM, "ordering key");
    }
    *found += is_due;
    db_rows_free(rows);
    return rc;
}

enum obx_code due_free_keys(struct db *db, const struct settings *settings, struct obx_buf *from,
                            uint64_t *found, struct obx_err *err)
{
    bool is_last = false;
    enum obx_code rc = db_begin(db, err);

    *found = 0;
    for (int keys = 0; keys < FREE_KEYS && rc == OBX_OK && !is_last; keys++)
        rc = check_next_key(db, settings, from, &is_last, found, err);
    if (is_last)
        buf_reset(from);
    if (rc == OBX_OK)
        return db_commit(db, err);
    (void)db_rollback(db, NULL);
    return rc;
}
