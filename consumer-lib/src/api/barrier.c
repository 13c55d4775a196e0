/*
 * The participant's barrier on half_barrier. The first to insert a key decides; a plain INSERT and
 * error 1062, never a lookup beforehand. A duplicate's row is read after the INSERT met it, when it
 * is committed or our own transaction's.
 */
#include "obx/barrier.h"

#include <stdbool.h>
#include <string.h>

static struct obx_value text_or_empty(const char *text)
{
    return obx_text(text != NULL ? text : "");
}

/* Who holds a key after an attempt to take it. */
enum holder { HOLDER_WE, HOLDER_SAME, HOLDER_OTHER };

static bool is_reason(struct obx_bytes found, const char *reason)
{
    return found.len == strlen(reason) && memcmp(found.p, reason, found.len) == 0;
}

/* HOLDER_SAME: it was taken before for the same reason; HOLDER_OTHER: for another one. */
static enum obx_code take(struct obx_tx *tx, struct obx_bytes gid, const char *branch,
                          const char *op, const char *reason, enum holder *holder,
                          struct obx_err *err)
{
    struct obx_rows *rows = NULL;
    enum obx_code rc = obx_tx_exec(
        tx, "INSERT INTO half_barrier (gid, branch, op, reason) VALUES (?, ?, ?, ?)",
        OBX_ARGS(obx_data(gid), text_or_empty(branch), obx_text(op), obx_text(reason)), NULL, err);

    *holder = HOLDER_WE;
    if (rc != OBX_E_DB_DUPLICATE)
        return rc;
    *holder = HOLDER_OTHER;
    rc = obx_tx_query(tx, "SELECT reason FROM half_barrier WHERE gid = ? AND branch = ? AND op = ?",
                      OBX_ARGS(obx_data(gid), text_or_empty(branch), obx_text(op)), &rows, err);
    if (rc == OBX_OK && obx_rows_next(rows) && is_reason(obx_rows_bytes(rows, 0), reason))
        *holder = HOLDER_SAME;
    obx_rows_free(rows);
    return rc;
}

/* The second phase: Confirm and Cancel take the same key, so that only one of them ever works. */
static enum obx_code end(struct obx_tx *tx, struct obx_bytes gid, const char *branch,
                         const char *reason, enum obx_barrier *answer, struct obx_err *err)
{
    enum holder holder = HOLDER_OTHER;
    enum obx_code rc = take(tx, gid, branch, "end", reason, &holder, err);

    *answer = holder == HOLDER_WE     ? OBX_BARRIER_GO
              : holder == HOLDER_SAME ? OBX_BARRIER_REPEAT
                                      : OBX_BARRIER_REFUSED;
    return rc;
}

enum obx_code obx_barrier_try(struct obx_tx *tx, struct obx_bytes gid, const char *branch,
                              enum obx_barrier *answer, struct obx_err *err)
{
    enum holder holder = HOLDER_OTHER;
    enum obx_code rc = take(tx, gid, branch, "try", "try", &holder, err);

    *answer = holder == HOLDER_WE     ? OBX_BARRIER_GO
              : holder == HOLDER_SAME ? OBX_BARRIER_REPEAT
                                      : OBX_BARRIER_REFUSED;
    return rc;
}

/* A Confirm is sent only after every Try succeeded; one without a Try is a fault that must not pass
 * as done. */
enum obx_code obx_barrier_confirm(struct obx_tx *tx, struct obx_bytes gid, const char *branch,
                                  enum obx_barrier *answer, struct obx_err *err)
{
    struct obx_rows *rows = NULL;
    bool tried = false;
    enum obx_code rc = obx_tx_query(
        tx,
        "SELECT 1 FROM half_barrier WHERE gid = ? AND branch = ? AND op = 'try' AND reason = 'try'",
        OBX_ARGS(obx_data(gid), text_or_empty(branch)), &rows, err);

    *answer = OBX_BARRIER_REFUSED;
    if (rc != OBX_OK)
        return rc;
    tried = obx_rows_next(rows);
    obx_rows_free(rows);
    return tried ? end(tx, gid, branch, "confirm", answer, err) : OBX_OK;
}

/* Takes the place of a Try that is not there, so that none can come any more. */
enum obx_code obx_barrier_cancel(struct obx_tx *tx, struct obx_bytes gid, const char *branch,
                                 enum obx_barrier *answer, struct obx_err *err)
{
    enum holder holder = HOLDER_OTHER;
    enum obx_code rc = take(tx, gid, branch, "try", "cancel", &holder, err);

    *answer = OBX_BARRIER_NONE;
    if (rc != OBX_OK || holder != HOLDER_OTHER)
        return rc;
    return end(tx, gid, branch, "cancel", answer, err);
}
