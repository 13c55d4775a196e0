/*
 * The frame around each page. Every text of the outside goes through html.h; what is written with
 * buf_addf here is ours. Called by the pages.
 */
#include "page.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *path, *label;
} places[] = {{"/", "Overview"},          {"/frozen", "Frozen keys"}, {"/parked", "Parked"},
              {"/dead", "Dead"},          {"/inbox", "Inbox"},        {"/notify", "Notifications"},
              {"/half", "Half-messages"}, {"/fleet", "Fleet"},        {"/actions", "Actions"}};

static void add_search(struct page *page)
{
    buf_addf(&page->out,
             "<form class=\"search\" role=\"search\" action=\"%s/search\">"
             "<label class=\"hidden\" for=\"q\">Search</label>"
             "<input id=\"q\" name=\"q\" type=\"search\" placeholder=\"id, gid, key or topic\" "
             "accesskey=\"s\">"
             "<select name=\"kind\" aria-label=\"what it is\"><option value=\"id\">id</option>"
             "<option value=\"key\">key</option><option value=\"topic\">topic</option></select>"
             "<button>Find</button></form>",
             page->console->prefix);
}

static void add_navigation(struct page *page)
{
    buf_addf(&page->out, "<a class=\"hidden skip\" href=\"#main\">To the content</a><header><nav "
                         "aria-label=\"pages\"><b>Rowpost</b>");
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        const bool is_here = strcmp(page->path, places[i].path) == 0;

        buf_addf(&page->out, "<a href=\"%s%s\"%s>%s</a>", page->console->prefix, places[i].path,
                 is_here ? " aria-current=\"page\"" : "", places[i].label);
    }
    buf_add_text(&page->out, "</nav>");
    add_search(page);
    buf_add_text(&page->out, "<p class=\"who\">");
    html_add_text(&page->out, page->access.who);
    buf_addf(&page->out, " (%s)</p></header>", console_role_name(page->access.role));
}

void page_begin(struct page *page, const char *title)
{
    if (page->format == FORMAT_CSV)
        page->type = "text/csv; charset=utf-8";
    if (page->format == FORMAT_JSON)
        page->type = "application/json";
    if (page->format != FORMAT_HTML)
        return;
    page->type = "text/html; charset=utf-8";
    buf_add_text(&page->out,
                 "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta "
                 "name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta "
                 "name=\"color-scheme\" content=\"light dark\"><title>");
    html_add_text(&page->out, title);
    buf_addf(&page->out,
             " - Rowpost</title><link rel=\"stylesheet\" href=\"%s/console.css\"><script "
             "src=\"%s/console.js\" defer></script></head><body>",
             page->console->prefix, page->console->prefix);
    add_navigation(page);
    buf_add_text(&page->out, "<main id=\"main\"><h1>");
    html_add_text(&page->out, title);
    buf_add_text(&page->out, "</h1>");
}

void page_end(struct page *page)
{
    if (page->format == FORMAT_HTML)
        buf_add_text(&page->out, "</main></body></html>");
}

void page_say(struct page *page, int status, const char *title, const char *fmt, ...)
{
    struct obx_buf text = {0};
    va_list args;

    va_start(args, fmt);
    buf_addvf(&text, fmt, args);
    va_end(args);
    buf_reset(&page->out);
    page->status = status;
    page_begin(page, title);
    if (page->format == FORMAT_JSON) {
        page_json(page, json_pack("{s:s}", "error", text.data == NULL ? title : text.data));
    } else if (page->format == FORMAT_CSV) {
        csv_add(&page->out, buf_bytes(&text));
        buf_add_text(&page->out, "\n");
    } else {
        buf_add_text(&page->out, "<p>");
        html_add(&page->out, buf_bytes(&text));
        buf_add_text(&page->out, "</p>");
    }
    page_end(page);
    buf_fini(&text);
}

void page_fail(struct page *page, const char *place, const struct obx_err *err)
{
    page_say(page, 503, "The database did not answer", "%s: %s", place, err->text);
}

void page_link(struct page *page, const char *path, const char *name, const char *value,
               const char *label)
{
    buf_addf(&page->out, "<a href=\"%s%s?%s=", page->console->prefix, path, name);
    url_add(&page->out, value);
    buf_add_text(&page->out, "\">");
    html_add_text(&page->out, label);
    buf_add_text(&page->out, "</a>");
}

void page_button(struct page *page, const char *name, const char *value, const char *label,
                 const char *reason)
{
    buf_addf(&page->out, "<button name=\"%s\" value=\"%s\"%s", name, value,
             reason == NULL ? ">" : " disabled title=\"");
    if (reason != NULL) {
        html_add_text(&page->out, reason);
        buf_add_text(&page->out, "\">");
    }
    html_add_text(&page->out, label);
    buf_add_text(&page->out, "</button>");
    if (reason != NULL) {
        buf_add_text(&page->out, "<small>");
        html_add_text(&page->out, reason);
        buf_add_text(&page->out, "</small>");
    }
}

void page_add_query(struct page *page, const char *without, const char *and_without)
{
    for (size_t i = 0; i < page->params.count; i++) {
        const struct param *param = &page->params.items[i];

        if (param->value[0] == '\0' || strcmp(param->name, without) == 0 ||
            strcmp(param->name, and_without) == 0)
            continue;
        buf_add_text(&page->out, "&amp;");
        url_add(&page->out, param->name);
        buf_add_text(&page->out, "=");
        url_add(&page->out, param->value);
    }
}

void page_json(struct page *page, json_t *root)
{
    char *text = root == NULL ? NULL : json_dumps(root, JSON_COMPACT | JSON_ENSURE_ASCII);

    if (text == NULL)
        page->out.rc = OBX_E_NOMEM;
    buf_add_text(&page->out, text == NULL ? "" : text);
    buf_add_text(&page->out, "\n");
    free(text);
    json_decref(root);
}

/* A line of an hour without script: the shape is what one looks at, the numbers stand beside it. */
void page_svg_line(struct page *page, const uint64_t *values, size_t count, const char *label)
{
    enum { WIDTH = 360, HEIGHT = 48 };
    uint64_t max = 1;

    for (size_t i = 0; i < count; i++)
        max = values[i] > max ? values[i] : max;
    buf_addf(&page->out,
             "<svg class=\"line\" viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\" role=\"img\" "
             "aria-label=\"%s\"><polyline points=\"",
             WIDTH, HEIGHT + 2, label);
    for (size_t i = 0; i < count; i++)
        buf_addf(&page->out, "%zu,%llu ", i + (SAMPLES - count),
                 (unsigned long long)(HEIGHT + 1 - values[i] * HEIGHT / max));
    buf_add_text(&page->out, "\"/></svg>");
}
