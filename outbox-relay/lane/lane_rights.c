/*
 * Whether the database lets the lane settle what it publishes.
 *
 * The statements are those that the work is done with, over no row, so that the server looks at
 * every right and every column that they need. Called by lane_turn.c and lane_settle.c. Proved by
 * tests/system/lane_refused_test.c.
 */
#include "lane_private.h"

#include "base/bytes.h"

static enum obx_code try_parking(struct lane *lane, struct obx_err *err)
{
    return db_exec(lane->db, lane->parking.park_one.data,
                   DB_ARGS(DB_TEXT(lane->opts.outbox), DB_TEXT(""), DB_TEXT(""), DB_U64(0),
                           DB_U64(0), DB_NULL(), DB_NULL()),
                   NULL, err);
}

static enum obx_code try_over_none(struct lane *lane, const struct obx_buf *statement,
                                   struct obx_err *err)
{
    return db_exec(lane->db, statement->data, DB_ARGS(DB_TEXT(lane->opts.outbox), DB_TEXT("[]")),
                   NULL, err);
}

/* A table that somebody has locked says nothing of rights, and stops only what needs it. */
static enum obx_code unless_locked(enum obx_code rc)
{
    return lane_is_passing(rc) ? OBX_OK : rc;
}

enum obx_code lane_check_rights(struct lane *lane, struct obx_err *err)
{
    enum obx_code rc =
        unless_locked(db_exec(lane->db, lane->settle_del.one.data, DB_ARGS(DB_NULL()), NULL, err));

    if (rc == OBX_OK)
        rc = unless_locked(try_parking(lane, err));
    if (rc == OBX_OK && lane->opts.journal)
        rc = unless_locked(try_over_none(lane, &lane->journal.write, err));
    if (rc == OBX_OK && lane->opts.receipt_queue != NULL)
        rc = unless_locked(try_over_none(lane, &lane->awaiting.move, err));
    return rc;
}

enum obx_code lane_renew_rights(struct lane *lane, struct obx_err *err)
{
    struct obx_buf use = {0};
    enum obx_code rc = buf_add_text(&use, "USE ");

    if (rc == OBX_OK)
        rc = db_add_identifier(&use, lane->opts.db.database);
    if (rc != OBX_OK)
        rc = obx_fail(err, rc, "USE");
    else
        rc = db_exec_text(lane->db, buf_bytes(&use), NULL, err);
    buf_fini(&use);
    return rc;
}
