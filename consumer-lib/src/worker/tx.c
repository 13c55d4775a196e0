/*
 * A handler's side: the makers of values, its statements inside the transaction that the worker has
 * begun, and what core/embed.h lets inbox-relay's handlers do with it.
 */
#include "tx.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "core/embed.h"
#include "tx_text.h"

/* A result that a handler holds, linked so that one it forgets is freed when it returns. */
struct obx_rows {
    struct db_rows *rows;
    struct obx_tx *tx;
    struct obx_rows *next;
};

/* ------------------------------------------------------------------ values */

struct obx_value obx_null(void)
{
    return (struct obx_value){.type = OBX_V_NULL};
}

struct obx_value obx_u64(uint64_t number)
{
    return (struct obx_value){.type = OBX_V_U64, .v.u64 = number};
}

struct obx_value obx_i64(int64_t number)
{
    return (struct obx_value){.type = OBX_V_I64, .v.i64 = number};
}

struct obx_value obx_f64(double number)
{
    return (struct obx_value){.type = OBX_V_F64, .v.f64 = number};
}

struct obx_value obx_text(const char *text)
{
    if (text == NULL)
        return obx_null();
    return obx_data((struct obx_bytes){text, strlen(text)});
}

struct obx_value obx_data(struct obx_bytes bytes)
{
    if (bytes.p == NULL)
        return obx_null();
    return (struct obx_value){.type = OBX_V_BYTES, .v.bytes = bytes};
}

/* ------------------------------------------------------------------ one call of a handler */

void tx_init(struct obx_tx *tx, struct db *db)
{
    memset(tx, 0, sizeof(*tx));
    tx->db = db;
}

void tx_fini(struct obx_tx *tx)
{
    while (tx->rows != NULL)
        obx_rows_free(tx->rows);
}

/* After some errors the unit of work has to be run again from its beginning. */
static enum obx_code note(struct obx_tx *tx, enum obx_code rc, const struct obx_err *why)
{
    const enum obx_action action = obx_code_action(rc);

    if (rc != OBX_OK && (action == OBX_DO_RETRY || action == OBX_DO_RECONNECT))
        tx->failed = *why;
    return rc;
}

static enum obx_code copy_out(struct obx_err *to, const struct obx_err *from)
{
    if (to != NULL)
        *to = *from;
    return from->code;
}

/* Runs sql with or without a result set: rows NULL tells which. */
static enum obx_code run(struct obx_tx *tx, const char *sql, const struct obx_value *args,
                         size_t arg_count, uint64_t *affected, struct db_rows **rows,
                         struct obx_err *err)
{
    struct obx_err why = {0};
    enum obx_code rc = OBX_OK;

    if (tx->failed.code != OBX_OK)
        return copy_out(err, &tx->failed);
    if (tx_text_ends(sql)) {
        tx->is_refused = true;
        return obx_fail(err, OBX_E_INVALID, "the transaction is not the handler's to end: %.80s",
                        sql);
    }
    if (rows != NULL)
        rc = db_query(tx->db, sql, args, arg_count, rows, &why);
    else
        rc = db_exec(tx->db, sql, args, arg_count, affected, &why);
    if (rc == OBX_OK) {
        tx->has_ended = tx->has_ended || !db_in_transaction(tx->db);
        return OBX_OK;
    }
    tx->is_uncertain = true; /* an error says nothing about the transaction */
    why.code = rc;
    note(tx, rc, &why);
    return copy_out(err, &why);
}

enum obx_code obx_tx_exec(struct obx_tx *tx, const char *sql, const struct obx_value *args,
                          size_t arg_count, uint64_t *affected, struct obx_err *err)
{
    return run(tx, sql, args, arg_count, affected, NULL, err);
}

enum obx_code obx_tx_query(struct obx_tx *tx, const char *sql, const struct obx_value *args,
                           size_t arg_count, struct obx_rows **rows, struct obx_err *err)
{
    struct db_rows *result = NULL;
    enum obx_code rc = OBX_OK;

    *rows = NULL;
    rc = run(tx, sql, args, arg_count, NULL, &result, err);
    if (rc != OBX_OK)
        return rc;
    *rows = obx_malloc(sizeof(**rows));
    if (*rows == NULL) {
        db_rows_free(result);
        return note(tx, obx_fail(err, OBX_E_NOMEM, "result"),
                    &(struct obx_err){.code = OBX_E_NOMEM, .text = "out of memory: result"});
    }
    **rows = (struct obx_rows){.rows = result, .tx = tx, .next = tx->rows};
    tx->rows = *rows;
    return OBX_OK;
}

bool obx_rows_next(struct obx_rows *rows)
{
    return db_rows_next(rows->rows);
}

size_t obx_rows_count(const struct obx_rows *rows)
{
    return db_rows_count(rows->rows);
}

struct obx_bytes obx_rows_bytes(const struct obx_rows *rows, unsigned column)
{
    return db_rows_bytes(rows->rows, column);
}

uint64_t obx_rows_u64(const struct obx_rows *rows, unsigned column)
{
    return db_rows_u64(rows->rows, column);
}

int64_t obx_rows_i64(const struct obx_rows *rows, unsigned column)
{
    return db_rows_i64(rows->rows, column);
}

bool obx_rows_is_null(const struct obx_rows *rows, unsigned column)
{
    return db_rows_is_null(rows->rows, column);
}

void obx_rows_free(struct obx_rows *rows)
{
    struct obx_rows **at = NULL;

    if (rows == NULL)
        return;
    for (at = &rows->tx->rows; *at != rows; at = &(*at)->next)
        ;
    *at = rows->next;
    db_rows_free(rows->rows);
    obx_free(rows);
}

void obx_tx_reason(struct obx_tx *tx, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(tx->reason, sizeof(tx->reason), fmt, args);
    va_end(args);
}

void obx_tx_blame(struct obx_tx *tx, size_t index)
{
    tx->is_blaming = true;
    tx->blamed = index;
}

void obx_tx_answer(struct obx_tx *tx, size_t index, enum obx_verdict verdict, const char *fmt, ...)
{
    char reason[OBX_ERR_TEXT_MAX] = "";
    va_list args;

    if (index >= tx->item_count)
        return;
    tx->items[index]->answer = verdict;
    if (verdict == OBX_APPLIED)
        return;
    if (fmt != NULL) {
        va_start(args, fmt);
        (void)vsnprintf(reason, sizeof(reason), fmt, args);
        va_end(args);
    }
    item_reason(tx->items[index], verdict == OBX_REJECT ? OBX_E_REJECTED : OBX_E_HANDLER, reason);
}

void *obx_tx_native(struct obx_tx *tx)
{
    tx->is_uncertain = true;
    return db_native(tx->db);
}

/* ------------------------------------------------------------------ for handlers of our own */

unsigned consumer_tx_worker(const struct obx_tx *tx)
{
    return tx->worker;
}

void consumer_tx_stall(struct obx_tx *tx, const struct obx_err *why)
{
    tx->failed = *why;
}

size_t consumer_tx_max_packet(const struct obx_tx *tx)
{
    return db_max_packet(tx->db);
}
