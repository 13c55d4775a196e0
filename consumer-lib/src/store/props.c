/* Writes and reads the lines of props.h. Called by the worker when it parks a message and when it
 * takes one up again. */
#include "props.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_PREFIX "header."
#define DECIMAL       10
#define HEX           16
#define NUMBER_MAX    40

static const struct {
    const char *name;
    size_t offset;
} texts[] = {
    {"type", offsetof(struct bridge_message, type)},
    {"content-type", offsetof(struct bridge_message, content_type)},
    {"content-encoding", offsetof(struct bridge_message, content_encoding)},
    {"correlation-id", offsetof(struct bridge_message, correlation_id)},
    {"reply-to", offsetof(struct bridge_message, reply_to)},
    {"app-id", offsetof(struct bridge_message, app_id)},
};
#define TEXT_COUNT (sizeof(texts) / sizeof(texts[0]))

static const char *const type_names[] = {
    [OBX_H_NULL] = "null", [OBX_H_TEXT] = "text", [OBX_H_I64] = "i64",
    [OBX_H_F64] = "f64",   [OBX_H_BOOL] = "bool",
};
#define TYPE_COUNT (sizeof(type_names) / sizeof(type_names[0]))

/* ------------------------------------------------------------------ writing */

static void add_escaped(struct obx_buf *out, struct obx_bytes bytes)
{
    const unsigned char *p = bytes.p;

    for (size_t i = 0; i < bytes.len; i++) {
        if (p[i] >= ' ' && p[i] != 0x7F && p[i] != '%' && p[i] != '=')
            buf_add(out, &p[i], 1);
        else
            buf_addf(out, "%%%02X", p[i]);
    }
}

static void add_line(struct obx_buf *out, const char *prefix, struct obx_bytes name,
                     struct obx_bytes value)
{
    buf_add_text(out, prefix);
    add_escaped(out, name);
    buf_add_text(out, "=");
    add_escaped(out, value);
    buf_add_text(out, "\n");
}

static void add_header(struct obx_buf *out, const struct obx_header *header)
{
    char prefix[NUMBER_MAX];
    char number[NUMBER_MAX] = "";
    struct obx_bytes value = {0};

    snprintf(prefix, sizeof(prefix), HEADER_PREFIX "%s.", type_names[header->type]);
    switch (header->type) {
    case OBX_H_NULL:
        break;
    case OBX_H_TEXT:
        value = header->v.text;
        break;
    case OBX_H_I64:
        snprintf(number, sizeof(number), "%" PRId64, header->v.i64);
        break;
    case OBX_H_F64:
        snprintf(number, sizeof(number), "%a", header->v.f64); /* exact */
        break;
    case OBX_H_BOOL:
        snprintf(number, sizeof(number), "%d", header->v.yes);
        break;
    }
    if (header->type != OBX_H_TEXT)
        value = bytes_of(number);
    add_line(out, prefix, header->name, value);
}

static struct obx_bytes *text_of(struct bridge_message *msg, size_t index)
{
    return (struct obx_bytes *)(void *)((char *)msg + texts[index].offset);
}

enum obx_code props_write(const struct bridge_message *msg, struct obx_buf *out)
{
    struct bridge_message copy = *msg;
    char number[NUMBER_MAX];

    for (size_t i = 0; i < TEXT_COUNT; i++) {
        if (!bytes_is_absent(*text_of(&copy, i)))
            add_line(out, "", bytes_of(texts[i].name), *text_of(&copy, i));
    }
    if (msg->timestamp_s != 0) {
        snprintf(number, sizeof(number), "%" PRIu64, msg->timestamp_s);
        add_line(out, "", bytes_of("timestamp"), bytes_of(number));
    }
    for (size_t i = 0; i < msg->header_count; i++)
        add_header(out, &msg->headers[i]);
    return out->rc;
}

/* ------------------------------------------------------------------ reading */

struct line {
    struct obx_bytes name;
    struct obx_bytes value;
};

