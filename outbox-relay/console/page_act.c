/*
 * Doing something with rows, in two steps: the first takes up the rows that are meant and says what
 * will become of them; the second, with a note, does it, keeps to the rows that were seen (none after
 * the last of them), and has one result for each message.
 *
 * Invariant: a row of outbox_action is there before anything is done, so that nothing is done without
 * one; what came of it is added afterwards. Called on the console's threads.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/utf8.h"
#include "half/api/half_json.h"
#include "ops/human.h"
#include "rows.h"
#include "tables/audit.h"

enum { MATCH_MAX = 10000, SHOWN_MAX = 1000, PREVIEW_MAX = 50, NOTE_MAX = 250 };
/* Of the time of a page, how much is spent on waiting for what was requested. */
enum { WAIT_PART_MS = 2500 };

/** An action on its way. */
struct acting {
    struct page *page;
    const struct rows *rows;
    const struct rows_action *action;
    struct ctl_args args;
    char **ids; /* borrowed from the parameters; the array is owned */
    size_t id_count;
    bool is_all;
    struct target target;
    struct request request;
    struct db *audit; /* where the actions are written down */
    uint64_t audit_id;
};

/* ---- what was asked ---- */

static const struct rows_action *find_action(const struct rows *rows, const char *name)
{
    for (size_t i = 0; name != NULL && i < rows->action_count; i++)
        if (strcmp(rows->actions[i].name, name) == 0)
            return &rows->actions[i];
    return NULL;
}

static bool take_ids(struct acting *acting)
{
    const struct params *params = &acting->page->params;

    acting->ids = obx_calloc(params->count + 1, sizeof(*acting->ids));
    for (size_t i = 0; acting->ids != NULL && i < params->count; i++) {
        if (strcmp(params->items[i].name, "id") != 0)
            continue;
        if (!resource_key_is_valid(acting->rows->resource, params->items[i].value) ||
            (acting->rows->resource->has_text_key &&
             !half_gid_is_valid(bytes_of(params->items[i].value))))
            return false;
        acting->ids[acting->id_count++] = params->items[i].value;
    }
    return acting->ids != NULL && acting->id_count <= REQUEST_IDS_MAX;
}

/* Either ids or all that match; both would mean one thing to one reader and another to the next. */
static bool check(struct acting *acting)
{
    struct page *page = acting->page;
    const char *all = params_get(&page->params, "all");

    acting->action = find_action(acting->rows, params_get(&page->params, "action"));
    acting->is_all = all != NULL && strcmp(all, "yes") == 0;
    if (acting->action == NULL) {
        page_say(page, 400, acting->rows->title, "There is no such action.");
        return false;
    }
    if (rows_refusal(page, acting->action) != NULL) {
        page_say(page, 403, acting->action->label, "This %s.", rows_refusal(page, acting->action));
        return false;
    }
    if (!take_ids(acting)) {
        page_say(page, 400, acting->action->label, "The ids are malformed, or too many.");
        return false;
    }
    if (acting->is_all)
        acting->id_count = 0;
    if (acting->id_count == 0 && (!acting->is_all || acting->rows->resource->has_text_key)) {
        page_say(page, 400, acting->action->label, "Choose messages first.");
        return false;
    }
    return true;
}

static void set_args(struct acting *acting)
{
    if (acting->is_all) {
        acting->args.text[CTL_ALL] = "";
    } else {
        /* Filters are of the list that the ids were chosen from. */
        memset(acting->args.text, 0, sizeof(acting->args.text));
        acting->args.words = acting->ids;
        acting->args.word_count = acting->id_count;
    }
    acting->args.wait_s = acting->page->console->deadline_ms / WAIT_PART_MS;
    acting->request.action = acting->action->action;
    acting->request.note = params_get(&acting->page->params, "note");
    acting->request.until = acting->is_all ? params_get(&acting->page->params, "until") : NULL;
    acting->request.max = MATCH_MAX;
    snprintf(acting->request.by, sizeof(acting->request.by), "%s (console)",
             acting->page->access.who);
}

/* ---- before ---- */

