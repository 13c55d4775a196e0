/*
 * Prepared statements: kept open per connection, found again by their text, the least recently used
 * one closed when there are too many. A statement that the server does not know any more is
 * prepared again, once, which is safe because nothing was run. Results are read row by row into a
 * db_rows: small values through a fixed space per column, large ones straight into their place.
 * Called by db.c.
 */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "db_errors.h"
#include "db_private.h"

enum {
    COLUMN_SPACE = 64, /* values up to this size need no second call into the library */
    ER_MAX_PREPARED_STMT_COUNT_REACHED = 1461,
};

/* One column of a result while it is read. */
struct column {
    unsigned long len;
    db_bool is_null;
    char space[COLUMN_SPACE];
};

struct db_stmt {
    MYSQL_STMT *handle;
    char *sql;
    uint64_t hash;
    uint64_t used;
    size_t param_count;
    MYSQL_BIND *params;
    /* For results; made when the first one is read. */
    unsigned column_count;
    MYSQL_BIND *binds;
    struct column *columns;
    uint64_t *lengths;
};

static void columns_free(struct db_stmt *stmt)
{
    obx_free(stmt->binds);
    obx_free(stmt->columns);
    obx_free(stmt->lengths);
    stmt->binds = NULL;
    stmt->columns = NULL;
    stmt->lengths = NULL;
    stmt->column_count = 0;
}

static void stmt_destroy(struct db_stmt *stmt)
{
    if (stmt == NULL)
        return;
    columns_free(stmt);
    if (stmt->handle != NULL)
        (void)mysql_stmt_close(stmt->handle);
    obx_free(stmt->params);
    obx_free(stmt->sql);
    obx_free(stmt);
}

static void cache_drop(struct db *db, size_t at)
{
    stmt_destroy(db->stmts[at]);
    db->stmts[at] = db->stmts[--db->stmt_count];
    db->stmts[db->stmt_count] = NULL;
}

static void cache_drop_stmt(struct db *db, const struct db_stmt *stmt)
{
    for (size_t i = 0; i < db->stmt_count; i++) {
        if (db->stmts[i] == stmt) {
            cache_drop(db, i);
            return;
        }
    }
}

void db_stmts_close(struct db *db)
{
    while (db->stmt_count > 0)
        cache_drop(db, db->stmt_count - 1);
}

static struct db_stmt *cache_find(struct db *db, struct obx_bytes sql, uint64_t hash)
{
    for (size_t i = 0; i < db->stmt_count; i++) {
        struct db_stmt *stmt = db->stmts[i];

        if (stmt->hash == hash && bytes_is(sql, stmt->sql)) {
            stmt->used = ++db->stmt_clock;
            return stmt;
        }
    }
    return NULL;
}

static void cache_add(struct db *db, struct db_stmt *stmt)
{
    size_t oldest = 0;

    if (db->stmt_count == DB_STMT_CACHE_MAX) {
        for (size_t i = 1; i < db->stmt_count; i++) {
            if (db->stmts[i]->used < db->stmts[oldest]->used)
                oldest = i;
        }
        cache_drop(db, oldest);
    }
    stmt->used = ++db->stmt_clock;
    db->stmts[db->stmt_count++] = stmt;
}

/* MariaDB's library tells of a connection lost between two rows on the connection only, not on the
 * statement. */
static enum obx_code stmt_failed(struct db *db, const struct db_stmt *stmt, uint64_t started_ms,
                                 struct obx_err *err)
{
    const unsigned number = mysql_stmt_errno(stmt->handle);

    if (number == 0)
        return db_failed_last(db, started_ms, err);
    return db_failed(db, number, mysql_stmt_error(stmt->handle), started_ms, err);
}

/* The memory of a statement, and its handle; nothing sent yet. */
static struct db_stmt *stmt_create(struct db *db, struct obx_bytes sql, uint64_t hash)
{
    struct db_stmt *stmt = obx_calloc(1, sizeof(*stmt));

