/*
 * The store over sql/client.
 *
 * Two settings make a transaction's end by a handler safe and visible. Autocommit is off: after a
 * COMMIT that was not ours the next dedup insert opens another transaction instead of being
 * committed by itself, without its handler's effect. And the savepoints carry a name that is made
 * up per connection, so that no handler releases, renews or rolls back to one by accident: when
 * ours is gone (error 1305), its transaction has ended.
 */
#include "store_db.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/random.h"
#include "core/embed.h"
#include "due.h"
#include "parked_db.h"
#include "sql/schema.h"

#define MARKS 2

struct mark_sql {
    char set[64];
    char undo[64];
    char release[64];
};

struct store_db {
    const struct settings *settings;
    struct db *db;
    bool shows_early; /* what others have committed may be seen before it is in the log */
    struct db *other; /* a second session, opened only to see what is committed */
    struct mark_sql marks[MARKS];
};

static void make_marks(struct store_db *db)
{
    static const char *const names[MARKS] = {[STORE_MARK_TX] = "tx", [STORE_MARK_CHUNK] = "chunk"};
    uint64_t random = random_u64();

    for (int i = 0; i < MARKS; i++) {
        struct mark_sql *mark = &db->marks[i];
        char name[40];

        snprintf(name, sizeof(name), "obx_%s_%016" PRIx64, names[i], random);
        snprintf(mark->set, sizeof(mark->set), "SAVEPOINT %s", name);
        snprintf(mark->undo, sizeof(mark->undo), "ROLLBACK TO %s", name);
        snprintf(mark->release, sizeof(mark->release), "RELEASE SAVEPOINT %s", name);
    }
}

static enum obx_code run_text(struct store_db *db, const char *sql, struct obx_err *err)
{
    return db_exec_text(db->db, bytes_of(sql), NULL, err);
}

static void op_close(void *ctx)
{
    struct store_db *db = ctx;

    db_close(db->other);
    db_close(db->db);
    obx_free(db);
}

static enum obx_code op_begin(void *ctx, struct obx_err *err)
{
    struct store_db *db = ctx;

    return db_begin(db->db, err);
}

static enum obx_code op_set_mark(void *ctx, enum store_mark mark, struct obx_err *err)
{
    struct store_db *db = ctx;

    return run_text(db, db->marks[mark].set, err);
}

static enum obx_code op_undo_to(void *ctx, enum store_mark mark, struct obx_err *err)
{
    struct store_db *db = ctx;

    return run_text(db, db->marks[mark].undo, err);
}

static enum obx_code op_release(void *ctx, enum store_mark mark, struct obx_err *err)
{
    struct store_db *db = ctx;

    return run_text(db, db->marks[mark].release, err);
}

static enum obx_code op_insert(void *ctx, struct obx_bytes message_id, struct obx_err *err)
{
    struct store_db *db = ctx;

    return db_exec(db->db, "INSERT INTO inbox_applied (consumer_group, message_id) VALUES (?, ?)",
                   DB_ARGS(DB_TEXT(db->settings->group), DB_BYTES(message_id)), NULL, err);
}

static enum obx_code op_find_applied(void *ctx, struct item **items, size_t count,
                                     struct obx_err *err)
{
    struct store_db *db = ctx;

    return parked_find_applied(db->db, db->settings, items, count, err);
}

static enum obx_code op_insert_many(void *ctx, struct item **items, size_t count,
                                    struct obx_err *err)
{
    struct store_db *db = ctx;

    return parked_insert_applied(db->db, db->settings, items, count, err);
}

static enum obx_code op_probe(void *ctx, struct obx_bytes message_id, struct obx_err *err)
{
    struct store_db *db = ctx;

    return parked_probe(db->db, db->settings, message_id, err);
}

static enum obx_code op_remove(void *ctx, struct obx_bytes message_id, struct obx_err *err)
{
    struct store_db *db = ctx;

    return db_exec(db->db, "DELETE FROM inbox_applied WHERE consumer_group = ? AND message_id = ?",
                   DB_ARGS(DB_TEXT(db->settings->group), DB_BYTES(message_id)), NULL, err);
}

static enum obx_code find_row(struct store_db *db, struct db *session, struct obx_bytes message_id,
                              bool *has, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(session, "SELECT 1 FROM inbox_applied WHERE consumer_group = ? AND message_id = ?",
                 DB_ARGS(DB_TEXT(db->settings->group), DB_BYTES(message_id)), &rows, err);

    *has = rc == OBX_OK && db_rows_count(rows) > 0;
    db_rows_free(rows);
    return rc;
}

static enum obx_code op_has(void *ctx, struct obx_bytes message_id, bool *has, struct obx_err *err)
{
    struct store_db *db = ctx;

