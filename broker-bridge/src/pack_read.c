/*
 * Taking a pack apart. See bridge/pack.h.
 *
 * Whatever may write to the queue may send a pack, so its size is looked at before its grammar, its
 * grammar before its events, and nothing is handed out before all of it was found sound. Each event
 * becomes one heap block, at most some times as large as the event's own text.
 */
#include "bridge/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crash.h"
#include "base/json_span.h"
#include "pack_names.h"

enum {
    NUMBER_SIZE = 40,
    DECIMAL = 10,
    SHORT_MAX = 255,
    HEADERS_MAX = 256 * 1024, /* of an event's headers as a text */
    MEMBERS_MAX = 1024,       /* of an event */
    ALIGNMENT = 16,
    BASE64_OUT = 4,
    BASE64_BITS = 6,
    BYTE_BITS = 8,
};

static const char own_prefix[] = PACK_PREFIX;

/* The broker's, on a quorum queue: a message that ends its consumer each time is known by it. */
static const char deliveries[] = "x-delivery-count";

static const struct obx_header *find_header(const struct bridge_message *msg, const char *name)
{
    for (size_t i = 0; i < msg->header_count; i++) {
        if (bytes_is(msg->headers[i].name, name))
            return &msg->headers[i];
    }
    return NULL;
}

bool pack_is(const struct bridge_message *msg)
{
    return find_header(msg, PACK_COUNT_HEADER) != NULL;
}

/* One event: where its attributes stand in the pack's text, and what has been decoded of it. */
struct event {
    struct obx_bytes spans[ATTRS]; /* values; absent: there is none */
    struct obx_bytes text;         /* the whole object */
    size_t members, extensions;
};

struct reading {
    const struct bridge_delivery *pack;
    const struct obx_header *count; /* of the pack's deliveries; NULL: not known */
    struct obx_buf headers;         /* scratch: the event's headers as a text */
    struct obx_bytes object;        /* the same as an object; absent: there are none */
    struct bridge_delivery *to;
    struct obx_header *next_header;
    char *at, *end; /* what is left of its block */
};

/* ---- what an event has ---- */

static size_t attribute_of(struct obx_bytes name)
{
    size_t i = 0;

    while (i < ATTRS && !bytes_is(name, pack_attributes[i].name))
        i++;
    return i;
}

static bool is_name(struct obx_bytes name)
{
    const char *text = name.p;

    for (size_t i = 0; i < name.len; i++) {
        if ((text[i] < 'a' || text[i] > 'z') && (text[i] < '0' || text[i] > '9'))
            return false;
    }
    return name.len > 0 && name.len <= SHORT_MAX - (sizeof(own_prefix) - 1);
}

static enum obx_code find_members(struct event *event, struct obx_err *err)
{
    struct json_span_rest rest = json_span_enter(event->text);
    struct obx_bytes string;
    struct obx_bytes value;

    while (json_span_next_member(&rest, &string, &value)) {
        struct obx_bytes name;
        const bool is_plain = json_span_is_plain(string, &name);
        const size_t attribute = attribute_of(name);

        if (++event->members > MEMBERS_MAX)
            return obx_fail(err, OBX_E_TOO_LARGE, "more than %d attributes", MEMBERS_MAX);
        if (attribute == ATTRS) {
            if (!is_plain || !is_name(name) || json_span_type(value) != JSON_SPAN_STRING)
                return obx_fail(err, OBX_E_FORMAT, "a name or value that no attribute has");
            event->extensions++;
            continue;
        }
        if (!bytes_is_absent(event->spans[attribute]))
            return obx_fail(err, OBX_E_FORMAT, "%s is there twice",
                            pack_attributes[attribute].name);
        if (attribute != ATTR_DATA && json_span_type(value) != JSON_SPAN_STRING)
            return obx_fail(err, OBX_E_FORMAT, "%s is no string", pack_attributes[attribute].name);
        event->spans[attribute] = value;
    }
    return OBX_OK;
}

static enum obx_code check_members(const struct event *event, struct obx_err *err)
{
    static const enum pack_attribute required[] = {ATTR_SPECVERSION, ATTR_ID, ATTR_SOURCE,
                                                   ATTR_TYPE, ATTR_TIME};

    for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
        if (bytes_is_absent(event->spans[required[i]]))
            return obx_fail(err, OBX_E_FORMAT, "%s is missing", pack_attributes[required[i]].name);
    }
    if (!bytes_is(event->spans[ATTR_SPECVERSION], "\"1.0\""))
        return obx_fail(err, OBX_E_FORMAT, "specversion is not 1.0");
    if (!bytes_is_absent(event->spans[ATTR_DATA]) &&
        !bytes_is_absent(event->spans[ATTR_DATA_BASE64]))
        return obx_fail(err, OBX_E_FORMAT, "data is there twice");
    return OBX_OK;
}

