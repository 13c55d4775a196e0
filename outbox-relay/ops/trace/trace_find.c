/*
 * A row looked for without an index of what is looked for. Its table gives ids in about the order of
 * its times, so the place where a row of a known time must be is found in halves, by the primary key,
 * and a window is read there; and one at either end of the table, where rows are that were put back
 * later. So a table of any size costs some thirty look-ups and three windows. Called by
 * trace_source.c and trace_consumer.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "trace_private.h"

/* Rows of one statement have one time and rows of slow statements are late: so far before the time
 * the window begins. Ids are taken a moment before the row's own time is read. */
enum { BEFORE_US = 50000, HALVES_MAX = 64 };

static enum obx_code add_hits(struct tracer *tracer, const struct obx_buf *sql, uint64_t *ids,
                              size_t max, size_t *count, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = trace_query(tracer, sql, &rows, err);

    while (rc == OBX_OK && db_rows_next(rows)) {
        const uint64_t id = db_rows_u64(rows, 0);
        size_t i = 0;

        while (i < *count && ids[i] != id)
            i++;
        if (i == *count && *count < max)
            ids[(*count)++] = id;
    }
    db_rows_free(rows);
    return rc;
}

/* One window: its rows first, whatever they are, then the condition on those. */
static enum obx_code read_window(struct tracer *tracer, const struct trace_window *window,
                                 const char *where, const char *order, uint64_t *ids, size_t max,
                                 size_t *count, struct obx_err *err)
{
    struct obx_buf sql = {0};
    enum obx_code rc;

    buf_addf(&sql,
             "SELECT t.id FROM (SELECT id, message_id, ordering_key FROM %s FORCE INDEX (PRIMARY)%s"
             " ORDER BY id%s LIMIT %d) t WHERE ",
             window->table, where, order, TRACE_WINDOW);
    trace_add_sql(tracer, &sql, window->condition, window->value);
    rc = add_hits(tracer, &sql, ids, max, count, err);
    buf_fini(&sql);
    return rc;
}

/* A number or two of a statement about the table; false: no row. */
static enum obx_code read_pair(struct tracer *tracer, const struct trace_window *window,
                               const char *what, const char *rest, uint64_t *first,
                               uint64_t *second, struct obx_err *err)
{
    struct obx_buf sql = {0};
    struct db_rows *rows = NULL;
    enum obx_code rc;

    buf_addf(&sql, "SELECT %s FROM %s t FORCE INDEX (PRIMARY)%s", what, window->table, rest);
    rc = trace_query(tracer, &sql, &rows, err);
    *first = *second = 0;
    if (rc == OBX_OK && db_rows_next(rows)) {
        *first = db_rows_u64(rows, 0);
        *second = db_rows_u64(rows, 1);
    }
    db_rows_free(rows);
    buf_fini(&sql);
    return rc;
}

/* The smallest id from which on rows are no older than that, as far as ids and times agree. */
static enum obx_code find_start(struct tracer *tracer, const struct trace_window *window,
                                uint64_t from_us, uint64_t low, uint64_t high, uint64_t *start,
                                struct obx_err *err)
{
    char what[128], rest[64];
    enum obx_code rc = OBX_OK;

    snprintf(what, sizeof(what), "t.id, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', t.%s)",
             window->time);
    for (unsigned i = 0; i < HALVES_MAX && low < high && rc == OBX_OK; i++) {
        const uint64_t middle = low + (high - low) / 2;
        uint64_t id = 0, at_us = 0;

        snprintf(rest, sizeof(rest), " WHERE t.id >= %" PRIu64 " ORDER BY t.id LIMIT 1", middle);
        rc = read_pair(tracer, window, what, rest, &id, &at_us, err);
        if (id == 0 || at_us >= from_us)
            high = middle;
        else
            low = id + 1;
    }
    *start = low;
    return rc;
}

enum obx_code trace_find(struct tracer *tracer, const struct trace_window *window, uint64_t *ids,
                         size_t max, size_t *count, bool *is_whole, struct obx_err *err)
{
    uint64_t low = 0, high = 0, start = 0, more = 0, none = 0;
    char where[48], beyond[64];
    enum obx_code rc = read_window(tracer, window, "", "", ids, max, count, err);

    snprintf(beyond, sizeof(beyond), " ORDER BY t.id LIMIT %d, 1", TRACE_WINDOW);
    if (rc == OBX_OK)
        rc = read_pair(tracer, window, "t.id, 0", beyond, &more, &none, err);
    *is_whole = more == 0;
    if (rc != OBX_OK || *is_whole)
        return rc;
    rc = read_window(tracer, window, "", " DESC", ids, max, count, err);
    if (rc != OBX_OK || *count > 0 || window->near_us == 0)
        return rc;
    rc = read_pair(tracer, window, "MIN(t.id), MAX(t.id)", "", &low, &high, err);
    if (rc == OBX_OK)
        rc = find_start(tracer, window, window->near_us - BEFORE_US, low, high, &start, err);
    snprintf(where, sizeof(where), " WHERE id >= %" PRIu64, start);
    return rc == OBX_OK ? read_window(tracer, window, where, "", ids, max, count, err) : rc;
}
