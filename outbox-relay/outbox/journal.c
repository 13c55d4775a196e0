/*
 * The statements of the journal. Called by settle.c, awaiting.c and sides.c.
 */
#include "journal.h"

#include <string.h>

enum { CLEAN_ROWS = 1000, US_PER_MS = 1000 };

/* Milliseconds at which the row was made, and those that its id begins with, if it is of the kind
 * that the outbox gives: 0193a5b7-77cd-7..., in lower case. */
#define MADE_MS "FLOOR(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', o.created_at) / 1000)"
#define ID_MS                                                                                      \
    "CAST(CONV(CONCAT(LEFT(o.message_id, 8), SUBSTR(o.message_id, 10, 4)), 16, 10) AS SIGNED)"
/* Such an id is of the time of its row, to a second: then a range of time is a range of ids. */
#define IS_CUSTOM                                                                                  \
    "NOT (SUBSTR(o.message_id, 9, 1) = '-' AND LEFT(o.message_id, 13) = "                          \
    "LOWER(LEFT(o.message_id, 13)) AND COALESCE(ABS(" ID_MS " - " MADE_MS "), 9999) <= 1000)"

/* What the ids of the time before which nothing is kept begin with. */
static const char sql_clean[] =
    "DELETE FROM outbox_journal WHERE is_custom = 0 AND message_id < INSERT(LPAD(LOWER(HEX("
    "FLOOR(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND)"
    " / 1000))), 12, '0'), 9, 0, '-') ORDER BY message_id LIMIT ?";
static const char sql_custom_end[] = "SELECT message_id FROM outbox_journal WHERE is_custom = 1"
                                     " AND message_id > ? ORDER BY message_id LIMIT ?, 1";
static const char sql_clean_custom[] =
    "DELETE j FROM outbox_journal j FORCE INDEX (PRIMARY) WHERE j.is_custom = 1"
    " AND j.message_id > ? AND (? IS NULL OR j.message_id <= ?)"
    " AND j.settled_at < UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND";

enum obx_code journal_init(struct journal *journal, const struct journal_opts *opts,
                           struct obx_err *err)
{
    memset(journal, 0, sizeof(*journal));
    journal->opts = *opts;
    if (buf_addf(&journal->write,
                 "INSERT INTO outbox_journal (is_custom, message_id, outbox, topic, created_at)"
                 " SELECT " IS_CUSTOM ", o.message_id, ?, o.topic, o.created_at"
                 " FROM " ID_LIST_TABLE " STRAIGHT_JOIN %s o FORCE INDEX (PRIMARY) ON o.id = k.id"
                 " ON DUPLICATE KEY UPDATE settled_at = UTC_TIMESTAMP(6)",
                 opts->table) != OBX_OK) {
        journal_fini(journal);
        return obx_fail(err, OBX_E_NOMEM, "statements of the journal");
    }
    return OBX_OK;
}

void journal_fini(struct journal *journal)
{
    buf_fini(&journal->write);
    id_list_fini(&journal->list);
}

enum obx_code journal_write(struct journal *journal, struct db *db, const uint64_t *ids,
                            size_t count, struct obx_err *err)
{
    enum obx_code rc = id_list_set(&journal->list, ids, count, err);

    if (rc != OBX_OK)
        return rc;
    journal->written += count;
    return db_exec(db, journal->write.data,
                   DB_ARGS(DB_TEXT(journal->opts.outbox), ID_LIST_ARG(&journal->list)), NULL, err);
}

/* The id that the next batch of custom ones ends with; empty when it is the last. */
static enum obx_code find_end(struct journal *journal, struct db *db, char *end, size_t size,
                              struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, sql_custom_end,
                                DB_ARGS(DB_TEXT(journal->cursor), DB_U64(CLEAN_ROWS)), &rows, err);

    end[0] = '\0';
    if (rc == OBX_OK && db_rows_next(rows))
        (void)bytes_to_text(db_rows_bytes(rows, 0), end, size);
    db_rows_free(rows);
    return rc;
}

static enum obx_code clean_within(struct journal *journal, struct db *db, const char *end,
                                  uint64_t *removed, struct obx_err *err)
{
    const uint64_t age_us = (uint64_t)journal->opts.retention_ms * US_PER_MS;
    const struct obx_value last = end[0] == '\0' ? DB_NULL() : DB_TEXT(end);
    uint64_t custom = 0;
    enum obx_code rc =
        db_exec(db, sql_clean, DB_ARGS(DB_U64(age_us), DB_U64(CLEAN_ROWS)), removed, err);

    if (rc == OBX_OK)
        rc = db_exec(db, sql_clean_custom,
                     DB_ARGS(DB_TEXT(journal->cursor), last, last, DB_U64(age_us)), &custom, err);
    journal->removed += *removed + custom;
    return rc;
}

enum obx_code journal_clean(struct journal *journal, struct db *db, bool *may_have_more,
                            struct obx_err *err)
{
    char end[sizeof(journal->cursor)];
    uint64_t removed = 0;
    enum obx_code rc = find_end(journal, db, end, sizeof(end), err);

    *may_have_more = false;
    if (rc == OBX_OK)
        rc = lease_begin(journal->opts.lease, db, err);
    if (rc != OBX_OK)
        return rc;
    rc = clean_within(journal, db, end, &removed, err);
    if (rc != OBX_OK) {
        lease_rollback(db);
        return rc;
    }
    rc = lease_commit(journal->opts.lease, db, err);
    if (rc != OBX_OK)
        return rc;
    memcpy(journal->cursor, end, sizeof(end));
    *may_have_more = removed == CLEAN_ROWS || end[0] != '\0';
    return OBX_OK;
}
