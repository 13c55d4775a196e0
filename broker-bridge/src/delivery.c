/*
 * Owns the delivery that is being received: the method says who and where, the header frame how
 * large, and from then on there is one heap block that holds the struct, the header array, all
 * names and texts, and the body, which body frames fill.
 *
 * Invariants: BUILD_NONE has no delivery; BUILD_HEADER has the method's names only; BUILD_BODY has
 * a delivery and body_left > 0. Sizes come from the broker and, for headers, from the
 * publisher: all are bounded before memory is taken (frame.c has the bounds of headers). Called by
 * consumer.c.
 */
#include "delivery.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crash.h"
#include "base/log.h"
#include "field_text.h"
#include "props.h"

enum {
    ALIGNMENT = 16,
    NUMBER_MAX = 24,
};

/* What RabbitMQ itself cannot exceed, whatever its configuration. */
#define BODY_MAX ((uint64_t)512 * 1024 * 1024)

void bridge_delivery_free(struct bridge_delivery *delivery)
{
    obx_free(delivery);
}

void delivery_reset(struct delivery_builder *builder)
{
    bridge_delivery_free(builder->delivery);
    builder->delivery = NULL;
    builder->state = BUILD_NONE;
}

void delivery_fini(struct delivery_builder *builder)
{
    delivery_reset(builder);
    buf_fini(&builder->names);
    buf_fini(&builder->scratch);
}

enum obx_code delivery_begin(struct delivery_builder *builder, const amqp_basic_deliver_t *method,
                             struct obx_err *err)
{
    if (builder->state != BUILD_NONE)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "a delivery inside a delivery");
    buf_reset(&builder->names);
    if (buf_add(&builder->names, method->exchange.bytes, method->exchange.len) != OBX_OK ||
        buf_add(&builder->names, method->routing_key.bytes, method->routing_key.len) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "delivery");
    builder->exchange_len = method->exchange.len;
    builder->tag = method->delivery_tag;
    builder->redelivered = method->redelivered != 0;
    builder->state = BUILD_HEADER;
    return OBX_OK;
}

/* Where the next bytes of the block go. */
struct cursor {
    char *next;
    char *end;
};

static struct obx_bytes place(struct cursor *cursor, struct obx_bytes value)
{
    char *const dst = cursor->next;

    OBX_ASSERT(value.len <= (size_t)(cursor->end - dst));
    if (value.len > 0)
        memcpy(dst, value.p, value.len);
    cursor->next += value.len;
    return (struct obx_bytes){.p = dst, .len = value.len};
}

static struct obx_bytes place_if(struct cursor *cursor, const amqp_basic_properties_t *properties,
                                 amqp_flags_t flag, amqp_bytes_t value)
{
    if ((properties->_flags & flag) == 0)
        return (struct obx_bytes){.p = NULL, .len = 0};
    return place(cursor, from_amqp(value));
}

static int header_count(const amqp_basic_properties_t *properties)
{
    return (properties->_flags & AMQP_BASIC_HEADERS_FLAG) != 0 ? properties->headers.num_entries
                                                               : 0;
}

/* The publisher's own tag means nothing to a consumer, and differs from copy to copy. */
static bool is_hidden(const amqp_table_entry_t *entry)
{
    return bytes_is(from_amqp(entry->key), PROPS_TAG_HEADER);
}

/* Values that become text other than their own bytes. */
static bool needs_text(const amqp_field_value_t *value)
{
    return value->kind == AMQP_FIELD_KIND_TABLE || value->kind == AMQP_FIELD_KIND_ARRAY ||
           (value->kind == AMQP_FIELD_KIND_U64 && value->value.u64 > INT64_MAX);
}

static bool is_text(const amqp_field_value_t *value)
{
    return value->kind == AMQP_FIELD_KIND_UTF8 || value->kind == AMQP_FIELD_KIND_BYTES;
}

static enum obx_code measure_headers(struct delivery_builder *builder,
                                     const amqp_basic_properties_t *properties, size_t *size)
{
    const int count = header_count(properties);

    *size += (size_t)count * sizeof(struct obx_header);
    for (int i = 0; i < count; i++) {
        const amqp_table_entry_t *entry = &properties->headers.entries[i];

        if (is_hidden(entry))
            continue;
        *size += entry->key.len;
        buf_reset(&builder->scratch);
        if (is_text(&entry->value))
            *size += entry->value.value.bytes.len;
        else if (needs_text(&entry->value) &&
                 field_text(&builder->scratch, &entry->value) != OBX_OK)
            return OBX_E_NOMEM;
        *size += builder->scratch.len;
    }
    return OBX_OK;
}

/* Memory of properties that are not flagged is not initialised by the library. */
static size_t len_if(const amqp_basic_properties_t *properties, amqp_flags_t flag,
                     amqp_bytes_t value)
{
    return (properties->_flags & flag) != 0 ? value.len : 0;
}