static void add_item(struct page *page, const struct request *request, const struct item *item)
{
    const char *note = request_note(request, item);
    char number[32];

    snprintf(number, sizeof(number), "%" PRIu64, item->id);
    buf_add_text(&page->out, "<tr><td>");
    html_add_text(&page->out, item->word != NULL ? item->word : number);
    buf_addf(&page->out, "</td><td%s>%s</td><td>",
             item->fate == FATE_REFUSED ? " class=\"bad\"" : "", request_word(request, item->fate));
    html_add_text(&page->out, note);
    buf_add_text(&page->out, "</td></tr>");
}

static void add_items(struct page *page, const struct request *request, size_t max,
                      bool only_refused)
{
    size_t shown = 0;

    buf_add_text(&page->out, "<div class=\"scroll\"><table><thead><tr><th>message</th><th>result"
                             "</th><th>because</th></tr></thead><tbody>");
    for (size_t i = 0; i < request->count && shown < max; i++) {
        if (only_refused && request->items[i].fate != FATE_REFUSED)
            continue;
        add_item(page, request, &request->items[i]);
        shown++;
    }
    buf_add_text(&page->out, "</tbody></table></div>");
}

static void add_hidden(struct page *page, const char *name, const char *value)
{
    buf_addf(&page->out, "<input type=\"hidden\" name=\"%s\" value=\"", name);
    html_add_text(&page->out, value);
    buf_add_text(&page->out, "\">");
}

/* What the second step needs to mean the same. */
static void add_confirm_form(struct acting *acting)
{
    struct page *page = acting->page;
    const struct params *params = &page->params;
    char until[32];

    buf_addf(&page->out, "<form class=\"act\" method=\"post\" action=\"%s%s/act\">",
             page->console->prefix, acting->rows->path);
    for (size_t i = 0; i < params->count; i++) {
        const char *name = params->items[i].name;

        if (strcmp(name, "until") == 0 || strcmp(name, "note") == 0 ||
            strcmp(name, "confirm") == 0 || strcmp(name, "format") == 0 ||
            (acting->is_all && strcmp(name, "id") == 0))
            continue;
        buf_add_text(&page->out, "<input type=\"hidden\" name=\"");
        html_add_text(&page->out, name);
        buf_add_text(&page->out, "\" value=\"");
        html_add_text(&page->out, params->items[i].value);
        buf_add_text(&page->out, "\">");
    }
    if (acting->is_all) {
        snprintf(until, sizeof(until), "%" PRIu64,
                 acting->request.items[acting->request.count - 1].id);
        add_hidden(page, "until", until);
    }
    buf_addf(&page->out,
             "<label>Why? It is kept with your name.<input name=\"note\" required "
             "maxlength=\"%d\" size=\"50\"></label>",
             NOTE_MAX);
    page_button(page, "confirm", "yes", acting->action->label, NULL);
    buf_add_text(&page->out, "</form>");
}

static void say_what_will_be(struct acting *acting)
{
    struct page *page = acting->page;
    const struct request *request = &acting->request;
    const size_t refused = request_count(request, FATE_REFUSED);
    const size_t count = request->count - refused;
    char number[HUMAN_MAX], other[HUMAN_MAX];

    page_begin(page, acting->action->label);
    if (page->format != FORMAT_HTML) {
        page->format = FORMAT_JSON;
        page->type = "application/json";
        page_json(
            page,
            json_pack("{s:I, s:I, s:I, s:s}", "found", (json_int_t)request->count, "refused",
                      (json_int_t)refused, "until",
                      (json_int_t)(request->count == 0 ? 0 : request->items[request->count - 1].id),
                      "next", "the same with note and confirm=yes"));
        return;
    }
    buf_addf(&page->out, "<p><b>%s</b> %s will be %s.</p>", human_count(count, false, number),
             count == 1 ? "message" : "messages", acting->action->what);
    if (request->count >= MATCH_MAX)
        buf_addf(&page->out, "<p>More match: these are the first %s. Do it again for the rest.</p>",
                 human_count(request->count, false, number));
    if (refused > 0) {
        buf_addf(&page->out, "<p>%s will be left alone:</p>", human_count(refused, false, other));
        add_items(page, request, PREVIEW_MAX, true);
    }
    if (count > 0)
        add_confirm_form(acting);
    page_end(page);
}

