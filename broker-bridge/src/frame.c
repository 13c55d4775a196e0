/*
 * Decodes frames by the library's decoders, which trust what they are given in two ways: they
 * recurse as deep as a table is nested (26,000 arrays in one message overflow a stack of 2 MB), and
 * they decode any method. So tables are walked first, with a stack of our own, and methods are
 * decoded that a broker sends to a client and no others. Called by link.c. Proved by
 * tests/unit/frame_test.c, tests/fuzz/amqp_fuzz.c and tests/system/hostile_broker_test.c.
 */
#include "frame.h"

#include <inttypes.h>

enum {
    METHOD_ID_LEN = 4,
    CONTENT_HEADER_LEN = 12,
    FLAGS_LEN = 2,
    START_TABLE_AT = 2, /* in connection.start: after two bytes of version */
    LENGTH_LEN = 4,
};

/* What is left of an encoded text, from at to end. */
struct walk {
    uint8_t *at;
    uint8_t *end;
};

static size_t left(const struct walk *walk)
{
    return (size_t)(walk->end - walk->at);
}

static bool skip(struct walk *walk, size_t len)
{
    if (len > left(walk))
        return false;
    walk->at += len;
    return true;
}

static bool take_length(struct walk *walk, size_t *len)
{
    const uint8_t *p = walk->at;

    if (!skip(walk, LENGTH_LEN))
        return false;
    *len = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    return *len <= left(walk);
}

static bool skip_name(struct walk *walk)
{
    return left(walk) > 0 && skip(walk, (size_t)*walk->at + 1);
}

/* Length of a value of fixed size; -1 for the others. */
static int fixed_len(uint8_t kind)
{
    switch (kind) {
    case AMQP_FIELD_KIND_VOID:
        return 0;
    case AMQP_FIELD_KIND_BOOLEAN:
    case AMQP_FIELD_KIND_I8:
    case AMQP_FIELD_KIND_U8:
        return 1;
    case AMQP_FIELD_KIND_I16:
    case AMQP_FIELD_KIND_U16:
        return 2;
    case AMQP_FIELD_KIND_I32:
    case AMQP_FIELD_KIND_U32:
    case AMQP_FIELD_KIND_F32:
        return 4;
    case AMQP_FIELD_KIND_DECIMAL:
        return 5;
    case AMQP_FIELD_KIND_I64:
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_F64:
    case AMQP_FIELD_KIND_TIMESTAMP:
        return 8;
    default:
        return -1;
    }
}

/* A table or array that the walk is inside of. */
struct level {
    uint8_t *end;
    bool is_table;
};

/* One value. A table or array within the depth becomes the next level; deeper ones become bytes,
 * which are encoded in the same way. */
static bool walk_value(struct walk *walk, struct level *levels, unsigned *depth)
{
    uint8_t *kind = walk->at;
    size_t len;
    int fixed;

    if (!skip(walk, 1))
        return false;
    fixed = fixed_len(*kind);
    if (fixed >= 0)
        return skip(walk, (size_t)fixed);
    if (*kind != AMQP_FIELD_KIND_UTF8 && *kind != AMQP_FIELD_KIND_BYTES &&
        *kind != AMQP_FIELD_KIND_TABLE && *kind != AMQP_FIELD_KIND_ARRAY)
        return false;
    if (!take_length(walk, &len))
        return false;
    if (*kind == AMQP_FIELD_KIND_UTF8 || *kind == AMQP_FIELD_KIND_BYTES)
        return skip(walk, len);
    if (*depth > FRAME_DEPTH_MAX) {
        *kind = AMQP_FIELD_KIND_BYTES;
        return skip(walk, len);
    }
    levels[(*depth)++] =
        (struct level){.end = walk->at + len, .is_table = *kind == AMQP_FIELD_KIND_TABLE};
    walk->end = walk->at + len;
    return true;
}

bool frame_flatten_table(uint8_t *table, size_t len)
{
    struct level levels[FRAME_DEPTH_MAX + 1] = {{.end = table + len, .is_table = true}};
    struct walk walk = {.at = table, .end = table + len};
    unsigned depth = 1;

    for (unsigned elements = 0; depth > 0;) {
        if (walk.at == levels[depth - 1].end) {
            depth--;
            if (depth > 0)
                walk.end = levels[depth - 1].end;
            continue;
        }
        if (++elements > FRAME_ELEMENTS_MAX || (levels[depth - 1].is_table && !skip_name(&walk)) ||
            !walk_value(&walk, levels, &depth))
            return false;
    }
    return true;
}

static bool flatten_at(struct walk *walk)
{
    size_t len;

    return take_length(walk, &len) && frame_flatten_table(walk->at, len);
}

static bool is_from_broker(amqp_method_number_t id)
{
    switch (id) {
    case AMQP_CONNECTION_START_METHOD:
    case AMQP_CONNECTION_TUNE_METHOD:
    case AMQP_CONNECTION_OPEN_OK_METHOD:
    case AMQP_CONNECTION_CLOSE_METHOD:
    case AMQP_CONNECTION_CLOSE_OK_METHOD:
    case AMQP_CONNECTION_BLOCKED_METHOD:
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
    case AMQP_CHANNEL_OPEN_OK_METHOD:
    case AMQP_CHANNEL_CLOSE_METHOD:
    case AMQP_CHANNEL_CLOSE_OK_METHOD:
    case AMQP_EXCHANGE_DECLARE_OK_METHOD:
    case AMQP_QUEUE_DECLARE_OK_METHOD:
    case AMQP_QUEUE_BIND_OK_METHOD:
    case AMQP_CONFIRM_SELECT_OK_METHOD:
    case AMQP_BASIC_QOS_OK_METHOD:
    case AMQP_BASIC_CONSUME_OK_METHOD:
    case AMQP_BASIC_CANCEL_METHOD:
    case AMQP_BASIC_CANCEL_OK_METHOD:
    case AMQP_BASIC_DELIVER_METHOD:
    case AMQP_BASIC_RETURN_METHOD:
    case AMQP_BASIC_ACK_METHOD:
    case AMQP_BASIC_NACK_METHOD:
        return true;
    default:
        return false;
    }
}