    return find_row(db, db->db, message_id, has, err);
}

/* The second session is used so seldom that the server may have ended it (wait_timeout). */
static enum obx_code op_has_committed(void *ctx, struct obx_bytes message_id, bool *has,
                                      struct obx_err *err)
{
    struct store_db *db = ctx;
    enum obx_code rc = OBX_OK;

    if (db->other != NULL && find_row(db, db->other, message_id, has, NULL) == OBX_OK)
        return OBX_OK;
    db_close(db->other);
    db->other = NULL;
    rc = db_open(&db->settings->db, &db->other, err);
    return rc == OBX_OK ? find_row(db, db->other, message_id, has, err) : rc;
}

/* A row of our own, written and removed: the log is written in order, and a COMMIT waits for it. See
 * docs/adr/0025-published-when-durable.md. */
static enum obx_code op_make_durable(void *ctx, struct obx_err *err)
{
    struct store_db *db = ctx;
    char id[40];
    enum obx_code rc = OBX_OK;

    if (!db->shows_early)
        return OBX_OK;
    snprintf(id, sizeof(id), "obx-durable-%016" PRIx64, random_u64());
    rc = op_insert(db, bytes_of(id), err);
    return rc == OBX_OK ? op_remove(db, bytes_of(id), err) : rc;
}

/* With a binary log a transaction is in there before others see it. */
static enum obx_code ask_log(struct store_db *db, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db->db, "SELECT @@log_bin", DB_NO_ARGS, &rows, err);

    if (rc == OBX_OK)
        db->shows_early = !db_rows_next(rows) || db_rows_u64(rows, 0) == 0;
    db_rows_free(rows);
    return rc;
}

static enum obx_code op_commit(void *ctx, struct obx_err *err)
{
    struct store_db *db = ctx;

    return db_commit(db->db, err);
}

static enum obx_code op_rollback(void *ctx, struct obx_err *err)
{
    struct store_db *db = ctx;

    return db_rollback(db->db, err);
}

/* ------------------------------------------------------------------ outcomes */

static enum obx_code op_reject(void *ctx, const struct item *item, struct obx_err *err)
{
    struct store_db *db = ctx;
    enum obx_code rc =
        db_exec(db->db,
                "INSERT INTO inbox_applied (consumer_group, message_id, outcome, reason) "
                "VALUES (?, ?, '" DEDUP_REJECTED "', ?)",
                DB_ARGS(DB_TEXT(db->settings->group), DB_BYTES(item->msg.message_id),
                        DB_TEXT(item->why.text)),
                NULL, err);

    return rc == OBX_E_DB_DUPLICATE ? OBX_OK : rc;
}

static enum obx_code op_read_outcome(void *ctx, struct item *item, enum dedup_outcome *outcome,
                                     struct obx_err *err)
{
    struct store_db *db = ctx;
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db->db,
        "SELECT outcome, reason FROM inbox_applied WHERE consumer_group = ? AND message_id = ?",
        DB_ARGS(DB_TEXT(db->settings->group), DB_BYTES(item->msg.message_id)), &rows, err);

    *outcome = OUTCOME_APPLIED;
    if (rc == OBX_OK && db_rows_next(rows)) {
        const struct consumer_embed *embed = db->settings->embed;

        *outcome = parked_read_outcome(item, db_rows_bytes(rows, 0), db_rows_bytes(rows, 1));
        if (embed != NULL && bytes_is(db_rows_bytes(rows, 0), EMBED_STORED))
            embed->stored_before(embed->ctx, item->msg.message_id, db_rows_bytes(rows, 1));
    }
    db_rows_free(rows);
    return rc;
}

/* ------------------------------------------------------------------ rows of inbox_parked */

static enum obx_code op_any_parked(void *ctx, bool *any, struct obx_err *err)
{
    struct store_db *db = ctx;
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(db->db, "SELECT 1 FROM inbox_parked WHERE consumer_group = ? LIMIT 1",
                 DB_ARGS(DB_TEXT(db->settings->group)), &rows, err);

    *any = rc == OBX_OK && db_rows_count(rows) > 0;
    db_rows_free(rows);
    return rc;
}

static enum obx_code op_lookup(void *ctx, struct item **items, size_t count, struct obx_err *err)
{
    struct store_db *db = ctx;

    return parked_lookup(db->db, db->settings, items, count, err);
}

static enum obx_code op_park(void *ctx, const struct item *item, const struct park *park,
                             struct obx_err *err)
{
    struct store_db *db = ctx;

    return parked_write(db->db, db->settings, item, park, err);
}

