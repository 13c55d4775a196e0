/*
 * See json.h. Written by hand and not by a library: a body of 200 receipts is added to line by line
 * while it waits, and a string of any bytes has to become one that every reader takes.
 */
#include "json.h"

#include "base/utf8.h"

static void add_char(struct obx_buf *out, struct obx_bytes text, size_t len)
{
    const unsigned char c = *(const unsigned char *)text.p;

    if (len == 0)
        buf_add_text(out, "\xEF\xBF\xBD");
    else if (c == '"' || c == '\\')
        buf_addf(out, "\\%c", c);
    else if (c < ' ')
        buf_addf(out, "\\u%04x", (unsigned)c);
    else
        buf_add(out, text.p, len);
}

static void add_chars(struct obx_buf *out, struct obx_bytes text, bool has_nul)
{
    while (text.len > 0) {
        uint32_t cp = 0;
        const size_t len = utf8_next(text, &cp);
        const size_t step = len == 0 ? 1 : len;

        if (len == 1 && cp == 0 && !has_nul)
            buf_add_text(out, " ");
        else
            add_char(out, text, len);
        text.p = (const char *)text.p + step;
        text.len -= step;
    }
}

void json_add_string(struct obx_buf *out, struct obx_bytes text)
{
    buf_add_text(out, "\"");
    add_chars(out, text, true);
    buf_add_text(out, "\"");
}

/* \u0000 is JSON, but readers in C refuse it with the whole document: one reason with a NUL in it
 * would take 199 other receipts with it, and they were confirmed. */
static void add_member(struct obx_buf *body, const char *name, struct obx_bytes value)
{
    buf_addf(body, "\"%s\":\"", name);
    add_chars(body, value, false);
    buf_add_text(body, "\"");
}

enum obx_code receipt_body_add(struct obx_buf *body, const struct receipt_line *line)
{
    const size_t before = body->len;

    buf_add_text(body, before == 0 ? "{\"receipts\":[{" : ",{");
    add_member(body, "message_id", line->message_id);
    buf_add_text(body, ",");
    add_member(body, "group", line->group);
    buf_addf(body, ",\"outcome\":\"%s\",", line->is_rejected ? "rejected" : "applied");
    if (line->is_rejected) {
        add_member(body, "reason", line->reason);
        buf_add_text(body, ",");
    }
    add_member(body, "token", line->token);
    if (buf_add_text(body, "}") == OBX_OK)
        return OBX_OK;
    buf_cut(body, before);
    return OBX_E_NOMEM;
}

enum obx_code receipt_body_end(struct obx_buf *body)
{
    const size_t before = body->len;

    if (buf_add_text(body, "]}") == OBX_OK)
        return OBX_OK;
    buf_cut(body, before);
    return OBX_E_NOMEM;
}
