/*
 * The inbox: messages that inbox-relay has stored for the workers of a service. Invariant: a
 * row is changed only as the operator's statements of sql/inbox/statements.sql change it, together
 * with its row in inbox_audit, and only while nobody else has it. What a row that was discarded
 * means for the others of its key is the business of inbox-relay (ADR 0026). Proved by
 * tests/system/inbox_ctl_test.c.
 */
#include <string.h>
#include <time.h>

#include "resources.h"
#include "tables/outbox_columns.h"

enum { TRIES = 20, PAUSE_NS = 50 * 1000 * 1000 };

/* As the statement `take` of the contract has it. */
#define TOO_LARGE "t.size + 65536 > @@max_allowed_packet"
/* First of its chain, and there to stay until an operator decides. */
#define HOLDS "t.state = 'dead' AND t.holds_key AND t.key_hash IS NOT NULL"

static const struct column columns[] = {
    {"t.id", "id", ">ID", "ID", COLUMN_NUMBER, false},
    {"t.queue", "queue", "QUEUE", "queue", COLUMN_TEXT, false},
    {"t.state", "state", "STATE", "state", COLUMN_TEXT, false},
    {"t.message_id", "message_id", NULL, "message id", COLUMN_TEXT, false},
    {"t.topic", "topic", "TOPIC", "topic", COLUMN_TEXT, false},
    {"t.ordering_key", "ordering_key", "KEY", "ordering key", COLUMN_TEXT, false},
    {HOLDS, "holds_key", NULL, NULL, COLUMN_BOOL, false},
    {"IF(t.state = 'blocked', t.after_id, NULL)", "blocked_by", NULL, "blocked by", COLUMN_NUMBER,
     false},
    {"NULL", NULL, "HOLDS UP", "holds up", COLUMN_TEXT, false}, /* held_up */
    {"t.size", "size_bytes", NULL, NULL, COLUMN_SIZE, false},   /* headers, too */
    {"t.attempts", "attempts", ">ATTEMPTS", "attempts", COLUMN_NUMBER, false},
    {"t.max_attempts", "max_attempts", NULL, "at most", COLUMN_NUMBER, false},
    {"t.last_failed_at", NULL, "FAILED", NULL, COLUMN_TIME, false},
    {"NULLIF(t.reason_code, '')", "reason_code", "REASON", "reason", COLUMN_TEXT, false},
    {"NULLIF(t.reason, '')", "reason", "BECAUSE", "because", COLUMN_TEXT, false},
    {"t.is_reported", "is_reported", NULL, "reported", COLUMN_BOOL, false},
    {"t.created_at", "created_at", NULL, "created", COLUMN_TIME, false},
    {"t.received_at", "received_at", NULL, "received", COLUMN_TIME, false},
    {"t.first_failed_at", "first_failed_at", NULL, "first failed", COLUMN_TIME, false},
    {"t.last_failed_at", "last_failed_at", NULL, "last failed", COLUMN_TIME, false},
    {"t.due_at", "due_at", NULL, NULL, COLUMN_TIME, false},
    {"IF(t.state = 'ready', t.due_at, NULL)", NULL, NULL, "next attempt", COLUMN_TIME, false},
    {"IF(t.state = 'kept', t.due_at, NULL)", NULL, NULL, "kept until", COLUMN_TIME, false},
    {"t.content_type", "content_type", NULL, "content type", COLUMN_TEXT, false},
    {"IF(" TOO_LARGE ", 'larger than the server gives at once; --payload raw writes it', NULL)",
     NULL, NULL, "payload", COLUMN_TEXT, false},
    {"t.source", "message_source", NULL, "source", COLUMN_TEXT, true},
    {"t.traceparent", "traceparent", NULL, "traceparent", COLUMN_TEXT, true},
    {"t.receipt_to", "receipt_to", NULL, "receipt to", COLUMN_TEXT, true},
    {"t.headers", "headers", NULL, "headers", COLUMN_TEXT, true},
    {"IF(" TOO_LARGE ", CEIL(t.size / 262144), 0)", "pieces", NULL, NULL, COLUMN_NUMBER, true},
    {"IF(" TOO_LARGE ", NULL, t.payload)", "payload", NULL, NULL, COLUMN_PAYLOAD, true},
};

static const struct filter filters[] = {
    {CTL_QUEUE, "t.queue = ?"},        {CTL_TOPIC, "t.topic"},
    {CTL_REASON, "t.reason_code = ?"}, {CTL_KEY, "t.ordering_key = ?"},
    {CTL_MESSAGE, "t.message_id = ?"},
};
static const char *const states[] = {"ready", "blocked", "done", "dead", "kept", "discarded", NULL};

#define QUEUES "SELECT DISTINCT queue FROM inbox FORCE INDEX (inbox_due)"
/* Rows that wait for a person or for another row have no time: among them the order is that of the
 * key. Those that have one are few in most states, and sorted. Of ready and kept ones there may be
 * any number, and of the rows of a key, too: whether to sort what the index has or to look for them
 * in the order of the key, the server judges by the numbers. */