static enum obx_code op_unpark(void *ctx, const struct item *item, struct obx_err *err)
{
    struct store_db *db = ctx;

    return parked_remove(db->db, item->parked_id, item->pieces, err);
}

static enum obx_code op_promote(void *ctx, const struct item *item, struct obx_err *err)
{
    struct store_db *db = ctx;

    return parked_promote(db->db, db->settings, item->msg.ordering_key, NULL, err);
}

static enum obx_code op_ask_status(void *ctx, struct obx_err *err)
{
    return run_text(ctx, "DO 0", err);
}

static bool op_in_transaction(void *ctx)
{
    struct store_db *db = ctx;

    return db_in_transaction(db->db);
}

static bool op_is_lost(void *ctx)
{
    struct store_db *db = ctx;

    return db_is_lost(db->db);
}

/* ------------------------------------------------------------------ between batches */

static enum obx_code op_take_due(void *ctx, const struct due_opts *opts, struct due_taken *taken,
                                 struct obx_err *err)
{
    return due_take(((struct store_db *)ctx)->db, opts, taken, err);
}

static enum obx_code op_give_back(void *ctx, const struct item_list *items, struct obx_err *err)
{
    return due_give_back(((struct store_db *)ctx)->db, items, err);
}

static enum obx_code op_remove_letters(void *ctx, const struct item_list *letters,
                                       struct obx_err *err)
{
    struct store_db *db = ctx;

    return due_remove_letters(db->db, db->settings, letters, err);
}

static enum obx_code op_free_keys(void *ctx, struct obx_buf *from, uint64_t *found,
                                  struct obx_err *err)
{
    struct store_db *db = ctx;

    return due_free_keys(db->db, db->settings, from, found, err);
}

/* Up to a limit: a table of millions is not walked for a number. */
static enum obx_code op_count_parked(void *ctx, uint64_t max, uint64_t *count, struct obx_err *err)
{
    struct store_db *db = ctx;
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db->db,
        "SELECT COUNT(*) FROM (SELECT 1 FROM inbox_parked WHERE consumer_group = ? LIMIT ?) AS t",
        DB_ARGS(DB_TEXT(db->settings->group), DB_U64(max)), &rows, err);

    *count = rc == OBX_OK && db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;
    db_rows_free(rows);
    return rc == OBX_OK ? db_commit(db->db, err) : rc;
}

static enum obx_code op_ping(void *ctx, struct obx_err *err)
{
    return db_ping(((struct store_db *)ctx)->db, err);
}

static struct db *op_session(void *ctx)
{
    return ((struct store_db *)ctx)->db;
}

static uint64_t op_connection_id(void *ctx)
{
    return db_connection_id(((struct store_db *)ctx)->db);
}

static const struct store_ops ops = {
    .begin = op_begin,
    .set_mark = op_set_mark,
    .undo_to = op_undo_to,
    .release = op_release,
    .insert = op_insert,
    .find_applied = op_find_applied,
    .insert_many = op_insert_many,
    .probe = op_probe,
    .remove = op_remove,
    .has = op_has,
    .has_committed = op_has_committed,
    .make_durable = op_make_durable,
    .commit = op_commit,
    .rollback = op_rollback,
    .reject = op_reject,
    .read_outcome = op_read_outcome,
    .any_parked = op_any_parked,
    .lookup = op_lookup,
    .park = op_park,
    .unpark = op_unpark,
    .promote = op_promote,
    .take_due = op_take_due,
    .give_back = op_give_back,
    .remove_letters = op_remove_letters,
    .free_keys = op_free_keys,
    .count_parked = op_count_parked,
    .ping = op_ping,
    .close = op_close,
    .session = op_session,
    .connection_id = op_connection_id,
    .ask_status = op_ask_status,
    .in_transaction = op_in_transaction,
    .is_lost = op_is_lost,
};

enum obx_code store_db_open(const struct settings *settings, struct store *out, struct obx_err *err)
{
    struct store_db *db = obx_calloc(1, sizeof(*db));
    enum obx_code rc = OBX_OK;

    *out = (struct store){0};
    if (db == NULL)
        return obx_fail(err, OBX_E_NOMEM, "database connection");
    db->settings = settings;
    make_marks(db);
    rc = db_open(&settings->db, &db->db, err);
    if (rc == OBX_OK)
        rc = schema_check(db->db, SCHEMA_CONSUMER, err);
    if (rc == OBX_OK)
        rc = ask_log(db, err);
    if (rc == OBX_OK)
        rc = run_text(db, "SET autocommit = 0", err);
    if (rc != OBX_OK) {
        op_close(db);
        return rc;
    }
    *out = (struct store){.ops = &ops, .ctx = db};
    return OBX_OK;
}