/* Every kind that is not text, as one of the few that a header can have. */
static void set_simple(struct obx_header *header, const amqp_field_value_t *value)
{
    const bool is_double = value->kind == AMQP_FIELD_KIND_F32 ||
                           value->kind == AMQP_FIELD_KIND_F64 ||
                           value->kind == AMQP_FIELD_KIND_DECIMAL;

    header->type = is_double ? OBX_H_F64 : OBX_H_I64;
    switch (value->kind) {
    case AMQP_FIELD_KIND_BOOLEAN:
        header->type = OBX_H_BOOL;
        header->v.yes = value->value.boolean != 0;
        break;
    case AMQP_FIELD_KIND_I8:
        header->v.i64 = value->value.i8;
        break;
    case AMQP_FIELD_KIND_U8:
        header->v.i64 = value->value.u8;
        break;
    case AMQP_FIELD_KIND_I16:
        header->v.i64 = value->value.i16;
        break;
    case AMQP_FIELD_KIND_U16:
        header->v.i64 = value->value.u16;
        break;
    case AMQP_FIELD_KIND_I32:
        header->v.i64 = value->value.i32;
        break;
    case AMQP_FIELD_KIND_U32:
        header->v.i64 = value->value.u32;
        break;
    case AMQP_FIELD_KIND_I64:
        header->v.i64 = value->value.i64;
        break;
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_TIMESTAMP:
        header->v.i64 = (int64_t)value->value.u64;
        break;
    case AMQP_FIELD_KIND_F32:
        header->v.f64 = (double)value->value.f32;
        break;
    case AMQP_FIELD_KIND_F64:
        header->v.f64 = value->value.f64;
        break;
    case AMQP_FIELD_KIND_DECIMAL:
        header->v.f64 = field_decimal(value->value.decimal);
        break;
    default:
        header->type = OBX_H_NULL;
        break;
    }
}

/* Second pass over the headers, which places what the first one measured; nested values, which are
 * rare, are written twice. */
static enum obx_code place_headers(struct delivery_builder *builder, struct cursor *cursor,
                                   const amqp_basic_properties_t *properties,
                                   struct obx_header *headers, size_t *placed)
{
    const int count = header_count(properties);

    *placed = 0;

    for (int i = 0; i < count; i++) {
        const amqp_table_entry_t *entry = &properties->headers.entries[i];
        struct obx_header *header = &headers[*placed];

        if (is_hidden(entry))
            continue;
        ++*placed;
        header->name = place(cursor, from_amqp(entry->key));
        if (is_text(&entry->value)) {
            header->type = OBX_H_TEXT;
            header->v.text = place(cursor, from_amqp(entry->value.value.bytes));
        } else if (needs_text(&entry->value)) {
            buf_reset(&builder->scratch);
            if (field_text(&builder->scratch, &entry->value) != OBX_OK)
                return OBX_E_NOMEM;
            header->type = OBX_H_TEXT;
            header->v.text = place(cursor, buf_bytes(&builder->scratch));
        } else {
            set_simple(header, &entry->value);
        }
    }
    return OBX_OK;
}

static void place_properties(struct bridge_message *msg, struct cursor *cursor,
                             const amqp_basic_properties_t *p)
{
    msg->message_id = place_if(cursor, p, AMQP_BASIC_MESSAGE_ID_FLAG, p->message_id);
    msg->type = place_if(cursor, p, AMQP_BASIC_TYPE_FLAG, p->type);
    msg->content_type = place_if(cursor, p, AMQP_BASIC_CONTENT_TYPE_FLAG, p->content_type);
    msg->content_encoding =
        place_if(cursor, p, AMQP_BASIC_CONTENT_ENCODING_FLAG, p->content_encoding);
    msg->correlation_id = place_if(cursor, p, AMQP_BASIC_CORRELATION_ID_FLAG, p->correlation_id);
    msg->reply_to = place_if(cursor, p, AMQP_BASIC_REPLY_TO_FLAG, p->reply_to);
    msg->app_id = place_if(cursor, p, AMQP_BASIC_APP_ID_FLAG, p->app_id);
    if ((p->_flags & AMQP_BASIC_TIMESTAMP_FLAG) != 0)
        msg->timestamp_s = p->timestamp;
}

/* Lays the block out: struct, headers, names and texts, body. The body's room is left to the body
 * frames. */
