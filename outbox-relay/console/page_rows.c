/*
 * Lists of rows, groups of them, one row in full: any resource of ops, in the words of outboxctl.
 * A page reads about as many rows as it shows, groups no more than 10,001; nothing is counted without
 * a bound. Called on the console's threads.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "ops/human.h"
#include "rows.h"

enum { PREVIEW_BYTES = 4096, CELL_BYTES = 200, GROUP_COLUMNS = 6, GROUPS_READ = 10000 };

/* ---- cells ---- */

/* Texts in a list are cut; the page of the row has them whole. */
static void add_cell_text(struct page *page, struct obx_bytes text)
{
    const struct obx_bytes part = {.p = text.p, .len = utf8_cut(text, CELL_BYTES)};

    html_add(&page->out, part);
    if (part.len < text.len)
        buf_add_text(&page->out, "...");
}

static void add_value(struct page *page, const struct record *record, const struct column *column,
                      unsigned at, bool is_cut)
{
    const struct obx_bytes value = db_rows_bytes(record->rows, at);
    struct obx_buf words = {0};
    char room[HUMAN_MAX], text[256];

    if (record_describe(record, column, &words))
        html_add(&page->out, buf_bytes(&words));
    else if (bytes_is_absent(value))
        buf_add_text(&page->out, "-");
    else if (column->json != NULL && strcmp(column->json, "message_id") == 0 &&
             bytes_to_text(value, text, sizeof(text)) && strlen(text) == value.len)
        page_link(page, "/m", "id", text, text);
    else if (is_cut)
        add_cell_text(page, record_cell(column, record->rows, at, room));
    else
        html_add(&page->out, record_cell(column, record->rows, at, room));
    buf_fini(&words);
}

/* What a payload may tell, headers and properties may, too. */
static bool is_payload(const struct column *column)
{
    return column->only_shown || column->kind == COLUMN_PAYLOAD;
}

static bool may_see_payloads(const struct page *page)
{
    return page->access.role >= ROLE_READER + page->console->payloads;
}

/* ---- lists ---- */

static void add_filters(struct page *page, const struct rows *rows, const struct ctl_args *args,
                        const char *at)
{
    static const char *const names[] = {
#define OPTION_NAME(id, name, value, help) name,
        CTL_OPTIONS(OPTION_NAME)};
    const struct resource *resource = rows->resource;

    buf_addf(&page->out,
             "<form class=\"filters\" action=\"%s%s\"><input type=\"hidden\" name=\"at\" "
             "value=\"",
             page->console->prefix, rows->path);
    html_add_text(&page->out, at);
    buf_add_text(&page->out, "\">");
    for (size_t i = 0; i < resource->filter_count; i++) {
        const char *name = names[resource->filters[i].option];

        buf_addf(&page->out, "<label>%s<input name=\"%s\" value=\"", name, name);
        html_add_text(&page->out, args->text[resource->filters[i].option]);
        buf_add_text(&page->out, "\"></label>");
    }
    if (resource->states != NULL) {
        const char *chosen =
            args->text[CTL_STATE] == NULL ? resource->state : args->text[CTL_STATE];

        buf_add_text(&page->out, "<label>state<select name=\"state\">");
        for (size_t i = 0; resource->states[i] != NULL; i++)
            buf_addf(&page->out, "<option%s>%s</option>",
                     chosen != NULL && strcmp(chosen, resource->states[i]) == 0 ? " selected" : "",
                     resource->states[i]);
        buf_addf(&page->out, "<option%s>any</option></select></label>",
                 chosen == NULL || strcmp(chosen, "any") == 0 ? " selected" : "");
    }
    buf_add_text(&page->out, "<button>Show</button></form>");
}

static void add_heads(struct page *page, const struct resource *resource)
{
    buf_add_text(&page->out, "<thead><tr><th><input type=\"checkbox\" data-all hidden "
                             "aria-label=\"all on this page\"></th>");
    for (size_t i = 0; i < resource->column_count; i++) {
        const char *head = resource->columns[i].head;

        if (head != NULL)
            buf_addf(&page->out, "<th%s>%s</th>", head[0] == '>' ? " class=\"n\"" : "",
                     head[0] == '>' ? head + 1 : head);
    }
    buf_add_text(&page->out, "</tr></thead>");
}