    if (stmt == NULL)
        return NULL;
    stmt->hash = hash;
    stmt->sql = bytes_dup(sql);
    stmt->handle = mysql_stmt_init(db->mysql);
    if (stmt->sql == NULL || stmt->handle == NULL) {
        stmt_destroy(stmt);
        return NULL;
    }
    return stmt;
}

static int send_prepare(struct db *db, struct db_stmt *stmt, struct obx_bytes sql)
{
    int rc = mysql_stmt_prepare(stmt->handle, stmt->sql, (unsigned long)sql.len);

    /* The server's limit is shared by all its clients: give ours back before giving up. */
    if (rc != 0 && mysql_stmt_errno(stmt->handle) == ER_MAX_PREPARED_STMT_COUNT_REACHED &&
        db->stmt_count > 0) {
        db_stmts_close(db);
        rc = mysql_stmt_prepare(stmt->handle, stmt->sql, (unsigned long)sql.len);
    }
    return rc;
}

static enum obx_code stmt_prepare(struct db *db, struct obx_bytes sql, uint64_t hash,
                                  struct db_stmt **out, struct obx_err *err)
{
    const uint64_t started_ms = clock_now_ms();
    enum obx_code rc = OBX_OK;
    struct db_stmt *stmt = stmt_create(db, sql, hash);

    if (stmt == NULL)
        return obx_fail(err, OBX_E_NOMEM, "prepared statement");
    if (send_prepare(db, stmt, sql) != 0) {
        rc = stmt_failed(db, stmt, started_ms, err);
        goto out;
    }
    stmt->param_count = mysql_stmt_param_count(stmt->handle);
    stmt->params = obx_calloc(stmt->param_count + 1, sizeof(MYSQL_BIND));
    if (stmt->params == NULL) {
        rc = obx_fail(err, OBX_E_NOMEM, "places of a prepared statement");
        goto out;
    }
    cache_add(db, stmt);
    *out = stmt;
    stmt = NULL; /* moved to the cache */
out:
    stmt_destroy(stmt);
    return rc;
}

static enum obx_code stmt_get(struct db *db, const char *sql, struct db_stmt **out,
                              struct obx_err *err)
{
    const struct obx_bytes text = bytes_of(sql);
    const uint64_t hash = bytes_hash(text);
    enum obx_code rc = OBX_OK;

    *out = cache_find(db, text, hash);
    /* Somebody who was lent the handle may have reset the session: the library has cut its
     * statements off the connection then. */
    if (*out != NULL && (*out)->handle->mysql == NULL) {
        cache_drop_stmt(db, *out);
        *out = NULL;
    }
    if (*out == NULL)
        rc = stmt_prepare(db, text, hash, out, err);
    assert(rc != OBX_OK || *out != NULL);
    return rc;
}

/* The library takes what it only reads through pointers that are not const. */
static void *unconst(const void *p)
{
    union {
        const void *in;
        void *out;
    } pointer = {.in = p};

    return pointer.out;
}

/*
 * Bytes go as a string of the connection's character set and not as a binary one: MySQL takes no
 * binary string for a JSON column, and compares a text column with one without its index. Into a
 * binary column they go unchanged.
 */
static void bind_value(MYSQL_BIND *bind, const struct obx_value *value)
{
    memset(bind, 0, sizeof(*bind));
    switch (value->type) {
    case OBX_V_NULL:
        bind->buffer_type = MYSQL_TYPE_NULL;
        break;
    case OBX_V_U64:
    case OBX_V_I64:
        bind->buffer_type = MYSQL_TYPE_LONGLONG;
        bind->is_unsigned = (db_bool)(value->type == OBX_V_U64);
        bind->buffer = unconst(&value->v);
        break;
    case OBX_V_F64:
        bind->buffer_type = MYSQL_TYPE_DOUBLE;
        bind->buffer = unconst(&value->v.f64);
        break;
    case OBX_V_BYTES:
        bind->buffer_type = MYSQL_TYPE_STRING;
        bind->buffer = unconst(value->v.bytes.p);
        bind->buffer_length = (unsigned long)value->v.bytes.len;
        break;
    }
}