static enum obx_code build(struct delivery_builder *builder,
                           const amqp_basic_properties_t *properties, uint64_t body_size)
{
    const struct obx_bytes names = buf_bytes(&builder->names);
    const size_t head = (sizeof(struct bridge_delivery) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const amqp_basic_properties_t *p = properties;
    size_t size = head + names.len + (size_t)body_size +
                  len_if(p, AMQP_BASIC_MESSAGE_ID_FLAG, p->message_id) +
                  len_if(p, AMQP_BASIC_TYPE_FLAG, p->type) +
                  len_if(p, AMQP_BASIC_CONTENT_TYPE_FLAG, p->content_type) +
                  len_if(p, AMQP_BASIC_CONTENT_ENCODING_FLAG, p->content_encoding) +
                  len_if(p, AMQP_BASIC_CORRELATION_ID_FLAG, p->correlation_id) +
                  len_if(p, AMQP_BASIC_REPLY_TO_FLAG, p->reply_to) +
                  len_if(p, AMQP_BASIC_APP_ID_FLAG, p->app_id);
    struct bridge_delivery *delivery;
    struct obx_header *headers;
    struct cursor cursor;
    struct obx_bytes placed;

    if (measure_headers(builder, properties, &size) != OBX_OK)
        return OBX_E_NOMEM;
    delivery = obx_malloc(size);
    if (delivery == NULL)
        return OBX_E_NOMEM;
    memset(delivery, 0, sizeof(*delivery));
    builder->delivery = delivery;
    headers = (struct obx_header *)(void *)((char *)delivery + head);
    cursor.next = (char *)(headers + header_count(properties));
    cursor.end = (char *)delivery + size;
    delivery->tag = builder->tag;
    delivery->redelivered = builder->redelivered;
    delivery->memory_bytes = size;
    placed = place(&cursor, names);
    delivery->msg.exchange = (struct obx_bytes){.p = placed.p, .len = builder->exchange_len};
    delivery->msg.routing_key =
        (struct obx_bytes){.p = (const char *)placed.p + builder->exchange_len,
                           .len = placed.len - builder->exchange_len};
    place_properties(&delivery->msg, &cursor, properties);
    if (place_headers(builder, &cursor, properties, headers, &delivery->msg.header_count) != OBX_OK)
        return OBX_E_NOMEM;
    delivery->msg.headers = headers;
    OBX_ASSERT((size_t)(cursor.end - cursor.next) == body_size);
    delivery->msg.body = (struct obx_bytes){.p = cursor.next, .len = (size_t)body_size};
    return OBX_OK;
}

/* Hands the whole delivery over. */
static struct bridge_delivery *finish(struct delivery_builder *builder)
{
    struct bridge_delivery *delivery = builder->delivery;

    builder->delivery = NULL;
    builder->state = BUILD_NONE;
    return delivery;
}

static enum obx_code on_header(struct delivery_builder *builder, const amqp_frame_t *frame,
                               struct bridge_delivery **out, struct obx_err *err)
{
    const uint64_t body_size = frame->payload.properties.body_size;
    const amqp_basic_properties_t none = {0};
    const amqp_basic_properties_t *properties = frame->payload.properties.decoded;
    bool is_too_large = false;

    if (builder->state != BUILD_HEADER)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "content header without a delivery");
    if (body_size > BODY_MAX)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "delivery of %" PRIu64 " bytes", body_size);
    if (properties == NULL) {
        /* Somebody published it so, and the broker would deliver it again for ever: it goes on
         * without what cannot be read, for its receiver to refuse. */
        OBX_LOG(LOG_LVL_WARN, "consumer", "delivery.unreadable", KV_U64("tag", builder->tag),
                KV_U64("body_bytes", body_size));
        properties = &none;
    }
    is_too_large = builder->body_max > 0 && body_size > builder->body_max;
    if (build(builder, properties, is_too_large ? 0 : body_size) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "delivery of %" PRIu64 " bytes", body_size);
    if (is_too_large) {
        OBX_LOG(LOG_LVL_WARN, "consumer", "delivery.too_large", KV_U64("tag", builder->tag),
                KV_U64("body_bytes", body_size), KV_U64("body_max", builder->body_max));
        builder->delivery->too_large_bytes = body_size;
    }
    builder->body_left = body_size;
    builder->state = BUILD_BODY;
    if (body_size == 0)
        *out = finish(builder);
    return OBX_OK;
}

static enum obx_code on_body(struct delivery_builder *builder, amqp_bytes_t part,
                             struct bridge_delivery **out, struct obx_err *err)
{
    char *body_end;

    if (builder->state != BUILD_BODY || part.len > builder->body_left)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "content body without a delivery");
    /* The body is the last thing in the block. */
    body_end = (char *)builder->delivery + builder->delivery->memory_bytes;
    if (part.len > 0 && builder->delivery->too_large_bytes == 0)
        memcpy(body_end - builder->body_left, part.bytes, part.len);
    builder->body_left -= part.len;
    if (builder->body_left == 0)
        *out = finish(builder);
    return OBX_OK;
}

enum obx_code delivery_frame(struct delivery_builder *builder, const amqp_frame_t *frame,
                             struct bridge_delivery **out, struct obx_err *err)
{
    *out = NULL;
    if (frame->frame_type == AMQP_FRAME_HEADER)
        return on_header(builder, frame, out, err);
    return on_body(builder, frame->payload.body_fragment, out, err);
}