static void add_row(struct page *page, const struct rows *rows, const struct session *session,
                    const struct record *record)
{
    const struct resource *resource = rows->resource;
    char key[256];

    (void)bytes_to_text(db_rows_bytes(record->rows, 0), key, sizeof(key));
    buf_add_text(&page->out, "<tr><td><input type=\"checkbox\" name=\"id\" value=\"");
    html_add_text(&page->out, key);
    buf_add_text(&page->out, "\" aria-label=\"choose\"></td>");
    for (unsigned i = 0; i < resource->column_count; i++) {
        const struct column *column = &resource->columns[i];

        if (column->head == NULL)
            continue;
        buf_add_text(&page->out, column->head[0] == '>' ? "<td class=\"n\">" : "<td>");
        if (i == 0) {
            buf_addf(&page->out, "<a href=\"%s%s/row?at=", page->console->prefix, rows->path);
            url_add(&page->out, session->target->source);
            buf_add_text(&page->out, "&amp;id=");
            url_add(&page->out, key);
            buf_add_text(&page->out, "\">");
            html_add_text(&page->out, key);
            buf_add_text(&page->out, "</a>");
        } else {
            add_value(page, record, column, i, true);
        }
        buf_add_text(&page->out, "</td>");
    }
    buf_add_text(&page->out, "</tr>");
}

/* The parameters of this page, so that "all that match" means what is seen. */
static void add_hidden(struct page *page, const char *at)
{
    buf_add_text(&page->out, "<input type=\"hidden\" name=\"at\" value=\"");
    html_add_text(&page->out, at);
    buf_add_text(&page->out, "\">");
    for (size_t i = 0; i < page->params.count; i++) {
        const struct param *param = &page->params.items[i];

        if (strcmp(param->name, "at") == 0 || strcmp(param->name, "after") == 0 ||
            strcmp(param->name, "id") == 0 || param->value[0] == '\0')
            continue;
        buf_add_text(&page->out, "<input type=\"hidden\" name=\"");
        html_add_text(&page->out, param->name);
        buf_add_text(&page->out, "\" value=\"");
        html_add_text(&page->out, param->value);
        buf_add_text(&page->out, "\">");
    }
}

static void add_actions(struct page *page, const struct rows *rows, bool has_all)
{
    buf_add_text(&page->out, "<fieldset class=\"act\"><legend>With those that are chosen");
    if (has_all)
        buf_add_text(&page->out, ", or <label><input type=\"checkbox\" name=\"all\" value=\"yes\"> "
                                 "all that match</label>");
    buf_add_text(&page->out, "</legend>");
    for (size_t i = 0; i < rows->action_count; i++)
        page_button(page, "action", rows->actions[i].name, rows->actions[i].label,
                    rows_refusal(page, &rows->actions[i]));
    buf_add_text(&page->out, "</fieldset>");
}

static void add_more(struct page *page, const struct rows *rows, const char *last)
{
    static const char *const formats[] = {"csv", "json"};

    buf_add_text(&page->out, "<p>");
    if (last != NULL) {
        buf_addf(&page->out, "<a rel=\"next\" href=\"%s%s?after=", page->console->prefix,
                 rows->path);
        url_add(&page->out, last);
        page_add_query(page, "after", "");
        buf_add_text(&page->out, "\">The next page</a> ");
    }
    for (size_t i = 0; i < 2; i++) {
        buf_addf(&page->out, "<a href=\"%s%s?format=%s", page->console->prefix, rows->path,
                 formats[i]);
        page_add_query(page, "format", "");
        buf_addf(&page->out, "\">as %s</a> ", i == 0 ? "CSV" : "JSON");
    }
    buf_add_text(&page->out, "</p>");
}

/* A list on its way into a page; one row more than the page has was read. */
struct list {
    const struct rows *rows;
    const struct session *session;
    struct record record;
    struct db_rows *found; /* what record is at */
    json_t *items;         /* FORMAT_JSON */
    struct obx_buf last;
    uint32_t shown;
};

static void add_csv_heads(struct page *page, const struct resource *resource)
{
    for (size_t i = 0; i < resource->column_count; i++)
        if (resource->columns[i].json != NULL && !is_payload(&resource->columns[i]))
            buf_addf(&page->out, "%s,", resource->columns[i].json);
    buf_add_text(&page->out, "at\n");
}

