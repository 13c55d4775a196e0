/*
 * Fuzz target of what a broker sends: the input is a stream of frames, given to the reader in
 * pieces (the first byte says how large). Whatever it is, frames are decoded or refused, deliveries
 * are put together from them, tables are as deep and as many as the bounds say, and memory follows
 * from what has come and not from what was promised.
 */
#include <string.h>

#include "base/bytes.h"
#include "delivery.h"
#include "frame.h"
#include "fuzz.h"
#include "props.h"

enum {
    POOL_PAGE = 4096,
    BODY_FUZZ_MAX = 1 << 20, /* the address space promised is RabbitMQ's to bound, see delivery.c */
    MEMORY_FIXED = 1 << 16,
    MEMORY_EACH = 64, /* bytes of a delivery for one byte of its header frame, at most */
};

struct reader {
    struct inbuf in;
    amqp_pool_t pool;
    struct delivery_builder builder;
    size_t header_len; /* of the delivery that is being read */
    uint64_t body_len;
};

static void check_delivery(const struct reader *reader, const struct bridge_delivery *delivery)
{
    const struct bridge_message *msg = &delivery->msg;
    volatile uint64_t sum = 0;

    FUZZ_CHECK(msg->header_count <= FRAME_ELEMENTS_MAX);
    FUZZ_CHECK(msg->body.len == reader->body_len);
    FUZZ_CHECK(delivery->memory_bytes <=
               MEMORY_FIXED + reader->body_len + MEMORY_EACH * reader->header_len);
    for (size_t i = 0; i < msg->header_count; i++) {
        FUZZ_CHECK(!bytes_is(msg->headers[i].name, PROPS_TAG_HEADER));
        sum += bytes_hash(msg->headers[i].name);
        if (msg->headers[i].type == OBX_H_TEXT)
            sum += bytes_hash(msg->headers[i].v.text);
    }
    sum += bytes_hash(msg->body) + bytes_hash(msg->message_id);
    (void)sum; /* each byte has been read */
}

/* The decoded values recurse as they were decoded. NOLINTBEGIN(misc-no-recursion) */
static unsigned depth_of(const amqp_field_value_t *value)
{
    unsigned deepest = 0;

    if (value->kind == AMQP_FIELD_KIND_ARRAY) {
        for (int i = 0; i < value->value.array.num_entries; i++) {
            const unsigned depth = depth_of(&value->value.array.entries[i]);

            deepest = depth > deepest ? depth : deepest;
        }
        return deepest + 1;
    }
    if (value->kind != AMQP_FIELD_KIND_TABLE)
        return 0;
    for (int i = 0; i < value->value.table.num_entries; i++) {
        const unsigned depth = depth_of(&value->value.table.entries[i].value);

        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + 1;
}
/* NOLINTEND(misc-no-recursion) */

static void check_depth(const amqp_basic_properties_t *properties)
{
    const amqp_field_value_t headers = {.kind = AMQP_FIELD_KIND_TABLE,
                                        .value.table = properties->headers};

    if ((properties->_flags & AMQP_BASIC_HEADERS_FLAG) != 0)
        FUZZ_CHECK(depth_of(&headers) <= FRAME_DEPTH_MAX + 1);
}

static void on_content(struct reader *reader, const struct raw_frame *raw,
                       const amqp_frame_t *frame)
{
    struct bridge_delivery *delivery = NULL;
    enum obx_code rc;

    if (frame->frame_type == AMQP_FRAME_HEADER) {
        const amqp_basic_properties_t *properties = frame->payload.properties.decoded;

        if (properties != NULL) {
            check_depth(properties);
            (void)props_tag(properties);
        }
        reader->header_len = raw->len;
        reader->body_len = frame->payload.properties.body_size;
        if (reader->body_len > BODY_FUZZ_MAX) {
            delivery_reset(&reader->builder);
            return;
        }
    }
    rc = delivery_frame(&reader->builder, frame, &delivery, NULL);
    FUZZ_CHECK(rc == OBX_OK || delivery == NULL);
    if (rc != OBX_OK)
        delivery_reset(&reader->builder);
    if (delivery != NULL)
        check_delivery(reader, delivery);
    bridge_delivery_free(delivery);
}

static void on_frame(struct reader *reader, const struct raw_frame *raw, const amqp_frame_t *frame)
{
    if (frame->frame_type == AMQP_FRAME_HEADER || frame->frame_type == AMQP_FRAME_BODY)
        on_content(reader, raw, frame);
    else if (frame->frame_type == AMQP_FRAME_METHOD &&
             frame->payload.method.id == AMQP_BASIC_DELIVER_METHOD &&
             delivery_begin(&reader->builder, frame->payload.method.decoded, NULL) != OBX_OK)
        delivery_reset(&reader->builder);
}

/* False: it is no stream of frames any more. */
static bool take_frames(struct reader *reader)
{
    struct raw_frame raw;
    amqp_frame_t frame;
    bool has = true;

    for (;;) {
        enum obx_code rc = inbuf_next(&reader->in, &raw, &has, NULL);

        FUZZ_CHECK(rc == OBX_OK || rc == OBX_E_MQ_PROTOCOL || rc == OBX_E_MQ_CONNECT);
        if (rc != OBX_OK || !has)
            return rc == OBX_OK;
        FUZZ_CHECK(raw.len <= INBUF_FRAME_MAX);
        recycle_amqp_pool(&reader->pool);
        rc = frame_decode(&raw, &reader->pool, &frame, NULL);
        FUZZ_CHECK(rc == OBX_OK || rc == OBX_E_MQ_PROTOCOL);
        if (rc != OBX_OK)
            return false;
        on_frame(reader, &raw, &frame);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader reader = {.in = {.data = NULL}};
    const size_t piece = size > 0 ? (size_t)data[0] * data[0] + 1 : 1;
    bool is_sound = true;

    init_amqp_pool(&reader.pool, POOL_PAGE);
    for (size_t at = size > 0 ? 1 : 0; is_sound && at < size;) {
        size_t room = 0;
        uint8_t *to = inbuf_room(&reader.in, &room);
        size_t len = size - at < piece ? size - at : piece;

        FUZZ_CHECK(to != NULL && room > 0);
        len = len < room ? len : room;
        memcpy(to, data + at, len);
        inbuf_added(&reader.in, len);
        at += len;
        is_sound = take_frames(&reader);
        FUZZ_CHECK(reader.in.cap <= 2 * (size_t)INBUF_FRAME_MAX + MEMORY_FIXED * 4);
    }
    delivery_fini(&reader.builder);
    empty_amqp_pool(&reader.pool);
    inbuf_fini(&reader.in);
    return 0;
}
