/*
 * Putting a pack together. See bridge/pack.h.
 *
 * One rule decides what goes in: it has to come out as it went in, here and in every other reader
 * of the format. A payload that only some JSON parsers take (half a surrogate pair, a NUL, numbers
 * beyond 64 bits) would make the whole pack unreadable for the others, so it is carried as base64
 * although it is JSON.
 */
#include "bridge/pack.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/json_span.h"
#include "base/utf8.h"
#include "pack_names.h"

enum {
    NUMBER_SIZE = 40,
    EXTENSION_MAX = 20, /* of an attribute's name, as CloudEvents recommends */
    DEPTH_MAX = 64,     /* of a payload: a parser that recurses takes it */
    WHOLE_DIGITS = 18,  /* fit 64 bits whatever they are */
    NUMBER_MAX = 40,
    EXPONENT_DIGITS = 2,
    BASE64_IN = 3,
    BASE64_OUT = 4,
    BASE64_BITS = 6,
    SHORT_MAX = 255, /* of ids, types and keys, as AMQP has it */
    HEX_DIGITS = 4,
    SURROGATE_HIGH = 0xd800,
    SURROGATE_LOW = 0xdc00,
    SURROGATE_END = 0xdfff,
};

/* What each event has. */
#define REQUIRED                                                                                   \
    (1U << ATTR_SPECVERSION | 1U << ATTR_ID | 1U << ATTR_SOURCE | 1U << ATTR_TYPE | 1U << ATTR_TIME)

void pack_writer_fini(struct pack_writer *writer)
{
    buf_fini(&writer->body);
    buf_fini(&writer->headers);
}

void pack_begin(struct pack_writer *writer, size_t max_events, size_t max_bytes)
{
    buf_reset(&writer->body);
    buf_add(&writer->body, "[", 1);
    writer->count = 0;
    writer->max_events = max_events;
    writer->max_bytes = max_bytes;
}

/* ---- values ---- */

static bool needs_escape(unsigned char c)
{
    return c < ' ' || c == '"' || c == '\\';
}

static void add_string(struct obx_buf *out, struct obx_bytes text)
{
    const char *at = text.p;
    const char *end = at + text.len;

    buf_add(out, "\"", 1);
    while (at < end) {
        const char *plain = at;

        while (at < end && !needs_escape((unsigned char)*at))
            at++;
        buf_add(out, plain, (size_t)(at - plain));
        if (at == end)
            break;
        if (*at == '"' || *at == '\\')
            buf_addf(out, "\\%c", *at);
        else
            buf_addf(out, "\\u%04x", (unsigned)(unsigned char)*at);
        at++;
    }
    buf_add(out, "\"", 1);
}

/* CloudEvents allows no control characters in an attribute, and some readers look. */
static bool is_attribute_text(struct obx_bytes text)
{
    const unsigned char *p = text.p;

    for (size_t i = 0; i < text.len; i++) {
        if (p[i] < ' ' || p[i] == 0x7f)
            return false;
    }
    return text.len > 0 && utf8_is_valid(text);
}

static void add_attribute(struct obx_buf *out, struct obx_bytes name, struct obx_bytes value)
{
    buf_add(out, ",\"", 2);
    buf_add(out, name.p, name.len);
    buf_add(out, "\":", 2);
    add_string(out, value);
}

static void add_base64(struct obx_buf *out, struct obx_bytes bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = bytes.p;
    const size_t size = (bytes.len + BASE64_IN - 1) / BASE64_IN * BASE64_OUT;
    char *to = NULL;

    if (buf_reserve(out, size) != OBX_OK)
        return;
    to = out->data + out->len;
    for (size_t i = 0; i < bytes.len; i += BASE64_IN, to += BASE64_OUT) {
        const size_t left = bytes.len - i;
        const uint32_t group = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                               (left > 2 ? p[i + 2] : 0);

        for (unsigned k = 0; k < BASE64_OUT; k++)
            to[k] = k > left ? '=' : digits[group >> (18 - BASE64_BITS * k) & 63];
    }
    out->len += size;
    out->data[out->len] = '\0';
}

/* ---- payloads ---- */