static void add_csv_row(struct page *page, const struct list *list)
{
    const struct resource *resource = list->rows->resource;

    for (unsigned i = 0; i < resource->column_count; i++) {
        if (resource->columns[i].json == NULL || is_payload(&resource->columns[i]))
            continue;
        csv_add(&page->out, db_rows_bytes(list->record.rows, i));
        buf_add_text(&page->out, ",");
    }
    csv_add(&page->out, bytes_of(list->session->target->source));
    buf_add_text(&page->out, "\n");
}

static enum obx_code add_list(struct page *page, struct list *list, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    while (rc == OBX_OK && list->shown < list->session->args->limit && db_rows_next(list->found)) {
        const struct obx_bytes key = db_rows_bytes(list->record.rows, 0);

        rc = record_count(list->session, &list->record, err);
        if (page->format == FORMAT_JSON)
            json_array_append_new(list->items, record_json(list->session, &list->record, false));
        else if (page->format == FORMAT_CSV)
            add_csv_row(page, list);
        else
            add_row(page, list->rows, list->session, &list->record);
        buf_reset(&list->last);
        buf_add(&list->last, key.p, key.len);
        list->shown++;
    }
    if (db_rows_count(list->found) <= list->session->args->limit)
        buf_reset(&list->last);
    return rc;
}

/* ---- groups ---- */

static void add_group(struct page *page, const struct rows *rows, const char *at,
                      const struct db_rows *groups)
{
    const char *const names[] = {"topic", "reason", rows->group_of};
    char text[HUMAN_MAX], value[512];

    buf_addf(&page->out, "<tr><td><a href=\"%s%s?at=", page->console->prefix, rows->path);
    url_add(&page->out, at);
    for (unsigned i = 0; i < 3; i++) {
        (void)bytes_to_text(db_rows_bytes(groups, i), value, sizeof(value));
        buf_addf(&page->out, "&amp;%s=", names[i]);
        url_add(&page->out, value);
    }
    buf_add_text(&page->out, "\">");
    html_add(&page->out, db_rows_bytes(groups, 0));
    buf_add_text(&page->out, "</a></td>");
    for (unsigned i = 1; i < 3; i++) {
        buf_add_text(&page->out, "<td>");
        html_add(&page->out, db_rows_bytes(groups, i));
        buf_add_text(&page->out, "</td>");
    }
    buf_addf(&page->out, "<td class=\"n\">%s</td>",
             human_count(db_rows_u64(groups, 3), false, text));
    for (unsigned i = 4; i < GROUP_COLUMNS; i++)
        buf_addf(&page->out, "<td class=\"time\">%s</td>",
                 human_time(db_rows_bytes(groups, i), text));
    buf_add_text(&page->out, "</tr>");
}

static enum obx_code add_groups(struct page *page, const struct rows *rows,
                                const struct session *session, struct obx_err *err)
{
    struct db_rows *groups = NULL;
    uint64_t sum = 0;
    enum obx_code rc = db_query_text(session->db, bytes_of(rows->groups), &groups, err);

    if (rc == OBX_OK && db_rows_count(groups) > 0) {
        buf_addf(&page->out,
                 "<h2>Grouped</h2><div class=\"scroll\"><table><thead><tr><th>topic</th>"
                 "<th>reason</th><th>%s</th><th class=\"n\">count</th><th>first</th><th>last</th>"
                 "</tr></thead><tbody>",
                 rows->group_of);
        while (db_rows_next(groups)) {
            add_group(page, rows, session->target->source, groups);
            sum += db_rows_u64(groups, 3);
        }
        buf_add_text(&page->out, "</tbody></table></div>");
        if (sum > GROUPS_READ)
            buf_add_text(&page->out, "<p class=\"quiet\">There are more than 10,000; these are the "
                                     "groups of the oldest.</p>");
    }
    db_rows_free(groups);
    return rc;
}

static bool has_filter(const struct rows *rows, const struct ctl_args *args)
{
    for (size_t i = 0; i < rows->resource->filter_count; i++)
        if (args->text[rows->resource->filters[i].option] != NULL)
            return true;
    return args->text[CTL_AFTER] != NULL;
}

