/*
 * Statements without places, in the server's text protocol: session set-up, transaction control,
 * DDL, built texts. A result is read row by row into a db_rows, so the library never holds a second
 * copy of it. Called by db.c.
 */
#include "base/clock.h"
#include "db_private.h"

/* Read one result set to its end, into rows unless that is NULL. False: memory was short, and the
 * rest is dropped. */
static bool read_result(MYSQL_RES *result, struct db_rows *rows)
{
    bool fits = true;
    MYSQL_ROW row = NULL;

    while ((row = mysql_fetch_row(result)) != NULL) {
        if (rows != NULL && fits)
            fits = db_rows_add_text(rows, row, mysql_fetch_lengths(result));
    }
    return fits;
}

/* The result sets that a CALL sends after the first; left unread they would answer the next
 * statement. */
static bool drop_further_results(MYSQL *mysql)
{
    int rc = 0;

    while ((rc = mysql_next_result(mysql)) == 0) {
        MYSQL_RES *result = mysql_use_result(mysql);

        if (result != NULL) {
            (void)read_result(result, NULL);
            mysql_free_result(result);
        }
    }
    return rc < 0;
}

/* The answer to a statement that was sent: *rows stays NULL when it has no result set. */
static enum obx_code read_answer(struct db *db, struct db_rows **rows, uint64_t started_ms,
                                 struct obx_err *err)
{
    MYSQL_RES *result = mysql_use_result(db->mysql);
    bool fits = true;

    if (result == NULL && mysql_field_count(db->mysql) != 0)
        return db_failed_last(db, started_ms, err);
    if (result != NULL) {
        if (rows != NULL)
            *rows = db_rows_create(mysql_num_fields(result));
        fits = rows == NULL || *rows != NULL;
        fits = read_result(result, rows == NULL ? NULL : *rows) && fits;
        mysql_free_result(result);
        if (mysql_errno(db->mysql) != 0)
            return db_failed_last(db, started_ms, err);
    }
    if (!drop_further_results(db->mysql))
        return db_failed_last(db, started_ms, err);
    return fits ? OBX_OK : obx_fail(err, OBX_E_NOMEM, "result of a statement");
}

enum obx_code db_text_run(struct db *db, struct obx_bytes sql, struct db_rows **rows,
                          struct obx_err *err)
{
    const uint64_t started_ms = clock_now_ms();
    enum obx_code rc = db_ready(db, sql.len, err);
    struct db_rows *got = NULL;

    if (rc != OBX_OK)
        return rc;
    if (mysql_real_query(db->mysql, sql.p, (unsigned long)sql.len) != 0)
        return db_failed_last(db, started_ms, err);
    db->insert_id = mysql_insert_id(db->mysql);
    db->affected = mysql_field_count(db->mysql) == 0 ? mysql_affected_rows(db->mysql) : 0;
    rc = read_answer(db, rows == NULL ? NULL : &got, started_ms, err);
    if (rc == OBX_OK && rows != NULL && got == NULL)
        rc = obx_fail(err, OBX_E_INVALID, "the statement has no result set");
    if (rc != OBX_OK) {
        db_rows_free(got);
        return rc;
    }
    if (rows != NULL)
        *rows = got;
    return OBX_OK;
}

/* A server takes several statements in one text only when it is asked to: where nobody does, a
 * fault in the building of a text can make no second statement of it. */
static enum obx_code take_many(struct db *db, struct obx_err *err)
{
    const uint64_t started_ms = clock_now_ms();

    if (db->takes_many)
        return OBX_OK;
    if (mysql_set_server_option(db->mysql, MYSQL_OPTION_MULTI_STATEMENTS_ON) != 0)
        return db_failed_last(db, started_ms, err);
    db->takes_many = true;
    return OBX_OK;
}

/* What the server says to the statement that is next. */
static enum obx_code read_step(struct db *db, struct db_step *step, uint64_t started_ms,
                               struct obx_err *err)
{
    MYSQL_RES *result = mysql_use_result(db->mysql);
    bool fits = true;

    if (result == NULL && mysql_field_count(db->mysql) != 0)
        return db_failed_last(db, started_ms, err);
    if (result == NULL) {
        step->affected = mysql_affected_rows(db->mysql);
        return OBX_OK;
    }
    step->rows = db_rows_create(mysql_num_fields(result));
    fits = step->rows != NULL;
    fits = read_result(result, step->rows) && fits;
    mysql_free_result(result);
    if (mysql_errno(db->mysql) == 0 && fits)
        return OBX_OK;
    /* A statement that fails while its rows are read has no result: nobody would free it. */
    db_rows_free(step->rows);
    step->rows = NULL;
    if (mysql_errno(db->mysql) != 0)
        return db_failed_last(db, started_ms, err);
    return obx_fail(err, OBX_E_NOMEM, "result of a statement");
}

enum obx_code db_text_run_steps(struct db *db, struct obx_bytes sql, struct db_step *steps,
                                size_t count, size_t *done, struct obx_err *err)
{
    const uint64_t started_ms = clock_now_ms();
    enum obx_code rc = db_ready(db, sql.len, err);
    bool is_more = true;

    *done = 0;
    if (rc == OBX_OK)
        rc = take_many(db, err);
    if (rc == OBX_OK && mysql_real_query(db->mysql, sql.p, (unsigned long)sql.len) != 0)
        rc = db_failed_last(db, started_ms, err);
    while (rc == OBX_OK && *done < count && is_more) {
        rc = read_step(db, &steps[*done], started_ms, err);
        *done += rc == OBX_OK;
        is_more = mysql_more_results(db->mysql);
        if (rc == OBX_OK && is_more && *done < count && mysql_next_result(db->mysql) > 0)
            rc = db_failed_last(db, started_ms, err);
    }
    if (rc == OBX_OK && (*done < count || is_more))
        rc = obx_fail(err, OBX_E_INVALID, "%zu results for %zu statements", *done, count);
    /* What is left unread would answer the next statement; a connection that is lost meanwhile is
     * marked so, and the first error stays. */
    if (!db->dead && mysql_more_results(db->mysql) && !drop_further_results(db->mysql))
        (void)db_failed_last(db, started_ms, NULL);
    return rc;
}