/* The headers that are no attributes, in the scratch; *count of them. */
static enum obx_code open_headers(struct reading *reading, const struct event *event, size_t *count,
                                  struct obx_err *err)
{
    const struct obx_bytes string = event->spans[ATTR_HEADERS];
    struct json_span_fault fault;
    struct json_span_rest rest;
    struct obx_bytes name;
    struct obx_bytes value;

    reading->object = (struct obx_bytes){0};
    *count = 0;
    if (bytes_is_absent(string))
        return OBX_OK;
    if (string.len > HEADERS_MAX)
        return obx_fail(err, OBX_E_TOO_LARGE, "headers of %zu bytes", string.len);
    buf_reset(&reading->headers);
    if (buf_reserve(&reading->headers, string.len) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "headers");
    if (!json_span_decode(string, reading->headers.data, &reading->headers.len) ||
        !json_span_check(buf_bytes(&reading->headers), &reading->object, &fault) ||
        json_span_type(reading->object) != JSON_SPAN_OBJECT)
        return obx_fail(err, OBX_E_FORMAT, "headers are no JSON object");
    rest = json_span_enter(reading->object);
    while (json_span_next_member(&rest, &name, &value))
        ++*count;
    return *count <= MEMBERS_MAX
               ? OBX_OK
               : obx_fail(err, OBX_E_TOO_LARGE, "more than %d headers", MEMBERS_MAX);
}

/* ---- its block ---- */

/* The struct, its headers, and bytes: nothing gets longer by decoding, and the prefix of the names of
 * extensions is reckoned in. */
