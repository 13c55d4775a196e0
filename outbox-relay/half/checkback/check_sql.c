/*
 * The statements of check-back. All times are computed by the database. Lists of gids are built as
 * text: the gids come from our own tables and are escaped all the same.
 */
#include "check_sql.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crash.h"
#include "base/utf8.h"
#include "half/store/half_record.h"

/* ---- lists of keys as SQL ---- */

static enum obx_code exec_built(struct db *db, const struct obx_buf *sql, uint64_t *affected,
                                struct obx_err *err)
{
    if (sql->rc != OBX_OK)
        return obx_fail(err, sql->rc, "statement of check-back");
    return db_exec_text(db, buf_bytes(sql), affected, err);
}

/* head and the list, which is not empty. Heads name the index: on a small table the server may read
 * a list as a scan of the whole, and then wait for rows that others hold. */
static enum obx_code exec_for(struct db *db, const char *head, const struct obx_buf *list,
                              uint64_t *affected, struct obx_err *err)
{
    struct obx_buf sql = {.rc = list->rc};
    enum obx_code rc;

    buf_addf(&sql, "%s (%s)", head, list->data);
    rc = exec_built(db, &sql, affected, err);
    buf_fini(&sql);
    return rc;
}

/* Add what a statement gives in its first column to a list of gids; frees rows. */
static enum obx_code take_gids(struct db *db, struct db_rows *rows, struct obx_buf *list,
                               struct obx_err *err)
{
    while (db_rows_next(rows))
        (void)db_add_to_list(db, list, db_rows_bytes(rows, 0));
    db_rows_free(rows);
    return list->rc == OBX_OK ? OBX_OK : obx_fail(err, list->rc, "list of half-messages");
}

/* Those of the list, which is not empty, that the condition holds for. */
static enum obx_code pick_gids(struct db *db, const struct obx_buf *list, const char *condition,
                               struct obx_buf *picked, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    struct obx_buf sql = {.rc = list->rc};
    enum obx_code rc;

    buf_addf(&sql, "SELECT gid FROM half_message FORCE INDEX (PRIMARY) WHERE gid IN (%s) AND %s",
             list->data, condition);
    rc = sql.rc == OBX_OK ? db_query_text(db, buf_bytes(&sql), &rows, err)
                          : obx_fail(err, sql.rc, "statement of check-back");
    buf_fini(&sql);
    return rc == OBX_OK ? take_gids(db, rows, picked, err) : rc;
}

/* Those that nobody holds; they are locked then. */
#define LOCK_PREPARED "state = 'prepared' FOR UPDATE SKIP LOCKED"

/* End a transaction: commit after success, otherwise undo and keep the first error. */
static enum obx_code end_tx(struct db *db, struct lease *lease, enum obx_code rc,
                            struct obx_err *err)
{
    if (rc == OBX_OK)
        return lease_commit(lease, db, err);
    lease_rollback(db);
    return rc;
}

/* ---- what is due ---- */

static enum obx_code find_due(struct db *db, const char *producer, uint32_t max,
                              struct db_rows **rows, struct obx_err *err)
{
    return db_query(db,
                    "SELECT gid, TIMESTAMPDIFF(SECOND, prepared_at, UTC_TIMESTAMP(6)) "
                    "FROM half_message FORCE INDEX (due) WHERE state = 'prepared' AND producer = ? "
                    "AND next_check_at <= UTC_TIMESTAMP(6) ORDER BY next_check_at LIMIT ? "
                    "FOR UPDATE SKIP LOCKED",
                    DB_ARGS(DB_TEXT(producer), DB_U64(max)), rows, err);
}

static enum obx_code take_in_tx(struct db *db, const struct check_take *take, struct due *out,
                                uint32_t *count, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    struct obx_buf gids = {0};
    char head[384];
    enum obx_code rc = find_due(db, take->producer, take->max, &rows, err);

    if (rc != OBX_OK)
        return rc;
    while (*count < take->max && db_rows_next(rows)) {
        struct due *due = &out[(*count)++];

        (void)bytes_to_text(db_rows_bytes(rows, 0), due->gid, sizeof(due->gid));
        due->age_s = db_rows_u64(rows, 1);
        (void)db_add_to_list(db, &gids, db_rows_bytes(rows, 0));
    }
    db_rows_free(rows);
    /* The wait after the nth ask: min * 2^n up to the cap, then between half and all of it. */
    (void)snprintf(head, sizeof(head),
                   "UPDATE half_message FORCE INDEX (PRIMARY) SET next_check_at = UTC_TIMESTAMP(6) "
                   "+ INTERVAL CAST("
                   "LEAST(%u, %u * POW(2, LEAST(checks_asked, 24))) * (500 + 500 * RAND()) "
                   "AS UNSIGNED) MICROSECOND, checks_asked = checks_asked + 1 WHERE gid IN",
                   take->cap_ms, take->min_ms);
    if (*count > 0)
        rc = exec_for(db, head, &gids, NULL, err);
    buf_fini(&gids);
    return rc;
}

