/*
 * Whether the database lets the lane settle what it publishes. See rights.h.
 *
 * The statements are those that the work is done with, over no row, so that the server judges every
 * right and every column that they need. Proved by tests/system/lane_refused_test.c.
 */
#include "rights.h"

#include "base/bytes.h"
#include "lane/failures.h"

/* A table that somebody has locked says nothing of rights, and stops only what needs it. */
static enum obx_code unless_locked(enum obx_code rc)
{
    return failure_is_transient(rc) ? OBX_OK : rc;
}

enum obx_code rights_check(const struct settle *settle, struct db *db, struct obx_err *err)
{
    const struct lane_opts *opts = settle->opts;
    enum obx_code rc =
        unless_locked(db_exec(db, settle->del.one.data, DB_ARGS(DB_NULL()), NULL, err));

    if (rc == OBX_OK)
        rc = unless_locked(db_exec(db, settle->parking->park_one.data,
                                   DB_ARGS(DB_TEXT(opts->outbox), DB_TEXT(""), DB_TEXT(""),
                                           DB_U64(0), DB_U64(0), DB_NULL(), DB_NULL()),
                                   NULL, err));
    if (rc == OBX_OK && settle->journal != NULL)
        rc = unless_locked(db_exec(db, settle->journal->write.data,
                                   DB_ARGS(DB_TEXT(opts->outbox), DB_TEXT("[]")), NULL, err));
    if (rc == OBX_OK && opts->receipt_queue != NULL)
        rc = unless_locked(db_exec(db, settle->awaiting->move.data,
                                   DB_ARGS(DB_TEXT(opts->outbox), DB_TEXT("[]")), NULL, err));
    return rc;
}

enum obx_code rights_renew(struct db *db, const char *database, struct obx_err *err)
{
    struct obx_buf use = {0};
    enum obx_code rc = buf_add_text(&use, "USE ");

    if (rc == OBX_OK)
        rc = db_add_identifier(&use, database);
    if (rc != OBX_OK)
        rc = obx_fail(err, rc, "USE");
    else
        rc = db_exec_text(db, buf_bytes(&use), NULL, err);
    buf_fini(&use);
    return rc;
}