static enum obx_code write_html(struct page *page, struct list *list, struct obx_err *err)
{
    const struct rows *rows = list->rows;
    const struct ctl_args *args = list->session->args;
    const char *at = list->session->target->source;
    enum obx_code rc = OBX_OK;

    page_begin(page, rows->title);
    buf_add_text(&page->out, "<p class=\"quiet\">in ");
    html_add_text(&page->out, at);
    buf_add_text(&page->out, "</p>");
    if (rows->groups != NULL && !has_filter(rows, args))
        rc = add_groups(page, rows, list->session, err);
    buf_add_text(&page->out, "<h2>One by one</h2>");
    add_filters(page, rows, args, at);
    buf_addf(&page->out, "<form method=\"post\" action=\"%s%s/act\">", page->console->prefix,
             rows->path);
    add_hidden(page, at);
    buf_add_text(&page->out, "<div class=\"scroll\"><table>");
    add_heads(page, rows->resource);
    buf_add_text(&page->out, "<tbody>");
    if (rc == OBX_OK)
        rc = add_list(page, list, err);
    buf_add_text(&page->out, "</tbody></table></div>");
    if (list->shown == 0)
        buf_addf(&page->out, "<p>%s</p>", rows->resource->none);
    else
        add_actions(page, rows, !rows->resource->has_text_key);
    buf_add_text(&page->out, "</form>");
    add_more(page, rows, list->last.len == 0 ? NULL : list->last.data);
    page_end(page);
    return rc;
}

static enum obx_code write_list(struct page *page, struct list *list, struct obx_err *err)
{
    enum obx_code rc;

    if (page->format == FORMAT_HTML)
        return write_html(page, list, err);
    page_begin(page, "");
    if (page->format == FORMAT_CSV)
        add_csv_heads(page, list->rows->resource);
    else
        list->items = json_array();
    rc = add_list(page, list, err);
    if (page->format == FORMAT_JSON)
        page_json(page, json_pack("{s:O, s:s?}", "items", list->items, "next",
                                  list->last.len == 0 ? NULL : list->last.data));
    json_decref(list->items);
    return rc;
}

void page_rows(struct page *page)
{
    const struct rows *rows = rows_of(page->path);
    struct ctl_args args = {0};
    struct selection selection = {.is_page = true};
    struct target target = {0};
    struct session session;
    struct list list = {.rows = rows, .session = &session, .record.resource = rows->resource};
    struct db_rows *found = NULL;
    struct obx_err err = {0};
    enum obx_code rc;

    if (!rows_args(page, rows, &args) || !rows_open(page, rows, &args, &target, &session))
        return;
    selection.after = args.text[CTL_AFTER];
    selection.limit = args.limit + 1;
    (void)resource_state(&args, rows->resource, &selection.state);
    rc = resource_select(&session, &selection, &found, &err);
    list.found = found;
    list.record.rows = found;
    if (rc == OBX_OK)
        rc = write_list(page, &list, &err);
    if (rc != OBX_OK)
        page_fail(page, target.source, &err);
    db_rows_free(found);
    buf_fini(&list.last);
    rows_close(page, &session);
}

/* ---- one row ---- */

static void add_payload(struct page *page, struct obx_bytes payload)
{
    const struct obx_bytes part = {.p = payload.p, .len = utf8_cut(payload, PREVIEW_BYTES)};
    char size[HUMAN_MAX];

    buf_addf(&page->out, "<dt>payload</dt><dd>%s%s<pre>", human_size(payload.len, size),
             part.len < payload.len ? ", which begins with" : "");
    html_add(&page->out, part);
    buf_add_text(&page->out, "</pre></dd>");
}

static void add_fields(struct page *page, const struct record *record)
{
    const struct resource *resource = record->resource;

    buf_add_text(&page->out, "<dl>");
    for (unsigned i = 0; i < resource->column_count; i++) {
        const struct column *column = &resource->columns[i];

        if (is_payload(column) && !may_see_payloads(page))
            continue;
        if (column->kind == COLUMN_PAYLOAD && !db_rows_is_null(record->rows, i)) {
            add_payload(page, db_rows_bytes(record->rows, i));
            continue;
        }
        if (column->label == NULL || (column->json == NULL && db_rows_is_null(record->rows, i) &&
                                      resource->describe == NULL))
            continue;
        buf_addf(&page->out, "<dt>%s</dt><dd>", column->label);
        add_value(page, record, column, i, false);
        buf_add_text(&page->out, "</dd>");
    }
    if (!may_see_payloads(page))
        buf_add_text(&page->out,
                     "<dt>payload</dt><dd class=\"quiet\">hidden: your role may not see "
                     "payloads, headers and properties</dd>");
    buf_add_text(&page->out, "</dl>");
}