enum obx_code check_take_due(struct db *db, struct lease *lease, const struct check_take *take,
                             struct due *out, uint32_t *count, struct obx_err *err)
{
    enum obx_code rc = lease_begin(lease, db, err);

    *count = 0;
    if (rc != OBX_OK)
        return rc;
    rc = end_tx(db, lease, take_in_tx(db, take, out, count, err), err);
    if (rc != OBX_OK)
        *count = 0;
    else if (*count > 0)
        OBX_CRASH_POINT("check-moved");
    return rc;
}

enum obx_code check_next_producer(struct db *db, const char *after,
                                  char name[HALF_PRODUCER_MAX + 1], bool *is_due,
                                  struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db,
        "SELECT producer, next_check_at <= UTC_TIMESTAMP(6) FROM half_message FORCE INDEX (due) "
        "WHERE state = 'prepared' AND producer > ? ORDER BY producer, next_check_at LIMIT 1",
        DB_ARGS(DB_TEXT(after)), &rows, err);

    name[0] = '\0';
    *is_due = false;
    if (rc == OBX_OK && db_rows_next(rows)) {
        (void)bytes_to_text(db_rows_bytes(rows, 0), name, HALF_PRODUCER_MAX + 1);
        *is_due = db_rows_u64(rows, 1) == 1;
    }
    db_rows_free(rows);
    return rc;
}

/* ---- parking ---- */

/* Park the locked ones, say so in the history. */
static enum obx_code park_locked(struct db *db, const struct obx_buf *locked, const char *note,
                                 uint64_t *parked, struct obx_err *err)
{
    struct obx_buf head = {0};
    uint64_t affected = 0;
    enum obx_code rc;

    if (locked->len == 0)
        return OBX_OK;
    buf_add_text(&head, "UPDATE half_message FORCE INDEX (PRIMARY) SET state = 'parked', "
                        "next_check_at = NULL, note = ");
    (void)db_add_literal(db, &head, bytes_of(note));
    rc = buf_add_text(&head, " WHERE gid IN");
    rc = rc == OBX_OK ? exec_for(db, head.data, locked, &affected, err)
                      : obx_fail(err, rc, "statement of check-back");
    buf_fini(&head);
    if (rc == OBX_OK)
        rc = exec_for(db,
                      "INSERT INTO half_history (gid, event, actor, detail) SELECT gid, 'parked', "
                      "'check', note FROM half_message FORCE INDEX (PRIMARY) WHERE gid IN",
                      locked, NULL, err);
    if (rc == OBX_OK)
        *parked += affected;
    return rc;
}

static enum obx_code park_due_in_tx(struct db *db, const char *producer, const char *note,
                                    uint32_t max, uint64_t *parked, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    struct obx_buf locked = {0};
    enum obx_code rc = find_due(db, producer, max, &rows, err);

    if (rc == OBX_OK)
        rc = take_gids(db, rows, &locked, err);
    if (rc == OBX_OK)
        rc = park_locked(db, &locked, note, parked, err);
    buf_fini(&locked);
    return rc;
}

enum obx_code check_park_due(struct db *db, struct lease *lease, const char *producer,
                             const char *note, uint32_t max, uint64_t *parked, struct obx_err *err)
{
    uint64_t newly = 0;
    enum obx_code rc = lease_begin(lease, db, err);

    if (rc == OBX_OK)
        rc = end_tx(db, lease, park_due_in_tx(db, producer, note, max, &newly, err), err);
    if (rc == OBX_OK)
        *parked += newly;
    return rc;
}

static enum obx_code park_in_tx(struct db *db, const struct due *items, uint32_t count,
                                const char *note, uint64_t *parked, struct obx_err *err)
{
    struct obx_buf list = {0};
    struct obx_buf locked = {0};
    enum obx_code rc;

    for (uint32_t i = 0; i < count; i++)
        (void)db_add_to_list(db, &list, bytes_of(items[i].gid));
    rc = pick_gids(db, &list, LOCK_PREPARED, &locked, err);
    if (rc == OBX_OK)
        rc = park_locked(db, &locked, note, parked, err);
    buf_fini(&list);
    buf_fini(&locked);
    return rc;
}

