/*
 * Who owns which outbox, by the leases of every source; and what was done with the console. Called on
 * the console's threads.
 */
#include <inttypes.h>
#include <string.h>

#include "ops/human.h"
#include "page.h"

/* A table of a statement's rows: heads with '>' are numbers, with '@' times. */
static void add_table(struct page *page, const char *const *heads, unsigned count,
                      struct db_rows *rows)
{
    char text[HUMAN_MAX];

    buf_add_text(&page->out, "<div class=\"scroll\"><table><thead><tr>");
    for (unsigned i = 0; i < count; i++)
        buf_addf(&page->out, "<th%s>%s</th>", heads[i][0] == '>' ? " class=\"n\"" : "",
                 heads[i] + (heads[i][0] == '>' || heads[i][0] == '@'));
    buf_add_text(&page->out, "</tr></thead><tbody>");
    while (db_rows_next(rows)) {
        buf_add_text(&page->out, "<tr>");
        for (unsigned i = 0; i < count; i++) {
            const struct obx_bytes value = db_rows_bytes(rows, i);

            buf_add_text(&page->out, heads[i][0] == '>'   ? "<td class=\"n\">"
                                     : heads[i][0] == '@' ? "<td class=\"time\">"
                                                          : "<td>");
            if (heads[i][0] == '@')
                html_add_text(&page->out, human_time(value, text));
            else
                html_add(&page->out, bytes_is_absent(value) ? bytes_of("-") : value);
            buf_add_text(&page->out, "</td>");
        }
        buf_add_text(&page->out, "</tr>");
    }
    buf_add_text(&page->out, "</tbody></table></div>");
}

static void add_rows_json(json_t *list, const char *source, const char *const *names,
                          unsigned count, struct db_rows *rows)
{
    while (db_rows_next(rows)) {
        json_t *object = json_pack("{s:s}", "source", source);

        for (unsigned i = 0; i < count; i++) {
            const struct obx_bytes value = db_rows_bytes(rows, i);
            json_t *text = bytes_is_absent(value) ? json_null() : json_stringn(value.p, value.len);

            json_object_set_new(object, names[i], text == NULL ? json_string("(not UTF-8)") : text);
        }
        json_array_append_new(list, object);
    }
}

/* One source of the fleet; one that does not answer does not hide the others. */
static void add_source(struct page *page, const struct source_config *source, json_t *list)
{
    static const char sql[] =
        "SELECT outbox, owner, address, epoch, acquired_at, expires_at, IF(owner = '', 'nobody owns"
        " it', IF(expires_at < UTC_TIMESTAMP(6), 'has expired', CONCAT('runs for ',"
        " TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), expires_at), ' s'))) FROM outbox_lease"
        " FORCE INDEX (PRIMARY) ORDER BY outbox LIMIT 300";
    static const char *const heads[] = {"outbox", "owner",    "address", ">epoch",
                                        "@since", "@expires", "lease"};
    static const char *const names[] = {"outbox",      "owner",      "address", "epoch",
                                        "acquired_at", "expires_at", "lease"};
    const struct target target = {.source = source->name, .db = source->lane.db};
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    struct db *db = NULL;

    if (list == NULL) {
        buf_add_text(&page->out, "<h2>");
        html_add_text(&page->out, source->name);
        buf_add_text(&page->out, "</h2>");
    }
    if (!page_open_one(page, &target, &db) ||
        db_query(db, sql, DB_NO_ARGS, &rows, &err) != OBX_OK) {
        if (list == NULL)
            buf_add_text(&page->out, "<p class=\"bad\">This database did not answer.</p>");
        else
            json_array_append_new(list,
                                  json_pack("{s:s, s:b}", "source", source->name, "failed", 1));
    } else if (list == NULL) {
        add_table(page, heads, sizeof(heads) / sizeof(heads[0]), rows);
    } else {
        add_rows_json(list, source->name, names, sizeof(names) / sizeof(names[0]), rows);
    }
    db_rows_free(rows);
    page_close(page, db);
}

void page_fleet(struct page *page)
{
    json_t *list = NULL;

    if (page->format == FORMAT_CSV)
        page->format = FORMAT_JSON;
    page_begin(page, "Fleet");
    if (page->format == FORMAT_JSON)
        list = json_array();
    for (size_t i = 0; i < page->config->source_count; i++)
        add_source(page, &page->config->sources[i], list);
    if (list != NULL)
        page_json(page, json_pack("{s:o}", "leases", list));
    page_end(page);
}

/* ---- actions ---- */

void page_actions(struct page *page)
{
    static const char sql[] =
        "SELECT audit_id, done_at, actor, role, action, place, what, note, found, done, requested,"
        " refused FROM outbox_action FORCE INDEX (PRIMARY) WHERE audit_id < ? ORDER BY audit_id "
        "DESC"
        " LIMIT 50";
    static const char *const heads[] = {">id",    "@when", "who",        "role",
                                        "what",   "where", "which",      "why",
                                        ">found", ">done", ">requested", ">refused"};
    static const char *const names[] = {"id",   "done_at", "actor", "role", "action",    "place",
                                        "what", "note",    "found", "done", "requested", "refused"};
    const char *after = params_get(&page->params, "after");
    uint64_t before = UINT64_MAX;
    struct target target = {0};
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    struct db *db = NULL;

    if (after != NULL && !ctl_parse_number(after, UINT64_MAX, &before)) {
        page_say(page, 400, "Actions", "after is an id");
        return;
    }
    if (!page_target(page, false, &target) || !page_open(page, &target, &db))
        return;
    if (db_query(db, sql, DB_ARGS(DB_U64(before)), &rows, &err) != OBX_OK) {
        page_fail(page, target.source, &err);
    } else if (page->format != FORMAT_HTML) {
        json_t *list = json_array();

        page->format = FORMAT_JSON;
        page_begin(page, "");
        add_rows_json(list, target.source, names, sizeof(names) / sizeof(names[0]), rows);
        page_json(page, json_pack("{s:o}", "items", list));
    } else {
        page_begin(page, "Actions");
        buf_add_text(&page->out, "<p class=\"quiet\">What was done with the console, the latest "
                                 "first; kept for a year.</p>");
        add_table(page, heads, sizeof(heads) / sizeof(heads[0]), rows);
        page_end(page);
    }
    db_rows_free(rows);
    page_close(page, db);
}