/* ---- the record of it ---- */

static void describe(const struct acting *acting, struct obx_buf *what)
{
    const struct params *params = &acting->page->params;

    if (!acting->is_all) {
        for (size_t i = 0; i < acting->id_count && what->len < 900; i++)
            buf_addf(what, "%s%s", i == 0 ? "" : " ", acting->ids[i]);
        return;
    }
    buf_addf(what, "all until %s",
             acting->request.until == NULL ? "the last" : acting->request.until);
    for (size_t i = 0; i < params->count && what->len < 900; i++)
        if (params->items[i].value[0] != '\0' && strlen(params->items[i].value) < 300 &&
            strcmp(params->items[i].name, "note") != 0 &&
            strcmp(params->items[i].name, "until") != 0 &&
            strcmp(params->items[i].name, "all") != 0 &&
            strcmp(params->items[i].name, "confirm") != 0 &&
            strcmp(params->items[i].name, "action") != 0)
            buf_addf(what, ", %s=%s", params->items[i].name, params->items[i].value);
}

/* In the source that it is about; of a consumer's rows in the first source, whose account may write. */
static bool open_audit(struct acting *acting)
{
    const struct relay_config *config = acting->page->config;
    struct target target = acting->target;

    if (acting->rows->is_consumer)
        target =
            (struct target){.source = config->sources[0].name, .db = config->sources[0].lane.db};
    return page_open(acting->page, &target, &acting->audit);
}

static bool write_audit(struct acting *acting)
{
    const struct request *request = &acting->request;
    struct obx_buf what = {0}, action = {0};
    struct obx_err err = {0};
    enum obx_code rc;

    describe(acting, &what);
    if (what.data != NULL)
        utf8_make_valid(what.data);
    buf_addf(&action, "%s %s", acting->rows->resource->group, acting->action->name);
    rc = what.rc != OBX_OK || action.rc != OBX_OK ? obx_fail(&err, OBX_E_NOMEM, "action") : OBX_OK;
    if (rc == OBX_OK)
        rc = db_exec(
            acting->audit,
            "INSERT INTO outbox_action (actor, role, action, place, what, note, found)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            DB_ARGS(DB_TEXT(request->by), DB_TEXT(console_role_name(acting->page->access.role)),
                    DB_BYTES(buf_bytes(&action)), DB_TEXT(acting->target.source),
                    DB_BYTES(buf_bytes(&what)), DB_TEXT(request->note), DB_U64(request->count)),
            NULL, &err);
    acting->audit_id = rc == OBX_OK ? db_insert_id(acting->audit) : 0;
    OBX_LOG(LOG_LVL_INFO, "console", "action", KV_STR("who", request->by),
            KV_STR("role", console_role_name(acting->page->access.role)),
            KV_STR("action", action.data == NULL ? "" : action.data),
            KV_STR("place", acting->target.source), KV_U64("found", request->count),
            KV_STR("why", request->note), KV_BOOL("written", rc == OBX_OK));
    buf_fini(&what);
    buf_fini(&action);
    if (rc != OBX_OK)
        page_say(acting->page, 503, "Nothing was done",
                 "The action could not be written down, so it was not done: %s", err.text);
    return rc == OBX_OK;
}

/* A result that cannot be written leaves the row as it was: begun, without an end. */
static void finish_audit(const struct acting *acting)
{
    const struct request *request = &acting->request;
    struct obx_err err = {0};

    if (db_exec(acting->audit,
                "UPDATE outbox_action SET ended_at = UTC_TIMESTAMP(6), done = ?, requested = ?,"
                " refused = ? WHERE audit_id = ?",
                DB_ARGS(DB_U64(request_count(request, FATE_DONE)),
                        DB_U64(request_count(request, FATE_WAITING)),
                        DB_U64(request_count(request, FATE_REFUSED)), DB_U64(acting->audit_id)),
                NULL, &err) != OBX_OK ||
        audit_clean(acting->audit, "outbox_action", &err) != OBX_OK)
        OBX_LOG(LOG_LVL_WARN, "console", "action.unwritten", KV_U64("action", acting->audit_id),
                KV_ERR(&err));
}