static const struct path paths[] = {
    {.option = CTL_KEY,
     .except = "dead done kept discarded", /* where a row may have left the chain */
     .index = "PRIMARY, inbox_key",
     .values = "SELECT q.queue, UNHEX(LEFT(SHA2(?, 256), 32)) FROM (" QUEUES ") q",
     .condition = " AND t.queue = ? AND t.key_hash = ?",
     .options = {CTL_QUEUE, CTL_OPTION_COUNT}},
    {.option = CTL_STATE,
     .except = "ready kept",
     .index = "inbox_due",
     .values = QUEUES,
     .condition = " AND t.queue = ?",
     .options = {CTL_QUEUE, CTL_OPTION_COUNT},
     .splits = {" AND t.due_at IS NULL", " AND t.due_at IS NOT NULL"}},
    {.option = CTL_STATE,
     .index = "PRIMARY, inbox_due",
     .values = QUEUES,
     .condition = " AND t.queue = ?",
     .options = {CTL_QUEUE, CTL_OPTION_COUNT}},
};

static const struct counted followers = {
    "followers", "holds_key",
    "SELECT COUNT(*) FROM (SELECT 1 FROM inbox t FORCE INDEX (PRIMARY) STRAIGHT_JOIN inbox f"
    " FORCE INDEX (inbox_key) ON f.queue = t.queue AND f.key_hash = t.key_hash AND f.id <> t.id"
    " WHERE t.id = ? LIMIT ?) c"};

/* How many wait for a dead one. */
static bool held_up(const struct record *record, const struct column *column, struct obx_buf *out)
{
    if (column->head == NULL || strcmp(column->head, "HOLDS UP") != 0)
        return false;
    if (record_number(record, "holds_key") != 0)
        (void)buf_addf(out, "%llu%s", (unsigned long long)record->counted,
                       record->is_capped ? "+" : "");
    return true;
}

const struct resource inbox_rows = {
    .noun = "message of the inbox",
    .group = "inbox",
    .none = "no message is like that",
    .side = SCHEMA_INBOX,
    .table = "inbox",
    .key = "t.id",
    COLUMNS_OF(columns),
    FILTERS_OF(filters),
    .states = states,
    .state = "dead",
    PATHS_OF(paths),
    .counted = &followers,
    .piece = "SELECT SUBSTRING(t.payload, p.n * 262144 + 1, 262144) FROM (SELECT"
             " CAST(? AS UNSIGNED) AS id, CAST(? AS UNSIGNED) AS n) p STRAIGHT_JOIN inbox t"
             " ON t.id = p.id",
    .describe = held_up};

/* ---- replay, discard ---- */

/* What the statements of the contract ask of a row; NULL: it may be done. */
static const char *why_not(const struct action *action, struct obx_bytes state, bool is_reported)
{
    const bool is_dead = bytes_is(state, "dead");

    if (strcmp(action->request, "replay") == 0) {
        if (!is_dead)
            return "is not dead";
        return is_reported ? "its producer knows that it was rejected, and acts on that" : NULL;
    }
    if (is_dead || bytes_is(state, "ready"))
        return NULL;
    return bytes_is(state, "blocked") ? "waits for an earlier one of its key" : "has ended";
}

static void refuse(struct request *request, struct item *item, const struct record *record)
{
    const char *why = why_not(request->action, record_text(record, "state"),
                              record_number(record, "is_reported") != 0);

    if (why != NULL)
        item_set(request, item, FATE_REFUSED, "%s", why);
}

/* Items and what could be locked of them, at work in one transaction. */
struct batch {
    struct request *request;
    struct item *items;
    size_t count;
    struct id_list wanted, locked;
};

/* Rows and items are both in the order of their ids; an id that was given twice has two items. */
static enum obx_code judge_locked(struct batch *batch, struct db_rows *rows, struct obx_err *err)
{
    struct request *request = batch->request;
    enum obx_code rc = OBX_OK;
    size_t i = 0;

    while (rc == OBX_OK && db_rows_next(rows)) {
        const uint64_t id = db_rows_u64(rows, 0);
        const char *why =
            why_not(request->action, db_rows_bytes(rows, 1), db_rows_u64(rows, 2) != 0);

        for (; i < batch->count && batch->items[i].id <= id; i++) {
            if (batch->items[i].id == id && batch->items[i].fate == FATE_WAITING)
                item_set(request, &batch->items[i], why == NULL ? FATE_DONE : FATE_REFUSED, "%s",
                         why == NULL ? "" : why);
        }
        if (why == NULL)
            rc = id_list_add(&batch->locked, id, err);
    }
    return rc;
}

/* A row that a worker has in its transaction is skipped: that may last as long as it likes. */
static enum obx_code lock_rows(struct batch *batch, struct obx_err *err)
{
    struct db *db = batch->request->session.db;
    struct db_rows *rows = NULL;
    struct obx_bytes sql = {0};
    enum obx_code rc = OBX_OK;

