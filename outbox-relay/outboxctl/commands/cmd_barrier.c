/*
 * outboxctl barrier clean: removes what has ended from half_barrier, in the database of a producer
 * or a participant. A page of the primary key at a time, each in a transaction of its own, because
 * the table has no index on its time, which would cost every local transaction.
 *
 * What is removed: rows of producers (`msg`), and of branches that were confirmed, cancelled, or
 * cancelled without a Try. A Try that is still to be confirmed or cancelled stays, however old.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "outboxctl/target.h"

enum { PAGE = 1000, KEEP_DAYS = 30, KEEP_MAX = 3650, GID_MAX = 128 };

/* The last gid of the page after `after`; "" when that page is the last one. */
static enum obx_code end_of_page(struct db *db, const char *after, char *last, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db, "SELECT gid FROM half_barrier WHERE gid > ? ORDER BY gid, branch, op LIMIT ?, 1",
        DB_ARGS(DB_TEXT(after), DB_U64(PAGE - 1)), &rows, err);

    last[0] = '\0';
    if (rc == OBX_OK && db_rows_next(rows))
        (void)bytes_to_text(db_rows_bytes(rows, 0), last, GID_MAX + 1);
    db_rows_free(rows);
    return rc;
}

/* The Try goes with its end, and only then. */
static enum obx_code clean_page(struct db *db, const char *after, const char *last, uint64_t keep,
                                uint64_t *removed, struct obx_err *err)
{
    static const char tries[] =
        "DELETE t FROM half_barrier e JOIN half_barrier t ON t.gid = e.gid AND t.branch = e.branch "
        "AND t.op = 'try' WHERE e.gid > ? AND (? = '' OR e.gid <= ?) AND e.op = 'end' AND "
        "e.created_at < UTC_TIMESTAMP(6) - INTERVAL ? DAY";
    static const char others[] =
        "DELETE FROM half_barrier WHERE gid > ? AND (? = '' OR gid <= ?) AND "
        "created_at < UTC_TIMESTAMP(6) - INTERVAL ? DAY AND "
        "(op IN ('msg', 'end') OR (op = 'try' AND reason = 'cancel'))";
    const char *const statements[] = {tries, others};
    enum obx_code rc = db_begin(db, err);

    for (size_t i = 0; rc == OBX_OK && i < 2; i++) {
        uint64_t affected = 0;

        rc = db_exec(db, statements[i],
                     DB_ARGS(DB_TEXT(after), DB_TEXT(last), DB_TEXT(last), DB_U64(keep)), &affected,
                     err);
        *removed += affected;
    }
    if (rc == OBX_OK)
        return db_commit(db, err);
    (void)db_rollback(db, NULL);
    return rc;
}

static enum obx_code clean(struct db *db, uint64_t keep, uint64_t *removed, struct obx_err *err)
{
    char after[GID_MAX + 1] = "", last[GID_MAX + 1];
    enum obx_code rc;

    do {
        rc = end_of_page(db, after, last, err);
        if (rc == OBX_OK)
            rc = clean_page(db, after, last, keep, removed, err);
        memcpy(after, last, sizeof(after));
    } while (rc == OBX_OK && after[0] != '\0');
    return rc;
}

static enum ctl_exit run_clean(const struct ctl_args *args)
{
    struct session session;
    struct obx_err err = {0};
    uint64_t removed = 0, keep = KEEP_DAYS;
    enum ctl_exit status;

    if (args->text[CTL_KEEP] != NULL &&
        (!ctl_parse_number(args->text[CTL_KEEP], KEEP_MAX, &keep) || keep == 0))
        return ctl_usage(args, "--keep is a number of days, 1 to %d", KEEP_MAX);
    status = session_open(args, SCHEMA_BARRIER, NULL, &session);
    if (status != CTL_OK)
        return status;
    if (clean(session.db, keep, &removed, &err) != OBX_OK)
        status = session_fail(&session, &err);
    else if (args->json)
        printf("{\"removed\": %" PRIu64 "}\n", removed);
    else
        printf("%" PRIu64 " barrier rows removed that ended more than %" PRIu64 " days ago\n",
               removed, keep);
    session_close(&session);
    return status;
}

const struct ctl_command barrier_commands[] = {
    {.name = "barrier clean",
     .options = CTL_TARGET | CTL_BIT(KEEP),
     .summary = "remove old rows of a barrier table",
     .synopsis = "--db URL [--keep DAYS]",
     .help = "Removes old rows from half_barrier, in the database of a producer or of a TCC\n"
             "participant (--db). Only what has ended: a Try that waits for its Confirm or\n"
             "Cancel stays. Keep as long as the relay's barrier_keep.\n"
             "\n"
             "  --keep DAYS           remove what is older (30)\n",
     .run = run_clean},
    {0}};