static enum obx_code stmt_execute(struct db *db, struct db_stmt *stmt, const struct db_call *call,
                                  struct obx_err *err)
{
    if (call->arg_count != stmt->param_count)
        return obx_fail(err, OBX_E_INVALID, "%zu values for %zu places", call->arg_count,
                        stmt->param_count);
    for (size_t i = 0; i < call->arg_count; i++)
        bind_value(&stmt->params[i], &call->args[i]);
    if (call->arg_count > 0 && mysql_stmt_bind_param(stmt->handle, stmt->params) != 0)
        return stmt_failed(db, stmt, call->started_ms, err);
    if (mysql_stmt_execute(stmt->handle) != 0)
        return stmt_failed(db, stmt, call->started_ms, err);
    db->insert_id = mysql_stmt_insert_id(stmt->handle);
    db->affected =
        mysql_stmt_field_count(stmt->handle) == 0 ? mysql_stmt_affected_rows(stmt->handle) : 0;
    return OBX_OK;
}

static bool columns_make(struct db_stmt *stmt, unsigned count)
{
    if (stmt->column_count == count && stmt->binds != NULL)
        return true;
    columns_free(stmt);
    stmt->binds = obx_calloc(count, sizeof(MYSQL_BIND));
    stmt->columns = obx_calloc(count, sizeof(struct column));
    stmt->lengths = obx_calloc(count, sizeof(uint64_t));
    if (stmt->binds == NULL || stmt->columns == NULL || stmt->lengths == NULL) {
        columns_free(stmt);
        return false;
    }
    stmt->column_count = count;
    for (unsigned i = 0; i < count; i++) {
        stmt->binds[i] = (MYSQL_BIND){
            .buffer_type = MYSQL_TYPE_STRING,
            .buffer = stmt->columns[i].space,
            .buffer_length = COLUMN_SPACE,
            .length = &stmt->columns[i].len,
            .is_null = &stmt->columns[i].is_null,
        };
    }
    return true;
}

static bool column_copy(struct db_stmt *stmt, unsigned i, char *slot)
{
    const struct column *column = &stmt->columns[i];
    unsigned long len = 0;
    db_bool is_null = 0;
    MYSQL_BIND bind = {
        .buffer_type = MYSQL_TYPE_STRING,
        .buffer = slot,
        .buffer_length = column->len,
        .length = &len,
        .is_null = &is_null,
    };

    if (column->is_null)
        return true;
    if (column->len > COLUMN_SPACE)
        return mysql_stmt_fetch_column(stmt->handle, &bind, i, 0) == 0;
    memcpy(slot, column->space, column->len);
    return true;
}

/* Append the row that was fetched last. */
static bool row_add(struct db_stmt *stmt, struct db_rows *rows)
{
    size_t at = 0;

    for (unsigned i = 0; i < stmt->column_count; i++)
        stmt->lengths[i] = stmt->columns[i].is_null ? DB_LEN_NULL : stmt->columns[i].len;
    if (!db_rows_add(rows, stmt->lengths))
        return false;
    for (unsigned i = 0; i < stmt->column_count; i++) {
        if (!column_copy(stmt, i, db_rows_slot(rows, stmt->lengths, i, &at)))
            return false;
    }
    return true;
}

/* The first result set, whole. When memory is short the caller frees the result, which reads and
 * drops what is left. */
