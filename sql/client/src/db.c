/*
 * The calls of db.h on an open connection: statements, transactions, literals. Holds the one
 * invariant about a lost connection: once db->dead is set nothing more is sent, so that a lost
 * statement can never be followed by others outside of its transaction. Opening and closing are in
 * db_open.c.
 */
#include "sql/db.h"

#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "db_errors.h"
#include "db_pipe.h"
#include "db_primary.h"
#include "db_private.h"

enum {
    PACKET_MARGIN = 64, /* head of a request: command, statement number, flags, bitmap */
    CR_UNKNOWN_NUMBER = 2000,
    CR_SERVER_LOST_NUMBER = 2013,
    CR_TLS_NUMBER = 2026,
    ER_LOCK_DEADLOCK = 1213,
};

static struct obx_bytes text_of(const char *sql)
{
    return (struct obx_bytes){sql, strlen(sql)};
}

struct obx_value db_value_bytes(struct obx_bytes b)
{
    if (b.p == NULL)
        return DB_NULL();
    return (struct obx_value){.type = OBX_V_BYTES, .v.bytes = b};
}

struct obx_value db_value_text(const char *text)
{
    if (text == NULL)
        return DB_NULL();
    return db_value_bytes(text_of(text));
}

enum obx_code db_ready(const struct db *db, size_t request_len, struct obx_err *err)
{
    if (db->dead)
        return obx_fail(err, OBX_E_DB_GONE, "this connection was lost before");
    if (db->max_packet != 0 &&
        (request_len > db->max_packet || db->max_packet - request_len < PACKET_MARGIN))
        return obx_fail(err, OBX_E_TOO_LARGE,
                        "statement of %zu bytes, the server's max_allowed_packet is %zu",
                        request_len, db->max_packet);
    return OBX_OK;
}

/* On a connection that was up a failure of TLS is how MariaDB's library says that it was cut or
 * that the time has passed. */
enum obx_code db_failed(struct db *db, unsigned number, const char *text, uint64_t started_ms,
                        struct obx_err *err)
{
    const uint64_t waited_ms = clock_now_ms() - started_ms;
    const bool is_lost = number == CR_SERVER_LOST_NUMBER || number == CR_TLS_NUMBER;

    /* A server that has become a replica has undone what was begun, and gets nothing more from us. */
    if (db_error_is_fatal(number) ||
        (!db->takes_any_server && db_error_is_of_replica(number, text)))
        db->dead = true;
    /* An error carries no status flags, and this one ends the transaction. */
    if (number == ER_LOCK_DEADLOCK)
        db->mysql->server_status &= ~(unsigned)SERVER_STATUS_IN_TRANS;
    if (is_lost && waited_ms >= db->read_timeout_ms)
        return obx_fail_sys(err, OBX_E_TIMEOUT, (int)number,
                            "the database did not answer within %u ms", db->read_timeout_ms);
    return obx_fail_sys(err, is_lost ? OBX_E_DB_GONE : db_code_of(number, text), (int)number,
                        "%s (%u)", text, number);
}

/* A call that failed without a number must not pass for success: it is taken for a lost connection.
 */
enum obx_code db_failed_last(struct db *db, uint64_t started_ms, struct obx_err *err)
{
    const unsigned number = mysql_errno(db->mysql);

    if (number == 0)
        return db_failed(db, CR_UNKNOWN_NUMBER, "the client library gave no reason", started_ms,
                         err);
    return db_failed(db, number, mysql_error(db->mysql), started_ms, err);
}

/* Statements without values go as text: what cannot be prepared (transaction control, DDL) never
 * has any. */
static enum obx_code run(struct db *db, const char *sql, const struct obx_value *args,
                         size_t arg_count, struct db_rows **rows, struct obx_err *err)
{
    struct db_call call = {.sql = sql, .args = args, .arg_count = arg_count};
    struct db_pipe_guard guard;
    enum obx_code rc = OBX_OK;

    db->statements++;
    db_pipe_enter(&guard);
    rc = db_primary_recheck(db, err);
    if (rc == OBX_OK)
        rc = arg_count == 0 ? db_text_run(db, text_of(sql), rows, err)
                            : db_stmt_run(db, &call, rows, err);
    db_pipe_leave(&guard);
    return rc;
}

static enum obx_code run_text(struct db *db, struct obx_bytes sql, struct db_rows **rows,
                              struct obx_err *err)
{
    struct db_pipe_guard guard;
    enum obx_code rc = OBX_OK;

    db->statements++;
    db_pipe_enter(&guard);
    rc = db_primary_recheck(db, err);
    if (rc == OBX_OK)
        rc = db_text_run(db, sql, rows, err);
    db_pipe_leave(&guard);
    return rc;
}

enum obx_code db_exec(struct db *db, const char *sql, const struct obx_value *args,
                      size_t arg_count, uint64_t *affected, struct obx_err *err)
{
    enum obx_code rc = run(db, sql, args, arg_count, NULL, err);

    if (affected != NULL)
        *affected = rc == OBX_OK ? db->affected : 0;
    return rc;
}

enum obx_code db_exec_text(struct db *db, struct obx_bytes sql, uint64_t *affected,
                           struct obx_err *err)
{
    enum obx_code rc = run_text(db, sql, NULL, err);