/* A type of JSON, in UTF-8 as JSON is; none at all is taken for JSON by the format. */
static bool is_json_type(struct obx_bytes type)
{
    static const char json[] = "application/json";
    static const char suffix[] = "+json";
    static const char charset[] = "charset=utf-8";
    const char *text = type.p;
    const char *semicolon = type.len == 0 ? NULL : memchr(text, ';', type.len);
    size_t len = semicolon == NULL ? type.len : (size_t)(semicolon - text);

    if (type.len == 0)
        return true;
    if (semicolon != NULL) {
        const char *rest = semicolon + 1;
        const char *end = text + type.len;

        while (rest < end && *rest == ' ')
            rest++;
        if ((size_t)(end - rest) != sizeof(charset) - 1 ||
            strncasecmp(rest, charset, sizeof(charset) - 1) != 0)
            return false;
    }
    if (len == sizeof(json) - 1)
        return strncasecmp(text, json, len) == 0;
    return len > sizeof(suffix) &&
           strncasecmp(text + len - (sizeof(suffix) - 1), suffix, sizeof(suffix) - 1) == 0;
}

static unsigned hex4(const char *at)
{
    unsigned unit = 0;

    for (int i = 0; i < HEX_DIGITS; i++)
        unit = unit << 4 | (unsigned)(at[i] <= '9' ? at[i] - '0' : (at[i] | 0x20) - 'a' + 10);
    return unit;
}

/* Past the escape at *at, whose backslash has been read. False: no character stands for it, or one
 * that readers in C refuse. */
static bool pass_escape(const char **at, const char *end)
{
    unsigned unit = 0;

    if (*(*at)++ != 'u')
        return true;
    unit = hex4(*at); /* the grammar has been checked */
    *at += HEX_DIGITS;
    if (unit < SURROGATE_HIGH || unit > SURROGATE_END)
        return unit != 0;
    if (unit >= SURROGATE_LOW || end - *at < HEX_DIGITS + 2 || (*at)[0] != '\\' || (*at)[1] != 'u')
        return false;
    unit = hex4(*at + 2);
    *at += HEX_DIGITS + 2;
    return unit >= SURROGATE_LOW && unit <= SURROGATE_END;
}

static bool pass_string(const char **at, const char *end)
{
    for (++*at; **at != '"';) {
        if (*(*at)++ == '\\' && !pass_escape(at, end))
            return false;
    }
    ++*at;
    return true;
}

static bool pass_number(const char **at, const char *end)
{
    const char *start = *at;
    const char *exponent = NULL;
    bool is_whole = true;

    for (; *at < end && strchr("+-.0123456789eE", **at) != NULL; ++*at) {
        is_whole = is_whole && **at != '.' && **at != 'e' && **at != 'E';
        if (**at == 'e' || **at == 'E')
            exponent = *at + 1;
    }
    if (exponent != NULL && (*exponent == '+' || *exponent == '-'))
        exponent++;
    return *at - start <= (is_whole ? WHOLE_DIGITS : NUMBER_MAX) &&
           (exponent == NULL || *at - exponent <= EXPONENT_DIGITS);
}

/* Whether every parser takes the value, which is JSON. */
static bool is_portable(struct obx_bytes value)
{
    const char *at = value.p;
    const char *end = at + value.len;
    size_t depth = 0;

    while (at < end) {
        if (*at == '"') {
            if (!pass_string(&at, end))
                return false;
        } else if (*at == '-' || (*at >= '0' && *at <= '9')) {
            if (!pass_number(&at, end))
                return false;
        } else {
            depth += *at == '{' || *at == '[' ? 1 : 0;
            depth -= *at == '}' || *at == ']' ? 1 : 0;
            if (depth > DEPTH_MAX)
                return false;
            at++;
        }
    }
    return true;
}

/* Blanks around the value would not come out again, and a null is no data to some readers. */
static bool can_be_embedded(const struct bridge_message *msg)
{
    struct json_span_fault fault;
    struct obx_bytes value;

    return is_json_type(msg->content_type) && json_span_check(msg->body, &value, &fault) &&
           value.len == msg->body.len && json_span_type(value) != JSON_SPAN_NULL &&
           is_portable(value);
}

