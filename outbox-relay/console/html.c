/* Called by everything that writes a page. */
#include "html.h"

#include <string.h>

#include "base/utf8.h"

enum { SPACE = 0x20, DELETE = 0x7F, LAST_C1 = 0x9F };
#define REPLACEMENT "\xEF\xBF\xBD"

/* Marks that change the direction of what follows can make a page show one thing and mean another. */
static bool is_shown(uint32_t cp)
{
    if (cp == '\n' || cp == '\t')
        return true;
    if (cp < SPACE || (cp >= DELETE && cp <= LAST_C1))
        return false;
    return !((cp >= 0x200E && cp <= 0x200F) || (cp >= 0x202A && cp <= 0x202E) ||
             (cp >= 0x2066 && cp <= 0x2069));
}

static const char *entity_of(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

void html_add(struct obx_buf *out, struct obx_bytes text)
{
    const char *p = text.p;

    for (size_t at = 0; at < text.len;) {
        uint32_t cp = 0;
        const size_t len = utf8_next((struct obx_bytes){.p = p + at, .len = text.len - at}, &cp);
        const char *entity = len == 1 ? entity_of(p[at]) : NULL;

        if (entity != NULL)
            buf_add_text(out, entity);
        else if (len > 0 && is_shown(cp))
            buf_add(out, p + at, len);
        else
            buf_add_text(out, REPLACEMENT);
        at += len == 0 ? 1 : len;
    }
}

void html_add_text(struct obx_buf *out, const char *text)
{
    html_add(out, bytes_of(text == NULL ? "" : text));
}

void url_add(struct obx_buf *out, const char *text)
{
    static const char kept[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (; *text != '\0'; text++) {
        if (strchr(kept, *text) != NULL)
            buf_add(out, text, 1);
        else
            buf_addf(out, "%%%02X", (unsigned)(unsigned char)*text);
    }
}

void csv_add(struct obx_buf *out, struct obx_bytes text)
{
    const char *p = text.p;

    buf_add_text(out,
                 text.len > 0 && strchr("=+-@\t\r", p[0]) != NULL && p[0] != '\0' ? "\"'" : "\"");
    for (size_t i = 0; i < text.len; i++) {
        if (p[i] == '"')
            buf_add_text(out, "\"\"");
        else if (p[i] == '\0')
            buf_add_text(out, REPLACEMENT);
        else
            buf_add(out, p + i, 1);
    }
    buf_add_text(out, "\"");
}