enum obx_code check_park(struct db *db, struct lease *lease, const struct due *items,
                         uint32_t count, const char *note, uint64_t *parked, struct obx_err *err)
{
    uint64_t newly = 0;
    enum obx_code rc = count == 0 ? OBX_OK : lease_begin(lease, db, err);

    if (rc == OBX_OK && count > 0)
        rc = end_tx(db, lease, park_in_tx(db, items, count, note, &newly, err), err);
    if (rc == OBX_OK)
        *parked += newly;
    return rc;
}

/* ---- outcomes ---- */

static enum obx_code write_history(struct db *db, const struct outcome *outcomes, uint32_t count,
                                   struct obx_err *err)
{
    struct obx_buf sql = {0};
    enum obx_code rc;

    buf_add_text(&sql, "INSERT INTO half_history (gid, event, actor, detail) VALUES ");
    for (uint32_t i = 0; i < count; i++) {
        char why[HALF_NOTE_MAX + 1];

        /* What a peer said is its own bytes; the column is text. */
        (void)bytes_to_text(bytes_of(outcomes[i].why), why, sizeof(why));
        utf8_make_valid(why);
        buf_add_text(&sql, i == 0 ? "(" : ", (");
        (void)db_add_literal(db, &sql, bytes_of(outcomes[i].gid));
        buf_addf(&sql, ", 'asked', 'check', CONCAT('%s: ', ",
                 check_answer_name(outcomes[i].answer));
        (void)db_add_literal(db, &sql, bytes_of(why));
        buf_add_text(&sql, "))");
    }
    rc = exec_built(db, &sql, NULL, err);
    buf_fini(&sql);
    return rc;
}

/* Count the answers of one kind, and park those of their half-messages that have had so many. */
static enum obx_code count_and_park(struct db *db, const struct outcome *outcomes, uint32_t count,
                                    enum check_answer answer, uint32_t limit, uint64_t *parked,
                                    struct obx_err *err)
{
    struct obx_buf gids = {0}, locked = {0}, full = {0};
    char condition[64], note[128];
    enum obx_code rc = OBX_OK;

    for (uint32_t i = 0; i < count; i++)
        if (outcomes[i].answer == answer)
            (void)db_add_to_list(db, &gids, bytes_of(outcomes[i].gid));
    (void)snprintf(condition, sizeof(condition), "checks_answered >= %u", limit);
    (void)snprintf(note, sizeof(note), "parked after %u answers, the last: %s", limit,
                   check_answer_name(answer));
    if (gids.rc != OBX_OK || gids.len > 0)
        rc = pick_gids(db, &gids, LOCK_PREPARED, &locked, err);
    if (rc == OBX_OK && locked.len > 0)
        rc = exec_for(db,
                      "UPDATE half_message FORCE INDEX (PRIMARY) SET checks_answered = "
                      "checks_answered + 1 WHERE gid IN",
                      &locked, NULL, err);
    if (rc == OBX_OK && locked.len > 0)
        rc = pick_gids(db, &locked, condition, &full, err);
    if (rc == OBX_OK)
        rc = park_locked(db, &full, note, parked, err);
    buf_fini(&gids);
    buf_fini(&locked);
    buf_fini(&full);
    return rc;
}

enum obx_code check_write_outcomes(struct db *db, struct lease *lease,
                                   const struct outcome *outcomes, uint32_t count,
                                   struct check_limits limits, uint64_t *parked,
                                   struct obx_err *err)
{
    uint64_t newly = 0;
    enum obx_code rc = lease_begin(lease, db, err);

    if (rc != OBX_OK)
        return rc;
    rc = write_history(db, outcomes, count, err);
    if (rc == OBX_OK)
        rc = count_and_park(db, outcomes, count, CHECK_UNKNOWN, limits.unknown, &newly, err);
    if (rc == OBX_OK)
        rc =
            count_and_park(db, outcomes, count, CHECK_IN_PROGRESS, limits.in_progress, &newly, err);
    OBX_CRASH_POINT("check-outcome-before-commit");
    rc = end_tx(db, lease, rc, err);
    if (rc == OBX_OK)
        *parked += newly;
    return rc;
}

/* ---- counting ---- */

/* Lines of the history that one count looks through. */
#define OPERATORS_SCAN_MAX 10000

