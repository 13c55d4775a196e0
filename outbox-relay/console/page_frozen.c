/*
 * Frozen keys of both sides on one page: in each source the heads that hold up later messages of their
 * key, in each consumer's database the keys with messages that wait for an earlier one. A database that
 * does not answer has a line and hides no other. Called on the console's threads.
 */
#include <stdio.h>
#include <string.h>

#include "ops/human.h"
#include "rows.h"

enum { HEADS_MAX = 25, FOLLOWERS_MAX = 1000 };

/* Heads are read alone, by the index that is there for them. */
static const char heads_sql[] =
    "SELECT t.parked_id, t.outbox, t.ordering_key, t.reason_code, t.parked_at FROM (SELECT DISTINCT"
    " outbox FROM outbox_parked FORCE INDEX (outbox_key)) o STRAIGHT_JOIN outbox_parked t FORCE "
    "INDEX"
    " (outbox_key) ON t.outbox = o.outbox AND t.holds_key = 1 LIMIT 26";
/* No index leads to what is blocked: of the oldest rows, which are those that hold others up. */
static const char blocked_sql[] =
    "SELECT MIN(IF(state = 'dead', id, NULL)), consumer_group, ordering_key, MAX(IF(state = 'dead',"
    " reason_code, '')), MIN(parked_at), SUM(state = 'blocked') FROM (SELECT id, consumer_group,"
    " ordering_key, state, reason_code, parked_at FROM inbox_parked FORCE INDEX (PRIMARY) ORDER BY "
    "id"
    " LIMIT 10000) t WHERE ordering_key IS NOT NULL GROUP BY consumer_group, ordering_key HAVING"
    " SUM(state = 'blocked') > 0 ORDER BY 6 DESC LIMIT 26";

/* How many wait for a head, counted up to a limit. */
static enum obx_code count_followers(struct db *db, uint64_t head, uint64_t *count,
                                     struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, parked_rows.counted->sql,
                                DB_ARGS(DB_U64(head), DB_U64(FOLLOWERS_MAX + 1)), &rows, err);

    *count = rc == OBX_OK && db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;
    db_rows_free(rows);
    return rc;
}

static void add_link(struct page *page, const char *path, const char *at, const char *id)
{
    buf_addf(&page->out, "<a href=\"%s%s/row?at=", page->console->prefix, path);
    url_add(&page->out, at);
    buf_add_text(&page->out, "&amp;id=");
    url_add(&page->out, id);
    buf_add_text(&page->out, "\">");
    html_add_text(&page->out, id);
    buf_add_text(&page->out, "</a>");
}

static void add_key(struct page *page, const char *path, const char *at, const struct db_rows *rows,
                    uint64_t waiting)
{
    char id[32], key[1024], time[HUMAN_MAX], number[HUMAN_MAX];
    const bool is_capped = waiting > FOLLOWERS_MAX;

    (void)bytes_to_text(db_rows_bytes(rows, 0), id, sizeof(id));
    (void)bytes_to_text(db_rows_bytes(rows, 2), key, sizeof(key));
    buf_add_text(&page->out, "<tr><td>");
    if (id[0] != '\0')
        add_link(page, path, at, id);
    buf_add_text(&page->out, "</td><td>");
    html_add(&page->out, db_rows_bytes(rows, 1));
    buf_add_text(&page->out, "</td><td>");
    page_link(page, "/m", "key", key, key);
    buf_add_text(&page->out, "</td><td>");
    html_add(&page->out, db_rows_bytes(rows, 3));
    buf_addf(&page->out, "</td><td class=\"time\">%s</td><td class=\"n\">%s</td></tr>",
             human_time(db_rows_bytes(rows, 4), time),
             human_count(is_capped ? FOLLOWERS_MAX : waiting, is_capped, number));
}

static enum obx_code add_keys(struct page *page, struct db *db, const char *at, bool is_consumer,
                              struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc =
        db_query_text(db, bytes_of(is_consumer ? blocked_sql : heads_sql), &rows, err);

    if (rc == OBX_OK && db_rows_count(rows) == 0)
        buf_add_text(&page->out, "<p>No key is frozen here.</p>");
    else if (rc == OBX_OK)
        buf_addf(
            &page->out,
            "<div class=\"scroll\"><table><thead><tr><th>head</th><th>%s</th><th>key</th>"
            "<th>reason</th><th>since</th><th class=\"n\">wait for it</th></tr></thead><tbody>",
            is_consumer ? "group" : "outbox");
    for (unsigned i = 0; rc == OBX_OK && i < HEADS_MAX && db_rows_next(rows); i++) {
        uint64_t waiting = is_consumer ? db_rows_u64(rows, 5) : 0;

        if (!is_consumer)
            rc = count_followers(db, db_rows_u64(rows, 0), &waiting, err);
        add_key(page, is_consumer ? "/dead" : "/parked", at, rows, waiting);
    }
    if (rc == OBX_OK && db_rows_count(rows) > 0)
        buf_add_text(&page->out, "</tbody></table></div>");
    if (rc == OBX_OK && db_rows_count(rows) > HEADS_MAX)
        buf_addf(&page->out, "<p class=\"quiet\">There are more; these are %d of them.</p>",
                 (int)HEADS_MAX);
    db_rows_free(rows);
    return rc;
}

static void add_place(struct page *page, const char *name, const struct db_opts *opts,
                      bool is_consumer)
{
    const struct target target = {.source = name, .db = *opts};
    const size_t before = page->out.len;
    struct obx_err err = {0};
    struct db *db = NULL;

    buf_addf(&page->out, "<h2>%s ", is_consumer ? "Consumer" : "Source");
    html_add_text(&page->out, name);
    buf_add_text(&page->out, "</h2>");
    if (!page_open_one(page, &target, &db) ||
        add_keys(page, db, name, is_consumer, &err) != OBX_OK) {
        buf_cut(&page->out, before);
        buf_add_text(&page->out, "<h2>");
        html_add_text(&page->out, name);
        buf_add_text(&page->out, "</h2><p class=\"bad\">This database did not answer. ");
        html_add_text(&page->out, err.text);
        buf_add_text(&page->out, "</p>");
    }
    page_close(page, db);
}

void page_frozen(struct page *page)
{
    const struct relay_config *config = page->config;

    page->format = FORMAT_HTML;
    page_begin(page, "Frozen keys");
    buf_add_text(&page->out,
                 "<p class=\"quiet\">A head holds up the later messages of its key until it "
                 "is decided: follow it, and resume, replay or discard it there.</p>");
    for (size_t i = 0; i < config->source_count; i++)
        add_place(page, config->sources[i].name, &config->sources[i].lane.db, false);
    for (size_t i = 0; i < config->consumer_count; i++)
        add_place(page, config->consumers[i].name, &config->consumers[i].db, true);
    page_end(page);
}
