/*
 * outboxctl barrier clean: removes what has ended from half_barrier, in the database of a producer
 * or a participant. A page of the primary key at a time, each in a transaction of its own, because
 * the table has no index on its time, which would cost every local transaction.
 *
 * What is removed: rows of producers (`msg`), and of branches that were confirmed, cancelled, or
 * cancelled without a Try. A Try that is still to be confirmed or cancelled stays, however old.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/bytes.h"
#include "sql/schema.h"
#include "target.h"

enum { PAGE = 1000, KEEP_DAYS = 30, KEEP_MAX = 3650, GID_MAX = 128, DECIMAL = 10 };

/* The last gid of the page behind `after`; "" when that page is the last one. */
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
    enum obx_code rc = schema_check(db, SCHEMA_BARRIER, err);

    do {
        if (rc == OBX_OK)
            rc = end_of_page(db, after, last, err);
        if (rc == OBX_OK)
            rc = clean_page(db, after, last, keep, removed, err);
        memcpy(after, last, sizeof(after));
    } while (rc == OBX_OK && after[0] != '\0');
    return rc;
}

static bool parse_keep(const char *text, uint64_t *keep)
{
    char *end = NULL;

    *keep = KEEP_DAYS;
    if (text == NULL)
        return true;
    *keep = strtoull(text, &end, DECIMAL);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && *keep >= 1 && *keep <= KEEP_MAX)
        return true;
    fprintf(stderr, "outboxctl: --keep is a number of days, 1 to %d\n", KEEP_MAX);
    return false;
}

static enum ctl_exit clean_target(const struct ctl_args *args, const struct target *target,
                                  uint64_t keep)
{
    struct db *db = target_connect(target);
    struct obx_err err = {0};
    uint64_t removed = 0;
    enum obx_code rc;

    if (db == NULL)
        return CTL_FAILED;
    rc = clean(db, keep, &removed, &err);
    if (rc != OBX_OK)
        target_complain(target, &err);
    else if (args->json)
        printf("{\"removed\": %" PRIu64 "}\n", removed);
    else
        printf("%" PRIu64 " barrier rows removed that ended more than %" PRIu64 " days ago\n",
               removed, keep);
    db_close(db);
    return rc == OBX_OK ? CTL_OK : CTL_FAILED;
}

enum ctl_exit cmd_barrier_clean(const struct ctl_args *args)
{
    struct targets targets;
    const struct target *target;
    enum ctl_exit status;
    uint64_t keep = 0;

    if (!parse_keep(args->text[CTL_KEEP], &keep))
        return CTL_USAGE;
    status = targets_open(args, &targets);
    if (status != CTL_OK)
        return status;
    target = targets_single(&targets);
    status = target == NULL ? CTL_USAGE : clean_target(args, target, keep);
    targets_close(&targets);
    return status;
}