    id_list_clear(&batch->wanted);
    id_list_clear(&batch->locked);
    for (size_t i = 0; i < batch->count && rc == OBX_OK; i++)
        if (batch->items[i].fate == FATE_WAITING)
            rc = id_list_add(&batch->wanted, batch->items[i].id, err);
    if (rc == OBX_OK)
        rc = id_list_statement(&batch->wanted,
                               "SELECT id, state, is_reported FROM inbox FORCE INDEX (PRIMARY)"
                               " WHERE id IN (",
                               ") ORDER BY id FOR UPDATE SKIP LOCKED", &sql, err);
    if (rc == OBX_OK)
        rc = db_query_text(db, sql, &rows, err);
    if (rc == OBX_OK)
        rc = judge_locked(batch, rows, err);
    db_rows_free(rows);
    return rc;
}

/* What is written of a row before it is changed: the reason is what it was dead for. */
static enum obx_code add_audit(const struct batch *batch, struct obx_err *err)
{
    const struct request *request = batch->request;
    char action[32];

    (void)snprintf(action, sizeof(action), "inbox-%s", request->action->request);
    return db_exec(
        request->session.db,
        "INSERT INTO inbox_audit (action, actor, note, consumer_group, parked_id,"
        " " MESSAGE_NAME_COLUMNS ", reason_code) SELECT ?, ?, ?, t.queue, t.id,"
        " t.message_id, t.topic, LEFT(t.ordering_key, 255), t.reason_code"
        " FROM " ID_LIST_TABLE " STRAIGHT_JOIN inbox t FORCE INDEX (PRIMARY) ON t.id = k.id",
        DB_ARGS(DB_TEXT(action), DB_TEXT(request->by),
                DB_TEXT(request->note == NULL ? "" : request->note), ID_LIST_ARG(&batch->locked)),
        NULL, err);
}

static enum obx_code change(const struct batch *batch, struct obx_err *err)
{
    const struct request *request = batch->request;
    struct obx_buf sql = {0};
    uint64_t changed = 0;
    enum obx_code rc;

    buf_addf(&sql,
             "UPDATE " ID_LIST_TABLE
             " STRAIGHT_JOIN inbox t FORCE INDEX (PRIMARY) ON t.id = k.id SET"
             " t.due_at = UTC_TIMESTAMP(6)%s WHERE 1 = 1%s",
             request->action->set, request->action->only);
    rc = sql.rc != OBX_OK ? obx_fail(err, sql.rc, "query")
                          : db_exec(request->session.db, sql.data,
                                    DB_ARGS(ID_LIST_ARG(&batch->locked)), &changed, err);
    buf_fini(&sql);
    if (rc == OBX_OK && changed != batch->locked.count)
        return obx_fail(err, OBX_E_DB_DATA, "rows of the inbox are not as they were when locked");
    return rc;
}

/* One transaction with what nobody else has at this moment. */
static enum obx_code try_once(struct batch *batch, struct obx_err *err)
{
    struct db *db = batch->request->session.db;
    enum obx_code rc = db_begin(db, err);

    if (rc != OBX_OK)
        return rc;
    rc = lock_rows(batch, err);
    if (rc == OBX_OK && batch->locked.count > 0)
        rc = add_audit(batch, err);
    if (rc == OBX_OK && batch->locked.count > 0)
        rc = change(batch, err);
    if (rc == OBX_OK)
        return db_commit(db, err);
    (void)db_rollback(db, NULL);
    return rc;
}

static size_t count_waiting(const struct batch *batch)
{
    size_t count = 0;

    for (size_t i = 0; i < batch->count; i++)
        count += batch->items[i].fate == FATE_WAITING;
    return count;
}

/* inbox-relay and most workers hold a row for some milliseconds: tried a few times, and then left
 * alone. */
static enum obx_code run(struct request *request, struct item *items, size_t count,
                         const struct id_list *ids, struct obx_err *err)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    struct batch batch = {.request = request, .items = items, .count = count};
    enum obx_code rc = try_once(&batch, err);

    (void)ids; /* those of the items that wait */
    for (unsigned tries = 1; rc == OBX_OK && tries < TRIES && count_waiting(&batch) > 0; tries++) {
        nanosleep(&pause, NULL);
        rc = try_once(&batch, err);
    }
    for (size_t i = 0; i < count && rc == OBX_OK; i++)
        if (items[i].fate == FATE_WAITING)
            item_set(request, &items[i], FATE_REFUSED,
                     "somebody has it in a transaction, or it is gone by now");
    id_list_fini(&batch.wanted);
    id_list_fini(&batch.locked);
    return rc;
}

/* Assignments and conditions of the statements `replay` and `discard`. */
const struct action inbox_replay = {.done = "replayed",
                                    .request = "replay",
                                    .set = ", t.state = 'ready', t.attempts = 0",
                                    .only = " AND t.state = 'dead' AND t.is_reported = 0",
                                    .state = "dead",
                                    .empty_is_failure = true,
                                    .refuse = refuse,
                                    .run = run};
const struct action inbox_discard = {.done = "discarded",
                                     .request = "discard",
                                     .set = ", t.state = 'discarded'",
                                     .only = " AND t.state IN ('ready', 'dead')",
                                     .state = "dead",
                                     .needs_note = "discarding is for ever: say why",
                                     .needs_yes = true,
                                     .empty_is_failure = true,
                                     .refuse = refuse,
                                     .run = run};
