/*
 * The statements of check-back. All times are computed by the database. Lists of gids are built as
 * text: the gids come from our own tables and are escaped all the same.
 */
#include "half/check_sql.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crash.h"

static enum obx_code add_gid(struct db *db, struct obx_buf *sql, const char *gid,
                             const char **comma)
{
    enum obx_code rc = buf_add_text(sql, *comma);

    *comma = ", ";
    return rc == OBX_OK ? db_add_literal(db, sql, bytes_of(gid)) : rc;
}

static enum obx_code exec_in_tx(struct db *db, struct obx_buf *sql, enum obx_code built,
                                uint64_t *affected, struct obx_err *err)
{
    enum obx_code rc = built;

    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement of check-back");
    rc = db_exec_text(db, buf_bytes(sql), affected, err);
    return rc;
}

/* End a transaction: commit after success, otherwise undo and keep the first error. */
static enum obx_code end_tx(struct db *db, enum obx_code rc, struct obx_err *err)
{
    if (rc == OBX_OK)
        return db_commit(db, err);
    (void)db_rollback(db, NULL);
    return rc;
}

/* The wait after the nth ask: min * 2^n up to the cap, then between half and all of it. */
static enum obx_code push_forward(struct db *db, const struct due *due, uint32_t count,
                                  struct check_wait wait, struct obx_err *err)
{
    struct obx_buf sql = {0};
    const char *comma = "";
    enum obx_code rc =
        buf_addf(&sql,
                 "UPDATE half_message SET next_check_at = UTC_TIMESTAMP(6) + INTERVAL CAST("
                 "LEAST(%u, %u * POW(2, LEAST(checks_asked, 24))) * (500 + 500 * RAND()) "
                 "AS UNSIGNED) MICROSECOND, checks_asked = checks_asked + 1 WHERE gid IN (",
                 wait.cap_ms, wait.min_ms);

    for (uint32_t i = 0; rc == OBX_OK && i < count; i++)
        rc = add_gid(db, &sql, due[i].gid, &comma);
    if (rc == OBX_OK)
        rc = buf_add_text(&sql, ") AND state = 'prepared'");
    rc = exec_in_tx(db, &sql, rc, NULL, err);
    buf_fini(&sql);
    return rc;
}

enum obx_code check_take_due(struct db *db, const char *producer, struct check_wait wait,
                             uint32_t max, struct due *out, uint32_t *count, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db,
                                "SELECT gid, TIMESTAMPDIFF(SECOND, prepared_at, UTC_TIMESTAMP(6)) "
                                "FROM half_message WHERE state = 'prepared' AND producer = ? AND "
                                "next_check_at <= UTC_TIMESTAMP(6) ORDER BY next_check_at LIMIT ?",
                                DB_ARGS(DB_TEXT(producer), DB_U64(max)), &rows, err);

    *count = 0;
    if (rc != OBX_OK)
        return rc;
    while (*count < max && db_rows_next(rows)) {
        struct due *due = &out[(*count)++];

        (void)bytes_to_text(db_rows_bytes(rows, 0), due->gid, sizeof(due->gid));
        due->age_s = db_rows_u64(rows, 1);
    }
    db_rows_free(rows);
    if (*count == 0)
        return OBX_OK;
    rc = push_forward(db, out, *count, wait, err);
    if (rc == OBX_OK)
        OBX_CRASH_POINT("check-moved");
    return rc;
}

static enum obx_code write_history(struct db *db, const struct outcome *outcomes, uint32_t count,
                                   struct obx_err *err)
{
    struct obx_buf sql = {0};
    const char *comma = "";
    enum obx_code rc =
        buf_add_text(&sql, "INSERT INTO half_history (gid, event, actor, detail) VALUES ");

    for (uint32_t i = 0; rc == OBX_OK && i < count; i++) {
        rc = buf_addf(&sql, "%s(", comma);
        if (rc == OBX_OK)
            rc = db_add_literal(db, &sql, bytes_of(outcomes[i].gid));
        if (rc == OBX_OK)
            rc = buf_addf(&sql, ", 'asked', 'check', CONCAT('%s: ', ",
                          check_answer_name(outcomes[i].answer));
        if (rc == OBX_OK)
            rc = db_add_literal(db, &sql, bytes_of(outcomes[i].why));
        if (rc == OBX_OK)
            rc = buf_add_text(&sql, "))");
        comma = ", ";
    }
    rc = exec_in_tx(db, &sql, rc, NULL, err);
    buf_fini(&sql);
    return rc;
}

/* The gids of those with this answer, as a list in SQL; empty when there are none. */
static enum obx_code list_answered(struct db *db, const struct outcome *outcomes, uint32_t count,
                                   enum check_answer answer, struct obx_buf *gids)
{
    const char *comma = "";
    enum obx_code rc = OBX_OK;

