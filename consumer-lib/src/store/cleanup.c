/*
 * The cleanup thread. The dedup table has no index on its time, which would cost every insert; so
 * rows are found by walking the primary key, a page at a time, and removed by primary key, a page
 * in a transaction of its own:
 *
 * - The head: message ids are usually time-ordered, so the oldest rows are the first. As long as
 * whole pages there are past the retention, they are removed at once.
 * - The walk: ids of other producers may be in any order. From a remembered position on, each round
 * looks at as many rows as the group has applied since the last one, and at a page at least, and
 * starts again at the end. So the table is walked once per retention time at the latest, a row is
 * removed between one and two retention times after it was written, and the cost stays in
 * proportion to the work done.
 *
 * A row is kept a little longer than the retention, by a twentieth, so that what is refused as too
 * old by a producer's clock was certainly still there. All times are the database's.
 */
#include "cleanup.h"

#include "base/clock.h"
#include "base/log.h"
#include "sql/schema.h"

enum {
    PAGE = 500,
    SLACK_SHARE = 20,
    PAUSE_MS = 20, /* between two pages, so that the consumers come first */
};

#define SELECT_PAGE                                                                                \
    "SELECT message_id, applied_at < UTC_TIMESTAMP(6) - INTERVAL ? SECOND FROM inbox_applied "     \
    "WHERE consumer_group = ? AND message_id > ? ORDER BY message_id LIMIT ?"

enum obx_code cleanup_init(struct cleanup *cleanup, struct shared *shared, struct obx_err *err)
{
    *cleanup = (struct cleanup){.shared = shared};
    return wake_init(&cleanup->wake, err);
}

void cleanup_fini(struct cleanup *cleanup)
{
    buf_fini(&cleanup->position);
    buf_fini(&cleanup->sql);
    wake_fini(&cleanup->wake);
}

/* A little longer than promised: see the head of this file. */
static uint64_t keep_s(const struct cleanup *cleanup)
{
    uint64_t retention = cleanup->shared->settings.dedup_retention_s;

    return retention + retention / SLACK_SHARE;
}

static bool is_ending(const struct cleanup *cleanup)
{
    return atomic_load(&cleanup->is_ending);
}

static void pause_for(struct cleanup *cleanup, uint32_t wait_ms)
{
    uint64_t due = clock_now_ms() + wait_ms;

    while (!is_ending(cleanup) && clock_now_ms() < due)
        wake_wait(&cleanup->wake, clock_left_ms(due));
}

/* ------------------------------------------------------------------ one page */

/* The list of ids to remove, and the position behind the page. */
static enum obx_code read_page(struct cleanup *cleanup, struct db_rows *rows,
                               struct cleanup_page *page)
{
    enum obx_code rc = OBX_OK;

    while (rc == OBX_OK && db_rows_next(rows)) {
        struct obx_bytes id = db_rows_bytes(rows, 0);

        page->rows++;
        if (db_rows_u64(rows, 1) != 0) {
            buf_add_text(&cleanup->sql, page->old++ == 0 ? "" : ",");
            rc = db_add_literal(cleanup->db, &cleanup->sql, id);
        }
        if (rc == OBX_OK && page->rows == db_rows_count(rows)) {
            buf_reset(&cleanup->position);
            rc = buf_add(&cleanup->position, id.p, id.len);
        }
    }
    return rc;
}

/* The time is asked for again: a row may have been removed and written again since it was read. */
static enum obx_code run_delete(struct cleanup *cleanup, struct cleanup_page *page,
                                struct obx_err *err)
{
    enum obx_code rc =
        buf_addf(&cleanup->sql, ") AND applied_at < UTC_TIMESTAMP(6) - INTERVAL %llu SECOND",
                 (unsigned long long)keep_s(cleanup));

    if (rc != OBX_OK)
        return obx_fail(err, rc, "list of dedup rows");
    rc = db_exec_text(cleanup->db, buf_bytes(&cleanup->sql), &page->removed, err);
    if (rc == OBX_OK)
        counters_add(&cleanup->shared->counters, CNT_DEDUP_REMOVED, page->removed);
    return rc;
}