/* ---- after ---- */

static void add_explained(struct page *page, const struct request *request)
{
    char *text = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&text, &len);

    if (file == NULL)
        return;
    request_explain(request, file);
    if (fclose(file) == 0 && len > 0) {
        buf_add_text(&page->out, "<pre>");
        html_add(&page->out, (struct obx_bytes){.p = text, .len = len});
        buf_add_text(&page->out, "</pre>");
    }
    free(text);
}

static void write_json(struct page *page, const struct request *request)
{
    static const char *const results[] = {"requested", "done", "refused"};
    json_t *items = json_array();

    page->format = FORMAT_JSON;
    page_begin(page, "");
    for (size_t i = 0; i < request->count; i++) {
        const struct item *item = &request->items[i];
        json_t *object = json_pack("{s:s, s:s?}", "result", results[item->fate], "note",
                                   request_note(request, item));

        json_object_set_new(object, "id",
                            item->word != NULL ? json_string(item->word)
                                               : json_integer((json_int_t)item->id));
        json_array_append_new(items, object);
    }
    page_json(page, json_pack("{s:I, s:I, s:I, s:I, s:o}", "found", (json_int_t)request->count,
                              "done", (json_int_t)request_count(request, FATE_DONE), "requested",
                              (json_int_t)request_count(request, FATE_WAITING), "refused",
                              (json_int_t)request_count(request, FATE_REFUSED), "items", items));
}

static void say_what_came(struct acting *acting, const struct obx_err *err)
{
    struct page *page = acting->page;
    const struct request *request = &acting->request;
    static const enum fate fates[] = {FATE_DONE, FATE_WAITING, FATE_REFUSED};
    char number[HUMAN_MAX];

    if (page->format != FORMAT_HTML) {
        write_json(page, request);
        return;
    }
    page_begin(page, acting->action->label);
    if (err->code != OBX_OK) {
        buf_add_text(&page->out, "<p class=\"bad\">");
        html_add_text(&page->out, err->text);
        buf_add_text(&page->out, "</p>");
    }
    buf_add_text(&page->out, "<ul>");
    for (size_t i = 0; i < sizeof(fates) / sizeof(fates[0]); i++)
        buf_addf(&page->out, "<li>%s %s</li>",
                 human_count(request_count(request, fates[i]), false, number),
                 request_word(request, fates[i]));
    buf_add_text(&page->out, "</ul>");
    add_explained(page, request);
    add_items(page, request, SHOWN_MAX, false);
    buf_addf(&page->out, "<p><a href=\"%s%s?at=", page->console->prefix, acting->rows->path);
    url_add(&page->out, acting->target.source);
    buf_add_text(&page->out, "\">Back to the list</a></p>");
    page_end(page);
}

static void act(struct acting *acting)
{
    struct request *request = &acting->request;
    struct obx_err err = {0};
    const char *confirm = params_get(&acting->page->params, "confirm");
    const bool is_confirmed = confirm != NULL && strcmp(confirm, "yes") == 0;

    if (is_confirmed && (request->note == NULL || strlen(request->note) > NOTE_MAX)) {
        page_say(acting->page, 400, acting->action->label,
                 "Say why, in a note of at most %d bytes.", NOTE_MAX);
        return;
    }
    if (request_collect(request, &err) != OBX_OK) {
        page_fail(acting->page, acting->target.source, &err);
        return;
    }
    if (!is_confirmed || request->count == 0) {
        say_what_will_be(acting);
        return;
    }
    if (!open_audit(acting) || !write_audit(acting))
        return;
    if (request_perform(request, &err) == OBX_OK)
        obx_err_clear(&err);
    finish_audit(acting);
    say_what_came(acting, &err);
}

void page_act(struct page *page)
{
    struct acting acting = {.page = page, .rows = rows_of(page->path)};

    if (check(&acting) && rows_args(page, acting.rows, &acting.args)) {
        set_args(&acting);
        if (rows_open(page, acting.rows, &acting.args, &acting.target, &acting.request.session)) {
            act(&acting);
            rows_close(page, &acting.request.session);
        }
        page_close(page, acting.audit);
        request_fini(&acting.request);
    }
    obx_free(acting.ids);
}