static amqp_bytes_t rest_of(const struct raw_frame *raw, size_t from)
{
    return (amqp_bytes_t){.bytes = raw->payload + from, .len = raw->len - from};
}

static enum obx_code decode_method(const struct raw_frame *raw, amqp_pool_t *pool,
                                   amqp_frame_t *frame, struct obx_err *err)
{
    struct walk table = {.at = raw->payload + METHOD_ID_LEN + START_TABLE_AT,
                         .end = raw->payload + raw->len};
    amqp_method_number_t id;
    int status;

    if (raw->len < METHOD_ID_LEN)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "a method of %zu bytes", raw->len);
    id = (amqp_method_number_t)raw->payload[0] << 24 | (amqp_method_number_t)raw->payload[1] << 16 |
         (amqp_method_number_t)raw->payload[2] << 8 | raw->payload[3];
    if (!is_from_broker(id))
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "method 0x%08" PRIx32 " from the broker", id);
    if (id == AMQP_CONNECTION_START_METHOD &&
        (raw->len < METHOD_ID_LEN + START_TABLE_AT || !flatten_at(&table)))
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "a greeting that cannot be read");
    frame->payload.method.id = id;
    status =
        amqp_decode_method(id, pool, rest_of(raw, METHOD_ID_LEN), &frame->payload.method.decoded);
    if (status == AMQP_STATUS_NO_MEMORY)
        return obx_fail(err, OBX_E_NOMEM, "method 0x%08" PRIx32, id);
    if (status < 0)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "method 0x%08" PRIx32 " that cannot be read", id);
    return OBX_OK;
}

/* The headers, which follow two names, either of which may be absent. */
static bool flatten_headers(const struct raw_frame *raw, unsigned flags)
{
    struct walk walk = {.at = raw->payload + CONTENT_HEADER_LEN + FLAGS_LEN,
                        .end = raw->payload + raw->len};

    if ((flags & AMQP_BASIC_CONTENT_TYPE_FLAG) != 0 && !skip_name(&walk))
        return false;
    if ((flags & AMQP_BASIC_CONTENT_ENCODING_FLAG) != 0 && !skip_name(&walk))
        return false;
    return (flags & AMQP_BASIC_HEADERS_FLAG) == 0 || flatten_at(&walk);
}

static bool properties_are_sound(const struct raw_frame *raw)
{
    const uint8_t *p = raw->payload + CONTENT_HEADER_LEN;
    unsigned flags;

    if (raw->is_cut || raw->len < CONTENT_HEADER_LEN + FLAGS_LEN)
        return false;
    flags = (unsigned)p[0] << 8 | p[1];
    return (flags & 1U) == 0 && /* no further flags: the class has none */
           flatten_headers(raw, flags);
}

static enum obx_code decode_header(const struct raw_frame *raw, amqp_pool_t *pool,
                                   amqp_frame_t *frame, struct obx_err *err)
{
    const uint8_t *p = raw->payload;
    uint64_t body_size = 0;
    int status = AMQP_STATUS_BAD_AMQP_DATA;

    if (raw->len < CONTENT_HEADER_LEN || ((unsigned)p[0] << 8 | p[1]) != AMQP_BASIC_CLASS)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "a content header of %zu bytes", raw->len);
    for (size_t i = METHOD_ID_LEN; i < CONTENT_HEADER_LEN; i++)
        body_size = body_size << 8 | p[i];
    frame->payload.properties.class_id = AMQP_BASIC_CLASS;
    frame->payload.properties.body_size = body_size;
    frame->payload.properties.decoded = NULL;
    if (properties_are_sound(raw))
        status = amqp_decode_properties(AMQP_BASIC_CLASS, pool, rest_of(raw, CONTENT_HEADER_LEN),
                                        &frame->payload.properties.decoded);
    if (status == AMQP_STATUS_NO_MEMORY)
        return obx_fail(err, OBX_E_NOMEM, "properties of %zu bytes", raw->len);
    if (status < 0)
        frame->payload.properties.decoded = NULL;
    return OBX_OK;
}

enum obx_code frame_decode(const struct raw_frame *raw, amqp_pool_t *pool, amqp_frame_t *frame,
                           struct obx_err *err)
{
    *frame = (amqp_frame_t){.frame_type = raw->type, .channel = raw->channel};
    switch (raw->type) {
    case AMQP_FRAME_METHOD:
        return decode_method(raw, pool, frame, err);
    case AMQP_FRAME_HEADER:
        return decode_header(raw, pool, frame, err);
    case AMQP_FRAME_BODY:
        frame->payload.body_fragment = rest_of(raw, 0);
        return OBX_OK;
    case AMQP_FRAME_HEARTBEAT:
    default:
        return OBX_OK;
    }
}