static enum obx_code make_block(struct reading *reading, const struct event *event,
                                size_t header_count)
{
    const struct bridge_delivery *pack = reading->pack;
    const size_t head = (sizeof(struct bridge_delivery) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const size_t headers = (event->members + header_count + 1) * sizeof(struct obx_header);
    const size_t size = head + headers + event->text.len + reading->object.len +
                        event->extensions * sizeof(own_prefix) + pack->msg.exchange.len +
                        pack->msg.routing_key.len + pack->msg.app_id.len;
    struct bridge_delivery *to = obx_malloc(size);

    if (to == NULL)
        return OBX_E_NOMEM;
    *to = (struct bridge_delivery){.epoch = pack->epoch,
                                   .tag = pack->tag,
                                   .redelivered = pack->redelivered,
                                   .memory_bytes = size};
    reading->to = to;
    reading->next_header = (struct obx_header *)(void *)((char *)to + head);
    reading->at = (char *)reading->next_header + headers;
    reading->end = (char *)to + size;
    to->msg.headers = reading->next_header;
    return OBX_OK;
}

static struct obx_bytes place(struct reading *reading, struct obx_bytes bytes)
{
    char *start = reading->at;

    OBX_ASSERT(bytes.len <= (size_t)(reading->end - start));
    if (bytes.len > 0)
        memcpy(start, bytes.p, bytes.len);
    reading->at += bytes.len;
    return (struct obx_bytes){start, bytes.len};
}

/* False: it stands for no text, or has a NUL, which no property may have. */
static bool place_string(struct reading *reading, struct obx_bytes string, struct obx_bytes *out)
{
    *out = (struct obx_bytes){.p = reading->at};
    if (!json_span_decode(string, reading->at, &out->len))
        return false;
    reading->at += out->len;
    return memchr(out->p, '\0', out->len) == NULL;
}

static struct obx_header *add_header(struct reading *reading, struct obx_bytes name,
                                     enum obx_header_type type)
{
    struct obx_header *header = reading->next_header++;

    reading->to->msg.header_count++;
    *header = (struct obx_header){.name = name, .type = type};
    return header;
}

/* ---- its values ---- */

static bool read_i64(struct obx_bytes digits, int64_t *out)
{
    char text[NUMBER_SIZE];
    char *end = NULL;

    if (!bytes_to_text(digits, text, sizeof(text)))
        return false;
    errno = 0;
    *out = strtoll(text, &end, DECIMAL);
    return errno == 0 && end != text && *end == '\0';
}

/* A property that is a header too when a message is sent alone. */
static bool read_attribute(struct reading *reading, const struct event *event,
                           enum pack_attribute attribute, struct obx_bytes *value)
{
    struct obx_header *header = NULL;

    if (bytes_is_absent(event->spans[attribute]))
        return true;
    if (!place_string(reading, event->spans[attribute], value) || value->len == 0)
        return false;
    header = add_header(reading, bytes_of(pack_attributes[attribute].header), OBX_H_TEXT);
    header->v.text = *value;
    if (attribute != ATTR_OUTBOX_ID)
        return true;
    header->type = OBX_H_I64;
    return read_i64(*value, &header->v.i64);
}

static enum obx_code read_attributes(struct reading *reading, const struct event *event,
                                     struct obx_err *err)
{
    struct bridge_message *msg = &reading->to->msg;
    struct obx_bytes value;

    for (enum pack_attribute i = ATTR_SPECVERSION; i <= ATTR_OUTBOX_ID; i++) {
        if (!read_attribute(reading, event, i, &value))
            return obx_fail(err, OBX_E_FORMAT, "%s cannot be read", pack_attributes[i].name);
        if (i == ATTR_ID)
            msg->message_id = value;
        if (i == ATTR_TYPE)
            msg->type = value;
    }
    if (!bytes_is_absent(event->spans[ATTR_DATACONTENTTYPE]) &&
        !place_string(reading, event->spans[ATTR_DATACONTENTTYPE], &msg->content_type))
        return obx_fail(err, OBX_E_FORMAT, "datacontenttype cannot be read");
    if (msg->message_id.len > SHORT_MAX || msg->type.len > SHORT_MAX ||
        msg->content_type.len > SHORT_MAX)
        return obx_fail(err, OBX_E_TOO_LARGE, "an attribute is longer than %d bytes", SHORT_MAX);
    return OBX_OK;
}

static bool read_extension(struct reading *reading, struct obx_bytes name, struct obx_bytes value)
{
    struct obx_header *header = NULL;

    if (!pack_is_trace(name)) {
        const char *start = reading->at;

        (void)place(reading, (struct obx_bytes){own_prefix, sizeof(own_prefix) - 1});
        (void)place(reading, name);
        name = (struct obx_bytes){start, (size_t)(reading->at - start)};
    } else {
        name = place(reading, name);
    }
    header = add_header(reading, name, OBX_H_TEXT);
    return place_string(reading, value, &header->v.text);
}

/* Numbers with a point or an exponent are doubles, as they are written. */
static bool read_number(struct obx_header *header, struct obx_bytes value)
{
    char text[NUMBER_SIZE];

    if (!bytes_to_text(value, text, sizeof(text)))
        return false;
    if (strpbrk(text, ".eE") == NULL) {
        header->type = OBX_H_I64;
        return read_i64(value, &header->v.i64);
    }
    header->type = OBX_H_F64;
    header->v.f64 = strtod(text, NULL);
    return header->v.f64 - header->v.f64 == 0.0; /* not beyond what a double holds */
}

/* An attribute would be there twice, with two values; and a pack is in no pack. */
static bool is_own_header(struct obx_bytes name)
{
    for (size_t i = 0; i < ATTRS; i++) {
        if (pack_attributes[i].header != NULL && bytes_is(name, pack_attributes[i].header))
            return true;
    }
    return bytes_is(name, PACK_COUNT_HEADER);
}

static bool read_header(struct reading *reading, struct obx_bytes name, struct obx_bytes value)
{
    struct obx_header *header = add_header(reading, (struct obx_bytes){0}, OBX_H_NULL);

    if (!place_string(reading, name, &header->name) || header->name.len == 0 ||
        header->name.len > SHORT_MAX || is_own_header(header->name))
        return false;
    switch (json_span_type(value)) {
    case JSON_SPAN_STRING:
        header->type = OBX_H_TEXT;
        return place_string(reading, value, &header->v.text);
    case JSON_SPAN_NUMBER:
        return read_number(header, value);
    case JSON_SPAN_TRUE:
    case JSON_SPAN_FALSE:
        header->type = OBX_H_BOOL;
        header->v.yes = json_span_type(value) == JSON_SPAN_TRUE;
        return true;
    case JSON_SPAN_NULL:
        return true;
    case JSON_SPAN_OBJECT:
    case JSON_SPAN_ARRAY:
        break;
    }
    return false;
}

static enum obx_code read_others(struct reading *reading, const struct event *event,
                                 struct obx_err *err)
{
    struct json_span_rest rest = json_span_enter(event->text);
    struct obx_bytes string;
    struct obx_bytes name;
    struct obx_bytes value;

    while (event->extensions > 0 && json_span_next_member(&rest, &string, &value)) {
        (void)json_span_is_plain(string, &name);
        if (attribute_of(name) == ATTRS && !read_extension(reading, name, value))
            return obx_fail(err, OBX_E_FORMAT, "an extension cannot be read");
    }
    if (reading->count != NULL && reading->count->type == OBX_H_I64)
        add_header(reading, bytes_of(deliveries), OBX_H_I64)->v.i64 = reading->count->v.i64;
    if (bytes_is_absent(reading->object))
        return OBX_OK;
    rest = json_span_enter(reading->object);
    while (json_span_next_member(&rest, &name, &value)) {
        if (!read_header(reading, name, value))
            return obx_fail(err, OBX_E_FORMAT, "a header cannot be read");
    }
    return OBX_OK;
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

/* Strict: whole groups, padding at the end only, no bits left over; so one text stands for one run
 * of bytes. */
static bool place_base64(struct reading *reading, struct obx_bytes text, struct obx_bytes *out)
{
    const char *p = text.p;
    size_t len = text.len;
    uint32_t bits = 0;
    unsigned have = 0;

    *out = (struct obx_bytes){.p = reading->at};
    if (len % BASE64_OUT != 0)
        return false;
    for (int pad = 0; pad < 2 && len > 0 && p[len - 1] == '='; pad++)
        len--;
    for (size_t i = 0; i < len; i++) {
        const int value = base64_value(p[i]);

        if (value < 0)
            return false;
        bits = bits << BASE64_BITS | (uint32_t)value;
        have += BASE64_BITS;
        if (have >= BYTE_BITS) {
            have -= BYTE_BITS;
            *reading->at++ = (char)(bits >> have & 0xff);
        }
    }
    out->len = (size_t)(reading->at - (const char *)out->p);
    return have < BASE64_BITS && (bits & ((1U << have) - 1)) == 0;
}

static enum obx_code read_data(struct reading *reading, const struct event *event,
                               struct obx_err *err)
{
    const struct obx_bytes base64 = event->spans[ATTR_DATA_BASE64];
    struct obx_bytes *body = &reading->to->msg.body;
    struct obx_bytes inner;

    *body = (struct obx_bytes){.p = reading->at};
    if (!bytes_is_absent(event->spans[ATTR_DATA])) {
        *body = place(reading, event->spans[ATTR_DATA]);
    } else if (!bytes_is_absent(base64) &&
               (!json_span_is_plain(base64, &inner) || !place_base64(reading, inner, body))) {
        return obx_fail(err, OBX_E_FORMAT, "data_base64 is no base64");
    }
    return OBX_OK;
}

static enum obx_code read_event(struct reading *reading, struct obx_bytes text,
                                struct bridge_delivery **out, struct obx_err *err)
{
    struct event event = {.text = text};
    size_t header_count = 0;
    enum obx_code rc = OBX_OK;

    if (json_span_type(text) != JSON_SPAN_OBJECT)
        return obx_fail(err, OBX_E_FORMAT, "it is no object");
    rc = find_members(&event, err);
    if (rc == OBX_OK)
        rc = check_members(&event, err);
    if (rc == OBX_OK)
        rc = open_headers(reading, &event, &header_count, err);
    if (rc == OBX_OK && make_block(reading, &event, header_count) != OBX_OK)
        rc = obx_fail(err, OBX_E_NOMEM, "event of %zu bytes", text.len);
    if (rc != OBX_OK)
        return rc;
    *out = reading->to; /* from here on it is the caller's to free */
    reading->to->msg.exchange = place(reading, reading->pack->msg.exchange);
    reading->to->msg.routing_key = place(reading, reading->pack->msg.routing_key);
    reading->to->msg.app_id = place(reading, reading->pack->msg.app_id);
    rc = read_attributes(reading, &event, err);
    if (rc == OBX_OK)
        rc = read_others(reading, &event, err);
    return rc == OBX_OK ? read_data(reading, &event, err) : rc;
}

/* ---- the pack ---- */

/* How many messages the sender says there are: a pack that was cut off at a comma would not show it
 * otherwise. */
static enum obx_code check_sender(const struct bridge_message *msg, size_t *count,
                                  struct obx_err *err)
{
    const struct obx_header *header = find_header(msg, PACK_COUNT_HEADER);

    if (!bytes_is(msg->app_id, PACK_SENDER) || !bytes_is(msg->content_type, PACK_CONTENT_TYPE))
        return obx_fail(err, OBX_E_FORMAT, "a pack that is not of Rowpost");
    if (header == NULL || header->type != OBX_H_I64 || header->v.i64 <= 0)
        return obx_fail(err, OBX_E_FORMAT, "a pack that does not tell how many messages it has");
    if (header->v.i64 > PACK_EVENTS_MAX)
        return obx_fail(err, OBX_E_TOO_LARGE, "a pack of %lld messages; %d are allowed",
                        (long long)header->v.i64, PACK_EVENTS_MAX);
    *count = (size_t)header->v.i64;
    return OBX_OK;
}

static int compare_ids(const void *a, const void *b)
{
    const struct obx_bytes x = (*(struct bridge_delivery *const *)a)->msg.message_id;
    const struct obx_bytes y = (*(struct bridge_delivery *const *)b)->msg.message_id;
    const int order = memcmp(x.p, y.p, x.len < y.len ? x.len : y.len);

    return order != 0 ? order : (x.len > y.len) - (x.len < y.len);
}

/* A relay packs rows of one outbox. */
static enum obx_code check_sources(struct bridge_delivery *const *events, size_t count,
                                   struct obx_err *err)
{
    for (size_t i = 1; i < count; i++) {
        if (!bytes_equal(events[i]->msg.headers[ATTR_SOURCE].v.text,
                         events[0]->msg.headers[ATTR_SOURCE].v.text))
            return obx_fail(err, OBX_E_FORMAT, "a pack with messages of two sources");
    }
    return OBX_OK;
}

/* The second one would be taken for a copy of the first, and be lost. */
static enum obx_code check_ids(struct bridge_delivery **events, size_t count, struct obx_err *err)
{
    struct bridge_delivery **sorted = obx_malloc(count * sizeof(*sorted));
    enum obx_code rc = OBX_OK;

    if (sorted == NULL)
        return obx_fail(err, OBX_E_NOMEM, "%zu ids", count);
    memcpy(sorted, events, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), compare_ids);
    for (size_t i = 1; i < count && rc == OBX_OK; i++) {
        if (compare_ids(&sorted[i - 1], &sorted[i]) == 0)
            rc = obx_fail(err, OBX_E_FORMAT, "a pack with two messages of one id");
    }
    obx_free(sorted);
    return rc;
}

static enum obx_code read_events(struct reading *reading, struct obx_bytes array,
                                 struct bridge_delivery **events, size_t count, struct obx_err *err)
{
    struct json_span_rest rest = json_span_enter(array);
    struct obx_bytes text;
    size_t at = 0;
    enum obx_code rc = OBX_OK;

    for (; rc == OBX_OK && json_span_next_element(&rest, &text); at++) {
        if (at == count)
            return obx_fail(err, OBX_E_FORMAT, "a pack of more than the %zu messages that it tells",
                            count);
        rc = read_event(reading, text, &events[at], err);
        if (rc != OBX_OK)
            obx_err_context(err, "message %zu of a pack", at + 1);
    }
    if (rc == OBX_OK && at < count)
        rc = obx_fail(err, OBX_E_FORMAT, "a pack of %zu messages has %zu", count, at);
    if (rc == OBX_OK)
        rc = check_sources(events, count, err);
    return rc == OBX_OK ? check_ids(events, count, err) : rc;
}

enum obx_code pack_read(const struct bridge_delivery *pack, struct bridge_delivery ***events,
                        size_t *count, struct obx_err *err)
{
    struct reading reading = {.pack = pack, .count = find_header(&pack->msg, deliveries)};
    struct json_span_fault fault = {0};
    struct bridge_delivery **all = NULL;
    struct obx_bytes array;
    size_t told = 0;
    enum obx_code rc = OBX_OK;

    *events = NULL;
    *count = 0;
    rc = check_sender(&pack->msg, &told, err);
    if (rc != OBX_OK)
        return rc;
    if (pack->msg.body.len > PACK_BYTES_MAX)
        return obx_fail(err, OBX_E_TOO_LARGE, "a pack of %zu bytes; %d are allowed",
                        pack->msg.body.len, PACK_BYTES_MAX);
    if (!json_span_check(pack->msg.body, &array, &fault))
        return obx_fail(err, OBX_E_FORMAT, "a pack that is no JSON: %s at byte %zu", fault.what,
                        fault.at);
    if (json_span_type(array) != JSON_SPAN_ARRAY)
        return obx_fail(err, OBX_E_FORMAT, "a pack that is no array");
    all = obx_calloc(told + 1, sizeof(struct bridge_delivery *));
    rc = all == NULL ? obx_fail(err, OBX_E_NOMEM, "pack")
                     : read_events(&reading, array, all, told, err);
    buf_fini(&reading.headers);
    if (rc == OBX_OK) {
        *events = all;
        *count = told;
        return OBX_OK;
    }
    for (size_t i = 0; all != NULL && i < told; i++)
        bridge_delivery_free(all[i]);
    obx_free(all);
    return rc;
}
