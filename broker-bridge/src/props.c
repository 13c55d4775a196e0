/*
 * Turns a bridge_message's properties and headers into what the library's encoder takes. Borrows
 * everything and allocates only when a message has more headers than any before. Called by
 * publisher.c.
 */
#include "props.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "bridge/pack.h"

enum {
    NAME_MAX_LEN = 255, /* AMQP's short string */
    HEADERS_MAX = 65536,
    PERSISTENT = 2,
};

void props_fini(struct props_scratch *scratch)
{
    obx_free(scratch->entries);
    memset(scratch, 0, sizeof(*scratch));
}

struct named {
    const char *what;
    struct obx_bytes value;
};

static enum obx_code check_names(const struct bridge_message *msg, struct obx_err *err)
{
    const struct named names[] = {
        {"exchange", msg->exchange},
        {"routing key", msg->routing_key},
        {"message id", msg->message_id},
        {"type", msg->type},
        {"content type", msg->content_type},
        {"content encoding", msg->content_encoding},
        {"correlation id", msg->correlation_id},
        {"reply-to", msg->reply_to},
        {"app id", msg->app_id},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].value.len > NAME_MAX_LEN)
            return obx_fail(err, OBX_E_FORMAT, "%s of %zu bytes, AMQP takes at most 255",
                            names[i].what, names[i].value.len);
    }
    /* The ids of a pack are within it; one of its own would be taken for a message's by a consumer that
     * knows no packs. */
    if (msg->message_id.len == 0 && !pack_is(msg))
        return obx_fail(err, OBX_E_FORMAT, "no message id");
    return OBX_OK;
}

static enum obx_code check_headers(const struct bridge_message *msg, struct obx_err *err)
{
    if (msg->header_count > HEADERS_MAX)
        return obx_fail(err, OBX_E_FORMAT, "%zu headers", msg->header_count);
    for (size_t i = 0; i < msg->header_count; i++) {
        const struct obx_header *header = &msg->headers[i];

        if (header->name.len == 0 || header->name.len > NAME_MAX_LEN)
            return obx_fail(err, OBX_E_FORMAT, "header name of %zu bytes, AMQP takes 1 to 255",
                            header->name.len);
        if (header->type == OBX_H_TEXT && header->v.text.len > UINT32_MAX)
            return obx_fail(err, OBX_E_FORMAT, "header of %zu bytes", header->v.text.len);
    }
    return OBX_OK;
}

enum obx_code props_check(const struct bridge_message *msg, uint64_t max_body_bytes,
                          struct obx_err *err)
{
    enum obx_code rc = check_names(msg, err);

    if (rc == OBX_OK)
        rc = check_headers(msg, err);
    if (rc == OBX_OK && msg->body.len > max_body_bytes)
        rc = obx_fail(err, OBX_E_TOO_LARGE, "body of %zu bytes, at most %llu are allowed",
                      msg->body.len, (unsigned long long)max_body_bytes);
    return rc;
}

static amqp_field_value_t value_of(const struct obx_header *header)
{
    amqp_field_value_t value = {.kind = AMQP_FIELD_KIND_VOID};

    switch (header->type) {
    case OBX_H_TEXT:
        value.kind = AMQP_FIELD_KIND_UTF8;
        value.value.bytes = to_amqp(header->v.text);
        break;
    case OBX_H_I64:
        value.kind = AMQP_FIELD_KIND_I64;
        value.value.i64 = header->v.i64;
        break;
    case OBX_H_F64:
        value.kind = AMQP_FIELD_KIND_F64;
        value.value.f64 = header->v.f64;
        break;
    case OBX_H_BOOL:
        value.kind = AMQP_FIELD_KIND_BOOLEAN;
        value.value.boolean = header->v.yes ? 1 : 0;
        break;
    case OBX_H_NULL:
    default:
        break;
    }
    return value;
}

static enum obx_code reserve(struct props_scratch *scratch, size_t count)
{
    amqp_table_entry_t *entries;

    if (count <= scratch->cap)
        return OBX_OK;
    entries = obx_realloc(scratch->entries, count * sizeof(*entries));
    if (entries == NULL)
        return OBX_E_NOMEM;
    scratch->entries = entries;
    scratch->cap = count;
    return OBX_OK;
}

static enum obx_code fill_table(struct props_scratch *scratch, const struct bridge_message *msg,
                                uint64_t tag, amqp_table_t *table)
{
    amqp_table_entry_t *next;

    if (reserve(scratch, msg->header_count + 1) != OBX_OK)
        return OBX_E_NOMEM;
    next = scratch->entries;
    for (size_t i = 0; i < msg->header_count; i++) {
        if (bytes_is(msg->headers[i].name, PROPS_TAG_HEADER))
            continue; /* a copy of a message that was published before */
        *next++ = (amqp_table_entry_t){.key = to_amqp(msg->headers[i].name),
                                       .value = value_of(&msg->headers[i])};
    }
    *next++ =
        (amqp_table_entry_t){.key = amqp_cstring_bytes(PROPS_TAG_HEADER),
                             .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = (int64_t)tag}};
    table->num_entries = (int)(next - scratch->entries);
    table->entries = scratch->entries;
    return OBX_OK;
}

uint64_t props_tag(const amqp_basic_properties_t *properties)
{
    const amqp_table_t *headers = &properties->headers;

    if ((properties->_flags & AMQP_BASIC_HEADERS_FLAG) == 0)
        return 0;
    for (int i = 0; i < headers->num_entries; i++) {
        const amqp_table_entry_t *entry = &headers->entries[i];

        if (bytes_is(from_amqp(entry->key), PROPS_TAG_HEADER))
            return entry->value.kind == AMQP_FIELD_KIND_I64 && entry->value.value.i64 > 0
                       ? (uint64_t)entry->value.value.i64
                       : 0;
    }
    return 0;
}

static void set_text(amqp_basic_properties_t *out, amqp_bytes_t *field, amqp_flags_t flag,
                     struct obx_bytes value)
{
    if (bytes_is_absent(value))
        return;
    *field = to_amqp(value);
    out->_flags |= flag;
}

enum obx_code props_encode(struct props_scratch *scratch, const struct bridge_message *msg,
                           uint64_t tag, amqp_basic_properties_t *out)
{
    memset(out, 0, sizeof(*out));
    out->_flags = AMQP_BASIC_DELIVERY_MODE_FLAG;
    out->delivery_mode = PERSISTENT;
    set_text(out, &out->message_id, AMQP_BASIC_MESSAGE_ID_FLAG, msg->message_id);
    set_text(out, &out->type, AMQP_BASIC_TYPE_FLAG, msg->type);
    set_text(out, &out->content_type, AMQP_BASIC_CONTENT_TYPE_FLAG, msg->content_type);
    set_text(out, &out->content_encoding, AMQP_BASIC_CONTENT_ENCODING_FLAG, msg->content_encoding);
    set_text(out, &out->correlation_id, AMQP_BASIC_CORRELATION_ID_FLAG, msg->correlation_id);
    set_text(out, &out->reply_to, AMQP_BASIC_REPLY_TO_FLAG, msg->reply_to);
    set_text(out, &out->app_id, AMQP_BASIC_APP_ID_FLAG, msg->app_id);
    if (msg->timestamp_s != 0) {
        out->timestamp = msg->timestamp_s;
        out->_flags |= AMQP_BASIC_TIMESTAMP_FLAG;
    }
    out->_flags |= AMQP_BASIC_HEADERS_FLAG;
    return fill_table(scratch, msg, tag, &out->headers);
}
