/*
 * The schema's versions: what the programs know (built in from sql/schema), what a database has
 * (its table rowpost_schema), and the way from one to the other. Invariant: a version is recorded
 * by the last statement of its own file, so a version that is there is whole, and a file that was
 * cut off is run again. Called by outboxctl migrate and by all programs at start.
 */
#include "sql/schema.h"

#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "schema_files.h"
#include "sql_split.h"

enum {
    LOCK_WAIT_MS = 10000, /* for another migration to end */
    LOCK_PAUSE_MS = 100,
    STATEMENT_NAME_MAX = 60, /* so much of a statement names it in an error */
    NAME_MAX_LEN = 58,       /* of an outbox: MySQL names its check NAME_chk_1, in 64 at most */
    NS_PER_MS = 1000000,
};

/* Named locks are the server's, not the database's: one per database, within 64 characters. MySQL 9
 * has no SHA1() any more. */
#define LOCK_NAME "CONCAT('rowpost_migrate_', LEFT(SHA2(DATABASE(), 256), 40))"

const char *schema_side_name(enum schema_side side)
{
    return schema_files[side].side;
}

const struct schema_step *schema_steps(enum schema_side side, size_t *count)
{
    *count = schema_files[side].count;
    return schema_files[side].steps;
}

uint32_t schema_latest(enum schema_side side)
{
    size_t count = 0;
    const struct schema_step *steps = schema_steps(side, &count);

    return steps[count - 1].version;
}

/* The number in the only column of the only row; NULL reads as 0. */
static enum obx_code query_number(struct db *db, const char *sql, const struct obx_value *args,
                                  size_t arg_count, uint64_t *number, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, sql, args, arg_count, &rows, err);

    *number = 0;
    if (rc != OBX_OK)
        return rc;
    if (db_rows_next(rows))
        *number = db_rows_u64(rows, 0);
    db_rows_free(rows);
    return OBX_OK;
}

enum obx_code schema_version(struct db *db, enum schema_side side, uint32_t *version,
                             struct obx_err *err)
{
    uint64_t number = 0;
    enum obx_code rc = query_number(db, "SELECT MAX(version) FROM rowpost_schema WHERE side = ?",
                                    DB_ARGS(DB_TEXT(schema_side_name(side))), &number, err);

    *version = (uint32_t)number;
    if (rc != OBX_E_DB_NO_TABLE)
        return rc;
    obx_err_clear(err);
    return OBX_OK;
}

static enum obx_code fail_newer(enum schema_side side, uint32_t version, struct obx_err *err)
{
    return obx_fail(err, OBX_E_DB_SCHEMA,
                    "the %s schema has version %u, this program knows %u: upgrade the program",
                    schema_side_name(side), version, schema_latest(side));
}

enum obx_code schema_check(struct db *db, enum schema_side side, struct obx_err *err)
{
    const uint32_t latest = schema_latest(side);
    uint32_t version = 0;
    enum obx_code rc = schema_version(db, side, &version, err);

    if (rc != OBX_OK)
        return rc;
    if (version == 0)
        return obx_fail(err, OBX_E_DB_NO_TABLE,
                        "the database has no %s schema: run `outboxctl migrate --side %s`",
                        schema_side_name(side), schema_side_name(side));
    if (version < latest)
        return obx_fail(
            err, OBX_E_DB_SCHEMA,
            "the %s schema has version %u, this program needs %u: run `outboxctl migrate "
            "--side %s`",
            schema_side_name(side), version, latest, schema_side_name(side));
    return version > latest ? fail_newer(side, version, err) : OBX_OK;
}

static enum obx_code apply(struct db *db, const struct schema_step *step, struct obx_err *err)
{
    struct obx_bytes rest = bytes_of(step->sql);
    struct obx_bytes statement = {NULL, 0};
    enum sql_split_result found = SQL_SPLIT_END;

    for (size_t number = 1; (found = sql_split(&rest, &statement)) == SQL_SPLIT_STATEMENT;
         number++) {
        enum obx_code rc = db_exec_text(db, statement, NULL, err);
        const char *text = statement.p;
        int len = 0;

        if (rc == OBX_OK)
            continue;
        /* "producer_0001_outbox.sql, statement 2 (CREATE TABLE ...)": the first line of it, cut. */
        while ((size_t)len < statement.len && len < STATEMENT_NAME_MAX && text[len] != '\n')
            len++;
        obx_err_context(err, "%s.sql, statement %zu (%.*s)", step->name, number, len, text);
        return rc;
    }
    if (found == SQL_SPLIT_BROKEN)
        return obx_fail(err, OBX_E_DB_SCHEMA, "%s.sql: a quote or a comment is not closed",
                        step->name);
    return OBX_OK;
}