static enum obx_code read_rows(struct db *db, struct db_stmt *stmt, struct db_rows **out,
                               uint64_t started_ms, struct obx_err *err)
{
    const unsigned count = mysql_stmt_field_count(stmt->handle);
    struct db_rows *rows = NULL;
    int rc = 0;

    if (count == 0)
        return obx_fail(err, OBX_E_INVALID, "the statement has no result set");
    rows = db_rows_create(count);
    if (rows == NULL || !columns_make(stmt, count)) {
        db_rows_free(rows);
        return obx_fail(err, OBX_E_NOMEM, "result of %u columns", count);
    }
    *out = rows;
    if (mysql_stmt_bind_result(stmt->handle, stmt->binds) != 0)
        return stmt_failed(db, stmt, started_ms, err);
    while ((rc = mysql_stmt_fetch(stmt->handle)) == 0 || rc == MYSQL_DATA_TRUNCATED) {
        if (!row_add(stmt, rows))
            return obx_fail(err, OBX_E_NOMEM, "result after %zu rows", db_rows_count(rows));
    }
    return rc == MYSQL_NO_DATA ? OBX_OK : stmt_failed(db, stmt, started_ms, err);
}

/* Read what is left of the result set there is, and forget it. Newer versions of MariaDB's library
 * take it for an error when there is none. */
static bool free_result(struct db_stmt *stmt)
{
    return mysql_stmt_free_result(stmt->handle) == 0 ||
           db_error_is_no_result(mysql_stmt_errno(stmt->handle));
}

/* Leave nothing unread on the connection: what is left of this result set, and those that a CALL
 * sends after it. Whether there is another one is known after the end of the one before. */
static enum obx_code finish(struct db *db, struct db_stmt *stmt, uint64_t started_ms,
                            struct obx_err *err)
{
    if (!free_result(stmt))
        return stmt_failed(db, stmt, started_ms, err);
    while (mysql_more_results(db->mysql)) {
        if (mysql_stmt_next_result(stmt->handle) > 0 || !free_result(stmt))
            return stmt_failed(db, stmt, started_ms, err);
    }
    return OBX_OK;
}

/* Execute and read all of the answer. */
static enum obx_code run_once(struct db *db, struct db_stmt *stmt, struct db_call *call,
                              struct db_rows **rows, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;
    enum obx_code end = OBX_OK;

    call->started_ms = clock_now_ms();
    rc = stmt_execute(db, stmt, call, err);
    if (rc != OBX_OK)
        return rc;
    if (rows != NULL)
        rc = read_rows(db, stmt, rows, call->started_ms, err);
    if (db->dead)
        return rc;
    end = finish(db, stmt, call->started_ms, rc == OBX_OK ? err : NULL);
    return rc == OBX_OK ? end : rc;
}

/* What the request is at most, so that one over the server's limit can be refused before it is
 * sent. */
static size_t request_size(const struct db_call *call)
{
    const size_t per_value = 2 * sizeof(uint64_t);
    size_t size = strlen(call->sql);

    for (size_t i = 0; i < call->arg_count; i++) {
        size += per_value;
        if (call->args[i].type == OBX_V_BYTES)
            size += call->args[i].v.bytes.len;
    }
    return size;
}

enum obx_code db_stmt_run(struct db *db, struct db_call *call, struct db_rows **rows,
                          struct obx_err *err)
{
    enum obx_code rc = db_ready(db, request_size(call), err);
    struct db_stmt *stmt = NULL;
    struct db_rows *got = NULL;

    if (rc == OBX_OK)
        rc = stmt_get(db, call->sql, &stmt, err);
    if (rc != OBX_OK)
        return rc;
    rc = run_once(db, stmt, call, rows == NULL ? NULL : &got, err);
    if (rc != OBX_OK && !db->dead && db_error_wants_prepare(mysql_stmt_errno(stmt->handle))) {
        cache_drop_stmt(db, stmt);
        db_rows_free(got);
        got = NULL;
        obx_err_clear(err);
        rc = stmt_get(db, call->sql, &stmt, err);
        if (rc == OBX_OK)
            rc = run_once(db, stmt, call, rows == NULL ? NULL : &got, err);
    }
    if (rc != OBX_OK) {
        db_rows_free(got);
        return rc;
    }
    if (rows != NULL)
        *rows = got;
    return OBX_OK;
}