enum obx_code cleanup_page(struct cleanup *cleanup, struct cleanup_page *page, struct obx_err *err)
{
    const struct obx_bytes position = {
        .p = cleanup->position.len > 0 ? cleanup->position.data : "",
        .len = cleanup->position.len,
    };
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query(cleanup->db, SELECT_PAGE,
                 DB_ARGS(DB_U64(keep_s(cleanup)), DB_TEXT(cleanup->shared->settings.group),
                         DB_BYTES(position), DB_U64(PAGE)),
                 &rows, err);

    *page = (struct cleanup_page){0};
    if (rc == OBX_OK) {
        buf_reset(&cleanup->sql);
        buf_add_text(&cleanup->sql, "DELETE FROM inbox_applied WHERE consumer_group = ");
        db_add_literal(cleanup->db, &cleanup->sql, bytes_of(cleanup->shared->settings.group));
        buf_add_text(&cleanup->sql, " AND message_id IN (");
        rc = read_page(cleanup, rows, page);
        if (rc != OBX_OK)
            rc = obx_fail(err, rc, "list of dedup rows");
    }
    db_rows_free(rows);
    if (rc == OBX_OK && page->old > 0)
        rc = run_delete(cleanup, page, err);
    return rc;
}

/* ------------------------------------------------------------------ a round */

static enum obx_code clean_head(struct cleanup *cleanup, struct obx_err *err)
{
    struct obx_buf walk = cleanup->position;
    struct cleanup_page page = {0};
    enum obx_code rc = OBX_OK;

    cleanup->position = (struct obx_buf){0};
    do {
        buf_reset(&cleanup->position);
        rc = cleanup_page(cleanup, &page, err);
        if (rc == OBX_OK && page.removed == PAGE)
            pause_for(cleanup, PAUSE_MS);
    } while (rc == OBX_OK && page.removed == PAGE && !is_ending(cleanup));
    buf_fini(&cleanup->position);
    cleanup->position = walk;
    return rc;
}

static enum obx_code walk_on(struct cleanup *cleanup, struct obx_err *err)
{
    uint64_t applied = counters_get(&cleanup->shared->counters, CNT_APPLIED);
    uint64_t budget = applied - cleanup->applied_before;
    uint64_t seen = 0;
    enum obx_code rc = OBX_OK;

    do {
        struct cleanup_page page = {0};

        rc = cleanup_page(cleanup, &page, err);
        seen += page.rows;
        if (rc != OBX_OK)
            break;
        if (page.rows < PAGE) { /* the end: from the beginning next time */
            buf_reset(&cleanup->position);
            break;
        }
        pause_for(cleanup, PAUSE_MS);
    } while (seen < budget && !is_ending(cleanup));
    cleanup->applied_before = applied;
    return rc;
}

static void clean_round(struct cleanup *cleanup)
{
    struct obx_err err = {0};
    enum obx_code rc = db_open(&cleanup->shared->settings.db, &cleanup->db, &err);

    if (rc == OBX_OK)
        rc = schema_check(cleanup->db, SCHEMA_CONSUMER, &err);
    if (rc == OBX_OK)
        rc = clean_head(cleanup, &err);
    if (rc == OBX_OK && !is_ending(cleanup))
        rc = walk_on(cleanup, &err);
    if (rc != OBX_OK)
        OBX_LOG(LOG_LVL_WARN, "consumer", "cleanup.failed",
                KV_STR("group", cleanup->shared->settings.group), KV_ERR(&err));
    db_close(cleanup->db);
    cleanup->db = NULL;
}

static void *cleanup_main(void *arg)
{
    struct cleanup *cleanup = arg;

    for (;;) {
        pause_for(cleanup, cleanup->shared->settings.cleanup_interval_ms);
        if (is_ending(cleanup))
            break;
        clean_round(cleanup);
    }
    db_thread_end();
    return NULL;
}

enum obx_code cleanup_start(struct cleanup *cleanup, struct obx_err *err)
{
    return thread_start(&cleanup->thread, cleanup_main, cleanup, "the cleanup", err);
}

void cleanup_stop(struct cleanup *cleanup)
{
    atomic_store(&cleanup->is_ending, true);
    wake_up(&cleanup->wake);
    thread_join(&cleanup->thread);
}
