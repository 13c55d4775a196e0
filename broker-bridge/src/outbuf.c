/*
 * Owns the bytes between the bridge and the socket.
 *
 * The library would write each frame with a system call of its own (three for a message) and wait
 * without a limit when the broker does not read. So the frames are encoded here, by the library's
 * own encoders, many messages to one write, and a write takes what the kernel takes. Invariant:
 * start <= end <= cap, and [start, end) is whole frames but for the first one, part of which may
 * have been written.
 */
#include "outbuf.h"

#include <string.h>

#include "base/alloc.h"

enum {
    FRAME_HEADER_LEN = 7,
    FRAME_OVERHEAD = 8, /* header and end mark */
    METHOD_ID_LEN = 4,
    CONTENT_HEADER_LEN = 12,
    SLACK = 256,
    INITIAL_CAP = 64 * 1024,
    KEEP_CAP = 1024 * 1024, /* more than this is given back when it is not needed */
};

void outbuf_fini(struct outbuf *out)
{
    obx_free(out->data);
    memset(out, 0, sizeof(*out));
}

void outbuf_reset(struct outbuf *out)
{
    out->start = out->end = 0;
    if (out->cap > KEEP_CAP)
        outbuf_fini(out); /* one large message must not cost its memory for ever */
}

size_t outbuf_pending(const struct outbuf *out)
{
    return out->end - out->start;
}

void outbuf_consume(struct outbuf *out, size_t len)
{
    out->start += len;
    if (out->start == out->end)
        outbuf_reset(out);
}

void outbuf_truncate(struct outbuf *out, size_t pending)
{
    out->end = out->start + pending;
}

enum obx_code outbuf_reserve(struct outbuf *out, size_t extra)
{
    size_t cap = out->cap != 0 ? out->cap : INITIAL_CAP;
    const size_t pending = outbuf_pending(out);
    uint8_t *data;

    if (extra <= out->cap - out->end)
        return OBX_OK;
    if (extra > SIZE_MAX / 4 || pending > SIZE_MAX / 4)
        return OBX_E_NOMEM;
    if (out->start > 0) {
        memmove(out->data, out->data + out->start, pending);
        out->start = 0;
        out->end = pending;
        if (extra <= out->cap - out->end)
            return OBX_OK;
    }
    while (cap < pending + extra)
        cap *= 2;
    data = obx_realloc(out->data, cap);
    if (data == NULL)
        return OBX_E_NOMEM;
    out->data = data;
    out->cap = cap;
    return OBX_OK;
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)(v >> 16));
    put16(p + 2, (uint16_t)v);
}

static void put64(uint8_t *p, uint64_t v)
{
    put32(p, (uint32_t)(v >> 32));
    put32(p + 4, (uint32_t)v);
}

/* Writes the frame around a payload that already stands in its place, and takes it into the buffer.
 */
static void close_frame(struct outbuf *out, uint8_t type, amqp_channel_t channel,
                        size_t payload_len)
{
    uint8_t *frame = out->data + out->end;

    frame[0] = type;
    put16(frame + 1, channel);
    put32(frame + 3, (uint32_t)payload_len);
    frame[FRAME_HEADER_LEN + payload_len] = AMQP_FRAME_END;
    out->end += FRAME_OVERHEAD + payload_len;
}

/* Where the payload of the next frame goes, after skip bytes that the caller writes; its length is
 * the room. */
static amqp_bytes_t payload_room(const struct outbuf *out, size_t room, size_t skip)
{
    return (amqp_bytes_t){.len = room - FRAME_OVERHEAD - skip,
                          .bytes = out->data + out->end + FRAME_HEADER_LEN + skip};
}

enum obx_code outbuf_method(struct outbuf *out, uint32_t frame_max, amqp_channel_t channel,
                            amqp_method_number_t id, void *decoded)
{
    /* Two names of 255 bytes fit into the first guess; client tables and the like need the second.
     */
    size_t room = FRAME_OVERHEAD + METHOD_ID_LEN + 4 * SLACK;
    int len;

    for (;;) {
        if (room > frame_max)
            room = frame_max;
        if (outbuf_reserve(out, room) != OBX_OK)
            return OBX_E_NOMEM;
        len = amqp_encode_method(id, decoded, payload_room(out, room, METHOD_ID_LEN));
        if (len >= 0 || room == frame_max)
            break;
        room = frame_max;
    }
    if (len < 0)
        return OBX_E_TOO_LARGE;
    put32(out->data + out->end + FRAME_HEADER_LEN, id);
    close_frame(out, AMQP_FRAME_METHOD, channel, METHOD_ID_LEN + (size_t)len);
    return OBX_OK;
}

enum obx_code outbuf_header(struct outbuf *out, uint32_t frame_max, amqp_channel_t channel,
                            const amqp_basic_properties_t *properties, uint64_t body_len)
{
    amqp_basic_properties_t copy = *properties; /* the encoder's parameter is not const */
    size_t room = FRAME_OVERHEAD + CONTENT_HEADER_LEN + 4 * SLACK;
    uint8_t *payload;
    int len;

    for (;;) {
        if (room > frame_max)
            room = frame_max;
        if (outbuf_reserve(out, room) != OBX_OK)
            return OBX_E_NOMEM;
        len = amqp_encode_properties(AMQP_BASIC_CLASS, &copy,
                                     payload_room(out, room, CONTENT_HEADER_LEN));
        if (len >= 0 || room == frame_max)
            break;
        room = frame_max;
    }
    if (len < 0)
        return OBX_E_TOO_LARGE;
    payload = out->data + out->end + FRAME_HEADER_LEN;
    put16(payload, AMQP_BASIC_CLASS);
    put16(payload + 2, 0); /* weight, unused */
    put64(payload + 4, body_len);
    close_frame(out, AMQP_FRAME_HEADER, channel, CONTENT_HEADER_LEN + (size_t)len);
    return OBX_OK;
}

enum obx_code outbuf_body(struct outbuf *out, uint32_t frame_max, amqp_channel_t channel,
                          struct obx_bytes body)
{
    const size_t most = frame_max - FRAME_OVERHEAD;
    const size_t frames = (body.len + most - 1) / most;
    const uint8_t *p = body.p;
    size_t left = body.len;

    if (outbuf_reserve(out, body.len + frames * FRAME_OVERHEAD) != OBX_OK)
        return OBX_E_NOMEM;
    while (left > 0) {
        const size_t len = left < most ? left : most;

        memcpy(out->data + out->end + FRAME_HEADER_LEN, p, len);
        close_frame(out, AMQP_FRAME_BODY, channel, len);
        p += len;
        left -= len;
    }
    return OBX_OK;
}

enum obx_code outbuf_heartbeat(struct outbuf *out)
{
    if (outbuf_reserve(out, FRAME_OVERHEAD) != OBX_OK)
        return OBX_E_NOMEM;
    close_frame(out, AMQP_FRAME_HEARTBEAT, 0, 0);
    return OBX_OK;
}
