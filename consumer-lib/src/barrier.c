/*
 * The participant's barrier on obx_barrier. Whoever inserts a key first decides; a plain INSERT and
 * error 1062, never a look beforehand. A duplicate's row is read after the INSERT met it, when it
 * is committed or our own transaction's.
 */
#include "obx/barrier.h"

#include <string.h>

static struct obx_value text_or_empty(const char *text)
{
    return obx_text(text != NULL ? text : "");
}

/* *first tells whether we inserted the key; otherwise *is_cancel tells whether a Cancel did. */
static enum obx_code take(struct obx_tx *tx, struct obx_bytes gid, const char *branch,
                          const char *op, const char *reason, bool *first, bool *is_cancel,
                          struct obx_err *err)
{
    struct obx_rows *rows = NULL;
    struct obx_bytes found;
    enum obx_code rc = obx_tx_exec(
        tx, "INSERT INTO obx_barrier (gid, branch, op, reason) VALUES (?, ?, ?, ?)",
        OBX_ARGS(obx_data(gid), text_or_empty(branch), obx_text(op), obx_text(reason)), NULL, err);

    *first = rc == OBX_OK;
    *is_cancel = false;
    if (rc != OBX_E_DB_DUPLICATE)
        return rc;
    rc = obx_tx_query(tx, "SELECT reason FROM obx_barrier WHERE gid = ? AND branch = ? AND op = ?",
                      OBX_ARGS(obx_data(gid), text_or_empty(branch), obx_text(op)), &rows, err);
    if (rc == OBX_OK && obx_rows_next(rows)) {
        found = obx_rows_bytes(rows, 0);
        *is_cancel = found.len == strlen("cancel") && memcmp(found.p, "cancel", found.len) == 0;
    }
    obx_rows_free(rows);
    return rc;
}

enum obx_code obx_barrier_try(struct obx_tx *tx, struct obx_bytes gid, const char *branch,
                              enum obx_barrier *answer, struct obx_err *err)
{
    bool first = false, is_cancel = false;
    enum obx_code rc = take(tx, gid, branch, "try", "try", &first, &is_cancel, err);

    *answer = first ? OBX_BARRIER_GO : is_cancel ? OBX_BARRIER_REFUSED : OBX_BARRIER_REPEAT;
    return rc;
}

/* A Confirm is sent only after every Try succeeded; one without a Try is a fault that must not pass
 * as done. */
enum obx_code obx_barrier_confirm(struct obx_tx *tx, struct obx_bytes gid, const char *branch,
                                  enum obx_barrier *answer, struct obx_err *err)
{
    struct obx_rows *rows = NULL;
    bool first = false, is_cancel = false, tried = false;
    enum obx_code rc = obx_tx_query(
        tx,
        "SELECT 1 FROM obx_barrier WHERE gid = ? AND branch = ? AND op = 'try' AND reason = 'try'",
        OBX_ARGS(obx_data(gid), text_or_empty(branch)), &rows, err);

    *answer = OBX_BARRIER_REFUSED;
    if (rc != OBX_OK)
        return rc;
    tried = obx_rows_next(rows);
    obx_rows_free(rows);
    if (!tried)
        return OBX_OK;
    rc = take(tx, gid, branch, "confirm", "confirm", &first, &is_cancel, err);
    *answer = first ? OBX_BARRIER_GO : OBX_BARRIER_REPEAT;
    return rc;
}

enum obx_code obx_barrier_cancel(struct obx_tx *tx, struct obx_bytes gid, const char *branch,
                                 enum obx_barrier *answer, struct obx_err *err)
{
    bool first = false, is_cancel = false;
    enum obx_code rc = take(tx, gid, branch, "try", "cancel", &first, &is_cancel, err);

    *answer = OBX_BARRIER_NONE;
    if (rc != OBX_OK || first || is_cancel)
        return rc;
    rc = take(tx, gid, branch, "cancel", "cancel", &first, &is_cancel, err);
    *answer = first ? OBX_BARRIER_GO : OBX_BARRIER_REPEAT;
    return rc;
}