static enum obx_code add_detail(struct page *page, const struct session *session,
                                const struct detail *detail, const char *key, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = detail_select(session->db, detail, key, &rows, err);
    char room[HUMAN_MAX];

    buf_addf(&page->out, "<h2>%s</h2><div class=\"scroll\"><table><thead><tr>", detail->json);
    for (size_t i = 0; i < detail->column_count; i++)
        buf_addf(&page->out, "<th>%s</th>",
                 detail->columns[i].head + (detail->columns[i].head[0] == '>'));
    buf_add_text(&page->out, "</tr></thead><tbody>");
    while (rc == OBX_OK && db_rows_next(rows)) {
        buf_add_text(&page->out, "<tr>");
        for (unsigned i = 0; i < detail->column_count; i++) {
            buf_add_text(&page->out, "<td>");
            html_add(&page->out, record_cell(&detail->columns[i], rows, i, room));
            buf_add_text(&page->out, "</td>");
        }
        buf_add_text(&page->out, "</tr>");
    }
    buf_add_text(&page->out, "</tbody></table></div>");
    db_rows_free(rows);
    return rc;
}

static void add_row_actions(struct page *page, const struct rows *rows, const char *at,
                            const char *key)
{
    buf_addf(&page->out,
             "<form class=\"act\" method=\"post\" action=\"%s%s/act\"><input "
             "type=\"hidden\" name=\"at\" value=\"",
             page->console->prefix, rows->path);
    html_add_text(&page->out, at);
    buf_add_text(&page->out, "\"><input type=\"hidden\" name=\"id\" value=\"");
    html_add_text(&page->out, key);
    buf_add_text(&page->out, "\">");
    for (size_t i = 0; i < rows->action_count; i++)
        page_button(page, "action", rows->actions[i].name, rows->actions[i].label,
                    rows_refusal(page, &rows->actions[i]));
    buf_add_text(&page->out, "</form>");
}

static enum obx_code write_row(struct page *page, const struct rows *rows,
                               const struct session *session, struct record *record,
                               const char *key, struct obx_err *err)
{
    const struct resource *resource = rows->resource;
    enum obx_code rc = record_count(session, record, err);

    if (page->format != FORMAT_HTML) {
        page->format = FORMAT_JSON;
        page_begin(page, "");
        page_json(page, record_json(session, record, may_see_payloads(page)));
        return rc;
    }
    page_begin(page, resource->noun);
    add_row_actions(page, rows, session->target->source, key);
    add_fields(page, record);
    for (size_t i = 0; i < resource->detail_count && rc == OBX_OK; i++)
        rc = add_detail(page, session, &resource->details[i], key, err);
    page_end(page);
    return rc;
}

void page_row(struct page *page)
{
    const struct rows *rows = rows_of(page->path);
    const char *key = params_get(&page->params, "id");
    struct ctl_args args = {0};
    /* What may not be shown is not read either. */
    const struct selection selection = {.limit = 1, .key = key, .is_whole = may_see_payloads(page)};
    struct target target = {0};
    struct session session;
    struct record record = {.resource = rows->resource, .is_page = true};
    struct db_rows *found = NULL;
    struct obx_err err = {0};
    enum obx_code rc;

    if (key == NULL || !resource_key_is_valid(rows->resource, key)) {
        page_say(page, 400, rows->title, "Which one? An id, as the list shows it.");
        return;
    }
    if (!rows_open(page, rows, &args, &target, &session))
        return;
    rc = resource_select(&session, &selection, &found, &err);
    record.rows = found;
    if (rc == OBX_OK && !db_rows_next(found))
        page_say(page, 404, rows->title, "There is no %s %s any more.", rows->resource->noun, key);
    else if (rc == OBX_OK)
        rc = write_row(page, rows, &session, &record, key, &err);
    if (rc != OBX_OK)
        page_fail(page, target.source, &err);
    db_rows_free(found);
    rows_close(page, &session);
}