static void add_data(struct obx_buf *out, const struct bridge_message *msg)
{
    if (msg->body.len == 0)
        return;
    if (can_be_embedded(msg)) {
        buf_add_text(out, ",\"data\":");
        buf_add(out, msg->body.p, msg->body.len);
        return;
    }
    buf_add_text(out, ",\"data_base64\":\"");
    add_base64(out, msg->body);
    buf_add(out, "\"", 1);
}

/* ---- headers ---- */

/* The attribute that a header is by the binding to AMQP: "cloudEvents_tenant" is "tenant". */
static bool is_extension(const struct obx_header *header, struct obx_bytes *name)
{
    const size_t prefix = sizeof(PACK_PREFIX) - 1;
    const char *text = header->name.p;

    if (header->type != OBX_H_TEXT || !is_attribute_text(header->v.text))
        return false;
    *name = header->name;
    if (pack_is_trace(header->name))
        return true;
    if (header->name.len <= prefix || header->name.len > prefix + EXTENSION_MAX ||
        memcmp(text, PACK_PREFIX, prefix) != 0)
        return false;
    *name = (struct obx_bytes){text + prefix, header->name.len - prefix};
    for (size_t i = 0; i < name->len; i++) {
        const char c = text[prefix + i];

        if ((c < 'a' || c > 'z') && (c < '0' || c > '9'))
            return false;
    }
    for (size_t i = 0; i < ATTRS; i++) {
        if (bytes_is(*name, pack_attributes[i].name))
            return false;
    }
    return !pack_is_trace(*name);
}

/* A double has a point or an exponent, so that a reader knows it from a whole number. */
static void add_double(struct obx_buf *out, double number)
{
    char text[NUMBER_SIZE];

    if (!isfinite(number)) {
        out->rc = OBX_E_FORMAT;
        return;
    }
    (void)snprintf(text, sizeof(text), "%.17g", number);
    buf_add_text(out, text);
    if (strpbrk(text, ".e") == NULL)
        buf_add_text(out, ".0");
}

static bool is_text(struct obx_bytes text)
{
    return utf8_is_valid(text) && (text.len == 0 || memchr(text.p, '\0', text.len) == NULL);
}

/* To the others, which have no form of their own in the format: a JSON object of them. */
static void add_header(struct obx_buf *out, const struct obx_header *header)
{
    if (!is_text(header->name) || (header->type == OBX_H_TEXT && !is_text(header->v.text))) {
        out->rc = OBX_E_FORMAT;
        return;
    }
    buf_add(out, out->len == 0 ? "{" : ",", 1);
    add_string(out, header->name);
    buf_add(out, ":", 1);
    switch (header->type) {
    case OBX_H_TEXT:
        add_string(out, header->v.text);
        break;
    case OBX_H_I64:
        buf_addf(out, "%" PRId64, header->v.i64);
        break;
    case OBX_H_F64:
        add_double(out, header->v.f64);
        break;
    case OBX_H_BOOL:
        buf_add_text(out, header->v.yes ? "true" : "false");
        break;
    case OBX_H_NULL:
        buf_add_text(out, "null");
        break;
    }
}

/* Which of ours the header is: the first ATTRS, or ATTRS itself. */
static size_t own_attribute(const struct obx_header *header)
{
    size_t i = 0;

    while (i < ATTRS && (pack_attributes[i].header == NULL ||
                         !bytes_is(header->name, pack_attributes[i].header)))
        i++;
    return i;
}

/* The attributes that a reader takes properties from: they have to be the same. */
static bool is_same(size_t own, struct obx_bytes value, const struct bridge_message *msg)
{
    if (own == ATTR_SPECVERSION)
        return bytes_is(value, "1.0");
    if (own == ATTR_ID)
        return bytes_equal(value, msg->message_id);
    return own != ATTR_TYPE || bytes_equal(value, msg->type);
}