static enum obx_code apply_missing(struct db *db, enum schema_side side,
                                   schema_progress_fn *progress, void *ctx, struct obx_err *err)
{
    size_t count = 0;
    const struct schema_step *steps = schema_steps(side, &count);
    uint32_t version = 0;
    enum obx_code rc = schema_version(db, side, &version, err);

    if (rc == OBX_OK && version > schema_latest(side))
        rc = fail_newer(side, version, err);
    for (size_t i = 0; i < count && rc == OBX_OK; i++) {
        if (steps[i].version <= version)
            continue;
        if (progress != NULL)
            progress(&steps[i], ctx);
        rc = apply(db, &steps[i], err);
    }
    return rc;
}

/* Asks again and again without waiting in the server, so that the wait does not depend on the
 * connection's read deadline. */
static enum obx_code lock(struct db *db, struct obx_err *err)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)LOCK_PAUSE_MS * NS_PER_MS};
    const uint64_t due_ms = clock_now_ms() + LOCK_WAIT_MS;

    for (;;) {
        uint64_t got = 0;
        enum obx_code rc =
            query_number(db, "SELECT GET_LOCK(" LOCK_NAME ", 0)", DB_NO_ARGS, &got, err);

        if (rc != OBX_OK || got == 1)
            return rc;
        if (clock_left_ms(due_ms) == 0)
            return obx_fail(err, OBX_E_DB_LOCK_WAIT,
                            "another migration of this database is still running");
        nanosleep(&pause, NULL);
    }
}

static enum obx_code check_caller(struct db *db, struct obx_err *err)
{
    uint64_t has_database = 0;
    enum obx_code rc = OBX_OK;

    if (db_in_transaction(db))
        return obx_fail(err, OBX_E_INVALID, "a migration would commit the open transaction");
    rc = query_number(db, "SELECT DATABASE() IS NOT NULL", DB_NO_ARGS, &has_database, err);
    if (rc == OBX_OK && has_database == 0)
        rc = obx_fail(err, OBX_E_INVALID, "no database is selected");
    return rc;
}

enum obx_code schema_migrate(struct db *db, enum schema_side side, schema_progress_fn *progress,
                             void *ctx, struct obx_err *err)
{
    uint64_t released = 0;
    enum obx_code rc = check_caller(db, err);
    enum obx_code end = OBX_OK;

    if (rc == OBX_OK)
        rc = lock(db, err);
    if (rc != OBX_OK)
        return rc;
    rc = apply_missing(db, side, progress, ctx, err);
    /* On a connection that was lost the server has released the lock itself. */
    end = query_number(db, "SELECT RELEASE_LOCK(" LOCK_NAME ")", DB_NO_ARGS, &released,
                       rc == OBX_OK ? err : NULL);
    return rc == OBX_OK ? end : rc;
}

/* ---- further outbox tables ---- */

/*
 * Another table of that name would be found out by the relay only, row by row. An account that may
 * make tables need not have the right to look into them; then no column is visible, and the relay's
 * own check has to do.
 */
enum obx_code schema_check_outbox(struct db *db, const char *name, struct obx_err *err)
{
    uint64_t is_other = 0;
    /* Other tables of ours have all of these; and a column `outbox`. */
    enum obx_code rc =
        query_number(db,
                     "SELECT COUNT(*) > 0 AND SUM(column_name IN ('id', 'message_id', 'topic',"
                     " 'ordering_key', 'headers', 'content_type', 'payload', 'created_at',"
                     " 'receipt_from', 'on_rejected')) - SUM(column_name = 'outbox') <> 10"
                     " FROM information_schema.columns"
                     " WHERE table_schema = DATABASE() AND table_name = ?",
                     DB_ARGS(DB_TEXT(name)), &is_other, err);

    if (rc == OBX_OK && is_other != 0)
        rc = obx_fail(err, OBX_E_DB_SCHEMA, "`%s` is there but is not an outbox table", name);
    return rc;
}

enum obx_code schema_add_outbox(struct db *db, const char *name, struct obx_err *err)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    const size_t len = strlen(name);
    struct obx_buf sql = {0};
    enum obx_code rc = OBX_OK;

    if (len < 1 || len > NAME_MAX_LEN || strspn(name, allowed) != len)
        return obx_fail(err, OBX_E_INVALID,
                        "an outbox table is named with 1 to %d of A-Z a-z 0-9 _", NAME_MAX_LEN);
    if (strcasecmp(name, "outbox") == 0)
        return obx_fail(err, OBX_E_INVALID,
                        "`outbox` is the first outbox, of which the others are copies: outboxctl "
                        "migrate makes it");
    if (db_in_transaction(db))
        return obx_fail(err, OBX_E_INVALID, "making a table would commit the open transaction");
    rc = buf_addf(&sql, "CREATE TABLE IF NOT EXISTS `%s` LIKE outbox", name);
    rc = rc == OBX_OK ? db_exec_text(db, buf_bytes(&sql), NULL, err)
                      : obx_fail(err, rc, "statement");
    buf_fini(&sql);
    return rc == OBX_OK ? schema_check_outbox(db, name, err) : rc;
}
