/*
 * The page of one message: its trace, the same list as outboxctl's. Called on the console's threads.
 */
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "ops/human.h"
#include "ops/trace/trace.h"
#include "page.h"

enum { SPARE_MS = 300 };

/* A field that leads somewhere is a link: other messages of the key, half-messages. */
static void add_field(struct page *page, const char *name, const json_t *value)
{
    char number[32];

    buf_add_text(&page->out, "<dt>");
    html_add_text(&page->out, name);
    buf_add_text(&page->out, "</dt><dd>");
    if (json_is_integer(value)) {
        snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        html_add_text(&page->out, number);
    } else if (strcmp(name, "message_id") == 0 && json_is_string(value)) {
        page_link(page, "/m", "id", json_string_value(value), json_string_value(value));
    } else if (strcmp(name, "ordering_key") == 0 && json_is_string(value)) {
        page_link(page, "/m", "key", json_string_value(value), json_string_value(value));
    } else {
        html_add_text(&page->out, json_is_string(value) ? json_string_value(value)
                                  : json_is_true(value) ? "yes"
                                                        : "-");
    }
    buf_add_text(&page->out, "</dd>");
}

static void add_entry(struct page *page, const struct trace_entry *entry)
{
    char time[HUMAN_MAX];
    const char *name;
    json_t *value;

    buf_addf(&page->out, "<tr class=\"%s\"><td class=\"time\">%s</td><td>",
             trace_kind_name(entry->kind),
             entry->at_us == 0 ? "-" : human_time_us(entry->at_us, time));
    html_add_text(&page->out, entry->source);
    buf_addf(&page->out, "</td><td%s>",
             entry->kind == TRACE_FACT     ? ""
             : entry->kind == TRACE_FAILED ? " class=\"bad\""
                                           : " class=\"quiet\"");
    html_add_text(&page->out, entry->text);
    if (entry->fields != NULL) {
        buf_add_text(&page->out, "<details><summary>columns</summary><dl>");
        json_object_foreach(entry->fields, name, value) add_field(page, name, value);
        buf_add_text(&page->out, "</dl></details>");
    }
    buf_add_text(&page->out, "</td></tr>");
}

static void write_html(struct page *page, const struct trace_opts *opts, const struct trace *trace)
{
    page_begin(page, opts->id != NULL ? "Message" : "Messages of a key");
    buf_add_text(&page->out, "<p><code>");
    html_add_text(&page->out, opts->id != NULL ? opts->id : opts->key);
    buf_add_text(&page->out, "</code></p><p><b>Now:</b> ");
    html_add_text(&page->out, trace->now == NULL ? "nothing is known of it in these databases"
                                                 : trace->now->text);
    buf_add_text(&page->out,
                 "</p><div class=\"scroll\"><table><thead><tr><th>when</th><th>who says so"
                 "</th><th>what</th></tr></thead><tbody>");
    for (size_t i = 0; i < trace->count; i++)
        add_entry(page, &trace->items[i]);
    buf_add_text(&page->out, "</tbody></table></div>");
    page_end(page);
}

static void write_csv(struct page *page, const struct trace *trace)
{
    char time[HUMAN_MAX];

    page_begin(page, "");
    buf_add_text(&page->out, "at,kind,source,text\n");
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_entry *entry = &trace->items[i];

        buf_addf(&page->out, "%s,%s,", entry->at_us == 0 ? "" : human_time_us(entry->at_us, time),
                 trace_kind_name(entry->kind));
        csv_add(&page->out, bytes_of(entry->source));
        buf_add_text(&page->out, ",");
        csv_add(&page->out, bytes_of(entry->text));
        buf_add_text(&page->out, "\n");
    }
}

void page_message(struct page *page)
{
    struct trace_opts opts = {.id = params_get(&page->params, "id"),
                              .key = params_get(&page->params, "key")};
    struct trace_place *places = NULL;
    struct trace trace = {0};
    struct obx_err err = {0};
    size_t count = 0;

    if (page->rest[0] == '/' && page->rest[1] != '\0')
        opts.id = page->rest + 1;
    if (opts.id == NULL && opts.key == NULL) {
        page_say(page, 404, "Which message?", "Search for an id, a gid or a key.");
        return;
    }
    places = trace_places(page->config, page->console->deadline_ms, &count);
    opts.places = places;
    opts.place_count = count;
    /* What is known goes out in time, with a line for each database that did not answer. */
    opts.due_ms = page->due_ms > SPARE_MS ? page->due_ms - SPARE_MS : page->due_ms;
    if (places == NULL || trace_run(&opts, &trace, &err) != OBX_OK) {
        page->out.rc = OBX_E_NOMEM;
    } else if (page->format == FORMAT_JSON) {
        page_begin(page, "");
        page_json(page, trace_json(&opts, &trace));
    } else if (page->format == FORMAT_CSV) {
        write_csv(page, &trace);
    } else {
        write_html(page, &opts, &trace);
    }
    page->statements += trace.statements;
    trace_fini(&trace);
    obx_free(places);
}