    for (uint32_t i = 0; rc == OBX_OK && i < count; i++)
        if (outcomes[i].answer == answer)
            rc = add_gid(db, gids, outcomes[i].gid, &comma);
    return rc;
}

/* head, the list of gids, tail. */
static enum obx_code exec_for_gids(struct db *db, const char *head, struct obx_bytes gids,
                                   const char *tail, uint64_t *affected, struct obx_err *err)
{
    struct obx_buf sql = {0};
    enum obx_code rc = buf_add_text(&sql, head);

    if (rc == OBX_OK)
        rc = buf_add(&sql, gids.p, gids.len);
    if (rc == OBX_OK)
        rc = buf_add_text(&sql, tail);
    rc = exec_in_tx(db, &sql, rc, affected, err);
    buf_fini(&sql);
    return rc;
}

/* Park those among the gids that have had so many answers. */
static enum obx_code park_at_limit(struct db *db, struct obx_bytes gids, enum check_answer answer,
                                   uint32_t limit, uint64_t *parked, struct obx_err *err)
{
    char tail[64], head[256];
    uint64_t affected = 0;
    enum obx_code rc;

    (void)snprintf(tail, sizeof(tail), ") AND state = 'prepared' AND checks_answered >= %u", limit);
    (void)snprintf(head, sizeof(head),
                   "UPDATE half_message SET state = 'parked', next_check_at = NULL, note = "
                   "CONCAT('parked after ', "
                   "checks_answered, ' answers, the last: %s') WHERE gid IN (",
                   check_answer_name(answer));
    rc = exec_for_gids(db, head, gids, tail, &affected, err);
    if (rc == OBX_OK)
        *parked += affected;
    return rc;
}

static enum obx_code count_and_park(struct db *db, const struct outcome *outcomes, uint32_t count,
                                    enum check_answer answer, uint32_t limit, uint64_t *parked,
                                    struct obx_err *err)
{
    struct obx_buf gids = {0};
    uint64_t affected = 0;
    enum obx_code rc = list_answered(db, outcomes, count, answer, &gids);

    if (rc != OBX_OK)
        rc = obx_fail(err, rc, "statement of check-back");
    else if (gids.len > 0)
        rc = exec_for_gids(
            db, "UPDATE half_message SET checks_answered = checks_answered + 1 WHERE gid IN (",
            buf_bytes(&gids), ") AND state = 'prepared'", &affected, err);
    if (rc == OBX_OK && affected > 0)
        rc = park_at_limit(db, buf_bytes(&gids), answer, limit, parked, err);
    buf_fini(&gids);
    return rc;
}

enum obx_code check_write_outcomes(struct db *db, const struct outcome *outcomes, uint32_t count,
                                   uint32_t max_answers, uint32_t max_in_progress, uint64_t *parked,
                                   struct obx_err *err)
{
    uint64_t newly = 0;
    enum obx_code rc = db_begin(db, err);

    if (rc != OBX_OK)
        return rc;
    rc = write_history(db, outcomes, count, err);
    if (rc == OBX_OK)
        rc = count_and_park(db, outcomes, count, CHECK_UNKNOWN, max_answers, &newly, err);
    if (rc == OBX_OK)
        rc = count_and_park(db, outcomes, count, CHECK_IN_PROGRESS, max_in_progress, &newly, err);
    OBX_CRASH_POINT("check-outcome-before-commit");
    rc = end_tx(db, rc, err);
    if (rc == OBX_OK)
        *parked += newly;
    return rc;
}

enum obx_code check_park_due(struct db *db, const char *producer, const char *note, uint32_t max,
                             uint64_t *parked, struct obx_err *err)
{
    uint64_t affected = 0;
    enum obx_code rc =
        db_exec(db,
                "UPDATE half_message SET state = 'parked', next_check_at = NULL, note = ? "
                "WHERE state = 'prepared' AND producer = ? AND next_check_at <= UTC_TIMESTAMP(6) "
                "ORDER BY next_check_at LIMIT ?",
                DB_ARGS(DB_TEXT(note), DB_TEXT(producer), DB_U64(max)), &affected, err);

    if (rc == OBX_OK)
        *parked += affected;
    return rc;
}

enum obx_code check_due_producers(struct db *db, char (*names)[HALF_PRODUCER_MAX + 1], uint32_t max,
                                  uint32_t *count, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(db,
                 "SELECT producer, MIN(next_check_at) <= UTC_TIMESTAMP(6) FROM half_message "
                 "WHERE state = 'prepared' GROUP BY producer",
                 DB_NO_ARGS, &rows, err);

    *count = 0;
    while (rc == OBX_OK && *count < max && db_rows_next(rows))
        if (db_rows_u64(rows, 1) == 1)
            (void)bytes_to_text(db_rows_bytes(rows, 0), names[(*count)++], HALF_PRODUCER_MAX + 1);
    db_rows_free(rows);
    return rc;
}

