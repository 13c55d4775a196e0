/*
 * The databases that pages look into. Each page has a connection of its own, with times no longer
 * than its limit, and a limit on each statement at the server, so that what nobody waits for any more
 * ends there, too. Called by the pages, on the console's threads.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "page.h"

enum { MS_PER_S = 1000, LOCK_WAIT_S = 2, SHARES = 3 };

static void add_choice(struct page *page, const char *name)
{
    buf_addf(&page->out, "<li><a href=\"%s", page->console->prefix);
    html_add_text(&page->out, page->path);
    buf_add_text(&page->out, "?at=");
    url_add(&page->out, name);
    page_add_query(page, "at", "after");
    buf_add_text(&page->out, "\">");
    html_add_text(&page->out, name);
    buf_add_text(&page->out, "</a></li>");
}

static void offer_choice(struct page *page, bool is_consumer, size_t count)
{
    const struct relay_config *config = page->config;

    if (count == 0) {
        page_say(page, 404, "No such database",
                 is_consumer ? "The configuration names no consumer's database: add a [consumer "
                               "NAME] section."
                             : "The configuration names no such source.");
        return;
    }
    if (page->format != FORMAT_HTML) {
        page_say(page, 400, "Which database?", "say which one: at=NAME");
        return;
    }
    page->status = 200;
    page_begin(page, "Which database?");
    buf_add_text(&page->out, "<ul>");
    for (size_t i = 0; i < count; i++)
        add_choice(page, is_consumer ? config->consumers[i].name : config->sources[i].name);
    buf_add_text(&page->out, "</ul>");
    page_end(page);
}

bool page_target(struct page *page, bool is_consumer, struct target *target)
{
    const struct relay_config *config = page->config;
    const size_t count = is_consumer ? config->consumer_count : config->source_count;
    const char *at = params_get(&page->params, "at");

    for (size_t i = 0; i < count; i++) {
        const char *name = is_consumer ? config->consumers[i].name : config->sources[i].name;

        if (at == NULL ? count > 1 : strcmp(at, name) != 0)
            continue;
        *target = is_consumer ? (struct target){.source = name, .db = config->consumers[i].db}
                              : (struct target){.source = name,
                                                .db = config->sources[i].lane.db,
                                                .outboxes = config->sources[i].outboxes,
                                                .outbox_count = config->sources[i].outbox_count};
        return true;
    }
    offer_choice(page, is_consumer, at == NULL ? count : 0);
    return false;
}

/* Without it a statement that nobody waits for any more would go on at the server. */
static enum obx_code limit_statements(struct db *db, uint32_t limit_ms, struct obx_err *err)
{
    struct obx_buf sql = {0};
    enum obx_code rc;

    if (db_server_is_mariadb(db))
        buf_addf(&sql, "SET SESSION max_statement_time = %u",
                 (unsigned)((limit_ms + MS_PER_S - 1) / MS_PER_S));
    else
        buf_addf(&sql, "SET SESSION max_execution_time = %u", (unsigned)limit_ms);
    rc = sql.rc != OBX_OK ? obx_fail(err, sql.rc, "query")
                          : db_exec_text(db, buf_bytes(&sql), NULL, err);
    buf_fini(&sql);
    return rc;
}

static bool open_within(const struct target *target, uint64_t time_ms, struct db **db,
                        struct obx_err *err)
{
    struct db_opts opts = target->db;

    opts.connect_timeout_ms = opts.read_timeout_ms = opts.write_timeout_ms = (uint32_t)time_ms;
    opts.lock_wait_s = LOCK_WAIT_S;
    opts.program_name = "rowpost console";
    if (time_ms == 0) {
        *db = NULL;
        (void)obx_fail(err, OBX_E_TIMEOUT, "no time is left to ask it");
        return false;
    }
    if (db_open(&opts, db, err) == OBX_OK &&
        limit_statements(*db, (uint32_t)time_ms, err) == OBX_OK)
        return true;
    db_close(*db);
    *db = NULL;
    return false;
}

static uint64_t time_left(const struct page *page)
{
    const uint64_t now_ms = clock_now_ms();

    return now_ms < page->due_ms ? page->due_ms - now_ms : 0;
}

bool page_open(struct page *page, const struct target *target, struct db **db)
{
    struct obx_err err = {0};

    if (open_within(target, time_left(page), db, &err))
        return true;
    page_fail(page, target->source, &err);
    return false;
}

bool page_open_one(struct page *page, const struct target *target, struct db **db)
{
    return open_within(target, time_left(page) / SHARES, db, NULL);
}

void page_close(struct page *page, struct db *db)
{
    if (db != NULL)
        page->statements += db_statements(db);
    db_close(db);
}