/* False: there is something that an attribute may not have, or one is missing. */
static bool add_headers(struct pack_writer *writer, const struct bridge_message *msg)
{
    struct obx_buf *out = &writer->body;
    struct obx_bytes name;
    unsigned found = 0;

    buf_reset(&writer->headers);
    for (size_t i = 0; i < msg->header_count; i++) {
        const struct obx_header *header = &msg->headers[i];
        const size_t own = own_attribute(header);

        if (own < ATTRS && (found & 1U << own) != 0)
            return false;
        found |= 1U << own;
        if (own == ATTR_OUTBOX_ID && header->type == OBX_H_I64) {
            buf_addf(out, ",\"%s\":\"%" PRId64 "\"", pack_attributes[own].name, header->v.i64);
        } else if (own < ATTRS) {
            if (header->type != OBX_H_TEXT || !is_attribute_text(header->v.text) ||
                !is_same(own, header->v.text, msg))
                return false;
            if (own != ATTR_SPECVERSION) /* which stands at the beginning */
                add_attribute(out, bytes_of(pack_attributes[own].name), header->v.text);
        } else if (is_extension(header, &name)) {
            add_attribute(out, name, header->v.text);
        } else {
            add_header(&writer->headers, header);
        }
    }
    if (writer->headers.rc != OBX_OK || (found & REQUIRED) != REQUIRED)
        return false;
    if (writer->headers.len == 0)
        return true;
    buf_add(&writer->headers, "}", 1);
    add_attribute(out, bytes_of(pack_attributes[ATTR_HEADERS].name), buf_bytes(&writer->headers));
    return true;
}

/* ---- the pack ---- */

/* Properties that have no place in an event. */
static bool is_fit(const struct bridge_message *msg)
{
    return bytes_is_absent(msg->content_encoding) && bytes_is_absent(msg->correlation_id) &&
           bytes_is_absent(msg->reply_to) && bytes_is(msg->app_id, PACK_SENDER) &&
           msg->message_id.len <= SHORT_MAX &&
           (bytes_is_absent(msg->content_type) || is_attribute_text(msg->content_type));
}

static bool has_id(const struct pack_writer *writer, uint64_t hash)
{
    bool is_there = false;

    for (size_t i = 0; i < writer->count; i++)
        is_there |= writer->ids[i] == hash;
    return is_there;
}

enum pack_answer pack_add(struct pack_writer *writer, const struct bridge_message *msg)
{
    struct obx_buf *out = &writer->body;
    const size_t before = out->len;
    const uint64_t hash = bytes_hash(msg->message_id);
    bool is_whole = true;
    bool is_nomem = false;

    if (writer->count == writer->max_events || before + msg->body.len >= writer->max_bytes)
        return writer->count == 0 ? PACK_UNFIT : PACK_FULL;
    if (!is_fit(msg) || has_id(writer, hash))
        return PACK_UNFIT;
    buf_add_text(out,
                 writer->count == 0 ? "{\"specversion\":\"1.0\"" : ",{\"specversion\":\"1.0\"");
    is_whole = add_headers(writer, msg);
    if (!bytes_is_absent(msg->content_type))
        add_attribute(out, bytes_of(pack_attributes[ATTR_DATACONTENTTYPE].name), msg->content_type);
    add_data(out, msg);
    buf_add(out, "}", 1);
    if (out->rc == OBX_OK && is_whole && out->len < writer->max_bytes) {
        writer->ids[writer->count++] = hash;
        return PACK_ADDED;
    }
    is_nomem = out->rc == OBX_E_NOMEM || writer->headers.rc == OBX_E_NOMEM;
    buf_cut(out, before);
    if (is_nomem)
        return PACK_NOMEM;
    return is_whole && writer->count > 0 ? PACK_FULL : PACK_UNFIT;
}

enum obx_code pack_end(struct pack_writer *writer, struct bridge_message *msg)
{
    if (buf_add(&writer->body, "]", 1) != OBX_OK)
        return OBX_E_NOMEM;
    writer->count_header = (struct obx_header){
        .name = bytes_of(PACK_COUNT_HEADER), .type = OBX_H_I64, .v.i64 = (int64_t)writer->count};
    *msg = (struct bridge_message){.content_type = bytes_of(PACK_CONTENT_TYPE),
                                   .app_id = bytes_of(PACK_SENDER),
                                   .headers = &writer->count_header,
                                   .header_count = 1,
                                   .body = buf_bytes(&writer->body)};
    return OBX_OK;
}