/* Cut the next line off text. False at the end. */
static bool next_line(struct obx_bytes *text, struct line *line)
{
    const char *p = text->p;
    const char *end = NULL;
    const char *equals = NULL;
    size_t len = text->len;

    if (len == 0)
        return false;
    end = memchr(p, '\n', len);
    if (end != NULL)
        len = (size_t)(end - p);
    *text = (struct obx_bytes){p + len + (end != NULL), text->len - len - (end != NULL)};
    equals = memchr(p, '=', len);
    line->name = (struct obx_bytes){p, equals != NULL ? (size_t)(equals - p) : len};
    line->value = equals != NULL ? (struct obx_bytes){equals + 1, len - (size_t)(equals - p) - 1}
                                 : (struct obx_bytes){p + len, 0};
    return true;
}

static bool starts_with(struct obx_bytes bytes, const char *prefix)
{
    return bytes.len >= strlen(prefix) && memcmp(bytes.p, prefix, strlen(prefix)) == 0;
}

size_t props_header_count(struct obx_bytes text)
{
    struct line line;
    size_t count = 0;

    while (next_line(&text, &line))
        count += starts_with(line.name, HEADER_PREFIX);
    return count;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

/* Decode into *scratch, which moves on. Never longer than what it came from. */
static struct obx_bytes unescape(struct obx_bytes from, char **scratch)
{
    const char *p = from.p;
    char *start = *scratch;
    char *to = start;

    for (size_t i = 0; i < from.len; i++) {
        int high = p[i] == '%' && from.len - i > 2 ? hex_digit(p[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(p[i + 2]) : -1;

        if (low >= 0) {
            *to++ = (char)(high * HEX + low);
            i += 2;
        } else {
            *to++ = p[i];
        }
    }
    *scratch = to;
    return (struct obx_bytes){start, (size_t)(to - start)};
}

static void number_text(struct obx_bytes from, char text[NUMBER_MAX])
{
    (void)bytes_to_text(from, text, NUMBER_MAX);
}

static void read_value(struct obx_header *header, struct obx_bytes value)
{
    char number[NUMBER_MAX];

    number_text(value, number);
    switch (header->type) {
    case OBX_H_NULL:
        break;
    case OBX_H_TEXT:
        header->v.text = value;
        break;
    case OBX_H_I64:
        header->v.i64 = strtoll(number, NULL, DECIMAL);
        break;
    case OBX_H_F64:
        header->v.f64 = strtod(number, NULL);
        break;
    case OBX_H_BOOL:
        header->v.yes = number[0] == '1';
        break;
    }
}

/* "header.<type>.<name>". A type of no known name is taken for a text: nothing is lost by it. */
static void read_header(struct obx_header *header, struct obx_bytes name, struct obx_bytes value)
{
    const char *type = (const char *)name.p + strlen(HEADER_PREFIX);
    size_t left = name.len - strlen(HEADER_PREFIX);
    const char *dot = memchr(type, '.', left);
    size_t len = dot != NULL ? (size_t)(dot - type) : left;

    *header = (struct obx_header){.type = OBX_H_TEXT};
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (bytes_is((struct obx_bytes){type, len}, type_names[i]))
            header->type = (enum obx_header_type)i;
    }
    header->name =
        dot != NULL ? (struct obx_bytes){dot + 1, left - len - 1} : (struct obx_bytes){type, left};
    read_value(header, value);
}

static void read_property(struct bridge_message *msg, struct obx_bytes name, struct obx_bytes value)
{
    char number[NUMBER_MAX];

    for (size_t i = 0; i < TEXT_COUNT; i++) {
        if (bytes_is(name, texts[i].name))
            *text_of(msg, i) = value;
    }
    if (bytes_is(name, "timestamp")) {
        number_text(value, number);
        msg->timestamp_s = strtoull(number, NULL, DECIMAL);
    }
}

void props_read(struct obx_bytes text, char *scratch, struct obx_header *headers,
                struct bridge_message *msg)
{
    struct line line;

    msg->headers = headers;
    msg->header_count = 0;
    while (next_line(&text, &line)) {
        struct obx_bytes name = unescape(line.name, &scratch);
        struct obx_bytes value = unescape(line.value, &scratch);

        if (starts_with(line.name, HEADER_PREFIX))
            read_header(&headers[msg->header_count++], name, value);
        else
            read_property(msg, name, value);
    }
}