    if (affected != NULL)
        *affected = rc == OBX_OK ? db->affected : 0;
    return rc;
}

enum obx_code db_query(struct db *db, const char *sql, const struct obx_value *args,
                       size_t arg_count, struct db_rows **rows, struct obx_err *err)
{
    *rows = NULL;
    return run(db, sql, args, arg_count, rows, err);
}

enum obx_code db_query_text(struct db *db, struct obx_bytes sql, struct db_rows **rows,
                            struct obx_err *err)
{
    *rows = NULL;
    return run_text(db, sql, rows, err);
}

enum obx_code db_run_steps(struct db *db, struct obx_bytes sql, struct db_step *steps, size_t count,
                           size_t *done, struct obx_err *err)
{
    struct db_pipe_guard guard;
    enum obx_code rc = OBX_OK;

    memset(steps, 0, count * sizeof(*steps));
    *done = 0;
    db_pipe_enter(&guard);
    rc = db_primary_recheck(db, err);
    if (rc == OBX_OK)
        rc = db_text_run_steps(db, sql, steps, count, done, err);
    db_pipe_leave(&guard);
    db->statements += *done + (rc == OBX_OK ? 0 : 1);
    return rc;
}

uint64_t db_insert_id(const struct db *db)
{
    return db->insert_id;
}

bool db_in_transaction(const struct db *db)
{
    return !db->dead && (db->mysql->server_status & SERVER_STATUS_IN_TRANS) != 0;
}

enum obx_code db_ping(struct db *db, struct obx_err *err)
{
    const uint64_t started_ms = clock_now_ms();
    enum obx_code rc = db_ready(db, 0, err);
    struct db_pipe_guard guard;

    if (rc != OBX_OK)
        return rc;
    db_pipe_enter(&guard);
    rc = db_primary_recheck(db, err); /* so that somebody who only waits learns it too */
    if (rc == OBX_OK && mysql_ping(db->mysql) != 0)
        rc = db_failed_last(db, started_ms, err);
    db_pipe_leave(&guard);
    return rc;
}

enum obx_code db_begin(struct db *db, struct obx_err *err)
{
    return db_exec(db, "START TRANSACTION", DB_NO_ARGS, NULL, err);
}

/*
 * A COMMIT that was refused in clear words is undone. Everything else that is not success leaves it
 * open, and then the connection is not used any more, so that nobody takes up work on it in the
 * belief that the transaction has ended.
 */
enum obx_code db_commit(struct db *db, struct obx_err *err)
{
    const bool was_dead = db->dead;
    struct obx_err cause = {.code = OBX_OK};
    enum obx_code rc = db_exec(db, "COMMIT", DB_NO_ARGS, NULL, &cause);

    if (rc == OBX_OK)
        return OBX_OK;
    if (was_dead || cause.sys == 0 || db_error_undoes_commit((unsigned)cause.sys)) {
        if (err != NULL)
            *err = cause;
        return rc;
    }
    db->dead = true;
    return obx_fail_sys(err, OBX_E_DB_COMMIT_UNKNOWN, cause.sys, "%s", cause.text);
}

uint64_t db_statements(const struct db *db)
{
    return db->statements;
}

size_t db_max_packet(const struct db *db)
{
    return db->max_packet;
}

bool db_is_lost(const struct db *db)
{
    return db->dead;
}

enum obx_code db_rollback(struct db *db, struct obx_err *err)
{
    enum obx_code rc = db_exec(db, "ROLLBACK", DB_NO_ARGS, NULL, err);

    if (rc != OBX_OK)
        db->dead = true;
    return rc;
}

enum obx_code db_add_identifier(struct obx_buf *buf, const char *name)
{
    buf_add(buf, "`", 1);
    for (const char *c = name; *c != '\0'; c++)
        buf_add(buf, *c == '`' ? "``" : c, *c == '`' ? 2 : 1);
    return buf_add(buf, "`", 1);
}

/* In utf8mb4 no quote and no backslash is part of a longer character, so bytes may be looked at one
 * by one; what stands between those that are escaped goes in one piece. */
enum obx_code db_add_literal(struct db *db, struct obx_buf *buf, struct obx_bytes text)
{
    const bool backslashes = (db->mysql->server_status & SERVER_STATUS_NO_BACKSLASH_ESCAPES) == 0;
    const char *bytes = text.p;
    size_t from = 0; /* of the piece that is not appended yet */

    if (text.p == NULL)
        return buf_add_text(buf, "NULL");
    buf_add(buf, "'", 1);
    for (size_t i = 0; i < text.len && buf->rc == OBX_OK; i++) {
        const char *escaped = bytes[i] == '\''                  ? "''"
                              : backslashes && bytes[i] == '\\' ? "\\\\"
                              : backslashes && bytes[i] == '\0' ? "\\0"
                                                                : NULL;

        if (escaped == NULL)
            continue;
        buf_add(buf, bytes + from, i - from);
        buf_add(buf, escaped, 2);
        from = i + 1;
    }
    buf_add(buf, bytes + from, text.len - from);
    return buf_add(buf, "'", 1);
}

enum obx_code db_add_to_list(struct db *db, struct obx_buf *list, struct obx_bytes text)
{
    if (list->len > 0)
        buf_add_text(list, ", ");
    return db_add_literal(db, list, text);
}