/* Number of rows of a state up to the cap, and the age of the oldest of those. */
static enum obx_code count_state(struct db *db, enum half_state state, uint32_t cap,
                                 uint64_t *number, uint64_t *oldest_us, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db,
        "SELECT COUNT(*), TIMESTAMPDIFF(MICROSECOND, MIN(prepared_at), UTC_TIMESTAMP(6)) FROM "
        "(SELECT prepared_at FROM half_message FORCE INDEX (due) WHERE state = ? LIMIT ?) AS some",
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
        if (last - *seen > OPERATORS_SCAN_MAX)
            last = *seen + OPERATORS_SCAN_MAX; /* the rest next time */
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

static enum obx_code clean_in_tx(struct db *db, const char *after, const char *last, uint32_t page,
                                 uint32_t retention_s, uint64_t *cleaned, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    struct obx_buf gids = {0};
    enum obx_code rc = db_query(
        db,
        "SELECT gid FROM half_message FORCE INDEX (PRIMARY) WHERE gid > ? AND (? = '' OR "
        "gid <= ?) AND state IN ('committed', 'rolled_back') AND decided_at < "
        "UTC_TIMESTAMP(6) - INTERVAL ? SECOND ORDER BY gid LIMIT ? FOR UPDATE SKIP LOCKED",
        DB_ARGS(DB_TEXT(after), DB_TEXT(last), DB_TEXT(last), DB_U64(retention_s), DB_U64(page)),
        &rows, err);

    if (rc == OBX_OK)
        rc = take_gids(db, rows, &gids, err);
    if (rc == OBX_OK && gids.len > 0)
        rc = exec_for(db, "DELETE h FROM half_message h FORCE INDEX (PRIMARY) WHERE h.gid IN",
                      &gids, cleaned, err);
    buf_fini(&gids);
    return rc;
}

enum obx_code check_clean(struct db *db, struct lease *lease, char *after, uint32_t page,
                          uint32_t retention_s, uint64_t *cleaned, struct obx_err *err)
{
    char last[HALF_GID_MAX + 1];
    uint64_t affected = 0;
    enum obx_code rc = half_page_end(db, after, page, last, err);

    if (rc == OBX_OK)
        rc = lease_begin(lease, db, err);
    if (rc != OBX_OK)
        return rc;
    rc = end_tx(db, lease, clean_in_tx(db, after, last, page, retention_s, &affected, err), err);
    if (rc != OBX_OK)
        return rc;
    *cleaned += affected;
    memcpy(after, last, sizeof(last));
    return OBX_OK;
}

/* The last id of the page; UINT64_MAX when the page is the last one. Lines that are to stay are
 * walked over like others: however many there are, a step reads a page. */
static enum obx_code end_of_lines(struct db *db, uint64_t after, uint32_t page, uint64_t *last,
                                  struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(db,
                 "SELECT id FROM half_history FORCE INDEX (PRIMARY) WHERE id > ? ORDER BY id "
                 "LIMIT ?, 1",
                 DB_ARGS(DB_U64(after), DB_U64(page - 1)), &rows, err);

    *last = rc == OBX_OK && db_rows_next(rows) ? db_rows_u64(rows, 0) : UINT64_MAX;
    db_rows_free(rows);
    return rc;
}

/* Lines of half-messages that are gone, among the ids of a page. */
static enum obx_code find_left_over(struct db *db, uint64_t after, uint64_t last,
                                    uint32_t retention_s, struct obx_buf *ids, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db,
        "SELECT h.id FROM half_history h FORCE INDEX (PRIMARY) LEFT JOIN half_message m ON m.gid = "
        "h.gid WHERE h.id > ? AND h.id <= ? AND h.at < UTC_TIMESTAMP(6) - INTERVAL ? SECOND AND "
        "m.gid IS NULL",
        DB_ARGS(DB_U64(after), DB_U64(last), DB_U64(retention_s)), &rows, err);

    while (rc == OBX_OK && db_rows_next(rows))
        rc = buf_addf(ids, "%s%llu", ids->len == 0 ? "" : ", ",
                      (unsigned long long)db_rows_u64(rows, 0));
    db_rows_free(rows);
    return ids->rc == OBX_OK ? rc : obx_fail(err, ids->rc, "list of lines");
}

/* History of half-messages that are gone goes with them, a step at a time; what is open keeps all
 * of its own. Lines are written once and held by nobody. */
enum obx_code check_clean_history(struct db *db, struct lease *lease, uint64_t *after,
                                  uint32_t page, uint32_t retention_s, uint64_t *removed,
                                  struct obx_err *err)
{
    struct obx_buf ids = {0};
    uint64_t affected = 0;
    uint64_t last = 0;
    enum obx_code rc = end_of_lines(db, *after, page, &last, err);

    if (rc == OBX_OK)
        rc = find_left_over(db, *after, last, retention_s, &ids, err);
    if (rc == OBX_OK && ids.len > 0) {
        rc = lease_begin(lease, db, err);
        if (rc == OBX_OK)
            rc = end_tx(db, lease,
                        exec_for(db,
                                 "DELETE h FROM half_history h FORCE INDEX (PRIMARY) WHERE h.id IN",
                                 &ids, &affected, err),
                        err);
    }
    buf_fini(&ids);
    if (rc != OBX_OK)
        return rc;
    *removed += affected;
    *after = last == UINT64_MAX ? 0 : last;
    return OBX_OK;
}