/* Number of rows of a state up to the cap, and the age of the oldest of those. */
static enum obx_code count_state(struct db *db, enum half_state state, uint32_t cap,
                                 uint64_t *number, uint64_t *oldest_us, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db,
        "SELECT COUNT(*), TIMESTAMPDIFF(MICROSECOND, MIN(prepared_at), UTC_TIMESTAMP(6)) FROM "
        "(SELECT prepared_at FROM half_message WHERE state = ? LIMIT ?) AS some",
        DB_ARGS(DB_TEXT(half_state_name(state)), DB_U64(cap)), &rows, err);

    if (rc == OBX_OK && db_rows_next(rows)) {
        *number = db_rows_u64(rows, 0);
        *oldest_us = db_rows_u64(rows, 1);
    }
    db_rows_free(rows);
    return rc;
}

enum obx_code check_count(struct db *db, uint32_t cap, struct check_counts *out,
                          struct obx_err *err)
{
    uint64_t ignored;
    enum obx_code rc =
        count_state(db, HALF_PREPARED, cap, &out->prepared, &out->oldest_prepared_us, err);

    return rc == OBX_OK ? count_state(db, HALF_PARKED, cap, &out->parked, &ignored, err) : rc;
}

enum obx_code check_count_operators(struct db *db, uint64_t *seen, uint64_t *count,
                                    struct obx_err *err)
{
    struct db_rows *rows = NULL;
    uint64_t last;
    enum obx_code rc = db_query(db, "SELECT MAX(id) FROM half_history", DB_NO_ARGS, &rows, err);

    *count = 0;
    last = rc == OBX_OK && db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;
    db_rows_free(rows);
    if (rc != OBX_OK)
        return rc;
    if (*seen != UINT64_MAX && last > *seen) {
        rc = db_query(db,
                      "SELECT COUNT(*) FROM half_history WHERE id > ? AND id <= ? AND "
                      "event = 'verdict' AND actor LIKE 'operator:%'",
                      DB_ARGS(DB_U64(*seen), DB_U64(last)), &rows, err);
        *count = rc == OBX_OK && db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;
        db_rows_free(rows);
    }
    if (rc == OBX_OK)
        *seen = last;
    return rc;
}

/* The last gid of the page; "" when the page is the last one. */
static enum obx_code end_of_page(struct db *db, const char *after, uint32_t page, char *last,
                                 struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(db, "SELECT gid FROM half_message WHERE gid > ? ORDER BY gid LIMIT ?, 1",
                 DB_ARGS(DB_TEXT(after), DB_U64(page - 1)), &rows, err);

    last[0] = '\0';
    if (rc == OBX_OK && db_rows_next(rows))
        (void)bytes_to_text(db_rows_bytes(rows, 0), last, HALF_GID_MAX + 1);
    db_rows_free(rows);
    return rc;
}

enum obx_code check_clean(struct db *db, char *after, uint32_t page, uint32_t retention_s,
                          uint64_t *cleaned, struct obx_err *err)
{
    char last[HALF_GID_MAX + 1];
    uint64_t affected = 0;
    enum obx_code rc = end_of_page(db, after, page, last, err);

    if (rc != OBX_OK)
        return rc;
    rc = db_exec(db,
                 "DELETE FROM half_message WHERE gid > ? AND (? = '' OR gid <= ?) AND "
                 "state IN ('committed', 'rolled_back') AND decided_at < UTC_TIMESTAMP(6) - "
                 "INTERVAL ? SECOND",
                 DB_ARGS(DB_TEXT(after), DB_TEXT(last), DB_TEXT(last), DB_U64(retention_s)),
                 &affected, err);
    if (rc != OBX_OK)
        return rc;
    *cleaned += affected;
    memcpy(after, last, sizeof(last));
    return OBX_OK;
}

/* History of half-messages that are gone goes with them, a step at a time; what is open keeps all
 * of its own. */
enum obx_code check_clean_history(struct db *db, uint64_t *after, uint32_t page,
                                  uint32_t retention_s, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db,
        "SELECT id FROM half_history WHERE id > ? AND at < UTC_TIMESTAMP(6) - INTERVAL ? SECOND "
        "ORDER BY id LIMIT 1",
        DB_ARGS(DB_U64(*after), DB_U64(retention_s)), &rows, err);
    uint64_t first = rc == OBX_OK && db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;

    db_rows_free(rows);
    *after = first == 0 ? 0 : first - 1 + page;
    if (rc != OBX_OK || first == 0)
        return rc;
    return db_exec(db,
                   "DELETE FROM half_history WHERE id BETWEEN ? AND ? AND at < UTC_TIMESTAMP(6) - "
                   "INTERVAL ? SECOND "
                   "AND NOT EXISTS (SELECT 1 FROM half_message m WHERE m.gid = half_history.gid)",
                   DB_ARGS(DB_U64(first), DB_U64(*after), DB_U64(retention_s)), NULL, err);
}
